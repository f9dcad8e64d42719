"""Notebooks cell by cell: what a cell sees, and how a fault is told. Cells of SQL are run by tests/test_demo.py."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from lakeflow_local.errors import LakeflowError
from lakeflow_local.notebook.page import page
from lakeflow_local.notebook.run import run


@pytest.fixture
def said(tmp_path: Path):
    """Runs cells and returns what they print."""

    def of(*cells: str, **parameters: str) -> list[str]:
        lines: list[str] = []
        file = tmp_path / "n.py"
        text = "\n# COMMAND ----------\n".join(dedent(cell).strip() + "\n" for cell in cells)
        file.write_text(f"# Databricks notebook source\n{text}", encoding="utf-8")
        run(None, file, parameters, show=lines.append)
        return lines

    return of


def test_cells_share_names_and_leave_nothing_behind(said, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 2\n")
    before = (Path.cwd(), list(sys.path))
    cells = ("# MAGIC %md\n# MAGIC # A title", "from beside import VALUE", "print(VALUE + 1, __name__)")
    assert said(*cells) == ["3 __main__"]
    (tmp_path / "beside.py").write_text("VALUE = 30\n")
    assert said(*cells) == ["31 __main__"]
    assert (Path.cwd(), list(sys.path)) == before


def test_widgets_have_a_default_and_take_a_value(said) -> None:
    cells = ('dbutils.widgets.text("schema", "gold")', 'print(dbutils.widgets.get("schema"))')
    assert said(*cells) == ["gold"]
    assert said(*cells, schema="silver") == ["silver"]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("x = 1\n1 / 0", r"n\.py:6: ZeroDivisionError: division by zero"),
        ("x = (", r"n\.py:5: SyntaxError"),
        ('dbutils.widgets.get("y")', r"n\.py:5: there is no widget y; there are: none"),
        ("dbutils.fs.ls('/')", r"n\.py:5: dbutils\.fs is not supported"),
        ("# MAGIC %scala\n# MAGIC val x = 1", r"n\.py:5: %scala is not supported"),
    ],
)
def test_a_fault_is_told_with_its_line(said, cell: str, told: str) -> None:
    with pytest.raises(LakeflowError) as raised:
        said("pass", cell)
    assert re.search(told, str(raised.value)), str(raised.value)


def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("x = 1\n")
    with pytest.raises(LakeflowError, match="is no notebook"):
        run(None, tmp_path / "m.py")
    with pytest.raises(LakeflowError, match="there is no such file"):
        run(None, tmp_path / "none.py")


def test_a_page_has_text_code_and_what_cells_gave(tmp_path: Path) -> None:
    cells = (
        "# MAGIC %md\n# MAGIC # Title\n# MAGIC Some `text`.",
        "import sys\nsys.stdout.write('to the terminal  \\n')\nprint('```')",
        "x = 1",
    )
    file = tmp_path / "n.py"
    file.write_text("# Databricks notebook source\n" + "\n# COMMAND ----------\n".join(cells), encoding="utf-8")
    assert page(None, file) == dedent("""\
        # Title
        Some `text`.

        ````python
        import sys
        sys.stdout.write('to the terminal  \\n')
        print('```')
        ````

        ````text
        to the terminal
        ```
        ````

        ```python
        x = 1
        ```
        """)
