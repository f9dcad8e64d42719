"""Materialized views are computed again when, and only when, their rows may have changed."""

from __future__ import annotations

import json

import pytest

from tests.lakeflow_local.project import Project

SOURCES = """
    CREATE OR REFRESH STREAMING TABLE raw AS
      SELECT * FROM STREAM read_files('${landing}', format => 'json', schema => 'k STRING, v INT');
    CREATE OR REFRESH MATERIALIZED VIEW totals AS SELECT k, sum(v) AS total FROM raw GROUP BY k;
    CREATE OR REFRESH MATERIALIZED VIEW best (CONSTRAINT large EXPECT (total > 1)) AS
      WITH top AS (SELECT max(total) AS most FROM totals)
      SELECT k, total, rank() OVER (ORDER BY total) AS n FROM totals WHERE total IN (SELECT most FROM top);
"""
EACH_TIME = """
    CREATE OR REFRESH MATERIALIZED VIEW today AS SELECT k, current_date() AS day FROM raw;
    CREATE OR REFRESH MATERIALIZED VIEW drawn AS SELECT k, rand() AS chance FROM raw;
    CREATE OR REFRESH MATERIALIZED VIEW files AS SELECT count(*) AS n FROM read_files('${landing}', format => 'json');
    CREATE OR REFRESH MATERIALIZED VIEW first AS SELECT count(*) AS n FROM raw VERSION AS OF 0;
    CREATE OR REFRESH MATERIALIZED VIEW given AS SELECT * FROM VALUES (1), (2) AS t (x);
"""

PYTHON = """
    from pyspark import pipelines as dp
    from pyspark.sql import functions as F

    @dp.temporary_view
    @dp.expect("small", "v < 100")
    def checked():
        return spark.read.table("raw")

    @dp.materialized_view
    def renamed():
        return spark.read.table("checked").groupBy("k").agg(F.max("v").alias("most")).where("most > LIMIT_")
"""
COMPUTED_EACH_TIME = {"today", "drawn", "files", "first", "given"}


def _computed(result) -> set[str]:
    return {f.dataset.split(".")[-1] for f in result.flows if f.status == "COMPLETED" and not f.unchanged} - {"raw"}


@pytest.mark.timeout(900)
def test_views_are_left_out_while_nothing_that_they_read_changes(project: Project):
    project.source("a.sql", SOURCES)
    project.source("b.py", PYTHON.replace("LIMIT_", "0"))
    project.source("c.sql", EACH_TIME)
    project.land("1.json", {"k": "a", "v": 1}, {"k": "b", "v": 2})
    certain = {"totals", "best", "renamed"}
    assert _computed(project.update()) == COMPUTED_EACH_TIME | certain

    again = project.update()
    assert again.succeeded, again.error
    assert _computed(again) == COMPUTED_EACH_TIME
    assert {r.name for r in again.expectations} == set(), "no row was seen, so nothing was counted"
    planned = {e.origin.flow_name.split(".")[-1]: json.loads(e.details) for e in project.events("planning_information")}
    chosen = {k: v["planning_information"]["technique_information"][0]["maintenance_type"] for k, v in planned.items()}
    assert {k for k, v in chosen.items() if v == "MAINTENANCE_TYPE_NO_OP"} == certain
    assert any(line.endswith("totals: unchanged, as is all that it reads") for line in project.said)

    (project.folder / "sources" / "c.sql").unlink()
    # Another definition, another row in the table by hand, a changed input, a full refresh.
    project.source("b.py", PYTHON.replace("LIMIT_", "1"))
    project.spark.sql(f"DELETE FROM {project.schema}.totals WHERE k = 'a'")
    assert _computed(project.update()) == certain
    assert project.rows("renamed") == [("b", 2)] and project.rows("totals") == [("a", 1), ("b", 2)]
    project.land("2.json", {"k": "a", "v": 5})
    assert _computed(project.update()) == certain
    assert project.rows("best") == [("a", 6, 1)]
    assert _computed(project.update(full_refresh=["totals"])) == {"totals"}


def test_a_clustered_view_is_written_so_that_files_can_be_skipped(project: Project):
    project.configuration["spark.databricks.delta.optimize.maxFileSize"] = "50000"
    project.source("a.sql", """
        CREATE OR REFRESH MATERIALIZED VIEW laid_out CLUSTER BY (k, id) AS
          SELECT id, CAST(hash(id) % 100 AS INT) AS k, sha2(CAST(id AS STRING), 256) AS text FROM range(0, 8000, 1, 2);
    """)  # fmt: skip
    table = f"{project.schema}.laid_out"
    # How large a row is, the first update guesses and the second one knows.
    for files in (range(4, 100), range(10, 30)):
        assert project.update(full_refresh=True).succeeded
        (detail,) = project.spark.sql(f"DESCRIBE DETAIL {table}").collect()
        assert detail.clusteringColumns == ["k", "id"] and detail.numFiles in files, detail
        of_one_key = project.spark.table(table).where("k = 7").select("_metadata.file_path").distinct().count()
        assert of_one_key <= 4, "each of two tasks has it in one file, or at the edge of two"
