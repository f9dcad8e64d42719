"""The declared tables: a YAML file of name → key, cursor, columns, landing folder and answers to drift."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ingest.errors import IngestError
from ingest.tables import Drift, Table

_KNOWN = ("table", "key", "cursor", "columns", "landing", "drift")


def declared(file: str | Path | None = None) -> dict[str, Table]:
    """Name → table, as a file declares them.

    Args:
        file: None is the one of this package.

    Raises:
        IngestError: the file cannot be read, or an entry is not as docs/ingest.md says; it names the entry.
    """
    path = Path(str(file)) if file else resources.files(__package__).joinpath("sources.yml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise IngestError(f"{path} cannot be read; --sources must name a YAML file of tables") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise IngestError(f"{path}:{mark.line + 1 if mark else 1}: is not YAML; correct it") from None
    if not isinstance(content, dict) or not content:
        raise IngestError(f"{path} declares no table; it must map names to their declarations")
    return {str(name): _table(f"{path}: {name}", str(name), entry) for name, entry in content.items()}


def table(name: str, file: str | Path | None = None) -> Table:
    """The declared table of that name.

    Raises:
        IngestError: as in `declared`, or there is none of that name.
    """
    tables = declared(file)
    if name not in tables:
        raise IngestError(f"no table {name!r} is declared; there is {', '.join(tables)}")
    return tables[name]


def _table(place: str, name: str, entry: Any) -> Table:
    if not isinstance(entry, dict):
        raise IngestError(f"{place}: must have key, columns and cursor")
    unknown = [str(setting) for setting in entry if setting not in _KNOWN]
    if unknown:
        raise IngestError(f"{place}: unknown {unknown[0]!r}; known are {', '.join(_KNOWN)}")
    columns, key, drift = entry.get("columns"), entry.get("key"), entry.get("drift", {})
    if not isinstance(columns, dict) or not all(isinstance(kind, str) for kind in columns.values()):
        raise IngestError(f"{place}: columns must map names to types")
    if "cursor" not in entry:
        raise IngestError(f"{place}: cursor is missing; name the column of the last change, or write null for none")
    if not isinstance(drift, Mapping) or set(drift) - set(Drift.ANSWERS):
        raise IngestError(f"{place}: drift has only {', '.join(Drift.ANSWERS)}")
    try:
        return Table(
            name=str(entry.get("table", name)),
            key=tuple(key) if isinstance(key, list) else (str(key),),
            columns={str(column): "".join(kind.upper().split()) for column, kind in columns.items()},
            cursor=entry["cursor"],
            landing=str(entry.get("landing", "")),
            drift=Drift(**drift),
        )
    except ValueError as error:
        raise IngestError(f"{place}: {error}") from None
