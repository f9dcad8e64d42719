"""The rules of the members pipeline, row by row, and its pure functions."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path

import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from ingest.members.defects import DEFECTS
from ingest.members.generator import COUNTRIES as GENERATED_COUNTRIES
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
}
SCHEMA = ", ".join(
    f"{name} {'DATE' if name == 'registration_date' else 'TIMESTAMP' if name.endswith('_at') else 'STRING'}"
    for name in GOOD
)


@pytest.fixture(scope="module")
def modules():
    """The pipeline's own modules, imported as its sources import them."""
    with Imports(ROOT / "pipelines" / "members"):
        import rules
        import transforms

        yield rules, transforms
    assert "rules" not in sys.modules


def broken(spark: SparkSession, modules, *changes: dict) -> list[list[str]]:
    """For each row that differs from the good one by `changes`: the names of the rules it breaks."""
    rules, transforms = modules
    rows = [Row(**{**GOOD, **change}) for change in changes]
    frame = spark.createDataFrame([(i, *(row[c] for c in GOOD)) for i, row in enumerate(rows)], f"i INT, {SCHEMA}")
    judged = transforms.normalised(frame).select("i", transforms.failed_rules(rules.PREDICATES).alias("failed"))
    return [row.failed for row in judged.orderBy("i").collect()]


CASES = [
    ({}, []),
    ({"member_id": None}, ["member_id_is_uuid"]),
    ({"member_id": GOOD["member_id"].upper()}, []),
    ({"member_id": GOOD["member_id"] + "0"}, ["member_id_is_uuid"]),
    ({"_changed_at": None}, ["changed_at_present"]),
    ({"first_name": None}, ["first_name_present"]),
    ({"first_name": "  "}, ["first_name_present"]),
    ({"last_name": ""}, ["last_name_present"]),
    ({"email": None}, ["email_valid"]),
    ({"email": " ada@example.co.uk "}, []),
    ({"email": "ada@münchen.de"}, []),
    ({"email": "ada@example..com"}, ["email_valid"]),
    ({"email": "ada@localhost"}, ["email_valid"]),
    ({"phone_number": None}, ["phone_number_valid"]),
    ({"phone_number": "1234567"}, []),
    ({"phone_number": "123456"}, ["phone_number_valid"]),
    ({"phone_number": "123456789012345"}, []),
    ({"phone_number": "1234567890123456"}, ["phone_number_valid"]),
    ({"phone_number": "+1.555.0100.x12"}, ["phone_number_valid"]),
    ({"address": None}, ["address_present", "address_one_line"]),
    ({"address": "1 High Street\r\nFlat 2"}, ["address_one_line"]),
    ({"city": " "}, ["city_present"]),
    ({"country": None}, ["country_known"]),
    ({"country": "Cote d'Ivoire"}, []),
    ({"country": "united kingdom"}, ["country_known"]),
    ({"registration_date": None}, ["registration_date_plausible"]),
    ({"registration_date": date(1990, 1, 1)}, []),
    ({"registration_date": date(1989, 12, 31)}, ["registration_date_plausible"]),
    ({"registration_date": date(2024, 1, 2)}, []),
    ({"registration_date": date(2024, 1, 3)}, ["registration_date_plausible"]),
    ({"_extracted_at": None}, ["registration_date_plausible"]),
    ({"_op": None}, []),
    (dict.fromkeys(set(GOOD) - {"member_id", "_op", "_changed_at", "_extracted_at"}) | {"_op": "D"}, []),
]


def test_each_rule_at_its_edges(spark: SparkSession, modules):
    found = broken(spark, modules, *(change for change, _ in CASES))
    assert found == [expected for _, expected in CASES]


def test_no_rule_is_ever_null(spark: SparkSession, modules):
    rules, transforms = modules
    nothing = spark.createDataFrame([(None,) * len(GOOD)], SCHEMA)
    row = transforms.normalised(nothing).select(*(F.expr(r.predicate).alias(r.name) for r in rules.RULES)).first()
    assert set(row.asDict().values()) == {False}


def test_every_planted_defect_breaks_a_rule(spark: SparkSession, modules):
    spoilt = [{defect.column: defect.spoil(GOOD[defect.column])} for defect in DEFECTS]
    let_through = [d.name for d, failed in zip(DEFECTS, broken(spark, modules, *spoilt), strict=True) if not failed]
    assert let_through == []
    assert len({d.name for d in DEFECTS}) == len(DEFECTS) == 37


def test_every_generated_country_is_known(modules):
    from countries import COUNTRIES

    assert {c.name for c in GENERATED_COUNTRIES} <= set(COUNTRIES)
    assert list(COUNTRIES) == sorted(set(COUNTRIES))
