"""What the demonstration shows at its end, read out of the tables and the event logs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table

from ingest import extract
from ingest.members.table import MEMBERS
from ingest.source import Source
from ingest.tables import Window
from lakeflow_local.bundle import pipelines, sql_files
from lakeflow_local.bundle.load import Bundle
from lakeflow_local.home import find
from lakeflow_local.pipelines.update import event_log_table

ANALYSIS = {
    "top_customers": "top_five_customers_of_january_2024.sql",
    "invoices_with_quantity_over_10": "invoices_with_quantity_over_10.sql",
    "best_dates": "date_with_highest_total.sql",
}

_EXPECTATIONS = """
    SELECT e.dataset, e.name, sum(e.passed_records) AS passed, sum(e.failed_records) AS failed
    FROM (
      SELECT explode(from_json(
        get_json_object(details, '$.flow_progress.data_quality.expectations'),
        'array<struct<name: string, dataset: string, passed_records: bigint, failed_records: bigint>>'
      )) AS e
      FROM {log}
      WHERE event_type = 'flow_progress' AND origin.update_id IN ({updates})
    )
    GROUP BY ALL
    ORDER BY ALL
"""
_ACTIONS = """
    SELECT origin.dataset_name AS dataset, explode(from_json(
      get_json_object(details, '$.dataset_definition.expectations'), 'array<struct<name: string, action: string>>'
    )) AS e
    FROM {log}
    WHERE event_type = 'dataset_definition' AND origin.update_id IN ({updates})
"""


def collect(spark: SparkSession, bundle: Bundle, updates: Sequence[str]) -> dict[str, Any]:
    """The figures of `demo.json`, the seconds aside.

    Args:
        updates: ids of the pipeline updates of this run, whose expectations are shown.
    """
    names = _Names(bundle)
    return {
        "members": _members(spark, names),
        "invoices": _invoices(spark, names),
        "answers": _answers(spark, bundle),
        "expectations": _expectations(spark, bundle, updates),
    }


class _Names:
    """Full names of the lakehouse's tables."""

    def __init__(self, bundle: Bundle):
        self._variables = bundle.variables
        self.landing = str(bundle.variables["landing_url"])
        self.source = str(bundle.variables["source"])

    def __call__(self, layer: str, table: str) -> str:
        return f"{self._variables['catalog']}.{self._variables[f'{layer}_schema']}.{table}"


def _members(spark: SparkSession, names: _Names) -> dict[str, Any]:
    columns = list(MEMBERS.columns)
    source = Source.of(names.source)
    # By the ingest's own reader: a plain JDBC read pads what comes from a CHAR column.
    mysql = extract.rows(spark, source, MEMBERS, Window(), partitions=1).select(*columns).persist()
    counts = {
        "mysql": mysql,
        "landed": spark.read.parquet(f"{names.landing}/{MEMBERS.name}/"),
        "bronze": spark.table(names("bronze", "members")),
        "silver": spark.table(names("silver", "members")),
        "history": spark.table(names("silver", "members_history")),
        "quarantine": spark.table(names("silver", "members_quarantine")),
    }
    figures: dict[str, Any] = {name: frame.count() for name, frame in counts.items()}
    both = mysql.withColumn("n", F.lit(1)).unionByName(counts["silver"].select(*columns, F.lit(-1).alias("n")))
    compared = both.join(_refused_now(spark, names), "member_id", "left_anti")
    figures["silver_equals_mysql"] = compared.groupBy(*columns).agg(F.sum("n").alias("n")).where("n <> 0").isEmpty()
    mysql.unpersist()
    return figures


def _refused_now(spark: SparkSession, names: _Names) -> DataFrame:
    """Keys of the members whose latest change is in quarantine."""
    refused = spark.table(names("silver", "members_quarantine")).select(
        "member_id", "_changed_at", F.lit(1).alias("refused")
    )
    passed = spark.table(names("silver", "members_changes")).select(
        "member_id", "_changed_at", F.lit(0).alias("refused")
    )
    latest = refused.unionByName(passed).groupBy("member_id").agg(F.max_by("refused", "_changed_at").alias("refused"))
    return latest.where("refused = 1").select("member_id")


def _invoices(spark: SparkSession, names: _Names) -> dict[str, Any]:
    documents = spark.table(names("gold", "fact_invoice"))
    lines = spark.table(names("gold", "fact_invoice_line"))
    every = documents.agg(F.count(F.lit(1)).alias("documents"), F.bool_and("reconciles").alias("reconciled")).first()
    return {
        "documents": every.documents,
        "lines": lines.count(),
        "reconciled": bool(every.reconciled),
        "quarantined": spark.table(names("silver", "invoices_quarantine")).count(),
    }


def _answers(spark: SparkSession, bundle: Bundle) -> dict[str, Any]:
    parameters = {name: str(bundle.variables[name]) for name in ("catalog", "gold_schema")}
    rows = {}
    for name, file in ANALYSIS.items():
        (result,) = sql_files.run(spark, bundle.root / "sql" / "analysis" / file, parameters)
        rows[name] = result.rows
    return {
        "top_customers": [[r["customer_id"], _plain(r["total_purchase_amount"])] for r in rows["top_customers"]],
        "invoices_with_quantity_over_10": rows["invoices_with_quantity_over_10"][0][0],
        "best_dates": [[_plain(r["invoice_date"]), _plain(r["total_purchase_amount"])] for r in rows["best_dates"]],
    }


def _plain(value: Any) -> Any:
    """Money stays exact and a day a day: both are text in JSON."""
    return str(value) if isinstance(value, Decimal | date) else value


def _expectations(spark: SparkSession, bundle: Bundle, updates: Sequence[str]) -> list[dict[str, Any]]:
    home = find(bundle.root)
    ids = ", ".join(f"'{update}'" for update in updates)
    found = []
    for pipeline in bundle.of_type("pipelines").values():
        log = event_log_table(pipelines.spec(bundle, pipeline, home))
        rows = spark.sql(_ACTIONS.format(log=log, updates=ids)).collect()
        actions = {(row.dataset, row.e.name): row.e.action for row in rows}
        for row in spark.sql(_EXPECTATIONS.format(log=log, updates=ids)).collect():
            found.append({**row.asDict(), "action": actions[row.dataset, row["name"]]})
    return [{key: f[key] for key in ("dataset", "name", "action", "passed", "failed")} for f in found]


def show(console: Console, result: dict[str, Any]) -> None:
    """Prints the figures for a person."""
    console.print(_pairs("Members", result["members"]))
    console.print(_pairs("Invoices", result["invoices"]))
    answers = Table(title="The three questions", title_justify="left", show_header=False)
    for i, (customer, total) in enumerate(result["answers"]["top_customers"]):
        answers.add_row("top customers of January 2024" if i == 0 else "", str(customer), f"{Decimal(total):,}")
    over = result["answers"]["invoices_with_quantity_over_10"]
    answers.add_row("invoices with a quantity over 10", "", f"{over:,}")
    for day, total in result["answers"]["best_dates"]:
        answers.add_row("date with the highest total", day, f"{Decimal(total):,}")
    answers.columns[2].justify = "right"
    console.print(answers)
    expectations = Table(title="Expectations, out of the event log", title_justify="left")
    for name in ("dataset", "expectation", "action"):
        expectations.add_column(name)
    for name in ("passed", "failed"):
        expectations.add_column(name, justify="right")
    for e in result["expectations"]:
        dataset = e["dataset"].split(".", 1)[-1]
        expectations.add_row(dataset, e["name"], e["action"], f"{e['passed']:,}", f"{e['failed']:,}")
    console.print(expectations)
    console.print(_pairs("Seconds", result["seconds"]))


def _pairs(title: str, values: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in values.items():
        text = {True: "yes", False: "NO"}[value] if isinstance(value, bool) else f"{value:,}"
        table.add_row(name.replace("_", " "), text)
    return table
