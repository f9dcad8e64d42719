"""Loads a pipeline's sources into a registry: Python files are executed, SQL files are parsed."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.registry import Registry, collecting


class Imports:
    """Lets sources import the modules beside them, and afterwards forgets those modules.

    Two pipelines may each have a module of the same name; neither may see the other's.
    """

    def __init__(self, root: Path | None):
        self._folder = str(root.resolve()) if root else None
        self._by_value: dict[str, Any] = {}

    def __enter__(self) -> Imports:
        if self._folder:
            sys.path.insert(0, self._folder)
            importlib.invalidate_caches()
        return self

    def send_by_value(self) -> None:
        """Makes functions of these modules travel to Spark's workers whole, since workers do not know the folder."""
        from pyspark import cloudpickle

        for name, module in self._modules().items():
            if name not in self._by_value:
                cloudpickle.register_pickle_by_value(module)
                self._by_value[name] = module

    def __exit__(self, *_: Any) -> None:
        from pyspark import cloudpickle

        if not self._folder:
            return
        sys.path.remove(self._folder)
        for module in self._by_value.values():
            cloudpickle.unregister_pickle_by_value(module)
        for name in self._modules():
            del sys.modules[name]

    def _modules(self) -> dict[str, Any]:
        if not self._folder:
            return {}
        return {
            name: module
            for name, module in sys.modules.items()
            if (getattr(module, "__file__", None) or "").startswith(self._folder + "/")
        }


def load(
    paths: tuple[Path, ...],
    registry: Registry,
    *,
    configuration: Mapping[str, str],
    parameters: Mapping[str, str],
    names: Mapping[str, Any],
    report: Callable[[str], None],
) -> None:
    """Loads every file.

    Args:
        configuration: for `${key}` in SQL.
        parameters: for `IDENTIFIER(:name)` in SQL.
        names: what Python files find as globals, such as `spark`.
        report: told of each clause that is accepted and has no effect here.

    Raises:
        LakeflowError: with the file and the line, for whatever a file does wrong.
    """
    with collecting(registry):
        for path in paths:
            if path.suffix == ".py":
                _load_python(path, names)
            elif path.suffix == ".sql":
                _load_sql(path, registry, configuration, parameters, report)
            else:
                raise UnsupportedError("pipeline sources are .py and .sql files; this is neither", file=path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LakeflowError(f"is not UTF-8 text (byte {error.start})", file=path) from error
    except OSError as error:
        raise LakeflowError(f"cannot be read: {error.strerror}", file=path) from error


def _load_python(path: Path, names: Mapping[str, Any]) -> None:
    try:
        code = compile(_text(path), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise LakeflowError(f"syntax error: {error.msg}", file=path, line=error.lineno) from error
    # The module is not entered in sys.modules, so that cloudpickle sends its functions to workers by value.
    module = {"__name__": path.stem, "__file__": str(path), "__builtins__": __builtins__, **names}
    try:
        exec(code, module)
    except LakeflowError:
        raise
    except Exception as error:
        raise LakeflowError(describe(error), file=path, line=line_in(error, path)) from error


def describe(error: BaseException) -> str:
    """An exception as one line: Spark's by its class and first sentence, others by type and text."""
    text = error.getMessage() if hasattr(error, "getMessage") else str(error)
    text = (text or "").strip().split("\n")[0]
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


def _load_sql(
    path: Path,
    registry: Registry,
    configuration: Mapping[str, str],
    parameters: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    for statement in sql.parse(_text(path), file=path, configuration=configuration, parameters=parameters):
        if isinstance(statement, sql.CreateDataset):
            registry.add(statement.dataset, statement.flows)
            for clause in statement.without_effect:
                report(f"{statement.dataset.name}: {clause} has no effect here")
        elif isinstance(statement, sql.CreateFlow):
            registry.add_flow(statement.flow)
