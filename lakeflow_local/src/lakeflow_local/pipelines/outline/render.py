"""An outline as JSON, as a Mermaid diagram, and as a table for the terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
from typing import Any

from rich.console import Console
from rich.table import Table

from lakeflow_local.pipelines.outline.outline import DatasetOutline, Outline

_SHAPES = {
    "streaming_table": ("[", "]"),
    "materialized_view": ("[[", "]]"),
    "temporary_view": ("(", ")"),
    "sink": ("[/", "/]"),
}


def as_json(outline: Outline) -> str:
    """`{"datasets": […], "errors": […], "notes": […]}`; files are told from the working directory."""

    def plain(value: Any) -> Any:
        found = dataclasses.asdict(value)
        found["file"] = _place(found["file"])
        for flow in found.get("flows", ()):
            flow["file"] = _place(flow["file"])
        return found

    return json.dumps(
        {
            "datasets": [plain(dataset) for dataset in outline.datasets],
            "errors": [plain(error) for error in outline.errors],
            "notes": outline.notes,
        },
        indent=2,
    )


def as_mermaid(outline: Outline) -> str:
    """A flowchart: tables of other places, datasets by kind, and what reads what."""
    own = {dataset.name for dataset in outline.datasets}
    ids = {
        name: f"n{index}"
        for index, name in enumerate(dict.fromkeys([*(d.name for d in outline.datasets), *_outside(outline, own)]))
    }
    lines = ["flowchart LR"]
    for name in _outside(outline, own):
        lines.append(f"  {ids[name]}[({_label(name)})]:::outside")
    for dataset in outline.datasets:
        opening, closing = _SHAPES[dataset.kind]
        count = len(dataset.expectations)
        rules = f"<br/>{count} expectation{'s' if count > 1 else ''}" if count else ""
        lines.append(f'  {ids[dataset.name]}{opening}"{_label(dataset.name)}{rules}"{closing}:::{dataset.kind}')
    lines += [f"  {ids[name]} --> {ids[d.name]}" for d in outline.datasets for name in d.inputs]
    lines += [
        "  classDef streaming_table fill:#dbeafe,stroke:#1d4ed8,color:#172554",
        "  classDef materialized_view fill:#dcfce7,stroke:#15803d,color:#052e16",
        "  classDef temporary_view fill:#f3f4f6,stroke:#6b7280,color:#111827,stroke-dasharray:4 3",
        "  classDef sink fill:#fef3c7,stroke:#b45309,color:#451a03",
        "  classDef outside fill:#ffffff,stroke:#9ca3af,color:#374151",
    ]
    return "\n".join(lines)


def as_text(outline: Outline) -> str:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("dataset", "kind", "reads", "expectations", "defined at"):
        table.add_column(heading, overflow="fold")
    for dataset in outline.datasets:
        table.add_row(
            dataset.name,
            dataset.kind.replace("_", " "),
            "\n".join(dataset.inputs) or "-",
            _rules(dataset),
            f"{_place(dataset.file)}:{dataset.line}",
        )
    out = io.StringIO()
    console = Console(file=out, width=max(120, _width()), highlight=False)
    if outline.datasets:
        console.print(table)
    for note in outline.notes:
        console.print(f"note: {note}", markup=False)
    return out.getvalue().rstrip()


def _rules(dataset: DatasetOutline) -> str:
    counts: dict[str, int] = {}
    for rule in dataset.expectations:
        counts[rule.action] = counts.get(rule.action, 0) + 1
    return ", ".join(f"{count} {action}" for action, count in counts.items()) or "-"


def _outside(outline: Outline, own: set[str]) -> list[str]:
    return sorted({name for dataset in outline.datasets for name in dataset.inputs if name not in own})


def _label(name: str) -> str:
    return re.sub(r'["<>{}]', "", name)


def _place(file: str | None) -> str | None:
    if file is None:
        return None
    place = os.path.relpath(file)
    return file if place.startswith(".." + os.sep) else place


def _width() -> int:
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 140
