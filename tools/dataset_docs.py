"""Writes what is made of the sources: docs/datasets/, the contract of invoices and the tags of columns.

`python -m tools.dataset_docs` writes; with `--check` it only says which file is not current, and exits with 1.
"""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.graph import Dataset
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.outline import DatasetOutline, outline
from quality import contract
from quality.suites import checks

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / "quality" / "contracts"
CONFIGURATION = {
    **{f"{layer}_schema": layer for layer in ("bronze", "silver", "gold")},
    "landing_url": "landing",
    "pseudonym_key": "env:PATH",
    "reporting_currency": "the reporting currency",
}
# Sources of each pipeline, and the schema of the names that have none.
PIPELINES = {
    "members": (("members/transformations/*.py", "silver"), ("members/gold/*.py", "gold")),
    "invoices": (("invoices/transformations/*.sql", "gold"),),
}
ONLY_GENERATED = "<!-- Made by `make docs` out of the sources; edit those. -->"
Graph = dict[str, DatasetOutline]


class Rule(NamedTuple):
    """What is known of a rule beside its predicate."""

    dimension: str
    owner: str
    reason: str | None = None


def files() -> dict[Path, str]:
    """Path → text of every generated file."""
    invoices = _contract()
    found = {CONTRACTS / "invoices.toml": invoices}
    rules, pages = _rules(), ["# Tables", "", ONLY_GENERATED]
    for domain, tables in (("members", contract.tables("members")), ("invoices", contract.parsed(invoices))):
        graph = _graph(domain)
        names = {table.full for table in tables}
        found |= {ROOT / "docs" / "datasets" / f"{t.full}.md": _page(t, graph, rules, names) for t in tables}
        pages += ["", *_index(domain, tables, graph)]
        tags = "tags.sql" if domain == "members" else f"{domain}_tags.sql"
        found[ROOT / "sql" / "governance" / tags] = _tags(tables, graph)
    found[ROOT / "docs" / "datasets" / "README.md"] = "\n".join(pages) + "\n"
    return found


def _rules() -> dict[str, Rule]:
    """What the rules of members say of themselves, and the catalogue of those of invoices."""
    catalogue = (ROOT / "sql" / "quality" / "shared" / "catalogue.sql").read_text()
    row = re.compile(r"\('(\w+)', '\w+', '(\w+)', '([\w ]+)'\)")
    found = {name: Rule(dimension, owner) for name, dimension, owner in row.findall(catalogue)}
    module = runpy.run_path(str(ROOT / "pipelines" / "members" / "rules.py"))
    own = (*module["RULES"], *module["CHECKS"])
    return found | {rule.name: Rule(rule.dimension, rule.owner, rule.reason) for rule in own}


def _graph(domain: str) -> Graph:
    found: Graph = {}
    for pattern, schema in PIPELINES[domain]:
        root = ROOT / "pipelines" / domain
        made = outline(
            tuple(sorted((ROOT / "pipelines").glob(pattern))),
            root=root,
            configuration=CONFIGURATION,
            names=Namespace("lakehouse", schema),
        )
        if made.errors:
            raise SystemExit(f"error: {made.errors[0].file}:{made.errors[0].line}: {made.errors[0].message}")
        found |= {dataset.name.removeprefix("lakehouse."): dataset for dataset in made.datasets}
    return found


def _declared() -> Iterator[Dataset]:
    """The published tables that the SQL of invoices declares."""
    for file in sorted((ROOT / "pipelines" / "invoices" / "transformations").glob("*.sql")):
        for statement in sql.parse(file.read_text(), file=file, configuration=CONFIGURATION):
            if isinstance(statement, sql.CreateDataset) and not statement.dataset.private:
                yield statement.dataset


def _contract() -> str:
    """The contract of the tables of invoices, as their SQL declares them."""
    privacy = tomllib.loads((CONTRACTS / "invoices_privacy.toml").read_text())
    classes = {column: name for name, columns in privacy.items() for column in columns}
    lines = ["# Made by `make docs` out of pipelines/invoices and invoices_privacy.toml; edit those."]
    layers = ("bronze", "silver", "gold")
    for dataset in sorted(_declared(), key=lambda d: (layers.index(d.name.split(".")[0]), d.name)):
        lines += ["", f'[tables."{dataset.name}"]']
        if dataset.primary_key:
            lines.append(f"key = {json.dumps(list(dataset.primary_key.columns))}")
        if dataset.name.startswith("gold."):
            lines.append("published = true")
        lines += ["", f'[tables."{dataset.name}".columns]']
        for column in dataset.columns:
            kind = re.sub(r"\s", "", column.type or "").lower()
            given = {"type": kind, "class": classes.get(column.name, "technical"), "comment": column.comment or ""}
            told = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in given.items())
            lines.append(f"{column.name} = {{ {told} }}")
    return "\n".join(lines) + "\n"


def _comment(dataset: DatasetOutline) -> str:
    """The comment that the source gives the dataset, as it is published."""
    # A path that is absolute stays as it is.
    file = ROOT / dataset.file
    if file.suffix == ".sql":
        return next(d.comment or "" for d in _declared() if d.name == dataset.name.removeprefix("lakehouse."))
    tree = ast.parse(file.read_text())
    calls = sorted((n for n in ast.walk(tree) if isinstance(n, ast.Call)), key=lambda n: abs(n.lineno - dataset.line))
    for call in calls:
        for keyword in call.keywords:
            if keyword.arg == "comment" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return ""


def _inputs(name: str, graph: Graph) -> list[str]:
    """The tables that a table is made of; views and what is private, which have no schema, give what they read."""
    found: set[str] = set()
    for given in graph[name].inputs:
        plain = given.removeprefix("lakehouse.")
        found |= {plain} if "." in plain else set(_inputs(plain, graph))
    return sorted(found)


def _page(table: contract.Table, graph: Graph, rules: dict[str, Rule], pages: set[str]) -> str:
    dataset = graph[table.full]
    readers = sorted(name for name in graph if table.full in _inputs(name, graph) and "." in name)
    lines = [
        f"# {table.full}",
        "",
        ONLY_GENERATED,
        "",
        f"{_comment(dataset)}.",
        "",
        f"A {str(dataset.kind).replace('_', ' ').lower()}"
        + (f"; key: {', '.join(f'`{k}`' for k in table.key)}" if table.key else "")
        + ("; published: its contract is kept" if table.published else "")
        + ".",
        "",
        f"* made of: {_links(_inputs(table.full, graph), pages) or 'landed files'}",
        f"* read by: {_links(readers, pages) or 'people'}",
        "",
        "## Columns",
        "",
        "| column | type | privacy | |",
        "|-|-|-|-|",
        *(f"| `{c.name}` | {c.type} | {c.privacy} | {c.comment} |" for c in table.columns),
    ]
    if table.open:
        lines += ["", "Columns that are new in the source appear here as well, and are reported by the gate."]
    if dataset.expectations:
        lines += ["", "## Expectations", "", "| rule | action | dimension | owner | reason |", "|-|-|-|-|-|"]
        for rule in dataset.expectations:
            known = rules[rule.name]
            reason = known.reason or f"`{rule.predicate}`"
            lines.append(f"| `{rule.name}` | {rule.action} | {known.dimension} | {known.owner} | {reason} |")
    if suite := checks(table):
        lines += ["", "## Great Expectations", "", "| check | dimension | severity |", "|-|-|-|"]
        lines += [f"| `{check.name}` | {check.dimension} | {check.severity} |" for check in suite]
    return "\n".join(lines) + "\n"


def _links(names: list[str], pages: set[str]) -> str:
    return ", ".join(f"[{name}]({name}.md)" if name in pages else f"`{name}`" for name in names)


def _index(domain: str, tables: tuple[contract.Table, ...], graph: Graph) -> list[str]:
    arrows = [f"  {source} --> {t.full}" for t in tables for source in _inputs(t.full, graph)]
    return [
        f"## {domain.capitalize()}",
        "",
        "| table | |",
        "|-|-|",
        *(f"| [{t.full}]({t.full}.md) | {_comment(graph[t.full])} |" for t in tables),
        "",
        "```mermaid",
        "flowchart LR",
        *arrows,
        "```",
    ]


def _tags(tables: tuple[contract.Table, ...], graph: Graph) -> str:
    lines = [
        "-- How personal each column is, as tags; made by `make docs` out of quality/contracts, edit those.",
        "-- Runs after the pipeline, any number of times.",
    ]
    for layer in ("bronze", "silver", "gold"):
        lines += ["", f"USE IDENTIFIER(:catalog || '.' || :{layer}_schema);"]
        for table in (t for t in tables if t.layer == layer):
            kind = str(graph[table.full].kind).replace("_", " ").upper()
            personal = [c for c in table.columns if c.privacy != "technical"]
            lines += [
                f"ALTER {kind} {table.name} ALTER COLUMN {c.name} SET TAGS ('privacy' = '{c.privacy}');"
                for c in personal
            ]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    wanted = files()
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    made = {path for path in wanted if path.suffix == ".md"}
    gone = [p for p in (ROOT / "docs" / "datasets").glob("*.md") if p not in made]
    if "--check" in argv:
        for path in [*stale, *gone]:
            print(f"error: {path.relative_to(ROOT)} is not current; run make docs", file=sys.stderr)
        return bool(stale or gone)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
