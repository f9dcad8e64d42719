"""The clauses between a dataset's name and its query."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from lakeflow_local.pipelines.graph import Dataset
from lakeflow_local.pipelines.sql.cursor import QUERY_STARTS, Cursor, NotOfAPipelineError
from lakeflow_local.pipelines.sql.tokens import is_string


class Clauses:
    """Reads the clauses of a dataset, in any order, into `dataset`.

    Attributes:
        without_effect: those that are accepted and do nothing here.
    """

    def __init__(self, cursor: Cursor, dataset: Dataset, what: str):
        self.cursor = cursor
        self.dataset = dataset
        self.what = what
        self.seen: set[str] = set()
        self.without_effect: list[str] = []

    def put(self, **changes: Any) -> None:
        self.dataset = dataclasses.replace(self.dataset, **changes)

    def once(self, clause: str) -> None:
        if clause in self.seen:
            self.cursor.fail(f"{clause} is given twice for {self.what}")
        self.seen.add(clause)

    def read(self) -> None:
        """Reads up to AS, FLOW, a query without AS, or the end."""
        cursor = self.cursor
        while not cursor.at_end() and cursor.word() not in ("AS", "FLOW"):
            if cursor.accept("WITH", "ROW", "FILTER") or cursor.accept("ROW", "FILTER"):
                self.row_filter()
            elif cursor.accept("WITH", "SCHEMA"):
                self.ignore("WITH SCHEMA", "BINDING", "COMPENSATION", "EVOLUTION", "TYPE")
            elif cursor.at_words("WITH", "METRICS") or cursor.at_words("LANGUAGE", "YAML"):
                cursor.fail(f"{self.what} WITH METRICS is not a statement of a pipeline", NotOfAPipelineError)
            elif cursor.word() in QUERY_STARTS:
                return
            else:
                self.clause()

    def clause(self) -> None:
        cursor = self.cursor
        if cursor.accept("COMMENT"):
            self.once("COMMENT")
            self.put(comment=cursor.string(after="COMMENT"))
        elif cursor.accept("TBLPROPERTIES"):
            self.put(properties={**self.dataset.properties, **dict(self.properties())})
        elif cursor.accept("PARTITIONED", "BY"):
            self.once("PARTITIONED BY")
            self.put(partition_cols=cursor.columns("PARTITIONED BY"))
        elif cursor.accept("CLUSTER", "BY"):
            self.once("CLUSTER BY")
            if cursor.accept("AUTO"):
                self.put(cluster_by_auto=True)
            elif not cursor.accept("NONE"):
                self.put(cluster_by=cursor.columns("CLUSTER BY"))
        elif cursor.accept("LOCATION"):
            self.once("LOCATION")
            self.put(path=cursor.string(after="LOCATION"))
        elif cursor.accept("USING"):
            if not cursor.accept("DELTA"):
                cursor.unsupported(f"USING {cursor.shown()}")
        elif cursor.accept("REFRESH", "POLICY"):
            if not cursor.accept("INCREMENTAL", "STRICT"):
                self.ignore("REFRESH POLICY", "AUTO", "INCREMENTAL", "FULL")
            else:
                self.without_effect.append("REFRESH POLICY")
        elif cursor.accept("DEFAULT", "COLLATION"):
            if not cursor.accept("UTF8_BINARY"):
                cursor.unsupported(f"DEFAULT COLLATION {cursor.shown()}")
        elif cursor.at_words("SCHEDULE") or cursor.at_words("TRIGGER", "ON", "UPDATE"):
            self.schedule()
        else:
            cursor.fail(f"expected a clause of {self.what} or AS and its query; found {cursor.shown()}")

    def ignore(self, clause: str, *words: str) -> None:
        low = self.cursor.index
        while self.cursor.word() in words:
            self.cursor.index += 1
        if self.cursor.index == low:
            self.cursor.fail(f"expected {', '.join(words)} after {clause}; found {self.cursor.shown()}")
        self.without_effect.append(clause)

    def schedule(self) -> None:
        cursor = self.cursor
        if cursor.accept("TRIGGER", "ON", "UPDATE"):
            self.without_effect.append("TRIGGER ON UPDATE")
            if cursor.accept("AT", "MOST", "EVERY"):
                self.interval()
            return
        self.without_effect.append("SCHEDULE")
        cursor.accept("SCHEDULE")
        cursor.accept("REFRESH")
        if cursor.accept("EVERY"):
            self.interval()
        else:
            cursor.expect("CRON", after="SCHEDULE")
            cursor.string(after="CRON")
            if cursor.accept("AT", "TIME", "ZONE"):
                cursor.value(after="AT TIME ZONE")

    def interval(self) -> None:
        self.cursor.accept("INTERVAL")
        self.cursor.value(after="EVERY")
        self.cursor.identifier(after="EVERY")

    def row_filter(self) -> None:
        cursor = self.cursor
        self.once("WITH ROW FILTER")
        low = cursor.index
        cursor.parts(after="ROW FILTER")
        cursor.expect("ON", after="ROW FILTER")
        if cursor.word() == "(":
            cursor.index = cursor.pairs[cursor.index] + 1
        else:
            cursor.fail(f"expected ( after ON; found {cursor.shown()}")
        self.put(row_filter=cursor.text(low, cursor.index))

    def properties(self) -> Iterator[tuple[str, str]]:
        cursor = self.cursor
        for _ in cursor.items("TBLPROPERTIES"):
            if is_string(cursor.tokens[cursor.index]):
                key = cursor.tokens[cursor.index].text
                cursor.index += 1
            else:
                key = ".".join(cursor.parts(after="TBLPROPERTIES ("))
            cursor.accept("=")
            yield key, cursor.value(after=key)
