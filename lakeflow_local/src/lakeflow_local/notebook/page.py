"""A notebook with what its cells gave, as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow_local.notebook import run
from lakeflow_local.pipelines import notebooks

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_TICKS = re.compile(r"`{3,}")


def page(spark: SparkSession, path: Path, parameters: Mapping[str, str] | None = None) -> str:
    """Runs a notebook and returns its page: its text, its code, and below each cell what that printed.

    Raises:
        LakeflowError: as `run.run`.
    """
    parts: list[str] = []
    printed = StringIO()

    def show(text: str) -> None:
        printed.write(f"{text}\n")

    def output() -> None:
        said = "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip("\n")
        printed.seek(0)
        printed.truncate()
        if said:
            parts.append(_fenced("text", said))

    def before(cell: notebooks.Cell) -> None:
        output()
        text = cell.text.strip()
        if cell.language == notebooks.MARKDOWN:
            parts.append(text)
        elif text.removeprefix("# Databricks notebook source").strip():
            parts.append(_fenced(cell.language, text.removeprefix("# Databricks notebook source").strip()))

    with redirect_stdout(printed):
        run.run(spark, path, parameters, show=show, before=before)
    output()
    return "\n\n".join(parts) + "\n"


def _fenced(language: str, text: str) -> str:
    fence = "`" * max(3, 1 + max((len(match) for match in _TICKS.findall(text)), default=2))
    return f"{fence}{language}\n{text}\n{fence}"
