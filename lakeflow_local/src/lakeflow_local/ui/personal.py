"""Which columns are personal, and what is shown in place of their values.

A column is personal if one of these says so:

* a tag of Unity Catalog that a SQL file of the project gives it (`ALTER … ALTER COLUMN c SET TAGS ('pii' = …)` or
  `SET TAG ON COLUMN s.t.c pii = …`): one of `TAGS`, or `class.…` as Databricks' data classification names them, unless
  its value is one of `HARMLESS`. A later `UNSET TAGS` takes it back;
* its comment, where that contains the word PII.

In a table that no tag names, columns are personal that have the name of one that is personal elsewhere: what is derived
from personal data is so until somebody says otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lakeflow_local.bundle import sql_files
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.sql.tokens import Source
from lakeflow_local.ui.tables import Column

TAGS = frozenset({"pii", "privacy", "personal", "sensitivity", "classification", "data_classification"})
# What tells nobody apart by itself, or is said to be no secret.
HARMLESS = frozenset({"false", "no", "none", "public", "internal", "technical", "quasi", "quasi-identifier"})
MASK = "•••"

_COMMENT = re.compile(r"\bPII\b", re.IGNORECASE)
_NAME = r"[\w.`]+"
_USE = re.compile(rf"USE\s+(?:(?:SCHEMA|DATABASE)\s+)?({_NAME})\s*$", re.IGNORECASE)
_ALTER = re.compile(
    rf"ALTER\s+(?:STREAMING\s+TABLE|MATERIALIZED\s+VIEW|TABLE|VIEW)\s+({_NAME})\s+ALTER\s+(?:COLUMN\s+)?(`[^`]+`|\w+)"
    r"\s+(SET|UNSET)\s+TAGS\s*\((.*)\)\s*$",
    re.IGNORECASE | re.DOTALL,
)
_ON_COLUMN = re.compile(
    rf"(SET|UNSET)\s+TAG\s+ON\s+COLUMN\s+({_NAME})\.(`[^`]+`|\w+)\s+([\w.`]+)(?:\s*=\s*(.*))?$",
    re.IGNORECASE | re.DOTALL,
)
_PAIR = re.compile(r"'([^']*)'(?:\s*=\s*'([^']*)')?")
_CONCATENATED = re.compile(r"IDENTIFIER\s*\(((?:[^()'\"]|'[^']*')*)\)", re.IGNORECASE)
_LITERAL = re.compile(r"'([^']*)'")


class Personal:
    """The tags of a project's columns.

    Args:
        tags: `schema.table` in lower case (or the table alone, where the schema is not known) → column in lower case →
            tag → value.
    """

    def __init__(self, tags: Mapping[str, Mapping[str, Mapping[str, str]]]):
        self._tags = tags
        self._anywhere = {
            column for columns in tags.values() for column, given in columns.items() if _is_personal(given)
        }

    def of(self, schema: str, table: str, columns: Iterable[Column]) -> set[str]:
        """The names of the columns, as they are written, whose values are masked."""
        tagged = self._tags.get(f"{schema}.{table}".lower(), self._tags.get(table.lower()))
        found = set()
        for column in columns:
            name = column.name.lower()
            by_tag = name in self._anywhere if tagged is None else _is_personal(tagged.get(name, {}))
            if by_tag or _COMMENT.search(column.comment):
                found.add(column.name)
        return found

    def tags(self, schema: str, table: str, column: str) -> Mapping[str, str]:
        return self._tags.get(f"{schema}.{table}".lower(), self._tags.get(table.lower(), {})).get(column.lower(), {})


def _is_personal(tags: Mapping[str, str]) -> bool:
    return any(
        (name in TAGS or name.startswith("class.")) and value.lower() not in HARMLESS for name, value in tags.items()
    )


def read(root: Path, parameters: Mapping[str, object]) -> Personal:
    """The tags that the SQL files below `root` give.

    Args:
        parameters: the values of `:name`, such as the bundle's variables; a name that they do not have leaves the
            schema unknown.
    """
    tags: dict[str, dict[str, dict[str, str]]] = {}
    for file in _sql_files(root):
        text = file.read_text(encoding="utf-8", errors="replace")
        if re.search(r"\bTAGS?\b", text, re.IGNORECASE):
            for full, column, given, kept in _statements(text, file, parameters):
                of_column = tags.setdefault(full, {}).setdefault(column, {})
                for name, value in given:
                    if kept:
                        of_column[name] = value
                    else:
                        of_column.pop(name, None)
    return Personal(tags)


def _sql_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")) and name != "node_modules")
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".sql"))


def _statements(
    text: str, file: Path, parameters: Mapping[str, object]
) -> Iterator[tuple[str, str, Sequence[tuple[str, str]], bool]]:
    """Table, column, tags and whether they are set, of each statement that is about tags of a column."""
    schema = ""
    try:
        statements = list(sql_files.statements(Source(text, file)))
    except LakeflowError:
        return
    for statement in statements:
        try:
            filled = sql.filled(statement, parameters)
        except LakeflowError:  # a parameter without a value
            filled = statement.text
        plain = _CONCATENATED.sub(lambda match: "".join(_LITERAL.findall(match[1])), filled).strip()
        if match := _USE.match(plain):
            schema = sql.normalise(match[1])[-1]
        elif plain.upper().startswith("USE "):
            schema = ""
        elif match := _ALTER.match(plain):
            given = [(name.lower(), value) for name, value in _PAIR.findall(match[4])]
            yield _full(match[1], schema), match[2].strip("`").lower(), given, match[3].upper() == "SET"
        elif match := _ON_COLUMN.match(plain):
            value = (match[5] or "").strip().strip("'`")
            name = match[4].strip("`").lower()
            yield _full(match[2], schema), match[3].strip("`").lower(), [(name, value)], match[1].upper() == "SET"


def _full(name: str, schema: str) -> str:
    parts = sql.normalise(name)
    return ".".join(parts[-2:]) if len(parts) > 1 else ".".join(filter(None, (schema, parts[-1])))
