"""Source files as cells: Databricks notebooks, Jupyter notebooks, and plain files, which are one cell."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakeflow_local.errors import LakeflowError

PYTHON = "python"
SQL = "sql"
RUN = "run"
MARKDOWN = "md"

SUFFIXES = (".py", ".sql", ".ipynb")

_HEADER = re.compile(r"\A\s*# Databricks notebook source[ \t]*\r?\n")
_SEPARATOR = re.compile(r"^(?:#|--)[ \t]*COMMAND[ \t]*-{3,}[ \t]*\r?$", re.MULTILINE)
_MAGIC_LINE = re.compile(r"^(?:#|--)[ \t]*MAGIC ?(.*)$")
# The same as a cell shows it.
_BARE_MAGIC = re.compile(r"^%([a-z][\w-]*)[ \t]*(.*)$")
_MAGICS = re.compile(r"^(?:--[ \t]*MAGIC|%[a-z])", re.MULTILINE)
_LANGUAGES = frozenset({SQL, PYTHON, "py", RUN, "md", "md-sandbox", "scala", "r", "sh", "fs"})
_DEFINES = re.compile(r"^\s*(?:import|from)\s.*\b(?:dlt|(?:declarative_)?pipelines)\b", re.MULTILINE)
# IPython takes pip for %pip too.
_SHELL_OR_LINE_MAGIC = re.compile(r"^\s*(?:%[A-Za-z]|!|pip\s+install\b)")
_INDENT = re.compile(r"(?:[ \t\r]*\n)*([ \t]+)(?=\S)")
# What changes nothing in what a pipeline defines.
_WITHOUT_MEANING = frozenset({"pip", "python", "skip"})


@dataclass(frozen=True)
class Cell:
    """A piece of a source in one language.

    Attributes:
        language: `python`, `sql`, `md`, `run` (its text is the path of another notebook), or the name of a magic
            command that a pipeline ignores.
        line: the line of the file at which the text begins; for a Jupyter notebook, of its code cells put together.
        own: it is in the language of its notebook.
    """

    language: str
    text: str
    line: int
    own: bool = False


def is_notebook(text: str, path: Path) -> bool:
    return path.suffix == ".ipynb" or bool(_HEADER.match(text))


def cells(text: str, path: Path, *, markdown: bool = False) -> list[Cell]:
    """The cells of a Python source or of a Jupyter notebook.

    Args:
        markdown: those of Markdown too, which nothing runs.

    Raises:
        LakeflowError: a Jupyter notebook is not what its name says.
    """
    if path.suffix == ".ipynb":
        found = _of_jupyter(text, path)
    elif _HEADER.match(text):
        found = _split(text)
    else:
        # A cell that was saved alone has its magic command still.
        return [Cell(PYTHON, _without_line_magics(text) if text.lstrip().startswith("%") else text, 1)]
    return [cell for cell in found if markdown or cell.language != MARKDOWN]


def of_other_languages(text: str) -> list[Cell]:
    """The cells of a SQL notebook that are not SQL, Markdown left out."""
    return [cell for cell in _split(text) if cell.language not in (SQL, MARKDOWN)] if _MAGICS.search(text) else []


def defines(text: str) -> bool:
    """Whether Python text may define datasets: it imports what is needed for that."""
    return bool(_DEFINES.search(text))


def _split(text: str) -> list[Cell]:
    plain = PYTHON if _HEADER.match(text) else SQL
    found = []
    start = 0
    for match in [*_SEPARATOR.finditer(text), None]:
        body = text[start : match.start() if match else len(text)]
        found += [
            dataclasses.replace(cell, text=_without_line_magics(cell.text)) if cell.language == PYTHON else cell
            for cell in _cell(body, text.count("\n", 0, start) + 1, plain)
        ]
        start = match.end() if match else start
    return found


def _cell(body: str, line: int, plain: str) -> list[Cell]:
    """A cell; `plain` is the language of those without a magic command."""
    comment = "#" if plain == PYTHON else "--"
    lines = body.split("\n")
    code = next((index for index, text in enumerate(lines) if text.strip() and not text.startswith(comment)), 0)
    bare = _BARE_MAGIC.match(lines[code])
    if bare and (plain == SQL or bare[1] in _LANGUAGES):
        return _of_magic(bare[1], "\n".join([bare[2], *lines[code + 1 :]]), line + code)
    magic = [m[1] if (m := _MAGIC_LINE.match(text)) else None for text in lines]
    first = next((index for index, text in enumerate(magic) if text), None)
    if first is None or any(text.strip() and not text.lstrip().startswith(comment) for text in lines[:first]):
        return [Cell(plain, body, line)]
    # A cell of another language has that prefix on each of its lines; those without it are comments.
    language, _, rest = magic[first].strip().partition(" ")
    if not language.startswith("%"):
        return [Cell(plain, body, line)]
    texts = [rest, *(text or "" for text in magic[first + 1 :])]
    found = _of_magic(language[1:], "\n".join(texts), line + first)
    python = [index for index, text in enumerate(lines) if index > first and magic[index] is None and text.strip()]
    if not python or plain != PYTHON:
        return found
    # Line magics such as %pip, and %run, may stand above Python code of the same cell.
    kept = [text if index in python else "" for index, text in enumerate(lines)]
    return [*found, Cell(PYTHON, "\n".join(kept), line)]


def _of_magic(name: str, text: str, line: int) -> list[Cell]:
    name = {"py": PYTHON, "md-sandbox": MARKDOWN}.get(name, name)
    if name == RUN:
        return [Cell(RUN, text.split("\n")[0].split("$")[0].strip().strip("\"'"), line)]
    return [] if name in _WITHOUT_MEANING and name != PYTHON else [Cell(name, text, line)]


def _of_jupyter(text: str, path: Path) -> list[Cell]:
    message = "is not a Jupyter notebook: there is no list of cells in it"
    try:
        notebook = _mapping(json.loads(text))
    except ValueError as error:
        raise LakeflowError(message, file=path, line=getattr(error, "lineno", 1)) from None
    given = notebook.get("cells")
    if not isinstance(given, list):
        raise LakeflowError(message, file=path, line=1)
    metadata = _mapping(notebook.get("metadata"))
    databricks = _mapping(metadata.get("application/vnd.databricks.v1+notebook")).get("language")
    default = str(databricks or _mapping(metadata.get("language_info")).get("name") or PYTHON).lower()
    default = SQL if default == SQL else PYTHON
    found: list[Cell] = []
    line = 1
    for cell in map(_mapping, given):
        body = cell.get("source") or ""
        body = "".join(map(str, body)) if isinstance(body, list) else str(body)
        if cell.get("cell_type") == "markdown":
            found.append(Cell(MARKDOWN, body, line))
        if cell.get("cell_type") != "code":
            continue
        found += _jupyter_cell(body, line, default)
        line += body.count("\n") + 1
    return found


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _jupyter_cell(body: str, line: int, default: str) -> list[Cell]:
    stripped = body.lstrip()
    if stripped.startswith("%") and not stripped.startswith("%%"):
        name, _, rest = stripped[1:].partition("\n")
        word, _, first = name.partition(" ")
        if default == SQL or word in _LANGUAGES:
            skipped = body[: len(body) - len(stripped)].count("\n")
            return _of_magic(word, f"{first}\n{rest}", line + skipped)
    if stripped.startswith("%%"):
        word, _, rest = stripped[2:].partition("\n")
        return _of_magic(word.split()[0] if word.split() else "", f"\n{rest}", line)
    if default == SQL:
        return [Cell(SQL, body, line, own=True)]
    return [Cell(PYTHON, _without_line_magics(body), line)]


def _without_line_magics(body: str) -> str:
    """Python without what only a notebook's shell understands; each line keeps its number."""
    if indent := _INDENT.match(body):
        # As in IPython, a cell may be indented as a whole.
        body = "\n".join(line.removeprefix(indent[1]) for line in body.split("\n"))
    try:
        ast.parse(body)
        return body
    except (SyntaxError, ValueError, RecursionError):
        return "\n".join("" if _SHELL_OR_LINE_MAGIC.match(text) else text for text in body.split("\n"))
