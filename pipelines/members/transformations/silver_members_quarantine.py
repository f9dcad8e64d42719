"""The changes that a rule refuses: the complement of members_changes, row by row."""

from columns import NO_PERSONAL_STATISTICS
from pyspark import pipelines as dp
from rules import DROP, predicates
from transforms import refused

SILVER = spark.conf.get("silver_schema")


@dp.table(
    name=f"{SILVER}.members_quarantine",
    comment="Changes of members that a rule refuses, with all rules they break, their file and run; personal data",
    table_properties={"quality": "quarantine", **NO_PERSONAL_STATISTICS},
)
def members_quarantine():
    return refused(spark.readStream.table("members_normalised"), predicates(DROP))
