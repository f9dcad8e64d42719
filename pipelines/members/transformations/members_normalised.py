"""A view, since two tables read it and nobody else should: what is let through, and what is refused."""

from pyspark import pipelines as dp
from transforms import normalised

BRONZE = spark.conf.get("bronze_schema")


@dp.temporary_view(comment="Bronze rows with the normalised columns that the rules look at")
def members_normalised():
    return normalised(spark.readStream.table(f"{BRONZE}.members"))
