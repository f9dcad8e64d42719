"""`quality-gate`: judges the tables of a pipeline after an update, keeps what was found, and fails if it is critical.

It gathers what differs from the contracts, the expectations of the last update, the checks across rows, how far source,
landing zone, bronze and silver agree, and the suites of Great Expectations into `ops.dq_results`.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from quality import contract, results
from quality.results import CRITICAL, INFO, SEVERITY, WARNING, Result


class GateError(Exception):
    """A fault told in one line; holds no row of data."""


@dataclass(frozen=True)
class Verdict:
    """How many checks were made and failed; `critical` names those that fail the gate."""

    checks: int
    failed: int
    critical: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.checks} checks, {self.failed} failed, {len(self.critical)} of them critical"


@dataclass(frozen=True)
class _Described:
    """What is known of a rule beside its counts."""

    severity: str
    dimension: str
    owner: str
    reason: str
    column: str | None = None


_EXPECTATIONS = """
    array<struct<name: string, dataset: string, passed_records: bigint, failed_records: bigint>>
"""


class Gate:
    """One run of the gate on the tables of some schemas.

    Args:
        schemas: full name of the schema of each layer, `bronze`, `silver`, `gold` and `ops`.
        domain: whose contracts hold, `members` or `invoices`.
        layers: whose tables are judged.
        rules: `rules.py` of the pipeline, or a query of rule, severity, dimension and owner, for what its event log
            does not say of a rule.
        event_log: full name of the pipeline's event log; None leaves its expectations out.
    """

    def __init__(
        self,
        spark: SparkSession,
        schemas: dict[str, str],
        *,
        domain: str,
        layers: Sequence[str],
        rules: Path,
        event_log: str | None,
    ):
        self._spark, self._schemas, self._event_log = spark, schemas, event_log
        self._domain, self._layers, self._rules = domain, layers, rules
        self._tables = [table for table in contract.tables(domain) if table.layer in layers]

    def run(self, run_id: str | None = None, *, suites: bool = True, docs: Path | None = None) -> Verdict:
        """Checks everything and writes `ops.dq_results`.

        Args:
            run_id: names the results, and replaces those of an earlier run of that name; None names them at random.
            suites: also run those of Great Expectations, which takes ten seconds to start.
            docs: folder for its Data Docs.
        """
        at = datetime.now(UTC)
        found = [*self._contracts(), *self._expectations(), *self._cross_row_checks(), *self._reconciliation()]
        broken = {result.table_name for result in found if result.rule == "as_agreed" and not result.passed}
        if suites:
            from quality.suites import checks, run

            sound = [t for t in self._tables if checks(t) and t.name not in broken]
            found += run({table: self._spark.table(self._name(table)) for table in sound}, docs)
        results.append(self._spark, f"{self._schemas['ops']}.dq_results", run_id, at, found)
        failed = [result for result in found if not result.passed]
        critical = tuple(f"{r.layer}.{r.table_name}: {r.message or r.rule}" for r in failed if r.severity == CRITICAL)
        return Verdict(len(found), len(failed), critical)

    def _name(self, table: contract.Table) -> str:
        return f"{self._schemas[table.layer]}.{table.name}"

    def _contracts(self) -> Iterator[Result]:
        for table in self._tables:
            try:
                fields = self._spark.table(self._name(table)).schema.fields
            except AnalysisException as error:
                if error.getCondition() not in ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND"):
                    raise
                yield _of(
                    table, None, "as_agreed", CRITICAL, False, f"the table is missing; run the pipeline {self._domain}"
                )
                continue
            differs = contract.differences(table, {f.name: f.dataType.simpleString() for f in fields})
            breaking = [d for d in differs if d.breaks]
            yield _of(table, None, "as_agreed", CRITICAL, not breaking, "; ".join(d.message for d in breaking) or None)
            for difference in differs:
                severity = CRITICAL if difference.breaks else INFO if table.open else WARNING
                rule = f"column_{difference.problem}"
                yield _of(table, difference.column, rule, severity, False, difference.message)

    def _expectations(self) -> Iterator[Result]:
        """Those of the last update that ended; what it read no row for is not there, and counts for nothing."""
        if self._event_log is None:
            return
        log, update_id = self._spark.table(self._event_log), F.col("origin.update_id")
        newest = log.where("event_type = 'update_progress'").orderBy(F.desc("timestamp")).select(update_id).take(1)
        path = "$.flow_progress.data_quality.expectations"
        found = F.explode(F.from_json(F.get_json_object("details", path), _EXPECTATIONS))
        counts: dict[tuple[str, str], tuple[int, int]] = {}
        for row in newest:
            events = log.where((F.col("event_type") == "flow_progress") & (update_id == row[0]))
            for (one,) in events.select(found).collect():
                passed, failed = counts.get((one.dataset, one["name"]), (0, 0))
                counts[one.dataset, one["name"]] = (passed + one.passed_records, failed + one.failed_records)
        known = self._described()
        for (dataset, rule), (passed, failed) in sorted(counts.items()):
            schema, _, name = dataset.replace("`", "").rpartition(".")
            named = (key for key, full in self._schemas.items() if full.split(".")[-1] == schema.split(".")[-1])
            # What is private to a pipeline has no schema.
            layer = next(named, "") if schema else self._layers[-1]
            if layer in self._layers and name != "members_checks":
                yield _judged("expectation", layer, name, rule, known.get(rule), failed, passed + failed)

    def _cross_row_checks(self) -> Iterator[Result]:
        table = next((t for t in self._tables if t.name == "members_checks"), None)
        if table is None or not self._spark.catalog.tableExists(self._name(table)):
            return
        known = self._described()
        for row in self._spark.table(self._name(table)).collect():
            check = known.get(row["name"])
            yield _judged("cross-row check", "silver", "members", row["name"], check, row.failed, row.evaluated)

    def _reconciliation(self) -> Iterator[Result]:
        """Bronze against what the last ingest landed; silver against the source when all keys were last compared."""
        log = f"{self._schemas['ops']}.ingest_runs"
        if not any(t.full == "bronze.members" for t in self._tables) or not self._spark.catalog.tableExists(log):
            return
        of_members = "status = 'succeeded' AND source_table LIKE '%.members'"
        columns = ("run_id", "mode", "ended_at", "rows_source", "rows_landed", "rows_deleted")
        newest = (
            self._spark.table(log).where(of_members).select(*columns).orderBy(F.desc("ended_at")).limit(100).collect()
        )
        for run in [run for run in newest if run.rows_landed][:1]:
            bronze = self._spark.table(f"{self._schemas['bronze']}.members")
            missing = max(run.rows_landed - bronze.where(F.col("_run_id") == run.run_id).count(), 0)
            # A warning: members may have been erased since, or more has landed while the pipeline ran.
            told = (
                f"{missing} rows of the last ingest are not in bronze; unless members were erased, see ingest-reconcile"
            )
            yield _reconciled("bronze", "bronze_holds_what_landed", missing, run.rows_landed, told)
        for run in [run for run in newest if run.mode == "reconcile"][:1]:
            repaired = run.rows_landed - run.rows_deleted
            told = f"the last comparison of all keys landed {repaired} members that the ingest had missed"
            yield _reconciled("silver", "silver_equals_source", repaired, run.rows_source, told)

    def _described(self) -> dict[str, _Described]:
        try:
            if self._rules.suffix == ".sql":
                rows = self._spark.sql(self._rules.read_text(encoding="utf-8")).collect()
                return {r.rule: _Described(r.severity, r.dimension, r.owner, r.rule) for r in rows}
            module = runpy.run_path(str(self._rules))
        except OSError:
            raise GateError(f"{self._rules} cannot be read; give the rules of the pipeline with --rules") from None
        return {
            rule.name: _Described(
                SEVERITY[rule.action],
                rule.dimension,
                rule.owner,
                rule.reason,
                next(iter(getattr(rule, "columns", ())), None),
            )
            for rule in (*module["RULES"], *module["CHECKS"])
        }


# What a rule judges that nothing is known of, and what its counts count.
_JUDGES = {"expectation": ("validity", "rows"), "cross-row check": ("consistency", "at fault")}


def _judged(
    kind: str, layer: str, table: str, name: str, rule: _Described | None, failed: int, evaluated: int
) -> Result:
    """The result of a rule of the pipeline; `rule` is what is known of it, or None."""
    dimension, counted = _JUDGES[kind]
    return Result(
        kind,
        layer,
        table,
        rule.column if rule else None,
        name,
        rule.dimension if rule else dimension,
        rule.severity if rule else CRITICAL,
        rule.owner if rule else "data platform",
        failed == 0,
        failed,
        evaluated,
        None if failed == 0 else f"{failed} {counted}: {rule.reason if rule else name}",
    )


def _of(
    table: contract.Table, column: str | None, rule: str, severity: str, passed: bool, message: str | None
) -> Result:
    return Result(
        "contract",
        table.layer,
        table.name,
        column,
        rule,
        "consistency",
        severity,
        "data platform",
        passed,
        message=message,
    )


def _reconciled(layer: str, rule: str, failed: int, evaluated: int, told: str) -> Result:
    return Result(
        "reconciliation",
        layer,
        "members",
        None,
        rule,
        "completeness",
        WARNING,
        "data platform",
        failed == 0,
        failed,
        evaluated,
        told if failed else None,
    )


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Verdict:
    """Runs the gate as the options say.

    Args:
        argv: the options of `quality-gate`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        GateError: a critical check failed, or the gate could not run; in one line.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 0, or 1 with one line on stderr, or 2 after a wrong option."""
    options = _parse(sys.argv[1:])
    try:
        print(_run(options))
    except Exception as error:
        if options.traceback:
            traceback.print_exc()
        # Of Spark's errors the class alone, since a message may quote a value.
        told = error.getCondition() if isinstance(error, PySparkException) else str(error)
        if not isinstance(error, GateError):
            told = f"the gate could not run: {type(error).__name__} {told}; run again with --traceback to see where"
        print(f"error: {told}", file=sys.stderr)
        raise SystemExit(1) from None


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Verdict:
    layers = ("bronze", "silver", "gold", "ops")
    schemas = {layer: f"{options.catalog}.{getattr(options, f'{layer}_schema')}" for layer in layers}
    gate = Gate(
        spark or SparkSession.builder.getOrCreate(),
        schemas,
        domain=options.domain,
        layers=options.layers.split(","),
        rules=options.rules,
        event_log=options.event_log or None,
    )
    verdict = gate.run(options.run_id, suites=options.suites == "true", docs=options.docs)
    if verdict.critical:
        raise GateError(f"{verdict}; {'; '.join(verdict.critical)}")
    return verdict


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quality-gate", description="Judges a pipeline's tables after an update.")
    parser.add_argument("--domain", choices=("members", "invoices"), default="members", help="(%(default)s)")
    parser.add_argument("--catalog", required=True)
    for layer in ("bronze", "silver", "gold", "ops"):
        parser.add_argument(f"--{layer}-schema", default=layer, help="(%(default)s)")
    parser.add_argument("--layers", default="bronze,silver,gold", help="whose tables are judged (%(default)s)")
    parser.add_argument("--rules", type=Path, required=True, help="rules.py of the pipeline, or a query of its rules")
    parser.add_argument("--event-log", default="", help="full name of the pipeline's event log")
    parser.add_argument("--docs", type=Path, default=None, help="folder for Data Docs, pages about the suites")
    parser.add_argument(
        "--suites",
        choices=("true", "false"),
        default="true",
        help="false leaves out Great Expectations, which takes ten seconds and more to start (%(default)s)",
    )
    parser.add_argument("--run-id", default=None, help="a name for the results; a random one by default")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    options = parser.parse_args(argv)
    if unknown := set(options.layers.split(",")) - {"bronze", "silver", "gold"}:
        parser.error(f"argument --layers: {sorted(unknown)[0]!r} is not bronze, silver or gold")
    return options
