"""Writes docs/datasets/ and sql/governance/tags.sql from the sources: contracts, rules, and the pipelines' graph.

`python -m tools.dataset_docs` writes; with `--check` it only says which file is not current, and exits with 1.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from typing import Any

from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.outline import DatasetOutline, outline
from quality import contract
from quality.suites import checks

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "members"
SCHEMAS = {f"{layer}_schema": layer for layer in ("bronze", "silver", "gold")}
ONLY_GENERATED = "<!-- Made by `make docs` out of the sources; edit those. -->"


def files() -> dict[Path, str]:
    """Path → text of every generated file."""
    graph = _graph()
    rules = runpy.run_path(str(PIPELINE / "rules.py"))
    described = {rule.name: rule for rule in (*rules["RULES"], *rules["CHECKS"])}
    tables = contract.tables("members")
    found = {ROOT / "docs" / "datasets" / f"{t.full}.md": _page(t, graph, described) for t in tables}
    found[ROOT / "docs" / "datasets" / "README.md"] = _index(tables, graph)
    found[ROOT / "sql" / "governance" / "tags.sql"] = _tags(tables, graph)
    return found


def _graph() -> dict[str, DatasetOutline]:
    found: dict[str, DatasetOutline] = {}
    for folder, schema in (("transformations", "silver"), ("gold", "gold")):
        sources = tuple(sorted((PIPELINE / folder).glob("*.py")))
        known = {**SCHEMAS, "landing_url": "landing", "pseudonym_key": "env:PATH"}
        made = outline(sources, root=PIPELINE, configuration=known, names=Namespace("lakehouse", schema))
        if made.errors:
            raise SystemExit(f"error: {made.errors[0].file}:{made.errors[0].line}: {made.errors[0].message}")
        found |= {dataset.name.removeprefix("lakehouse."): dataset for dataset in made.datasets}
    return found


def _comment(dataset: DatasetOutline) -> str:
    """The comment that the source gives the dataset, as it is published."""
    tree = ast.parse(
        Path(dataset.file).read_text() if Path(dataset.file).is_absolute() else (ROOT / dataset.file).read_text()
    )
    calls = sorted((n for n in ast.walk(tree) if isinstance(n, ast.Call)), key=lambda n: abs(n.lineno - dataset.line))
    for call in calls:
        for keyword in call.keywords:
            if keyword.arg == "comment" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    return ""


def _inputs(name: str, graph: dict[str, DatasetOutline]) -> list[str]:
    """The tables that a table is made of, with views replaced by what they read."""
    found: list[str] = []
    for given in graph[name].inputs:
        plain = given.removeprefix("lakehouse.")
        dataset = graph.get(plain) or graph.get(f"silver.{plain}")
        if dataset is not None and "view" in str(dataset.kind) and "materialized" not in str(dataset.kind):
            found += _inputs(dataset.name.removeprefix("lakehouse."), graph)
        else:
            found.append(plain)
    return sorted(set(found))


def _page(table: contract.Table, graph: dict[str, DatasetOutline], described: dict[str, Any]) -> str:
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
        f"* made of: {_links(_inputs(table.full, graph)) or 'landed files'}",
        f"* read by: {_links(readers) or 'people'}",
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
            known = described.get(rule.name)
            about = (
                (known.dimension, known.owner, known.reason)
                if known
                else ("validity", "data platform", f"`{rule.predicate}`")
            )
            lines.append(f"| `{rule.name}` | {rule.action} | {' | '.join(about)} |")
    if suite := checks(table):
        lines += ["", "## Great Expectations", "", "| check | dimension | severity |", "|-|-|-|"]
        lines += [f"| `{check.name}` | {check.dimension} | {check.severity} |" for check in suite]
    return "\n".join(lines) + "\n"


def _links(names: list[str]) -> str:
    pages = {table.full for table in contract.tables("members")}
    return ", ".join(f"[{name}]({name}.md)" if name in pages else f"`{name}`" for name in names)


def _index(tables: tuple[contract.Table, ...], graph: dict[str, DatasetOutline]) -> str:
    arrows = [f"  {source} --> {t.full}" for t in tables for source in _inputs(t.full, graph)]
    lines = [
        "# Tables of members",
        "",
        ONLY_GENERATED,
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
    return "\n".join(lines) + "\n"


def _tags(tables: tuple[contract.Table, ...], graph: dict[str, DatasetOutline]) -> str:
    lines = [
        "-- How personal each column is, as tags; made by `make docs` out of quality/contracts, edit those.",
        "-- Runs after the pipelines, any number of times.",
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
