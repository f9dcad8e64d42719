"""The rules of the members pipeline, row by row, its checks, and its pure functions."""

from __future__ import annotations

import hmac
import sys
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from types import SimpleNamespace

import pycountry
import pytest
from faker.providers.address.en import Provider as FakerAddresses
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from ingest.members.defects import DEFECTS
from ingest.members.generator import COUNTRIES as GENERATED_COUNTRIES
from lakeflow_local.bundle import sql_files
from lakeflow_local.pipelines.sources import Imports

ROOT = Path(__file__).parents[2]

GOOD = {
    "member_id": "3f0e9a52-5f3c-4a4e-9d1a-0c8f6a7b1e2d",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "Ada@Example.com",
    "phone_number": "+44 (0) 20 7946-0018",
    "address": "12 St James's Square",
    "city": "London",
    "country": "United Kingdom",
    "registration_date": date(2020, 5, 17),
    "_op": "U",
    "_changed_at": datetime(2024, 1, 1),
    "_extracted_at": datetime(2024, 1, 2),
    "_rescued_data": None,
}
KEY = "of the tests"
SCHEMA = ", ".join(
    f"{name} {'DATE' if name == 'registration_date' else 'TIMESTAMP' if name.endswith('_at') else 'STRING'}"
    for name in GOOD
)


@pytest.fixture(scope="module")
def modules():
    """The pipeline's own modules, imported as its sources import them."""
    with Imports(ROOT / "pipelines" / "members"):
        import contacts
        import rules
        import transforms

        yield SimpleNamespace(rules=rules, transforms=transforms, contacts=contacts)
    assert "rules" not in sys.modules


def judged(spark: SparkSession, modules, *changes: dict) -> list[dict[str, bool]]:
    """For each row that differs from the good one by `changes`: what each rule says of it, by name."""
    rows = [Row(**{**GOOD, **change}) for change in changes]
    frame = spark.createDataFrame(
        [(i, *(row[c] for c in GOOD)) for i, row in enumerate(rows)], f"_row_hash INT, {SCHEMA}"
    )
    normalised = modules.transforms.normalised(frame, KEY)
    verdicts = normalised.select("_row_hash", *(F.expr(r.predicate).alias(r.name) for r in modules.rules.RULES))
    found = sorted((row.asDict() for row in verdicts.collect()), key=lambda row: row.pop("_row_hash"))
    return found


def broken(spark: SparkSession, modules, *changes: dict) -> list[list[str]]:
    """For each such row the names of the rules it breaks."""
    return [[name for name, fit in row.items() if not fit] for row in judged(spark, modules, *changes)]


NATIONAL = {"country": "United Kingdom", "phone_number": "020 7946 0018"}
CASES = [
    ({}, []),
    ({"member_id": None}, ["member_id_is_uuid"]),
    ({"member_id": GOOD["member_id"].upper()}, []),
    ({"member_id": GOOD["member_id"] + "0"}, ["member_id_is_uuid"]),
    ({"_changed_at": None}, ["changed_at_present"]),
    ({"_op": "X"}, ["operation_known"]),
    ({"_rescued_data": '{"registration_date":"soon"}'}, ["nothing_rescued"]),
    ({"first_name": None}, ["first_name_present"]),
    ({"first_name": "  "}, ["first_name_present"]),
    ({"last_name": ""}, ["last_name_present"]),
    ({"email": None}, ["email_valid"]),
    ({"email": " ada@example.co.uk "}, []),
    ({"email": "ada@münchen.de"}, []),
    ({"email": "ada@example..com"}, ["email_valid"]),
    ({"email": "ada@localhost"}, ["email_valid"]),
    ({"email": f"{'a' * 65}@example.com"}, ["email_valid"]),
    ({"phone_number": None}, ["phone_number_valid"]),
    (NATIONAL, []),
    (NATIONAL | {"country": "Atlantis"}, ["phone_number_valid", "country_known"]),
    (NATIONAL | {"phone_number": "1234567"}, ["phone_number_assigned"]),
    ({"phone_number": "123456", "country": "Germany"}, ["phone_number_valid"]),
    ({"phone_number": "+49 30 123456789012"}, []),
    ({"phone_number": "+49 30 12345678901234"}, ["phone_number_valid"]),
    ({"phone_number": "+1.555.0100.x12"}, ["phone_number_valid"]),
    ({"phone_number": "+1 800 FLOWERS"}, ["phone_number_valid"]),
    ({"phone_number": "+44 20 7946 0018, 0019"}, ["phone_number_valid"]),
    ({"address": None}, ["address_present", "address_one_line"]),
    ({"address": "1 High Street\r\nFlat 2"}, ["address_one_line"]),
    ({"city": " "}, ["city_present"]),
    ({"country": None}, ["country_known"]),
    ({"country": "Cote d'Ivoire"}, []),
    ({"country": " united  KINGDOM"}, []),
    ({"country": "GBR"}, []),
    ({"registration_date": None}, ["registration_date_plausible"]),
    ({"registration_date": date(1990, 1, 1)}, []),
    ({"registration_date": date(1989, 12, 31)}, ["registration_date_plausible"]),
    ({"registration_date": date(2024, 1, 1)}, []),
    ({"registration_date": date(2024, 1, 2)}, ["registered_before_change"]),
    ({"registration_date": date(2024, 1, 3)}, ["registration_date_plausible", "registered_before_change"]),
    ({"_extracted_at": None}, ["registration_date_plausible"]),
    ({"_op": None}, []),
    (dict.fromkeys(set(GOOD) - {"member_id", "_op", "_changed_at", "_extracted_at"}) | {"_op": "D"}, []),
]


def test_each_rule_at_its_edges(spark: SparkSession, modules):
    found = broken(spark, modules, *(change for change, _ in CASES))
    assert found == [expected for _, expected in CASES]
    assert {name for names in found for name in names} == {rule.name for rule in modules.rules.RULES}


def test_rules_are_total_and_the_lint_finds_one_that_is_not(spark: SparkSession, modules):
    rules, transforms = modules.rules, modules.transforms
    frame = transforms.normalised(spark.createDataFrame([], SCHEMA), KEY)
    every = {rule.name: rule.predicate for rule in rules.RULES}
    assert transforms.not_total(frame, every) == []
    seeded = {"naive": "city <> ''", "half": "_op = 'D' OR coalesce(city <> '', false)", "sound": "city IS NOT NULL"}
    assert transforms.not_total(frame, seeded) == ["naive", "half"]
    nothing = judged(spark, modules, dict.fromkeys(GOOD))[0]
    unset = {"operation_known", "nothing_rescued", "phone_number_assigned", "registered_before_change"}
    assert nothing == {name: name in unset for name in every}


def test_rules_and_checks_are_fully_described(modules):
    rules = modules.rules
    described = [*rules.RULES, *rules.CHECKS]
    assert len({rule.name for rule in described}) == len(described)
    assert {rule.dimension for rule in described} == set(rules.DIMENSIONS)
    assert {rule.action for rule in described} == {"warn", "drop", "fail"}
    assert all(rule.owner and rule.reason for rule in described)
    # Every column of the source has a rule.
    assert {c for rule in rules.RULES for c in rule.columns} == set(GOOD) - {
        "_op", "_changed_at", "_extracted_at", "_rescued_data",
    } | {"updated_at"}  # fmt: skip


def test_every_planted_defect_breaks_a_rule_that_drops(spark: SparkSession, modules):
    dropping = modules.rules.predicates("drop")
    spoilt = [{defect.column: defect.spoil(GOOD[defect.column])} for defect in DEFECTS]
    countries = [c.name for c in GENERATED_COUNTRIES]
    cases = [{"country": country, **spoil} for spoil in spoilt for country in countries]
    found = broken(spark, modules, *cases)
    let_through = [case for case, names in zip(cases, found, strict=True) if not set(names) & set(dropping)]
    assert let_through == []
    assert len({d.name for d in DEFECTS}) == len(DEFECTS) == 37


def test_countries_resolve_or_are_listed(modules):
    contacts = modules.contacts
    known = contacts.countries()
    names = {*FakerAddresses.countries, *(c.name for c in GENERATED_COUNTRIES)}
    assert len(names) > 240
    assert {name for name in names if contacts.folded(name) not in known} == set(contacts.DISSOLVED)
    # An alias that ISO 3166 has learnt is one no longer.
    listed = {
        contacts.folded(getattr(c, f))
        for c in pycountry.countries
        for f in ("name", "official_name", "common_name")
        if hasattr(c, f)
    }
    assert not listed & {contacts.folded(name) for name in contacts.ALIASES}
    assert known["turkey"] == ("TR", "Türkiye") and known["united states of america"][0] == "US"


def test_what_was_written_is_kept_beside_what_was_read(spark: SparkSession, modules):
    written = GOOD | {"email": " Ada@MÜNCHEN.de", "country": "turkey", "_loyalty": "gold", "address": "drop"}
    frame = spark.createDataFrame([tuple(written.values())], f"{SCHEMA}, _loyalty STRING").drop("address")
    row = modules.transforms.normalised(frame, KEY).first()
    assert (row.email, row.email_normalised) == (" Ada@MÜNCHEN.de", "ada@münchen.de")
    assert (row.country, row.country_code, row.country_name) == ("turkey", "TR", "Türkiye")
    assert (row.phone_number, row.phone_normalised, row.phone_assigned) == (GOOD["phone_number"], "+442079460018", True)
    # What the source has anew waits in bronze; what it has no more is NULL.
    assert "_loyalty" not in row and row.address is None
    expected = hmac.new(KEY.encode(), GOOD["member_id"].encode(), "sha256").hexdigest()
    assert row.member_key == expected
    other = modules.transforms.normalised(frame, "another key").first()
    assert other.member_key != expected


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2024, 3, day, hour)


SOUND = {
    "bronze": [("a",), ("b",), ("b",), ("c",), ("x",)],
    "changes": [("a", "a@example.com"), ("b", None), ("b", "b@example.com"), ("c", "c@example.com")],
    "quarantine": [("x",)],
    "members": [("a", "a@example.com"), ("b", "b@example.com")],
    "history": [
        ("a", at(1), None),
        ("b", at(1), at(2)),
        ("b", at(2), None),
        ("c", at(1), at(3)),
        ("c", None, at(4)),
    ],
}  # fmt: skip
FAULTS = [
    ({}, {}),
    ({"bronze": SOUND["bronze"][1:]}, {"nothing_lost": 1}),
    ({"quarantine": []}, {"nothing_lost": 1}),
    ({"members": [*SOUND["members"], ("a", "z@example.com")]}, {"members_unique": 1}),
    ({"members": [("a", "b@example.com"), ("b", "b@example.com")]}, {"email_not_shared": 1}),
    ({"members": SOUND["members"][:1]}, {"current_is_open_version": 1}),
    ({"history": [*SOUND["history"], ("a", at(5), None)]}, {"one_open_version": 1, "versions_in_order": 1}),
    ({"history": [*SOUND["history"], ("c", at(2), at(5))]}, {"versions_in_order": 1}),
    ({"history": [*SOUND["history"], ("c", at(6), at(5))]}, {"versions_in_order": 1}),
    ({"changes": [*SOUND["changes"][:3], ("b", None)]}, {"no_orphans": 1}),
]


def frames_of(spark: SparkSession, changed: dict) -> dict:
    """The tables of `SOUND`, some of them changed; changes came with one run, on the day of which `c` has its turn."""
    emails = "member_id STRING, email_normalised STRING"
    schemas = {"members": emails, "changes": emails} | {
        "history": "member_id STRING, __START_AT TIMESTAMP, __END_AT TIMESTAMP"
    }
    frames = {
        name: spark.createDataFrame(changed.get(name, rows), schemas.get(name, "member_id STRING"))
        for name, rows in SOUND.items()
    }
    return frames | {"changes": frames["changes"].select("*", *came("run", at(5)))}


def came(run: str, time: datetime) -> tuple[Column, Column]:
    return F.lit(run).alias("_run_id"), F.lit(time).alias("_source_file_time")


@pytest.mark.parametrize(("changed", "faults"), FAULTS, ids=[" and ".join(f) or "sound" for _, f in FAULTS])
def test_each_check_finds_its_fault(spark: SparkSession, modules, changed: dict, faults: dict):
    frames = frames_of(spark, changed)
    found = {row.name: (row.failed, row.evaluated) for row in modules.transforms.checks(**frames).collect()}
    assert {name: failed for name, (failed, _) in found.items() if failed} == faults
    assert list(found) == [check.name for check in modules.rules.CHECKS]
    assert all(evaluated > 0 for _, evaluated in found.values())


def test_keys_of_the_last_runs_are_checked_and_the_others_in_their_turn(spark: SparkSession, modules):
    """A first load of 200 keys, then a run of 12 and runs of 5 on the days after it."""
    transforms, days = modules.transforms, range(2, 2 + modules.transforms.TURNS)
    runs = [("first", 1, range(200)), ("twelve", 1, range(200, 212))]
    runs += [(f"run {day}", day, range(212 + 5 * nth, 217 + 5 * nth)) for nth, day in enumerate(days)]
    rows = [(str(key), run, at(day)) for run, day, keys in runs for key in keys]
    schema = "member_id STRING, _run_id STRING, _source_file_time TIMESTAMP"
    every = spark.createDataFrame(rows, schema)
    looked = []
    for until, (run, day, _) in enumerate(runs, 1):
        if run != "twelve":
            names = [name for name, _, _ in runs[:until]]
            places = transforms.looked_at(every.where(F.col("_run_id").isin(names)), "member_id")
            hashes = spark.createDataFrame(rows, schema).withColumn("place", F.xxhash64("member_id"))
            found = transforms.among(places, hashes)
            looked.append(found.select(F.lit(day).alias("day"), "member_id"))
    of_day: dict[int, set[int]] = {}
    for day, key in reduce(DataFrame.unionAll, looked).collect():
        of_day.setdefault(day, set()).add(int(key))
    assert of_day[1] >= set(range(200))
    for nth, day in enumerate(days):
        # A tenth of all: four runs of five at first, six at last; twelve keys at once are too many beside the others.
        last = 212 + 5 * (nth + 1)
        assert of_day[day] >= set(range(max(212, last - 20), last))
        assert len(of_day[day] & set(range(212))) < 60
    in_turn = [key for day in days for key in of_day[day] if key < 200]
    assert sorted(in_turn) == list(range(200))


def test_what_gold_counts_of_members(spark: SparkSession, modules):
    versions = [
        ("a", date(2024, 1, 5), "DE", datetime(2024, 1, 5), datetime(2024, 2, 1)),
        ("a", date(2024, 1, 5), "FR", datetime(2024, 2, 1), None),
        ("b", date(2024, 1, 9), "DE", datetime(2024, 1, 9), datetime(2024, 2, 1)),
        ("b", date(2024, 1, 9), "FR", datetime(2024, 2, 1), datetime(2024, 3, 10)),
        ("c", date(2024, 3, 1), "DE", datetime(2024, 3, 1), None),
        ("d", None, None, None, datetime(2024, 3, 9)),
    ]
    schema = "member_id STRING, registration_date DATE, country_code STRING, __START_AT TIMESTAMP, __END_AT TIMESTAMP"
    history = spark.createDataFrame(versions, schema).withColumn("country_name", F.col("country_code"))
    members = history.where("__START_AT IS NOT NULL AND __END_AT IS NULL").drop("__START_AT", "__END_AT")
    memberships = modules.transforms.memberships(members, history)
    registered = modules.transforms.registrations_by_month(memberships).drop("country_name").collect()
    registered = {tuple(row) for row in registered}
    assert registered == {(date(2024, 1, 1), "FR", 2), (date(2024, 3, 1), "DE", 1)}
    churn = [tuple(row) for row in modules.transforms.churn_by_month(memberships).orderBy("month").collect()]
    assert churn == [(date(2024, 1, 1), 0, 2, 0, None), (date(2024, 3, 1), 2, 1, 1, Decimal("0.500000"))]
    countries = {tuple(row) for row in modules.transforms.by_country(memberships).drop("country").collect()}
    assert countries == {
        ("FR", 1, date(2024, 1, 5), date(2024, 1, 5)),
        ("DE", 1, date(2024, 3, 1), date(2024, 3, 1)),
    }


def test_two_principals_see_what_they_may(spark: SparkSession):
    """The functions and the view of sql/governance, with the groups of a principal as a table."""
    parameters = {"catalog": "spark_catalog", "silver_schema": "mg_silver"}
    row = ("k", "Ada", "Lovelace", "ada@example.com", "+442079460018", "12 Square", "London", "GB", date(2020, 1, 1))
    names = "member_key, first_name, last_name, email_normalised, phone_normalised, address, city, country_code"
    schema = ", ".join(f"{name} STRING" for name in names.split(", ")) + ", registration_date DATE"
    before = spark.catalog.currentDatabase()
    try:
        spark.sql("CREATE SCHEMA mg_silver")
        spark.createDataFrame([row, (*row[:7], "DE", row[8])], schema).write.saveAsTable("mg_silver.members")
        seen = {}
        for groups in ("members_gb", "pii_readers members_all_countries"):
            listed = ", ".join(f"'{group}'" for group in groups.split())
            spark.sql(
                "CREATE OR REPLACE FUNCTION mg_silver.is_account_group_member(name STRING) RETURNS BOOLEAN "
                f"RETURN name IN ({listed})"
            )
            # Twice, since a job task repeats them.
            for _ in range(2):
                for file in ("functions.sql", "members_masked.sql"):
                    sql_files.run(spark, ROOT / "sql" / "governance" / file, parameters)
            seen[groups] = [tuple(r) for r in spark.table("mg_silver.members_masked").orderBy("country_code").collect()]
    finally:
        spark.catalog.setCurrentDatabase(before)
        spark.sql("DROP SCHEMA IF EXISTS mg_silver CASCADE")
    masked = ("k", "A.", "L.", "***@example.com", "***0018", None, "London", "GB", date(2020, 1, 1))
    assert seen == {"members_gb": [masked], "pii_readers members_all_countries": [(*row[:7], "DE", row[8]), row]}
