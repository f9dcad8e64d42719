"""The Delta table that changes are applied to, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField

from lakeflow_local.pipelines.auto_cdc.columns import END, START, assign, column, columns, comparable, once

# With deletion vectors a MERGE into a large table writes the rows that change and not the files that they are in.
TARGET_PROPERTIES = {"delta.enableDeletionVectors": "true"}

_STATISTICS = "delta.dataSkippingStatsColumns"

DELETED, AT = "__cdc_deleted", "__cdc_at"

# Below these, Spark's jobs cost more than the rows in them.
_SMALL_TABLE_BYTES = 16 * 2**20
SMALL_BATCH_ROWS = 20_000
_FEW_PARTITIONS = 16


@dataclass(frozen=True)
class Counts:
    """Rows of the target that one batch inserted or updated, and deleted; of a history, rows of the history."""

    upserted: int = 0
    deleted: int = 0


def session_of_its_own(spark: SparkSession, frame: DataFrame) -> tuple[SparkSession, DataFrame]:
    """A session whose settings are those of `spark` and can be changed, and the frame in it."""
    cloned = spark._jsparkSession.cloneSession()
    session = SparkSession(spark.sparkContext, cloned)
    dataset = spark._jvm.org.apache.spark.sql.classic.Dataset
    # A MERGE would compute its source once more to be sure that it does not change; here it is always computed before.
    session.conf.set("spark.databricks.delta.merge.materializeSource", "none")
    return session, DataFrame(dataset.ofRows(cloned, frame._jdf.logicalPlan()), session)


def plan_for(session: SparkSession, *, small: bool) -> None:
    """Adaptive execution makes a job of every stage, which few rows in few partitions are not worth."""
    few = int(session.conf.get("spark.sql.shuffle.partitions")) <= _FEW_PARTITIONS
    session.conf.set("spark.sql.adaptive.enabled", str(not (small and few)).lower())


class Target:
    """One Delta table."""

    def __init__(self, spark: SparkSession, name: str):
        self.name = name
        self._table = DeltaTable.forName(spark, name)
        self.schema = self._table.toDF().schema
        none = spark._jvm.scala.Option.empty
        snapshot = self._table._jdt.deltaLog().update(False, none(), none())
        self.empty = snapshot.numOfFiles() == 0
        self.small = snapshot.sizeInBytes() <= _SMALL_TABLE_BYTES
        stated = snapshot.metadata().configuration().get(_STATISTICS)
        self._with_statistics = {name.strip(" `") for name in stated.get().split(",")} if stated.isDefined() else None
        # Each deletion vector costs several jobs; a small file is written again in one.
        spark.conf.set("spark.databricks.delta.merge.deletionVectors.persistent", str(not self.small).lower())

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
        return merge.execute().first()["num_deleted_rows"]

    def merge(
        self,
        rows: DataFrame,
        same: Column,
        names: Sequence[str],
        *,
        keys: Sequence[str],
        deletes: Column | None = None,
        updates: Column | None = None,
    ) -> Counts:
        """Writes the columns `keys` and `names` of rows, or deletes where they say so; without a change, no commit.

        Args:
            rows: with `DELETED`; at most one for a row of the target.
            same: which row of the target, `t`, a row `s` is about.
            deletes, updates: conditions under which a row of the target is deleted, or given the values of `names`;
                None: `rows` has only rows that change something.
        """
        if self._fills(keys, names):
            return self._append(rows.where(~F.col(DELETED)).select(*columns([*keys, *names])))
        deletes, updates = (F.lit(True) if condition is None else condition for condition in (deletes, updates))
        if self.small:
            here = self.rows().withColumn("__cdc_here", F.lit(True)).alias("t")
            change = F.when(column(DELETED, "s"), deletes).otherwise(updates)
            change = F.when(F.col("t.__cdc_here").isNull(), ~column(DELETED, "s")).otherwise(change)
            rows = once(rows.alias("s").join(here, same, "left").where(change).select("s.*"))
            if rows.isEmpty():
                return Counts()
            deletes = updates = F.lit(True)
        return self._execute(rows, same, names, keys, deletes, updates)

    def change(self, rows: DataFrame, same: Column, names: Sequence[str], *, keys: Sequence[str]) -> Counts:
        """As `merge`, for rows that all change something."""
        if self._fills(keys, names):
            return self._append(rows.where(~F.col(DELETED)).select(*columns([*keys, *names])))
        rows = once(rows)
        if rows.isEmpty():
            return Counts()
        return self._execute(rows, same, names, keys, F.lit(True), F.lit(True))

    def _execute(
        self,
        rows: DataFrame,
        same: Column,
        names: Sequence[str],
        keys: Sequence[str],
        deletes: Column,
        updates: Column,
    ) -> Counts:
        deleted = column(DELETED, "s")
        merge = self._table.alias("t").merge(rows.alias("s"), same).whenMatchedDelete(deleted & deletes)
        if names:
            merge = merge.whenMatchedUpdate(~deleted & updates, assign(names))
        done = merge.whenNotMatchedInsert(~deleted, assign([*keys, *names])).execute().first()
        return Counts(done["num_inserted_rows"] + done["num_updated_rows"], done["num_deleted_rows"])

    def _fills(self, keys: Sequence[str], names: Sequence[str]) -> bool:
        """Whether rows of these columns can just be added: nothing is there, and no column is Delta's to fill."""
        return self.empty and {*keys, *names} == set(self.schema.names)

    def _append(self, rows: DataFrame) -> Counts:
        if rows.isEmpty():
            return Counts()
        seen = Observation()
        rows = rows.observe(seen, F.count("*").alias("rows"))
        rows.write.format("delta").mode("append").saveAsTable(self.name)
        return Counts(seen.get["rows"])

    def replace(
        self,
        old: DataFrame,
        new: DataFrame,
        values: Sequence[StructField],
        *,
        keys: Sequence[str],
        same_keys: Column,
    ) -> Counts:
        """Makes the rows `old` of a history the rows `new`, and touches none that is in both.

        Args:
            old, new: the keys, `START`, `END` and the values. A row is known by its key and its `START`, or its `END`
                where it has no start.
        """
        names = [START, END, *(field.name for field in values)]
        fields = [StructField(name, self.schema[name].dataType) for name in names]
        at = F.coalesce(F.col(START), F.col(END))
        row = F.struct(*columns(names))
        before, after = (comparable(fields, side) for side in ("__cdc_old", "__cdc_new"))
        rows = (
            old.select(*columns(keys), at.alias(AT), row.alias("__cdc_old"))
            .join(new.select(*columns(keys), at.alias(AT), row.alias("__cdc_new")), [*keys, AT], "full_outer")
            .where(F.col("__cdc_old").isNull() | F.col("__cdc_new").isNull() | ~before.eqNullSafe(after))
            .select(*columns([*keys, AT]), F.col("__cdc_new").isNull().alias(DELETED), "__cdc_new.*")
        )
        same_row = F.coalesce(column(START, "t"), column(END, "t")) == column(AT, "s")
        return self.change(rows, same_keys & same_row, names, keys=keys)
