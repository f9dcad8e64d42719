"""Finds flows that an update can leave out: views that would get the same rows again, streams with nothing to read.

A view is current if its definition, its table and the Delta tables that its query reads are what they were after it
was computed last, and its query gives the same rows for the same tables. What is not known for certain counts as
changed: a source that is no Delta table, a function of the user's own, the current time, a random number.

A stream has nothing to read if its query is what it was when it read its Delta tables up to the versions that they have
now, its files have all been read, and it keeps no state of which time alone makes rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from lakeflow_local.pipelines.jvm import delta_log, java_class, latest_version
from lakeflow_local.pipelines.resolve import Node, Resolved
from lakeflow_local.pipelines.storage import Storage
from lakeflow_local.pipelines.tables import Tables

_FILE = "views.json"
_READ = "read.json"

# Operators that give the same rows for the same rows, if their expressions do.
_OPERATORS = frozenset({
    "Aggregate", "CTERelationDef", "CTERelationRef", "CollectMetrics", "Deduplicate", "Distinct", "Except", "Expand",
    "Filter", "Generate", "GlobalLimit", "Intersect", "Join", "LocalLimit", "LogicalRelation", "Offset",
    "OneRowRelation", "Project", "Range", "RebalancePartitions", "Repartition", "RepartitionByExpression",
    "ResolvedHint", "Sort", "SubqueryAlias", "Union", "View", "Window", "WithCTE",
})  # fmt: skip
# Code outside Spark, of which a plan shows no more than the name.
_FOREIGN = re.compile(r"UDF|UDAF|UserDefined|Udaf|UDTF|Aggregator|Invoke|ApplyFunction|Hive|Reflection|Python")
# Numbers and descriptions that differ each time a plan is made.
_VOLATILE = frozenset({"jvmId", "catalogTable", "relation", "desc"})
_COUNTED = frozenset({"id", "cteId", "dataframeId"})
_DELTA = "org.apache.spark.sql.delta.files.TahoeLogFileIndex"
# State that the passing of time may turn into rows, without new ones.
_TIMED = re.compile(r"EventTimeWatermark|GroupsWithState|GroupsInPandasWithState|TransformWithState")
_IDENTITIES = re.compile(r"#\d+L?|@[0-9a-f]+")


@dataclass(frozen=True)
class Inputs:
    """What a view was computed from, or a stream has read.

    Attributes:
        definition: a digest of its query and of what else decides its rows.
        versions: of the Delta tables that it reads, by their paths and ids.
    """

    definition: str
    versions: dict[str, int]


class Freshness:
    """What the materialized views of one pipeline were computed from."""

    def __init__(self, spark: SparkSession, storage: Storage, tables: Tables):
        self._spark = spark
        self._storage = storage
        self._tables = tables
        self._lock = threading.Lock()
        self._known: dict[str, Any] = storage.read_json(_FILE) or {}

    def inputs(self, node: Node, resolved: Resolved) -> Inputs | None:
        """What the view would be computed from now; None where its rows may differ for the same inputs."""
        try:
            plan = resolved.frame._jdf.queryExecution().analyzed()
            below = plan.subqueriesAll()
            plans = [plan, *(below.apply(i) for i in range(below.size()))]
            if not all(map(self._is_certain, plans)):
                return None
            described = [json.loads(p.toJSON()) for p in plans]
            if not all(map(_is_known, described)):
                return None
            leaves = [leaf for p in plans for leaf in _leaves(p)]
            versions = dict(filter(None, map(self._version, leaves)))
        except (Py4JError, _UnversionedError):
            return None
        return Inputs(self._digest(node, resolved, [*described, list(versions)]), versions)

    def is_current(self, node: Node, inputs: Inputs) -> bool:
        known = self._known.get(node.full)
        return (
            known is not None
            and known["definition"] == inputs.definition
            and known["versions"] == inputs.versions
            and known["version"] == self._tables.version(node.table)
        )

    def streamed(self, resolved: Resolved) -> Inputs | None:
        """What a stream would have read when it ends; None where that is not known."""
        if not resolved.frame.isStreaming:
            return None
        try:
            plan = resolved.frame._jdf.queryExecution().analyzed()
            text = plan.toString()
            if _TIMED.search(text):
                return None
            versions = dict(filter(None, (self._streamed_version(leaf, resolved) for leaf in _leaves(plan))))
        except (Py4JError, _UnversionedError):
            return None
        content = [_IDENTITIES.sub("", text), repr(resolved.flow.cdc), metadata.version("lakeflow-local")]
        return Inputs(hashlib.sha256(json.dumps(content).encode()).hexdigest(), versions)

    def has_read(self, resolved: Resolved, inputs: Inputs) -> bool:
        """Whether a stream has read all that it would, files aside. Known as long as its checkpoint is kept."""
        return self._storage.read_json("checkpoints", resolved.key, _READ) == vars(inputs)

    def note_read(self, resolved: Resolved, inputs: Inputs | None) -> None:
        if inputs is not None and not self.has_read(resolved, inputs):
            self._storage.write_json(vars(inputs), "checkpoints", resolved.key, _READ)

    def _streamed_version(self, leaf: Any, resolved: Resolved) -> tuple[str, int] | None:
        if not leaf.isStreaming():
            return None
        if leaf.getClass().getSimpleName() != "StreamingRelation":
            raise _UnversionedError
        source = leaf.dataSource()
        if source.className().lower() == "delta" and source.catalogTable().isDefined():
            path = source.catalogTable().get().location().toString()
            return self._now(delta_log(self._spark, path), path)
        path = source.options().get("path")
        if path.isDefined() and f"/checkpoints/{resolved.key}/loader/" in path.get():
            return None
        raise _UnversionedError

    def _now(self, log: Any, path: str) -> tuple[str, int]:
        snapshot = latest_version(self._spark, log)
        return f"{path} {snapshot.metadata().id()}", snapshot.version()

    def note(self, node: Node, inputs: Inputs | None) -> None:
        """Notes that the view was computed from `inputs`, which were read before."""
        with self._lock:
            if inputs is None:
                if self._known.pop(node.full, None) is None:
                    return
            else:
                self._known[node.full] = {
                    "definition": inputs.definition,
                    "versions": inputs.versions,
                    "version": self._tables.version(node.table),
                }
            self._storage.write_json(self._known, _FILE)

    def _is_certain(self, plan: Any) -> bool:
        patterns = java_class(self._spark, "org.apache.spark.sql.catalyst.trees.TreePattern")
        return plan.deterministic() and not plan.containsPattern(patterns.CURRENT_LIKE())

    def _version(self, leaf: Any) -> tuple[str, int] | None:
        if leaf.getClass().getSimpleName() != "LogicalRelation":
            return None
        location = leaf.relation().location()
        if location.getClass().getName() != _DELTA or location.isTimeTravelQuery():
            raise _UnversionedError
        return self._now(location.deltaLog(), location.path().toString())

    def _digest(self, node: Node, resolved: Resolved, described: list[Any]) -> str:
        content = {
            "by": [metadata.version("lakeflow-local"), self._spark.version],
            "table": self._tables.digest(node),
            "query": resolved.flow.query,
            "plan": _without_volatile(described, {}),
            "expectations": [[e.name, e.predicate, e.action] for e in node.dataset.expectations],
            "settings": {**node.dataset.spark_conf, **resolved.flow.spark_conf},
            "zone": self._spark.conf.get("spark.sql.session.timeZone"),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _UnversionedError(Exception):
    pass


def _leaves(plan: Any) -> Iterator[Any]:
    leaves = plan.collectLeaves()
    return (leaves.apply(i) for i in range(leaves.size()))


def _is_known(operators: list[dict[str, Any]]) -> bool:
    if any(operator["class"].rsplit(".", 1)[-1] not in _OPERATORS for operator in operators):
        return False
    return not any(map(_FOREIGN.search, _classes(operators)))


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "class" in value:
            yield value["class"].rsplit(".", 1)[-1]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _classes(part)


def _without_volatile(value: Any, numbers: dict[tuple[str, Any], int]) -> Any:
    """The plan with its ids numbered by their first appearance."""
    if isinstance(value, dict):
        return {
            key: numbers.setdefault((key, part), len(numbers))
            if key in _COUNTED and isinstance(part, int)
            else _without_volatile(part, numbers)
            for key, part in value.items()
            if key not in _VOLATILE
        }
    if isinstance(value, list):
        return [_without_volatile(part, numbers) for part in value]
    return value
