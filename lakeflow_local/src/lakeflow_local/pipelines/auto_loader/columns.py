"""Reads files by a schema and makes the rescued-data column of what does not fit.

What a row holds beyond the kept columns, or in another type or spelling, becomes JSON with the file's path: values as
the file writes them, nested fields below their parents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StringType, StructField, StructType

from lakeflow_local.pipelines.auto_loader.options import FIXED_FORMATS, Options
from lakeflow_local.pipelines.auto_loader.schema import as_strings, beyond, merge

CORRUPT = "__malformed"
MISFIT = "__misfit"
_FILE = "_metadata.file_path"
# Options of a CSV file's values, which its lines' shape has nothing to do with.
_VALUES = (
    "dateformat",
    "enabledatetimeparsingfallback",
    "locale",
    "nanvalue",
    "negativeinf",
    "positiveinf",
    "timestampformat",
    "timestampntzformat",
    "timezone",
)


@dataclass(frozen=True)
class Columns:
    """What is read of files.

    Attributes:
        kept: the columns of the files, in order.
        partitions: the columns that come from the files' paths.
        extras: fields that files have beyond `kept`, as `schema.beyond` gives them; rescued where that is asked for.
        others: JSON paths of names that differ from a kept one in case only.
        headers: of CSV files, one a kind of file.
        header_of: which of them a file has, where it is not the first; by URL.
        by_position: CSV values go to the columns of `kept` in their order, whatever the header says.
        closed: URLs of files that must not be opened.
    """

    kept: StructType
    partitions: StructType = field(default_factory=StructType)
    extras: StructType = field(default_factory=StructType)
    others: Sequence[str] = ()
    headers: Sequence[Sequence[str]] = ()
    header_of: Mapping[str, int] = field(default_factory=dict)
    by_position: bool = False
    closed: Sequence[str] = ()


def read(reader: Any, load: Callable[[Any], DataFrame], columns: Columns, options: Options) -> DataFrame:
    """Reads files into the kept columns, the partitions' and the rescued-data column.

    Args:
        reader: `spark.read` or `spark.readStream`.
        load: reads the files with the reader once it has its format, schema and options.
    """
    reading = _Reading(reader, load, columns, options)
    if options.variant or options.format in FIXED_FORMATS:
        frame, values, rescued = reading.plain()
    elif options.format == "csv":
        frame, values, rescued = reading.csv()
    elif options.format == "json":
        frame, values, rescued = reading.json()
    else:
        frame, values, rescued = reading.native()
    values |= {f.name: _partition(f) for f in columns.partitions.fields}
    order = [f.name for f in columns.kept.fields if f.name in values]
    chosen = [values[name].alias(name) for name in [*order, *(n for n in values if n not in order)]]
    if options.rescued:
        chosen.append(_as_json(rescued).alias(options.rescued))
    return frame.select(*chosen)


# What is rescued of a field: a VARIANT, NULL for nothing; or that of its parts by name, and of the whole under None.
# Keys are names of fields, and None for what has no field.
_Rescued: TypeAlias = Mapping[Any, Any]
_Tree: TypeAlias = Column | _Rescued


class _Reading:
    def __init__(self, reader: Any, load: Callable[[Any], DataFrame], columns: Columns, options: Options):
        self._reader = reader
        self._load = load
        self._columns = columns
        self._options = options
        elsewhere = {options.rescued, *columns.partitions.names}
        self._kept = [f for f in columns.kept.fields if f.name not in elsewhere]

    def _open(self, schema: StructType, file_format: str | None = None, **more: str) -> DataFrame:
        options = {**self._options.reader, "recursiveFileLookup": "true", **more}
        reader = self._reader.format(file_format or self._options.format).options(**options)
        frame = self._load(reader.schema(schema))
        if self._columns.closed:
            # Spark does not open such files. `ignoreCorruptFiles` would pass over others too, without a word.
            frame = frame.where(~F.col(_FILE).isin(*self._columns.closed))
        return frame

    def plain(self) -> tuple[DataFrame, dict[str, Column], _Rescued]:
        frame = self._open(StructType(self._kept))
        return frame, {f.name: _column(f.name) for f in self._kept}, {}

    def native(self) -> tuple[DataFrame, dict[str, Column], _Rescued]:
        """Parquet, Avro, ORC and XML, which match fields by name."""
        wide = self._wide()
        xml = self._options.format == "xml"
        if not xml:
            staged = StructType([*wide.fields, StructField(MISFIT, StringType())])
            frame = self._open(staged if self._options.rescued else wide)
            misfits: _Rescued = {None: F.try_parse_json(_column(MISFIT))}
            return frame, self._narrowed(wide), {**self._beyond(wide), **misfits}
        if not self._options.rescued:
            return self._open(wide), self._narrowed(wide), {}
        # XML's reader says of a value that does not fit no more than the whole document, so values are read as text.
        as_text = StructType([StructField(f.name, _text_of(f.dataType)) for f in wide.fields])
        corrupt = StructField(CORRUPT, StringType())
        frame = self._open(StructType([*as_text.fields, corrupt]), columnNameOfCorruptRecord=CORRUPT)
        texts = {f.name: _column(f.name) for f in as_text.fields}
        values, misfits = self._typed(texts)
        frame = frame.select("*", *values.pop("", ()))
        narrowed = self._narrowed(wide)
        values = {n: narrowed[n] if not isinstance(as_text[n].dataType, StringType) else v for n, v in values.items()}
        rescued = {**_merged(misfits, self._beyond(wide)), "_corrupt_record": _variant(_column(CORRUPT))}
        return frame, values, rescued

    def json(self) -> tuple[DataFrame, dict[str, Column], _Rescued]:
        wide = self._wide()
        if not self._options.rescued:
            return self._open(wide), self._narrowed(wide), {}
        schema = StructType([*wide.fields, StructField(CORRUPT, StringType())])
        names = {"columnNameOfCorruptRecord": CORRUPT, "mode": "PERMISSIVE"}
        if not self._columns.others:
            frame = self._open(schema, **names)
            record = _column(CORRUPT)
            others: dict[str, Column] = {}
        else:
            # Two names that differ in case only cannot be two columns, so the record is read as text beside them.
            whole = str(self._options.flag("multiline")).lower()
            frame = self._open(StructType([StructField("value", StringType())]), "text", wholetext=whole)
            if whole == "true":
                records = F.when(F.ltrim("value").startswith("["), F.from_json("value", "array<string>"))
                frame = frame.select(F.explode(F.coalesce(records, F.array("value"))).alias("value"))
            kept = {k: v for k, v in self._options.reader.items() if k not in ("multiline", "mode")}
            frame = frame.where(F.trim("value") != "")
            frame = frame.select("value", F.from_json("value", schema, {**kept, **names}).alias("row"))
            frame = frame.select("value", "row.*")
            record = _column(CORRUPT)
            others = {_name_of(p): _variant(F.get_json_object("value", p)) for p in self._columns.others}
        misfits = self._misfits_of(record)
        return frame, self._narrowed(wide), {**_merged(misfits, self._beyond(wide)), **others}

    def csv(self) -> tuple[DataFrame, dict[str, Column], _Rescued]:
        """By the names of each file's header, which Spark's reader does not do: it is asked for strings by position."""
        headers = self._columns.headers or [[f.name for f in self._kept]]
        width = max(map(len, headers))
        cells = [StructField(f"_c{i}", StringType()) for i in range(width + 1)]
        schema = StructType([*cells, StructField(CORRUPT, StringType())])
        frame = self._open(
            schema, columnNameOfCorruptRecord=CORRUPT, mode="PERMISSIVE", enforceSchema="true", inferSchema="false"
        )
        groups = self._groups()
        texts: dict[str, Column] = {}
        for i, part in enumerate(self._kept):
            positions = [
                (i if i < len(h) else None) if self._columns.by_position else self._position(part.name, h)
                for h in headers
            ]
            texts[part.name] = _by_group(groups, [_cell(p) for p in positions])
        extras = {
            f.name: _variant(_by_group(groups, [_cell(_exactly(f.name, h)) for h in headers]))
            for f in (
                *self._columns.extras.fields,
                *(StructField(_name_of(p), StringType()) for p in self._columns.others),
            )
        }
        too_long = _by_group(groups, [_cell(len(h)) for h in headers]).isNotNull()
        record = F.coalesce(_column(CORRUPT), F.to_csv(F.struct(*(_column(c.name) for c in cells))))
        values, misfits = self._typed(texts)
        frame = frame.select("*", *values.pop("", ()))
        bad = too_long
        for misfit in misfits.values():
            bad = bad | misfit.isNotNull()
        mode = self._options.reader.get("mode", "permissive").lower()
        if mode == "dropmalformed":
            frame = frame.where(~bad)
        elif mode == "failfast":
            said = F.lit("a CSV record does not fit its columns, and its mode is FAILFAST")
            frame = frame.where(F.when(bad, F.raise_error(said).cast("boolean")).otherwise(True))
        corrupt = self._options.reader.get("columnnameofcorruptrecord", "_corrupt_record")
        if corrupt in values and all(corrupt not in h for h in headers):
            values[corrupt] = F.when(bad, record)
        return frame, values, {**misfits, **extras, "_corrupt_record": F.when(too_long, _variant(record))}

    def _position(self, name: str, header: Sequence[str]) -> int | None:
        exact = _exactly(name, header)
        if exact is not None or (self._options.rescued and self._options.case_sensitive):
            return exact
        return next((i for i, n in enumerate(header) if n.lower() == name.lower()), None)

    def _groups(self) -> list[Column]:
        """For each header after the first, whether a row's file has it."""
        files: dict[int, list[str]] = {}
        for file, number in self._columns.header_of.items():
            files.setdefault(number, []).append(file)
        nothing = F.lit(False)
        return [F.col(_FILE).isin(*files[n]) if n in files else nothing for n in range(1, len(self._columns.headers))]

    def _typed(self, texts: dict[str, Column]) -> tuple[dict[str, Any], dict[str, Column]]:
        """Text as the types of the kept columns, by the rules of Spark's CSV: the values, and what did not fit.

        Under "" are the columns that have to be selected first.
        """
        typed = [f for f in self._kept if f.name in texts and _is_plain(f.dataType)]
        values: dict[str, Any] = {f.name: texts[f.name] for f in self._kept if f.name in texts}
        if not typed:
            return values, {}
        options = {k: v for k, v in self._options.reader.items() if k in _VALUES}
        record = F.to_csv(F.struct(*(texts[f.name].alias(f"c{i}") for i, f in enumerate(typed))), {"quoteAll": "true"})
        schema = ", ".join(f"c{i} {f.dataType.simpleString()}" for i, f in enumerate(typed))
        # one conversion a row, however many columns ask for its parts
        values[""] = [F.from_csv(record, schema, options).alias("__typed")]
        misfits = {}
        for i, part in enumerate(typed):
            values[part.name] = F.col(f"__typed.c{i}")
            lost = texts[part.name].isNotNull() & (texts[part.name] != "") & values[part.name].isNull()
            misfits[part.name] = F.when(lost, _variant(texts[part.name]))
        return values, misfits

    def _wide(self) -> StructType:
        """The kept columns and what is rescued, as the format's reader reads them."""
        kept = StructType(self._kept)
        if not self._options.rescued:
            return _nullable(kept)
        extras = self._columns.extras
        text = self._options.format in ("json", "xml")
        return _nullable(merge(kept, cast(StructType, as_strings(extras)) if text else extras))

    def _narrowed(self, wide: StructType) -> dict[str, Column]:
        return {f.name: _narrow(_column(f.name), wide[f.name].dataType, f.dataType) for f in self._kept}

    def _beyond(self, wide: StructType) -> _Rescued:
        rest = beyond(StructType(self._kept), wide)
        fields = rest.fields if isinstance(rest, StructType) else []
        return {f.name: _rest(_column(f.name), f.dataType) for f in fields}

    def _misfits_of(self, record: Column) -> _Rescued:
        """What a JSON record holds where its column is NULL; the record itself where it is no JSON."""
        lost = {f.name: _lost(_column(f.name), f.dataType, record, f"$['{f.name}']") for f in self._kept}
        some = F.lit(False)
        for part in lost.values():
            some = some | _rendered(part).isNotNull()
        # An element of an array or a map that does not fit has no path of its own: the whole of them is kept.
        for item in self._kept:
            if isinstance(item.dataType, ArrayType | MapType):
                whole = _variant(F.get_json_object(record, f"$['{item.name}']"))
                lost[item.name] = F.coalesce(_rendered(lost[item.name]), F.when(~some, whole))
        is_json = F.get_json_object(record, "$").isNotNull()
        return {**lost, "_corrupt_record": F.when(~is_json, _variant(record))}


def _lost(column: Column, kind: DataType, record: Column, path: str) -> _Tree:
    whole = F.when(column.isNull(), _variant(F.get_json_object(record, path)))
    if not isinstance(kind, StructType):
        return whole
    inner = {f.name: _lost(column.getField(f.name), f.dataType, record, f"{path}['{f.name}']") for f in kind.fields}
    return {None: whole, **inner}


def _narrow(column: Column, wide: Any, kept: Any) -> Column:
    """`column` of type `wide` with the fields of `kept` only."""
    if beyond(kept, wide) is None:
        return column
    if isinstance(kept, ArrayType):
        return F.transform(column, lambda item: _narrow(item, wide.elementType, kept.elementType))
    inner = (_narrow(column.getField(f.name), wide[f.name].dataType, f.dataType).alias(f.name) for f in kept.fields)
    return F.when(column.isNotNull(), F.struct(*inner))


def _rest(column: Column, kind: DataType) -> _Tree:
    """The fields of `column` that `kind` names."""
    if isinstance(kind, StructType):
        return {f.name: _rest(column.getField(f.name), f.dataType) for f in kind.fields}
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StructType):
        items = F.transform(column, lambda item: _rendered(_rest(item, kind.elementType)))
        return F.when(F.exists(items, lambda item: item.isNotNull()), F.to_variant_object(items))
    if isinstance(kind, ArrayType | MapType):
        return F.when(column.isNotNull(), F.to_variant_object(column))
    return _variant(column)


def _merged(one: _Rescued, other: _Rescued) -> _Rescued:
    return {**one, **other, **{name: _both(one[name], other[name]) for name in one.keys() & other.keys()}}


def _both(one: _Tree, other: _Tree) -> _Tree:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _merged(one, other)
    return F.coalesce(_rendered(one), _rendered(other))


def _rendered(tree: _Tree) -> Column:
    """One VARIANT, NULL where nothing is rescued."""
    if not isinstance(tree, Mapping):
        return tree
    found = _found({name: part for name, part in tree.items() if name is not None})
    inner = F.when(F.size(found) > 0, F.to_variant_object(found))
    return F.coalesce(tree[None], inner) if None in tree else inner


def _found(values: Mapping[str, _Tree]) -> Column:
    pairs = [part for name, value in values.items() for part in (F.lit(name), _rendered(value))]
    return F.map_filter(F.create_map(*pairs), lambda _, value: value.isNotNull())


def _variant(column: Column) -> Column:
    return column.cast("string").cast("variant")


def _as_json(rescued: _Rescued) -> Column:
    """JSON of what a row held beyond the kept columns, and NULL where there was nothing."""
    # of a file that was written anew; its rows bring their JSON along
    staged = rescued.get(None)
    named = {name: value for name, value in rescued.items() if name is not None}
    if not named and staged is None:
        return F.lit(None).cast("string")
    path = F.create_map(F.lit("_file_path"), _variant(F.col(_FILE)))
    found = _found(named) if named else F.create_map().cast("map<string,variant>")
    json = F.when(F.size(found) > 0, F.to_json(F.map_concat(found, path)))
    return json if staged is None else F.coalesce(_column(MISFIT), json)


def _partition(part: StructField) -> Column:
    """A hive-style column, from the path: escaped once by its writer and once by its URL."""
    encoded = F.regexp_extract(F.col(_FILE), f"/{_escaped(part.name)}=([^/]*)/", 1)
    text = F.url_decode(F.replace(F.url_decode(F.replace(encoded, F.lit("+"), F.lit("%2B"))), F.lit("+"), F.lit("%2B")))
    given = F.when(~encoded.isin("", "__HIVE_DEFAULT_PARTITION__"), text)
    return given.try_cast(part.dataType)


def _escaped(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else f"\\{c}" for c in name)


def _by_group(groups: Sequence[Column], values: Sequence[Column]) -> Column:
    """The value of a row's group; groups that have the same value need no test."""
    first = str(values[0])
    result = values[0]
    for group, value in zip(groups, values[1:], strict=True):
        if str(value) != first:
            result = F.when(group, value).otherwise(result)
    return result


def _cell(position: int | None) -> Column:
    return F.lit(None).cast("string") if position is None else F.col(f"_c{position}")


def _exactly(name: str, header: Sequence[str]) -> int | None:
    return header.index(name) if name in header else None


def _name_of(path: str) -> str:
    return path[3:-2].replace("']['", ".")


def _is_plain(kind: DataType) -> bool:
    return not isinstance(kind, StringType | StructType | ArrayType | MapType)


def _text_of(kind: DataType) -> DataType:
    return StringType() if _is_plain(kind) else kind


def _nullable(schema: StructType) -> StructType:
    return StructType([StructField(f.name, f.dataType, True) for f in schema.fields])


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")
