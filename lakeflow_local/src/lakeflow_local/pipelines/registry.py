"""What the sources of one pipeline declare, gathered while they are loaded."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import CodeType
from typing import Any

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import faults
from lakeflow_local.pipelines.graph import Dataset, Expectation, Flow, Hook, Place

_PACKAGE = str(Path(__file__).resolve().parent)


class Registry:
    """Datasets and flows of one pipeline, in the order of their declaration.

    Attributes:
        idle: the decorators that have decorated nothing, by where they were made.
    """

    def __init__(self) -> None:
        self.datasets: list[Dataset] = []
        self.flows: list[Flow] = []
        self.hooks: list[Hook] = []
        self.idle: dict[Place, str] = {}
        self._expectations: dict[int, list[Expectation]] = {}
        self._functions: dict[int, Callable] = {}

    def add(self, dataset: Dataset, flows: Iterable[Flow] = (), function: Callable | None = None) -> None:
        """Adds a dataset; `function` is the decorated one, whose `@expect…` decorators may still follow above."""
        self.datasets.append(dataset)
        if function is not None:
            self._functions[len(self.datasets) - 1] = function
        self.flows.extend(flows)

    def add_flow(self, flow: Flow) -> None:
        self.flows.append(flow)

    def expect(self, function: Callable, expectations: Iterable[Expectation]) -> None:
        """Notes the expectations of a decorated function, above or below its dataset decorator."""
        # Decorators apply from the inside out: what comes later stands further up.
        self._expectations.setdefault(id(function), [])[:0] = expectations
        self._functions.setdefault(-id(function), function)

    def _expected(self, function: Callable) -> list[Expectation]:
        return [rule for layer in _layers(function) for rule in self._expectations.get(id(layer), ())]

    def complete(self) -> tuple[list[Dataset], list[Flow]]:
        """The declarations with their expectations."""
        for index, function in self._functions.items():
            if index >= 0 and (
                expectations := [e for f in _layers(function) for e in self._expectations.get(id(f), ())]
            ):
                dataset = self.datasets[index]
                both = (*dataset.expectations, *expectations)
                self.datasets[index] = dataclasses.replace(dataset, expectations=both)
        return self.datasets, self.flows

    def close(self) -> tuple[list[Dataset], list[Flow]]:
        """The declarations, complete.

        Raises:
            LakeflowError: two expectations of one dataset share a name.
        """
        for dataset in self.complete()[0]:
            if fault := faults.expected_twice(dataset):
                raise LakeflowError(fault, file=dataset.place.file, line=dataset.place.line)
        return self.datasets, self.flows


def _layers(function: Callable | None) -> Iterator[Callable]:
    """A function and those that its decorators wrapped, the outermost first."""
    while function is not None:
        yield function
        function = getattr(function, "__wrapped__", None)


_active: ContextVar[Registry | None] = ContextVar("registry", default=None)


@contextmanager
def collecting(registry: Registry) -> Iterator[Registry]:
    """Makes `registry` the one that declarations go to."""
    token = _active.set(registry)
    try:
        yield registry
    finally:
        _active.reset(token)


def active() -> Registry:
    registry = _active.get()
    if registry is None:
        raise LakeflowError(
            "datasets can be declared only while a pipeline's sources are loaded: run this file with "
            "`lakeflow-local pipelines run`, not with python"
        )
    return registry


def place_of(function: Callable, otherwise: Place) -> Place:
    """Where a function begins, its decorators included; `otherwise` for a callable that has no code of its own."""
    code = getattr(function, "__code__", None)
    return otherwise if code is None or _is_text(code) else Place(Path(code.co_filename), code.co_firstlineno)


def _is_text(code: CodeType) -> bool:
    """Whether it was given to `exec`, and stands in no file."""
    return code.co_filename.startswith("<")


def caller() -> Place:
    """The line of the source that called into this package."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename.startswith(_PACKAGE) or _is_text(frame.f_code)):
        frame = frame.f_back
    return Place(Path(frame.f_code.co_filename), frame.f_lineno)
