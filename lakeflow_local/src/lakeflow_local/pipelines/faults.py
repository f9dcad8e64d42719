"""What can be wrong with a graph, in words: the same by the sources alone and in an update."""

from __future__ import annotations

from collections.abc import Iterable

from lakeflow_local.pipelines.graph import Dataset, Flow, Kind, Place


def already_defined(dataset: Dataset, first: Place) -> str:
    return f"{dataset.name} is already defined at {first.file.name}:{first.line}; remove one"


def expected_twice(dataset: Dataset) -> str | None:
    """Two expectations of the dataset share a name."""
    names = [each.name for each in dataset.expectations]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is None:
        return None
    return f"expectation {twice} is declared twice on {dataset.name}; names are unique for each dataset"


def not_written(dataset: Dataset) -> str:
    what = "table" if dataset.sink is None else "sink"
    return f"no flow writes {dataset.name}; add one, or remove the {what}"


def no_target(flow: Flow, near: Iterable[str] = ()) -> str:
    """The target of a flow is missing; `near` are the names of datasets that are written nearly like it."""
    meant = f"; did you mean {' or '.join(near)}?" if near else "; define it, or correct its name"
    return f"flow {flow.name} writes {flow.target}, which this pipeline does not define{meant}"


def written_by_its_query(dataset: Dataset, flow: Flow) -> str | None:
    """Why a flow may not write this dataset, if it is a view, and the flow is not its own query."""
    if dataset.kind not in (Kind.MATERIALIZED_VIEW, Kind.TEMPORARY_VIEW) or flow.place == dataset.place:
        return None
    return (
        f"flow {flow.name} writes {dataset.name}, a view that only its own query writes; flows write streaming tables"
    )


_INSTEAD = {
    "replace": "declare a materialized view, which has what its query gives, or an AUTO CDC flow with the same keys",
    "depends_on": "remove it, since flows run in the order of what they read",
}


def refused(declared: Dataset | Flow) -> str:
    what = str(declared.refused)
    instead = next((text for word, text in _INSTEAD.items() if word in what.lower()), "remove it, or correct its name")
    return f"{what} is not supported by lakeflow_local; {instead}"


def circle(names: Iterable[str]) -> str:
    """`names` in the order in which they read each other, the first once more at the end."""
    return f"datasets read each other in a circle: {' -> '.join(names)}; let one of them read something else"


def view_read(name: str, streaming: bool) -> str:
    """A temporary view is read in the other way than it was defined (INCOMPATIBLE_…_VIEW_READ on Databricks).

    Args:
        streaming: it is a streaming view, read as a table.
    """
    is_, wanted = ("a streaming", "readStream or STREAM") if streaming else ("a batch", "read, without STREAM")
    return (
        f"{name} is {is_} view, which is read by {wanted}; or set pipelines.incompatibleViewCheck.enabled=false"
        " in the configuration"
    )
