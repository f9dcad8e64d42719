"""Looks at files for the columns that they have."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StringType, StructField, StructType

from lakeflow_local.pipelines.auto_loader.columns import CORRUPT
from lakeflow_local.pipelines.auto_loader.files import File, Heads, plain
from lakeflow_local.pipelines.auto_loader.options import TYPED_FORMATS, Options
from lakeflow_local.pipelines.auto_loader.schema import common, hinted_inside, merge, readable_as, without_void

# Databricks infers from the first so many files and bytes; what later files have in addition is found all the same.
SAMPLE_FILES = 1000
SAMPLE_BYTES = 50 << 30


@dataclass
class Found:
    """What a look at files found.

    Attributes:
        schema: their columns, names that differ in case apart; None where no file could be read.
        headers: of CSV files, by path.
        bad: why a file cannot be read, by path.
        misfits: files with columns that cannot be read as those that are wanted, with their own schema, by path.
    """

    schema: StructType | None = None
    headers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    misfits: dict[str, StructType] = field(default_factory=dict)

    def add(self, other: Found) -> None:
        if self.schema is not None and other.schema is not None:
            self.schema = merge(self.schema, other.schema)
        self.schema = self.schema or other.schema
        self.headers |= other.headers
        self.bad |= other.bad
        self.misfits |= other.misfits


class Inference:
    """Looks at files; cost grows with those it is given. JSON, XML and typed CSV are read once for it."""

    def __init__(self, spark: SparkSession, warn: Callable[[str], None]):
        self._spark = spark
        self._warn = warn
        self._heads = Heads(spark)
        # JSON's names may differ in case only, which a session that is told to tell them apart alone can say.
        self._by_case = spark.newSession()
        for name, value in {"caseSensitive": "true", "session.timeZone": "UTC"}.items():
            self._by_case.conf.set(f"spark.sql.{name}", value)

    def look(self, files: Sequence[File], options: Options, wanted: StructType | None) -> Found:
        """The columns of `files`, by types where those are asked for.

        Args:
            wanted: the columns that are known, None at first; a file that disagrees in a type is a misfit.
        """
        if options.format == "csv":
            return self._csv(files, options)
        sample = _sample(files) if wanted is None else files
        found = self._halving(sample, options, wanted)
        if len(sample) < len(files):
            found.add(self._halving(files[len(sample) :], options, wanted))
        if options.format in TYPED_FORMATS and found.schema is not None:
            found = self._apart(files, options, found, wanted or found.schema)
        return found

    def _halving(self, files: Sequence[File], options: Options, wanted: StructType | None = None) -> Found:
        """Halving finds the few bad ones among many without a look at each."""
        if not files:
            return Found()
        try:
            return Found(self._schema(files, options, wanted))
        except (PySparkException, Py4JJavaError):
            if len(files) == 1:
                return Found(bad={files[0].path: f"it is not a readable {options.format} file"})
        found = self._halving(files[: len(files) // 2], options, wanted)
        found.add(self._halving(files[len(files) // 2 :], options, wanted))
        return found

    def _apart(self, files: Sequence[File], options: Options, all_of: Found, wanted: StructType) -> Found:
        """Names the files whose columns have other types than those that are wanted."""
        good = [f for f in files if f.path not in all_of.bad]
        try:
            schema = self._schema(good, options) if good else all_of.schema
            if readable_as(schema, wanted):
                return all_of
        except (PySparkException, Py4JJavaError):
            schema = None
        if len(good) == 1:
            return Found(all_of.schema, bad=all_of.bad, misfits={good[0].path: schema})
        found = Found(all_of.schema, bad=all_of.bad)
        for half in (good[: len(good) // 2], good[len(good) // 2 :]):
            found.misfits |= self._apart(half, options, Found(all_of.schema), wanted).misfits
        return found

    def _schema(self, files: Sequence[File], options: Options, wanted: StructType | None = None) -> StructType:
        if options.format == "avro":
            return self._avro(files, options)
        if options.format in TYPED_FORMATS:
            return _load(self._reader(options).option("mergeSchema", "true"), files).schema
        reader = self._reader(options, self._by_case)
        if options.format == "xml":
            reader = reader.option("inferSchema", str(options.infer_types).lower())
        else:
            reader = reader.option("primitivesAsString", str(not options.infer_types).lower())
        schema = _load(reader.option("columnNameOfCorruptRecord", CORRUPT), files).schema
        if CORRUPT in schema.names:
            self._name_malformed(files, options)
        nested = hinted_inside(options.hints)
        nested |= {f.name.lower() for f in (wanted or StructType()).fields if not isinstance(f.dataType, StringType)}
        fields = []
        for part in schema.fields:
            if part.name != CORRUPT:
                text = not options.infer_types and part.name.lower() not in nested
                fields.append(StructField(part.name, StringType() if text else without_void(part.dataType)))
        return StructType(fields)

    def _name_malformed(self, files: Sequence[File], options: Options) -> None:
        # a second column, since a query of the malformed records alone is refused
        schema = StructType([StructField("__any", StringType()), StructField(CORRUPT, StringType())])
        reader = self._reader(options).schema(schema).option("columnNameOfCorruptRecord", CORRUPT)
        rows = (
            _load(reader, files)
            .select(CORRUPT, "__any", F.col("_metadata.file_path").alias("file"))
            .where(F.col(CORRUPT).isNotNull())
            .groupBy("file")
            .agg(F.count(F.lit(1)).alias("records"), F.first("__any"))
            .collect()
        )
        for row in rows:
            self._warn(f"file {plain(row.file)} has {row.records} malformed records; see the rescued data")

    def _avro(self, files: Sequence[File], options: Options) -> StructType:
        """Spark takes one file's schema for that of all, so one file of each schema is asked."""
        heads = self._heads.read(files, _avro_schema)
        one_of_each: dict[bytes, File] = {}
        for file in files:
            if heads[file.path] is None:
                raise PySparkException(f"{file.path} is no Avro file")
            one_of_each.setdefault(heads[file.path], file)
        schema = StructType()
        for file in one_of_each.values():
            schema = merge(schema, _load(self._reader(options), [file]).schema)
        return schema

    def _csv(self, files: Sequence[File], options: Options) -> Found:
        found = Found()
        for path, header in self._heads.read(files, lambda head: _header(head, options)).items():
            if header is None:
                found.bad[path] = "it is not a readable csv file"
            elif header:
                found.headers[path] = header
        schema: dict[str, DataType] = {}
        for header in dict.fromkeys(found.headers.values()):
            types: dict[str, DataType] = dict.fromkeys(header, StringType())
            if options.infer_types:
                alike = [f for f in _sample(files) if found.headers.get(f.path) == header]
                reader = self._reader(options).option("inferSchema", "true").option("enforceSchema", "true")
                types |= {f.name: without_void(f.dataType) for f in _load(reader, alike).schema} if alike else {}
            for name, kind in types.items():
                schema[name] = common(schema[name], kind) if name in schema else kind
        if schema:
            found.schema = StructType([StructField(name, kind) for name, kind in schema.items()])
        return found

    def _reader(self, options: Options, spark: SparkSession | None = None) -> Any:
        return (spark or self._spark).read.format(options.format).options(**options.reader)


def _load(reader: Any, files: Sequence[File]) -> DataFrame:
    # names of files may hold what a glob would mean; so does Spark's own file stream load them
    return reader.option("__globPaths__", "false").option("recursiveFileLookup", "true").load([f.path for f in files])


def load_files(files: Sequence[File]) -> Callable[[Any], DataFrame]:
    return lambda reader: _load(reader, files)


def _sample(files: Sequence[File]) -> list[File]:
    sample: list[File] = []
    size = 0
    for file in files[:SAMPLE_FILES]:
        if sample and size > SAMPLE_BYTES:
            break
        sample.append(file)
        size += file.size
    return sample


def _header(head: bytes, options: Options) -> tuple[str, ...]:
    """The columns of a CSV file by its first record, named as Spark names them; none of an empty file."""
    reader = options.reader
    text = head.decode(reader.get("encoding") or reader.get("charset") or "utf-8-sig", errors="replace").lstrip(
        "\ufeff"
    )
    comment = reader.get("comment")
    separator = (reader.get("sep") or reader.get("delimiter") or ",").replace("\\t", "\t")
    text = text.replace(reader.get("linesep", "\n"), "\n")
    lines = (
        line for line in io.StringIO(text, newline="") if line.strip() and not (comment and line.startswith(comment))
    )
    if len(separator) > 1:
        first = next(lines, "").rstrip("\r\n")
        cells = first.split(separator) if first else []
    else:
        quote = reader.get("quote", '"') or None
        parsed = csv.reader(
            lines,
            delimiter=separator,
            quotechar=quote,
            escapechar=reader.get("escape", "\\") if reader.get("escape", "\\") != quote else None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
        cells = next(parsed, [])
    if not options.flag("header"):
        return tuple(f"_c{i}" for i in range(len(cells)))
    lower = [c.lower() for c in cells]
    null = reader.get("nullvalue", "")
    return tuple(
        f"_c{i}" if cell in ("", null) else f"{cell}{i}" if lower.count(cell.lower()) > 1 else cell
        for i, cell in enumerate(cells)
    )


def _avro_schema(head: bytes) -> bytes | None:
    """The writer's schema in the head of an Avro file, None where it has none."""
    stream = io.BytesIO(head)

    def number() -> int:
        value = shift = 0
        while True:
            (byte,) = stream.read(1)
            value |= (byte & 127) << shift
            if byte < 128:
                return (value >> 1) ^ -(value & 1)
            shift += 7

    try:
        if stream.read(4) != b"Obj\x01":
            return None
        while count := number():
            if count < 0:
                number()
            for _ in range(abs(count)):
                name = stream.read(number())
                value = stream.read(number())
                if name == b"avro.schema":
                    return json.dumps(json.loads(value), sort_keys=True).encode()
    except ValueError:
        return None
    return None
