"""Auto Loader on Spark's file stream: each file once, a schema that is kept and grows, misfitting values rescued.

Databricks lets a stream fail on a new column and restarts it. Here the files that no batch has read yet are looked at
before the stream starts, so the schema has grown by then and the restart is not needed. What a file holds beyond the
schema goes to the rescued-data column as JSON with the file's path; a file that cannot be read at all is named in the
event log and left where it is, and the others load.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NullType, StringType, StructField, StructType

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.storage import Storage

RESCUED = "_rescued_data"
_CORRUPT = "__malformed"
_TYPED_FORMATS = ("parquet", "avro", "orc")
_FORMATS = (*_TYPED_FORMATS, "json", "csv", "text", "binaryfile")

# How files are found makes no difference to what is read, so these are accepted and have no effect here.
_DISCOVERY = {
    "backfillinterval",
    "cleansource",
    "fetchparallelism",
    "maxfileage",
    "queueurl",
    "region",
    "resourcetag",
    "schemalocation",
    "useincrementallisting",
    "usemanagedfileevents",
    "usenotifications",
    "usestrictglobber",
    "validateoptions",
}
_USED = {
    "format",
    "includeexistingfiles",
    "infercolumntypes",
    "maxbytespertrigger",
    "maxfilespertrigger",
    "partitioncolumns",
    "rescueddatacolumn",
    "schemaevolutionmode",
    "schemahints",
}
_PLAIN_IN_URLS = "/:=@!$&'()*+,;~"
_MODES = ("addnewcolumns", "rescue", "failonnewcolumns", "none")


@dataclass(frozen=True)
class _Options:
    format: str
    mode: str
    rescued: str | None
    infer_types: bool
    hints: str | None
    reader: Mapping[str, str]


@dataclass
class AutoLoader:
    """Sources of one pipeline's flows.

    Attributes:
        report: told of what a person should know: a level (`INFO`, `WARN`) and a message.
    """

    spark: SparkSession
    storage: Storage
    report: Callable[[str, str], None]
    _looked_at: dict[str, set[str]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    def load(
        self,
        flow: str,
        path: str,
        options: Mapping[str, Any],
        schema: StructType | str | None = None,
        *,
        streaming: bool = True,
        sql: bool = False,
    ) -> DataFrame:
        """The rows of the files under `path`.

        Args:
            flow: the folder of the flow's checkpoint and kept schemas.
            options: as given to `cloudFiles` or `read_files`, in any case.
            schema: the columns, or None to infer them.
            sql: types are inferred unless the options say otherwise, as `read_files` does.

        Raises:
            LakeflowError: no such folder or bucket, no file to infer a schema from, a new column where the mode
                forbids one.
            UnsupportedError: an option or a format that has no counterpart here.
        """
        chosen = _read_options(options, explicit_schema=schema is not None, sql=sql)
        if isinstance(schema, str):
            schema = StructType.fromDDL(schema)
        found = self._list(path, chosen)
        seen = self._seen(flow) if streaming else set()
        fresh = [f for f in found.files if f not in seen]
        key = hashlib.sha256(f"{chosen.format} {path}".encode()).hexdigest()[:16]
        kept = schema or self._kept_schema(flow, key)
        bad = self._bad_files(flow, key)
        extras: list[StructField] = []
        if schema is None or (chosen.rescued and chosen.format in ("json", *_TYPED_FORMATS)):
            kept, extras = self._look(flow, key, path, fresh, kept, schema is not None, chosen, bad)
        if kept is None:
            raise LakeflowError(
                f"no file under {path} to infer the columns from: land one first, or give the schema",
            )
        if schema is None:
            kept = StructType(kept.fields + [p for p in found.partitions if p.name not in kept.names])
        return self._frame(path, kept, extras, chosen, bad, streaming=streaming)

    def note_unreadable(self, flow: str, message: str) -> bool:
        """Takes the file that a failed query names out of the way; False where the failure is of another kind."""
        match = re.search(r"FAILED_READ_FILE[^\n]*?((?:\w+:)?//?[^\s\"']+?)[.,]?(?:\s|$)", message)
        if not match:
            return False
        file = _plain(match.group(1))
        noted = False
        for name in self.storage.names("schemas", flow):
            key = name.removesuffix(".json")
            if name.endswith(".json") and not name.startswith("bad-"):
                bad = self._bad_files(flow, key)
                if file not in bad:
                    noted = True
                    self._note_bad(flow, key, bad | {file: "its data cannot be read"})
        return noted

    def _list(self, path: str, options: _Options) -> _Listing:
        reader = self.spark.read.format("binaryFile")
        for name in ("pathGlobFilter", "recursiveFileLookup", "basePath"):
            if name.lower() in options.reader:
                reader = reader.option(name, options.reader[name.lower()])
        try:
            frame = reader.load(path)
            files = [_plain(row.path) for row in frame.select("path").collect()]
        except (PySparkException, Py4JJavaError) as error:
            raise LakeflowError(_unreachable(path, str(error))) from error
        partitions = [f for f in frame.schema.fields if f.name not in ("path", "modificationTime", "length", "content")]
        return _Listing(sorted(files), partitions)

    def _seen(self, flow: str) -> set[str]:
        """The files that ended batches of the flow's checkpoint hold.

        The files of a batch that was begun and not ended will be read again, so they count as new: what was found in
        them beyond the schema has to be found again.
        """
        checkpoint = ("checkpoints", flow)
        ended = [int(name) for name in self.storage.names(*checkpoint, "commits") if name.isdigit()]
        if not ended:
            return set()
        offsets = self.spark.read.text(self.storage.path(*checkpoint, "offsets", str(max(ended)))).collect()
        # A version, the batch's settings, then one offset a source.
        last = [json.loads(row.value).get("logOffset", -1) if row.value != "-" else -1 for row in offsets[2:]]
        if not self.storage.exists(*checkpoint, "sources"):
            return set()
        lines = (
            self.spark.read.text(self.storage.path(*checkpoint, "sources", "*", "*"))
            .where("value LIKE '{%'")
            .select("value", F.col("_metadata.file_path").alias("log"))
            .collect()
        )
        entries = [(int(row.log.split("/")[-2]), json.loads(row.value)) for row in lines]
        return {_plain(e["path"]) for source, e in entries if source < len(last) and e["batchId"] <= last[source]}

    def _kept_schema(self, flow: str, key: str) -> StructType | None:
        kept = self.storage.read_json("schemas", flow, f"{key}.json")
        return StructType.fromJson(kept["schema"]) if kept and kept["schema"] else None

    def _bad_files(self, flow: str, key: str) -> dict[str, str]:
        return self.storage.read_json("schemas", flow, f"bad-{key}.json") or {}

    def _note_bad(self, flow: str, key: str, bad: dict[str, str]) -> None:
        self.storage.write_json(bad, "schemas", flow, f"bad-{key}.json")
        for file, reason in bad.items():
            self._warn(f"file {file} was left out: {reason}; mend it and land it under a new name")

    def _warn(self, message: str) -> None:
        """Reports what several flows may find, once."""
        if message not in self._said:
            self._said.add(message)
            self.report("WARN", message)

    def _look(
        self,
        flow: str,
        key: str,
        path: str,
        fresh: Sequence[str],
        kept: StructType | None,
        fixed: bool,
        options: _Options,
        bad: dict[str, str],
    ) -> tuple[StructType | None, list[StructField]]:
        """Looks at the files that are new to the flow: the schema to read them by, and the fields to rescue."""
        looked_at = self._looked_at.setdefault(f"{flow} {key}", set())
        unread = [f for f in fresh if f not in looked_at and f not in bad]
        if not unread and kept is not None:
            return kept, []
        inferred, unreadable = self._infer(unread, options)
        if unreadable:
            bad.update(unreadable)
            self._note_bad(flow, key, unreadable | bad)
        if inferred is None:
            return kept, []
        inferred = _apply_hints(inferred, options.hints)
        if kept is None:
            self._keep(flow, key, path, inferred)
            looked_at.update(unread)
            return inferred, []
        new = [f for f in inferred.fields if f.name.lower() not in {n.lower() for n in kept.names}]
        if fixed:
            return kept, new
        if new and options.mode == "failonnewcolumns":
            names = ", ".join(f.name for f in new)
            raise LakeflowError(
                f"files under {path} have new columns: {names}; add them to the schema, or choose another "
                "schemaEvolutionMode than failOnNewColumns"
            )
        if options.mode == "addnewcolumns":
            merged = _merge(kept, inferred)
            if merged != kept:
                self._keep(flow, key, path, merged)
                self.report("INFO", f"new columns in {path}: {', '.join(f.name for f in new) or 'in nested fields'}")
            looked_at.update(unread)
            return merged, []
        return kept, new

    def _keep(self, flow: str, key: str, path: str, schema: StructType) -> None:
        content = {"path": path, "schema": json.loads(schema.json())}
        self.storage.write_json(content, "schemas", flow, f"{key}.json")

    def _infer(self, files: Sequence[str], options: _Options) -> tuple[StructType | None, dict[str, str]]:
        if not files:
            return None, {}
        if options.format in ("text", "binaryfile"):
            return self._reader(options).load(list(files)).schema, {}
        try:
            return self._infer_all(files, options), {}
        except (PySparkException, Py4JJavaError):
            if len(files) == 1:
                return None, {files[0]: f"it is not a readable {options.format} file"}
        # Halving finds the few bad ones among many without a look at each.
        middle = len(files) // 2
        left, bad_left = self._infer(files[:middle], options)
        right, bad_right = self._infer(files[middle:], options)
        schema = _merge(left, right) if left and right else left or right
        return schema, bad_left | bad_right

    def _infer_all(self, files: Sequence[str], options: _Options) -> StructType:
        reader = self._reader(options)
        if options.format in _TYPED_FORMATS:
            return reader.option("mergeSchema", "true").load(list(files)).schema
        if options.format == "csv":
            reader = reader.option("inferSchema", str(options.infer_types).lower())
            return reader.load(list(files)).schema
        reader = reader.option("primitivesAsString", str(not options.infer_types).lower())
        schema = reader.option("columnNameOfCorruptRecord", _CORRUPT).load(list(files)).schema
        if _CORRUPT in schema.names:
            self._name_malformed(files, options)
        fields = []
        for part in schema.fields:
            if part.name == _CORRUPT:
                continue
            text = not options.infer_types or isinstance(part.dataType, NullType)
            fields.append(StructField(part.name, StringType() if text else _without_void(part.dataType)))
        return StructType(fields)

    def _name_malformed(self, files: Sequence[str], options: _Options) -> None:
        only_malformed = StructType([StructField("__any", StringType()), StructField(_CORRUPT, StringType())])
        rows = (
            self._reader(options)
            .schema(only_malformed)
            .option("columnNameOfCorruptRecord", _CORRUPT)
            .load(list(files))
            .select(_CORRUPT, "__any", F.col("_metadata.file_path").alias("file"))
            .where(F.col(_CORRUPT).isNotNull())
            .groupBy("file")
            .agg(F.count(F.lit(1)).alias("records"), F.first("__any"))
            .collect()
        )
        for row in rows:
            self._warn(f"file {_plain(row.file)} has {row.records} malformed records; see the rescued data")

    def _reader(self, options: _Options) -> Any:
        reader = self.spark.read.format(options.format)
        return reader.options(**{k: v for k, v in options.reader.items() if not k.startswith("max")})

    def _frame(
        self,
        path: str,
        kept: StructType,
        extras: Sequence[StructField],
        options: _Options,
        bad: Collection[str],
        *,
        streaming: bool,
    ) -> DataFrame:
        fields = [StructField(f.name, f.dataType, True, f.metadata) for f in kept.fields]
        fields += [StructField(f.name, f.dataType) for f in extras if options.rescued]
        rescues_malformed = options.rescued and options.format == "json"
        if rescues_malformed:
            fields.append(StructField(_CORRUPT, StringType()))
        reader = self.spark.readStream if streaming else self.spark.read
        reader = reader.format(options.format).options(**options.reader)
        if options.format not in ("text", "binaryfile"):
            reader = reader.schema(StructType(fields))
        if rescues_malformed:
            reader = reader.option("columnNameOfCorruptRecord", _CORRUPT).option("mode", "PERMISSIVE")
        frame = reader.load(path)
        if bad:
            # Spark leaves such files closed. `ignoreCorruptFiles` would pass over others too, without a word.
            spelt = {text for file in bad for text in (file, quote(file, safe=_PLAIN_IN_URLS))}
            frame = frame.where(~F.col("_metadata.file_path").isin(*sorted(spelt)))
        if not options.rescued:
            return frame
        rescued = _rescued(kept, extras, malformed=bool(rescues_malformed))
        names = [F.col(f"`{f.name}`") for f in kept.fields if f.name != options.rescued]
        return frame.select(*names, rescued.alias(options.rescued))


@dataclass(frozen=True)
class _Listing:
    files: list[str]
    partitions: list[StructField]


def _read_options(options: Mapping[str, Any], *, explicit_schema: bool, sql: bool) -> _Options:
    cloud: dict[str, str] = {}
    reader: dict[str, str] = {}
    for name, value in options.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        lower = name.lower()
        if lower.startswith("cloudfiles."):
            cloud[lower.removeprefix("cloudfiles.")] = text
        elif sql and lower in _USED | _DISCOVERY:
            cloud[lower] = text
        else:
            reader[lower] = text
    if "rescueddatacolumn" in reader:
        cloud["rescueddatacolumn"] = reader.pop("rescueddatacolumn")
    unknown = sorted(set(cloud) - _USED - _DISCOVERY)
    if unknown:
        raise UnsupportedError(f"Auto Loader option cloudFiles.{unknown[0]} is not supported here")
    if cloud.get("includeexistingfiles", "true") != "true":
        raise UnsupportedError("Auto Loader option cloudFiles.includeExistingFiles=false is not supported here")
    file_format = cloud.get("format", "").lower()
    if not file_format:
        raise LakeflowError("Auto Loader needs the option cloudFiles.format, such as json or parquet")
    if file_format not in _FORMATS:
        raise UnsupportedError(f"Auto Loader format {file_format} is not supported here; {', '.join(_FORMATS)} are")
    mode = cloud.get("schemaevolutionmode", "none" if explicit_schema else "addNewColumns").lower()
    if mode not in _MODES:
        raise UnsupportedError(f"cloudFiles.schemaEvolutionMode={mode} is not supported here; {', '.join(_MODES)} are")
    for name in ("maxfilespertrigger", "maxbytespertrigger"):
        if name in cloud:
            reader[name] = cloud[name]
    return _Options(
        format=file_format,
        mode=mode,
        rescued=cloud.get("rescueddatacolumn") or (None if explicit_schema else RESCUED),
        infer_types=cloud.get("infercolumntypes", str(sql).lower()) == "true",
        hints=cloud.get("schemahints"),
        reader=reader,
    )


def _unreachable(path: str, message: str) -> str:
    if "UnknownStoreException" in message or "NoSuchBucket" in message:
        return f"the bucket of {path} does not exist; create it, or mend the URL"
    if "AccessDenied" in message or "403" in message or "InvalidAccessKeyId" in message:
        return f"access to {path} was refused; check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if "PATH_NOT_FOUND" in message or "FileNotFoundException" in message:
        return f"there is no folder {path}; land a file there first, or mend the path"
    return f"cannot list {path}: {message.strip().splitlines()[0]}"


def _plain(path: str) -> str:
    """One spelling for a file's URL: Spark writes some with escapes and three slashes, some without."""
    return re.sub(r"^file:/+", "file:/", unquote(path))


def _without_void(kind: DataType) -> DataType:
    if isinstance(kind, NullType):
        return StringType()
    if isinstance(kind, StructType):
        return StructType([StructField(f.name, _without_void(f.dataType)) for f in kind.fields])
    if hasattr(kind, "elementType"):
        return type(kind)(_without_void(kind.elementType))
    return kind


def _merge(kept: StructType, new: StructType) -> StructType:
    """`kept` with the fields that only `new` has; a field that both have keeps its type, nested fields grow."""
    by_name = {f.name.lower(): f for f in new.fields}
    fields = []
    for part in kept.fields:
        other = by_name.pop(part.name.lower(), None)
        if other and isinstance(part.dataType, StructType) and isinstance(other.dataType, StructType):
            part = StructField(part.name, _merge(part.dataType, other.dataType), part.nullable, part.metadata)
        fields.append(part)
    return StructType(fields + list(by_name.values()))


def _apply_hints(schema: StructType, hints: str | None) -> StructType:
    if not hints:
        return schema
    for name, kind in _split_hints(hints):
        schema = _with_type(schema, name.split("."), StructType.fromDDL(f"hinted {kind}")["hinted"].dataType)
    return schema


def _split_hints(hints: str) -> list[tuple[str, str]]:
    parts, depth, start = [], 0, 0
    for i, character in enumerate(hints + ","):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append(hints[start:i])
            start = i + 1
    return [tuple(p.strip().split(None, 1)) for p in parts if p.strip()]


def _with_type(schema: StructType, name: Sequence[str], kind: DataType) -> StructType:
    head = name[0].strip("`")
    fields = list(schema.fields)
    for i, part in enumerate(fields):
        if part.name.lower() == head.lower():
            inner = kind
            if len(name) > 1 and isinstance(part.dataType, StructType):
                inner = _with_type(part.dataType, name[1:], kind)
            fields[i] = StructField(part.name, inner)
            return StructType(fields)
    return StructType([*fields, StructField(head, kind)]) if len(name) == 1 else schema


def _rescued(kept: StructType, extras: Sequence[StructField], *, malformed: bool) -> Column:
    """JSON of what a row held beyond the schema, and NULL where there was nothing."""
    nothing = F.create_map().cast("map<string,string>")
    beyond = nothing
    if extras:
        names = F.array(*(F.lit(f.name) for f in extras))
        values = F.array(*(_as_text(f) for f in extras))
        beyond = F.map_filter(F.map_from_arrays(names, values), lambda _, value: value.isNotNull())
    misfits = nothing
    if malformed:
        record = F.col(_CORRUPT)
        fields = F.from_json(record, "map<string,string>")
        empty = F.array(*(F.when(F.col(f"`{f.name}`").isNull(), F.lit(f.name)) for f in kept.fields))
        lost = F.map_filter(fields, lambda name, value: value.isNotNull() & F.array_contains(empty, name))
        whole = F.create_map(F.lit("_corrupt_record"), record)
        misfits = F.when(record.isNull(), nothing).when(fields.isNull(), whole).otherwise(lost)
    path = F.create_map(F.lit("_file_path"), F.col("_metadata.file_path"))
    found = F.map_concat(beyond, misfits)
    return F.when(F.size(found) > 0, F.to_json(F.map_concat(found, path)))


def _as_text(part: StructField) -> Column:
    column = F.col(f"`{part.name}`")
    nested = part.dataType.typeName() in ("struct", "array", "map")
    return F.to_json(column) if nested else column.cast("string")
