"""The Auto Loader sources of a pipeline's flows."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import BinaryType, LongType, StringType, StructField, StructType, TimestampType, VariantType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.auto_loader import columns as reading
from lakeflow_local.pipelines.auto_loader import files as found_files
from lakeflow_local.pipelines.auto_loader.columns import Columns
from lakeflow_local.pipelines.auto_loader.files import File, Log
from lakeflow_local.pipelines.auto_loader.infer import Found, Inference, load_files
from lakeflow_local.pipelines.auto_loader.misfits import stage
from lakeflow_local.pipelines.auto_loader.options import FIXED_FORMATS, Options, check_format, format_of, parse
from lakeflow_local.pipelines.auto_loader.schema import (
    apply_hints,
    beyond,
    merge,
    one_case,
    partitions,
    readable_as,
    struct,
)
from lakeflow_local.pipelines.storage import Overlay, Storage

_TEXT = StructType([StructField("value", StringType())])
_BINARY = StructType(
    [
        StructField("path", StringType()),
        StructField("modificationTime", TimestampType()),
        StructField("length", LongType()),
        StructField("content", BinaryType()),
    ]
)
# Spark forgets what it has read after a week otherwise, and passes over what is older.
_NEVER = "36500d"


@dataclass
class _Known:
    """What is known of a source's files; kept beside the checkpoint of its flow, and forgotten with it.

    Attributes:
        number: of the source in its flow.
        schema: the columns, without hints; None while nothing was inferred.
        partitions: those of them that come from paths.
        all: every column that a file had, kept or not.
        others: JSON paths of names that differ in case only from a kept one.
        headers, header_of: see `Columns`; of files that no ended batch has.
        staged: files that were written anew, by the path of what they are now.
        bad: why a file is left out, by path.
        existing: paths of files that were there first and are not to be read; None where they are.
    """

    number: int = 0
    schema: StructType | None = None
    partitions: StructType = field(default_factory=StructType)
    all: StructType = field(default_factory=StructType)
    others: list[str] = field(default_factory=list)
    headers: list[tuple[str, ...]] = field(default_factory=list)
    header_of: dict[str, int] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    existing: list[str] | None = None

    def to_json(self) -> dict[str, Any]:
        schemas = {n: json.loads(s.json()) if (s := getattr(self, n)) is not None else None for n in _SCHEMAS}
        return {**self.__dict__, **schemas}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> _Known:
        schemas = {n: StructType.fromJson(kept[n]) if kept[n] else None for n in _SCHEMAS}
        return cls(**{**kept, **schemas, "headers": [tuple(h) for h in kept["headers"]]})


_SCHEMAS = ("schema", "partitions", "all")


@dataclass
class AutoLoader:
    """Sources of one pipeline's flows.

    Attributes:
        report: told of what a person should know: a level (`INFO`, `WARN`) and a message.
    """

    spark: SparkSession
    storage: Storage
    report: Callable[[str, str], None]
    _looked_at: dict[tuple[str, str], set[File]] = field(default_factory=dict)
    _looks: dict[tuple, Found] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _unreadable: dict[str, dict[str, str]] = field(default_factory=dict)
    _waiting: dict[str, dict[str, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._inference = Inference(self.spark, self._warn)
        self._empty = tempfile.TemporaryDirectory(prefix="lakeflow-")

    def load(
        self,
        flow: str,
        path: str | Sequence[str],
        options: Mapping[str, Any],
        schema: StructType | str | None = None,
        *,
        streaming: bool = True,
        sql: bool = False,
    ) -> DataFrame:
        """The rows of the files under `path`, a folder, a file or a glob, or several of them.

        Args:
            flow: the folder of the flow's checkpoint, beside which the schema is kept.
            options: as given to `cloudFiles` or `read_files`, in any case.
            schema: the columns, or None to infer them.
            sql: the options are those of `read_files`: types are inferred unless they say otherwise.

        Raises:
            LakeflowError: no such folder or bucket, no file to infer a schema from, a new column where the mode
                forbids one, an option that Databricks does not know.
            UnsupportedError: an option or a format that has no counterpart here.
        """
        chosen = parse(options, explicit_schema=schema is not None, sql=sql)
        self._tell(chosen)
        paths = [path] if isinstance(path, str) else list(path)
        given = struct(schema) if isinstance(schema, str) else schema
        files = found_files.find(self.spark, paths, chosen)
        if sql and not chosen.format:
            chosen = replace(chosen, format=format_of([f.path for f in files]))
        check_format(chosen.format, chosen.reader)
        source = _Source(self, flow, paths, chosen, given)
        return source.stream(files) if streaming else source.batch(files)

    def has_files_for(self, flow: str) -> bool:
        """Whether files wait for a flow, as of the last look at its folders."""
        return any(self._waiting.get(flow, {}).values())

    def note_unreadable(self, flow: str, message: str) -> bool:
        """Takes the file that a failed query names out of the way; False where the failure is of another kind."""
        match = re.search(r"FAILED_READ_FILE[^\n]*?((?:\w+:)?//?[^\s\"']+?)[.,]?(?:\s|$)", message)
        if not match:
            return False
        file = found_files.plain(match.group(1))
        known = self._unreadable.setdefault(flow, {})
        if file in known:
            return False
        known[file] = "its data cannot be read"
        self._name_bad(known)
        return True

    def _tell(self, options: Options) -> None:
        for name in options.unknown:
            self._warn(f"Auto Loader has no option {name}; it is passed over")
        if options.without_effect:
            self._say("INFO", f"options that change nothing here: {', '.join(options.without_effect)}")

    def _name_bad(self, bad: Mapping[str, str]) -> None:
        for file, reason in bad.items():
            self._warn(f"file {file} was left out: {reason}; mend it and land it under a new name")

    def _warn(self, message: str) -> None:
        self._say("WARN", message)

    def _say(self, level: str, message: str) -> None:
        """Reports what several flows may find, once."""
        if message not in self._said:
            self._said.add(message)
            self.report(level, message)

    def _look(self, files: Sequence[File], options: Options, wanted: StructType | None) -> Found:
        """A look at files, remembered: several flows, and views of one, may read the same."""
        key = (tuple(files), repr(options), repr(wanted))
        if key not in self._looks:
            self._looks[key] = self._inference.look(files, options, wanted)
        return self._looks[key]


class _Source:
    """One call of Auto Loader by one flow."""

    def __init__(
        self, loader: AutoLoader, flow: str, paths: Sequence[str], options: Options, schema: StructType | None
    ):
        self._loader = loader
        self._storage = loader.storage
        self._flow = flow
        self._paths = paths
        self._options = options
        self._explicit = schema
        where = json.dumps([options.format, sorted(options.listing.items()), *paths])
        self._key = hashlib.sha256(where.encode()).hexdigest()[:16]
        self._folder = ("checkpoints", flow, "loader", self._key)

    def stream(self, files: Sequence[File]) -> DataFrame:
        kept = self._storage.read_json(*self._folder, "known.json")
        known = self._known(kept, files)
        options = self._options
        log = Log(self._storage, (*self._folder, "files"), known.number, versions=options.allow_overwrites)
        ended = {key for key, is_over in found_files.taken(self._storage, self._flow).items() if is_over}
        known.bad |= self._loader._unreadable.get(self._flow, {})
        left_out = {*known.bad, *(known.existing or ())}
        fresh = [
            f for f in files if f.path not in left_out and (known.staged.get(f.path, f.path), log.mark(f)) not in ended
        ]
        waiting = {f.path for f in fresh}
        known.header_of = {path: n for path, n in known.header_of.items() if path in waiting}
        looked_at = self._loader._looked_at.setdefault((self._flow, self._key), set())
        unread = [f for f in fresh if f not in looked_at]
        self._learn(known, unread)
        looked_at.update(unread)
        columns = self._columns(known)
        if json.loads(json.dumps(known.to_json())) != kept:
            self._storage.write_json(known.to_json(), *self._folder, "known.json")
        good = [replace(f, path=known.staged.get(f.path, f.path)) for f in fresh if f.path not in known.bad]
        self._loader._waiting.setdefault(self._flow, {})[self._key] = bool(good)
        log.write(good)
        # A dry run writes no log and starts no stream.
        folder = log.folder if self._storage.exists(*self._folder, "files") else self._loader._empty.name
        limits = {**options.limits, "maxFileAge": _NEVER}
        return reading.read(
            self._loader.spark.readStream, lambda reader: reader.options(**limits).load(folder), columns, options
        )

    def batch(self, files: Sequence[File]) -> DataFrame:
        known = _Known(bad=dict(self._loader._unreadable.get(self._flow, {})))
        self._learn(known, [f for f in files if f.path not in known.bad])
        columns = self._columns(known)
        good = [replace(f, path=known.staged.get(f.path, f.path)) for f in files if f.path not in known.bad]
        load = load_files(good) if good else lambda reader: reader.load(self._loader._empty.name)
        return reading.read(self._loader.spark.read, load, columns, self._options)

    def _known(self, kept: dict[str, Any] | None, files: Sequence[File]) -> _Known:
        if kept is not None:
            return _Known.from_json(kept)
        first = None if self._options.include_existing else [f.path for f in files]
        return _Known(number=len(self._storage.names(*self._folder[:-1])), existing=first)

    def _learn(self, known: _Known, files: Sequence[File]) -> None:
        """Looks at files and adds what they have to what is known.

        Raises:
            LakeflowError: they have new columns, and the mode forbids it.
        """
        options = self._options
        if options.partitions != () and files:
            bases = [found_files.base(found_files.plain(p).rstrip("/") + "/") for p in self._bases()]
            here = partitions([f.path for f in files], bases, options.partitions)
            known.partitions = merge(known.partitions, here)
        if not files or options.variant or options.format in FIXED_FORMATS or not self._needs_look():
            return
        wanted = self._effective(known) if self._explicit is not None or known.schema is not None else None
        found = self._loader._look(files, options, wanted)
        self._take_headers(known, found)
        self._take_bad(known, files, found, wanted)
        if found.schema is None:
            return
        kept = StructType() if wanted is None else wanted
        schema, others = one_case(found.schema, kept) if options.format in ("json", "csv") else (found.schema, [])
        if options.rescued and others:
            known.others = sorted({*known.others, *others})
        new = beyond(kept, schema)
        names = [f.name for f in new.fields] if isinstance(new, StructType) else []
        if wanted is not None and new is not None and options.mode == "failonnewcolumns":
            raise LakeflowError(
                f"files under {', '.join(self._paths)} have new columns: {', '.join(names)}; add them to the schema, "
                "or choose another schemaEvolutionMode than failOnNewColumns"
            )
        known.all = merge(known.all, schema)
        if self._explicit is not None and not options.evolves:
            return
        if known.schema is None:
            known.schema = merge(self._explicit, schema) if self._explicit is not None else schema
        elif options.evolves:
            widen = options.mode.endswith("typewidening")
            merged = merge(known.schema, schema, widen=widen)
            if merged != known.schema and new is not None:
                self._loader._say("INFO", f"new columns in {', '.join(self._paths)}: {', '.join(names)}")
            known.schema = merged

    def _bases(self) -> Sequence[str]:
        """Paths as their files' URLs begin."""
        return [p if re.match(r"\w+:", p) else f"file:{p}" for p in self._paths]

    def _needs_look(self) -> bool:
        options = self._options
        return self._explicit is None or options.evolves or options.format == "csv" or options.rescued is not None

    def _take_headers(self, known: _Known, found: Found) -> None:
        for path, header in found.headers.items():
            if header not in known.headers:
                known.headers.append(header)
            number = known.headers.index(header)
            if number:
                known.header_of[path] = number

    def _take_bad(self, known: _Known, files: Sequence[File], found: Found, wanted: StructType | None) -> None:
        bad = dict(found.bad)
        if found.misfits:
            kept = wanted or found.schema
            if self._options.evolves:
                kept = merge(kept, found.schema)
            by_path = {f.path: f for f in files}
            widens = self._options.mode.endswith("typewidening")
            for path, schema in found.misfits.items():
                if widens and readable_as(schema, merge(kept, schema, widen=True)):
                    found.schema = merge(found.schema, schema, widen=True)
                    continue
                if self._options.rescued and not isinstance(self._storage, Overlay):
                    target = self._storage.path(*self._folder, "staged")
                    known.staged[path] = stage(
                        self._loader.spark, by_path[path], schema, kept, target, self._options, self._bases()
                    )
                else:
                    bad[path] = "its columns have other types than the schema"
        known.bad |= bad
        self._loader._name_bad(bad)

    def _effective(self, known: _Known) -> StructType:
        if self._explicit is not None and not (self._options.evolves and known.schema is not None):
            return self._explicit
        return apply_hints(known.schema or StructType(), self._options.hints)

    def _columns(self, known: _Known) -> Columns:
        options = self._options
        fixed = {"text": _TEXT, "binaryfile": _BINARY}.get(options.format)
        if options.variant:
            kept = StructType([StructField(options.variant, VariantType())])
        elif self._explicit is None and fixed is not None:
            kept = fixed
        elif self._explicit is None and known.schema is None and not options.hints:
            raise LakeflowError(
                f"no file under {', '.join(self._paths)} to infer the columns from: land one first, or give the schema"
            )
        else:
            kept = self._effective(known)
        extras = beyond(kept, merge(kept, known.all)) if options.rescued else None
        parts = [
            StructField(f.name, own.dataType if (own := _in(kept, f.name)) else f.dataType)
            for f in known.partitions.fields
            if self._explicit is None or options.partitions or _in(kept, f.name)
        ]
        headers = list(known.headers)
        names = [f.name for f in kept.fields if f.name not in {p.name for p in parts}]
        by_position = False
        if self._explicit is not None and options.format == "csv":
            lower = {n.lower() for n in names}
            if not options.flag("header"):
                by_position = True
            elif not options.rescued and options.flag("enforceschema", True):
                by_position = bool(headers) and all(lower.isdisjoint(n.lower() for n in h) for h in headers)
                if by_position:
                    self._loader._warn(
                        f"the header of files under {', '.join(self._paths)} has none of the schema's columns; "
                        "they are read by position"
                    )
        closed = sorted({url for path in known.bad for url in _spellings(path)})
        return Columns(
            kept=kept,
            partitions=StructType(parts),
            extras=extras if isinstance(extras, StructType) else StructType(),
            others=known.others,
            headers=headers,
            header_of={url: n for path, n in known.header_of.items() for url in _spellings(path)},
            by_position=by_position,
            closed=closed,
        )


def _in(schema: StructType, name: str) -> StructField | None:
    return schema[name] if name in schema.names else None


def _spellings(path: str) -> set[str]:
    """How `_metadata.file_path` may spell a file."""
    return {path, found_files.url(path)}
