"""The current members for analysis: a pseudonym for each, and nothing that tells who it is."""

from pyspark import pipelines as dp

SILVER = spark.conf.get("silver_schema")
GOLD = spark.conf.get("gold_schema")


@dp.materialized_view(
    name=f"{GOLD}.members_current",
    comment="Current members under a pseudonym, one row each; personal data only for who has the key",
    table_properties={"quality": "gold", "delta.dataSkippingStatsColumns": "registration_date"},
)
@dp.expect_or_fail("member_key_present", "member_key IS NOT NULL")
def members_current():
    members = spark.read.table(f"{SILVER}.members")
    return members.select("member_key", "country_code", "registration_date")
