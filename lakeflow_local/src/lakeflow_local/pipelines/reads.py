"""Sees what dataset functions read.

Sources call `spark.read.table`, `spark.readStream.table`, `spark.table`, `spark.sql`,
`spark.readStream.format("cloudFiles")` and readers of paths and message buses on an ordinary classic session. While
they are resolved and run, these methods pass by a reader that knows the pipeline's datasets and what stands for what a
workspace has; everything else stays Spark's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.streaming.readwriter import DataStreamReader

from lakeflow_local.pipelines.message_buses import BUSES

CLOUD_FILES = "cloudfiles"
_AnyReader = DataFrameReader | DataStreamReader


class Reader(Protocol):
    """What the calls are handed to; `read` is Spark's own method, bound."""

    def table(self, name: str, read: Callable[[str], DataFrame], *, streaming: bool = False) -> DataFrame: ...

    def query(self, text: str, run: Callable[[str], DataFrame]) -> DataFrame: ...

    def cloud_files(self, path: Any, options: dict[str, Any], schema: Any) -> DataFrame: ...

    def message_bus(self, bus: str, options: dict[str, Any], *, streaming: bool) -> DataFrame: ...

    def local(self, path: str) -> str:
        """Where a path of the source lies here."""
        ...


@contextmanager
def seen_by(reader: Reader) -> Iterator[None]:
    """Hands the reads of this process to `reader` until the context ends."""

    def session_table(original: Callable) -> Callable:
        return lambda self, tableName: reader.table(tableName, lambda name: original(self, name))

    def reader_table(original: Callable) -> Callable:
        return lambda self, tableName: reader.table(tableName, lambda name: original(self, name))

    def stream_table(original: Callable) -> Callable:
        return lambda self, tableName: reader.table(tableName, lambda name: original(self, name), streaming=True)

    def session_sql(original: Callable) -> Callable:
        def sql(self: SparkSession, sqlQuery: str, args: Any = None, **named: Any) -> DataFrame:
            return reader.query(sqlQuery, lambda text: original(self, text, args, **named))

        return sql

    def noting(original: Callable, note: Callable[..., None]) -> Callable:
        def method(self: _AnyReader, *args: Any, **kwargs: Any) -> _AnyReader:
            note(self.__dict__.setdefault("_noted", {"options": {}}), *args, **kwargs)
            return original(self, *args, **kwargs)

        return method

    def note_format(noted: dict, source: str) -> None:
        noted["format"] = source.lower()

    def note_option(noted: dict, key: str, value: Any) -> None:
        noted["options"][key] = value

    def note_options(noted: dict, **options: Any) -> None:
        noted["options"].update(options)

    def note_schema(original: Callable) -> Callable:
        def schema(self: _AnyReader, schema: Any) -> _AnyReader:
            self.__dict__.setdefault("_noted", {"options": {}})["schema"] = schema
            return original(self, schema)

        return schema

    def load(original: Callable) -> Callable:
        def load(
            self: _AnyReader,
            path: str | list[str] | None = None,
            format: str | None = None,
            schema: Any = None,
            **options: Any,
        ) -> DataFrame:
            noted = self.__dict__.get("_noted", {"options": {}})
            source = (format or noted.get("format", "")).lower()
            streaming = isinstance(self, DataStreamReader)
            every = {**noted["options"], **options}
            named = next((every.pop(name) for name in list(every) if name.lower() == "path"), None)
            path = path if path is not None else named
            if source == CLOUD_FILES and streaming:
                return reader.cloud_files(path, every, schema if schema is not None else noted.get("schema"))
            if source in BUSES:
                return reader.message_bus(source, every, streaming=streaming)
            return original(self, _each(reader.local, path), format, schema, **options)

        return load

    def of_paths(original: Callable) -> Callable:
        def method(self: _AnyReader, *args: Any, **kwargs: Any) -> DataFrame:
            for name in {"path", "paths"} & set(kwargs):
                kwargs[name] = _each(reader.local, kwargs[name])
            # of the readers' methods only `parquet` and `orc` take several paths by position; others take a schema next
            several = original.__name__ in ("parquet", "orc")
            local = [_each(reader.local, a) if several or i == 0 else a for i, a in enumerate(args)]
            return original(self, *local, **kwargs)

        return method

    with _replaced(
        (SparkSession, "table", session_table),
        (SparkSession, "sql", session_sql),
        (DataFrameReader, "table", reader_table),
        (DataStreamReader, "table", stream_table),
        *(
            (owner, name, wrap)
            for owner in (DataFrameReader, DataStreamReader)
            for name, wrap in (
                ("format", lambda o: noting(o, note_format)),
                ("option", lambda o: noting(o, note_option)),
                ("options", lambda o: noting(o, note_options)),
                ("schema", note_schema),
                ("load", load),
                *((file_format, of_paths) for file_format in ("json", "csv", "parquet", "orc", "text", "xml")),
            )
        ),
    ):
        yield


def _each(local: Callable[[str], str], paths: Any) -> Any:
    """Paths, one or several, as they lie here; what is no path stays as it is."""
    if isinstance(paths, str):
        return local(paths)
    return [_each(local, p) for p in paths] if isinstance(paths, list | tuple) else paths


@contextmanager
def _replaced(*methods: tuple[type, str, Callable[[Callable], Callable]]) -> Iterator[None]:
    originals = []
    try:
        for owner, name, wrap in methods:
            original = getattr(owner, name)
            originals.append((owner, name, original))
            setattr(owner, name, wrap(original))
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
