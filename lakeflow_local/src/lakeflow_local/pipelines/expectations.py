"""Expectations: rules on the rows that a flow writes, counted and enforced inside the flow's own query.

Databricks does not document whether a rule that evaluates to NULL is met; here, as was measured there, only FALSE
violates (docs/lakeflow_local.md). `null_is_violation` turns it; NULLs are counted apart either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.graph import Action, Expectation, Place

VIOLATION = "EXPECTATION_VIOLATION"


@dataclass(frozen=True)
class Result:
    """How the rows of one update met one expectation. Counts are rows."""

    dataset: str
    name: str
    action: Action
    passed: int
    failed: int
    nulls: int


@dataclass
class _Counted:
    dataset: str
    expectations: Sequence[Expectation]
    observation: Observation | None
    """Of a batch query; a streaming query reports by name in its progress."""


class Metrics:
    """Collects what the queries of one flow observed of the datasets that they passed through."""

    def __init__(self, *, null_is_violation: bool = False):
        self._null_is_violation = null_is_violation
        self._counted: list[_Counted] = []
        self._totals: dict[str, dict[str, int]] = {}

    def _met(self, result: Column) -> Column:
        """What a rule gave as a total boolean: what NULL means is decided here and nowhere else."""
        return F.coalesce(result, F.lit(not self._null_is_violation))

    def apply(
        self, frame: DataFrame, dataset: str, expectations: Sequence[Expectation], *, count_rows: bool
    ) -> DataFrame:
        """Counts `expectations` on the rows of `frame`, drops the rows to be dropped, fails on those to fail on.

        Args:
            dataset: the dataset's full name, by which the counts are reported.
            count_rows: also count the rows that remain (`output_rows`).
        """
        if not expectations and not count_rows:
            return frame
        # Each rule is evaluated once a row, into a column of its own; what counts and what enforces reads that.
        results = {f"__expectation_{i}": F.expr(rule.predicate) for i, rule in enumerate(expectations)}
        met = [self._met(F.col(name)) for name in results]
        dropping = [m for m, rule in zip(met, expectations, strict=True) if rule.action is Action.DROP]
        counts = [F.count(F.lit(1)).alias("seen")]
        for i, name in enumerate(results):
            counts += [F.count_if(~met[i]).alias(f"failed_{i}"), F.count(name).alias(f"known_{i}")]
        if dropping:
            counts.append(F.count_if(reduce(and_, dropping)).alias("kept"))
        if results:
            frame = frame.withColumns(results)
        observation = None if frame.isStreaming else Observation(dataset)
        self._counted.append(_Counted(dataset, expectations, observation))
        frame = frame.observe(observation or dataset, *counts)
        if dropping:
            frame = frame.filter(reduce(and_, dropping))
        failing = [(m, rule) for m, rule in zip(met, expectations, strict=True) if rule.action is Action.FAIL]
        if failing:
            names = F.concat_ws(", ", *(F.when(~m, F.lit(rule.name)) for m, rule in failing))
            # No row is quoted: what Databricks prints under VERBOSITY_ALL would put people's data into a log.
            message = F.concat(F.lit(f"[{VIOLATION}] violated expectations: '"), names, F.lit("'"))
            violated = F.raise_error(message).cast("boolean")
            frame = frame.filter(F.when(reduce(and_, (m for m, _ in failing)), F.lit(True)).otherwise(violated))
        return frame.drop(*results)

    def add_progress(self, observed: dict) -> None:
        """Adds what one micro-batch observed: `observedMetrics` of its progress."""
        for dataset, row in observed.items():
            self._add(dataset, row.asDict())

    def close(self) -> None:
        """Fetches what batch queries observed; to be called after they ran."""
        for counted in self._counted:
            if counted.observation is not None:
                self._add(counted.dataset, _observed(counted.observation))

    def _add(self, dataset: str, counts: dict[str, int]) -> None:
        totals = self._totals.setdefault(dataset, {})
        for name, value in counts.items():
            totals[name] = totals.get(name, 0) + value

    def output_rows(self, dataset: str) -> int | None:
        totals = self._totals.get(dataset)
        return None if totals is None else _kept(totals)

    def dropped(self) -> int:
        """Rows dropped, each counted once however many rules it violated."""
        return sum(t["seen"] - _kept(t) for t in self._totals.values() if t)

    def results(self) -> Iterable[Result]:
        """One result an expectation; none for a dataset of which no row was seen, as on Databricks."""
        reported = set()
        for counted in self._counted:
            totals = self._totals.get(counted.dataset)
            if not totals or not totals["seen"] or counted.dataset in reported:
                continue
            reported.add(counted.dataset)
            for i, rule in enumerate(counted.expectations):
                failed, nulls = totals[f"failed_{i}"], totals["seen"] - totals[f"known_{i}"]
                yield Result(counted.dataset, rule.name, rule.action, totals["seen"] - failed, failed, nulls)


def _observed(observation: Observation) -> dict[str, int]:
    try:
        return observation.get
    except (Py4JJavaError, AssertionError):
        # The optimizer proved the input empty and left the counting out.
        return {}


def _kept(totals: dict[str, int]) -> int | None:
    return totals.get("kept", totals.get("seen"))


def check(frame: DataFrame, dataset: str, expectations: Sequence[Expectation], place: Place) -> None:
    """Finds what cannot be evaluated before anything runs.

    Raises:
        LakeflowError: a predicate does not resolve against the columns of `frame`, or is neither true nor false.
    """
    for rule in expectations:
        try:
            kind = frame.select(F.expr(rule.predicate).alias("met")).schema["met"].dataType.typeName()
        except AnalysisException as error:
            reason = (error.getMessage() or "").split("\n")[0]
            raise LakeflowError(
                f"expectation {rule.name} of {dataset} cannot be evaluated: {reason}", file=place.file, line=place.line
            ) from error
        if kind not in ("boolean", "void"):
            raise LakeflowError(
                f"expectation {rule.name} of {dataset} must be true or false, but `{rule.predicate}` is a {kind}",
                file=place.file,
                line=place.line,
            )
