"""`lakeflow-local pipelines graph`: the ways in which public pipelines are written, one test a class of them."""

from __future__ import annotations

import json
import os
import sys
import weakref
from pathlib import Path
from textwrap import dedent

import pytest

from lakeflow_local import cli
from lakeflow_local.pipelines import api
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.outline import outline
from lakeflow_local.pipelines.registry import Registry, collecting
from tests.lakeflow_local.test_graph import graph_of, inputs, kinds

NOT_HERE = "which is not here: install it, or put it beside the sources"


def rules(found) -> dict[str, list[tuple[str, str, str]]]:
    return {d.name: [(e.name, e.predicate, e.action) for e in d.expectations] for d in found.datasets}


def test_both_sides_of_a_condition_are_read(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            @dlt.table
            def by_data():
                df = spark.table("x")
                if df.count() == 0 or len(df.columns) < 3:
                    return spark.createDataFrame([], "a int")
                if "id" not in df.columns:
                    return df.join(spark.table("ids"), "n")
                return df

            @dlt.table
            def by_setting():
                if spark.conf.get("mode") == "stream":
                    return spark.readStream.table("y")
                return spark.read.table("y_history")

            @dlt.table
            def by_default():
                return spark.readStream.table("z") if spark.conf.get("m", "batch") == "stream" else spark.table("z")

            @dlt.table
            def by_error():
                frames = undefined + 1
                return spark.readStream.table("w")
        """,
    )
    assert inputs(found) == {
        "by_data": ("ids", "x"),
        "by_setting": ("y", "y_history"),
        "by_default": ("z",),
        "by_error": ("w",),
    }
    assert [d.kind for d in found.datasets] == [
        "materialized_view",
        "streaming_table",
        "materialized_view",
        "streaming_table",
    ]
    assert found.notes == [
        "a.py:25: by_error is followed by its text alone: NameError: name 'undefined' is not defined"
    ]


def test_values_that_are_not_known_go_through_any_library(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt, importlib, json, re
            from datetime import datetime, timedelta
            from pyspark.sql import functions as F
            from pyspark.sql.types import StructType, StringType
            from conf import kafka_options, TOPICS, cfg
            import conf

            start = datetime.strptime(spark.conf.get("start"), "%Y-%m-%d") - timedelta(days=int(spark.conf.get("days")))
            tables = json.loads(spark.conf.get("tables"))
            CONFIG = {"dev": {"catalog": "d"}, "prod": {"catalog": "p"}}
            env = spark.conf.get("env")
            catalog, other = CONFIG[env]["catalog"], CONFIG.get(env)["catalog"]
            if env not in ("dev", "prod"):
                raise ValueError(f"unknown environment {env}")
            with open("/Workspace/shared/settings.json") as file:
                settings = json.load(file)
            schema = StructType().add("a", StringType()).add("b", "int")
            try:
                with open("names.json") as file:
                    names = json.load(file)["names"]
            except FileNotFoundError:
                names = ["fallback"]
            for name in names:
                dlt.view(lambda: spark.range(1), name=name)
            importlib.import_module(settings["module"]).prepare(re.sub("a", "b", conf.TEXT), sorted(conf.NAMES))

            @dlt.table(table_properties=conf.PROPERTIES, schema=schema, comment=conf.COMMENT)
            def events():
                reader = spark.readStream.format("kafka").options(**kafka_options)
                df = reader.option("subscribe", ",".join(TOPICS)).load().select(*conf.COLUMNS)
                return df.join(spark.table(f"{catalog}.s.t"), "id").where(F.col("day") > start)

            @dlt.table(name=f"{cfg.schema}.{conf.PREFIX}_daily")
            def daily():
                return spark.table("events").join(spark.table(f"{other}.s.u"), "id")
        """,
    )
    assert list(kinds(found)) == ["fallback", "events", "${conf.cfg.schema}.${conf.PREFIX}_daily"]
    assert [len(found) for found in inputs(found).values()] == [0, 1, 2]
    assert "a.py:20: depends on names.json, which is not here" in found.notes
    assert "a.py:16: depends on /Workspace/shared/settings.json, which is not here" in found.notes
    assert "a.py:14: depends on ${env}, which only a running pipeline knows" in found.notes


def test_rules_from_elsewhere_and_from_columns(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from pyspark.sql import functions as F
            from pyspark.sql.functions import col, lit
            from quality import rules_of

            def from_table(tag):
                return {row["name"]: row["constraint"] for row in spark.table("rules").where(col("t") == tag).collect()}

            condition = "NOT ({})".format(" AND ".join(from_table("x").values()))

            @dlt.table
            @dlt.expect_all(from_table("x"))
            @dlt.expect_all_or_drop(rules_of("t"))
            @dlt.expect("given", F.col("id").isNotNull() & (F.length("name") > 2) & col("s").isin("a", "b"))
            @dlt.expect_or_fail("other", col("s") == lit("v"))
            def t():
                return spark.table("a").withColumn("bad", F.expr(condition))
        """,
    )
    assert kinds(found) == {"t": "materialized_view"}
    assert rules(found)["t"][2:] == [
        ("given", "((id IS NOT NULL) AND (length(name) > 2)) AND (s IN ('a', 'b'))", "warn"),
        ("other", "s = 'v'", "fail"),
    ]
    assert [name for name, _, _ in rules(found)["t"][:2]] == [
        "spark.table('rules').where(t = 'x').collect()[…]['name']",
        "quality.rules_of('t').items()[…][0]",
    ]


def test_sessions_and_options_from_elsewhere(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from typing import Callable
            from pyspark.sql import Column, DataFrame, functions as F
            from common import get_spark_session, options_of
            from common.session import spark as shared
            from . import beside

            def key(value: Callable[[], DataFrame] | str) -> Column:
                return value if isinstance(value, Column) else F.col(value)

            @dlt.table(**options_of("t"), refresh_policy="auto")
            def t():
                spark = get_spark_session()
                return spark.read.table("a").join(shared.readStream.table("b"), key("id")).join(spark.sql("TABLE c"))

            from conf import cfg

            beside.prepare()
            dlt.create_streaming_table("u", partition_cols=cfg.partitions, schema=cfg.schema, expect_all=cfg.rules)
            dlt.apply_changes(
                target="u", source="t", keys=cfg.keys, sequence_by=cfg.sequence, stored_as_scd_type=cfg.scd,
                column_list=cfg.columns, except_column_list=cfg.others, name=cfg.flow,
            )
        """,
    )
    assert kinds(found) == {"t": "streaming_table", "u": "streaming_table"}
    assert inputs(found) == {"t": ("a", "b", "c"), "u": ("t",)}
    assert (
        found.notes[0] == "a.py:12: depends on the options in common.options_of('t'), "
        "which only a running pipeline knows"
    )


def test_datasets_by_any_spelling_of_python(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import functools, glob, json, os
            from dataclasses import dataclass
            from enum import Enum
            from typing import NamedTuple
            import dlt as d
            from dlt import *
            import pyspark.pipelines as dp
            from databricks import pipelines as of_databricks

            class Layer(str, Enum):
                BRONZE = "bronze"

            class Spec(NamedTuple):
                name: str
                source: str = "raw"

            @dataclass
            class Step:
                name: str

                def register(self):
                    @dp.table(name=f"{Layer.BRONZE.value}_{self.name}", comment="c")
                    def _():
                        return self.read()

                def read(self):
                    return spark.readStream.format("cloudFiles").load("/x")

            def decorated(name, **options):
                def decorate(function):
                    @d.table(name=name, **options)
                    @functools.wraps(function)
                    def inner():
                        return function().withColumn("x", None)
                    return inner
                return decorate

            for name in ("p", "q"):
                Step(name).register()
            for spec in (Spec("s"),):
                globals()[spec.name] = d.view(functools.partial(spark.table, spec.source), name=spec.name)

            @decorated("wrapped", comment="w")
            def anything():
                return spark.readStream.table("p")

            @create_table(comment="old")
            def old():
                return readStream("wrapped")

            table(name="by_lambda")(lambda: d.read("old").unionByName(spark.table("s")))

            for path in sorted(glob.glob(os.path.join(os.path.dirname(__file__), "lib", "*.sql"))):
                with open("lib/" + os.path.basename(path)) as file:
                    query = file.read()
                dp.materialized_view(name=os.path.basename(path)[:-4])(lambda query=query: spark.sql(query))
        """,
        lib__b__sql="SELECT * FROM by_lambda JOIN c.d.e USING (id)",
    )
    assert kinds(found) == {
        "bronze_p": "streaming_table",
        "bronze_q": "streaming_table",
        "s": "temporary_view",
        "wrapped": "streaming_table",
        "old": "streaming_table",
        "by_lambda": "materialized_view",
        "b": "materialized_view",
    }
    assert inputs(found)["by_lambda"] == ("old", "s") and inputs(found)["b"] == ("by_lambda", "c.d.e")


def test_main_blocks_and_classes_from_elsewhere(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import os
            from pyspark import pipelines as dp
            from framework import Pipeline, NotThere

            class Own(Pipeline):
                def __init__(self, conf):
                    super().__init__(conf)

                def query(self):
                    return super().query().replace("a", "b")

                def register(self):
                    super().register()
                    try:
                        layer = {}["layer"]
                    except NotThere:
                        layer = spark.conf.get("layer", None) or os.environ.get("LAKEFLOW_LAYER")
                    if layer is None:
                        raise ValueError("no layer")

                    @dp.materialized_view(name=f"{layer}_t")
                    def t():
                        return spark.sql(self.query())

            if __name__ == "__main__":
                Own(spark.conf).register()
        """,
        utility__py="if __name__ == '__main__':\n    raise SystemExit('not meant to run')\n",
    )
    assert inputs(found) == {"${layer}_t": ("${Own.query().replace('a', 'b')}",)}


def test_spark_sql_views_snapshots_and_delta_tables(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from delta.tables import DeltaTable

            @dlt.table
            def by_view():
                spark.readStream.table("src").createOrReplaceTempView("tmp")
                return spark.sql("SELECT * FROM tmp JOIN {d} USING (id)", d=dlt.read("other"))

            @dlt.table
            def by_parameter():
                return spark.sql("SELECT * FROM IDENTIFIER(:t) JOIN json.`/a/b` USING (id)", args={"t": "a.b"})

            @dlt.table
            def of_delta():
                return DeltaTable.forName(spark, "a.b.c").toDF()

            def next_snapshot(latest):
                if latest is None:
                    return None
                return spark.table("snapshots"), 1

            dlt.create_target_table("s")
            dlt.apply_changes_from_snapshot("s", snapshot_and_version=next_snapshot, keys=["id"])
            dlt.create_streaming_table("p")
            dlt.apply_changes_from_snapshot("p", snapshot_and_version=(spark.read.table("raw.p"), 7), keys=["id"])
            dlt.create_streaming_table("t")
            dlt.apply_changes("t", "feed", ["id"], "n", apply_as_deletes=False)
        """,
    )
    assert inputs(found) == {
        "by_view": ("other", "src"),
        "by_parameter": ("a.b",),
        "of_delta": ("a.b.c",),
        "s": ("snapshots",),
        "p": ("raw.p",),
        "t": ("feed",),
    }
    assert found.datasets[0].kind == "streaming_table"


def test_following_a_source_does_nothing_to_the_machine(tmp_path, capfd):
    (tmp_path / "kept").write_text("")
    (tmp_path / "held").write_text("")
    # In a circle, so that only a collection finds it.
    holder = type("Holder", (), {})
    weakref.finalize(holder, os.remove, tmp_path / "held")
    del holder
    found = graph_of(
        tmp_path,
        a__py=f"""
            import gc, logging, os, pathlib, shutil, subprocess, sys, time
            import urllib.request
            import dlt

            logging.basicConfig(level=logging.INFO)
            logging.getLogger(__name__).warning("noise")
            print("noise"); sys.stderr.write("noise"); sys.stdin.read(); input()
            folder = pathlib.Path({str(tmp_path)!r})
            (folder / "written").write_text("x")
            open(folder / "opened", "w").write("x")
            os.makedirs(folder / "made")
            os.remove(folder / "kept")
            # What others have left behind goes all the same.
            gc.collect()
            shutil.rmtree(folder)
            subprocess.run(["touch", str(folder / "run")])
            os.system(f"touch {{folder}}/system")
            urllib.request.urlopen("http://127.0.0.1:9/").read()
            time.sleep(1000)
            os.environ["LAKEFLOW_TEST"] = "1"

            @dlt.table
            def t():
                return spark.range(1)

            os._exit(3)
            quit()
        """,
    )
    assert kinds(found) == {"t": "materialized_view"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.py", "kept"]
    assert "".join(capfd.readouterr()) == ""


def test_sql_notebooks_with_cells_of_other_languages(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="""\
            -- Databricks notebook source
            -- MAGIC %python
            -- MAGIC import dlt
            -- MAGIC @dlt.table
            -- MAGIC def users():
            -- MAGIC   return spark.readStream.table("a.b")

            -- COMMAND ----------

            -- MAGIC %run ./nowhere

            -- COMMAND ----------

            -- MAGIC %scala
            -- MAGIC val x = 1

            -- COMMAND ----------

            USE SCHEMA silver;
            CREATE LIVE TABLE known (a INT, b STRING
              CONSTRAINT c EXPECT (a > 0)
              CONSTRAINT d EXPECT (b IS NOT NULL) ON VIOLATION DROP ROW)
            AS SELECT * FROM LIVE.users JOIN csv.`/files` USING (id)

            -- COMMAND ----------

            CREATE LIVE TABLE next AS SELECT * FROM known JOIN silver.known
        """,
        b__py="""\
            # Databricks notebook source
            wheel = spark.conf.get("wheel")
            %pip install $wheel
            # COMMAND ----------
            # MAGIC %py
            # MAGIC import dlt
            # MAGIC @dlt.view
            # MAGIC def v(): return spark.table("x")
            # COMMAND ----------
            %sql
            CREATE LIVE VIEW w AS SELECT 1
            # COMMAND ----------
            display(_sqldf.limit(1))
            # COMMAND ----------
            %pip install x
            @dlt.view
            def x(): return spark.table("w")
        """,
        c__sql="""            %sql
            CREATE LIVE VIEW y AS SELECT 1
            -- COMMAND ----------
            -- magic without MAGIC
            %python
            import dlt
            @dlt.view
            def z(): return spark.table("y")
        """,
    )
    assert kinds(found) == {
        **dict.fromkeys("wxyz", "temporary_view"),
        "silver.known": "materialized_view",
        "silver.next": "materialized_view",
        "users": "streaming_table",
        "v": "temporary_view",
    }
    assert {d.name: (d.line, d.inputs) for d in found.datasets} == {
        "silver.known": (20, ("users",)),
        "silver.next": (27, ("silver.known",)),
        "users": (4, ("a.b",)),
        "v": (7, ("x",)),
        "w": (11, ()),
        "x": (16, ("w",)),
        "y": (2, ()),
        "z": (7, ("y",)),
    }
    assert rules(found)["silver.known"] == [("c", "a > 0", "warn"), ("d", "b IS NOT NULL", "drop")]
    assert found.notes == [
        "a.sql:14: a %scala cell has no effect in a pipeline's SQL",
        "%run ./nowhere is not here; what comes from it is not known",
    ]


def test_what_use_and_set_put_in_force_holds_for_the_next_cells(tmp_path):
    cells = [
        "USE SCHEMA silver; SET k = 5",
        "%md\nText; it's no SQL",
        "CREATE TEMPORARY VIEW v AS SELECT ${k}",
        "%py\nx = 1",
    ]
    cells += ["-- note\nCREATE LIVE TABLE t AS SELECT * FROM v JOIN t0", "%sql\nCREATE LIVE TABLE t0 AS SELECT 1"]
    notebook = {"cells": [{"cell_type": "code", "source": text} for text in cells], "nbformat": 4}
    notebook["metadata"] = {"application/vnd.databricks.v1+notebook": {"language": "sql"}}
    found = graph_of(
        tmp_path,
        a__ipynb=json.dumps(notebook),
        b__py="""\
            # Databricks notebook source
            # MAGIC %sql
            # MAGIC use catalog main; use schema gold;
            # COMMAND ----------
            # MAGIC %sql
            # MAGIC create live table g as select * from silver.t
        """,
    )
    assert kinds(found) == {
        "v": "temporary_view",
        "silver.t": "materialized_view",
        "silver.t0": "materialized_view",
        "main.gold.g": "materialized_view",
    }
    assert inputs(found)["silver.t"] == ("silver.t0", "v") and inputs(found)["main.gold.g"] == ("silver.t",)


def test_parameters_and_templates_in_sql(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="CREATE MATERIALIZED VIEW IDENTIFIER(:c || '.s.t') AS SELECT '${a}' FROM IDENTIFIER(:c || '.x.y');",
    )
    assert inputs(found) == {"${c}.s.t": ("${c}.x.y",)}
    found = graph_of(tmp_path, a__sql="CREATE LIVE TABLE t AS SELECT *\nFROM {{ ref('x') }};")
    assert [(e.line, e.message) for e in found.errors] == [(2, "a table's name is missing: FROM {{ ref('x') }}")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("for n in spark.table('x').collect()[0].name[:3]:\n    @dlt.table(name=f'{n}_x'[:-3])\n    def t(): pass\n", 3,
         "the name of a dataset comes from a piece of a value"),
        ("@dlt.table('positional')\ndef t(): pass\n", 2, "give the name as name=…"),
        ("print 'hello'\n", 2, "syntax error"),
        ("x = " + "(" * 300 + ")" * 300, 2, "too many nested parentheses"),
        ("def f(n): return f(n + 1)\nf(0)\n", 2, "RecursionError"),
        ("raise SystemExit(2)\n", 2, "SystemExit: 2"),
        ("dlt.pipeline('x')\n", 2, "module 'dlt' has no attribute 'pipeline'"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_is_named_with_its_line(tmp_path, text, line, message):
    found = graph_of(tmp_path, a__py=f"import dlt\n{text}")
    assert [(fault.file, fault.line) for fault in found.errors] == [(str(tmp_path / "a.py"), line)]
    assert message in found.errors[0].message


def test_a_file_may_hold_the_flows_of_tables_that_others_define(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import dlt\ndlt.apply_changes(target='t', source='s', keys=['a'], sequence_by='b')\n")
    found = outline((path,), root=tmp_path, configuration={}, names=Namespace("c", "s"), whole=False)
    assert not found.datasets and not found.errors
    assert found.notes == ["a.py:2: flow t writes t, which is not defined here"]


def test_odd_files(tmp_path, monkeypatch):
    chain = "".join(f".withColumn('c{i}', F.col('a{i}'))" for i in range(300))
    found = graph_of(
        tmp_path,
        long__py=f"""
            import dlt
            from pyspark.sql import functions as F

            @dlt.table
            def chained(): return spark.table("x"){chain}

            for i in range(200):
                @dlt.table(name=f"t{{i}}")
                def f(i=i): return spark.readStream.table(f"t{{i - 1}}") if i else spark.readStream.load("/x")
        """,
        setup__py="from setuptools import setup\nsetup(name='x')\n",
        test_it__py="import pytest\n@pytest.fixture(scope='session')\ndef f(): yield 1\ndef test(f): assert f\n",
        empty__py="",
        crlf__py="import dlt\r\n@dlt.table\r\ndef b():\r\n\treturn spark.table('x')\r\n",
        only_comments__sql="-- nothing\n",
    )
    assert len(kinds(found)) == 202 and inputs(found)["t199"] == ("t198",)
    (tmp_path / "binary.py").write_bytes(b"\x89PNG\x00\xff")
    (tmp_path / "spin.py").write_text("while True:\n    try:\n        x = 1\n    except BaseException:\n        pass\n")
    (tmp_path / "broken.ipynb").write_text(json.dumps({"nbformat": 4}))
    (tmp_path / "half.ipynb").write_text('{"cells": [\n"')
    (tmp_path / "shape.ipynb").write_text(json.dumps({"cells": {"a": 1}, "metadata": "x"}))
    (tmp_path / "good.ipynb").write_text(
        json.dumps({"cells": [1, {"cell_type": "code", "source": [2]}], "metadata": 3})
    )
    odd = tuple(
        tmp_path / name for name in ("binary.py", "spin.py", "broken.ipynb", "half.ipynb", "shape.ipynb", "good.ipynb")
    )
    monkeypatch.setattr(sys.modules[outline.__module__], "_SECONDS", 0.5)
    found = outline(odd, root=tmp_path, configuration={}, names=Namespace("c", "s"))
    assert {fault.file.rpartition("/")[2]: fault.message.partition(";")[0] for fault in found.errors} == {
        "broken.ipynb": "is not a Jupyter notebook: there is no list of cells in it",
        "half.ipynb": "is not a Jupyter notebook: there is no list of cells in it",
        "shape.ipynb": "is not a Jupyter notebook: there is no list of cells in it",
        "binary.py": "is not UTF-8 text (byte 0)",
        "spin.py": "takes longer than 0.5 s to follow",
    }
    assert [fault.line for fault in found.errors if fault.file.endswith("b")] == [1, 2, 1]


def test_what_a_machine_lacks_leaves_the_graph_whole(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import sys

            import dlt
            import yaml

            roots = [p for p in sys.path if "Repos" in p]
            sys.path.append(roots[0].rsplit("/", 1)[0])
            with open("../configs/table.yml") as file:
                config = yaml.safe_load(file)
            schema = "silver"

            @dlt.table(name="raw", cluster_by=[config["bronze"]["key"]] if config.get("bronze") else None)
            def raw():
                return spark.readStream.format("cloudFiles").options(**config["bronze"]["options"]).load("/x")

            @dlt.table
            def of_window():
                rows = dlt.read(f"{schema}.prices")
                window = Window.partitionBy("k")
                from pyspark.sql.window import Window
                return rows.join(dlt.readStream("raw"), "k")
        """,
        ids__ids__py="x = 1\n",
        b__py="""
            import dlt
            from ids import KEYS

            @dlt.table
            def keyed():
                return spark.read.table("t").dropDuplicates(KEYS)
        """,
    )
    assert kinds(found) == {"raw": "streaming_table", "of_window": "streaming_table", "keyed": "materialized_view"}
    assert inputs(found)["of_window"] == ("raw", "silver.prices")
    assert any("a.py:8: depends on a list that is empty here" in note for note in found.notes)
    assert "ids is not here; what comes from it is not known" in found.notes


def test_names_of_settings_find_their_dataset(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="""
            CREATE STREAMING TABLE ${catalog}.${silver}.costs;
            CREATE FLOW f AS AUTO CDC INTO silver.costs FROM STREAM(${catalog}.${bronze}.costs) KEYS (k) SEQUENCE BY t;
        """,
        b__py="""
            import dlt
            @dlt.table(name=f"{spark.conf.get('catalog')}.{spark.conf.get('gold')}.costs_by_day")
            def by_day(): return dlt.read("costs")
        """,
    )
    assert inputs(found) == {
        "${catalog}.${silver}.costs": ("${catalog}.${bronze}.costs",),
        "${catalog}.${gold}.costs_by_day": ("${catalog}.${silver}.costs",),
    }


def test_a_view_that_is_read_in_the_other_way_is_noted(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="""
            CREATE TEMPORARY STREAMING LIVE VIEW s AS SELECT * FROM STREAM(LIVE.raw);
            CREATE LIVE VIEW b AS SELECT * FROM LIVE.raw;
            CREATE LIVE TABLE of_s AS SELECT * FROM LIVE.s;
            CREATE STREAMING LIVE TABLE of_b AS SELECT * FROM STREAM(LIVE.b);
            CREATE STREAMING LIVE TABLE fine AS SELECT * FROM STREAM(LIVE.s) JOIN LIVE.b USING (k);
        """,
        b__py="""
            import dlt
            @dlt.table
            def of_both(): return dlt.read_stream("s").join(dlt.read("s"), "k")
        """,
    )
    assert kinds(found)["of_s"] == "materialized_view"
    notes = [note.split(";")[0] for note in found.notes]
    assert notes == [
        "a.sql:4: an update refuses that s is a streaming view, which is read by readStream or STREAM",
        "a.sql:5: an update refuses that b is a batch view, which is read by read, without STREAM",
        "b.py:3: an update refuses that s is a streaming view, which is read by readStream or STREAM",
    ]


def test_a_file_that_only_helps_says_what_would_define(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            from framework import Field, Mixin, Target

            class Builder(Target, Mixin):
                options: dict = Field(default={})
                def note(self): pass

                def build(self, name):
                    @dlt.table(name=name)
                    def made(): return spark.range(1)

                def ingest(self, properties=None):
                    dlt.create_streaming_table(f"{self.name}_raw", table_properties=properties)

                    @dlt.append_flow(target=f"{self.name}_raw")
                    def flow(): return self.spark.readStream.table(self.source)
        """,
    )
    assert inputs(found) == {"${name}": (), "${Builder.name}_raw": ("${Builder.source}",)}
    assert found.notes[-2:] == [
        "a.py:10: Builder.build() is not called here; its parameters stand for themselves",
        "a.py:14: Builder.ingest() is not called here; its parameters stand for themselves",
    ]
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            class Builder:
                spark = None

                def __init__(self, spark, catalog, volume=None):
                    self.spark, self.__at = spark, f"{catalog}.raw"

                def __read(self, name): return self.spark.readStream.table(f"{self.__at}.{name}")

                def build(self, name, format=None):
                    if not format:
                        raise ValueError("a format is needed")

                    @dlt.table(name=name)
                    def made(): return self.__read(name)
        """,
    )
    assert inputs(found) == {"${name}": ("${catalog}.raw.${name}",)}
    found = graph_of(tmp_path, a__py="import dlt\ndef make(n):\n    dlt.view(name=n[0] + undefined)\n")
    (fault,) = found.errors
    assert fault.line == 2
    assert fault.message == "defines no dataset; make() would, and is not called: call it in the source"
    decorated = "@dp.table(name='tides')\ndef tides():\n    return spark.table('raw.tides')\n"
    (fault,) = graph_of(tmp_path, a__py=f"from harbour.tools import declare\n\ndp = declare()\n\n{decorated}").errors
    assert (fault.line, fault.message) == (
        5,
        "defines no dataset; dp.table, which decorates tides(), is not of pyspark.pipelines or dlt; "
        f"it may be of harbour.tools, {NOT_HERE}",
    )
    two = f"from harbour.tools import declare\nfrom tides import port\n\ndp = declare(port)\n\n{decorated}"
    (fault,) = graph_of(tmp_path, a__py=two).errors
    assert fault.message.endswith(
        "harbour.tools, tides, which are not here: install them, or put them beside the sources"
    )
    own = "class Own:\n    def table(self, **given):\n        return lambda each: each\n\ndp = Own()\n\n"
    (fault,) = graph_of(tmp_path, a__py=f"import dlt\n\n{own}{decorated}").errors
    assert (fault.line, fault.message) == (
        9,
        "defines no dataset; dp.table, which decorates tides(), is not of pyspark.pipelines or dlt; "
        "write from pyspark import pipelines as dp",
    )


def test_an_unqualified_target_tells_the_schema_of_the_pipeline(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark import pipelines as dp

            schema = "dev.landing"
            dp.create_streaming_table(f"{schema}.raw")

            @dp.append_flow(target="raw")
            def raw():
                return spark.readStream.format("cloudFiles").load("/x")

            dp.create_streaming_table(f"{schema}.history")
            dp.create_auto_cdc_flow("history", "raw", ["a"], "b")
        """,
    )
    assert inputs(found) == {"dev.landing.raw": (), "dev.landing.history": ("dev.landing.raw",)}


def test_statements_that_a_pipeline_has_no_use_for_are_passed_over(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="""\
            DROP TABLE IF EXISTS t;
            CREATE OR REFRESH STREAMING TABLE t AS SELECT * FROM STREAM read_kafka(subscribe => 'a');
            CREATE TEMPORARY VIEW v AS SELECT * FROM STREAM read_files('/x');
            CREATE TABLE IF NOT EXISTS control (id INT);
            GRANT SELECT ON TABLE t TO `someone`;
            CREATE STREAMING TABLE w AS SELECT * FROM STREAM v;
            SET TIME ZONE 'UTC';
            CREATE TEMPORARY FUNCTION f() RETURN 1;
            """,
    )
    assert inputs(found) == {"t": (), "v": (), "w": ("v",)}
    refused = [note.partition(" is not")[0] for note in found.notes]
    others = {1: "DROP", 4: "CREATE TABLE", 5: "GRANT", 7: "SET TIME", 8: "CREATE TEMPORARY FUNCTION"}
    assert refused == [f"a.sql:{line}: an update refuses it: {what}" for line, what in others.items()]
    found = graph_of(tmp_path, b__sql="USE SCHEMA s;\nSELECT 1;\nDROP TABLE t;\n")
    (fault,) = found.errors
    assert (fault.line, fault.message.partition(";")[0]) == (2, "SELECT is not a statement of a pipeline")


def test_a_missing_module_for_which_another_is_imported(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            try:
                import databricks.declarative_pipelines as dp
                from common.names import TABLE
            except ImportError:
                from dlt import *
                import dlt as dp
                TABLE = "fallback"

            @dp.table(name=TABLE)
            def f():
                return dlt.read_stream("x")
        """,
    )
    assert inputs(found) == {"fallback": ("x",)} and not found.notes


def test_what_stands_for_many_datasets_is_shown_once(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import json, os
            from pathlib import Path
            import dlt
            from pyspark.sql import functions as F
            from conf import NAMES
            from helpers import *

            tables = json.load(open("/Volumes/x/tables.json"))
            if not os.path.isdir("/Volumes/x") or not Path("/Workspace/y").exists():
                raise RuntimeError("nothing to do")
            by_source = {table["source"]: table for table in tables}
            made = set()
            for table in tables:
                if table["skip"] or table["name"] in {"a", "b"} or table["kind"] not in ("x", "y"):
                    continue
                if table["source"] in by_source and table["name"] not in made:
                    made.add(table["name"])

                    @dlt.table(name=f"bronze_{table['name']}")
                    def bronze(table=table):
                        return spark.readStream.table(table["source"])

            for name in NAMES:
                @dlt.view(name=name)
                @checked(name)
                def view():
                    return spark.table("x")

            if "prod" in spark.conf.get("env"):
                @dlt.table
                def streamed():
                    return read_json_stream("/x")
        """,
    )
    bronze = "bronze_${load(open('/Volumes/x/tables.json'))[…]['name']}"
    assert inputs(found) == {
        bronze: ("${load(open('/Volumes/x/tables.json'))[…]['source']}",),
        "${conf.NAMES[…]}": ("x",),
        "streamed": (),
    }
    assert kinds(found)[bronze] == kinds(found)["streamed"] == "streaming_table"
    many = "it stands for as many datasets as there are"
    for note in (
        "a.py:9: depends on /Volumes/x/tables.json, which is not here",
        "a.py:10: depends on '/Volumes/x' is there, which only a running pipeline knows",
        f"a.py:25: the name of a dataset comes from conf.NAMES[…], which only a running pipeline knows; {many}",
        "a.py:25: ${conf.NAMES[…]} has a decorator that is not here; what it adds, such as expectations, is not known",
        "a.py:31: what streamed reads, and whether as a stream, is in read_json_stream('/x'), which is not here",
    ):
        assert note in found.notes


def test_what_absent_modules_say_stands_for_itself(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from conf import *
            from conf.names import NAMES, path_of
            from conf.quality import audited, load
            from conf.setup import Settings

            settings = Settings.from_spark(spark)

            @dlt.table(name=NAMES["a"])
            @audited(level=1)
            @dlt.expect_all_or_drop(RULES)
            @dlt.expect("id", "id IS NOT NULL")
            def a():
                return spark.readStream.table(f"{settings.raw}.a")

            @dlt.table(name=path_of("dim_calendar"))
            def calendar():
                return dlt.read(NAMES["a"])

            dlt.create_streaming_table(TARGET)

            @dlt.append_flow(target=TARGET)
            def b():
                return load("b")
        """,
    )
    told = {dataset.name: [f"{r.name}: {r.predicate}" for r in dataset.expectations] for dataset in found.datasets}
    assert inputs(found) == {
        "${conf.names.NAMES['a']}": ("${conf.setup.Settings.from_spark(spark).raw}.a",),
        "${conf.names.path_of('dim_calendar')}": ("${conf.names.NAMES['a']}",),
        "${TARGET}": (),
    }
    assert told["${conf.names.NAMES['a']}"] == ["RULES.items()[…][0]: RULES.items()[…][1]", "id: id IS NOT NULL"]
    assert "a.py:23: what b reads, and whether as a stream, is in conf.quality.load('b'), which is not here" in (
        found.notes
    )


def test_a_template_that_nothing_filled_in(tmp_path):
    found = graph_of(tmp_path, a__sql="{{ config(x='y') }}\nCREATE LIVE TABLE a AS SELECT * FROM {{ ref('b') }}")
    assert [fault.message for fault in found.errors] == ["a template is not filled in: give the SQL that it makes"]


def test_a_dictionary_of_unknown_keys_has_every_key(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import json
            import dlt
            from pyspark.sql.types import StructType

            def described():
                metadata = {}
                for row in spark.table("conf.tables").collect():
                    metadata[row["name"]] = {"keys": row["keys"], "kind": row["kind"] or "cdc"}
                    StructType.fromJson(json.loads(row["schema"]))
                return metadata

            def main():
                metadata = described()
                for table in ("users", "orders"):
                    dlt.create_streaming_table(name=table)
                    dlt.apply_changes(target=table, source=f"raw.{table}", keys=metadata[table]["keys"],
                                      sequence_by=metadata.get(table)["kind"])

            if __name__ == "__main__" and dlt is not None:
                main()
        """,
    )
    assert inputs(found) == {"users": ("raw.users",), "orders": ("raw.orders",)}
    assert {note.split(":")[0] for note in found.notes} == {"a.py"}


def test_what_a_notebook_has_under_other_names(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from databricks.sdk.runtime import *

            dbutils.widgets.dropdown("layer", "gold", ["gold"])
            layer = getArgument("layer")

            @dlt.table
            def old():
                return sqlContext.table(f"{layer}.t").join(sqlContext.sql("SELECT * FROM u"), "id")

            for name in ("a", "b"):
                exec(f"@dlt.table(name='of_{name}')\\ndef f(): return spark.read.table('raw.{name}')")
        """,
    )
    assert inputs(found) == {"old": ("gold.t", "u"), "of_a": ("raw.a",), "of_b": ("raw.b",)}
    assert {(Path(d.file).name, d.line) for d in found.datasets} == {("a.py", 8), ("a.py", 13)}


def test_settings_in_files_of_any_kind(tmp_path):
    (tmp_path / "rules.csv").write_text("table,name,rule\na,id,id IS NOT NULL\n")
    (tmp_path / "x.ini").write_text("[main]\ntarget = silver\n")
    source = """
            import configparser, csv, glob, os
            import dlt

            here = {folder}
            rules = {{r["table"]: {{r["name"]: r["rule"]}} for r in csv.DictReader(open(f"{{here}}/rules.csv"))}}
            settings = configparser.ConfigParser()
            settings.read(f"{{here}}/x.ini")

            @dlt.table(name=f"{{settings['main']['target']}}_a")
            @dlt.expect_all(rules.get("a", {{}}))
            def a():
                return spark.read.table(f"{{settings.get('main', 'target')}}.b")
    """
    found = graph_of(
        tmp_path,
        a__py=source.format(folder="os.getcwd()"),
        b__py=source.format(folder="'/Workspace/x'"),
        glob__lib__py="",
    )
    here, elsewhere = found.datasets
    assert not found.errors and (here.name, here.inputs) == ("silver_a", ("silver.b",))
    assert [(r.name, r.predicate) for r in here.expectations] == [("id", "id IS NOT NULL")]
    assert len(elsewhere.expectations) == 1 and elsewhere.name.endswith("_a") and "main" in elsewhere.name


def test_a_source_that_others_import_counts_once(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            def helper(df): return df.where("x > 1")
            @dlt.table
            def a(): return spark.read.table("raw")
            dlt.create_streaming_table("t")
            @dlt.append_flow(target="t")
            def f(): return dlt.read_stream("s")
        """,
        b__py="""
            import dlt
            from a import helper
            @dlt.table
            def b(): return helper(dlt.read("a"))
        """,
    )
    assert inputs(found) == {"a": ("raw",), "t": ("s",), "b": ("a",)}
    assert [len(dataset.flows) for dataset in found.datasets] == [1, 1, 1]


def test_the_files_of_a_folder_that_is_not_here(tmp_path, capfd):
    found = graph_of(
        tmp_path,
        a__py="""
            import glob
            import os
            from pathlib import Path

            import dlt
            import yaml

            WHERE, settings = "/Workspace/x/conf", []
            for path in sorted(glob.glob(os.path.join(WHERE, "*.yml"))):
                with open(path) as file:
                    settings.append(yaml.safe_load(file))
            if not settings:
                raise ValueError("no settings")
            paths = list(Path(WHERE).rglob("*.json"))
            for folder, _, names in os.walk(WHERE):
                paths += [os.path.join(folder, name) for name in names]

            def made(each):
                @dlt.table(name=each["name"])
                def it():
                    return spark.readStream.table(each["source"])

            for each in settings:
                made(each)
            for path in paths:
                @dlt.table(name=f"at_{os.path.basename(path)}")
                def it():
                    return spark.read.table(f"raw.{path}")
            """,
    )

    assert [(dataset.name.partition("{")[0], dataset.kind, dataset.line) for dataset in found.datasets] == [
        ("$", "streaming_table", 20),
        ("at_$", "materialized_view", 27),
        ("at_$", "materialized_view", 27),
    ]
    assert found.notes[0] == "a.py:10: depends on the files of '/Workspace/x/conf', which only a running pipeline knows"
    # A file that is not known is no number, such as that of the standard output.
    print("still open")
    assert capfd.readouterr().out == "still open\n"


def test_a_declaration_all_of_whose_options_are_unknown(tmp_path):
    found = graph_of(
        tmp_path,
        pkg__other__py="A = 1",
        a__py="""
            import json
            import pkg
            from framework import dlt

            with open(f"/Volumes/{pkg.settings.volume}/tables.json") as file:
                tables = json.load(file)
            for each in tables:
                dlt.create_streaming_table(**each["table"])
                dlt.apply_changes(**each["cdc"])

                @dlt.table(**each["options"])
                @dlt.expect(**each["rule"])
                def copied():
                    return dlt.read(each["source"])
            """,
    )

    assert [dataset.kind for dataset in found.datasets] == ["streaming_table", "materialized_view"]
    assert found.datasets[0].name.endswith("['table']['name']}") and found.datasets[1].name == "copied"
    assert [i.endswith("['source']}") for i in found.datasets[1].inputs] == [True]
    assert {"framework", "pkg.settings"} == {note.partition(" is not here")[0] for note in found.notes[-2:]}
    assert "a.py:4: depends on framework.dlt, which is taken for dlt itself" in found.notes


def test_a_pair_is_the_snapshot_of_its_version():
    with collecting(Registry()) as registry:
        api.apply_changes_from_snapshot("p", snapshot_and_version=("frame", 7), keys=["id"])
    given = registry.flows[0].snapshot.function
    assert [given(None), given(6), given(7), given(8)] == [("frame", 7), ("frame", 7), None, None]


def test_the_cells_of_a_notebook_may_be_indented(tmp_path):
    header = "# Databricks notebook source\nimport dlt\n\n# COMMAND ----------\n"
    cell = "\n\n  @dlt.table\n  def t():\n    return spark.read.table('a')\n\n  x = '''\n b'''\n"
    found = graph_of(tmp_path, a__py=f"{header}{cell}")
    assert [(dataset.name, dataset.line) for dataset in found.datasets] == [("t", 7)] and not found.errors
    (fault,) = graph_of(tmp_path, a__py=f"{header}# A comment\n{cell}").errors
    assert (fault.line, fault.message) == (8, "syntax error: unexpected indent")


def test_settings_that_are_taken_apart_and_checked(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import re
            import dlt

            catalog, schema = spark.conf.get("target").split(".")
            region = spark.conf.get("path").split("/")[2].lower()
            names = [name.strip() for name in spark.conf.get("names").split(",") if name.strip()]
            versions = tuple(int(day.replace("-", "")) for day in spark.conf.get("days").split(","))
            mode = re.match("([a-z]+)_[a-z]+", spark.conf.get("mode"))
            if len(versions) != 2 or versions != tuple(sorted(versions)):
                raise ValueError("give two days")
            if not re.fullmatch("[a-z]+", region):
                raise ValueError(region)
            assert len(names) > 3, "more names"

            def define(name):
                if spark.conf.get("env") != "prod":
                    return

                @dlt.table(name=f"{catalog}.{schema}.{mode.group(1)}_{name}")
                def t():
                    return spark.read.table(f"{region}.{name}")

            for name in names + ["last"]:
                define(name)
        """,
    )
    start = "${target}[0].${target}[1].${match('${mode}').group(1)}_"
    assert inputs(found) == {
        start + "${names}[…]": ("${path}[2].${names}[…]",),
        start + "last": ("${path}[2].last",),
    }
    assert "a.py:14: depends on len(${names}[…]) > 3, which only a running pipeline knows" in found.notes
    assert any("comes from ${names}[…], which only a running pipeline knows; it stands for" in n for n in found.notes)


def test_a_check_of_what_is_known_fails(tmp_path):
    found = graph_of(tmp_path, a__py="names = ['a']\nif len(names) != 2:\n    raise ValueError('give two')\n")
    assert [(fault.line, fault.message) for fault in found.errors] == [(3, "ValueError: give two")]


def test_a_statement_that_does_not_exist_is_a_fault_and_others_are_not(tmp_path):
    found = graph_of(
        tmp_path,
        a__sql="""\
            CREATE FUNCTION f(s STRING) RETURNS STRING LANGUAGE PYTHON AS $$
            return s + "it's; CREATE LIVE TABLE x"
            $$;
            CREATE OR REPLACE VIEW m WITH METRICS LANGUAGE YAML AS $$
            version: 0.1
            $$;
            CREATE LIVE TABLE t AS SELECT * FROM u;
            SET VARIABLE v = '${a.long.key.of.the.configuration}';
            CREAT LIVE TABLE w AS SELECT 1;
            """,
    )
    assert [dataset.name for dataset in found.datasets] == []
    (fault,) = found.errors
    assert (fault.line, fault.message.partition(";")[0]) == (9, "CREAT is not a statement of a pipeline")
    assert not any("__unknown" in note for note in found.notes)


def test_files_beside_the_sources_of_a_pipeline_do_not_matter(tmp_path):
    beside = {
        "setup__py": "from setuptools import setup\nsetup(version=open('VERSION').read().strip()[1:].real)\n",
        "generate__py": "import random\n\nif random.random() < 2:\n    raise SystemExit('give the number of rows')\n",
        "dashboard__sql": "{{ config(x='y') }}\nSELECT * FROM {{ ref('x') }};\n",
    }
    found = graph_of(tmp_path, a__sql="CREATE LIVE TABLE t AS SELECT * FROM u;", **beside)
    assert inputs(found) == {"t": ("u",)}
    told = [note for note in found.notes if note.endswith("this file defines no dataset")]
    assert [note.partition(": ")[0] for note in told] == ["generate.py:4", "dashboard.sql:1"]
    found = graph_of(tmp_path, a__sql="CREATE TEMPORARY VIEW v AS SELECT (1;", **beside)
    assert [Path(fault.file).name for fault in found.errors] == ["a.sql", "generate.py", "dashboard.sql"]


def test_a_qualified_target_is_the_dataset_whose_schema_nothing_tells(tmp_path):
    text = "CREATE STREAMING TABLE t;\nAPPLY CHANGES INTO prod.bronze.t FROM STREAM(LIVE.v) KEYS (a) SEQUENCE BY b;"
    found = graph_of(tmp_path, a__sql=text)
    assert inputs(found) == {"t": ("v",)}
    assert "a.sql:2: prod.bronze.t is taken for t; then prod.bronze is its schema" in found.notes


def test_a_bundle_is_drawn_whatever_else_is_wrong_with_it(tmp_path, monkeypatch, capsys):
    files = {
        "databricks.yml": """\
            bundle: {name: shop}
            include: ["resources/*.yml", "resources/*/*.yml", "resources/**/*.yml"]
            variables: {catalog: {description: given when it is deployed}}
            targets: {dev: {mode: sit, default: true}}
            """,
        "resources/shop.yml": """\
            resources:
              pipelines:
                raw-orders:
                  catalog: ${var.catalog}
                  target: raw
                  libraries: [{notebook: {path: ../src/raw.ipynb}}]
                  configuration: {source: "${var.catalog}"}
                clean:
                  libraries: [{glob: {include: ../src/clean/**}}, {glob: {include: ../src/**.sql}}]
                connect: {catalog: c, schema: s, ingestion_definition: {objects: []}}
            """,
        "src/raw.ipynb": json.dumps({"cells": [{"cell_type": "code", "source": [
            "%sql\n", "CREATE OR REFRESH STREAMING TABLE orders AS SELECT * FROM STREAM ${source}.o"]}]}),
        "src/clean/a.sql": "CREATE MATERIALIZED VIEW orders AS SELECT * FROM raw.orders;\n",
        "src/more.sql": "CREATE MATERIALIZED VIEW more AS SELECT 1;\n",
        "src/clean/b.py": "import dlt\n@dlt.table\ndef totals(): return dlt.read('orders')\n",
        "jobs/other.sql": "CREATE MATERIALIZED VIEW of_no_pipeline AS SELECT 1;\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(text))
    monkeypatch.chdir(tmp_path)
    drawn = {
        "raw-orders": [["orders", ["${source}.o"]]],
        "clean": [["orders", ["raw.orders"]], ["totals", ["orders"]], ["more", []]],
    }
    for what, expected in {**drawn, ".": drawn["raw-orders"] + drawn["clean"]}.items():
        assert cli.main(["pipelines", "graph", what, "--json"]) == 0
        assert [[d["name"], d["inputs"]] for d in json.loads(capsys.readouterr().out)["datasets"]] == expected
    assert cli.main(["pipelines", "graph", "clean"]) == 0
    assert "also defined" not in capsys.readouterr().out  # two patterns match the file
    assert cli.main(["pipelines", "graph", "connect"]) == 1
    assert "ingestion_definition" in capsys.readouterr().err
    (tmp_path / "resources/shop.yml").write_text("resources: {pipelines: {empty: {}}}")
    for what in ("empty", "."):
        assert cli.main(["pipelines", "graph", what]) == 1
        assert "shop.yml:1: resources.pipelines.empty has no sources" in capsys.readouterr().err


def test_functions_that_only_help_by_any_name_of_the_module(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark.pipelines import append_flow, create_sink, materialized_view, table as dataset
            from pyspark.sql.functions import *

            def quarantine(source: DataFrame, rules: Optional[Dict[str, str]] = None):
                @materialized_view(name=source + "_quarantine")
                def t(): return spark.read.table(source)

            class Log:
                def bronze(self, path):
                    @dataset(name=f"bronze_{self.entity}")
                    def t(): return spark.readStream.load(path)

                def kafka(self, topic):
                    @dataset(name=f"bronze_{self.entity}")
                    def t(): return spark.readStream.format("kafka").load()

                def gold(self, **kwargs):
                    spark, name = kwargs["spark"], kwargs["name"]

                    @materialized_view(name=name)
                    def t(): return spark.read.table(f"bronze_{name}")

            def broken(rows):
                @dataset(name=nothing)
                def t(): return rows
        """,
    )
    assert [(dataset.name, dataset.inputs, dataset.line) for dataset in found.datasets] == [
        ("${source}_quarantine", ("${source}",), 6),
        ("bronze_${self.entity}", (), 11),
        ("${name}", ("bronze_${name}",), 21),
        ("bronze_${self.entity}", (), 15),
    ]
    broken = "a.py:24: broken() is not called here, and not known without it: NameError: name 'nothing' is not defined"
    assert broken in found.notes


def test_a_table_that_is_read_where_another_is_missing(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            @dlt.table
            def t():
                try:
                    rows = spark.table("main.of.others")
                except Exception:
                    rows = dlt.read("empty")
                return rows.join(spark.table("keys"), "k")
        """,
    )
    assert inputs(found) == {"t": ("empty", "keys", "main.of.others")}


def test_rules_of_unknown_names_may_be_several(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from conf import rules

            @dlt.table
            @dlt.expect_all({name: rule.text for name, rule in rules.items() if rule.action == "WARN"})
            @dlt.expect_all_or_drop({name: rule.text for name, rule in rules.items() if rule.action == "DROP"})
            def t():
                return spark.read.table("x")
        """,
    )
    assert [action for _, _, action in rules(found)["t"]] == ["warn", "drop"]


def test_a_sink_that_is_declared_again_is_one(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            for name in ("x", "y"):
                dlt.create_sink("audit", "delta", {"tableName": "c.s.audit"})

                @dlt.append_flow(name=f"{name}_audit", target="audit")
                def flow(name=name):
                    return dlt.read_stream(name)
        """,
    )
    assert inputs(found) == {"audit": ("x", "y")}
    assert found.notes == ["a.py:5: audit is already defined at a.py:5; remove one"]


def test_a_main_block_with_arguments_of_its_own_and_a_queue(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import argparse
            import json
            from pathlib import Path
            from pyspark.pipelines import dp

            def define(name, source):
                @dp.table(name=name)
                def t(): return spark.readStream.table(source)

            if __name__ == "__main__":
                parser = argparse.ArgumentParser()
                parser.add_argument("--config", required=True)
                file = Path(parser.parse_args().config)
                if not file.exists():
                    raise FileNotFoundError(file)
                queue = [each for each in json.loads(file.read_text())["tables"]]
                while queue:
                    each = queue.pop(0)
                    define(each["name"], each["source"])
                    if each["again"]:
                        queue.append(each)
        """,
    )
    (dataset,) = found.datasets
    assert (dataset.kind, dataset.line, len(dataset.flows), len(dataset.inputs)) == ("streaming_table", 8, 1, 1)
    assert "parse_args().config" in dataset.name and "unknown" not in dataset.name


def test_the_statements_of_a_file_may_stand_in_any_files_and_in_any_order(tmp_path):
    statements = [
        "CREATE OR REFRESH STREAMING TABLE raw (CONSTRAINT c EXPECT (a > 0) ON VIOLATION DROP ROW)",
        "CREATE FLOW x AS INSERT INTO raw BY NAME SELECT * FROM STREAM z",
        "CREATE FLOW w AS INSERT INTO ONCE raw BY NAME SELECT * FROM y",
        "CREATE TEMPORARY VIEW v AS SELECT * FROM STREAM(LIVE.raw)",
        "CREATE STREAMING TABLE t",
        "APPLY CHANGES INTO LIVE.t FROM STREAM(LIVE.v) KEYS (a) SEQUENCE BY b",
        "CREATE LIVE TABLE m AS SELECT * FROM LIVE.t JOIN other.raw USING (a)",
    ]

    def shape(order, files):
        folder = tmp_path / "".join(map(str, (*order, files)))
        texts = {f"f{n}__sql": ";\n".join(statements[i] for i in order[n::files]) for n in range(files)}
        found = graph_of(folder, **texts)
        assert not found.errors
        return {
            d.name: (d.kind, d.inputs, d.expectations, {(f.name, f.kind, f.inputs, f.once) for f in d.flows})
            for d in found.datasets
        }

    expected = shape(range(7), 1)
    assert {name: inputs for name, (_, inputs, *_) in expected.items()} == {
        "raw": ("y", "z"), "v": ("raw",), "t": ("v",), "m": ("other.raw", "t"),
    }  # fmt: skip
    assert all(shape(order, files) == expected for order in (range(7), (6, 2, 0, 5, 3, 1, 4)) for files in (1, 3, 7))


def test_settings_whose_default_is_empty_stand_for_themselves_where_they_are_needed(tmp_path):
    text = """
        import dlt

        suffix = spark.conf.get("suffix", "")
        for name in filter(None, spark.conf.get("names", "").split(",")):
            @dlt.table(name=name + suffix)
            def t(): return spark.read.table("x")
        {last}
    """
    found = graph_of(tmp_path, a__py=text.format(last=""))
    assert inputs(found) == {"${names}[…]${suffix}": ("x",)}
    found = graph_of(tmp_path, a__py=text.format(last="dlt.view(lambda: spark.table('y'), name='v' + suffix)"))
    assert inputs(found) == {"v": ("y",)}
    found = graph_of(tmp_path, a__py=text.format(last="raise ValueError(suffix)"))
    assert [(fault.line, fault.message) for fault in found.errors] == [(8, "ValueError")]


def test_texts_that_are_unknown_in_part_and_how_many_there_are(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import re
            import dlt
            from conf import tables

            parts = spark.conf.get("table").split(".")
            name = re.sub("[^a-z0-9]", "", f"{tables[0].name}-x_y").replace("x", "z")
            if len(parts) == 3 and len([part for part in parts if part]) == 3:
                @dlt.table(name=name)
                def t(): return spark.read.table("x")
        """,
    )
    assert inputs(found) == {"${conf.tables[0].name}zy": ("x",)}


def test_dictionaries_made_of_what_is_not_known_give_its_items(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from conf import config

            for source in config.sources:
                for each in source["tables"]:
                    table = {"kind": "full", **source, **each}
                    more = dict(table, **config.more)
                    more.update(each)
                    @dlt.table(name=f"{table['name']}_{table['kind']}_{more.get('suffix')}")
                    @dlt.expect_all({**each["rules"], "own": "a > 1"})
                    def t(): return spark.read.table(table["from"])
        """,
    )
    each = "conf.config.sources[…]['tables'][…]"
    name = f"${{{each}['name']}}_${{{each}['kind']}}_${{{each}['suffix']}}"
    assert inputs(found) == {name: (f"${{{each}['from']}}",)}
    assert [rule.predicate for rule in found.datasets[0].expectations][1:] == ["a > 1"]


def test_a_dataset_that_a_notebook_defines_in_python_and_in_sql_is_the_one_in_python(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            # Databricks notebook source
            import dlt
            @dlt.table
            def raw(): return spark.readStream.table("x")

            # COMMAND ----------

            # MAGIC %sql
            # MAGIC CREATE STREAMING TABLE Raw AS SELECT * FROM STREAM y;
            # MAGIC CREATE MATERIALIZED VIEW m AS SELECT * FROM raw;
        """,
    )
    assert inputs(found) == {"raw": ("x",), "m": ("raw",)}
    assert found.notes == ["a.py:10: Raw is the one that this notebook defines in Python"]


def test_a_source_that_fails_by_what_is_not_known_is_followed_the_other_way(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import json
            from conf import flags

            def debugs():
                tags = json.loads(dbutils.notebook.context()).get("tags")
                if tags:
                    return True
                return False

            if not debugs():
                import dlt
            else:
                print("no pipeline")

            class Full:
                source = "x"

            class Other:
                other = "y"

            def kind(text):
                if flags[text]:
                    return Full()
                else:
                    return Other()

            for table in ("t", "u"):
                @dlt.table(name=table)
                def made(of=kind(table).source if table == "t" else kind(table).other):
                    return spark.read.table(of)
        """,
    )
    assert inputs(found) == {"t": ("x",), "u": ("y",)}


def test_a_source_that_fails_on_every_way_is_refused_as_on_the_first(tmp_path):
    text = """
        import dlt
        if spark.conf.get("x") == "y":
            print(first)
        else:
            print(second)
    """
    assert [(fault.line, fault.message) for fault in graph_of(tmp_path, a__py=text).errors] == [
        (4, "NameError: name 'first' is not defined")
    ]


def test_what_a_source_collects_before_it_declares_is_no_input(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from pyspark.sql.functions import col, lit

            base = spark.read.table("base")
            for row in spark.table("config").collect():
                @dlt.table(name=f"t_{row.name}")
                def t(): return base.join(spark.table("u"), "id").where(col("c") == lit(row.name))
        """,
    )
    assert list(inputs(found).values()) == [("base", "u")]


@pytest.mark.parametrize(
    "line",
    ["import databricks.pipelines as p", "from databricks import pipelines as p",
     "import databricks.declarative_pipelines as p"],
)  # fmt: skip
def test_names_that_the_module_of_pipelines_had_in_a_preview(tmp_path, line):
    text = f"""
        {line}
        def make(name):
            @p.table(name=name)
            @p.expect("a", "b > 1")
            def t(): return p.read("x")
    """
    assert inputs(graph_of(tmp_path, a__py=text)) == {"${name}": ("x",)}
    assert inputs(graph_of(tmp_path, a__py=text + "    make('t')")) == {"t": ("x",)}


def test_an_update_knows_these_names_as_well_while_it_runs():
    before = {name: sys.modules.get(name) for name in api.MODULES}
    with api.installed(), collecting(Registry()) as registry:
        exec(
            "from databricks import pipelines as a, declarative_pipelines as b\nimport databricks.pipelines as c\n"
            "from databricks.pipelines import view\nfrom pyspark import pipelines as d\nimport dlt as e\n"
            "for name, module in dict(a=a, b=b, c=c, d=d, e=e).items(): module.view(name=name)(lambda: None)\n"
            "view(name='f')(lambda: None)\n"
        )
    assert [dataset.name for dataset in registry.complete()[0]] == ["a", "b", "c", "d", "e", "f"]
    assert before == {name: sys.modules.get(name) for name in api.MODULES}
    with pytest.raises(ImportError):
        exec("from databricks import pipelines")


def test_magic_commands_above_python_of_the_same_cell(tmp_path):
    for text in (
        "# Databricks notebook source\n# MAGIC %run ../tools\n\nimport dlt\n@dlt.table\ndef t(): return read('x')\n",
        "%python\nimport dlt\n@dlt.table\ndef t(): return dlt.read('x')\n",
    ):
        assert [each.name for each in graph_of(tmp_path, a__py=text).datasets] == ["t"]


def test_functions_and_classes_of_a_source_get_what_is_not_known_as_their_arguments(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from dataclasses import dataclass
            from typing import List, NamedTuple, Optional

            import dlt
            import yaml
            from pydantic import BaseModel, Field

            @dataclass
            class Table:
                name: str
                mode: Optional[str] = None
                layer: str = "bronze"

            class Keys(NamedTuple):
                first: str
                second: str

            class Model(BaseModel):
                name: str
                days: int = Field(1, gt=0)

            class Models(BaseModel):
                tables: List[Model]

            def make(name, source, *, mode, **options):
                @dlt.table(name=name, comment=mode)
                def made():
                    return spark.read.table(source).join(spark.read.table(options.get("other")), options["key"])

            conf = yaml.safe_load(open(spark.conf.get("path")))
            for each in conf["tables"]:
                make(**each)
                make(**{**each, "name": "a"})
                make("b", *each["pair"], mode=1, other="c", key="id")
            table = Table(**conf["one"])
            dlt.view(lambda: spark.read.table(table.mode), name=f"{table.layer}.{table.name}")
            keys = Keys(*conf["keys"])
            dlt.view(lambda: spark.read.table(keys.second), name=keys.first)
            for model in Models(**conf).tables:
                dlt.view(lambda: spark.read.table("d"), name=model.name)
            model = Model(name="e", days=spark.conf.get("days"))
            dlt.view(lambda: spark.read.table("d"), name=model.name)
        """,
    )
    conf = "safe_load(open('${path}'))"
    each = f"{conf}['tables'][…]"
    assert inputs(found) == {
        f"${{{each}['name']}}": (f"${{{each}['other']}}", f"${{{each}['source']}}"),
        "a": (f"${{{each}['other']}}", f"${{{each}['source']}}"),
        "b": (f"${{{each}['pair'][0]}}", "c"),
        f"bronze.${{{conf}['one']['name']}}": (f"${{{conf}['one']['mode']}}",),
        f"${{{conf}['keys'][0]}}": (f"${{{conf}['keys'][1]}}",),
        f"${{{each}.name}}": ("d",),
        "e": ("d",),
    }
    found = graph_of(tmp_path, a__py="import dlt\ndef make(name):\n    dlt.view(name=name)\nmake()\n")
    assert [fault.line for fault in found.errors] == [4]


def test_libraries_of_databricks_that_are_not_here_are_named(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from databricks.sdk.runtime import spark
            from databricks.labs.community_connector.pipeline import ingest

            ingest(spark, {"connection_name": "c"})
        """,
    )
    (fault,) = found.errors
    library = "databricks.labs.community_connector.pipeline"
    assert (fault.line, fault.message) == (3, f"defines no dataset; it may be in {library}, {NOT_HERE}")


def test_a_file_of_event_hooks_alone_is_part_of_a_pipeline(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import dlt\n@dlt.on_event_hook\ndef tell(event):\n    print(event)\n")
    found = outline((path,), root=tmp_path, configuration={}, names=Namespace("c", "s"), whole=False)
    assert (found.errors, found.notes) == ([], ["a.py:2: tell() is told of the events of an update"])
    found = outline((path,), root=tmp_path, configuration={}, names=Namespace("c", "s"))
    (fault,) = found.errors
    assert fault.message == (
        "defines no dataset; put @dp.table or @dp.materialized_view above a function that returns a DataFrame"
    )
    (fault,) = graph_of(tmp_path, b__sql="SET a = 1;\n").errors
    assert "begin a statement with CREATE OR REFRESH" in fault.message


def test_functions_that_spark_does_not_have_are_told(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from pyspark.sql import functions as F
            from pyspark.sql.functions import *
            from pyspark.sql.functions import fn, col as c

            @dlt.table
            def a():
                return spark.read.table("b").select(fn("x"), c("y").z, F.udf.other, sum("n"), Optional)
        """,
    )
    assert (found.errors, found.notes) == (
        [],
        ["a.py:5: depends on pyspark.sql.functions.fn, which this Spark does not have"],
    )


def test_what_is_declared_for_rows_with_other_answers(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from conf import tables

            def plain(row):
                @dlt.table(name=row.name, comment=row.comment or "none")
                def made():
                    return spark.read.table(row.source)

            for row in tables:
                if row["kind"] == "history":
                    dlt.create_streaming_table(row.name)
                elif row["kind"] == "view":
                    dlt.view(lambda row=row: spark.read.table(row.source), name=f"v_{row.name}")
                    continue
                elif row["kind"] in ("table", None):
                    plain(row)
                    continue
                else:
                    raise ValueError(row["kind"])
                dlt.apply_changes(target=row.name, source=row.source, keys=["id"], sequence_by="at")
        """,
    )
    name, source = "${conf.tables[…].name}", "${conf.tables[…].source}"
    assert not found.errors
    assert [(each.line, each.name, each.kind, each.inputs) for each in found.datasets] == [
        (12, name, "streaming_table", (source,)),
        (14, f"v_{name}", "temporary_view", (source,)),
        (6, name, "materialized_view", (source,)),
    ]
    assert "a.py:13: depends on conf.tables[…]['kind'] = 'view', which only a running pipeline knows" in found.notes


def test_a_condition_on_no_row_has_one_answer(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from conf import layer

            if layer == "bronze":
                dlt.view(lambda: spark.read.table("a"), name="b")
            else:
                dlt.view(lambda: spark.read.table("b"), name="c")
        """,
    )
    assert inputs(found) == {"b": ("a",)}


def test_faults_of_calls_and_imports_name_what_the_source_does(tmp_path):
    found = graph_of(tmp_path, a__py="from dlt import nothing\n")
    assert [fault.message for fault in found.errors] == ["ImportError: cannot import name 'nothing' from 'dlt'"]
    found = graph_of(tmp_path, a__py="import dlt, sys\ndlt.view(lambda: spark.table('b'), name=sys.argv[1])\n")
    told = "IndexError: sys.argv[1] is not there: the sources of a pipeline get no arguments"
    assert [(fault.line, fault.message) for fault in found.errors] == [(2, told)]
    found = graph_of(tmp_path, a__py="import dlt\n@dlt.table\ndef a():\n    return dlt.read_stream('b', format='c')\n")
    told = "TypeError: read_stream() got an unexpected keyword argument 'format'"
    assert found.notes == [f"a.py:4: a is followed by its text alone: {told}"]


def test_a_query_that_is_not_known_reads_the_views_that_are_made_for_it(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from templates import query_for

            dlt.read("other").createOrReplaceTempView("not_for_it")

            def make(name, *sources):
                query = "".join(query_for(each) + " UNION ALL " for each in sources)[:-11]

                @dlt.table(name=name)
                def made():
                    for each in sources:
                        dlt.read_stream(each).createOrReplaceTempView(each)
                    return spark.sql(query)

            make("a", "b", "c")
            make("d", "a")
        """,
    )
    assert inputs(found) == {
        "a": ("${templates.query_for('b')}", "${templates.query_for('c')}", "b", "c"),
        "d": ("${templates.query_for('a')}", "a"),
    }
    assert set(kinds(found).values()) == {"streaming_table"}


def test_what_is_read_goes_into_the_text_of_a_query(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            first = spark.table("settings").first()["x"]

            @dlt.table
            def a():
                latest = dlt.read("b").agg({"at": "max"}).first()[0]
                return spark.sql(f"SELECT *, {first} AS x FROM c WHERE at > '{latest}'")

            @dlt.table
            def d():
                return spark.sql(f"SELECT {dlt.read('e').count()} AS n")
        """,
    )
    assert inputs(found) == {"a": ("b", "c"), "d": ("e",)}


def test_a_library_passes_dlt_on_with_parts_of_its_own(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from library import dlt

            dlt.spark = spark

            @dlt.table
            def a():
                return dlt.own_read("b") if hasattr(dlt, "__nothing__") else dlt.read("b")

            if dlt.is_debug():
                a()
        """,
    )
    assert (inputs(found), found.errors) == ({"a": ("b",)}, [])
    assert "a.py:2: depends on library.dlt, which is taken for dlt itself" in found.notes


def test_type_hints_by_the_module_of_pipelines(tmp_path):
    text = """
        import dlt
        from dlt import Column

        @dlt.table
        def a(by: Column = None) -> dlt.DataFrame:
            return dlt.read_stream("b")
    """
    assert inputs(graph_of(tmp_path, a__py=text)) == {"a": ("b",)}
    with api.installed(), collecting(Registry()) as registry:
        exec(dedent(text))
    assert [dataset.name for dataset in registry.complete()[0]] == ["a"]


def test_a_function_that_gets_the_module_of_pipelines_declares_on_each_way(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from .readers import BATCH, reader_of

            def declare(dp, spark, table, options=None):
                if options is None:
                    return

                @dp.temporary_view(name=f"{table.name}_checked")
                @dp.expect_all_or_drop(table.rules)
                def checked():
                    return spark.readStream.table(table.source)

                if table.kind in BATCH:
                    @dp.materialized_view(name=table.name)
                    def batch():
                        return reader_of(table)
                else:
                    dp.create_streaming_table(table.name)
                    source = f"{table.name}_checked"
                    dp.create_auto_cdc_flow(target=table.name, source=source, keys=["id"], sequence_by="at")
        """,
    )
    assert [(d.name, d.kind, d.inputs, len(d.expectations)) for d in found.datasets] == [
        ("${table.name}_checked", "temporary_view", ("${table.source}",), 1),
        ("${table.name}", "materialized_view", (), 0),
        ("${table.name}", "streaming_table", ("${table.name}_checked",), 0),
    ]
    assert "a.py:13: depends on table.kind in readers.BATCH, which only a running pipeline knows" in found.notes
    told = (
        "a.py:14: what ${table.name} reads, and whether as a stream, is in readers.reader_of(table), which is not here"
    )
    assert told in found.notes


def test_what_is_not_known_may_be_of_the_type_that_a_source_needs(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            import requests

            files = [f for f in requests.get("https://x").json() if isinstance(f, dict) and f.get("name")]
            if not files:
                raise ValueError("nothing to load")
            for file in files:
                @dlt.table(name=file["name"])
                def made():
                    return spark.read.csv(file["url"])
        """,
    )
    assert list(kinds(found)) == ["${requests.get('https://x').json()[…]['name']}"]


def test_names_of_rows_are_the_same_whatever_their_case(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            for row in spark.table("control.tables").filter("active = true").select("name").distinct().collect():
                name = row["name"]

                @dlt.table(name=f"bronze_{name.strip().lower()}")
                def bronze():
                    return spark.readStream.table(f"raw.{name.upper()}")

                @dlt.view(name=f"silver_{name.lower()}")
                def silver():
                    return dlt.read_stream(f"bronze_{name}")
        """,
    )
    bronze, silver = (d.name for d in found.datasets)
    assert inputs(found)[silver] == (bronze,)


def test_a_condition_in_a_loop_over_what_is_known_holds_each_time(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from settings import wanted, is_ready, switch, table_exists

            def walk(folder):
                for file in dbutils.fs.ls(folder):
                    if file.isDir():
                        walk(file.path)

            walk("/landing")
            while not is_ready():
                pass
            for name in ["a", "b", "c", "d", "e"]:
                if not switch:
                    continue
                if wanted(name):
                    @dlt.table(name=name)
                    def made():
                        return spark.read.table("raw")

            @dlt.table
            def united():
                rows = spark.read.table("a")
                for name in ["b", "c", "d", "e"]:
                    if table_exists(name):
                        rows = rows.union(spark.read.table(name))
                return rows
        """,
        b__py="""
            import dlt
            from settings import table_exists

            for name in ["k", "l", "m", "n"]:
                if table_exists(name):
                    continue
                @dlt.table(name=name)
                def made():
                    return spark.read.table("raw")
        """,
    )
    assert set(kinds(found)) == {*"abcdeklmn", "united"}
    assert inputs(found)["united"] == ("a", "b", "c", "d", "e")


def test_settings_that_are_numbered_until_one_is_missing(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt

            def wanted():
                tables = []
                for i in range(1000):
                    try:
                        name = spark.conf.get(f"tables.{i}.name")
                        tables.append((name, spark.conf.get(f"tables.{i}.keys").split(",")))
                    except Exception:
                        break
                return tables

            for name, keys in wanted():
                dlt.create_streaming_table(name)
                dlt.apply_changes(target=name, source=f"raw_{name}", keys=keys, sequence_by="at")
        """,
    )
    assert inputs(found) == {"${tables.0.name}": ("raw_${tables.0.name}",)}


def test_functions_that_make_decorators_declare_what_they_decorate(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from framework import Layer, registry

            def silver(name, *, rules=None, **options):
                def decorate(query):
                    made = dlt.expect_all_or_drop(rules)(query) if rules else query
                    registry.add(query.__name__, Layer.__name__)
                    return dlt.table(name=name, comment=options["comment"])(made)

                return decorate
        """,
    )
    (made,) = found.datasets
    assert (made.name, Path(made.file).name, made.line) == ("${name}", "a.py", 6)
    assert [action for _, _, action in rules(found)["${name}"]] == ["drop"]
    assert "a.py:5: silver() is not called here; its parameters stand for themselves" in found.notes


def test_functions_that_declare_by_way_of_others_or_only_write(tmp_path):
    found = graph_of(
        tmp_path,
        lib__tables__py="""
            import dlt

            def table_of(config):
                def decorate(query):
                    @dlt.table(name=config["target"])
                    def made():
                        return query()
                return decorate
        """,
        custom__py="""
            import dlt
            from lib.tables import table_of

            def joined(spark, config):
                @table_of(config)
                def rows():
                    return dlt.read(config["left"]).join(spark.read.table("shop.right"), "id")
        """,
    )
    assert inputs(found) == {"${config['target']}": ("${config['left']}", "shop.right")}
    path = tmp_path / "flow.py"
    path.write_text(
        dedent("""
            from pyspark import pipelines as dp
            import settings

            class Flow:
                def __init__(self, details):
                    self.target = details["target"]

                def create(self, source):
                    dp.create_auto_cdc_flow(target=self.target, source=source, keys=["id"], sequence_by="at")
        """)
    )
    found = outline((path,), root=tmp_path, configuration={}, names=Namespace("c", "s"), whole=False)
    assert not found.errors
    assert "flow ${details['target']} writes ${details['target']}, which is not known" in found.notes


def test_a_row_may_have_what_there_are_defaults_for(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            import dlt
            from framework import tables

            DEFAULTS = {"mode": "batch"}

            for row in tables():
                table = {**DEFAULTS, **row, "schema": "silver"}
                other = dict(row)
                other.setdefault("history", False)
                name = f"{table['schema']}.{table['name']}"
                if table["mode"] == "batch":
                    @dlt.table(name=name)
                    def batch():
                        return spark.read.table("raw")
                elif other["history"]:
                    dlt.create_streaming_table(name)
                    dlt.apply_changes(target=name, source="changes", keys=["id"], sequence_by="at")
                else:
                    @dlt.table(name=name)
                    def stream():
                        return spark.readStream.table("events")
        """,
    )
    name = "silver.${framework.tables()[…]['name']}"
    assert [(d.name, d.kind, d.inputs) for d in found.datasets] == [
        (name, "materialized_view", ("raw",)),
        (name, "streaming_table", ("changes",)),
        (name, "streaming_table", ("events",)),
    ]


def test_the_name_of_a_query_may_tell_that_it_is_a_stream(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark import pipelines as dp
            from readers import rows_of

            @dp.table(name="a")
            def _raw_stream():
                return rows_of("a").withColumn("x", 1)

            @dp.table(name="b")
            def _raw():
                return rows_of("b")
        """,
    )
    assert kinds(found) == {"a": "streaming_table", "b": "materialized_view"}


def test_a_function_declares_more_with_what_it_has_defaults_for(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark import pipelines as dp

            def load(source, target, settings=None):
                if not settings:
                    @dp.append_flow(target=target)
                    def all_rows():
                        return spark.readStream.table(source)
                else:
                    @dp.view(name=f"{source}_changes")
                    def changes():
                        return spark.readStream.table(source)

                    keys = settings.keys
                    dp.create_auto_cdc_flow(target=target, source=f"{source}_changes", keys=keys, sequence_by="at")
        """,
    )
    assert inputs(found) == {"${source}_changes": ("${source}",)}
    assert "flow all_rows writes ${target}, which is not known" in found.notes


def test_a_package_may_hold_folders_alone(tmp_path):
    found = graph_of(
        tmp_path,
        a__py="""
            from pyspark import pipelines as dp
            import common.absent.words as words
            import common.tools.lib_kept.history as history
            import common.lib_loads.loads

            @dp.temporary_view
            def changes():
                return spark.readStream.table("feed").select(words.key())

            history.keep("changes", "kept")
            common.lib_loads.loads.load("extra")
        """,
        common__tools__lib_kept__history__py="""
            from pyspark import pipelines as dp

            def keep(source, target):
                dp.create_streaming_table(target)
                dp.create_auto_cdc_flow(target=target, source=source, keys=["a"], sequence_by="b")
        """,
        common__lib_loads__loads__py="""
            from pyspark import pipelines as dp

            def load(name):
                dp.table(lambda: spark.readStream.table(f"{name}_raw"), name=name)
        """,
    )
    assert inputs(found) == {"changes": ("feed",), "kept": ("changes",), "extra": ("extra_raw",)}
    assert found.notes == ["common.absent.words is not here; what comes from it is not known"]


@pytest.mark.parametrize(
    "call",
    [
        "create_streaming_table('kept')",
        "create_sink('out', 'delta')",
        "apply_changes(target='kept', source='feed', keys=['a'], sequence_by='b')",
        "create_auto_cdc_from_snapshot_flow(target='kept', source='feed', keys=['a'])",
    ],
)
def test_what_declares_by_its_call_alone_is_no_decorator(tmp_path, call):
    found = graph_of(tmp_path, a__py=f"import dlt\n\n@dlt.{call}\ndef f():\n    return spark.table('feed')\n")
    name = "create_auto_cdc_flow" if "apply" in call else call.partition("(")[0]
    told = f"{name}() is not a decorator; call it without @, above no function"
    assert (3, told) in [(fault.line, fault.message) for fault in found.errors]


def test_a_decorator_that_decorates_no_function_is_told(tmp_path):
    lost = "import dlt\n\ndlt.table(name='lost')\ndef f():\n    return spark.table('feed')\n"
    told = "table(…) decorates no function, so it declares nothing; write it as @table(…) above one"
    assert [(e.line, e.message) for e in graph_of(tmp_path, a__py=lost).errors] == [(3, told)]
    flow = "\ndef g():\n    return spark.readStream.table('feed')\n"
    found = graph_of(
        tmp_path,
        a__py=f"{lost}\nkept = dlt.table(name='kept')\nkept(f)\ndlt.create_streaming_table('t')\n"
        f"dlt.append_flow(target='t'){flow}@dlt.append_flow(target='t', name='h'){flow}",
    )
    assert inputs(found) == {"kept": ("feed",), "t": ("feed",)}
    assert found.notes == [f"a.py:3: {told}", f"a.py:10: {told.replace('table', 'append_flow')}"]
