"""Checks across rows. Where one fails that must not, the update fails, and the job publishes no gold from it."""

from pyspark import pipelines as dp
from rules import CHECKS, FAIL, WARN, predicates
from transforms import checks

BRONZE = spark.conf.get("bronze_schema")
SILVER = spark.conf.get("silver_schema")


@dp.materialized_view(
    name=f"{SILVER}.members_checks",
    comment="Checks across rows of members: how many are at fault, of how many looked at; no personal data",
    table_properties={"quality": "silver"},
)
@dp.expect_all(predicates(WARN, CHECKS))
@dp.expect_all_or_fail(predicates(FAIL, CHECKS))
def members_checks():
    return checks(
        bronze=spark.read.table(f"{BRONZE}.members"),
        changes=spark.read.table(f"{SILVER}.members_changes"),
        quarantine=spark.read.table(f"{SILVER}.members_quarantine"),
        members=spark.read.table(f"{SILVER}.members"),
        history=spark.read.table(f"{SILVER}.members_history"),
    )
