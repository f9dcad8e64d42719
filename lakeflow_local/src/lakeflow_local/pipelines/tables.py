"""Makes the tables of a pipeline what their definitions say, and changes them when the definitions change."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DataType, StructField, StructType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import auto_cdc, sql
from lakeflow_local.pipelines.auto_loader.schema import struct
from lakeflow_local.pipelines.event_log import PIPELINE_ID
from lakeflow_local.pipelines.graph import Column, Dataset, Kind
from lakeflow_local.pipelines.jvm import delta_log, java_class, latest_version
from lakeflow_local.pipelines.names import quoted
from lakeflow_local.pipelines.resolve import Node
from lakeflow_local.pipelines.storage import Storage

_STATE = "tables.json"
FILE_BYTES = "spark.databricks.delta.optimize.maxFileSize"


class Tables:
    """The Delta tables of one pipeline."""

    def __init__(self, spark: SparkSession, storage: Storage, pipeline_id: str):
        self._spark = spark
        self._pipeline_id = pipeline_id
        self._storage = storage
        self._known: dict[str, str] = storage.read_json(_STATE) or {}
        self._schemas: set[str] = set()
        self._locations: dict[str, str] = {}
        self._changing = threading.Lock()

    def exists(self, node: Node) -> bool:
        return self._spark.catalog.tableExists(quoted(node.table))

    def set_up(self, node: Node, *, replace: bool) -> None:
        """Creates or alters the table of `node`, whose flows are resolved; its rows stay, unless `replace`."""
        wanted = self._wanted(node)
        with self._changing:
            self.ensure_schema(node.table)
            exists = self.exists(node)
            if exists and not replace and self._known.get(node.full) == wanted.digest:
                return
            if not exists or replace:
                self._create(node.table, wanted, replace=exists)
            else:
                self._alter(node, wanted)
            self._known[node.full] = wanted.digest
            self._storage.write_json(self._known, _STATE)

    def digest(self, node: Node) -> str:
        """Changes with whatever of the definition shows in the table."""
        return self._wanted(node).digest

    def _wanted(self, node: Node) -> _Definition:
        columns = _columns(node, self._spark)
        if not columns:
            raise _error(node.dataset, f"{node.dataset.name} has no columns")
        for name in (*node.dataset.partition_cols, *node.dataset.cluster_by):
            if "." not in name and not any(c.name.lower() == name.strip("`").lower() for c in columns):
                raise _error(
                    node.dataset, f"{node.dataset.name} is laid out by the column {name}, which it does not have"
                )
        changing = any(f.cdc or f.snapshot for f in node.flows)
        if changing and any(map(_is_identity, declared_columns(node.dataset))):
            raise _error(
                node.dataset,
                f"{node.dataset.name} cannot have an identity column, as on Databricks: changes go into it",
            )
        return _Definition(node.dataset, columns, {PIPELINE_ID: self._pipeline_id}, changing=changing)

    def location(self, full: str) -> str:
        """The folder of a table, as Spark writes it; asked for once, since the catalog takes longer than the rest."""
        if full in self._locations:
            return self._locations[full]
        identifier = java_class(self._spark, "org.apache.spark.sql.catalyst.TableIdentifier")
        option = java_class(self._spark, "scala.Option")
        _, schema, table = full.split(".", 2)
        catalog = self._spark._jsparkSession.sessionState().catalog()
        found = catalog.getTableMetadata(identifier(table, option.apply(schema)))
        return self._locations.setdefault(full, found.location().toString())

    def version(self, full: str) -> int:
        """The latest version of a table, counted up with every commit."""
        return self._snapshot(full).version()

    def look_at(self, full: str) -> None:
        """Has the next write go by what the checksum of the latest version tells; see `latest_version`."""
        self._snapshot(full)

    def _snapshot(self, full: str) -> Any:
        return latest_version(self._spark, delta_log(self._spark, self.location(full)))

    def rows_of_a_file(self, node: Node, rows: DataFrame) -> int:
        """How many rows make a file of the size that OPTIMIZE aims at.

        Told by the rows of the table where they fill more than one such file, else guessed by the types of `rows`.
        """
        target = int(self._spark.conf.get(FILE_BYTES, "67108864"))
        size = self._snapshot(node.table).sizeInBytes()
        if size > target:
            # Delta counts by the statistics of the files.
            row = size / self._spark.table(quoted(node.table)).count()
        else:
            row = rows._jdf.schema().defaultSize()
        return max(1, int(target / row))

    def ensure_schema(self, full: str) -> None:
        schema = full.rsplit(".", 1)[0]
        if schema not in self._schemas:
            if not self._spark.catalog.databaseExists(quoted(schema)):
                self._spark.sql(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            self._schemas.add(schema)

    def _create(self, full: str, wanted: _Definition, *, replace: bool) -> None:
        self._locations.pop(full, None)
        create = "CREATE OR REPLACE TABLE" if replace else "CREATE TABLE"
        self._spark.sql(f"{create} {quoted(full)} {wanted.ddl()}")

    def planned(self, node: Node) -> StructType:
        """The columns that the table of `node` would have after its set-up; nothing is written.

        Raises:
            LakeflowError: what `set_up` would raise.
        """
        wanted = self._wanted(node)
        wanted.ddl()
        if not self.exists(node) or node.kind is Kind.MATERIALIZED_VIEW:
            return wanted.schema
        have = self._spark.table(quoted(node.table)).schema
        _refuse_change(node, _changed(have, wanted.schema))
        only_there = [f for f in have.fields if _field(wanted.schema, f.name) is None]
        return StructType([*wanted.schema.fields, *only_there])

    def _alter(self, node: Node, wanted: _Definition) -> None:
        name, dataset = quoted(node.table), node.dataset
        have = self._spark.table(name).schema
        added = _added(have, wanted.schema)
        changed = _changed(have, wanted.schema)
        dropped = [f.name for f in have.fields if _field(wanted.schema, f.name) is None]
        if (changed or dropped or any(c.generated for c in wanted.columns)) and node.kind is Kind.MATERIALIZED_VIEW:
            self._create(node.table, wanted, replace=True)
            return
        _refuse_change(node, changed)
        for column in wanted.columns:
            if column.generated and _field(have, column.name) is None:
                raise _error(
                    dataset,
                    f"Delta cannot add the generated column {column.name} to a table that is there; run a full"
                    f" refresh of {dataset.name}",
                )
        if added:
            self._spark.sql(f"ALTER TABLE {name} ADD COLUMNS ({', '.join(added)})")
        if wanted.properties:
            self._spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({_pairs(wanted.properties)})")
        for column in wanted.columns:
            old = _field(have, column.name)
            default = f"SET DEFAULT {column.default}" if column.default else "DROP DEFAULT"
            if column.default != (old.metadata.get("CURRENT_DEFAULT") if old else None):
                self._spark.sql(f"ALTER TABLE {name} ALTER COLUMN `{column.name}` {default}")
            if old is not None and column.comment and old.metadata.get("comment") != column.comment:
                self._spark.sql(f"ALTER TABLE {name} ALTER COLUMN `{column.name}` COMMENT {_text(column.comment)}")
        if dataset.comment:
            self._spark.sql(f"COMMENT ON TABLE {name} IS {_text(dataset.comment)}")
        if dataset.cluster_by:
            self._spark.sql(f"ALTER TABLE {name} CLUSTER BY ({', '.join(f'`{c}`' for c in dataset.cluster_by)})")


class _Definition:
    """What a table should be, as DDL."""

    def __init__(
        self, dataset: Dataset, columns: Sequence[_TypedColumn], properties: Mapping[str, str], *, changing: bool
    ):
        self.dataset = dataset
        self.columns = columns
        self.schema = StructType([StructField(c.name, c.kind) for c in columns])
        self.properties = {**dataset.properties, **properties}
        if changing:
            self.properties = {**auto_cdc.TARGET_PROPERTIES, **self.properties}
        if any(set(" ,;{}()\n\t=") & set(c.name) for c in columns):
            self.properties.setdefault("delta.columnMapping.mode", "name")
        if any(c.default for c in columns):
            self.properties["delta.feature.allowColumnDefaults"] = "supported"
        # Informational on Databricks too, where constraints have a place of their own.
        if dataset.primary_key:
            self.properties["lakeflow.primaryKey"] = ",".join(dataset.primary_key.columns)
        for i, key in enumerate(dataset.foreign_keys):
            to = f"{key.references}({','.join(key.referenced_columns)})" if key.referenced_columns else key.references
            self.properties[f"lakeflow.foreignKey.{i}"] = f"{','.join(key.columns)} -> {to}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.ddl().encode()).hexdigest()

    def ddl(self) -> str:
        dataset = self.dataset
        parts = [f"({', '.join(c.ddl() for c in self.columns)}) USING DELTA"]
        if dataset.partition_cols:
            parts.append(f"PARTITIONED BY ({', '.join(f'`{c}`' for c in dataset.partition_cols)})")
        if dataset.cluster_by:
            parts.append(f"CLUSTER BY ({', '.join(f'`{c}`' for c in dataset.cluster_by)})")
        if dataset.path:
            parts.append(f"LOCATION {_text(dataset.path)}")
        if dataset.comment:
            parts.append(f"COMMENT {_text(dataset.comment)}")
        if self.properties:
            parts.append(f"TBLPROPERTIES ({_pairs(self.properties)})")
        return " ".join(parts)


def _is_identity(column: Column) -> bool:
    return "AS IDENTITY" in " ".join((column.generated or "").upper().split())


class _TypedColumn:
    def __init__(self, declared: Column, kind: DataType, comment: str | None):
        self.name = declared.name
        self.kind = kind
        self.comment = declared.comment or comment
        self.default, self.generated = declared.default, declared.generated
        self._declared = declared

    def ddl(self) -> str:
        declared = self._declared
        parts = [f"`{self.name}` {self.kind.simpleString()}"]
        if _is_identity(declared):
            parts.append(f"GENERATED {declared.generated}")
        elif declared.generated:
            parts.append(f"GENERATED ALWAYS AS ({declared.generated})")
        if declared.default:
            parts.append(f"DEFAULT {declared.default}")
        if declared.not_null:
            parts.append("NOT NULL")
        if self.comment:
            parts.append(f"COMMENT {_text(self.comment)}")
        return " ".join(parts)


def declared_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The column list of a dataset, however it was given."""
    given = dataset.schema_ddl
    if given is None:
        return dataset.columns
    if isinstance(given, StructType):
        return tuple(
            Column(f.name, f.dataType.simpleString(), not f.nullable, f.metadata.get("comment")) for f in given.fields
        )
    statement = f"CREATE STREAMING TABLE t ({given})"
    (parsed,) = sql.parse(statement, file=dataset.place.file, configuration={})
    assert isinstance(parsed, sql.CreateDataset)
    return parsed.dataset.columns


def _columns(node: Node, spark: SparkSession) -> list[_TypedColumn]:
    schema = _query_schema(node, spark)
    declared = {c.name.lower(): c for c in declared_columns(node.dataset)}
    columns = []
    for part in schema.fields:
        column = declared.pop(part.name.lower(), None) or Column(part.name)
        kind = struct(f"c {column.type}")["c"].dataType if column.type else part.dataType
        columns.append(_TypedColumn(column, kind, part.metadata.get("comment")))
    for column in declared.values():
        if column.generated is None and column.default is None:
            raise _error(node.dataset, f"column {column.name} of {node.dataset.name} is declared, but not in its query")
        kind = struct(f"c {column.type}")["c"].dataType
        columns.append(_TypedColumn(column, kind, None))
    if declared_columns(node.dataset):
        order = [c.name.lower() for c in declared_columns(node.dataset)]
        columns.sort(key=lambda c: order.index(c.name.lower()) if c.name.lower() in order else len(order))
    for typed in columns:
        if typed.kind.typeName() == "void":
            raise _error(
                node.dataset,
                f"column {typed.name} of {node.dataset.name} has no type (NULL); cast it to the one it has",
            )
    return columns


def _query_schema(node: Node, spark: SparkSession) -> StructType:
    fields: list[StructField] = []
    for resolved in node.resolved:
        cdc = resolved.flow.cdc
        schema = auto_cdc.target_schema(resolved.frame.schema, cdc, spark) if cdc else resolved.frame.schema
        for part in schema.fields:
            known = next((f for f in fields if f.name.lower() == part.name.lower()), None)
            if known is None:
                fields.append(part)
            elif not _same(known.dataType, part.dataType):
                raise _error(
                    node.dataset,
                    f"flows of {node.dataset.name} disagree on column {part.name}: {known.dataType.simpleString()} and "
                    f"{part.dataType.simpleString()}; cast one of them",
                )
    names = [f.name.lower() for f in resolved.frame.schema.fields]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise _error(node.dataset, f"the query of {node.dataset.name} gives column {twice} twice; rename one")
    return StructType(fields)


def _field(schema: StructType, name: str) -> StructField | None:
    return next((f for f in schema.fields if f.name.lower() == name.lower()), None)


def _same(old: DataType, new: DataType) -> bool:
    """Whether rows of the new type fit, nested fields that are only in the new one aside."""
    if isinstance(old, StructType) and isinstance(new, StructType):
        pairs = ((f, _field(new, f.name)) for f in old.fields)
        return all(other is None or _same(f.dataType, other.dataType) for f, other in pairs)
    return old.simpleString().lower() == new.simpleString().lower()


def _changed(have: StructType, wanted: StructType) -> list[tuple[StructField, StructField]]:
    """The columns whose type would change: what they are, what they should be."""
    pairs = ((_field(have, new.name), new) for new in wanted.fields)
    return [(old, new) for old, new in pairs if old is not None and not _same(old.dataType, new.dataType)]


def _refuse_change(node: Node, changed: Sequence[tuple[StructField, StructField]]) -> None:
    for old, new in changed[:1]:
        raise _error(
            node.dataset,
            f"column {new.name} of {node.dataset.name} is {old.dataType.simpleString()} in the table and "
            f"{new.dataType.simpleString()} in the query; cast it, or run a full refresh of {node.dataset.name}",
        )


def _added(have: StructType, wanted: StructType, prefix: str = "") -> list[str]:
    added = []
    for part in wanted.fields:
        old = _field(have, part.name)
        name = f"{prefix}`{part.name}`"
        if old is None:
            added.append(f"{name} {part.dataType.simpleString()}")
        elif isinstance(old.dataType, StructType) and isinstance(part.dataType, StructType):
            added += _added(old.dataType, part.dataType, f"{name}.")
    return added


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _pairs(properties: dict[str, str]) -> str:
    return ", ".join(f"{_text(k)} = {_text(v)}" for k, v in sorted(properties.items()))


def _error(dataset: Dataset, message: str) -> LakeflowError:
    return LakeflowError(message, file=dataset.place.file, line=dataset.place.line)
