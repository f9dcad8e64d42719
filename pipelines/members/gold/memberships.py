"""What the aggregates are made of. Private, since nobody else should build on it."""

from pyspark import pipelines as dp
from transforms import memberships as counted

SILVER = spark.conf.get("silver_schema")


@dp.materialized_view(
    comment="Members there are or were, by month of registration, country and month in which they left",
    private=True,
)
def memberships():
    return counted(members=spark.read.table(f"{SILVER}.members"), history=spark.read.table(f"{SILVER}.members_history"))
