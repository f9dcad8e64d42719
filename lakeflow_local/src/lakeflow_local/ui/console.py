"""The SQL box: one query at a time, in a session that starts with the first one."""

from __future__ import annotations

import itertools
import queue
import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlglot.tokens import TokenType

from lakeflow_local.bundle import sql_files
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.sql.tokens import Source, is_string, word
from lakeflow_local.ui.personal import MASK, Personal
from lakeflow_local.ui.tables import Column

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LIMITS = (50, 200, 1000)
SECONDS = 60
_KEPT = 20

_SHOW = {"SCHEMAS", "DATABASES", "CATALOGS", "TABLES", "VIEWS", "COLUMNS", "TBLPROPERTIES", "FUNCTIONS"}
# They run commands, or code of the machine.
_REFUSED = frozenset({"reflect", "java_method", "try_reflect"})
# They read files and changes past the masks.
_PAST_MASKS = (sql.TABLE_FUNCTIONS - {"event_log"}) | {"table_changes", "table_changes_by_path"}


@dataclass
class Query:
    """A query and how far it is.

    Attributes:
        state: WAITING, STARTING (Spark), RUNNING, DONE, FAILED or CANCELED.
        masked: the tables of which columns were masked, with these columns.
        seconds: without the start of Spark.
        session: what runs it, while it runs.
    """

    id: str
    text: str
    limit: int
    state: str = "WAITING"
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()
    more: bool = False
    error: str | None = None
    masked: tuple[str, ...] = ()
    seconds: float | None = None
    session: Any = field(default=None, repr=False)

    @property
    def going(self) -> bool:
        return self.state in ("WAITING", "STARTING", "RUNNING")


def check(text: str, *, masked: bool) -> Source:
    """The one statement of `text`, which only reads.

    Args:
        masked: what would read past the masks is refused as well.

    Raises:
        LakeflowError: it is something else, with what to do.
    """
    found = list(sql_files.statements(Source(text)))
    if len(found) != 1:
        raise LakeflowError("write one statement" if not found else f"these are {len(found)} statements; write one")
    statement = found[0]
    words = [word(token) for token in statement.tokens]
    if words[0] == "SHOW":
        if (words[1:2] and words[1] in _SHOW) or words[1:3] == ["CREATE", "TABLE"]:
            return statement
        raise LakeflowError(f"SHOW takes {', '.join(sorted(_SHOW))} or CREATE TABLE here")
    if words[0] in ("DESCRIBE", "DESC"):
        rest = [w for w in words[1:] if w not in ("TABLE", "EXTENDED", "FORMATTED", "SCHEMA", "DATABASE", "FUNCTION")]
        if rest and all(part == "." for part in rest[1::2]) and len(rest) % 2 == 1:
            return statement
        raise LakeflowError("DESCRIBE takes the name of a table, a schema or a function here")
    if words[0] not in ("SELECT", "WITH", "FROM", "VALUES", "TABLE", "("):
        raise LakeflowError(f"{words[0]} is not run here, only queries (SELECT, WITH), SHOW and DESCRIBE")
    for token, following in itertools.zip_longest(statement.tokens, statement.tokens[1:]):
        name = token.text.lower()
        if following is not None and following.token_type is TokenType.L_PAREN:
            if name in _REFUSED:
                raise LakeflowError(f"{name}() is not run here: it calls code of this machine")
            if masked and name in _PAST_MASKS:
                raise LakeflowError(f"{name}() reads past the masks of personal columns; ask with --show-pii")
        if word(token) == "USING" and following is not None and is_string(following):
            raise LakeflowError("TRANSFORM … USING is not run here: it calls a program of this machine")
    return statement


class Console:
    """Runs queries one after the other on a thread that ends with the process.

    Args:
        session: gives the session; entered with the first query.
        personal: the columns to mask; None shows all.
    """

    def __init__(
        self,
        session: Callable[[], AbstractContextManager[SparkSession]],
        personal: Callable[[], Personal | None],
    ):
        self._open, self._personal = session, personal
        self._spark: SparkSession | None = None
        self._queries: dict[str, Query] = {}
        self._waiting: queue.SimpleQueue[Query] = queue.SimpleQueue()
        self._salt = secrets.token_hex(16)
        self._stack = ExitStack()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._spark is not None

    def ask(self, text: str, limit: int) -> Query:
        """Takes a query; it may have failed at once."""
        asked = Query(secrets.token_hex(8), text, limit if limit in LIMITS else LIMITS[0])
        self._queries[asked.id] = asked
        for old in list(self._queries)[:-_KEPT]:
            del self._queries[old]
        try:
            check(text, masked=self._personal() is not None)
        except LakeflowError as error:
            asked.state, asked.error = "FAILED", error.message
            return asked
        self._waiting.put(asked)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="sql", daemon=True)
            self._thread.start()
        return asked

    def get(self, id: str) -> Query | None:
        return self._queries.get(id)

    def last(self) -> list[Query]:
        return list(reversed(self._queries.values()))

    def cancel(self, id: str) -> None:
        if (asked := self._queries.get(id)) is not None and asked.going:
            asked.state, asked.error = "CANCELED", "canceled"
            _interrupt(asked)

    def _work(self) -> None:
        while True:
            asked = self._waiting.get()
            if not asked.going:
                continue
            try:
                if self._spark is None:
                    asked.state = "STARTING"
                    self._spark = self._stack.enter_context(self._open())
                self._run(self._spark, asked)
            except LakeflowError as error:
                self._failed(asked, error.message)
            except Exception as error:
                from lakeflow_local.pipelines.sources import describe

                self._failed(asked, describe(error))

    @staticmethod
    def _failed(asked: Query, message: str) -> None:
        if asked.going:
            asked.state, asked.error = "FAILED", message

    def _run(self, spark: SparkSession, asked: Query) -> None:
        from lakeflow_local.pipelines import databricks_sql

        if not asked.going:
            return
        asked.state, began = "RUNNING", time.monotonic()
        own = spark.newSession()
        personal = self._personal()
        text = check(asked.text, masked=personal is not None).text
        if personal is not None:
            text, asked.masked = _masked(own, text, personal, self._salt)
        if word(Source(text).tokens[0]) not in ("SHOW", "DESCRIBE", "DESC"):
            # Whatever it is, inside parentheses Spark's parser takes a query and nothing else.
            own._jsparkSession.sessionState().sqlParser().parsePlan(f"SELECT * FROM (\n{text}\n)")
        asked.session = own
        clock = threading.Timer(SECONDS, self._too_long, (asked,))
        clock.daemon = True
        clock.start()
        try:
            frame = databricks_sql.query(own, text)
            rows = frame.limit(asked.limit + 1).collect()
        finally:
            clock.cancel()
            asked.session = None
        asked.columns, asked.more = tuple(frame.columns), len(rows) > asked.limit
        asked.rows = tuple(tuple(shown(value) for value in row) for row in rows[: asked.limit])
        asked.seconds = time.monotonic() - began
        if asked.going:
            asked.state = "DONE"

    def _too_long(self, asked: Query) -> None:
        self._failed(asked, f"it took longer than the {SECONDS} s that a query has here; ask for less")
        _interrupt(asked)


def _interrupt(asked: Query) -> None:
    # All of its session, which runs nothing else: a tag is known only to the thread that has set it.
    if (session := asked.session) is not None:
        session.interruptAll()


def shown(value: Any) -> str | None:
    """A value as text; None for NULL."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ")
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if hasattr(value, "asDict"):
        value = value.asDict(recursive=True)
    return str(value)


def _masked(spark: SparkSession, text: str, personal: Personal, salt: str) -> tuple[str, tuple[str, ...]]:
    """The query over views in which personal columns are masked, as Databricks' column masks do it.

    Whatever the query computes, it sees masks only. Equal texts have equal masks, so that joins and counts
    hold; what is no text is NULL.
    """
    views: dict[str, str] = {}
    told: list[str] = []
    tokens = Source(text).tokens
    common = {token.text.lower() for token, following in itertools.pairwise(tokens) if word(following) == "AS"}

    def view(name: str, streaming: bool) -> str | None:
        if name in views:
            return views[name]
        full = sql.normalise(name)
        # Also so that no path, as in delta.`/folder`, passes for a table.
        if len(full) > 1 and not spark.catalog.databaseExists(".".join(full[:-1])):
            raise LakeflowError(f"there is no schema {'.'.join(full[:-1])}; tables are read by their names here")
        if not spark.catalog.tableExists(name):
            return None
        found = spark.catalog.getTable(name)
        if found.tableType == "VIEW":
            raise LakeflowError(f"{name} is a view, whose columns cannot be traced here; ask with --show-pii")
        schema = found.namespace[-1] if found.namespace else "default"
        frame = spark.table(name)
        columns = [
            Column(f.name, f.dataType.simpleString(), f.nullable, f.metadata.get("comment", "")) for f in frame.schema
        ]
        hidden = personal.of(schema, found.name, columns)
        if not hidden:
            return None
        told.append(f"{schema}.{found.name} ({', '.join(c.name for c in columns if c.name in hidden)})")
        # The table's own name, so that `table.column` still means it.
        own = full[-1] if full[-1] not in {*views.values(), *common} else f"{schema}__{full[-1]}"
        frame.select([_mask(f, salt) if f.name in hidden else f.name for f in frame.schema]).createOrReplaceTempView(
            own
        )
        views[name] = own
        return own

    rewritten = sql.rewrite(text, lambda call: "", functions=(), rename=view)
    return rewritten, tuple(told)


def _mask(field: Any, salt: str) -> Any:
    from pyspark.sql import functions as f

    column = f.col(f"`{field.name}`")
    if field.dataType.simpleString() != "string":
        return f.lit(None).cast(field.dataType).alias(field.name)
    digest = f.substring(f.sha2(f.concat(f.lit(salt), column), 256), 1, 12)
    return f.when(column.isNotNull(), f.concat(f.lit(MASK), digest)).alias(field.name)


def masked_rows(rows: Sequence[Mapping[str, Any]], hidden: Collection[str]) -> list[dict[str, str | None]]:
    """Rows for a page: values as text, those of `hidden` columns masked where they are not NULL."""
    return [
        {name: MASK if name in hidden and value is not None else shown(value) for name, value in row.items()}
        for row in rows
    ]
