"""The Delta table that changes are applied to, and how they are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField

from lakeflow_local.pipelines.auto_cdc.columns import END, START, assign, column, columns, comparable, once
from lakeflow_local.pipelines.jvm import java_class, latest_version

# With deletion vectors a MERGE into a large table writes the rows that change and not the files that they are in.
TARGET_PROPERTIES = {"delta.enableDeletionVectors": "true"}

_STATISTICS = "delta.dataSkippingStatsColumns"

DELETED, AT, HERE, DOUBT = "__cdc_deleted", "__cdc_at", "__cdc_here", "__cdc_doubt"

# Below these, Spark's jobs cost more than the rows in them.
SMALL_TABLE_BYTES = 16 * 2**20
SMALL_BATCH_ROWS = 20_000
_FEW_PARTITIONS = 16
# The keys of so many rows fit into the memory of every process, and what they are looked for in need not be moved.
BROADCAST_ROWS = 500_000


@dataclass(frozen=True)
class Counts:
    """Rows of the target that one batch inserted or updated, and deleted; of a history, rows of the history."""

    upserted: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.upserted + other.upserted, self.deleted + other.deleted)


def session_of_its_own(spark: SparkSession, frame: DataFrame) -> tuple[SparkSession, DataFrame]:
    """A session whose settings are those of `spark` and can be changed, and the frame in it."""
    cloned = spark._jsparkSession.cloneSession()
    session = SparkSession(spark.sparkContext, cloned)
    dataset = java_class(spark, "org.apache.spark.sql.classic.Dataset")
    # A MERGE would compute its source once more to be sure that it does not change; here it is always computed before.
    session.conf.set("spark.databricks.delta.merge.materializeSource", "none")
    # A table that has to be moved to the changes is not sorted besides.
    session.conf.set("spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold", "64m")
    return session, DataFrame(dataset.ofRows(cloned, frame._jdf.logicalPlan()), session)


def plan_for(session: SparkSession, *, small: bool) -> None:
    """Adaptive execution makes a job of every stage, which few rows in few partitions are not worth."""
    few = int(session.conf.get("spark.sql.shuffle.partitions")) <= _FEW_PARTITIONS
    session.conf.set("spark.sql.adaptive.enabled", str(not (small and few)).lower())


class Target:
    """One Delta table."""

    def __init__(self, spark: SparkSession, name: str):
        self.name = name
        snapshot = self._open(spark)
        self.schema = self._table.toDF().schema
        self.empty = snapshot.numOfFiles() == 0
        self.small = snapshot.sizeInBytes() <= SMALL_TABLE_BYTES
        stated = snapshot.metadata().configuration().get(_STATISTICS)
        self._with_statistics = {name.strip(" `") for name in stated.get().split(",")} if stated.isDefined() else None
        # Each deletion vector costs several jobs; a small file is written again in one.
        spark.conf.set("spark.databricks.delta.merge.deletionVectors.persistent", str(not self.small).lower())

    def _open(self, spark: SparkSession) -> Any:
        """Finds the table as it is now, and gives its latest version."""
        self._table = DeltaTable.forName(spark, self.name)
        return latest_version(spark, self._table._jdt.deltaLog())

    def rows(self) -> DataFrame:
        return self._table.toDF()

    def skips_files_by(self, name: str) -> bool:
        """Whether a range of this column's values lets Delta skip files.

        The commit keeps the range as text, so it is not written where it serves nothing: a table whose keys are
        personal has no statistics of them for the same reason.
        """
        return not self.small and (self._with_statistics is None or name in self._with_statistics)

    def delete(self, condition: Column) -> int:
        """Deletes rows; how many."""
        if self.empty or self.rows().alias("t").where(condition).isEmpty():
            return 0
        one = self.rows().sparkSession.range(1)
        merge = self._table.alias("t").merge(one.alias("s"), condition).whenMatchedDelete()
        deleted = merge.execute().first()["num_deleted_rows"]
        self._open(one.sparkSession)
        return deleted

    def beside(
        self, rows: DataFrame, same: Column, held: Mapping[str, Column], *, keys: Sequence[str], few: bool
    ) -> DataFrame:
        """Adds what the target holds under the keys of rows, and `HERE`, which is NULL where it holds nothing.

        Args:
            same: which row of the target, `t`, a row `s` is about.
            held: expressions on `t`. A large target is read once for them, in no more than the columns that they need.
            few: the keys of `rows` go to where the target is, instead of the target to them.
        """
        found, keys = self.rows().alias("t"), list(keys)
        if not self.small:
            others = rows.select(*columns(keys))
            found = found.join((F.broadcast(others) if few else others).alias("s"), same)
        found = found.select(
            *(column(key, "t") for key in keys), F.lit(True).alias(HERE), *(c.alias(n) for n, c in held.items())
        )
        return rows.join(F.broadcast(found) if few else found, keys, "left")

    def change(
        self,
        rows: DataFrame,
        same: Column,
        names: Sequence[str],
        *,
        keys: Sequence[str],
        settle: Callable[[DataFrame], DataFrame] | None = None,
        apart: bool = False,
    ) -> Counts:
        """Writes the columns `keys` and `names` of rows, or deletes where they say so; without rows, no commit.

        Args:
            rows: with `DELETED`; at most one for a row of the target. All change something, but for those that delete
                a row which is not there. `HERE`, if they have it, is NULL only where the target has no such row.
            same: which row of the target, `t`, a row `s` is about.
            settle: is called where rows have `DOUBT` whether they change something, and leaves those that do.
            apart: `HERE` is NULL wherever the target has no such row, and a large one may get these rows by a commit
                of their own, before the others: a MERGE that inserts has to move all keys of the target.
        """
        written = columns([*keys, *names])
        whole = {*keys, *names} == set(self.schema.names)
        if self.empty and whole:
            rows = rows.where(~F.col(DELETED))
            return Counts() if rows.isEmpty() else self._append(rows.select(*written))
        rows, found = _counted(rows, doubt=settle is not None)
        if found["doubtful"]:
            rows, found = _counted(settle(rows), doubt=False)
        if not found["all"]:
            return Counts()
        if not self.small and found["all"] <= BROADCAST_ROWS:
            rows = F.broadcast(rows)
        deletes = found["deletes"] > 0
        if not whole or (found["here"] and (self.small or not apart)):
            return self._execute(rows, same, names, keys, deletes=deletes, inserts=True)
        counts = Counts()
        # New rows come first: a batch that is cut short in between finds them, and with them all that it has to know.
        if found["here"] < found["all"]:
            counts += self._append(rows.where(F.col(HERE).isNull()).select(*written))
        if found["here"]:
            counts += self._execute(rows.where(HERE), same, names, keys, deletes=deletes, inserts=False)
        return counts

    def _execute(
        self, rows: DataFrame, same: Column, names: Sequence[str], keys: Sequence[str], *, deletes: bool, inserts: bool
    ) -> Counts:
        merge, deleted = self._table.alias("t").merge(rows.alias("s"), same), column(DELETED, "s")
        # Where no row needs a condition, a MERGE reads no column of the target but those of `same`.
        if deletes:
            merge = merge.whenMatchedDelete(deleted)
        if names:
            merge = merge.whenMatchedUpdate(None, assign(names))
        if inserts:
            merge = merge.whenNotMatchedInsert(~deleted if deletes else None, assign([*keys, *names]))
        if not (deletes or names or inserts):
            return Counts()
        done = merge.execute().first()
        return Counts(done["num_inserted_rows"] + done["num_updated_rows"], done["num_deleted_rows"])

    def _append(self, rows: DataFrame) -> Counts:
        seen = Observation()
        spark = rows.sparkSession
        rows = rows.observe(seen, F.count("*").alias("rows"))
        rows.write.format("delta").mode("append").saveAsTable(self.name)
        self._open(spark)
        return Counts(seen.get["rows"])

    def replace(
        self,
        old: DataFrame,
        new: DataFrame,
        values: Sequence[StructField],
        *,
        keys: Sequence[str],
        same_keys: Column,
        apart: bool = False,
        known_by: Sequence[str] = (),
    ) -> Counts:
        """Makes the rows `old` of a history the rows `new`, and touches none that is in both.

        Args:
            old, new: the keys, `START`, `END` and the values. A row is known by its key and its `START`, or its `END`
                where it has no start.
            known_by: of the values, those by which a row is known besides; none of them is NULL.
            apart: as in `change`, for an `old` that is all that the target has of its keys. Who reads in between finds
                versions that began, and those before them not ended yet.
        """
        names = [START, END, *(field.name for field in values)]
        fields = [StructField(name, self.schema[name].dataType) for name in names]
        also = {name: f"{AT}_{name}" for name in known_by}
        at = [
            F.coalesce(F.col(START), F.col(END)).alias(AT),
            *(column(name).alias(alias) for name, alias in also.items()),
        ]
        known = [*keys, AT, *also.values()]
        row = F.struct(*columns(names))
        before, after = (comparable(fields, side) for side in ("__cdc_old", "__cdc_new"))
        rows = (
            old.select(*columns(keys), *at, row.alias("__cdc_old"))
            .join(new.select(*columns(keys), *at, row.alias("__cdc_new")), known, "full_outer")
            .where(F.col("__cdc_old").isNull() | F.col("__cdc_new").isNull() | ~before.eqNullSafe(after))
            .select(
                *columns(known),
                F.col("__cdc_new").isNull().alias(DELETED),
                F.when(F.col("__cdc_old").isNotNull(), F.lit(True)).alias(HERE),
                "__cdc_new.*",
            )
        )
        same_row = F.coalesce(column(START, "t"), column(END, "t")) == column(AT, "s")
        same_row = reduce(and_, (column(name, "t") == column(alias, "s") for name, alias in also.items()), same_row)
        return self.change(rows, same_keys & same_row, names, keys=keys, apart=apart)


def _counted(rows: DataFrame, *, doubt: bool) -> tuple[DataFrame, Row]:
    here = F.col(HERE).isNotNull() if HERE in rows.columns else F.lit(True)
    rows = once(rows.where(here | ~F.col(DELETED)))
    return rows, rows.agg(
        F.count("*").alias("all"),
        F.count_if(DELETED).alias("deletes"),
        F.count_if(here).alias("here"),
        F.count_if(DOUBT if doubt else F.lit(False)).alias("doubtful"),
    ).first()
