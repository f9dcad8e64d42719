"""The changes that the rules let through.

A table and not a view: both targets of AUTO CDC read it, and a view would evaluate and count the rules twice.
"""

from pyspark import pipelines as dp
from rules import PREDICATES

SILVER = spark.conf.get("silver_schema")


@dp.table(
    name=f"{SILVER}.members_changes",
    comment="Changes of members that every rule lets through; with members_quarantine it is exactly bronze",
    table_properties={"quality": "silver"},
)
@dp.expect_all_or_drop(PREDICATES)
def members_changes():
    return spark.readStream.table("members_normalised")
