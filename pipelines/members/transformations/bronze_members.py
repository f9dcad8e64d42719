"""Members as they arrived: a streaming table, so that each landed file is read once and kept for ever."""

from columns import NO_PERSONAL_STATISTICS
from pyspark import pipelines as dp
from pyspark.sql import functions as F

BRONZE = spark.conf.get("bronze_schema")
LANDING = spark.conf.get("landing_url")


@dp.table(
    name=f"{BRONZE}.members",
    comment="Rows of the MySQL table members as the ingest landed them, one for each change seen; personal data",
    table_properties={"quality": "bronze", **NO_PERSONAL_STATISTICS},
)
def bronze_members():
    return (
        spark.readStream.format("cloudFiles")
        .option("cloudFiles.format", "parquet")
        # A column that is new in the source appears here; nothing downstream changes until it is asked for.
        .option("cloudFiles.schemaEvolutionMode", "addNewColumns")
        .load(f"{LANDING}/members/")
        .select(
            "*",
            F.col("_metadata.file_path").alias("_source_file"),
            F.col("_metadata.file_modification_time").alias("_source_file_time"),
        )
    )
