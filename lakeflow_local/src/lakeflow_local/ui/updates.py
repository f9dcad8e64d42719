"""The updates of a pipeline out of its event log: the table's rows, and the file of an update that is going on."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakeflow_local.home import Home
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.ui import tables

MOST = 20
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED"})
_COLUMNS = "id, timestamp, event_type, message, level, origin, error, details"


@dataclass(frozen=True)
class Event:
    """A line of the event log; `details` without the key that repeats its type."""

    id: str
    time: datetime
    type: str
    level: str
    message: str
    update: str
    flow: str | None
    dataset: str | None
    error: str | None
    details: Mapping[str, Any]


@dataclass
class Expectation:
    name: str
    passed: int = 0
    failed: int = 0


@dataclass
class DatasetProgress:
    """What an update did to one dataset; counts are summed over its flows.

    Attributes:
        state: of the flow that was told of last, FAILED if any failed.
        written: rows appended, upserted or deleted; None until it is known.
        dropped: rows that expectations refused.
    """

    state: str = "QUEUED"
    started: datetime | None = None
    ended: datetime | None = None
    written: int | None = None
    dropped: int = 0
    error: str | None = None
    expectations: dict[str, Expectation] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None


@dataclass
class Update:
    """One update.

    Attributes:
        state: as Databricks names it; INTERNAL_ERROR where its process ended before it did.
        datasets: by full name in lower case.
    """

    id: str
    started: datetime
    cause: str = ""
    state: str = "CREATED"
    ended: datetime | None = None
    error: str | None = None
    datasets: dict[str, DatasetProgress] = field(default_factory=dict)

    @property
    def seconds(self) -> float | None:
        return (self.ended - self.started).total_seconds() if self.ended else None

    @property
    def going(self) -> bool:
        return self.state not in ENDED and self.state != "INTERNAL_ERROR"


class EventLogs:
    """The event logs of a home's pipelines."""

    def __init__(self, home: Home):
        self._home = home
        self._lock = threading.Lock()
        # pipeline → version of the table, and its last updates
        self._kept: dict[str, tuple[int, list[Update]]] = {}

    def updates(self, spec: PipelineSpec) -> list[Update]:
        """The last `MOST` updates, newest first."""
        found = {update.id: update for update in self._of_table(spec)}
        for update in _updates(_of_files(spec)):
            if update.going and not _runs(spec):
                update.state, update.error = "INTERNAL_ERROR", "its process ended before it did"
            found.setdefault(update.id, update)
        return sorted(found.values(), key=lambda update: update.started, reverse=True)[:MOST]

    def events(self, spec: PipelineSpec, update: str) -> list[Event]:
        """Every event of one update in the order of their times."""
        found = {event.id: event for event in _of_files(spec) if event.update == update}
        if (table := self._table(spec)) is not None and not found:
            of = _literal(update)
            rows = tables.rows(
                tables.opened(table), f"SELECT {_COLUMNS} FROM t WHERE origin['update_id'] = {of} ORDER BY timestamp"
            )
            found = {row["id"]: _of_row(row) for row in rows}
        return sorted(found.values(), key=lambda event: event.time)

    def _of_table(self, spec: PipelineSpec) -> list[Update]:
        table = self._table(spec)
        if table is None:
            return []
        delta = tables.opened(table)
        with self._lock:
            kept = self._kept.get(spec.id)
            if kept is None or kept[0] != delta.version():
                last = tables.rows(
                    delta,
                    "SELECT origin['update_id'] AS id FROM t WHERE event_type = 'create_update'"
                    f" ORDER BY timestamp DESC LIMIT {MOST}",
                )
                ids = ", ".join(_literal(row["id"]) for row in last) or "''"
                rows = tables.rows(
                    delta,
                    f"SELECT {_COLUMNS} FROM t WHERE origin['update_id'] IN ({ids}) AND"
                    " event_type IN ('create_update', 'update_progress', 'flow_progress') ORDER BY timestamp",
                )
                kept = delta.version(), _updates(map(_of_row, rows))
                for update in kept[1]:
                    if update.going:
                        update.state = "INTERNAL_ERROR"
                self._kept[spec.id] = kept
            return kept[1]

    def _table(self, spec: PipelineSpec) -> tables.Table | None:
        name = spec.event_log or f"event_log_{spec.id.replace('-', '_')}"
        _, schema, table = Namespace(spec.catalog, spec.schema).full(name).split(".", 2)
        return tables.find(self._home, schema, table)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _of_row(row: Mapping[str, Any]) -> Event:
    origin, error = row["origin"] or {}, row["error"] or {}
    exceptions = error.get("exceptions") or [{}]
    time = row["timestamp"]
    return Event(
        row["id"],
        datetime.fromisoformat(time) if isinstance(time, str) else time.replace(tzinfo=UTC),
        row["event_type"],
        row["level"],
        row["message"],
        origin.get("update_id") or "",
        origin.get("flow_name"),
        origin.get("dataset_name"),
        exceptions[0].get("message"),
        json.loads(row["details"] or "{}").get(row["event_type"]) or {},
    )


def _of_files(spec: PipelineSpec) -> list[Event]:
    """The events of updates that have not reached the table."""
    if "://" in spec.storage:
        return []
    events = []
    for file in sorted((Path(spec.storage) / "events").glob("*.jsonl")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:  # it has just gone into the table
            continue
        for line in lines:
            try:
                events.append(_of_row(json.loads(line)))
            except ValueError:  # the last line, which is being written
                break
    return events


def _runs(spec: PipelineSpec) -> bool:
    """Whether an update is going on: it holds the pipeline's lock."""
    try:
        with open(Path(spec.storage) / ".lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _updates(events: Iterable[Event]) -> list[Update]:
    found: dict[str, Update] = {}
    for event in events:
        update = found.setdefault(event.update, Update(event.update, event.time))
        match event.type:
            case "create_update":
                update.cause = str(event.details.get("cause", ""))
            case "update_progress":
                update.state = event.details.get("state", update.state)
                update.error = event.error or update.error
                if update.state in ENDED:
                    update.ended = event.time
            case "flow_progress":
                _flow(update.datasets.setdefault((event.dataset or "").lower(), DatasetProgress()), event)
    return list(found.values())


def _flow(progress: DatasetProgress, event: Event) -> None:
    status = event.details.get("status", progress.state)
    if progress.state != "FAILED":
        progress.state = status
    if status == "RUNNING":
        progress.started = progress.started or event.time
    if status not in ("QUEUED", "STARTING", "RUNNING"):
        progress.ended = event.time
    progress.error = event.error or progress.error
    metrics, quality = event.details.get("metrics") or {}, event.details.get("data_quality") or {}
    counted = [
        metrics[k] for k in ("num_output_rows", "num_upserted_rows", "num_deleted_rows") if metrics.get(k) is not None
    ]
    if counted:
        progress.written = (progress.written or 0) + sum(map(int, counted))
    progress.dropped += int(quality.get("dropped_records") or 0)
    for given in quality.get("expectations") or ():
        expectation = progress.expectations.setdefault(given["name"], Expectation(given["name"]))
        expectation.passed += int(given.get("passed_records") or 0)
        expectation.failed += int(given.get("failed_records") or 0)
