"""Members by country: a materialized view, since counts go down as well as up when members move or leave."""

from pyspark import pipelines as dp
from pyspark.sql import functions as F

SILVER = spark.conf.get("silver_schema")
GOLD = spark.conf.get("gold_schema")


@dp.materialized_view(
    name=f"{GOLD}.members_by_country",
    comment="Current members by country; no personal data",
    table_properties={"quality": "gold"},
)
@dp.expect_or_fail("members_positive", "members > 0")
def members_by_country():
    members = spark.read.table(f"{SILVER}.members")
    return members.groupBy("country_code", F.col("country_name").alias("country")).agg(
        F.count(F.lit(1)).alias("members"),
        F.min("registration_date").alias("first_registration_date"),
        F.max("registration_date").alias("last_registration_date"),
    )
