"""Members by country: a materialized view, since counts go down as well as up when members move or leave."""

from pyspark import pipelines as dp
from transforms import by_country

GOLD = spark.conf.get("gold_schema")


@dp.materialized_view(
    name=f"{GOLD}.members_by_country",
    comment="Current members by country; no personal data",
    table_properties={"quality": "gold"},
)
@dp.expect_or_fail("members_positive", "members > 0")
def members_by_country():
    return by_country(spark.read.table("memberships"))
