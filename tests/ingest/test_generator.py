import re
import unicodedata
import uuid
from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from faker.providers.address.en_US import Provider

from ingest.members import bulk, generator
from ingest.members.defects import DEFECTS
from ingest.members.table import MEMBERS
from tests.ingest.conftest import AS_OF

# The rules of the pipeline, told once more and in another language: each defect must violate one.
EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")


def is_uuid(text):
    return bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text))


def violations(row):
    broken = []
    if not is_uuid(row["member_id"]):
        broken.append("member_id")
    broken += [c for c in ("first_name", "last_name", "city", "address") if not (row[c] or "").strip()]
    if not EMAIL.fullmatch(row["email"] or ""):
        broken.append("email")
    if not re.fullmatch(r"[0-9]{7,15}", re.sub(r"[+\-(). x]", "", row["phone_number"] or "")):
        broken.append("phone_number")
    if any(unicodedata.category(c) == "Cc" for c in row["address"] or ""):
        broken.append("address")
    if row["country"] not in Provider.countries:
        broken.append("country")
    born = row["registration_date"]
    if born is None or born.year < 1990 or born > AS_OF + timedelta(days=365):
        broken.append("registration_date")
    return sorted(set(broken))


def rows(frame):
    return {row["member_id"]: row for row in frame.collect()}


def test_members_do_not_depend_on_partitions_and_depend_on_the_seed(spark):
    one = rows(generator.members(spark, 300, seed=7, as_of=AS_OF, partitions=1))
    assert one == rows(generator.members(spark, 300, seed=7, as_of=AS_OF, partitions=5))
    assert not one.keys() & rows(generator.members(spark, 300, seed=8, as_of=AS_OF)).keys()


def test_members_have_the_nine_columns_and_keep_every_rule(spark):
    frame = generator.members(spark, 500, seed=1, as_of=AS_OF)
    assert frame.dtypes == [(name, kind.lower()) for name, kind in MEMBERS.columns.items()]
    assert len(frame.columns) == 9
    made = rows(frame)
    assert len(made) == 500 and all(uuid.UUID(key) for key in made)
    assert [v for row in made.values() if (v := violations(row))] == []
    assert len({row["email"] for row in made.values()}) == 500
    assert max(row["registration_date"] for row in made.values()) <= AS_OF


def test_there_are_37_defects_and_each_is_distinct_and_breaks_the_rule_of_its_column_alone():
    assert len({defect.name for defect in DEFECTS}) == 37
    good = generator.member(1, 0, AS_OF)
    spoilt = [good | {d.column: d.spoil(good[d.column])} for d in DEFECTS]
    assert len({tuple(row.items()) for row in spoilt}) == 37
    assert [violations(row) for row in spoilt] == [[d.column] for d in DEFECTS]


def test_changes_are_those_asked_for_and_always_the_same(spark):
    numbers = {"changed": 40, "added": 20, "deleted": 10}
    before = rows(generator.members(spark, 200, seed=1, as_of=AS_OF))
    changes = rows(generator.changes(spark, 200, seed=1, as_of=AS_OF, **numbers))
    assert changes == rows(generator.changes(spark, 200, seed=1, as_of=AS_OF, **numbers))
    deleted = {key for key, row in changes.items() if row["_op"] == "D"}
    changed = changes.keys() & before.keys() - deleted
    assert len(deleted & before.keys()) == 10 and len(changed) == 40
    assert all(changes[key][:9] != before[key][:9] for key in changed)
    new = [row for key, row in changes.items() if key not in before]
    assert len(new) == 57 and sum(bool(violations(row)) for row in new) == 37


def test_more_changes_than_members_are_refused(spark):
    with pytest.raises(ValueError, match="5 members cannot change and 6 leave where there are 10"):
        generator.changes(spark, 10, seed=1, as_of=AS_OF, changed=5, deleted=6)


def test_members_in_bulk_do_not_depend_on_partitions_and_keep_every_rule(spark):
    frame = bulk.members(spark, 2000, seed=7, as_of=AS_OF, partitions=1)
    assert frame.dtypes == [(name, kind.lower()) for name, kind in MEMBERS.columns.items()]
    made = rows(frame)
    assert made == rows(bulk.members(spark, 2000, seed=7, as_of=AS_OF, partitions=3))
    assert len(made) == len({row["email"] for row in made.values()}) == 2000
    assert [v for row in made.values() if (v := violations(row))] == []
    assert {row["country"] for row in made.values()} == {country.name for country in generator.COUNTRIES}
    other = bulk.made(np.arange(2000), seed=8, as_of=AS_OF)
    assert not made.keys() & set(other.column("member_id").to_pylist())


def test_defects_of_emails_and_phone_numbers_come_at_the_stated_rates():
    numbers = np.arange(50_000)
    made = bulk.made(numbers, seed=1, as_of=AS_OF, bad_emails=0.1, bad_phones=0.02).to_pylist()
    broken = Counter(column for row in made for column in violations(row))
    assert broken.keys() == {"email", "phone_number"}
    assert abs(broken["email"] - 5000) < 300 and abs(broken["phone_number"] - 1000) < 150
    part = bulk.made(numbers[777:800], seed=1, as_of=AS_OF, bad_emails=0.1, bad_phones=0.02)
    assert part.to_pylist() == made[777:800]
    every = bulk.made(numbers[:100], seed=1, as_of=AS_OF, bad_emails=1.0).to_pylist()
    assert all(violations(row) == ["email"] for row in every)


def test_faker_s_own_rows_have_the_same_defects(spark):
    spoilt = rows(generator.members(spark, 200, seed=1, as_of=AS_OF, bad_phones=0.2))
    good = rows(generator.members(spark, 200, seed=1, as_of=AS_OF))
    differ = [key for key in good if spoilt[key] != good[key]]
    assert 20 < len(differ) < 60 and all(violations(spoilt[key]) == ["phone_number"] for key in differ)
