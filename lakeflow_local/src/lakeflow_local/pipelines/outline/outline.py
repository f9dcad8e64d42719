"""The graph of a pipeline by its sources alone: what `lakeflow-local pipelines graph` shows.

Nothing is read, and no Spark is started: sources are followed with stand-ins (`symbols`) for all that only a running
pipeline knows. A file that is at fault is reported with its line; the others are followed all the same.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from pathlib import Path
from types import CodeType
from typing import Any

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api, faults, notebooks, sql
from lakeflow_local.pipelines.graph import Dataset, Flow, Kind, Place
from lakeflow_local.pipelines.names import Namespace, without_live
from lakeflow_local.pipelines.outline import lenient
from lakeflow_local.pipelines.outline.symbols import (
    EACH,
    Base,
    Condition,
    Symbol,
    TableRead,
    described,
    gives_a_stream,
    has_pieces,
    named,
    one_way,
    setting,
    symbols_in,
    unknown_parts,
)
from lakeflow_local.pipelines.outline.world import PIPELINE_MODULES, World, streams, tables_in
from lakeflow_local.pipelines.registry import Registry, collecting
from lakeflow_local.pipelines.sources import Loader, describe, forget_modules, line_in

_SECONDS = 10
_MOST_WAYS = 24
_STREAM_READS = frozenset({"readStream", "read_stream"})
_TABLE_READS = frozenset({"table", "read", *_STREAM_READS})
_DEFINES = frozenset({
    "table", "create_table", "materialized_view", "temporary_view", "view", "create_view", "create_sink",
    "create_streaming_table", "create_streaming_live_table", "create_target_table", "foreach_batch_sink",
})  # fmt: skip
_WRITES = frozenset({
    "append_flow", "apply_changes", "apply_changes_from_snapshot", "create_auto_cdc_flow",
    "create_auto_cdc_from_snapshot_flow",
})  # fmt: skip
# Parameters of what declares something.
_RULES = re.compile(r"expectation|quality|rules|constraints", re.IGNORECASE)
# What a template or a reader should have filled in.
_GAP = re.compile(r"\b(?:FROM|JOIN)\s+(?:\{\{?[^}]*\}\}?|<[^>]*>)", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    name: str
    predicate: str
    action: str


@dataclass(frozen=True)
class FlowOutline:
    """A flow: what writes a dataset.

    Attributes:
        kind: `append`, `auto_cdc`, `auto_cdc_from_snapshot` or `query`.
        inputs: the tables that it reads: datasets of the pipeline by their name, others as they are written.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    once: bool
    file: str
    line: int


@dataclass(frozen=True)
class DatasetOutline:
    """A dataset as its sources declare it; `kind` is one of `graph.Kind`."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    expectations: tuple[Rule, ...]
    file: str
    line: int
    flows: tuple[FlowOutline, ...]


@dataclass(frozen=True)
class Fault:
    """Why a file is refused."""

    file: str | None
    line: int | None
    message: str


@dataclass
class Outline:
    """A pipeline's graph, as far as its sources tell it.

    Attributes:
        notes: what was accepted and is not followed, such as modules that are not here.
    """

    datasets: list[DatasetOutline] = field(default_factory=list)
    errors: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Missing(dict):
    """Configuration in which a key that was not given stands for itself."""

    def __missing__(self, key: str) -> str:
        return setting(key)

    def __contains__(self, _: object) -> bool:
        return True


class _Loader(Loader):
    def __init__(self, path: Path, world: World, outline: Outline, configuration: Mapping[str, str]):
        values = _Missing(configuration)
        super().__init__(
            Registry(), configuration=values, parameters=values, names=world.names, report=outline.notes.append
        )
        self.path = path
        self._world = world
        self._modules: list[dict[str, Any]] = []
        # What it declares for rows that have other answers.
        self.of_other_rows: list[Registry] = []
        self.passed_over: list[LakeflowError] = []

    def scope(self, path: Path) -> sql.Scope:
        scope = super().scope(path)
        scope.pass_over = self._pass_over
        return scope

    def _pass_over(self, error: LakeflowError) -> None:
        self.passed_over.append(error)
        self.report(f"{error.file.name}:{error.line}: an update refuses it: {error.message}")

    def module(self, path: Path) -> dict[str, Any]:
        self._modules.append(super().module(path))
        return self._modules[-1]

    def call_what_defines(self) -> Iterator[Registry]:
        """What the functions of a file that only helps declare, with stand-ins for their parameters."""
        tree, found = _tree(self.path), False
        for module in self._modules:
            for registry in self._call(module, _definers(tree)):
                found = True
                yield registry
            if not found:
                yield from self._call(module, _definers(tree, _helpers(module)))

    def _call(
        self, module: dict[str, Any], definers: Iterable[tuple[str | None, ast.FunctionDef]]
    ) -> Iterator[Registry]:
        for owner, function in definers:
            called = module.get(owner or function.name)
            holders: list[tuple[Any, ...]] = [()]
            if owner and isinstance(called, type):
                method = vars(called).get(function.name)
                if isinstance(method, classmethod):
                    holders = [(called,)]
                elif not isinstance(method, staticmethod):
                    holders = [(each,) for each in _instances(called, self._world)]
                called = getattr(method, "__func__", method)
            if not inspect.isfunction(called):
                continue
            place = f"{self.path.name}:{function.lineno}"
            name = f"{owner}.{function.name}" if owner else function.name
            registries: list[Registry] = []
            notes: list[str] = []
            # A function may need what it has defaults for, such as None, to declare anything.
            for whole, given in product((False, True), holders):
                told: list[str] = []
                try:
                    declared = _declared_by(called, self._world, given, whole, told.append)
                except Exception as error:
                    failure = error
                    continue
                if any(registry.datasets for registry in declared):
                    registries += declared
                    notes += told
                    break
                if not registries:
                    registries, notes = declared, told
            if registries:
                for note in dict.fromkeys(notes):
                    self.report(note)
                self.report(f"{place}: {name}() is not called here; its parameters stand for themselves")
                yield from registries
            else:
                self.report(f"{place}: {name}() is not called here, and not known without it: {describe(failure)}")

    def code(self, tree: ast.Module, file: str) -> CodeType:
        return lenient.code_of(tree, file)

    def missing(self, message: str, path: Path, line: int, module: dict[str, Any]) -> None:
        self._world.absent.setdefault(message.split(":")[0])
        self._world.open_names = True


@dataclass
class _Read:
    """What a flow reads; `streaming` is None where that could not be seen."""

    inputs: set[TableRead] = field(default_factory=set)
    streaming: bool | None = None


def outline(
    sources: tuple[Path, ...],
    *,
    root: Path,
    configuration: Mapping[str, str],
    names: Namespace,
    whole: bool = True,
) -> Outline:
    """Follows the sources of one pipeline.

    Args:
        root: the folder that places are told from, and in which modules are looked for.
        configuration: what is known of it; other keys stand for themselves, as `${key}`.
        names: where unqualified names belong.
        whole: these are all the sources; otherwise flows may write what others define.
    """
    found = Outline()
    world = World([root], configuration)
    loaders = []
    # Faults of files that only lie beside the sources of a pipeline.
    beside: list[Fault] = []
    for path in sources:
        errors = found.errors if len(sources) == 1 or _may_define(path) else beside
        loaders.append(_loaded(path, world, found, errors, configuration))
    registries = [loader.registry for loader in loaders]
    _Assembly(found, world, names, whole).add(registries)
    for group in _without_conflict([each for loader in loaders for each in loader.of_other_rows]):
        _Assembly(found, world, names, False).add(group)
    if found.datasets:
        found.notes += [
            f"{Path(fault.file).name}:{fault.line or 1}: {fault.message}; this file defines no dataset"
            for fault in beside
        ]
    else:
        found.errors += beside
    found.notes += [named(f"{name} is not here; what comes from it is not known") for name in sorted(world.absent)]
    hooks = [hook for registry in registries for hook in registry.hooks]
    told = "is told of the events of an update"
    found.notes += [f"{each.place.file.name}:{each.place.line}: {each.name}() {told}" for each in hooks]
    idle = [_decorates_nothing(name, place) for registry in registries for place, name in registry.idle.items()]
    if found.datasets:
        found.notes += [f"{Path(fault.file).name}:{fault.line}: {fault.message}" for fault in idle]
    in_part = not whole and any(registry.hooks or registry.flows for registry in registries)
    if not (found.datasets or found.errors or in_part):
        registries = []
        for loader in loaders:
            with _caught(found, loader.path, found.errors):
                registries += loader.call_what_defines()
        passed_over = [error for loader in loaders for error in loader.passed_over]
        if any(registry.datasets or (registry.flows and not whole) for registry in registries):
            for group in _without_conflict(registries):
                _Assembly(found, world, names, False).add(group)
        elif idle:
            found.errors += idle
        elif passed_over:
            first = passed_over[0]
            found.errors.append(Fault(str(first.file), first.line, first.message))
        else:
            found.errors.append(_without_dataset(sources, world.absent))
    forget_modules()
    return found


def _loaded(path: Path, world: World, found: Outline, errors: list[Fault], configuration: Mapping[str, str]) -> _Loader:
    """Follows a source; if it fails or declares nothing, again, and differently.

    Once its settings that are empty stand for themselves, and then one of its conditions, on what is not known, has
    the other answer, or several, as long as it gets elsewhere with that. The way that declares most is taken.
    """
    tried: list[tuple[int, bool, _Loader, list[str], list[Fault]]] = []
    ends: set[tuple[Any, ...]] = set()
    ways: list[tuple[bool, frozenset[Condition]]] = [(True, frozenset())]
    for given, otherwise in ways:
        world.begin_again(given, bool(tried))
        notes, faults = len(found.notes), len(errors)
        loader = _Loader(path, world, found, configuration)
        with _caught(found, path, errors, otherwise) as way:
            loader.load(path)
        end = tuple((fault.line, fault.message) for fault in errors[faults:])
        declared = 0 if end else len(loader.registry.datasets) + len(loader.registry.flows)
        if declared and not otherwise:
            _follow_other_rows(loader, way.asked, world, found, configuration)
            return loader
        if not tried and world.defaults.had_empty:
            ways.append((False, otherwise))
        if end not in ends:
            asked = [each for each in way.asked if each not in otherwise]
            # First what is asked at one place, in a loop say, together.
            places = {each[:2]: frozenset(other for other in asked if other[:2] == each[:2]) for each in asked}
            ways += [(given, otherwise | every) for every in places.values() if len(every) > 1]
            ways += [(given, otherwise | {each}) for each in asked]
        ends.add(end)
        del ways[_MOST_WAYS:]
        tried.append((declared, given, loader, found.notes[notes:], errors[faults:]))
        del found.notes[notes:], errors[faults:]
    _, world.defaults.given, loader, its_notes, its_faults = max(tried, key=lambda each: each[0])
    found.notes += its_notes
    errors += its_faults
    return loader


def _follow_other_rows(
    loader: _Loader, asked: Iterable[Condition], world: World, found: Outline, configuration: Mapping[str, str]
) -> None:
    """Follows a source again where what it declares depends on one of many rows, of which others have other answers.

    A way counts only as far as it declares datasets elsewhere in the source.
    """
    places = {each.place for each in loader.registry.datasets}
    ways = [frozenset({each}) for each in asked if EACH in each[2]]
    known = {each for way in ways for each in way}
    for otherwise in ways:
        world.begin_again(world.defaults.given, True)
        notes, errors = len(found.notes), list[Fault]()
        other = _Loader(loader.path, world, found, configuration)
        with _caught(found, loader.path, errors, otherwise) as way:
            other.load(loader.path)
        elsewhere = _elsewhere(other.registry, places)
        told = found.notes[notes:]
        del found.notes[notes:]
        if errors or not elsewhere.datasets:
            continue
        found.notes += [note for note in told if note not in found.notes]
        places |= {each.place for each in elsewhere.datasets}
        loader.of_other_rows.append(elsewhere)
        further = [each for each in way.asked if EACH in each[2] and each not in known]
        ways += [otherwise | {each} for each in further]
        known.update(further)
        del ways[_MOST_WAYS:]


def _declared_by(
    function: Callable, world: World, given: tuple, whole: bool, report: Callable[[str], None]
) -> list[Registry]:
    """What a call with stand-ins declares, and what it does elsewhere if a condition has the other answer.

    Args:
        report: told of each condition.

    Raises:
        Exception: whatever the call fails by, if it does on each way.
    """
    options = _stand_ins(function, world, len(given), whole)
    found: list[Registry] = []
    ways: list[frozenset[Condition]] = [frozenset()]
    doubts: dict[tuple[str, int], str] = {}
    failure: Exception | None = None
    for otherwise in ways:
        try:
            with one_way(otherwise=otherwise) as way:
                registry = _called(function, world, given, options)
        except Exception as error:
            failure = failure or error
        else:
            if found:
                registry = _elsewhere(registry, {each.place for other in found for each in other.datasets})
            if not found or registry.datasets:
                found.append(registry)
                doubts |= way.doubts
        if not otherwise:
            ways += [frozenset({each}) for each in way.asked][:_MOST_WAYS]
    if failure is not None and not found:
        raise failure
    for (file, line), text in doubts.items():
        report(described(f"{Path(file).name}:{line}: depends on {text}"))
    return found


def _called(function: Callable, world: World, given: tuple, options: dict[str, Any]) -> Registry:
    """What a call declares; stand-ins for `**options` are given as it asks for them."""
    open_ended = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(function).parameters.values())
    while True:
        try:
            with collecting(Registry()) as registry:
                made = function(*given, **options)
                if inspect.isfunction(made) and not (registry.datasets or registry.flows):
                    # It may make a decorator.
                    made(world.decorated(made))
            return registry
        except KeyError as error:
            if not open_ended or not isinstance(name := error.args[0], str) or name in options:
                raise
            options[name] = world.stand_in(name)


def _elsewhere(registry: Registry, places: Set[Place]) -> Registry:
    """The datasets, with their flows, that are declared in none of these places."""
    datasets, flows = registry.complete()
    only = Registry()
    only.datasets = [each for each in datasets if each.place not in places]
    targets = {each.name for each in only.datasets}
    only.flows = [flow for flow in flows if flow.target in targets]
    return only


def _without_conflict(registries: list[Registry]) -> list[list[Registry]]:
    """What different functions define under one name, only one of them does: they are apart."""
    groups: list[tuple[dict[str, Place], list[Registry]]] = []
    for registry in registries:
        places = {each.name: each.place for each in registry.datasets}
        fitting = (group for group in groups if all(group[0].get(name, at) == at for name, at in places.items()))
        if (group := next(fitting, None)) is None:
            groups.append(group := ({}, []))
        group[0].update(places)
        group[1].append(registry)
    return [group for _, group in groups]


def _definers(tree: ast.AST, helpers: Set[str] = frozenset()) -> Iterator[tuple[str | None, ast.FunctionDef]]:
    """The functions of a file, and the methods of its classes, that define or write datasets.

    Args:
        helpers: the names of functions that do.
    """
    defines = _definitions(tree, _DEFINES | _WRITES, helpers)
    for node in ast.iter_child_nodes(tree):
        for function in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(function, ast.FunctionDef) and any(map(defines, ast.walk(function))):
                yield (node.name if isinstance(node, ast.ClassDef) else None), function


def _helpers(module: dict[str, Any]) -> set[str]:
    """The names of the functions of a source that define or write datasets, where it imports them from another one."""
    functions = {name: value for name, value in module.items() if inspect.isfunction(value)}
    files = {Path(value.__code__.co_filename) for value in functions.values()}
    definers = {file: {each.name for _, each in _definers(_tree(file))} for file in files}
    return {name for name, value in functions.items() if value.__name__ in definers[Path(value.__code__.co_filename)]}


def _stand_ins(function: Callable, world: World, given: int = 0, whole: bool = False) -> dict[str, Any]:
    """Values for the parameters of a function, but for the first, that have none, or no rules; for all if `whole`."""
    return {
        name: world.stand_in(name)
        for name, parameter in list(inspect.signature(function).parameters.items())[given:]
        if (whole or parameter.default is parameter.empty or (not parameter.default and _RULES.search(name)))
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _instances(owner: type, world: World) -> Iterator[Any]:
    """One of a class with stand-ins for what it is made of, and what stands for it."""
    with contextlib.suppress(Exception), collecting(Registry()):
        made = owner(**_stand_ins(owner, world))
        if isinstance(made, Base):
            vars(made).setdefault("spark", world.spark)
        yield made
    yield world.stand_in("self")


def _without_dataset(sources: tuple[Path, ...], absent: Mapping[str, tuple[str, int] | None]) -> Fault:
    """Says where the datasets of these sources may be: in modules that are not here, or in what nobody calls."""
    is_not, it = ("is not", "it") if len(absent) == 1 else ("are not", "them")
    elsewhere = f"{', '.join(sorted(absent))}, which {is_not} here: install {it}, or put {it} beside the sources"
    for source in sources:
        defines = _definitions(tree := _tree(source))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            # It ran, and declared nothing: the decorator has the name of Databricks' only.
            parts = (part for each in function.decorator_list for part in ast.walk(each))
            own = [part for part in parts if isinstance(part, ast.expr) and defines(part)]
            if own and function in ast.iter_child_nodes(tree):
                message = f"defines no dataset; {ast.unparse(own[0])}, which decorates {function.name}(), "
                message += "is not of pyspark.pipelines or dlt; "
                message += f"it may be of {elsewhere}" if absent else "write from pyspark import pipelines as dp"
                return Fault(str(source), own[0].lineno, named(message))
            if any(map(defines, ast.walk(function))):
                message = f"defines no dataset; {function.name}() would, and is not called: call it in the source"
                return Fault(str(source), function.lineno, message)
    if absent:
        file, line = next(filter(None, absent.values()), (str(sources[0]), 1))
        return Fault(file, line, named(f"defines no dataset; it may be in {elsewhere}"))
    if sources[0].suffix == ".sql":
        how = "begin a statement with CREATE OR REFRESH STREAMING TABLE or MATERIALIZED VIEW"
    else:
        how = "put @dp.table or @dp.materialized_view above a function that returns a DataFrame"
    return Fault(str(sources[0]), 1, f"defines no dataset; {how}")


def _decorates_nothing(name: str, place: Place) -> Fault:
    told = f"{name}(…) decorates no function, so it declares nothing; write it as @{name}(…) above one"
    return Fault(str(place.file), place.line, told)


def _tree(source: Path) -> ast.AST:
    try:
        return ast.parse(source.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


def _definitions(
    tree: ast.AST, wanted: Set[str] = _DEFINES, helpers: Set[str] = frozenset()
) -> Callable[[ast.AST], bool]:
    """Tells whether a part of the source is `dlt.table` or the like, by the names that it imports them under."""
    modules, names = set(PIPELINE_MODULES), set(helpers)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {each.asname for each in node.names if each.asname and each.name in api.MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in ("pyspark", "databricks"):
            modules |= {
                each.asname for each in node.names if each.asname and f"{node.module}.{each.name}" in api.MODULES
            }
        elif isinstance(node, ast.ImportFrom) and node.module in api.MODULES:
            names |= {each.asname or each.name for each in node.names if each.name in wanted}

    def defines(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr in wanted and isinstance(node.value, ast.Name) and node.value.id in modules
        return isinstance(node, ast.Name) and node.id in names

    return defines


def _may_define(source: Path) -> bool:
    """Whether a file of a folder has to do with pipelines, rather than lying beside their sources."""
    try:
        text = source.read_text(encoding="utf-8-sig")
        cells = [text] if source.suffix == ".sql" else [cell.text for cell in notebooks.cells(text, source)]
    except (OSError, UnicodeDecodeError, LakeflowError):
        return True
    # A view looks the same in a pipeline and elsewhere.
    views = source.suffix == ".sql" and "VIEW" in text.upper()
    return views or any(notebooks.defines(cell) or sql.defines(cell) for cell in cells)


@contextlib.contextmanager
def _caught(
    found: Outline, path: Path, faults: list[Fault], otherwise: frozenset[Condition] = frozenset()
) -> Iterator[Any]:
    """Turns whatever a source does wrong into one of the faults, with its place."""
    try:
        with _apart(path.parent), one_way(otherwise=otherwise) as way:
            yield way
            found.notes += [
                described(f"{Path(file).name}:{line}: depends on {text}") for (file, line), text in way.doubts.items()
            ]
    except LakeflowError as error:
        faults.append(Fault(str(error.file or path), error.line, described(error.message)))
    except (Exception, SystemExit, _TooLong) as error:
        faults.append(Fault(str(path), line_in(error, path), described(_told(error))))


class _TooLong(BaseException):
    """A source goes on for too long."""


@contextlib.contextmanager
def _apart(folder: Path) -> Iterator[None]:
    """Follows a source in its own folder, for a limited time, and without what it would write to the terminal."""
    silence = io.StringIO()
    with (
        _limited(),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        lenient.no_deeds(),
    ):
        yield


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Ends what goes on for too long, where the process has a timer for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise _TooLong(f"takes longer than {_SECONDS} s to follow; it may wait for something")

    handler = signal.signal(signal.SIGALRM, stop)
    # Again and again, since a source may catch it.
    left, _ = signal.setitimer(signal.ITIMER_REAL, _SECONDS, _SECONDS / 100)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, handler)


class _Assembly:
    """Puts what the sources declare together."""

    def __init__(self, found: Outline, world: World, names: Namespace, whole: bool):
        self._found = found
        self._world = world
        self._names = names
        # Where unqualified names belong by what the flows write, if the sources tell it.
        self._meant = names
        self._whole = whole
        # A source that is refused may define what is missing.
        self._incomplete = bool(found.errors)
        self._datasets: dict[str, Dataset] = {}
        self._flows: dict[str, list[Flow]] = {}
        self._refused: set[str] = set()
        self._again: set[tuple[str, Place]] = set()

    def add(self, registries: list[Registry]) -> None:
        flows: list[Flow] = []
        # A file of the folder that another one imports is a module, whose declarations count once.
        seen: set[tuple[str, Place]] = set()
        for registry in registries:
            datasets, its_flows = registry.complete()
            for dataset in datasets:
                if (dataset.name, dataset.place) not in seen:
                    self._define(dataset)
            flows += [flow for flow in its_flows if (flow.name, flow.place) not in seen]
            seen |= {(dataset.name, dataset.place) for dataset in datasets}
            seen |= {(flow.name, flow.place) for flow in its_flows}
        for flow in flows:
            self._attach(flow)
        for full, dataset in self._datasets.items():
            if not self._flows[full] and dataset.kind is not Kind.SINK and self._whole:
                self._fail(faults.not_written(dataset), dataset.place)
        self._outline()

    def _fail(self, message: str, place: Place) -> None:
        self._found.errors.append(Fault(str(place.file), place.line, described(message)))

    def _define(self, dataset: Dataset) -> None:
        if has_pieces(dataset.name):
            self._refused.add(dataset.name)
            self._fail(
                "the name of a dataset comes from a piece of a value, which only a running pipeline knows",
                dataset.place,
            )
            return
        # A name that is not known may stand for several.
        if (fault := faults.expected_twice(dataset)) and not unknown_parts(fault.partition(" is declared")[0]):
            self._fail(fault, dataset.place)
        self._note_unknown_name(dataset)
        self._note_refused(dataset)
        full = self._full(dataset.name, dataset.kind)
        if (other := self._datasets.get(full)) is not None:
            fault = faults.already_defined(dataset, other.place)
            if dataset.place == other.place and (EACH in named(full) or dataset == other):
                if EACH not in named(full):
                    self._found.notes.append(named(f"{dataset.place.file.name}:{dataset.place.line}: {fault}"))
            else:
                self._again.add((full, dataset.place))
                self._fail(fault, dataset.place)
            return
        self._datasets[full] = dataset
        self._flows[full] = []

    def _attach(self, flow: Flow) -> None:
        self._note_refused(flow)
        full = (
            self._find(flow.target)
            or self._find_alike(flow.target)
            or self._find_qualified(flow.target)
            or self._find_unqualified(flow)
        )
        if full is not None:
            if (full, flow.place) in self._again:
                return
            if (flow.name, flow.place) not in ((each.name, each.place) for each in self._flows[full]):
                self._flows[full].append(flow)
            if wrong := faults.written_by_its_query(self._datasets[full], flow):
                self._fail(wrong, flow.place)
        elif flow.target in self._refused:
            return
        elif _not_settings(flow.target):
            self._found.notes.append(named(f"flow {flow.name} writes {flow.target}, which is not known"))
        elif not self._whole:
            place = f"{flow.place.file.name}:{flow.place.line}"
            self._found.notes.append(
                named(f"{place}: flow {flow.name} writes {flow.target}, which is not defined here")
            )
        elif not self._incomplete:
            self._fail(faults.no_target(flow), flow.place)

    def _note_refused(self, declared: Dataset | Flow) -> None:
        if declared.refused:
            place = declared.place
            note = f"{place.file.name}:{place.line}: an update refuses it: {faults.refused(declared)}"
            self._found.notes.append(described(note))

    def _note_unknown_name(self, dataset: Dataset) -> None:
        """Says where a name that stands for itself comes from, other than settings and modules that are not here."""
        for part in _not_settings(dataset.name):
            if EACH in part or not self._world.is_absent(part):
                place = f"{dataset.place.file.name}:{dataset.place.line}"
                many = "; it stands for as many datasets as there are" if EACH in part else ""
                told = f"{place}: the name of a dataset comes from {part}, which only a running pipeline knows{many}"
                self._found.notes.append(described(told))

    def _full(self, name: str, kind: Kind | None = None, flow: Flow | None = None) -> str:
        if kind in (Kind.TEMPORARY_VIEW, Kind.SINK):
            return name.lower().strip("`")
        names = self._names
        if flow is not None:
            names = Namespace(flow.catalog or names.catalog, flow.schema or names.schema)
        try:
            return names.full(name)
        except LakeflowError:
            return name.lower()

    def _find(self, name: str, flow: Flow | None = None) -> str | None:
        """The dataset of that name, as `flow` would find it."""
        name = without_live(name)
        for full in (name.lower().strip("`"), self._full(name, flow=flow), self._full_as_meant(name)):
            if full in self._datasets:
                return full
        return None

    def _full_as_meant(self, name: str) -> str:
        parts = sql.normalise(name)
        return self._meant.full(name) if len(parts) == 1 else ""

    def _find_qualified(self, name: str) -> str | None:
        """The only dataset of that name in any schema: what a flow writes is there, so its schema is the pipeline's."""
        parts = sql.normalise(without_live(name))
        found = [full for full in self._datasets if full.count(".") == 2 and full.endswith(f".{parts[-1]}")]
        if len(parts) > 1 or len(found) != 1:
            return None
        catalog, schema, _ = found[0].split(".")
        self._meant = Namespace(catalog, schema)
        return found[0]

    def _find_unqualified(self, flow: Flow) -> str | None:
        """The dataset whose name a flow writes with the pipeline's schema, if nothing here tells that schema."""
        *owner, last = sql.normalise(flow.target)
        full = self._names.full(last)
        if not owner or full not in self._datasets or self._datasets[full].name.lower() != last:
            return None
        place = f"{flow.place.file.name}:{flow.place.line}"
        self._found.notes.append(
            named(f"{place}: {flow.target} is taken for {last}; then {'.'.join(owner)} is its schema")
        )
        return full

    def _find_alike(self, name: str) -> str | None:
        """The only dataset that a name may mean, where parts of either come from settings that were not given."""
        wanted = self._full(without_live(name)).split(".")
        alike = [
            full
            for full in self._datasets
            if (parts := full.split("."))[-1] == wanted[-1]
            and len(parts) == len(wanted)
            and all(a == b or unknown_parts(a + b) for a, b in zip(parts, wanted, strict=True))
        ]
        return alike[0] if len(alike) == 1 else None

    def _find_input(self, name: str, flow: Flow, reader: str) -> str | None:
        """The dataset that a flow of `reader` reads by that name."""
        if (found := self._find(name, flow)) is not None or "." in without_live(name):
            return found
        alike = self._find_alike(name)
        return None if alike == reader else alike

    def _outline(self) -> None:
        edges: dict[str, set[str]] = {}
        streaming: dict[str, bool] = {}
        reads: list[tuple[Flow, str, bool | None]] = []
        for full, dataset in self._datasets.items():
            outlines, streams = [], []
            for flow in self._flows[full]:
                read = self._read(flow)
                streams.append(read.streaming)
                inputs = set()
                for name, as_stream in read.inputs:
                    inputs.add(found := self._find_input(name, flow, full) or name)
                    reads.append((flow, found, as_stream))
                edges.setdefault(full, set()).update(inputs & self._datasets.keys())
                outlines.append(
                    FlowOutline(
                        named(flow.name),
                        _flow_kind(flow, dataset),
                        self._shown(inputs),
                        flow.once,
                        str(flow.place.file),
                        flow.place.line,
                    )
                )
            if dataset.kind is Kind.TEMPORARY_VIEW and None not in streams:
                streaming[full] = any(streams)
            kind = dataset.kind or (Kind.STREAMING_TABLE if any(streams) else Kind.MATERIALIZED_VIEW)
            self._found.datasets.append(
                DatasetOutline(
                    named(dataset.name),
                    kind.value,
                    tuple(sorted({name for flow in outlines for name in flow.inputs})),
                    tuple(
                        Rule(described(e.name), described(e.predicate), e.action.value) for e in dataset.expectations
                    ),
                    str(dataset.place.file),
                    dataset.place.line,
                    tuple(outlines),
                )
            )
        self._find_circle(edges)
        self._note_view_reads(reads, streaming)

    def _note_view_reads(self, reads: list[tuple[Flow, str, bool | None]], streaming: Mapping[str, bool]) -> None:
        for flow, full, as_stream in sorted(reads, key=lambda read: (str(read[0].place.file), read[0].place.line)):
            if as_stream is not None and streaming.get(full, as_stream) != as_stream:
                place = f"{flow.place.file.name}:{flow.place.line}"
                fault = faults.view_read(self._datasets[full].name, streaming[full])
                self._found.notes.append(named(f"{place}: an update refuses that {fault}"))

    def _shown(self, inputs: set[str]) -> tuple[str, ...]:
        return tuple(sorted(named(self._datasets[i].name if i in self._datasets else i) for i in inputs))

    def _find_circle(self, edges: Mapping[str, set[str]]) -> None:
        try:
            TopologicalSorter({full: sorted(edges.get(full, ())) for full in self._datasets}).prepare()
        except CycleError as error:
            circle = error.args[1][:0:-1]
            first = min(circle, key=list(self._datasets).index)
            start = circle.index(first)
            names = [self._datasets[full].name for full in (*circle[start:], *circle[:start], first)]
            self._fail(faults.circle(names), self._datasets[first].place)

    def _read(self, flow: Flow) -> _Read:
        if flow.cdc is not None and flow.cdc.source is not None:
            return _Read({TableRead(flow.cdc.source, None if flow.once else True)}, True)
        if flow.snapshot is not None and flow.snapshot.source is not None:
            return _Read({TableRead(flow.snapshot.source, None)}, True)
        if flow.snapshot is not None and flow.snapshot.function is not None:
            # At first there is no version, later there is one.
            return self._followed(flow.snapshot.function, flow, (None,), (Symbol("latest_version"),))
        if flow.snapshot is not None:
            queries = filter(None, (flow.snapshot.query, flow.snapshot.version_query))
            return _Read(set().union(*(self._of_query(query, flow).inputs for query in queries)), True)
        text = flow.query or (flow.cdc and flow.cdc.source_query)
        if text:
            return self._of_query(text, flow)
        return self._followed(flow.function, flow) if flow.function is not None else _Read()

    def _of_query(self, text: str, flow: Flow) -> _Read:
        line = flow.query_line or flow.place.line
        try:
            if gap := _GAP.search(text):
                raise LakeflowError(
                    f"a table's name is missing: {gap[0]}", line=line + text.count("\n", 0, gap.start())
                )
            read = tables_in(text, parameters=_Missing(), line=line)
        except LakeflowError as error:
            self._fail(error.message, Place(flow.place.file, error.line or line))
            return _Read()
        streaming = streams(text) or any(i.streaming for i in read)
        return _Read({TableRead(without_live(i.name), i.streaming) for i in read}, streaming)

    def _followed(self, function: Callable, flow: Flow, *calls: tuple) -> _Read:
        """What a function reads, whatever its conditions on what is not known turn out to be.

        Args:
            calls: the arguments of each call that is tried; one without arguments where none are given.
        """
        read = _Read(streaming=False)
        followed, elsewhere = False, ""
        failure: BaseException | None = None
        has_fallback = False
        for (answer, fallback), args in product(((True, False), (False, False), (True, True)), calls or ((),)):
            if fallback and not has_fallback:
                break
            try:
                way_of_flow = one_way(answer, fallback=fallback, in_flow=True)
                with _apart(flow.place.file.parent), way_of_flow as way, collecting(Registry()):
                    result = function(*args)
                has_fallback = has_fallback or way.has_fallback
            except (Exception, SystemExit) as error:
                failure = failure or error
                continue
            except _TooLong as error:
                failure = error
                break
            followed = True
            results = list(symbols_in(result))
            for symbol in results:
                read.inputs |= symbol._inputs
                read.streaming = read.streaming or symbol._streaming
            elsewhere = next((repr(s) for s in results if self._world.is_absent(repr(s))), elsewhere)
        if followed:
            if isinstance(function, Symbol):
                place = f"{flow.place.file.name}:{flow.place.line}"
                told = f"{place}: {flow.name} has a decorator that is not here"
                self._found.notes.append(named(f"{told}; what it adds, such as expectations, is not known"))
            if elsewhere and not read.inputs:
                place = f"{flow.place.file.name}:{flow.place.line}"
                told = f"{place}: what {flow.name} reads, and whether as a stream, is in {elsewhere}, which is not here"
                self._found.notes.append(named(told))
                read.streaming = read.streaming or gives_a_stream(getattr(function, "__name__", ""))
            return read
        # A function may need what a symbol cannot give; then its text tells what it reads.
        place = f"{flow.place.file.name}:{line_in(failure, flow.place.file) or flow.place.line}"
        self._found.notes.append(described(f"{place}: {flow.name} is followed by its text alone: {_told(failure)}"))
        return _by_text(function)


def _not_settings(name: str) -> list[str]:
    """What a name is made of that is neither known nor a setting alone."""
    return [part for part in unknown_parts(name) if not part.startswith("${") or EACH in part]


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, _TooLong) else describe(error)


def _flow_kind(flow: Flow, dataset: Dataset) -> str:
    if flow.cdc is not None:
        return "auto_cdc"
    if flow.snapshot is not None:
        return "auto_cdc_from_snapshot"
    declares = flow.name == dataset.name and dataset.kind not in (Kind.STREAMING_TABLE, Kind.SINK)
    return "query" if declares else "append"


def _by_text(function: Callable) -> _Read:
    """What a function reads, by the calls that are written in it."""
    code = getattr(function, "__code__", None)
    if code is None or not os.path.isfile(code.co_filename):
        return _Read()
    try:
        tree = ast.parse(Path(code.co_filename).read_text(encoding="utf-8-sig"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return _Read()
    read = _Read(streaming=False)
    known = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        if first == code.co_firstlineno:
            _read_by_text(node, read, known)
    return read


def _name_of(node: ast.AST) -> str | None:
    """The name that a name or an attribute ends with."""
    return getattr(node, "attr", getattr(node, "id", None))


def _read_by_text(function: ast.AST, read: _Read, known: dict[str, Any]) -> None:
    for node in ast.walk(function):
        if _name_of(node) in _STREAM_READS:
            read.streaming = True
        if isinstance(node, ast.Call) and _name_of(node.func) in _TABLE_READS:
            for argument in node.args[:1]:
                with contextlib.suppress(Exception):
                    name = eval(lenient.code_of_expression(argument), known)
                    if isinstance(name, (str, Symbol)):
                        read.inputs.add(TableRead(without_live(str(name)), None))
