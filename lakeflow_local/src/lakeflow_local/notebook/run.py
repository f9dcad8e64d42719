"""Runs the cells of a notebook as a workspace does: `spark`, `display`, widgets, its own folder as the current one."""

from __future__ import annotations

import ast
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from lakeflow_local.bundle import sql_files
from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import databricks_sql, notebooks
from lakeflow_local.pipelines.sql.tokens import Source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_MOST_ROWS = 20


class Widgets:
    """`dbutils.widgets`: parameters with a default, that whoever runs the notebook may give another value."""

    def __init__(self, given: Mapping[str, str]):
        self._given = given
        self._values: dict[str, str] = {}

    # The names of the arguments are those of Databricks.
    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        self._values[name] = self._given.get(name, defaultValue)

    def dropdown(self, name: str, defaultValue: str, choices: list[str], label: str | None = None) -> None:
        self.text(name, defaultValue)

    def get(self, name: str) -> str:
        if name not in self._values:
            raise LakeflowError(f"there is no widget {name}; there are: {', '.join(self._values) or 'none'}")
        return self._values[name]


class _Utils(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        raise UnsupportedError(f"dbutils.{name} is not supported in notebooks on this machine; dbutils.widgets is")


def run(
    spark: SparkSession,
    path: Path,
    parameters: Mapping[str, str] | None = None,
    *,
    show: Callable[[str], None] = print,
    before: Callable[[notebooks.Cell], None] = lambda cell: None,
) -> None:
    """Runs a notebook from its first cell to its last.

    Args:
        parameters: the values of its widgets.
        show: is told what cells print, a table as text.
        before: is told each cell before it runs, those of Markdown too.

    Raises:
        LakeflowError: the file is no notebook, or a cell failed, with its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LakeflowError("there is no such file", file=path) from None
    if not notebooks.is_notebook(text, path):
        raise LakeflowError("is no notebook; its first line should be `# Databricks notebook source`", file=path)
    widgets = Widgets(parameters or {})
    names: dict[str, Any] = {
        "__name__": "__main__",
        "spark": spark,
        "dbutils": _Utils(widgets=widgets),
        "display": lambda frame: show(_table(frame)),
        "print": lambda *values, sep=" ", **_: show(sep.join(map(str, values))),
    }
    with _inside(path.resolve().parent), databricks_sql.understood():
        for cell in notebooks.cells(text, path, markdown=True):
            before(cell)
            match cell.language:
                case notebooks.MARKDOWN:
                    pass
                case notebooks.PYTHON:
                    _python(cell, path, names)
                case notebooks.SQL:
                    source = Source("\n" * (cell.line - 1) + cell.text, path.resolve())
                    for result in sql_files.run_text(spark, source, widgets._values, most_rows=_MOST_ROWS):
                        show(_rendered(result.table()))
                case other:
                    raise UnsupportedError(f"%{other} is not supported in notebooks", file=path, line=cell.line)


def _python(cell: notebooks.Cell, path: Path, names: dict[str, Any]) -> None:
    file = str(path.resolve())
    linecache.checkcache(file)
    try:
        tree = ast.parse("\n" * (cell.line - 1) + cell.text, filename=file)
        exec(compile(tree, file, "exec"), names)
    except LakeflowError as error:
        raise LakeflowError(error.message, file=path, line=_line(error, file)) from error
    except Exception as error:
        said = str(error).strip().splitlines()
        line = error.lineno if isinstance(error, SyntaxError) else _line(error, file)
        message = f"{type(error).__name__}: {said[0] if said else ''}"
        raise LakeflowError(message, file=path, line=line or cell.line) from error


def _line(error: BaseException, file: str) -> int | None:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return lines[-1] if lines else None


def _table(frame: Any) -> str:
    columns = tuple(frame.columns)
    rows = frame.limit(_MOST_ROWS + 1).collect()
    return _rendered(sql_files.Result(1, columns, tuple(rows[:_MOST_ROWS]), len(rows) > _MOST_ROWS).table())


def _rendered(table: Any) -> str:
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=120)
    console.print(table)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """The current folder, and what notebooks add to the path or import from it, as they were before."""
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        added = {entry for entry in sys.path if entry not in path}
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and any(os.path.dirname(os.path.abspath(file)) == os.path.abspath(folder / e) for e in added):
                del sys.modules[name]
