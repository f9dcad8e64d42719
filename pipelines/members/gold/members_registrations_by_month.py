"""Registrations by month and country."""

from pyspark import pipelines as dp
from transforms import registrations_by_month

GOLD = spark.conf.get("gold_schema")


@dp.materialized_view(
    name=f"{GOLD}.members_registrations_by_month",
    comment="Registrations by month and country, of members who left as well; no personal data",
    table_properties={"quality": "gold"},
)
@dp.expect_or_fail("registrations_positive", "registrations > 0")
def members_registrations_by_month():
    return registrations_by_month(spark.read.table("memberships"))
