"""The changes that the rules let through.

A table and not a view: both targets of AUTO CDC read it, and a view would evaluate and count the rules twice.
"""

from columns import NO_PERSONAL_STATISTICS
from pyspark import pipelines as dp
from rules import DROP, FAIL, WARN, predicates

SILVER = spark.conf.get("silver_schema")


@dp.table(
    name=f"{SILVER}.members_changes",
    comment="Changes of members that every rule lets through; with members_quarantine it is exactly bronze",
    table_properties={"quality": "silver", **NO_PERSONAL_STATISTICS},
)
@dp.expect_all(predicates(WARN))
@dp.expect_all_or_drop(predicates(DROP))
@dp.expect_all_or_fail(predicates(FAIL))
def members_changes():
    return spark.readStream.table("members_normalised")


@dp.temporary_view(comment="members_changes for AUTO CDC, without what an erasure deletes there")
def members_changes_feed():
    return spark.readStream.option("skipChangeCommits", "true").table(f"{SILVER}.members_changes")
