"""Selections, resets, retries, sinks, event hooks and private tables, in updates of one small pipeline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.resolve import hidden_schema
from tests.lakeflow_local.project import Project

SOURCES = """
    from pathlib import Path

    from pyspark import pipelines as dp

    OUT = Path(spark.conf.get("out"))

    @dp.table
    def raw():
        return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                .schema("k STRING, v INT").load(spark.conf.get("landing")))

    @dp.foreach_batch_sink(name="each")
    def each(batch, number):
        if not (OUT / "tried").exists():
            (OUT / "tried").touch()
            raise OSError("the other side is away")
        batch.write.format("delta").mode("append").save(str(OUT / "each"))

    @dp.append_flow(target="each")
    def to_each():
        return spark.readStream.table("raw")

    @dp.on_event_hook
    def note(event):
        if event["event_type"] in ("update_progress", "flow_progress"):
            what = event["details"][event["event_type"]]
            with open(OUT / "events", "a") as file:
                print(event["event_type"], what.get("state") or what["status"], file=file)

    @dp.on_event_hook(max_allowable_consecutive_failures=2)
    def failing(event):
        raise ValueError(f"about {event['id']}")
"""
MORE = """
    from pathlib import Path

    from pyspark import pipelines as dp

    OUT = Path(spark.conf.get("out"))

    @dp.table(table_properties={"pipelines.reset.allowed": "false"})
    def precious():
        return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                .schema("k STRING").load(spark.conf.get("landing")))

    @dp.table(private=True, name="inner")
    def _():
        return spark.read.table("raw").where("raw.v > 1")

    @dp.materialized_view
    def outer_python():
        return spark.read.table("inner").select("inner.k")

    dp.create_sink("files", "json", {"path": str(OUT / "files")})
    dp.create_sink("table", "delta", {"tableName": spark.conf.get("sunk")})

    @dp.append_flow(target="files")
    def to_files():
        return spark.readStream.table("raw")

    @dp.append_flow(target="table")
    def to_table():
        return spark.readStream.table("raw").select("k")

    @dp.foreach_batch_sink(name="counts")
    def counts(batch, number):
        batch.write.format("delta").mode("append").save(str(OUT / "counts"))

    @dp.update_flow(target="counts")
    def to_counts():
        return spark.readStream.table("raw").groupBy().count()
"""
SQL = """
    CREATE OR REFRESH MATERIALIZED VIEW outer_sql AS
      SELECT inner.k, ${schema}.inner.v FROM ${schema}.inner JOIN LIVE.raw ON ${schema}.inner.k = LIVE.raw.k;
    CREATE TEMPORARY VIEW looked AS SELECT 1 AS x;
    CREATE OR REFRESH MATERIALIZED VIEW of_view AS SELECT * FROM looked;
    CREATE VIEW shown COMMENT 'it''s shown' AS SELECT inner.k FROM inner WHERE inner.v > 2;
    CREATE VIEW shown_too AS SELECT * FROM shown;
    CREATE VIEW kept_inside AS SELECT * FROM looked;
    CREATE OR REPLACE MATERIALIZED VIEW of_shown AS SELECT count(*) AS n FROM shown_too;
"""


def _statuses(result) -> dict[str, str]:
    return {flow.name.split(".")[-1]: flow.status for flow in result.flows}


@pytest.mark.timeout(900)
def test_what_an_update_takes_on_and_what_it_writes_beside_tables(project: Project, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    sunk = f"{project.schema}.sunk"
    project.configuration = {"out": str(out), "sunk": sunk, "schema": project.schema}
    project.source("a.py", SOURCES)
    project.land("1.json", {"k": "a", "v": 1}, {"k": "b", "v": 2})

    # A sink fails; its update is not tried again unless the configuration says so.
    failed = project.update()
    assert _statuses(failed)["to_each"] == "FAILED" and {*_statuses(failed).values()} == {"FAILED", "COMPLETED"}
    assert failed.error == "each: OSError: the other side is away"
    (out / "tried").unlink()
    project.configuration["pipelines.maxFlowRetryAttempts"] = "1"
    assert project.update().succeeded
    assert any("attempt 2 follows" in line for line in project.said)
    (out / "tried").unlink()
    project.configuration["pipelines.maxFlowRetryAttempts"] = "0"
    project.configuration["pipelines.numUpdateRetryAttempts"] = "1"
    project.land("2.json", {"k": "c", "v": 3})
    assert project.update().succeeded, "the update was tried again as a whole"
    causes = [json.loads(e.details)["create_update"]["cause"] for e in project.events("create_update")]
    assert causes[-2:] == ["USER_ACTION", "RETRY_ON_FAILURE"]

    # More datasets beside.
    project.source("b.sql", SQL)
    project.source("c.py", MORE)
    with pytest.raises(LakeflowError, match=r"no dataset outer_sqk; did you mean outer_sql"):
        project.update(refresh=["outer_sqk"])
    with pytest.raises(LakeflowError, match=r"precious must not be refreshed in full: pipelines.reset.allowed"):
        project.update(full_refresh=["precious"])
    with pytest.raises(LakeflowError, match=r"no dataset and no flow to_file; .*"):
        project.update(reset_checkpoint=["to_file"])
    with pytest.raises(LakeflowError, match="looked is a view"):
        project.update(refresh=["looked"])
    assert not project.spark.catalog.tableExists(f"{project.schema}.precious"), "a wrong selection writes nothing"

    assert project.update().succeeded
    assert project.rows("outer_python") == [("b",), ("c",)]
    assert project.rows("outer_sql") == [("b", 2), ("c", 3)]
    assert project.rows("shown") == project.rows("shown_too") == [("c",)] and project.rows("of_shown") == [(1,)]
    assert not project.spark.catalog.tableExists(f"{project.schema}.kept_inside")
    assert any("kept_inside is not in the catalog: it reads looked" in line for line in project.said)
    names = {row.tableName for row in project.spark.sql(f"SHOW TABLES IN {project.schema}").collect()}
    assert "inner" not in names and "outer_sql" in names
    assert project.spark.catalog.tableExists(f"{hidden_schema(project.spec)}.inner")

    read = project.spark.read
    assert sorted(r.k for r in read.json(str(out / "files")).collect()) == ["a", "b", "c"]
    assert sorted(r.k for r in project.spark.table(sunk).collect()) == ["a", "b", "c"]
    assert [r["count"] for r in read.format("delta").load(str(out / "counts")).collect()] == [3]
    assert sorted(r.k for r in read.format("delta").load(str(out / "each")).collect()) == ["a", "b", "c"]
    assert {e.origin.sink_name for e in project.events("sink_definition")} == {"files", "table", "each", "counts"}

    noted = (out / "events").read_text().splitlines()
    assert {"update_progress RUNNING", "flow_progress QUEUED", "update_progress COMPLETED"} <= {*noted}
    hooks = [json.loads(e.details)["hook_progress"] for e in project.events("hook_progress")]
    assert {(h["name"], h["status"], h["consecutive_failures"]) for h in hooks} == {
        ("failing", "FAILED", 1),
        ("failing", "DISABLED", 2),
    }
    assert any("event hook failing failed (2 in a row): ValueError; it is not called" in line for line in project.said)

    # Selected datasets alone; the others are left as they are, and are said to be.
    project.land("3.json", {"k": "d", "v": 4})
    some = project.update(refresh=["raw", "outer_python"])
    assert {name for name, status in _statuses(some).items() if status == "COMPLETED"} == {"raw", "outer_python"}
    assert _statuses(some)["to_files"] == "EXCLUDED"
    assert len(project.rows("raw")) == 4 and project.rows("outer_python") == [("b",), ("c",)]

    # Checkpoints alone: what is there already comes again.
    assert project.update(refresh=["raw"], reset_checkpoint=["raw"]).succeeded
    assert len(project.rows("raw")) == 8

    # Everything anew, what must not be reset and the rows of sinks aside.
    (project.landing / "1.json").unlink()
    assert project.update(full_refresh=True).succeeded
    assert project.rows("raw") == [("c", 3), ("d", 4)] and len(project.rows("precious")) == 4
    assert sorted(r.k for r in project.spark.table(sunk).collect()) == ["a", "b", "c", "c", "d"]


def test_sinks_that_cannot_work_are_refused_before_anything_runs(project: Project):
    project.land("1.json", {"k": "a"})
    source = """
        from pyspark import pipelines as dp

        dp.create_sink("s", {sink})

        @dp.append_flow(target="s"{more})
        def f():
            return {read}
    """
    stream = "spark.readStream.schema('k STRING').json(spark.conf.get('landing'))"
    for sink, more, read, kind, message in (
        ("'delta', {}", "", stream, LakeflowError, "the delta sink s needs the option path or tableName"),
        ("'kafka', {'topic': 't'}", "", stream, LakeflowError, "needs the options kafka.bootstrap.servers"),
        ("'kafka', {'kafka.bootstrap.servers': 'h:1'}", "", stream, UnsupportedError, "which Spark does not know"),
        ("'json', {'path': '/x'}", "", "spark.range(3)", LakeflowError, "the flow f of a sink reads no stream"),
        ("'json', {'path': '/x'}", ", once=True", stream, LakeflowError, "cannot be written by a flow that runs once"),
    ):
        project.source("a.py", source.format(sink=sink, more=more, read=read))
        with pytest.raises(kind, match=message) as caught:
            project.update()
        assert "a.py:" in str(caught.value)


def test_a_continuous_update_runs_until_it_is_told_to_stop(project: Project):
    project.configuration = {"pipelines.trigger.interval": "1 second"}
    project.source(
        "a.sql",
        """
        CREATE OR REFRESH STREAMING TABLE raw (CONSTRAINT known EXPECT (k IS NOT NULL)) AS
          SELECT * FROM STREAM read_files('${landing}', format => 'json', schema => 'k STRING');
        CREATE OR REFRESH MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM raw;
        """,
    )
    project.land("1.json", {"k": "a"})
    until = threading.Event()

    def said(part: str, times: int) -> Callable[[], bool]:
        return lambda: sum(part in line and "unchanged" not in line for line in [*project.said]) >= times

    def drive() -> None:
        try:
            _wait(said(".counted: 1 rows", 1))
            project.land("2.json", {"k": "b"}, {"k": None})
            _wait(said(".counted: 1 rows", 2))
        finally:
            until.set()

    driver = threading.Thread(target=drive)
    driver.start()
    result = project.update(until=until)
    driver.join()
    assert result.succeeded, result.error
    assert {f.dataset.split(".")[-1]: f.rows for f in result.flows}["raw"] == 3
    assert [(r.passed, r.failed) for r in result.expectations] == [(2, 1)]
    assert project.rows("counted") == [(3,)]
    states = [json.loads(e.details)["update_progress"]["state"] for e in project.events("update_progress")]
    assert states[-3:] == ["RUNNING", "STOPPING", "CANCELED"]


def _wait(met: Callable[[], bool]) -> None:
    end = time.monotonic() + 200
    while not met() and time.monotonic() < end:
        time.sleep(0.2)
