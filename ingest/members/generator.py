"""Members made by Faker inside Spark's tasks, each from the seed and its row number alone.

Faker takes its randomness from the instance (`seed_instance`), not from `random.seed`, and its own e-mails repeat in
larger sets: here an address carries the row number.
"""

from __future__ import annotations

import random
import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import pyarrow as pa
from faker import Faker
from pyspark.sql import DataFrame, SparkSession

from ingest.members.defects import DEFECTS, planted
from ingest.members.table import MEMBERS

Row = dict[str, str | date | None]

_NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
YEARS_OF_MEMBERSHIP = 10
_OPERATION = "_op"


@dataclass(frozen=True)
class Country:
    """A country whose people, places and telephone numbers fit together.

    Attributes:
        name: as in Faker's list of countries.
        phone: `numerify` pattern of a mobile number, `%` a digit other than 0 and `#` any digit.
    """

    name: str
    locale: str
    phone: str


COUNTRIES = (
    Country("United States of America", "en_US", "+1 (%##) %##-####"),
    Country("United Kingdom", "en_GB", "+44 7### ######"),
    Country("Germany", "de_DE", "+49 15# #######"),
    Country("France", "fr_FR", "+33 6 ## ## ## ##"),
    Country("Spain", "es_ES", "+34 6## ### ###"),
    Country("Netherlands", "nl_NL", "+31 6 ########"),
    Country("Brazil", "pt_BR", "+55 (%%) 9####-####"),
    Country("Poland", "pl_PL", "+48 5## ### ###"),
)

ARROW = pa.schema([(name, pa.date32() if kind == "DATE" else pa.string()) for name, kind in MEMBERS.columns.items()])


def members(
    spark: SparkSession,
    rows: int,
    *,
    seed: int,
    as_of: date,
    bad_emails: float = 0.0,
    bad_phones: float = 0.0,
    partitions: int | None = None,
) -> DataFrame:
    """Members numbered 0 to `rows` - 1, the same for any number of partitions.

    Args:
        seed: another one gives other members.
        as_of: the last possible registration date; the first is ten years earlier.
        bad_emails, bad_phones: share of the rows, 0 to 1, whose e-mail or phone number has a defect of `DEFECTS`.
        partitions: how many tasks make them; None is one for each core.

    Returns:
        `member_id` (UUID as text), `first_name`, `last_name`, `email`, `phone_number`, `address`, `city`, `country`
        STRING and `registration_date` DATE; but for defects none of them is NULL.
    """
    rates = {"email": bad_emails, "phone_number": bad_phones}

    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = [member(seed, number, as_of) for number in batch.column(0).to_pylist()]
            made = pa.RecordBatch.from_pylist(made, ARROW)
            for column, rate in rates.items():
                spoilt = planted(made.column(column), seed, batch.column(0).to_numpy(), column=column, rate=rate)
                made = made.set_column(ARROW.get_field_index(column), ARROW.field(column), spoilt)
            yield made

    return spark.range(0, rows, numPartitions=partitions).mapInArrow(make, MEMBERS.spark_ddl)


def changes(
    spark: SparkSession,
    rows: int,
    *,
    seed: int,
    as_of: date,
    changed: int = 500,
    added: int = 200,
    deleted: int = 50,
) -> DataFrame:
    """What happened to `members(spark, rows, seed=seed, …)` afterwards: the same every time.

    Some move, some get another number or e-mail address, some another name; new members join, with every defect of
    `DEFECTS` planted in one more; others leave.

    Returns:
        the nine columns of `members` and `_op`, `U` for a row to write and `D` for one to delete, which has nothing
        but its `member_id`.

    Raises:
        ValueError: `changed` and `deleted` together are more than `rows`.
    """
    if changed + deleted > rows:
        raise ValueError(f"{changed} members cannot change and {deleted} leave where there are {rows}")
    picked = random.Random(f"{seed}/changes").sample(range(rows), changed + deleted)
    plan = [
        *(("change", number) for number in picked[:changed]),
        *(("add", rows + n) for n in range(added)),
        *(("spoil", rows + added + n) for n in range(len(DEFECTS))),
        *(("delete", number) for number in picked[changed:]),
    ]

    def make(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = [
                _event(seed, kind, number, as_of, rows + added)
                for kind, number in zip(*batch.to_pydict().values(), strict=True)
            ]
            yield pa.RecordBatch.from_pylist(made, ARROW.append(pa.field(_OPERATION, pa.string())))

    planned = spark.createDataFrame(pa.table({"kind": [k for k, _ in plan], "number": [n for _, n in plan]}))
    return planned.mapInArrow(make, f"{MEMBERS.spark_ddl}, {_OPERATION} STRING NOT NULL")


def member_id(seed: int, number: int) -> str:
    """The key of a generated member."""
    return str(uuid.uuid5(_NAMESPACE, f"{seed}/{number}"))


def member(seed: int, number: int, as_of: date) -> Row:
    """The generated member of that number."""
    country = COUNTRIES[random.Random(f"{seed}/{number}").randrange(len(COUNTRIES))]
    fake = _faker(country.locale)
    fake.seed_instance(f"{seed}/{number}")
    row: Row = {
        "member_id": member_id(seed, number),
        "first_name": fake.first_name(),
        "last_name": fake.last_name(),
        "phone_number": fake.numerify(country.phone),
        "address": street(fake),
        "city": fake.city(),
        "country": country.name,
        "registration_date": as_of - timedelta(days=fake.random_int(0, 365 * YEARS_OF_MEMBERSHIP)),
    }
    return row | {"email": _email(fake, row, str(number))}


def _event(seed: int, kind: str, number: int, as_of: date, first_defect: int) -> Row:
    if kind == "delete":
        return dict.fromkeys(MEMBERS.columns) | {"member_id": member_id(seed, number), _OPERATION: "D"}
    row = member(seed, number, as_of)
    if kind == "change":
        row = _changed(seed, number, row)
    elif kind == "spoil":
        defect = DEFECTS[number - first_defect]
        row[defect.column] = defect.spoil(row[defect.column])
    return row | {_OPERATION: "U"}


def _changed(seed: int, number: int, row: Row) -> Row:
    country = next(c for c in COUNTRIES if c.name == row["country"])
    fake = _faker(country.locale)
    fake.seed_instance(f"{seed}/{number}/changed")
    kind = fake.random_element(("moved", "phone", "name", "e-mail"))
    while True:
        if kind == "moved":
            new = row | {"address": street(fake), "city": fake.city()}
        elif kind == "phone":
            new = row | {"phone_number": fake.numerify(country.phone)}
        elif kind == "name":
            new = row | {"last_name": fake.last_name()}
        else:
            new = row | {"email": _email(fake, row, f"{number}.new")}
        if new != row:
            return new


def street(fake: Faker) -> str:
    """A street and a number in one line."""
    return " ".join(fake.street_address().split())


def _email(fake: Faker, row: Row, suffix: str) -> str:
    names = (unicodedata.normalize("NFKD", str(row[part])).lower() for part in ("first_name", "last_name"))
    # Without the dots of names: an address has no two of them in a row.
    letters = filter(None, (re.sub("[^a-z]", "", name) for name in names))
    return f"{'.'.join([*letters, suffix])}@{fake.safe_domain_name()}"


@cache
def _faker(locale: str) -> Faker:
    # Without weights Faker chooses six times as fast.
    return Faker(locale, use_weighting=False)
