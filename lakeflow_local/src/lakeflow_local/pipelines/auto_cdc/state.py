"""What the target cannot tell of the events that it was made of, in Parquet files beside it."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructField, StructType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.jvm import empty
from lakeflow_local.pipelines.storage import Storage

COMPACT_ABOVE_FILES = 64
_DEFINITION = "definition.json"


class State:
    """Events, only ever added, and before the target is written.

    A write that is cut short leaves some of the events of a batch that will come again, and a state does not mind
    having an event twice: so files need no transactions. Compaction writes another folder, then names it.
    """

    def __init__(
        self, spark: SparkSession, path: str, target: str, columns: list[StructField], *, fixed: int, target_empty: bool
    ):
        """Args:
            fixed: so many of the columns have to be those that the state was made with; others may be added.

        Raises:
            LakeflowError: the target has rows, but no state or that of another definition.
        """
        self._spark = spark
        self._storage = Storage(spark, path)
        self.columns = [field.name for field in columns]
        self._schema = StructType([StructField(field.name, field.dataType) for field in columns])
        made_with = {
            "columns": [[field.name, field.dataType.json()] for field in columns[:fixed]],
            "others": len(columns) > fixed,
        }
        known = self._storage.read_json(_DEFINITION)
        if known is None:
            if not target_empty:
                raise LakeflowError(
                    f"AUTO CDC into {target}: the table has rows, but the state that orders them is gone;"
                    " run a full refresh"
                )
            known = {**made_with, "generation": 0}
            self._storage.write_json(known, _DEFINITION)
        if any(known[key] != made_with[key] for key in made_with):
            raise LakeflowError(
                f"AUTO CDC into {target}: its keys, sequence_by or columns are not those that its state was"
                " made with; run a full refresh"
            )
        self._definition = known
        self._files = self._count()

    @property
    def _folder(self) -> str:
        return f"events-{self._definition['generation']}"

    def _count(self) -> int:
        return sum(name.endswith(".parquet") for name in self._storage.names(self._folder))

    @property
    def empty(self) -> bool:
        return self._files == 0

    def events(self) -> DataFrame:
        if self.empty:
            return empty(self._spark, self._schema)
        return self._spark.read.schema(self._schema).parquet(self._storage.path(self._folder))

    def add(self, events: DataFrame, compacted: Callable[[DataFrame], DataFrame]) -> None:
        """Adds events; then, where files are many, `compacted` says which of all events are needed."""
        self._write(events, self._folder)
        self._files = self._count()
        if self._files <= COMPACT_ABOVE_FILES:
            return
        before, generation = self._folder, self._definition["generation"] + 1
        self._storage.delete(f"events-{generation}")
        self._write(compacted(self.events()), f"events-{generation}")
        self._definition = {**self._definition, "generation": generation}
        self._storage.write_json(self._definition, _DEFINITION)
        self._storage.delete(before)
        self._files = self._count()

    def _write(self, events: DataFrame, folder: str) -> None:
        known = [f"`{name.replace('`', '``')}`" for name in self.columns if name in events.columns]
        events.select(*known).write.mode("append").parquet(self._storage.path(folder))
