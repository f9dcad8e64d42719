"""The event log as users query it: Databricks' published queries, word for word."""

from __future__ import annotations

import pytest

from lakeflow_local.bundle import sql_files
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import databricks_sql
from lakeflow_local.pipelines.sql import json_paths
from lakeflow_local.pipelines.sql.tokens import Source
from tests.lakeflow_local.project import Project


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "SELECT details:user_action:action, l.details:a['b c'] FROM l",
            "SELECT get_json_object(details, '$.user_action.action') AS `action`, "
            "get_json_object(l.details, '$.a[\\'b c\\']') AS `b c` FROM l",
        ),
        (
            "SELECT x FROM l WHERE details :flow_progress.metrics.num_output_rows::bigint > :n AND d::int = 1 LIMIT :m",
            "SELECT x FROM l WHERE get_json_object(details, '$.flow_progress.metrics.num_output_rows')::bigint > :n "
            "AND d::int = 1 LIMIT :m",
        ),
        (
            "SELECT Double(details:c.x[0].`odd y`) AS q, "
            "CAST(a AS STRUCT<b: INT, c: ARRAY<STRUCT<d: INT>>>), 'a:b' FROM l",
            "SELECT Double(get_json_object(details, '$.c.x[0][\\'odd y\\']')) AS q, "
            "CAST(a AS STRUCT<b: INT, c: ARRAY<STRUCT<d: INT>>>), 'a:b' FROM l",
        ),
        ("SELECT a FROM l WHERE a = p :p", "SELECT a FROM l WHERE a = p :p"),
    ],
)
def test_paths_are_rewritten_and_nothing_else(query: str, expected: str):
    assert json_paths(query, parameters=("p",)) == expected


SOURCES = """
    from pyspark import pipelines as dp

    @dp.table
    @dp.expect_or_drop("positive", "v > 0")
    @dp.expect("even", "v % 2 = 0")
    def kept():
        return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                .schema("v INT").load(spark.conf.get("landing")))

    @dp.materialized_view
    def total():
        return spark.read.table("kept").agg({"v": "sum"}).toDF("total")

    @dp.materialized_view
    def quality():
        return spark.sql("SELECT details:flow_progress.status FROM event_log(TABLE(kept))")
"""

# From Databricks' page on monitoring pipelines by their event log, but for the names of views.
QUERIES = """
    CREATE OR REPLACE TEMP VIEW event_log_raw AS SELECT * FROM event_log("{id}");

    CREATE OR REPLACE TEMP VIEW latest_update AS
    SELECT origin.update_id AS id FROM event_log_raw
    WHERE event_type = 'create_update' ORDER BY timestamp DESC LIMIT 1;

    SELECT
      row_expectations.dataset as dataset,
      row_expectations.name as expectation,
      SUM(row_expectations.passed_records) as passing_records,
      SUM(row_expectations.failed_records) as failing_records
    FROM
      (
        SELECT
          explode(
            from_json(
              details :flow_progress :data_quality :expectations,
              "array<struct<name: string, dataset: string, passed_records: int, failed_records: int>>"
            )
          ) row_expectations
        FROM
          event_log_raw,
          latest_update
        WHERE
          event_type = 'flow_progress'
          AND origin.update_id = latest_update.id
      )
    GROUP BY
      row_expectations.dataset,
      row_expectations.name
    ORDER BY expectation;

    SELECT
      details:flow_definition.output_dataset as output_dataset,
      details:flow_definition.input_datasets as input_dataset
    FROM event_log_raw, latest_update
    WHERE event_type = 'flow_definition' AND origin.update_id = latest_update.id
    ORDER BY output_dataset;

    SELECT timestamp, details:create_update:cause, details:create_update:runtime_version:dbr_version
    FROM event_log_raw WHERE event_type = 'create_update';

    SELECT sum(details:flow_progress.metrics.num_output_rows::bigint) AS rows
    FROM event_log(TABLE({schema}.kept)) WHERE details:flow_progress.status = 'COMPLETED'
"""


def test_published_queries_run_as_they_are(project: Project):
    project.source("a.py", SOURCES)
    project.land("1.json", {"v": 1}, {"v": 2}, {"v": -1})
    assert project.update().succeeded
    schema = f"spark_catalog.{project.schema}"
    text = QUERIES.format(id=project.spec.id, schema=project.schema)
    quality, lineage, created, rows = sql_files.run_text(project.spark, Source(text))
    assert [tuple(row) for row in quality.rows] == [
        (f"{schema}.kept", "even", 1, 2),
        (f"{schema}.kept", "positive", 2, 1),
    ]
    assert [tuple(row) for row in lineage.rows] == [
        (f"{schema}.kept", "[]"),
        (f"{schema}.quality", "[]"),
        (f"{schema}.total", f'["{schema}.kept"]'),
    ]
    assert created.columns == ("timestamp", "cause", "dbr_version")
    assert created.rows[0].cause == "USER_ACTION" and created.rows[0].dbr_version.startswith("lakeflow-local")
    assert rows.rows[0].rows == 2 + 1 + 0

    project.spark.sql('CREATE OR REPLACE TEMP VIEW variants AS SELECT parse_json(\'{"a": {"b": 1}}\') AS v')
    with databricks_sql.understood():
        log = project.spark.sql(f"SELECT details:update_progress.state FROM event_log('{project.spec.id}')")
        assert "COMPLETED" in {row.state for row in log.collect()}
        assert project.spark.sql("SELECT v:a.b::int AS b FROM variants").first().b == 1
        with pytest.raises(LakeflowError, match="no pipeline with the id nobody has run here"):
            project.spark.sql("SELECT * FROM event_log('nobody')")
    for view in ("event_log_raw", "latest_update", "variants"):
        project.spark.catalog.dropTempView(view)
