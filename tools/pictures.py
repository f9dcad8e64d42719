"""`make pictures`: what the sources tell of themselves: the data flow of each pipeline, the tasks of each job,
which columns each rule looks at, and which are personal."""

from __future__ import annotations

from pathlib import Path

import sqlglot

from lakeflow_local.bundle import graph, load, queries
from lakeflow_local.pipelines.outline import render
from tools import personal

ROOT = Path(__file__).resolve().parents[1]
_HEAD = """# Data flow

Drawn from the sources by `make pictures`; a test holds it current. Single frames are streaming tables, double ones
materialized views, dashed ones views. The same is drawn for any pipeline by
`lakeflow-local pipelines graph KEY --mermaid`, and for any job by `lakeflow-local bundle graph KEY --svg`.
"""


def drawn() -> dict[Path, str]:
    """File → text of every picture."""
    bundle = load.load(ROOT, "local", [], environment={})
    parts = [_HEAD]
    files: dict[Path, str] = {}
    rules: dict[str, str] = {}
    for key, pipeline in sorted(bundle.of_type("pipelines").items()):
        outline = queries.outlined(bundle, pipeline)
        assert outline is not None and not outline.errors, f"the pipeline {key} has faults; run bundle validate"
        rules |= {rule.name: rule.predicate for dataset in outline.datasets for rule in dataset.expectations}
        parts.append(f"## Pipeline `{key}`\n\n```mermaid\n{render.as_mermaid(outline).strip()}\n```\n")
    parts.append("## Jobs\n")
    for key, job in sorted(bundle.of_type("jobs").items()):
        files[ROOT / "docs" / "pictures" / f"{key}.job.svg"] = graph.svg(graph.graph(bundle, job)).strip() + "\n"
        parts.append(f"[`{key}`](../resources/{key}.job.yml)\n\n![tasks of {key}](pictures/{key}.job.svg)\n")
    shared = ROOT / "sql" / "quality" / "shared"
    made = {shared / "covered.sql": _covered(rules), shared / "personal.sql": personal.as_sql()}
    return {ROOT / "docs" / "data-flow.md": "\n".join(parts), **made, **files}


def _covered(rules: dict[str, str]) -> str:
    """Rule and column, for each column that the rule's predicate names."""
    pairs = {
        (name, column.name)
        for name, predicate in rules.items()
        for column in sqlglot.parse_one(predicate, read="databricks").find_all(sqlglot.exp.Column)
        if not column.table  # a field of the parameter of a lambda
    }
    rows = ",\n".join(f"  ('{name}', '{column}')" for name, column in sorted(pairs))
    return f"""-- The columns that each rule of the pipelines looks at; made by `make pictures` out of the sources.
SELECT *
FROM VALUES
{rows}
AS covered (rule, column)
"""


def main() -> None:
    for file, text in drawn().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
