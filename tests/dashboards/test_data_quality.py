"""The data-quality dashboard: its file is what the sources make, and its queries give what its tiles ask for."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from pyspark.sql import SparkSession

from dashboards import build
from ingest.run_log import SCHEMA as RUNS
from lakeflow_local import home as homes
from lakeflow_local.bundle import load, queries
from lakeflow_local.dashboard import document, rows
from lakeflow_local.dashboard.lint import lint
from lakeflow_local.pipelines.event_log import SCHEMA as EVENTS
from quality.results import SCHEMA as CHECKED
from quality.results import SEVERITY

FILE = build.FILES[0]
SCHEMAS = {f"{layer}_schema": f"{layer}_of_test_dashboard" for layer in ("bronze", "silver", "gold", "ops")}


def test_the_file_is_built_and_has_no_fault() -> None:
    assert FILE.read_text(encoding="utf-8") == build.built(FILE), "run python -m dashboards.build"
    assert lint(document.read(FILE)) == []


def test_the_catalogue_has_every_rule_of_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (build.ROOT / "sql" / "quality" / "shared" / "catalogue.sql").read_text(encoding="utf-8")
    (statement,) = queries.parsed(queries.Source(text), {})
    (values,) = statement.find_all(queries.exp.Values)
    catalogue = {row.expressions[0].name: row.expressions[1].name for row in values.expressions}
    assert len(catalogue) == len(values.expressions)
    bundle = load.load(homes.find(build.ROOT).root, "local", [], environment={})
    outlined = [queries.outlined(bundle, pipeline) for pipeline in bundle.of_type("pipelines").values()]
    rules = {
        rule.name: SEVERITY[rule.action.lower()]
        for found in outlined
        for dataset in found.datasets
        for rule in dataset.expectations
    }
    assert catalogue == rules
    told = {row.expressions[0].name: tuple(cell.name for cell in row.expressions[2:]) for row in values.expressions}
    monkeypatch.syspath_prepend(build.ROOT / "pipelines" / "members")
    members = importlib.import_module("rules")
    assert {r.name: (r.dimension, r.owner) for r in (*members.RULES, *members.CHECKS)}.items() <= told.items()
    monkeypatch.delitem(sys.modules, "rules")


@pytest.fixture(scope="module")
def tables(spark: SparkSession) -> Iterator[None]:
    """A day of two updates: in the first, 2 of 10 e-mail addresses are refused, in the second 1 of 5."""
    for schema in SCHEMAS.values():
        spark.sql(f"CREATE SCHEMA {schema}")

    def put(layer: str, name: str, data: list, kind: object) -> None:
        frame = spark.createDataFrame(data, kind).coalesce(1)
        frame.write.format("parquet").saveAsTable(f"{SCHEMAS[f'{layer}_schema']}.{name}")

    def event(hour: int, kind: str, details: dict, update: str, level: str = "INFO") -> dict:
        return {
            "event_type": kind,
            "timestamp": datetime(2026, 3, 1, hour, tzinfo=UTC),
            "level": level,
            "origin": {"update_id": update, "pipeline_name": "members", "dataset_name": "c.silver.members_changes"},
            "details": json.dumps({kind: details}),
            "error": {"fatal": True, "exceptions": [{"class_name": "X", "message": "m"}]} if level == "ERROR" else None,
        }

    def checked(hour: int, update: str, passed: int, failed: int) -> dict:
        counts = [
            {"name": name, "dataset": "c.silver.members_changes", "passed_records": p, "failed_records": f}
            for name, p, f in (("email_valid", passed, failed), ("city_present", passed + failed, 0))
        ]
        details = {
            "data_quality": {"expectations": counts},
            "metrics": {"num_output_rows": passed, "backlog_bytes": failed},
        }
        return event(hour, "flow_progress", details, update)

    def described(table: str, *columns: str) -> dict:
        schema = {"type": "struct", "fields": [{"name": name, "type": "string"} for name in columns]}
        return event(1, "flow_definition", {"output_dataset": table, "schema_json": json.dumps(schema)}, "u1")

    put(
        "ops",
        "members_event_log",
        [
            described("c.silver.members_changes", "member_id", "email_normalised", "city", "_op"),
            described("c.silver.members", "member_id", "city"),
            described("c.gold.dim_customer", "customer_name", "customer_id"),
            described("members_normalised", "city"),
            checked(1, "u1", 8, 2),
            event(2, "update_progress", {"state": "COMPLETED"}, "u1"),
            checked(3, "u2", 4, 1),
            event(4, "flow_progress", {}, "u2", "ERROR"),
            event(5, "update_progress", {"state": "FAILED"}, "u2"),
        ],
        EVENTS,
    )
    put("ops", "invoices_event_log", [], EVENTS)
    put("ops", "members_gold_event_log", [], EVENTS)
    at = datetime(2026, 3, 1, tzinfo=UTC)
    gate = ("contract", "silver", "members", None, "email", "validity", "critical", "CRM")
    checks = [("r1", at, *gate, False, 1, 2, None), ("r2", at.replace(hour=2), *gate, True, 0, 2, None)]
    put("ops", "dq_results", checks, CHECKED)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    run = {
        "source_table": "shop.members",
        "status": "succeeded",
        "mode": "incremental",
        "ended_at": now,
        "run_id": "r1",
    }
    put(
        "ops",
        "ingest_runs",
        [
            {**run, "rows_landed": 15},
            {**run, "mode": "reconcile", "rows_source": 13, "rows_landed": 3, "rows_deleted": 1},
        ],
        RUNS,
    )
    put(
        "bronze",
        "members",
        [(str(n), "r1" if n else "redriven") for n in range(15)],
        "member_id STRING, _run_id STRING",
    )
    put("silver", "members_changes", [(str(n),) for n in range(12)], "member_id STRING")
    put("silver", "members", [(str(n),) for n in range(12)], "member_id STRING")
    refused = [(date(2026, 3, 1), ["email_valid"]), (date(2026, 3, 1), ["email_valid", "city_present"])]
    put("silver", "members_history", [(str(n), None) for n in range(13)], "member_id STRING, __END_AT TIMESTAMP")
    put("silver", "members_quarantine", refused, "ingest_date DATE, failed_rules ARRAY<STRING>")
    put("silver", "invoices_quarantine", [], "landed_at TIMESTAMP, failed_rules ARRAY<STRING>")
    put(
        "gold",
        "dim_customer",
        [("k", "C1", "A"), ("u", None, "?")],
        "customer_sk STRING, customer_id STRING, customer_name STRING",
    )
    put(
        "gold",
        "fact_invoice",
        [(date(2024, 1, 2), "HKD", 1, True, "k", 1.0), (date(2024, 1, 3), "USD", -1, False, "u", None)],
        "invoice_date DATE, currency_code STRING, document_sign INT, reconciles BOOLEAN, customer_sk STRING,"
        " total_amount_rpt DOUBLE",
    )
    put(
        "gold",
        "fact_invoice_line",
        [("i1", date(2024, 1, 2), "k", 20.0, 18.0, 11.0, 1, False, False)],
        "invoice_sk STRING, invoice_date DATE, customer_sk STRING, signed_total_amount_rpt DOUBLE,"
        " signed_ex_tax_amount_rpt DOUBLE, quantity DOUBLE, document_sign INT, is_cancelled BOOLEAN,"
        " is_replaced BOOLEAN",
    )
    yield
    for schema in SCHEMAS.values():
        spark.sql(f"DROP SCHEMA {schema} CASCADE")


def test_every_query_runs_and_returns_what_tiles_ask_for(
    spark: SparkSession, tables: None, capfd: pytest.CaptureFixture[str]
) -> None:
    dashboard = document.read(FILE)
    found = rows.fetch(spark, dashboard, SCHEMAS)
    # The usage of a workspace is in a system table, which is nowhere else.
    told = {name: result.error for name, result in found.items() if result.error}
    assert told == {"cost": "only a workspace has system.billing.usage"}
    assert "Traceback" not in (said := capfd.readouterr().err) and "stacktrace" not in said
    asked = [
        (query, text) for widget in dashboard.widgets for query in widget.queries for text in query.fields.values()
    ]
    for query, text in asked:
        if query.dataset != "cost":
            assert document.expression(text).column in found[query.dataset].columns

    (health,) = found["health"].rows
    assert (health["open_critical_failures"], health["open_failures"], health["rules_checked"]) == (0, 1, 2)
    assert health["score"] == pytest.approx(9 / 10)
    assert health["last_state"] == "FAILED"
    assert [(r["rule"], r["severity"], r["passed"], r["failed"]) for r in found["rules"].rows] == [
        ("city_present", "warning", 10, 0),
        ("email_valid", "warning", 8, 2),
        ("city_present", "warning", 5, 0),
        ("email_valid", "warning", 4, 1),
    ]
    assert [(r["table"], r["rule"], r["result"]) for r in found["gate"].rows] == [("silver.members", "email", "passed")]
    (failing,) = found["failing"].rows
    assert (failing["rule"], failing["owner"], failing["failed"], failing["failed_percent"]) == (
        "email_valid",
        "member service",
        1,
        20.0,
    )
    assert failing["failing_since"].startswith("2026-03-01T01:00")
    assert [(r["rows"], r["missing"]) for r in found["row_counts"].rows] == [
        (13, None),
        (18, 2),
        (15, 4),
        (14, 1),
        (12, 1),
    ]
    assert [(r["reason"], r["quarantined"]) for r in found["quarantine"].rows] == [
        ("email_valid", 2),
        ("city_present", 1),
    ]
    assert [
        (u["update_id"], u["state"], u["rows_written"], u["errors"], u["seconds"]) for u in found["updates"].rows
    ] == [
        ("u2", "FAILED", 4, 1, 7200),
        ("u1", "COMPLETED", 8, 0, 3600),
    ]
    (error,) = found["errors"].rows
    assert (error["class"], error["errors"], error["table"]) == ("X", 1, "silver.members_changes")
    assert [(c["table"], c["columns"], c["columns_with_rule"], c["share_of_all"]) for c in found["coverage"].rows] == [
        ("silver.members_changes", 4, 3, 0.375),
        ("gold.dim_customer", 2, 0, 0.375),
        ("silver.members", 2, 0, 0.375),
    ]
    kept = ("table", "personal_columns", "masked", "not_granted", "readable", "share_kept", "masked_of_all")
    assert [tuple(r[name] for name in kept) for r in found["privacy"].rows] == [
        ("gold.dim_customer", 1, 1, 0, 0, 1.0, "1 of 4"),
        ("silver.members", 1, 0, 1, 0, 1.0, "1 of 4"),
        ("silver.members_changes", 2, 0, 2, 0, 1.0, "1 of 4"),
    ]
    records: dict[tuple[str, str], int] = {}
    for row in found["outcomes"].rows:
        key = row["rule"], row["outcome"]
        records[key] = records.get(key, 0) + row["records"]
    assert records[("email_valid", "passed")] == 12 and records[("email_valid", "refused")] == 3
    assert [(r["table"], r["backlog_bytes"]) for r in found["backlog"].rows] == [("silver.members_changes", 1)]
    flags = ("is_credit_note", "does_not_reconcile", "has_unknown_customer", "has_no_exchange_rate")
    assert [tuple(r[flag] for flag in flags) for r in found["invoices"].rows] == [(0, 0, 0, 0), (1, 1, 1, 1)]
    assert found["invoices_with_quantity_over_10"].rows == ({"invoices_with_quantity_over_10": 1},)
