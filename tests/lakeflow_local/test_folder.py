"""Pipelines without a bundle: folders, files, and projects of Apache Spark."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.pipelines import folder
from lakeflow_local.pipelines.spec import PipelineSpec


def spec(path: Path, **options) -> PipelineSpec:
    return folder.spec(path, Home(path, path / ".lakehouse"), **{"configuration": {}, **options})


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_folder_and_a_file(tmp_path):
    for name in ("b.sql", "deep/er/a.py", "n.ipynb", "_hidden.py", ".x/y.py", "notes.txt"):
        write(tmp_path / "My Pipeline" / name)
    whole = spec(tmp_path / "My Pipeline")
    assert [s.name for s in whole.sources] == ["b.sql", "a.py", "n.ipynb"]
    assert (whole.key, whole.name, whole.catalog, whole.schema) == (
        "my_pipeline", "My Pipeline", "spark_catalog", "my_pipeline"
    )  # fmt: skip
    one = spec(tmp_path / "My Pipeline" / "b.sql", schema="x")
    assert ([s.name for s in one.sources], one.root_path, one.schema) == (["b.sql"], tmp_path / "My Pipeline", "x")
    assert one.id != whole.id and one.storage != whole.storage
    assert spec(tmp_path / "My Pipeline").id == whole.id


def test_a_project_of_apache_spark(tmp_path):
    for name in ("transformations/a.py", "transformations/deep/b.sql", "transformations/notes.md", "other/c.py"):
        write(tmp_path / name)
    write(
        tmp_path / "spark-pipeline.yml",
        """
name: sales
storage: file:///somewhere/state
database: shop
configuration: {spark.sql.shuffle.partitions: "2", mine: "a"}
libraries:
  - glob: {include: transformations/**}
  - glob: {include: other/c.py}
""",
    )
    for path in (tmp_path, tmp_path / "spark-pipeline.yml"):
        found = spec(path, configuration={"mine": "b"})
        assert [s.name for s in found.sources] == ["a.py", "b.sql", "c.py"]
        assert (found.name, found.schema, found.storage) == ("sales", "shop", "/somewhere/state")
        assert found.configuration == {"spark.sql.shuffle.partitions": "2", "mine": "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML"),
        ("", "is empty; it needs a name and libraries"),
        ("name: x\nlibs: []", "libs is no key of a pipeline; those are catalog"),
        ("storage: x", "needs a name"),
        ("name: x\nconfiguration: {a: 1}", "put numbers and booleans in quotes"),
        ("name: x\nlibraries: [a.py]", r"a library is written as `glob: {include: folder/\*\*}`"),
        ("name: x\nlibraries: 5", "a library is written as"),
        ("name: x\nlibraries: [{glob: {include: /a/**}}]", "a library is written as"),
        ("name: x\x01", "cannot be read: unacceptable character"),
        ("name: x\nlibraries: [{glob: {include: a/**}}]", r"the library a/\*\* matches no .py, .sql, .ipynb file"),
        ("name: x", "has no libraries"),
    ],
)
def test_what_is_wrong_with_a_project_is_said(tmp_path, text, message):
    write(tmp_path / "spark-pipeline.yml", text)
    with pytest.raises(LakeflowError, match=message) as raised:
        spec(tmp_path)
    assert raised.value.file == tmp_path / "spark-pipeline.yml"


def test_no_folder_and_no_source(tmp_path):
    with pytest.raises(LakeflowError, match=r"there is no .*nowhere; give the folder that holds"):
        spec(tmp_path / "nowhere")
    with pytest.raises(LakeflowError, match=r"holds no \.py, \.sql or \.ipynb file"):
        spec(tmp_path)
