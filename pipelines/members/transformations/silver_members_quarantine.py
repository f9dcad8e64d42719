"""The changes that a rule refuses: the complement of members_changes, row by row."""

from pyspark import pipelines as dp
from rules import PREDICATES
from transforms import refused

SILVER = spark.conf.get("silver_schema")


@dp.table(
    name=f"{SILVER}.members_quarantine",
    comment="Changes of members that a rule refuses, with the names of the rules they break; personal data",
    table_properties={"quality": "quarantine"},
)
def members_quarantine():
    return refused(spark.readStream.table("members_normalised"), PREDICATES)
