"""Names of tables: written with one to three parts, compared in full and without case."""

from __future__ import annotations

from dataclasses import dataclass

from lakeflow_local.pipelines import sql


@dataclass(frozen=True)
class Namespace:
    """Where names with fewer than three parts belong."""

    catalog: str
    schema: str

    def full(self, name: str) -> str:
        """`catalog.schema.table` in lower case."""
        parts = sql.normalise(name)
        return ".".join(((self.catalog.lower(), self.schema.lower())[: max(0, 3 - len(parts))]) + parts)


def quoted(full_name: str) -> str:
    """A full name for use in SQL text."""
    return ".".join(f"`{part}`" for part in full_name.split(".", 2))


def without_live(name: str) -> str:
    """A name without the legacy prefix `LIVE.`."""
    name = str(name)
    return name[5:] if name[:5].lower() == "live." else name
