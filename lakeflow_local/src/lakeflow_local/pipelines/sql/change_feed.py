"""AUTO CDC, formerly APPLY CHANGES: its clauses."""

from __future__ import annotations

from typing import Any

from lakeflow_local.pipelines.graph import AutoCdc, Snapshot
from lakeflow_local.pipelines.sql.cursor import Cursor
from lakeflow_local.pipelines.sql.tokens import is_name

_CDC_CLAUSES = (
    ("FROM",), ("KEYS", "("), ("IGNORE", "NULL", "UPDATES"), ("APPLY", "AS"), ("SEQUENCE", "BY"),
    ("SYSTEM", "SEQUENCE", "BY"), ("COLUMNS", "TO", "UPDATE"), ("COLUMNS",), ("STORED", "AS"), ("TRACK", "HISTORY"),
    ("WHERE",), ("WITH", "VERSION", "("),
)  # fmt: skip
_OF_SNAPSHOTS = frozenset({
    "source", "query", "version_query", "keys", "scd_type", "track_history", "track_history_except",
})  # fmt: skip


class ChangeFeed:
    """The clauses of AUTO CDC, in any order.

    Attributes:
        source_line: the line at which the query or the name after FROM begins.
    """

    def __init__(self, cursor: Cursor, target: str):
        self.cursor = cursor
        self.target = target
        self.found: dict[str, Any] = {}
        self.where: str | None = None
        self.source_line: int | None = None
        self.bitemporal = False
        self.from_snapshot = False

    def put(self, clause: str, **values: Any) -> None:
        if any(key in self.found for key in values):
            self.cursor.fail(f"{clause} is given twice for {self.target}")
        self.found.update(values)

    def at_clause(self) -> bool:
        before = self.cursor.word(-1)
        if before == "." or (before == "DISTINCT" and self.cursor.word() == "FROM"):
            return False
        return any(self.cursor.at_words(*clause) for clause in _CDC_CLAUSES)

    def expression(self, after: str) -> str:
        """The text up to the next clause; its first word is never one, so that a column may have a clause's name."""
        low = self.cursor.index
        text = self.cursor.skip_until(lambda: self.cursor.index > low and self.at_clause())
        if not text:
            self.cursor.index = low
            self.cursor.fail(f"expected an expression after {after}; found {self.cursor.shown()}")
        return text

    def read(self) -> None:
        cursor = self.cursor
        while not cursor.at_end():
            if cursor.accept("FROM"):
                if cursor.word() == "SNAPSHOT" and cursor.word(1) not in ("KEYS", ".", ""):
                    cursor.index += 1
                    self.snapshot()
                else:
                    self.source()
            elif cursor.accept("WITH", "VERSION"):
                self.put("WITH VERSION", version_query=cursor.group(after="WITH VERSION"))
            elif cursor.accept("KEYS"):
                self.put("KEYS", keys=cursor.columns("KEYS"))
            elif cursor.accept("IGNORE", "NULL", "UPDATES"):
                self.ignore_null_updates()
            elif cursor.accept("APPLY", "AS"):
                what = cursor.word()
                if what not in ("DELETE", "TRUNCATE"):
                    cursor.fail(f"expected DELETE or TRUNCATE after APPLY AS; found {cursor.shown()}")
                cursor.index += 1
                cursor.expect("WHEN", after=f"APPLY AS {what}")
                clause = f"APPLY AS {what} WHEN"
                key = "apply_as_deletes" if what == "DELETE" else "apply_as_truncates"
                self.put(clause, **{key: self.expression(clause)})
            elif cursor.accept("SEQUENCE", "BY"):
                self.put("SEQUENCE BY", sequence_by=self.expression("SEQUENCE BY"))
            elif cursor.accept("SYSTEM", "SEQUENCE", "BY"):
                self.put("SYSTEM SEQUENCE BY", system_sequence_by=self.expression("SYSTEM SEQUENCE BY"))
            elif cursor.accept("COLUMNS", "TO", "UPDATE"):
                self.put("COLUMNS TO UPDATE", columns_to_update=cursor.column("COLUMNS TO UPDATE"))
            elif cursor.accept("COLUMNS"):
                columns, excepted = self.selection("COLUMNS")
                self.put("COLUMNS", columns=columns, except_columns=excepted)
            elif cursor.accept("STORED", "AS"):
                self.stored_as()
            elif cursor.accept("TRACK", "HISTORY"):
                cursor.expect("ON", after="TRACK HISTORY")
                columns, excepted = self.selection("TRACK HISTORY ON")
                self.put("TRACK HISTORY ON", track_history=columns, track_history_except=excepted)
            elif cursor.accept("WHERE"):
                if self.where:
                    cursor.fail(f"WHERE is given twice for {self.target}")
                self.where = self.expression("WHERE")
            else:
                cursor.fail(f"expected a clause of AUTO CDC INTO {self.target}; found {cursor.shown()}")

    def snapshot(self) -> None:
        cursor = self.cursor
        self.from_snapshot = True
        self.source_line = cursor.source.line(cursor.start())
        if cursor.word() == "(":
            query = cursor.group(after="FROM SNAPSHOT")
            self.put("FROM", source=None, query=query)
        else:
            self.put("FROM", source=cursor.name(after="FROM SNAPSHOT"))

    def source(self) -> None:
        cursor = self.cursor
        low, line = cursor.index, cursor.source.line(cursor.start())
        if cursor.word() == "(" and cursor.word(1) in ("SELECT", "WITH", "FROM", "VALUES", "("):
            close = cursor.pairs[cursor.index]
            cursor.index = close + 1
            if cursor.at_end() or self.at_clause():
                self.source_line = cursor.source.line(cursor.tokens[low + 1].start)
                self.put("FROM", source=None, source_query=cursor.text(low + 1, close))
                return
        else:
            wrapped = cursor.accept("STREAM", "(")
            streaming = wrapped or (cursor.word() == "STREAM" and not self.source_is_called_stream())
            cursor.index += streaming and not wrapped
            if not cursor.at_end() and is_name(cursor.tokens[cursor.index]) and cursor.word(1) != "(":
                name = cursor.name(after="FROM")
                if (not wrapped or cursor.accept(")")) and (cursor.at_end() or self.at_clause()):
                    self.source_line = line
                    self.put("FROM", source=name, source_query=None)
                    return
        cursor.index = low
        self.source_line = line
        self.put("FROM", source=None, source_query=f"SELECT * FROM {self.expression('FROM')}")

    def source_is_called_stream(self) -> bool:
        self.cursor.index += 1
        called = self.cursor.at_end() or self.cursor.word() == "." or self.at_clause()
        self.cursor.index -= 1
        return called

    def selection(self, after: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        """`(a, b)`, `a, b`, `*` or `* EXCEPT (a, b)` as the columns, None for all, and the columns left out."""
        cursor = self.cursor
        if not cursor.accept("*"):
            return self.column_list(after), ()
        return None, self.column_list(f"{after} * EXCEPT") if cursor.accept("EXCEPT") else ()

    def column_list(self, after: str) -> tuple[str, ...]:
        cursor = self.cursor
        if cursor.word() == "(":
            return cursor.columns(after)
        columns = [cursor.column(after)]
        while cursor.accept(","):
            columns.append(cursor.column(after))
        return tuple(columns)

    def ignore_null_updates(self) -> None:
        if not self.cursor.accept("ON"):
            self.put("IGNORE NULL UPDATES", ignore_null_updates=True)
            return
        columns, excepted = self.selection("IGNORE NULL UPDATES ON")
        if columns is None and not excepted:
            self.put("IGNORE NULL UPDATES", ignore_null_updates=True)
        else:
            self.put("IGNORE NULL UPDATES", ignore_null_columns=columns, ignore_null_except=excepted)

    def stored_as(self) -> None:
        cursor = self.cursor
        if cursor.accept("BITEMPORAL") or cursor.accept("SCD", "TYPE", "BITEMPORAL"):
            self.bitemporal = True
            self.put("STORED AS", scd_type=2)
            return
        cursor.expect("SCD", "TYPE", after="STORED AS")
        number = "" if cursor.at_end() else cursor.tokens[cursor.index].text
        if number not in ("1", "2"):
            cursor.fail(f"expected 1 or 2 after SCD TYPE; found {cursor.shown()}")
        cursor.index += 1
        self.put("STORED AS", scd_type=int(number))

    def result(self) -> AutoCdc | Snapshot:
        if self.from_snapshot:
            return self.of_snapshots()
        for key, clause in (("sequence_by", "SEQUENCE BY"), ("keys", "KEYS (…)"), ("source_query", "FROM")):
            if key not in self.found:
                self.cursor.fail(f"AUTO CDC INTO {self.target} has no {clause}")
        if self.bitemporal != ("system_sequence_by" in self.found):
            self.cursor.fail(
                f"AUTO CDC {self.target}: STORED AS BITEMPORAL and SYSTEM SEQUENCE BY go together; use both or none"
            )
        if self.where:
            source, query = self.found["source"], self.found["source_query"]
            relation = f"STREAM {source}" if source else f"({query})"
            self.found |= {"source": None, "source_query": f"SELECT * FROM {relation} WHERE {self.where}"}
        return AutoCdc(**self.found)

    def of_snapshots(self) -> Snapshot:
        if "keys" not in self.found:
            self.cursor.fail(f"AUTO CDC INTO {self.target} has no KEYS (…)")
        if self.where or self.bitemporal or self.found.keys() - _OF_SNAPSHOTS:
            self.cursor.fail("AUTO CDC FROM SNAPSHOT takes KEYS, WITH VERSION, STORED AS and TRACK HISTORY ON alone")
        if "version_query" in self.found and self.found["source"]:
            self.cursor.fail("WITH VERSION needs a query: FROM SNAPSHOT (SELECT …)")
        return Snapshot(**self.found)
