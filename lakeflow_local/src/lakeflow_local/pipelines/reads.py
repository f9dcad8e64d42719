"""Sees what dataset functions read.

Sources call `spark.read.table`, `spark.readStream.table`, `spark.table`, `spark.sql` and
`spark.readStream.format("cloudFiles")` on an ordinary classic session. While they are resolved and run, these methods
pass by a reader that knows the pipeline's datasets; everything else stays Spark's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql.streaming.readwriter import DataStreamReader

CLOUD_FILES = "cloudfiles"


class Reader(Protocol):
    """What the calls are handed to; `read` is Spark's own method, bound."""

    def table(self, name: str, read: Callable[[str], DataFrame], *, streaming: bool = False) -> DataFrame: ...

    def query(self, text: str, run: Callable[[str], DataFrame]) -> DataFrame: ...

    def cloud_files(self, path: str, options: dict[str, Any], schema: Any) -> DataFrame: ...


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
        def method(self: DataStreamReader, *args: Any, **kwargs: Any) -> DataStreamReader:
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
        def schema(self: DataStreamReader, schema: Any) -> DataStreamReader:
            self.__dict__.setdefault("_noted", {"options": {}})["schema"] = schema
            return original(self, schema)

        return schema

    def load(original: Callable) -> Callable:
        def load(
            self: DataStreamReader,
            path: str | None = None,
            format: str | None = None,
            schema: Any = None,
            **options: Any,
        ) -> DataFrame:
            noted = self.__dict__.get("_noted", {"options": {}})
            if (format or noted.get("format", "")).lower() != CLOUD_FILES:
                return original(self, path, format, schema, **options)
            every = {**noted["options"], **options}
            path = path or every.pop("path", None)
            return reader.cloud_files(path, every, schema if schema is not None else noted.get("schema"))

        return load

    with _replaced(
        (SparkSession, "table", session_table),
        (SparkSession, "sql", session_sql),
        (DataFrameReader, "table", reader_table),
        (DataStreamReader, "table", stream_table),
        (DataStreamReader, "format", lambda o: noting(o, note_format)),
        (DataStreamReader, "option", lambda o: noting(o, note_option)),
        (DataStreamReader, "options", lambda o: noting(o, note_options)),
        (DataStreamReader, "schema", note_schema),
        (DataStreamReader, "load", load),
    ):
        yield


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
