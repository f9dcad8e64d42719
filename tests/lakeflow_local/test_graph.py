"""`lakeflow-local pipelines graph`: the graph by the sources alone."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from lakeflow_local import cli
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.outline import Outline, outline

ROOT = Path(__file__).parents[2]


def graph_of(folder: Path, configuration: dict[str, str] | None = None, **files: str) -> Outline:
    """The outline of a folder with these files; `a__py` is `a.py`, `b__x__py` is `b/x.py`."""
    paths = []
    for name, text in files.items():
        *parts, suffix = name.split("__")
        path = folder.joinpath(*parts).with_suffix(f".{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        if not path.parent.name.startswith("lib"):
            paths.append(path)
    return outline(tuple(paths), root=folder, configuration=configuration or {}, names=Namespace("c", "s"))


def kinds(found: Outline) -> dict[str, str]:
    assert not found.errors, found.errors
    return {dataset.name: dataset.kind for dataset in found.datasets}


def inputs(found: Outline) -> dict[str, tuple[str, ...]]:
    assert not found.errors, found.errors
    return {dataset.name: dataset.inputs for dataset in found.datasets}


def test_a_table_is_streaming_by_what_its_function_reads(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from pyspark.sql.functions import *
            from pyspark.sql import Window, functions as F
            from pyspark.sql.types import StructType, StructField, StringType

            schema = StructType([StructField("id", StringType())])

            @dlt.table
            @dlt.expect_or_drop("id", "id IS NOT NULL")
            @dlt.expect("day", "day > '2020-01-01'")
            def raw():
                return (spark.readStream.format("cloudFiles").option("cloudFiles.format", "json").schema(schema)
                        .load("/x").withColumn("f", input_file_name()).where((col("a") > 1) & ~col("b").isin(1, 2)))

            @dlt.view
            def cleaned():
                df = dlt.read_stream("raw")
                for column in df.columns:
                    df = df.withColumnRenamed(column, column.lower())
                return df.join(spark.table("other.schema.customers"), ["id"], "left")

            @dlt.table(name="agg")
            def aggregated():
                w = Window.partitionBy("id").orderBy(F.desc("day"))
                return dlt.read("LIVE.raw").withColumn("n", row_number().over(w)).groupBy("id").agg(sum("n"))
        """,
    )
    assert kinds(found) == {"raw": "streaming_table", "cleaned": "temporary_view", "agg": "materialized_view"}
    assert inputs(found) == {"raw": (), "cleaned": ("other.schema.customers", "raw"), "agg": ("raw",)}
    assert [(r.name, r.predicate, r.action) for r in found.datasets[0].expectations] == [
        ("id", "id IS NOT NULL", "drop"),
        ("day", "day > '2020-01-01'", "warn"),
    ]


def test_datasets_made_in_loops_by_functions_from_settings_and_modules(tmp_path):
    found = graph_of(
        tmp_path,
        {"env": "dev"},
        a__py="""
            from pyspark import pipelines as dp
            from pyspark.sql import SparkSession
            from lib.helpers import tables, read
            from helper_of_nobody import clean

            spark = SparkSession.getActiveSession()
            catalog = spark.conf.get("catalog")
            env = spark.conf.get("env")
            limit = int(spark.conf.get("limit"))

            def make(name):
                @dp.table(name=f"{catalog}.{env}.{name}")
                def bronze():
                    return read(spark, name)

                @dp.materialized_view(name=f"{name}_clean")
                def silver():
                    return clean(spark.read.table(f"{catalog}.{env}.{name}"), limit)

            for name in tables:
                make(name)
        """,
        lib__helpers__py="""
            tables = ["one", "two"]

            def read(spark, name):
                return spark.readStream.format("kafka").option("subscribe", name).load()
        """,
    )
    assert kinds(found) == {
        "${catalog}.dev.one": "streaming_table",
        "one_clean": "materialized_view",
        "${catalog}.dev.two": "streaming_table",
        "two_clean": "materialized_view",
    }
    assert inputs(found)["one_clean"] == ("${catalog}.dev.one",)
    assert found.notes == ["helper_of_nobody is not here; what comes from it is not known"]


def test_cdc_flows_sinks_and_sql_in_python(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from pyspark.sql.functions import col, expr, struct

            dlt.create_streaming_table("customers", expect_all={"k": "id > 0"})
            dlt.apply_changes(target="customers", source="feed", keys=["id"], sequence_by=struct("ts", col("n")),
                              apply_as_deletes=expr("op = 'D'"), stored_as_scd_type="2")
            dlt.create_streaming_table(name="snapshots")
            dlt.apply_changes_from_snapshot("snapshots", lambda v: None, keys=[col("id")])
            dlt.create_streaming_table("events")
            dlt.create_sink("out", "delta", {"path": "/x"})

            @dlt.append_flow(target="events", once=True)
            def history():
                return spark.read.table("old.events")

            @dlt.append_flow(target="out", name="copy")
            def copied():
                return spark.readStream.table("events")

            @dlt.table
            def joined():
                return spark.sql(f"SELECT * FROM STREAM(LIVE.events) e JOIN customers USING (id)")
        """,
    )
    assert kinds(found) == {
        "customers": "streaming_table",
        "snapshots": "streaming_table",
        "events": "streaming_table",
        "out": "sink",
        "joined": "streaming_table",
    }
    assert inputs(found) == {
        "customers": ("feed",),
        "snapshots": (),
        "events": ("old.events",),
        "out": ("events",),
        "joined": ("customers", "events"),
    }
    assert [flow.kind for d in found.datasets for flow in d.flows] == [
        "auto_cdc",
        "auto_cdc_from_snapshot",
        "append",
        "append",
        "query",
    ]


def test_notebooks_of_both_kinds(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": ["%pip install x\n", "import dlt\n"]},
        {"cell_type": "code", "source": "@dlt.table\ndef from_jupyter():\n    return spark.range(3)"},
        {"cell_type": "code", "source": "%sql\nCREATE LIVE TABLE from_cell AS SELECT * FROM LIVE.from_jupyter"},
    ]
    (tmp_path / "j.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    found = graph_of(
        tmp_path,
        a__py="""\
            # Databricks notebook source
            # MAGIC %md
            # MAGIC # A title

            # COMMAND ----------

            # MAGIC %pip install something
            # MAGIC %run ./lib/common $x="1"

            # COMMAND ----------

            # MAGIC %run ./lib/common

            # COMMAND ----------

            import dlt

            @dlt.table(name=prefix + "one")
            def one():
                return spark.read.table("x.y")

            # COMMAND ----------

            # DBTITLE 1,In SQL
            # MAGIC %sql
            # MAGIC CREATE OR REFRESH STREAMING TABLE two
            # MAGIC AS SELECT * FROM STREAM(one)
        """,
        lib__common__py="""
            # Databricks notebook source
            prefix = "p_"
        """,
        b__sql="""\
            -- Databricks notebook source
            -- MAGIC %md
            -- MAGIC # Title
            -- COMMAND ----------
            CREATE MATERIALIZED VIEW ${schema}.three (CONSTRAINT c EXPECT (id > 0) ON VIOLATION FAIL UPDATE)
            AS SELECT * FROM two
        """,
    )
    assert kinds(found) == {
        "p_one": "materialized_view",
        "two": "streaming_table",
        "${schema}.three": "materialized_view",
    }
    assert {d.name: d.line for d in found.datasets} == {"p_one": 18, "two": 26, "${schema}.three": 5}
    jupyter = outline((tmp_path / "j.ipynb",), root=tmp_path, configuration={}, names=Namespace("c", "s"))
    assert inputs(jupyter) == {"from_jupyter": (), "from_cell": ("from_jupyter",)}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("def f(:\n    pass\n", 1, "syntax error"),
        ("import dlt\nx = undefined_name\n", 2, "NameError: name 'undefined_name' is not defined"),
        ("import dlt\n@dlt.table\ndef a(): return dlt.read('b')\n@dlt.table\ndef b(): return dlt.read('a')\n", 2,
         "datasets read each other in a circle: a -> b -> a"),
        ("import dlt\n@dlt.table\ndef a(): return spark.range(1)\n@dlt.table(name='a')\ndef b(): pass\n", 4,
         "a is already defined at"),
        ("import dlt\n@dlt.append_flow(target='t')\ndef a(): return spark.range(1)\n", 2,
         "flow a writes t, which this pipeline does not define"),
        ("import dlt\n@dlt.update_flow\ndef a(): pass\n", 2, "update_flow needs target=, the sink it writes"),
        ("import helper_of_nobody as h\nh.make_tables()\n", 1,
         "defines no dataset; it may be in helper_of_nobody, "
         "which is not here: install it, or put it beside the sources"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_with_its_line(tmp_path, text, line, message):
    found = graph_of(tmp_path, a__py=text)
    assert [(fault.file, fault.line) for fault in found.errors] == [(str(tmp_path / "a.py"), line)]
    assert message in found.errors[0].message


def test_the_query_of_what_is_defined_twice_is_no_fault_of_its_own(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="CREATE OR REFRESH LIVE TABLE pears AS SELECT * FROM raw.pears;\n"
        "CREATE OR REFRESH LIVE TABLE pears AS SELECT kind, count(*) FROM LIVE.pears GROUP BY kind;\n",
    )
    assert [(fault.line, fault.message) for fault in found.errors] == [
        (2, "pears is already defined at a.sql:1; remove one")
    ]
    assert [(each.name, each.inputs) for each in found.datasets] == [("pears", ("raw.pears",))]


def test_a_file_at_fault_does_not_hide_the_others(tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.sql").write_text(
        "CREATE OR REFRESH STREAMING TABLE x AS\n\nSELECT 1;\nSELECT 2;\nCREATE VIEW v;\n"
    )
    (tmp_path / "good.py").write_text("import dlt\n@dlt.table\ndef a(): return spark.range(1)\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pipelines", "graph", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert [d["name"] for d in told["datasets"]] == ["a"]
    assert [(e["file"], e["line"]) for e in told["errors"]] == [("bad.sql", 5)]
    assert err.startswith("error: bad.sql:5: expected AS and a query after VIEW v; found the end of the statement")
    assert set(told["datasets"][0]) == {"name", "kind", "inputs", "expectations", "file", "line", "flows"}


def test_a_symbol_never_goes_on_for_ever(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt, time
            from external import thing

            while thing.pending():
                time.sleep(1000)
            a, b = thing.pair()
            first, *rest = thing.many()
            total = sum(1 for _ in thing)
            class Config(thing.Base):
                name: str = "x"
            config = Config(other=3)

            @thing.decorated(x=1)
            def helper(df):
                return df.where("x > 1")

            @dlt.table
            def t():
                while True:
                    if thing.done():
                        break
                return helper(spark.readStream.table("a.b.c")).select(config.other, *[c for c in thing.columns])
        """,
    )
    assert kinds(found) == {"t": "streaming_table"}


def test_the_projects_own_pipelines(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    for key in ("members", "invoices"):
        assert cli.main(["pipelines", "graph", key, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert len(told["datasets"]) >= 7 and all(d["file"].startswith("pipelines/") for d in told["datasets"])
        assert cli.main(["pipelines", "graph", key, "--mermaid"]) == 0
        assert capsys.readouterr().out.startswith("flowchart LR")
        assert cli.main(["pipelines", "graph", key]) == 0
        assert "materialized view" in capsys.readouterr().out


def test_newer_declarations_are_in_the_graph_and_refused_in_an_update(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark import pipelines as dp

            dp.create_sink("s", "kafka", {"topic": "t"})

            @dp.update_flow(target="s")
            def counted():
                return spark.readStream.table("p").groupBy("k").count()

            dp.create_streaming_table("p")

            @dp.replace_flow(target="p", replace_using=["id"])
            def replaced():
                return spark.readStream.table("raw.p")

            @dp.table(replace_where="day > 1")
            def late():
                return spark.readStream.table("p")

            dp.create_table(name="m")

            @dp.append_flow(target="m", depends_on="replaced")
            def into_m():
                return spark.readStream.table("p")

            @dp.append_flow(target="m", prio=1)
            def also_into_m():
                return spark.readStream.table("p")

            dp.create_auto_cdc_flow(
                target="p",
                source="raw.q",
                keys=["a"],
                sequence_by="b",
                system_sequence_by="s",
                stored_as_scd_type="bitemporal",
            )
        """,
    )
    assert kinds(found) == {"s": "sink", "p": "streaming_table", "late": "streaming_table", "m": "streaming_table"}
    assert inputs(found) == {"s": ("p",), "p": ("raw.p", "raw.q"), "late": ("p",), "m": ("p",)}
    assert not found.errors
    refused = [what for _, known, what in (note.partition(" an update refuses it: ") for note in found.notes) if known]
    replaces = "declare a materialized view, which has what its query gives, or an AUTO CDC flow with the same keys"
    assert [tuple(what.split(" is not supported by lakeflow_local; ")) for what in sorted(refused)] == [
        ("replace_flow", replaces),
        ("the argument depends_on of append_flow()", "remove it, since flows run in the order of what they read"),
        ("the argument prio of append_flow()", "remove it, or correct its name"),
        ("the argument replace_where of table()", replaces),
    ]


def test_only_its_own_query_writes_a_view(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="CREATE MATERIALIZED VIEW m AS SELECT 1;\nAPPLY CHANGES INTO m FROM STREAM b KEYS (id) SEQUENCE BY n",
    )
    (fault,) = found.errors
    assert (fault.line, fault.message) == (
        2, "flow m writes m, a view that only its own query writes; flows write streaming tables",
    )  # fmt: skip
