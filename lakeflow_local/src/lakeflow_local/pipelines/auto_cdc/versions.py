"""AUTO CDC FROM SNAPSHOT … WITH VERSION in SQL: its two queries as the function that Python would give."""

from __future__ import annotations

import itertools
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType, LongType, NullType, StructField, StructType
from sqlglot import exp, parse_one

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.graph import Snapshot

_LAST, _CURRENT = "last_snapshot_version", "current_snapshot_version"
_NESTED = frozenset({"struct", "array", "map", "variant"})
_views = itertools.count()


class VersionedQuery:
    """The queries of `snapshot`, which has both `query` and `version_query`.

    Raises:
        LakeflowError: the version query does not give one column.
        UnsupportedError: its column is a struct or another type that has parts.
    """

    def __init__(self, spark: SparkSession, snapshot: Snapshot):
        self._spark = spark
        self._snapshot = snapshot
        parsed = parse_one(snapshot.version_query, dialect="databricks")
        names = parsed.named_selects if isinstance(parsed, exp.Query) else []
        # The type of the last version is that of the query which reads it.
        unknown = StructType([StructField(name, NullType()) for name in names])
        given = self._rows(snapshot.version_query, _LAST, [], unknown).schema
        if len(given) != 1:
            raise LakeflowError(f"WITH VERSION must give one column; it gives {len(given)}")
        kind = given[0].dataType
        self._version = StructType([StructField(given[0].name, kind)])
        if kind.typeName() in _NESTED:
            raise UnsupportedError(f"WITH VERSION of the type {kind.simpleString()} is not supported by lakeflow_local")

    def _rows(self, query: str, function: str, versions: list[Any], schema: StructType | None = None) -> DataFrame:
        view = f"__{function}_{next(_views)}"
        rows = [(version,) for version in versions]
        self._spark.createDataFrame(rows, schema or self._version).createOrReplaceTempView(view)
        return self._spark.sql(sql.rewrite(query, lambda _: view, functions={function}))

    def columns(self) -> tuple[DataFrame, Column]:
        """A snapshot of no version, for its columns, and a version, for its type."""
        kind = self._version[0].dataType
        version = F.lit(None).cast(LongType() if isinstance(kind, IntegralType) else kind)
        return self._rows(self._snapshot.query, _CURRENT, [None]), version

    def __call__(self, latest: Any) -> tuple[DataFrame, Any] | None:
        """The snapshot after the version `latest`, which is None at first, and its version; None if there is none.

        Raises:
            LakeflowError: the version query gives several rows.
        """
        given = self._rows(self._snapshot.version_query, _LAST, [] if latest is None else [latest]).take(2)
        if len(given) > 1:
            raise LakeflowError("WITH VERSION must give one row, or none at the end; it gives several: add LIMIT 1")
        return (self._rows(self._snapshot.query, _CURRENT, [given[0][0]]), given[0][0]) if given else None
