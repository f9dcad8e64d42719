"""Schema contracts of the published tables, read from `contracts/*.toml`, and what differs from them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

CLASSES = ("identifier", "contact", "quasi", "pseudonym", "technical")


@dataclass(frozen=True)
class Column:
    """A column: its Spark type, its class of privacy (one of `CLASSES`), and what it holds."""

    name: str
    type: str
    privacy: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A table of the contract.

    Attributes:
        layer: the schema's name in the bundle: `bronze`, `silver` or `gold`.
        key: columns that are unique together and never NULL; may be none.
        published: people and other systems query it.
        open: columns that are not listed may appear; they are reported and do no harm.
    """

    layer: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    published: bool = False
    open: bool = False

    @property
    def full(self) -> str:
        return f"{self.layer}.{self.name}"


@dataclass(frozen=True)
class Difference:
    """Where a table is not as its contract says: `problem` is `missing`, `retyped` or `unexpected`."""

    table: str
    column: str
    problem: str
    message: str

    @property
    def breaks(self) -> bool:
        """Whether a query of the table may fail or mislead."""
        return self.problem != "unexpected"


def tables(domain: str) -> tuple[Table, ...]:
    """The tables of `contracts/<domain>.toml`, in its order; errors as those of `parsed`."""
    return parsed(resources.files(__package__).joinpath("contracts", f"{domain}.toml").read_text(encoding="utf-8"))


def parsed(text: str) -> tuple[Table, ...]:
    """The tables of a contract.

    Raises:
        ValueError: a table names a column or a set that is not there, or a column has an unknown class.
    """
    data = tomllib.loads(text)

    def described(columns: Mapping[str, Mapping[str, str]]) -> dict[str, Column]:
        found = {name: Column(name, c["type"], c["class"], c["comment"]) for name, c in columns.items()}
        if unknown := {c.privacy for c in found.values()} - {*CLASSES}:
            raise ValueError(f"contract: the class {sorted(unknown)[0]} is not one of {', '.join(CLASSES)}")
        return found

    shared = described(data.get("columns", {}))

    def table(full: str, given: Mapping) -> Table:
        layer, _, name = full.partition(".")
        own = isinstance(given["columns"], Mapping)
        columns = described(given["columns"]) if own else shared
        listed = [*columns] if own else given["columns"]
        names = [n for item in listed for n in (data["sets"][item[1:]] if item[0] == "@" else [item])]
        if absent := [n for n in (*names, *given.get("key", ())) if n not in columns]:
            raise ValueError(f"contract: {full} has the column {absent[0]}, which [columns] does not describe")
        return Table(
            layer,
            name,
            tuple(columns[n] for n in names),
            tuple(given.get("key", ())),
            given.get("published", False),
            given.get("open", False),
        )

    return tuple(table(full, given) for full, given in data["tables"].items())


def differences(table: Table, found: Mapping[str, str]) -> list[Difference]:
    """What differs between a contract and a table.

    Args:
        found: column name → Spark type (`simpleString`), as the table has them.
    """
    expected = {column.name: column.type for column in table.columns}
    missing = [
        Difference(table.full, name, "missing", f"{name} ({kind}) is gone")
        for name, kind in expected.items()
        if name not in found
    ]
    retyped = [
        Difference(table.full, name, "retyped", f"{name} is {found[name]} and was agreed to be {kind}")
        for name, kind in expected.items()
        if name in found and found[name] != kind
    ]
    new = [
        Difference(table.full, name, "unexpected", f"{name} ({kind}) is new; add it to the contract, or remove it")
        for name, kind in found.items()
        if name not in expected
    ]
    return [*missing, *retyped, *new]
