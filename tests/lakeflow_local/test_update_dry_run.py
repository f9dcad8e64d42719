"""Dry runs: every fault at once, with its place, and nothing written."""

from __future__ import annotations

from pathlib import Path

from tests.lakeflow_local.project import Project

GOOD = """
    CREATE OR REFRESH STREAMING TABLE raw (CONSTRAINT known EXPECT (k IS NOT NULL)) AS
      SELECT * FROM STREAM read_files('${landing}', format => 'json');
    CREATE OR REFRESH STREAMING TABLE typed AS SELECT raw.k, CAST(v AS INT) AS v FROM STREAM(raw);
    CREATE OR REFRESH MATERIALIZED VIEW ${other}.totals AS SELECT k, sum(v) AS total FROM typed GROUP BY k;
    CREATE OR REFRESH MATERIALIZED VIEW joined AS
      SELECT ${other}.totals.k, typed.v FROM ${other}.totals JOIN LIVE.typed ON typed.k = ${other}.totals.k;
    CREATE OR REFRESH STREAMING TABLE enriched AS
      SELECT t.*, j.total FROM STREAM typed t JOIN ${other}.totals j ON t.k = j.k;
    CREATE OR REFRESH STREAMING TABLE now;
    CREATE FLOW f AS AUTO CDC INTO now FROM STREAM(typed) KEYS (k) SEQUENCE BY v;
    CREATE TEMPORARY VIEW named AS SELECT k AS name FROM now;
    CREATE OR REFRESH MATERIALIZED VIEW watched AS SELECT event_type FROM event_log(TABLE(raw));
"""

BAD_SQL = """
    CREATE OR REFRESH MATERIALIZED VIEW no_column AS
      SELECT k,
        nothing
      FROM typed;
    CREATE OR REFRESH MATERIALIZED VIEW no_table AS SELECT * FROM nowhere;
    CREATE MATERIALIZED VIEW one AS SELECT * FROM two;
    CREATE MATERIALIZED VIEW two AS SELECT * FROM one;
    CREATE MATERIALIZED VIEW three AS SELECT * FROM two;
    CREATE MATERIALIZED VIEW no_type AS SELECT v + ARRAY(1) AS x FROM typed;
    CREATE MATERIALIZED VIEW rules (
      CONSTRAINT wrong EXPECT (nope > 1), CONSTRAINT right EXPECT (v > 1), CONSTRAINT number EXPECT (v + 1)
    ) AS SELECT * FROM typed;
    CREATE STREAMING TABLE batch AS SELECT * FROM typed;
    CREATE STREAMING TABLE counted AS SELECT k, count(*) AS n FROM STREAM typed GROUP BY k;
    CREATE MATERIALIZED VIEW laid_out CLUSTER BY (absent) AS SELECT * FROM typed;
    CREATE FLOW lost AS INSERT INTO typd BY NAME SELECT * FROM STREAM raw;
    CREATE STREAMING TABLE keyless;
    CREATE FLOW g AS AUTO CDC INTO keyless FROM STREAM(typed) KEYS (id) SEQUENCE BY v;
    CREATE MATERIALIZED VIEW typed AS SELECT 1 AS x;
    CREATE MATERIALIZED VIEW of_view AS SELECT name, missing FROM named;
"""

BAD_PYTHON = """
    from pyspark import pipelines as dp

    dp.create_sink("out", "parquet", {})
    dp.create_sink("queue", "no_such_format", {})

    @dp.append_flow(target="out")
    def to_out():
        return spark.readStream.table("raw")

    @dp.append_flow(target="queue")
    def to_queue():
        return spark.readStream.table("raw").select("typed.k")

    @dp.materialized_view
    def failing():
        frame = spark.read.table("typed").where("typed.v > 1")
        return frame.select("vv")

    @dp.table
    def reads_failing():
        return spark.read.table("failing")

    @dp.temporary_view
    def streamed():
        return spark.readStream.table("raw")

    @dp.table
    def reads_streamed():
        return spark.read.table("streamed")
"""


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _views(project: Project) -> set[str]:
    """The session's temporary views; those of other tests are among them."""
    return {row.tableName for row in project.spark.sql("SHOW TABLES").collect() if row.isTemporary}


def test_a_dry_run_finds_every_fault_and_writes_nothing(project: Project):
    project.land("1.json", {"k": "a", "v": "1"})
    project.source("0.sql", GOOD)
    before, views = _files(project.folder), _views(project)
    assert project.dry_run() == []
    assert not project.spark.catalog.databaseExists(project.schema)

    project.source("bad.sql", BAD_SQL)
    project.source("bad.py", BAD_PYTHON)
    project.source("broken.py", "x = 1\ndef f(:\n")
    found = [str(problem) for problem in project.dry_run()]
    expected = (
        "broken.py:2: syntax error",
        "bad.sql:4: [UNRESOLVED_COLUMN",
        "bad.sql:6: [TABLE_OR_VIEW_NOT_FOUND]",
        "datasets read each other in a circle",
        "bad.sql:10: [DATATYPE_MISMATCH",
        "bad.sql:11: expectation wrong of rules cannot be evaluated",
        "bad.sql:11: expectation number of rules must be true or false",
        "bad.sql:14: batch is a streaming table, but its query reads no stream",
        "bad.sql:15: counted: ",
        "bad.sql:16: laid_out is laid out by the column absent",
        "bad.sql:17: flow lost writes typd, which this pipeline does not define; did you mean typed?",
        "bad.sql:19: keyless: AUTO CDC: ",
        "typed is already defined at",
        "bad.sql:21: [UNRESOLVED_COLUMN",
        "bad.py:4: the parquet sink out needs the option path",
        "bad.py:13: [UNRESOLVED_COLUMN",
        "bad.py:18: [UNRESOLVED_COLUMN",
        "bad.py:28: streamed is a streaming view, which is read by readStream or STREAM; or set",
    )
    for text in expected:
        assert any(text in problem for problem in found), "\n".join([text, *found])
    assert len(found) == len(expected), "\n".join(found)
    assert all("\n" not in problem for problem in found)
    assert not project.spark.catalog.databaseExists(project.schema)
    assert _files(project.folder) - before == {
        project.folder / "sources" / name for name in ("bad.sql", "bad.py", "broken.py")
    }
    assert _views(project) == views
