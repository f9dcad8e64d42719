"""Churn by month."""

from pyspark import pipelines as dp
from transforms import churn_by_month

GOLD = spark.conf.get("gold_schema")


@dp.materialized_view(
    name=f"{GOLD}.members_churn_by_month",
    comment="Members at the start of each month, who joined, who left, and the share of those who left",
    table_properties={"quality": "gold"},
)
@dp.expect_or_fail("churn_rate_is_share", "churn_rate IS NULL OR churn_rate >= 0")
def members_churn_by_month():
    return churn_by_month(spark.read.table("memberships"))
