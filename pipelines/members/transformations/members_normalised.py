"""A view, since two tables read it and nobody else should: what is let through, and what is refused."""

import os

from pyspark import pipelines as dp
from transforms import normalised

BRONZE = spark.conf.get("bronze_schema")
PSEUDONYM_KEY = spark.conf.get("pseudonym_key")


def pseudonym_key():
    """The secret that `env:NAME` or `secret:SCOPE/KEY` refers to."""
    kind, _, name = PSEUDONYM_KEY.partition(":")
    if kind == "env" and os.environ.get(name):
        return os.environ[name]
    if kind == "secret" and name.count("/") == 1:
        return dbutils.secrets.get(*name.split("/"))
    raise ValueError(f"pseudonym_key is {PSEUDONYM_KEY}, which names no secret; write env:NAME or secret:SCOPE/KEY")


@dp.temporary_view(comment="Bronze rows with the normalised columns that the rules look at")
def members_normalised():
    # What an erasure deletes in bronze is deleted in the tables that read it too, by the erasure itself.
    bronze = spark.readStream.option("skipChangeCommits", "true").table(f"{BRONZE}.members")
    return normalised(bronze, pseudonym_key())
