"""Parameters of SQL text as literals: `:name`, and `{{name}}` of SQL tasks (docs/decisions/0003)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from lakeflow_local.pipelines.sql.json_paths import ends_column
from lakeflow_local.pipelines.sql.tokens import Source, is_string

_BRACES = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MARKER = re.compile(r":([A-Za-z_]\w*)")
_OPERAND_ENDS = re.compile(r"[\w`)\]\"':]")


def filled(statement: Source, parameters: Mapping[str, Any]) -> str:
    """The text with its parameters as literals.

    They are not left to `spark.sql(…, args)`: with Delta's parser in the session, Spark 4.2 binds none of them.
    """
    text, pieces, position = statement.text, [], 0
    for index, token in enumerate(statement.tokens):
        if is_string(token):
            found = [
                (match.start(), match.end(), match[1]) for match in _BRACES.finditer(text, token.start, token.end + 1)
            ]
        elif match := _BRACES.match(text, token.start) or _marker(text, token.start):
            found = [(match.start(), match.end(), match[1])]
        else:
            continue
        for start, end, name in found:
            # `details :path` is Databricks' own way of writing a path into a column.
            is_path = (
                name not in parameters and text[start] == ":" and index and ends_column(statement.tokens[index - 1])
            )
            if start < position or is_path:
                continue
            if name not in parameters:
                known = ", ".join(parameters) or "none"
                statement.fail(f"{text[start:end]} has no value; the parameters are: {known}", start)
            literal = _escaped(str(parameters[name])) if is_string(token) else _literal(parameters[name])
            pieces += [text[position:start], literal]
            position = end
    return "".join([*pieces, text[position:]])


def _marker(text: str, start: int) -> re.Match[str] | None:
    """`:name`, but not the `b` of `a:b` or of `a::b`, which are a path into a variant and a cast."""
    return _MARKER.match(text, start) if start == 0 or not _OPERAND_ENDS.match(text[start - 1]) else None


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bool() | int() | float() | Decimal():
            return str(value).upper()
        case datetime():
            return f"TIMESTAMP'{value.isoformat(' ')}'"
        case date():
            return f"DATE'{value.isoformat()}'"
    return f"'{_escaped(str(value))}'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")
