"""Notebook sources in an update, and what they use of `dbutils`."""

from __future__ import annotations

import json

import pytest
from pyspark.sql import functions as F

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import dbutils
from lakeflow_local.pipelines.sources import NotebookExit
from tests.lakeflow_local.project import Project


def test_notebooks_of_both_kinds_and_plain_sql_make_one_graph(project: Project, monkeypatch):
    monkeypatch.setenv("SECRET_VAULT_API_KEY", "from the vault")
    project.land("a/1.json", {"id": 1}, {"id": 2})
    (project.folder / "common.py").write_text(
        "# Databricks notebook source\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Settings:\n"
        "    folder: 'str'\n"
        "settings = Settings(dbutils.widgets.get('landing'))\n"
    )
    project.source(
        "one.py",
        """\
        # Databricks notebook source
        # MAGIC %md
        # MAGIC # A notebook

        # COMMAND ----------

        # MAGIC %pip install nothing

        # COMMAND ----------

        # MAGIC %run ../common

        # COMMAND ----------

        import dlt
        from pyspark.sql import functions as F
        from pyspark.sql.types import StringType

        dbutils.widgets.text("suffix", "_x")
        files = [f.name for f in dbutils.fs.ls(settings.folder + "/a")]
        secret = dbutils.secrets.get("vault", "api-key")
        double = F.udf(lambda text: text * 2, StringType())

        @dlt.table(name="raw" + dbutils.widgets.get("suffix"))
        @dlt.expect_or_drop("id", "id > 1")
        def raw():
            display("nothing")
            read = spark.readStream.format("cloudFiles").option("cloudFiles.format", "json")
            return (read.option("cloudFiles.schemaHints", "id INT").load(settings.folder + "/a")
                    .withColumn("files", F.lit(",".join(files))).withColumn("secret", double(F.lit(secret))))

        # COMMAND ----------

        # MAGIC %sql
        # MAGIC CREATE LIVE TABLE counted AS SELECT COUNT(*) AS n FROM LIVE.raw_x

        # COMMAND ----------

        # MAGIC %sql
        # MAGIC SELECT * FROM somewhere

        # COMMAND ----------

        dbutils.notebook.exit("done")

        # COMMAND ----------

        raise ValueError("not run")
        """,
    )
    cells = [
        {"cell_type": "code", "source": "%pip install nothing\nimport dlt"},
        {"cell_type": "code", "source": "@dlt.table\ndef jupyter():\n    return dlt.read('raw_x').select('id')"},
    ]
    project.source("two.ipynb", json.dumps({"cells": cells}))
    result = project.update()
    assert result.succeeded, result.error
    assert project.rows("raw_x", "id", "files", "secret") == [(2, "1.json", "from the vaultfrom the vault")]
    assert project.rows("counted") == [(1,)]
    assert project.rows("jupyter") == [(2,)]
    assert any("one.py" in said and "%sql cell that defines no dataset" in said for said in project.said)


@pytest.mark.timeout(120)
def test_a_python_function_over_a_table_ends(spark, tmp_path):
    spark.range(5).write.format("delta").save(str(tmp_path / "t"))
    table = spark.read.format("delta").load(str(tmp_path / "t"))
    assert sorted(row[0] for row in table.select(F.udf(lambda n: n * 2, "long")("id")).collect()) == [0, 2, 4, 6, 8]


def test_a_notebook_that_is_not_there_is_named(project: Project):
    project.source("one.py", "# Databricks notebook source\n\n# COMMAND ----------\n\n# MAGIC %run ./nowhere\n")
    with pytest.raises(LakeflowError, match=r"one.py:5: %run ./nowhere: there is no such notebook"):
        project.update()


def test_dbutils(spark, tmp_path, monkeypatch):
    utils = dbutils.DBUtils(spark, {"env": "dev"})
    assert utils.widgets.get("env") == "dev"
    utils.widgets.text("env", "prod")
    utils.widgets.dropdown("size", "small", ["small", "large"])
    assert utils.widgets.getAll() == {"env": "dev", "size": "small"}
    with pytest.raises(LakeflowError, match="the widget nothing has no value; set nothing in"):
        utils.widgets.get("nothing")
    monkeypatch.delenv("SECRET_A_B_C", raising=False)
    with pytest.raises(LakeflowError, match="set the environment variable SECRET_A_B_C"):
        utils.secrets.get("a", "b-c")
    folder = f"dbfs:{tmp_path}/x"
    assert utils.fs.mkdirs(folder) and utils.fs.put(f"{folder}/f.txt", "some text", overwrite=True)
    assert utils.fs.head(f"{folder}/f.txt", 4) == "some"
    assert utils.fs.cp(folder, f"{tmp_path}/y", recurse=True) and utils.fs.mv(f"{folder}/f.txt", f"{tmp_path}/z.txt")
    assert [(f.name, f.size) for f in utils.fs.ls(str(tmp_path))] == [("x/", 0), ("y/", 0), ("z.txt", 9)]
    assert utils.fs.rm(str(tmp_path / "y"), recurse=True) and not (tmp_path / "y").exists()
    for wrong, error in (
        (lambda: utils.fs.ls("/nowhere/at/all"), FileNotFoundError),
        (lambda: utils.fs.cp(folder, "/tmp/other"), IsADirectoryError),
        (lambda: utils.library.installPyPI("x"), UnsupportedError),
        (lambda: utils.notebook.run("./other"), UnsupportedError),
        (lambda: utils.notebook.exit("x"), NotebookExit),
    ):
        with pytest.raises(error):
            wrong()
