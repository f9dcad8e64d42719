"""Loads a pipeline's sources into a registry: Python files are executed, SQL files are parsed."""

from __future__ import annotations

import ast
import importlib
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import notebooks, sql
from lakeflow_local.pipelines.registry import Registry, collecting

# Sources are modules with names of their own: a file named like a library does not hide it.
PREFIX = "_lakeflow_source_"
_number = itertools.count()


def new_module(path: Path) -> ModuleType:
    """An empty module for a source, known to Python (dataclasses ask for that) until `forget_modules`."""
    module = ModuleType(f"{PREFIX}{next(_number)}_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    return module


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        del sys.modules[name]


def _file_of(module: Any) -> str:
    return getattr(module, "__file__", None) or ""


class NotebookExit(Exception):
    """`dbutils.notebook.exit()` was called: what stands below it in that source is not run."""


class Imports:
    """Lets sources import the modules beside them, and afterwards forgets those modules.

    Two pipelines may each have a module of the same name; neither may see the other's.
    """

    def __init__(self, root: Path | None):
        self._folder = str(root.resolve()) if root else None
        self._by_value: dict[str, Any] = {}
        self._hidden: dict[str, Any] = {}

    def __enter__(self) -> Imports:
        if self._folder:
            sys.path.insert(0, self._folder)
            importlib.invalidate_caches()
        return self

    def put(self, modules: Iterable[ModuleType]) -> None:
        """Lets these modules be imported; what they hide is back afterwards."""
        for module in modules:
            self._hidden[module.__name__] = sys.modules.get(module.__name__)
            sys.modules[module.__name__] = module

    def send_by_value(self) -> None:
        """Makes functions of these modules travel to Spark's workers whole, since workers do not know the folder."""
        from pyspark import cloudpickle

        for name, module in self._modules().items():
            if name not in self._by_value:
                cloudpickle.register_pickle_by_value(module)
                self._by_value[name] = module

    def __exit__(self, *_: Any) -> None:
        from pyspark import cloudpickle

        if self._folder:
            sys.path.remove(self._folder)
        for module in self._by_value.values():
            cloudpickle.unregister_pickle_by_value(module)
        for name in self._modules():
            del sys.modules[name]
        for name, module in self._hidden.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module

    def _modules(self) -> dict[str, Any]:
        return {
            name: module
            for name, module in sys.modules.items()
            if name.startswith(PREFIX) or (self._folder and _file_of(module).startswith(self._folder + "/"))
        }


class Loader:
    """Loads the sources of one pipeline, each into the registry that is active.

    Args:
        configuration: for `${key}` in SQL.
        parameters: for `IDENTIFIER(:name)` in SQL.
        names: what Python files find as globals, such as `spark`.
        report: told of each clause and cell that is accepted and has no effect here.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        configuration: Mapping[str, str],
        parameters: Mapping[str, str],
        names: Mapping[str, Any],
        report: Callable[[str], None],
    ):
        self.registry = registry
        self.names = names
        self.report = report
        self._configuration = configuration
        self._parameters = parameters

    def load(self, path: Path) -> None:
        """Loads one file.

        Raises:
            LakeflowError: with the file and the line, for whatever the file does wrong.
        """
        with collecting(self.registry), suppress(NotebookExit):
            if path.suffix == ".sql":
                self._load_sql_file(path, ())
            elif path.suffix in notebooks.SUFFIXES:
                self._load_python(path, self.module(path))
            else:
                raise UnsupportedError("pipeline sources are .py, .sql and .ipynb files; this is none", file=path)

    def module(self, path: Path) -> dict[str, Any]:
        """The globals of a Python file, before it runs."""
        module = new_module(path)
        module.__dict__.update(self.names)
        return module.__dict__

    def _load_python(self, path: Path, module: dict[str, Any], within: tuple[Path, ...] = ()) -> None:
        text = _text(path)
        main = notebooks.is_notebook(text, path) or notebooks.defines(text)
        scope = self.scope(path)
        for cell in notebooks.cells(text, path):
            if cell.language == notebooks.PYTHON:
                self.execute(compiled(cell, path, self.code, main), path, module)
            elif cell.language == notebooks.SQL:
                self._load_cell(cell, path, scope)
            elif cell.language == notebooks.RUN:
                self._run(cell, path, module, (*within, path))
            else:
                self.report(f"{path.name}:{cell.line}: a %{cell.language} cell has no effect in a pipeline")

    def scope(self, path: Path) -> sql.Scope:
        """What the SQL statements of a file begin with."""
        return sql.Scope(path, self._configuration, self._parameters)

    def code(self, tree: ast.Module, file: str) -> CodeType:
        """The code of a parsed source."""
        return compile(tree, file, "exec", dont_inherit=True)

    def execute(self, code: CodeType, path: Path, module: dict[str, Any]) -> None:
        try:
            exec(code, module)
        except (LakeflowError, NotebookExit):
            raise
        except Exception as error:
            raise LakeflowError(describe(error), file=path, line=line_in(error, path)) from error

    def _run(self, cell: notebooks.Cell, path: Path, module: dict[str, Any], within: tuple[Path, ...]) -> None:
        found = _notebooks_at(path.parent / cell.text)
        if not found:
            self.missing(f"%run {cell.text}: there is no such notebook beside this one", path, cell.line, module)
        elif (file := found[0].resolve()) in within:
            raise LakeflowError(
                f"%run {cell.text}: notebooks run each other in a circle; remove one of the %run",
                file=path,
                line=cell.line,
            )
        elif file.suffix == ".sql":
            self._load_sql_file(file, within)
        else:
            self._load_python(file, module, within)

    def missing(self, message: str, path: Path, line: int, module: dict[str, Any]) -> None:
        """Told of a notebook that `%run` does not find."""
        raise LakeflowError(message, file=path, line=line)

    def _load_sql_file(self, path: Path, within: tuple[Path, ...]) -> None:
        """Loads SQL, and of a notebook's other cells those that define datasets."""
        text = _text(path)
        self._load_sql(text, path, 1)
        others = notebooks.of_other_languages(text)
        defining = any(cell.language == notebooks.PYTHON and notebooks.defines(cell.text) for cell in others)
        module = self.module(path) if others else {}
        for cell in others:
            if cell.language == notebooks.RUN and self._may_define(cell, path):
                self._run(cell, path, module, (*within, path))
            elif cell.language == notebooks.PYTHON and defining:
                self.execute(compiled(cell, path, self.code, True), path, module)
            else:
                self.report(f"{path.name}:{cell.line}: a %{cell.language} cell has no effect in a pipeline's SQL")

    def _may_define(self, cell: notebooks.Cell, path: Path) -> bool:
        texts = [_text(file) for file in _notebooks_at(path.parent / cell.text)]
        return not texts or notebooks.defines(texts[0]) or sql.defines(texts[0])

    def _load_cell(self, cell: notebooks.Cell, path: Path, scope: sql.Scope) -> None:
        if cell.own or sql.defines(cell.text) or sql.sets_scope(cell.text):
            self._load_sql(cell.text, path, cell.line, scope)
        else:
            self.report(f"{path.name}:{cell.line}: a %sql cell that defines no dataset has no effect in a pipeline")

    def _load_sql(self, text: str, path: Path, line: int, scope: sql.Scope | None = None) -> None:
        scope = scope or self.scope(path)
        in_python = self._defined_in_python(path)
        statements = sql.parse(text, file=path, configuration=self._configuration, line=line, scope=scope)
        for statement in statements:
            if isinstance(statement, sql.CreateDataset) and statement.dataset.name.lower() in in_python:
                place = f"{path.name}:{statement.dataset.place.line}"
                # As with Databricks, which passes such cells over.
                self.report(f"{place}: {statement.dataset.name} is the one that this notebook defines in Python")
            elif isinstance(statement, sql.CreateDataset):
                self.registry.add(statement.dataset, statement.flows)
                for clause in statement.without_effect:
                    self.report(f"{statement.dataset.name}: {clause} has no effect here")
            elif isinstance(statement, sql.CreateFlow):
                self.registry.add_flow(statement.flow)

    def _defined_in_python(self, path: Path) -> set[str]:
        in_sql = {flow.place for flow in self.registry.flows if flow.query is not None}
        own = (each for each in self.registry.datasets if each.place.file == path and path.suffix != ".sql")
        return {dataset.name.lower() for dataset in own if dataset.place not in in_sql}


class _Main(ast.NodeTransformer):
    """Makes `__name__ == "__main__"` hold, as in a pipeline's sources: they have other names only here."""

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        sides = [getattr(side, "id", getattr(side, "value", None)) for side in (node.left, *node.comparators)]
        is_main = isinstance(node.ops[0], ast.Eq) and sorted(map(str, sides)) == ["__main__", "__name__"]
        return ast.copy_location(ast.Constant(True), node) if is_main else self.generic_visit(node)


def compiled(cell: notebooks.Cell, path: Path, code: Callable[[ast.Module, str], CodeType], main: bool) -> CodeType:
    """The code of a Python cell, its lines numbered as in the file; `main` where it is of a pipeline's own source."""
    try:
        tree = ast.parse(cell.text, str(path))
        for node in ast.walk(tree):
            if main and isinstance(node, ast.If):
                node.test = _Main().visit(node.test)
        return code(ast.increment_lineno(tree, cell.line - 1), str(path))
    except SyntaxError as error:
        line = (error.lineno or 1) + cell.line - 1
        raise LakeflowError(f"syntax error: {error.msg}", file=path, line=line) from error
    except ValueError as error:
        raise LakeflowError(f"is not Python: {error}", file=path) from error


def _notebooks_at(path: Path) -> list[Path]:
    """The files that a notebook's path, which is written without a suffix, may mean."""
    return [file for suffix in ("", *notebooks.SUFFIXES) if (file := Path(f"{path}{suffix}")).is_file()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LakeflowError(
            f"is not UTF-8 text (byte {error.start}); save it as UTF-8", file=path, line=line
        ) from error
    except OSError as error:
        raise LakeflowError(f"cannot be read: {error.strerror}", file=path) from error


def describe(error: BaseException) -> str:
    """An exception as one line: Spark's by its class and first sentence, others by type and text."""
    text = error.getMessage() if hasattr(error, "getMessage") else str(error)
    text = (text or "").strip().split("\n")[0].removesuffix(" (unknown location)")
    if hasattr(error, "getCondition"):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def causes(error: BaseException) -> list[str]:
    """The messages of an exception and of what caused it in the JVM, the outermost first."""
    messages = [str(error)]
    cause = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    while cause is not None:
        messages.append(cause.getMessage() or "")
        cause = cause.getCause()
    return messages


def line_in(error: BaseException, path: Path) -> int | None:
    """The innermost line of `path` that an exception passed through."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return lines[-1] if lines else None
