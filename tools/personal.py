"""Which columns name or reach a person, and what keeps them from analysts, as `sql/governance` and pipelines say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import sqlglot
from sqlglot import exp

from lakeflow_local.bundle import sql_files
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.sql.tokens import Source

ROOT = Path(__file__).resolve().parents[1]
GOVERNANCE = ROOT / "sql" / "governance"
ANALYSTS = "member-lakehouse-analysts"
CLASSES = ("identifier", "contact")
_LAYERS = {"catalog": "c", **{f"{layer}_schema": layer for layer in ("bronze", "silver", "gold")}}
_TAG = re.compile(r"ALTER .*?(\w+) ALTER COLUMN (\w+) SET TAGS \('privacy' = '(\w+)'\)")
_GRANT = re.compile(r"GRANT (.*?) ON (SCHEMA|TABLE|VIEW) (.*?) TO `(.*?)`", re.DOTALL)
_NAME = re.compile(r"(\w+)'?\)?$")
_MASKED = re.compile(r"^ +(\w+) .*\bMASK \$\{\w+\}\.\w+", re.MULTILINE)


def columns() -> list[tuple[str, str, str]]:
    """Table (`layer.name`), column, and what keeps it: `mask`, `no grant` or `nothing`."""
    granted, masks = _granted(), _masks()

    def kept_by(table: str, column: str) -> str:
        if (table, column) in masks:
            return masks[table, column]
        return "nothing" if granted & {table, table.partition(".")[0]} else "no grant"

    tagged = {
        (f"{schema}.{match[1]}", match[2])
        for schema, text in _statements("tags.sql", "invoices_tags.sql")
        if (match := _TAG.match(text)) and match[3] in CLASSES
    }
    return [(table, column, kept_by(table, column)) for table, column in sorted(tagged)]


def _granted() -> set[str]:
    """The schemas and relations that analysts may SELECT."""
    found = set()
    for schema, text in _statements("schema_grants.sql", "grants.sql"):
        if (match := _GRANT.match(text)) and match[4] == ANALYSTS and re.search(r"\b(SELECT|ALL)\b", match[1]):
            name = _NAME.search(match[3].strip())[1]
            found.add(name if match[2] == "SCHEMA" else f"{schema}.{name}")
    return found


def _masks() -> dict[tuple[str, str], str]:
    """Columns with a mask of their own, and those of a table that a masking view reads: `mask`, or `nothing`."""
    found = {
        (f"{match[1]}.{match[2]}", column): "mask"
        for file in (ROOT / "pipelines").rglob("*.sql")
        if (match := re.search(r"\$\{(\w+)_schema\}\.(\w+) \(", text := file.read_text(encoding="utf-8")))
        for column in _MASKED.findall(text)
    }
    for schema, text in _statements("members_masked.sql"):
        if text.startswith("CREATE"):
            view = sqlglot.parse_one(text, read="databricks").find(exp.Select)
            table = f"{schema}.{view.find(exp.Table).name}"
            for shown in view.expressions:
                masked = any(call.name.startswith("mask_") for call in shown.find_all(exp.Anonymous))
                found |= {(table, c.name): "mask" if masked else "nothing" for c in shown.find_all(exp.Column)}
    return found


def _statements(*names: str) -> Iterator[tuple[str, str]]:
    """Schema and text of each statement."""
    for name in names:
        schema = ""
        file = GOVERNANCE / name
        for statement in sql_files.statements(Source(file.read_text(encoding="utf-8"), file)):
            text = sql.filled(statement, _LAYERS)
            if text.startswith("USE"):
                schema = _NAME.search(text.strip())[1]
            else:
                yield schema, text


def as_sql() -> str:
    """`sql/quality/shared/personal.sql`."""
    rows = ",\n".join(f"  ('{table}', '{column}', '{kept}')" for table, column, kept in columns())
    return f"""-- Columns that name or reach a person, and what keeps them from analysts; made by `make pictures` out of
-- sql/governance and the masks of the pipelines.
SELECT *
FROM VALUES
{rows}
AS personal (`table`, column, kept_by)
"""
