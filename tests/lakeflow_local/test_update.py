"""Updates of small pipelines, Python and SQL, on real files and Delta tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import flows, update
from tests.lakeflow_local.project import Project

EVENTS = """
    CREATE OR REFRESH STREAMING TABLE events AS
    SELECT *, _metadata.file_name AS file FROM STREAM read_files('${landing}', format => 'json');
"""


def test_each_file_is_read_once_and_tables_follow(project: Project):
    project.source("a.sql", EVENTS)
    project.source(
        "b.py",
        """
        from pyspark import pipelines as dp

        @dp.materialized_view
        def totals():
            return spark.read.table("events").groupBy("k").agg({"v": "sum"}).withColumnRenamed("sum(v)", "total")
        """,
    )
    project.land("1.json", {"k": "a", "v": 1}, {"k": "b", "v": 2})
    first = project.update()
    assert first.succeeded and {f.dataset.split(".")[-1]: f.rows for f in first.flows} == {"events": 2, "totals": 2}
    project.land("2.json", {"k": "a", "v": 10})
    second = project.update()
    assert {f.dataset.split(".")[-1]: f.rows for f in second.flows} == {"events": 1, "totals": 2}
    assert project.rows("events", "k", "v", "file") == [("a", 1, "1.json"), ("a", 10, "2.json"), ("b", 2, "1.json")]
    assert project.rows("totals", "k", "total") == [("a", 11), ("b", 2)]
    assert "_metadata" not in project.spark.table(f"{project.schema}.events").columns


def test_what_dlt_table_is_depends_on_its_frame(project: Project):
    project.land("1.json", {"k": "a"})
    project.source(
        "a.py",
        """
        import dlt

        @dlt.table
        def raw():
            return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                    .load(spark.conf.get("landing")))

        @dlt.table(name="counted")
        def _():
            return dlt.read("LIVE.raw").groupBy("k").count()

        @dlt.table
        def copied():
            return dlt.read_stream("raw")
        """,
    )
    project.update()
    kinds = {e.origin.dataset_name.split(".")[-1]: json.loads(e.details) for e in project.events("dataset_definition")}
    assert {k: v["dataset_definition"]["dataset_type"] for k, v in kinds.items()} == {
        "raw": "STREAMING_TABLE",
        "counted": "MATERIALIZED_VIEW",
        "copied": "STREAMING_TABLE",
    }
    assert project.rows("counted") == [("a", 1)]


RULES = """
    from pyspark import pipelines as dp

    dp.create_streaming_table("kept", expect_all={"even": "v % 2 = 0"}, expect_all_or_drop={"positive": "v > 0"})

    @dp.append_flow(target="kept")
    def from_files():
        return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                .option("cloudFiles.inferColumnTypes", "true").load(spark.conf.get("landing")))
"""


def test_expectations_count_and_drop(project: Project):
    project.source("a.py", RULES)
    project.land("1.json", {"v": 1}, {"v": 2}, {"v": -1}, {"v": -2}, {"v": None})
    result = project.update()
    assert {(r.name, r.action.value): (r.passed, r.failed, r.nulls) for r in result.expectations} == {
        ("even", "warn"): (3, 2, 1),
        ("positive", "drop"): (3, 2, 1),
    }
    assert result.flows[0].dropped == 2
    assert project.rows("kept", "v") == [(1,), (2,), (None,)]


def test_the_event_log_answers_the_documented_query(project: Project):
    project.source("a.py", RULES)
    project.land("1.json", {"v": 1}, {"v": 2}, {"v": -1})
    project.update()
    log = update.event_log_table(project.spec)
    rows = project.spark.sql(
        f"""
        SELECT e.name, e.passed_records, e.failed_records, dropped FROM (
          SELECT explode(from_json(get_json_object(details, '$.flow_progress.data_quality.expectations'),
            'array<struct<name: string, dataset: string, passed_records: int, failed_records: int>>')) AS e,
            get_json_object(details, '$.flow_progress.data_quality.dropped_records') AS dropped
          FROM {log} WHERE event_type = 'flow_progress')
        """
    ).collect()
    assert sorted(map(tuple, rows)) == [("even", 1, 2, "1"), ("positive", 2, 1, "1")]
    states = [json.loads(e.details)["update_progress"]["state"] for e in project.events("update_progress")]
    assert states == ["INITIALIZING", "SETTING_UP_TABLES", "RUNNING", "COMPLETED"]


def test_a_failing_expectation_writes_nothing_and_only_its_readers_are_skipped(project: Project):
    project.land("1.json", {"v": 1}, {"v": -7})
    project.source(
        "a.sql",
        """
        CREATE OR REFRESH STREAMING TABLE raw AS
          SELECT * FROM STREAM read_files('${landing}', format => 'json');
        CREATE OR REFRESH STREAMING TABLE strict (CONSTRAINT positive EXPECT (v > 0) ON VIOLATION FAIL UPDATE)
          AS SELECT * FROM STREAM raw;
        CREATE OR REFRESH MATERIALIZED VIEW reader AS SELECT count(*) AS n FROM strict;
        CREATE OR REFRESH MATERIALIZED VIEW other AS SELECT count(*) AS n FROM raw;
        """,
    )
    result = project.update()
    assert {f.dataset.split(".")[-1]: f.status for f in result.flows} == {
        "raw": "COMPLETED",
        "strict": "FAILED",
        "reader": "SKIPPED",
        "other": "COMPLETED",
    }
    assert not result.succeeded
    assert "EXPECTATION_VIOLATION" in result.error and "'positive'" in result.error
    assert "-7" not in result.error, "a row's data must not be in an error"
    assert project.rows("strict") == [] and project.rows("other") == [(2,)]


def test_a_rule_that_is_null_passes_unless_the_pipeline_says_otherwise(project: Project, monkeypatch):
    project.source("a.py", RULES)
    project.land("1.json", {"v": 1}, {"v": None})
    strict = {**project.spec.configuration, "lakeflow_local.expectations.nullIsViolation": "true"}
    result = update.run(project.spark, replace(project.spec, configuration=strict), progress=project.said.append)
    assert {r.name: (r.passed, r.failed, r.nulls) for r in result.expectations}["positive"] == (1, 1, 1)
    assert project.rows("kept", "v") == [(1,)]


def test_views_are_evaluated_for_each_reader_with_counters_of_its_own(project: Project):
    project.land("1.json", {"v": 1}, {"v": 2})
    project.source(
        "a.sql",
        "CREATE OR REFRESH STREAMING TABLE raw AS SELECT * FROM STREAM read_files('${landing}', format => 'json');",
    )
    project.source(
        "b.py",
        """
        from pyspark import pipelines as dp

        @dp.temporary_view
        @dp.expect("big", "v > 1")
        def checked():
            return spark.readStream.table("raw")

        @dp.table
        def one():
            return spark.readStream.table("checked")

        @dp.table
        def two():
            return spark.sql("SELECT v + 1 AS v FROM STREAM checked")
        """,
    )
    result = project.update()
    assert [(r.dataset, r.passed, r.failed) for r in result.expectations] == [("checked", 1, 1)] * 2
    assert project.rows("two") == [(2,), (3,)]
    assert not project.spark.catalog.tableExists(f"{project.schema}.checked")


def test_flows_of_one_table_and_once(project: Project):
    project.source(
        "a.py",
        """
        from pyspark import pipelines as dp

        dp.create_streaming_table("all_of_them")

        for kind in ("x", "y"):
            @dp.append_flow(target="all_of_them", name=f"from_{kind}")
            def flow(kind=kind):
                return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
                        .load(spark.conf.get("landing") + "/" + kind).select("k"))

        @dp.append_flow(target="all_of_them", once=True)
        def backfill():
            return spark.createDataFrame([("old",)], "k string")
        """,
    )
    project.land("x/1.json", {"k": "x1"})
    project.land("y/1.json", {"k": "y1"})
    assert project.update().succeeded
    project.land("y/2.json", {"k": "y2"})
    assert project.update().succeeded
    assert project.rows("all_of_them") == [("old",), ("x1",), ("y1",), ("y2",)]


CHANGES = """
    CREATE OR REFRESH STREAMING TABLE feed (
      nr BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 10), origin STRING DEFAULT concat('fi', 'le')
    ) AS
      SELECT * FROM STREAM read_files('${landing}', format => 'json', schema => 'id INT, v STRING, n INT, op STRING');
    CREATE OR REFRESH STREAMING TABLE now (id INT, system STRING DEFAULT 'crm');
    CREATE FLOW now_flow AS AUTO CDC INTO now FROM STREAM(feed) KEYS (id)
      APPLY AS DELETE WHEN op = 'D' SEQUENCE BY n COLUMNS * EXCEPT (op, nr, origin) STORED AS SCD TYPE 1;
    CREATE OR REFRESH STREAMING TABLE past;
    CREATE FLOW past_flow AS AUTO CDC INTO past FROM STREAM(feed) KEYS (id)
      APPLY AS DELETE WHEN op = 'D' SEQUENCE BY n COLUMNS * EXCEPT (op, nr, origin) STORED AS SCD TYPE 2;
"""


def test_auto_cdc_in_sql_by_sequence_and_not_by_arrival(project: Project, monkeypatch):
    project.source("a.sql", CHANGES)
    project.land("1.json", {"id": 1, "v": "new", "n": 20}, {"id": 2, "v": "gone", "n": 5})
    project.update()
    project.land("2.json", {"id": 1, "v": "old", "n": 10}, {"id": 2, "n": 9, "op": "D"}, {"id": 2, "v": "late", "n": 7})
    result = project.update()
    assert result.succeeded, result.error
    assert project.rows("now") == [(1, "crm", "new", 20)]
    filled = project.rows("feed", "nr", "origin")
    assert len({nr for nr, _ in filled}) == 5 and {origin for _, origin in filled} == {"file"}
    assert project.rows("past", "id", "v", "__START_AT", "__END_AT") == [
        (1, "new", 20, None),
        (1, "old", 10, 20),
        (2, "gone", 5, 7),
        (2, "late", 7, 9),
    ]
    # With nothing to read no stream is started, until there is something again.
    with monkeypatch.context() as patch:
        patch.setattr(flows.Flows, "write", lambda *_: pytest.fail("a stream was started"))
        idle = project.update()
    assert idle.succeeded and not any(flow.did_something for flow in idle.flows), idle.error


def test_columns_that_arrive_later(project: Project):
    project.source("a.sql", EVENTS)
    project.land("1.json", {"k": "a"})
    project.update()
    project.land("2.json", {"k": "b", "more": {"x": 1}})
    assert project.update().succeeded
    assert project.rows("events", "k", "more") == [("a", None), ("b", (1,))]
    assert any("new columns" in line and "more" in line for line in project.said)


def test_a_broken_line_is_kept_and_its_file_named(project: Project):
    project.source("a.sql", EVENTS)
    project.land("1.json", {"k": "a"}, '{"k": "cut of')
    project.update()
    rescued = [row for row in project.rows("events", "k", "_rescued_data", "file") if row[0] is None]
    assert len(rescued) == 1 and json.loads(rescued[0][1])["_corrupt_record"] == '{"k": "cut of'
    assert any("1.json has 1 malformed" in line for line in project.said)


def test_parquet_files_that_are_cut_off_or_no_parquet(project: Project):
    project.source(
        "a.py",
        """
        from pyspark import pipelines as dp

        @dp.table
        def rows():
            return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "parquet")
                    .load(spark.conf.get("landing")))
        """,
    )
    good = project.folder / "good"
    project.spark.range(1000).coalesce(1).write.parquet(str(good))
    (written,) = good.glob("*.parquet")
    project.landing.mkdir()
    data = written.read_bytes()
    (project.landing / "good.parquet").write_bytes(data)
    (project.landing / "cut.parquet").write_bytes(data[: len(data) // 2])
    (project.landing / "text.parquet").write_text("not what it says")
    spoilt = bytearray(data)
    spoilt[8 : len(data) - 2000] = b"\xff" * (len(data) - 2008)
    (project.landing / "spoilt.parquet").write_bytes(bytes(spoilt))
    result = project.update()
    assert result.succeeded, result.error
    assert len(project.rows("rows")) == 1000
    for name in ("cut", "text", "spoilt"):
        assert any(f"{name}.parquet was left out" in line for line in project.said), name
    (project.landing / "mended.parquet").write_bytes(data)
    assert project.update().succeeded
    assert len(project.rows("rows")) == 2000


def test_full_refresh_reads_all_again_and_spares_what_must_not_be_reset(project: Project):
    project.source("a.sql", EVENTS)
    project.source(
        "b.sql",
        """CREATE OR REFRESH STREAMING TABLE precious TBLPROPERTIES ('pipelines.reset.allowed' = 'false')
           AS SELECT k FROM STREAM read_files('${landing}', format => 'json', schema => 'k STRING');""",
    )
    project.land("1.json", {"k": "a"})
    project.land("2.json", {"k": "b"})
    project.update()
    (project.landing / "1.json").unlink()
    assert project.update(full_refresh=True).succeeded
    assert project.rows("events", "k") == [("b",)]
    assert project.rows("precious", "k") == [("a",), ("b",)]


def test_a_definition_that_changes_changes_its_table(project: Project):
    project.land("1.json", {"k": "a"})
    project.source("a.sql", EVENTS)
    project.source("0.sql", "CREATE OR REFRESH MATERIALIZED VIEW its_reader AS SELECT count(*) AS n FROM m;")
    project.source("b.sql", "CREATE OR REFRESH MATERIALIZED VIEW m AS SELECT k FROM events;")
    project.update()
    project.source(
        "b.sql",
        """CREATE OR REFRESH MATERIALIZED VIEW m (k STRING COMMENT 'the key', n BIGINT NOT NULL) COMMENT 'counted'
           TBLPROPERTIES ('quality' = 'gold') AS SELECT k, count(*) AS n FROM events GROUP BY k;""",
    )
    assert project.update().succeeded
    assert project.rows("m") == [("a", 1)]
    described = project.spark.table(f"{project.schema}.m").schema
    assert described["k"].metadata["comment"] == "the key"


BAD: list[tuple[str, Callable[[Project], None], str]] = [
    ("syntax", lambda p: p.source("a.py", "x = 1\ndef broken(:\n"), "a.py:2: syntax error"),
    ("sql", lambda p: p.source("a.sql", "SELECT 1;\n"), "a.sql:1: "),
    (
        "unknown table",
        lambda p: p.source("a.sql", "\nCREATE OR REFRESH MATERIALIZED VIEW m AS\nSELECT *\nFROM nowhere;"),
        "a.sql:4: [TABLE_OR_VIEW_NOT_FOUND]",
    ),
    (
        "unknown column",
        lambda p: p.source("a.sql", "CREATE OR REFRESH MATERIALIZED VIEW m AS SELECT nothing\nFROM (SELECT 1 AS a);"),
        "a.sql:1: [UNRESOLVED_COLUMN",
    ),
    (
        "cycle",
        lambda p: p.source(
            "a.sql",
            "CREATE MATERIALIZED VIEW a AS SELECT * FROM b;\nCREATE MATERIALIZED VIEW b AS SELECT * FROM a;\n",
        ),
        "a.sql:1: datasets read each other in a circle: a -> b -> a",
    ),
    (
        "twice",
        lambda p: p.source(
            "a.sql", "CREATE MATERIALIZED VIEW a AS SELECT 1 AS x;\nCREATE MATERIALIZED VIEW A AS SELECT 2 AS x;\n"
        ),
        "a.sql:2: A is already defined at a.sql:1",
    ),
    (
        "python error",
        lambda p: p.source("a.py", "import dlt\n\n@dlt.table\ndef t():\n    return undefined_name\n"),
        "a.py:5: NameError",
    ),
    (
        "no frame",
        lambda p: p.source("a.py", "import dlt\n\n@dlt.table\ndef t():\n    return 5\n"),
        "a.py:3: the function of t must return a DataFrame; it returned int",
    ),
    (
        "rule",
        lambda p: p.source("a.sql", "CREATE MATERIALIZED VIEW a (CONSTRAINT c EXPECT (nope > 1)) AS SELECT 1 AS x;\n"),
        "a.sql:1: expectation c of",
    ),
    (
        "batch for stream",
        lambda p: p.source("a.sql", "CREATE STREAMING TABLE a AS SELECT 1 AS x;\n"),
        "a.sql:1: a is a streaming table, but its query reads no stream",
    ),
    ("empty folder", lambda p: p.source("a.sql", EVENTS), "there is no folder"),
    ("no dataset", lambda p: p.source("a.py", "x = 1\n"), "defines no dataset"),
    (
        "a sink without flows",
        lambda p: p.source("a.py", "from pyspark import pipelines as dp\ndp.create_sink('s', 'kafka', {})\n"),
        "a.py:2: no flow writes s; add one, or remove the sink",
    ),
]


@pytest.mark.parametrize(("write", "message"), [(w, m) for _, w, m in BAD], ids=[name for name, _, _ in BAD])
def test_bad_sources_are_refused_with_their_place_and_nothing_runs(project: Project, write, message):
    write(project)
    try:
        result = project.update()
    except LakeflowError as error:
        text = str(error)
    else:
        text = result.error or ""
    assert message in text
    assert "\n" not in text and "Traceback" not in text


def test_what_is_not_supported_is_an_error_of_its_own(project: Project):
    project.source("a.py", "import dlt\n\n@dlt.table(colour='red')\ndef t():\n    return spark.range(1)\n")
    with pytest.raises(UnsupportedError, match="colour"):
        project.update()


def test_dlt_is_there_for_the_sources_only(project: Project):
    project.source("a.py", "import dlt\n\n@dlt.table\ndef t():\n    import dlt\n    return spark.range(3)\n")
    assert project.update().succeeded
    with pytest.raises(ImportError):
        import dlt  # noqa: F401
