"""Calls and look-ups that need a value which is not known give one that is not known, instead of an error.

`json.loads(spark.conf.get("tables"))` cannot be followed; what it gives can: it is a symbol, as all that comes from
it. To this end each call and each subscript of a source goes through the functions here.
"""

from __future__ import annotations

import ast
import glob
import inspect
import os
import re
import sys
import weakref
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from configparser import RawConfigParser
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from types import CodeType, GeneratorType
from typing import Any, NamedTuple

from pyspark.errors import AnalysisException

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api
from lakeflow_local.pipelines.outline.symbols import (
    EACH,
    AnyKey,
    Base,
    Symbol,
    Texts,
    Unknown,
    decided,
    described,
    doubt,
    is_unknown,
    known_parts,
    on_known_parts,
    otherwise,
    placeholder,
    shown,
    symbols_in,
)
from lakeflow_local.pipelines.sources import PREFIX, NotebookExit

_CALL, _ITEM, _KEYWORDS = "__lakeflow_call__", "__lakeflow_item__", "__lakeflow_keywords__"
_CAUGHT, _INHERITED, _PREPARED = "__lakeflow_caught__", "__lakeflow_inherited__", "__lakeflow_prepared__"
_WITHIN, _UNLESS, _FAILS = "__lakeflow_within__", "__lakeflow_unless__", "__lakeflow_fails__"
_SLICE, _ENTRIES, _SPREAD = "__lakeflow_slice__", "__lakeflow_entries__", "__lakeflow_spread__"


class NotThere(AnalysisException):
    """A table or a setting that a source has an answer for, should it be missing."""


class _Spread(NamedTuple):
    """What `*value` gives where the value is not known."""

    value: Symbol


_MEANT = (LakeflowError, NotebookExit, StopIteration, NotThere)
# A long chain of calls is a deep tree.
_DEEPEST = 6000
# These look at the frame that calls them.
_NEED_THEIR_FRAME = frozenset({"super", "locals", "globals", "vars", "dir", "eval", "exec"})
_CHECKED = frozenset({"stored_as_scd_type", "column_list", "except_column_list"})
_TIES = frozenset({"target", "source", "keys", "constraint"})
_DATASETS = (api.table, api.materialized_view, api.temporary_view, api.view)
_PRESENT = frozenset({os.path.exists, os.path.isdir, os.path.isfile, Path.exists, Path.is_dir, Path.is_file})
_OF_FILES = frozenset({"io", "_io", "genericpath", "posix", "nt"})
_SEARCHES = frozenset({glob.glob, glob.iglob, os.walk, Path.glob, Path.rglob, getattr(Path, "walk", os.walk)})
_OPPOSITES = {ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_NUMBERS = (int, float, range)
_OF_ALL = (dict, max, min, sum, sorted)
# What methods of a text give where it is not known; those that change it leave its placeholder whole.
_OF_TEXTS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("split", "rsplit", "splitlines"), Texts),
    **dict.fromkeys(("partition", "rpartition"), lambda text: tuple(Unknown(f"{text}[{i}]") for i in range(3))),
    **dict.fromkeys(("lower", "upper", "casefold", "title", "capitalize", "swapcase", "replace"), Unknown),
    **dict.fromkeys(("strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "translate"), Unknown),
}
# The same for regular expressions.
_OF_PATTERNS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("match", "fullmatch", "search"), lambda text: Symbol(f"match({shown(placeholder(text))})")),
    **dict.fromkeys(("split", "findall", "finditer"), Texts),
    "sub": Unknown,
}
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "Exception"})
_READS = frozenset({"table", "read", "readStream", "read_stream", "sql"})
_FILE_ERRORS = frozenset({"FileNotFoundError", "OSError", "IOError"})


def code_of(tree: ast.Module, file: str) -> CodeType:
    """The code of a source whose calls and look-ups go through this module, by `names`."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        return compile(ast.fix_missing_locations(_Rewriter().visit(tree)), file, "exec", dont_inherit=True)
    finally:
        sys.setrecursionlimit(limit)


def code_of_expression(tree: ast.expr) -> CodeType:
    """The same for an expression of such a source."""
    return compile(ast.fix_missing_locations(_Rewriter().visit(ast.Expression(tree))), "<expression>", "eval")


class _Rewriter(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in _NEED_THEIR_FRAME:
            return node
        for keyword in node.keywords:
            if keyword.arg is None:
                keyword.value = ast.Call(ast.Name(_KEYWORDS, ast.Load()), [keyword.value], [])
        for part in node.args:
            if isinstance(part, ast.Starred):
                part.value = ast.Call(ast.Name(_SPREAD, ast.Load()), [part.value], [])
        call = ast.Call(ast.Name(_CALL, ast.Load()), [node.func, *node.args], node.keywords)
        return ast.copy_location(call, node)

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        self.generic_visit(node)
        for at, key in enumerate(node.keys):
            if key is None:
                node.values[at] = ast.Call(ast.Name(_ENTRIES, ast.Load()), [node.values[at]], [])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            return node
        call = ast.Call(ast.Name(_ITEM, ast.Load()), [node.value, _as_value(node.slice)], [])
        return ast.copy_location(call, node)

    def visit_If(self, node: ast.If) -> ast.If:
        if not node.orelse and _leaves(node.body[-1]):
            node.test = _flipped(node.test)
        checks = isinstance(node.body[-1], ast.Raise)
        asked = _asked(node.test) if checks else []
        self.generic_visit(node)
        if checks:
            node.test = self._checked(node.test, asked)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        asked = _asked(node.test)
        self.generic_visit(node)
        node.test = ast.UnaryOp(ast.Not(), self._checked(ast.UnaryOp(ast.Not(), node.test), asked))
        return node

    def _checked(self, test: ast.expr, asked: list[ast.expr]) -> ast.expr:
        """The test of a check, which fails only by what is known."""
        given: list[ast.expr] = [_later(self.visit(part)) for part in asked]
        return ast.copy_location(ast.Call(ast.Name(_FAILS, ast.Load()), [test, *given], []), test)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], ast.In | ast.NotIn):
            return node
        wanted = ast.Constant(isinstance(node.ops[0], ast.In))
        call = ast.Call(ast.Name(_WITHIN, ast.Load()), [node.left, *node.comparators, wanted], [])
        return ast.copy_location(call, node)

    def visit_Try(self, node: ast.Try) -> ast.Try:
        answers = (_has_no_file, _has_other_module, _has_other_table, _ends_loop)
        answered = [any(map(has, node.handlers)) for has in answers]
        self.generic_visit(node)
        if any(answered):
            given: list[ast.expr] = [ast.Constant(each) for each in answered]
            guard = ast.withitem(ast.Call(ast.Name(_PREPARED, ast.Load()), given, []))
            node.body = [ast.copy_location(ast.With([guard], node.body), node)]
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        if node.type is not None:
            node.type = ast.copy_location(ast.Call(ast.Name(_CAUGHT, ast.Load()), [node.type], []), node.type)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        value = node.value
        if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "super"):
            return node
        call = ast.Call(ast.Name(_INHERITED, ast.Load()), [value, ast.Constant(node.attr)], [])
        return ast.copy_location(call, node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node


def _as_value(part: ast.expr) -> ast.expr:
    """What stands between the brackets, outside of them."""
    match part:
        case ast.Slice():
            ends = [end or ast.Constant(None) for end in (part.lower, part.upper, part.step)]
            return ast.copy_location(ast.Call(ast.Name(_SLICE, ast.Load()), ends, []), part)
        case ast.Tuple():
            part.elts = list(map(_as_value, part.elts))
    return part


def _asked(test: ast.expr) -> list[ast.expr]:
    """The names, attributes and items that a test asks for."""
    parts = (ast.Name, ast.Attribute, ast.Subscript)
    return [deepcopy(p) for p in ast.walk(test) if isinstance(p, parts) and isinstance(p.ctx, ast.Load)]


def _later(value: ast.expr) -> ast.expr:
    none = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    return ast.copy_location(ast.Lambda(none, value), value)


def _leaves(node: ast.stmt) -> bool:
    """Whether it goes to the next round, or away, without a value."""
    return isinstance(node, ast.Continue | ast.Raise) or (isinstance(node, ast.Return) and node.value is None)


def _flipped(test: ast.expr) -> ast.expr:
    """The test of what leaves early, so that where it is not known, it is first taken as false."""
    if isinstance(test, ast.BoolOp):
        test.values = list(map(_flipped, test.values))
    elif isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _OPPOSITES:
        test.ops = [_OPPOSITES[type(test.ops[0])]()]
        return ast.copy_location(ast.UnaryOp(ast.Not(), test), test)
    elif not isinstance(test, ast.UnaryOp):
        return ast.copy_location(ast.Call(ast.Name(_UNLESS, ast.Load()), [test], []), test)
    return test


def _has_no_file(handler: ast.ExceptHandler) -> bool:
    """Whether an `except` clause says how to go on where a file is missing."""
    kinds = {part.id for part in ast.walk(handler.type or handler) if isinstance(part, ast.Name)}
    return bool(handler.type and kinds & _FILE_ERRORS) and not any(isinstance(p, ast.Raise) for p in ast.walk(handler))


def _has_other_module(handler: ast.ExceptHandler) -> bool:
    """Whether an `except` clause imports another module where one is missing."""
    kinds = {part.id for part in ast.walk(handler.type or handler) if isinstance(part, ast.Name)}
    imports = any(isinstance(part, ast.Import | ast.ImportFrom) for part in handler.body)
    return imports and (handler.type is None or bool(kinds & _IMPORT_ERRORS))


def _has_other_table(handler: ast.ExceptHandler) -> bool:
    """Whether an `except` clause reads another table where one is missing."""
    return any(
        isinstance(part, ast.Attribute) and part.attr in _READS for each in handler.body for part in ast.walk(each)
    )


def _ends_loop(handler: ast.ExceptHandler) -> bool:
    """Whether an `except` clause ends the loop that it is in."""
    return any(isinstance(each, ast.Break) for each in handler.body)


_no_file = _other_module = _other_table = _loop_ends = 0


@contextmanager
def _prepared(no_file: bool, other_module: bool, other_table: bool, loop_ends: bool) -> Iterator[None]:
    """Within a `try` that has an answer to a missing file, or module, it is missing; a table may be."""
    global _no_file, _other_module, _other_table, _loop_ends
    before = _no_file, _other_module, _other_table, _loop_ends
    _no_file, _other_module = _no_file + no_file, _other_module + other_module
    _other_table, _loop_ends = other_table, loop_ends
    try:
        yield
    finally:
        _no_file, _other_module, _other_table, _loop_ends = before


def has_other_module() -> bool:
    """Whether the source has another module to import where one is missing."""
    return _other_module > 0


def has_other_table() -> bool:
    """Whether the source has another table to read where one is missing."""
    return _other_table > 0


def ends_loop() -> bool:
    """Whether what is missing ends a loop."""
    return _loop_ends > 0


def _call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    args, kwargs = _given(function, args, kwargs)
    if len(args) == 1 and isinstance(args[0], GeneratorType) and _takes_all(function):
        args = (list(args[0]),)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str) and is_unknown(owner):
        if _is_wholly_unknown(owner) and function.__name__ in _OF_TEXTS:
            return _OF_TEXTS[function.__name__](described(owner))
        if function.__name__ in ("replace", "translate"):
            return on_known_parts(owner, lambda part: getattr(part, function.__name__)(*args, **kwargs))
    if isinstance(owner, re.Pattern) or getattr(function, "__module__", None) == "re":
        at, text = next(
            ((at, str(e)) for at, e in reversed([*enumerate(args)]) if isinstance(e, (str, Symbol))), (0, "")
        )
        if _is_wholly_unknown(text) and function.__name__ in _OF_PATTERNS:
            return _OF_PATTERNS[function.__name__](described(text))
        if is_unknown(text) and function.__name__ == "sub":
            return on_known_parts(text, lambda part: function(*args[:at], part, *args[at + 1 :], **kwargs))
    declares = getattr(function, "__module__", None) == api.__name__
    if declares:
        kwargs = dict(_told(function, args, kwargs))
    if args and _parses(function) and _is_wholly_unknown(args[0]):
        return _unknown_result(function, args, kwargs)
    if function is dict or (isinstance(owner, dict) and function.__name__ == "update"):
        args = tuple(map(_entries, args))
    asks = isinstance(owner, dict) and args and function.__name__ in ("get", "setdefault")
    if asks and (meant := _of_row(args[0], owner)) is not None:
        return meant
    if any(function is each for each in _NUMBERS) and is_unknown(args):
        text = _first_unknown(args)
        return Symbol(text if len(args) == 1 and function is not range else f"{function.__name__}({text})")
    if function is len and (isinstance(args[0], Symbol) or (isinstance(args[0], (list, tuple)) and _is_many(args[0]))):
        return Symbol(f"len({_first_unknown(args[0])})")
    if function is isinstance and len(args) == 2 and isinstance(args[0], Symbol) and not function(*args):
        return otherwise(f"{shown(args[0])} is of type {_types(args[1])}")
    if args and isinstance(args[0], Symbol) and getattr(function, "__module__", None) in _OF_FILES:
        # As a number it would be an open file, such as the standard output.
        args = (str(args[0]), *args[1:])
    try:
        result = function(*args, **kwargs)
    except SystemExit:
        if not isinstance(owner, ArgumentParser):
            raise
        # It wants arguments that a run is given.
        return Symbol(f"{function.__name__}()")
    except Exception as error:
        given = (args, kwargs, owner if isinstance(owner, str) else None)
        if is_unknown(given) and type(error).__module__.startswith("pydantic"):
            return _unchecked(function, args, kwargs)
        # A declaration that is lost would be missing from the graph.
        if declares or isinstance(error, _MEANT) or _is_of_a_source(function):
            raise
        if isinstance(error, OSError) and error.filename is not None and not is_unknown(given):
            doubt(f"{error.filename}, which is not here")
            if _no_file:
                raise
        elif isinstance(owner, RawConfigParser) and _is_empty(owner):
            doubt("settings that are not here")
        # Spark needs a session for a type that is written as text.
        elif not (isinstance(error, _Deed) or type(error).__module__.startswith("pyspark.") or is_unknown(given)):
            raise
        return _with_texts(function, args, kwargs)
    if result is False and getattr(function, "__func__", function) in _PRESENT:
        # On Databricks it is there, as a rule.
        return Symbol(f"{shown(args[0] if args else function.__self__)} is there")
    if getattr(function, "__func__", function) in _SEARCHES:
        folder = os.fspath(_searched(function, args))
        if not os.path.isdir(folder):
            return Symbol(f"the files of {shown(folder)}")
    if getattr(function, "__name__", "") == "get" and args:
        if isinstance(owner, dict) and args[0] not in owner and (meant := _meant_by(args[0], owner)) is not None:
            return meant
        if result is None and len(args) == 1 and is_unknown(args[0]):
            return Symbol(f"get({shown(args[0])})")
    return result


def _given(function: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments with those that `*value` and `**value` stand for, where the value is not known.

    A function of the source gets all that it cannot do without, and what it takes for None otherwise.
    """
    holders = [value for name, value in kwargs.items() if _is_keywords(name, value)]
    spread = any(isinstance(each, _Spread) for each in args)
    if not (holders or spread):
        return args, kwargs
    known: list[inspect.Parameter] = []
    if own := _is_of_a_source(function):
        with suppress(TypeError, ValueError):
            known = list(inspect.signature(function).parameters.values())
    placed = [each for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    given: list[Any] = []
    for at, each in enumerate(args, 1):
        if isinstance(each, _Spread):
            open_ones = [p for p in placed[len(given) :] if p.default is p.empty and p.name not in kwargs]
            count = len(open_ones) - (len(args) - at)
            given += [each.value[index] for index in range(count)] if count > 0 else [*each.value]
        else:
            given.append(each)
    if own and holders:
        if not any(each.kind is each.VAR_KEYWORD for each in known):
            kwargs = {name: value for name, value in kwargs.items() if not _is_keywords(name, value)}
        named = [*placed[len(given) :], *(each for each in known if each.kind is each.KEYWORD_ONLY)]
        wanted = (each.name for each in named if each.default in (each.empty, None) and each.name not in kwargs)
        kwargs = {**kwargs, **{name: holders[-1][name] for name in wanted}}
    return tuple(given), kwargs


def _is_keywords(name: str, value: Any) -> bool:
    """Whether it is what `_keywords` gives for a symbol."""
    return isinstance(value, Symbol) and name == placeholder(repr(value))


def _unchecked(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A model of pydantic with values that are not known and so have no type."""
    try:
        return function(*map(_as_text, args), **{name: _as_text(value) for name, value in kwargs.items()})
    except ValueError:
        holds_others = any(isinstance(part, dict) for value in kwargs.values() for part in (value, *_listed(value)))
        if not hasattr(function, "model_construct") or holds_others:
            return _unknown_result(function, args, kwargs)
        return function.model_construct(**kwargs)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _is_many(values: Any) -> bool:
    """Whether one of the values stands for as many as there are."""
    return any(is_unknown(each) and EACH in _first_unknown(each) for each in values)


def _takes_all(function: Any) -> bool:
    """Whether it fails by what a generator gives, which would be used up then."""
    return any(function is each for each in _OF_ALL) or getattr(function, "__name__", "") == "join"


def _told(function: Callable, args: tuple, options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The options of a declaration without those that are checked, are not known, and that the graph does not tell.

    What `**value` gives is among them, where nothing of it is known, but for what the declaration cannot do without.
    """
    dataset = any(function is each for each in _DATASETS)
    for name, value in options.items():
        if _is_keywords(name, value):
            doubt(f"the options in {shown(value)}, which only a running pipeline knows")
            if not dataset:
                needed = list(inspect.signature(function).parameters.values())[len(args) :]
                missing = (each.name for each in needed if each.default is each.empty or each.name in _TIES)
                yield from ((name, value[name]) for name in missing if name not in {"unknown", "options", *options})
        elif name == "system_sequence_by":
            stored = options.get("stored_as_scd_type")
            if not is_unknown(stored) and (str(stored).lower() == "bitemporal" or not is_unknown(value)):
                yield name, value
        elif not (name in _CHECKED or (dataset and name == "format")) or not is_unknown(value):
            yield name, value


def _with_texts(function: Any, args: tuple, kwargs: dict) -> Any:
    """The call with the placeholders of symbols; a symbol where that does not work either."""
    symbols = list(symbols_in((args, kwargs)))
    if symbols:
        try:
            return function(*map(_as_text, args), **{name: _as_text(value) for name, value in kwargs.items()})
        except Exception as error:
            if isinstance(error, _MEANT):
                raise
    return _unknown_result(function, args, kwargs)


def _unknown_result(function: Any, args: tuple, kwargs: dict) -> Symbol:
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(owner := getattr(function, "__self__", None), (str, Path)):
        name = f"{shown(owner)}.{name}"
    return Symbol(name).derived(f"{name}({', '.join(map(shown, (*args, *kwargs.values())))})", args, kwargs)


def _is_empty(value: Any) -> bool:
    """Whether it is a list, or the settings of an INI file, with nothing in it."""
    return (isinstance(value, list) and not value) or (isinstance(value, RawConfigParser) and not value.sections())


def _searched(function: Any, args: tuple) -> Any:
    """The folder where `glob`, or `os.walk`, looks for files."""
    where = getattr(function, "__self__", args[0] if args else "")
    if function not in (glob.glob, glob.iglob):
        return where
    while glob.has_magic(where):
        where = os.path.dirname(where)
    return where or os.curdir


def _meant_by(wanted: Any, values: dict) -> Any:
    """What a key gives that only those that are not known may be, of which the last counts; None without any."""
    for key, value in reversed(values.items()):
        if isinstance(key, AnyKey):
            return key.holder[wanted]
        if isinstance(key, str) and isinstance(value, Symbol) and key == placeholder(repr(value)):
            return value[wanted]
        if is_unknown(key):
            return value
    return None


def _of_row(wanted: Any, values: dict) -> Any:
    """What a key gives in a dictionary to which a row was added after it: the row may have it too; None otherwise."""
    if is_unknown(wanted):
        return None
    for key in reversed(values):
        if isinstance(key, AnyKey) and repr(key.holder).endswith(EACH):
            return key.holder[wanted]
        if not is_unknown(key) and key == wanted:
            return None
    return None


def _parses(function: Any) -> bool:
    """Whether it makes values of a text: a placeholder would be a valid YAML document, and is no CSV file."""
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
    return (module == "yaml" and "load" in name) or (module in ("csv", "_csv") and name in ("reader", "DictReader"))


def _is_wholly_unknown(value: Any) -> bool:
    return isinstance(value, Symbol) or (
        is_unknown(value) and isinstance(value, str) and not known_parts(value).strip()
    )


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, str) and isinstance(key, slice) and _is_wholly_unknown(value):
        return Unknown(f"{described(value)}[{shown(key)}]")
    if isinstance(value, dict) and (meant := _of_row(key, value)) is not None:
        return meant
    try:
        return value[key]
    except (LookupError, TypeError):
        if _is_empty(value):
            # What fills it on Databricks, such as the folders of a cluster's path, is not here.
            doubt(f"a {type(value).__name__} that is empty here")
        elif isinstance(value, dict) and (meant := _meant_by(key, value)) is not None:
            return meant
        elif not (is_unknown(key) or (isinstance(value, (list, tuple)) and is_unknown(value))):
            raise
        return Symbol(f"…[{shown(key)}]")


def _within(item: Any, values: Any, wanted: bool) -> bool:
    """`item in values`, or `not in`: where it depends on what is not known, the condition as it is written is asked."""
    if isinstance(values, Symbol) or not (is_unknown(item) or is_unknown(values)):
        return (item in values) is wanted
    if isinstance(values, str):
        found = isinstance(item, str) and item in known_parts(values)
    else:
        values = list(values)
        found = any(each is item or repr(each) == repr(item) for each in values)
    if found or not values:
        return found is wanted
    return decided(_first_unknown(item if is_unknown(item) else values))


def _types(types: Any) -> str:
    return " or ".join(map(_types, types)) if isinstance(types, tuple) else getattr(types, "__name__", shown(types))


def _first_unknown(value: Any) -> str:
    """What is not known in a value, as it is described."""
    while not isinstance(value, (str, Symbol)):
        parts = (*value, *value.values()) if isinstance(value, dict) else tuple(value)
        value = next(filter(is_unknown, parts), shown(value))
    return described(value) if isinstance(value, str) else shown(value)


def _unless(value: Any) -> Any:
    """A test of what leaves early: one that is not known is asked the other way round."""
    return not value if isinstance(value, Symbol) else value


def _fails(value: Any, *asked: Callable[[], Any]) -> bool:
    """A check fails only by what is known: `asked` gives what its test asks for."""
    if not value:
        return False
    for part in asked:
        with suppress(Exception):
            if is_unknown(given := part()):
                doubt(f"{_first_unknown(given)}, which only a running pipeline knows")
                return False
    return True


def _keywords(value: Any) -> Any:
    """What `**value` gives; a symbol, or what a dictionary has of one, gives itself, under its own name."""
    if isinstance(value, dict):
        held = {key: key.holder if isinstance(key, AnyKey) else item for key, item in value.items()}
        return {placeholder(repr(item)) if isinstance(key, AnyKey) else key: item for key, item in held.items()}
    return {placeholder(repr(value)): value} if isinstance(value, Symbol) else value


def _spread(value: Any) -> Any:
    return [_Spread(value)] if isinstance(value, Symbol) else value


def _entries(value: Any) -> Any:
    """What `{**value}` gives; a symbol gives what is under any of its keys."""
    return {(key := AnyKey(value)): value[key]} if isinstance(value, Symbol) else value


def _caught(kinds: Any) -> Any:
    """The exceptions of an `except` clause; one that is not known may be any."""
    if isinstance(kinds, tuple):
        return tuple(map(_caught, kinds))
    return Exception if isinstance(kinds, Symbol) else kinds


def _inherited(parent: Any, name: str) -> Any:
    """`super().name`, also where the base class is not known."""
    try:
        return getattr(parent, name)
    except AttributeError:
        if Base not in parent.__self_class__.__mro__:
            raise
        return Symbol(f"{parent.__self_class__.__name__}.{name}")


def _as_text(value: Any) -> Any:
    if isinstance(value, Symbol):
        return placeholder(repr(value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(_as_text, value))
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    return value


def _is_of_a_source(function: Any) -> bool:
    return (getattr(function, "__module__", None) or "").startswith(PREFIX)


class _Deed(PermissionError):
    """Something that following a source does not do."""


_DEEDS = re.compile(
    r"(subprocess|shutil|socket|ftplib|smtplib|urllib|sqlite3|webbrowser|telnetlib|imaplib|poplib|nntplib)\."
    r"|os\.(system|exec|fork|forkpty|posix_spawn|spawn|kill|killpg|startfile|mkdir|remove|rename|rmdir|link|symlink"
    r"|truncate|chmod|chown|chdir|putenv|unsetenv|utime)$"
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_guarded = False


def _guard(event: str, given: tuple) -> None:
    if not _guarded:
        return
    deed = _DEEDS.match(event) or (event == "open" and isinstance(given[2], int) and given[2] & _WRITES)
    if deed and _is_by_a_source():
        raise _Deed(f"{event} is not done while a source is followed")


def _is_by_a_source() -> bool:
    """Whether a source does it, rather than another thread, or a finaliser that happens to run now."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(PREFIX):
            return True
        if frame.f_code.co_name == "__del__" or frame.f_code is weakref.finalize.__call__.__code__:
            return False
        frame = frame.f_back
    return False


sys.addaudithook(_guard)


@contextmanager
def no_deeds() -> Iterator[None]:
    """Sources write, start and connect to nothing; what tries gives a symbol."""
    global _guarded
    before, _guarded = _guarded, True
    try:
        yield
    finally:
        _guarded = before


names = {
    _CALL: _call,
    _ITEM: _item,
    _KEYWORDS: _keywords,
    _ENTRIES: _entries,
    _SPREAD: _spread,
    _CAUGHT: _caught,
    _INHERITED: _inherited,
    _WITHIN: _within,
    _UNLESS: _unless,
    _FAILS: _fails,
    _SLICE: slice,
    _PREPARED: _prepared,
}
