"""Stand-ins for what only a running pipeline knows: they take part in any expression and remember what they read.

A source is followed without Spark, without data and without the libraries that it imports. Whatever comes from them is
a `Symbol`: an attribute, an item or the result of a call of a symbol is a symbol again, which knows the tables that it
came from and whether it streams. Where Python itself needs a value (a text, a number, a truth), a symbol gives one that
can be told apart later: its text is a placeholder, so that a name made of it is known to be unknown.
"""

from __future__ import annotations

import dis
import re
import sys
import typing
from collections.abc import Callable, Iterator, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path, PurePath
from types import CodeType, FrameType
from typing import Any, NamedTuple

from lakeflow_local.pipelines.sources import PREFIX

_MOST_TEXT = 80
# Of columns, as SQL.
_PREDICATES = {
    "isNull": "{} IS NULL", "isNotNull": "{} IS NOT NULL", "between": "{} BETWEEN {} AND {}", "like": "{} LIKE {}",
    "rlike": "{} RLIKE {}", "isNaN": "isnan({})",
}  # fmt: skip
# By its name, where nothing else tells.
_GIVES_A_STREAM = re.compile(r"(?<!up)(?<!down)stream|auto_?loader", re.IGNORECASE)
_UNKNOWN = "only a running pipeline knows"
# What they give is a value, which does not tell any more where it comes from.
_ACTIONS = frozenset({"collect", "count", "first", "head", "take", "tail", "toLocalIterator", "toPandas"})
_CREATE_VIEW = frozenset({"createOrReplaceTempView", "createTempView", "registerTempTable"})
# How often a condition on a symbol that may be what ends a loop or a recursion is met before it does, and any other,
# which is met again in a loop over what is known, or by way of a function that such a loop calls.
_MOST_ROUNDS = 2
_MOST_MET = 500
# Names of tables are told apart by neither.
_SAME_NAME = frozenset({"lower", "upper", "casefold", "strip"})
# What stands for each item of something that is not known.
EACH = "[…]"
_MANY = 8
# Whatever a source does to the case of a text.
_PLACEHOLDER = re.compile(r"__unknown_([0-9a-f]+)__", re.IGNORECASE)
# What is left of one in a message that shows the beginning of a text.
_CUT_PLACEHOLDER = re.compile(r"__unknown_((?:[0-9a-f]{2})*)[0-9a-f]?_?", re.IGNORECASE)
_PACKAGE = str(Path(__file__).parents[1])


def placeholder(text: str) -> str:
    """A word that is a name in Python, SQL and paths and stands for the value that `text` describes."""
    return f"__unknown_{text.encode().hex()}__"


def described(text: str) -> str:
    """The text with its placeholders as what they stand for."""
    text = _PLACEHOLDER.sub(lambda match: bytes.fromhex(match[1]).decode(), text)
    return _CUT_PLACEHOLDER.sub(lambda match: bytes.fromhex(match[1]).decode(errors="ignore"), text)


def named(text: str) -> str:
    """A name with its placeholders as `${…}`."""

    def shown_part(match: re.Match[str]) -> str:
        part = bytes.fromhex(match[1]).decode()
        return part if part.startswith("${") else f"${{{part}}}"

    return _PLACEHOLDER.sub(shown_part, text)


def known_parts(text: str) -> str:
    """The text without its placeholders."""
    return _PLACEHOLDER.sub("", text)


def on_known_parts(text: str, change: Callable[[str], str]) -> str:
    """The text with its known parts changed, and its placeholders left whole."""
    ends = [0, *(end for found in _PLACEHOLDER.finditer(text) for end in found.span()), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends)]
    return "".join(part if at % 2 else change(part) for at, part in enumerate(parts))


def has_pieces(text: str) -> bool:
    """Whether a placeholder was taken apart, so that nobody knows any more what it stands for."""
    return "__unknown_" in known_parts(text).lower()


def unknown_parts(text: str) -> list[str]:
    """What the placeholders of a text stand for."""
    return [bytes.fromhex(match[1]).decode() for match in _PLACEHOLDER.finditer(text)]


class TableRead(NamedTuple):
    """A table that something was read from, and whether as a stream."""

    name: str
    streaming: bool


# Where it is asked, and what it depends on.
Condition = tuple[CodeType, int, str]


@dataclass
class _Path:
    """One way through a source, where its conditions depend on what is not known.

    Attributes:
        answer: whether such conditions hold; a loop ends after some rounds all the same.
        otherwise: those that have the other answer.
        asked: those that were asked.
        in_flow: whether it leads through a flow's function, rather than through the source that declares it.
        rounds: how often the condition at each place was asked.
        doubts: the places at which an answer was given, and on what it depends.
        views: the temporary views that were created on it, or before it began.
        own_views: those that were created on it.
        texts: what went into texts, and was read from tables, by its placeholder.
        fallback: whether tables that the source has an answer for, should they be missing, are missing.
        has_fallback: whether there are any.
    """

    answer: bool = True
    otherwise: frozenset[Condition] = frozenset()
    in_flow: bool = False
    asked: dict[Condition, None] = field(default_factory=dict)
    rounds: dict[tuple[Any, int], int] = field(default_factory=dict)
    doubts: dict[tuple[str, int], str] = field(default_factory=dict)
    views: dict[str, Symbol] = field(default_factory=dict)
    own_views: list[Symbol] = field(default_factory=list)
    texts: dict[str, Symbol] = field(default_factory=dict)
    fallback: bool = False
    has_fallback: bool = False


_path = _Path()


@contextmanager
def one_way(answer: bool = True, **options: Any) -> Iterator[_Path]:
    """Conditions on what is not known begin anew, and give `answer` first; views that exist already stay."""
    global _path
    before, _path = _path, _Path(answer, views=dict(_path.views), **options)
    try:
        yield _path
    finally:
        _path = before


def falls_back() -> bool:
    """Whether the table is missing that a source reads where it has an answer to that."""
    _path.has_fallback = True
    return _path.fallback


def doubt(text: str) -> FrameType:
    """Notes that the source depends on what `text` says, and gives the place at which that is asked."""
    asked = source = asking()
    # A library may ask on behalf of the source.
    while source.f_back is not None and not source.f_globals.get("__name__", "").startswith(PREFIX):
        source = source.f_back
    if source.f_back is None:
        source = asked
    _path.doubts.setdefault((source.f_code.co_filename, source.f_lineno), text)
    return asked


def asking() -> FrameType:
    """Where the followed source is."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def decided(text: str) -> bool:
    """Whether a condition on what is not known holds, on the way that is taken."""
    # A type hint is compared with the special forms, and is none of them.
    if asking().f_code.co_filename == typing.__file__:
        return False
    frame = doubt(f"{text}, which {_UNKNOWN}")
    key = (frame.f_code, frame.f_lasti)
    _path.rounds[key] = _path.rounds.get(key, 0) + 1
    _path.asked[condition := (*key, text)] = None
    if condition in _path.otherwise:
        return not _path.answer
    most = _MOST_ROUNDS if _may_go_on(frame) else _MOST_MET
    return (_path.rounds[key] <= most) == _path.answer


def _may_go_on(frame: FrameType) -> bool:
    """Whether what is asked there may be what ends a `while` loop, or a recursion."""
    if any(first <= frame.f_lasti <= last for first, last in _while_loops(frame.f_code)):
        return True
    caller = frame.f_back
    while caller is not None and caller.f_code is not frame.f_code:
        caller = caller.f_back
    return caller is not None


@lru_cache(maxsize=256)
def _while_loops(code: CodeType) -> list[tuple[int, int]]:
    """From where to where its `while` loops go: its jumps back that do not ask for the next item of a `for` loop."""
    steps = [each for each in dis.get_instructions(code) if each.opname != "EXTENDED_ARG"]
    back = [each for each in steps if "JUMP_BACKWARD" in each.opname]
    starts = {jump.argval: next(each for each in steps if each.offset >= jump.argval) for jump in back}
    return [(jump.argval, jump.offset) for jump in back if starts[jump.argval].opname != "FOR_ITER"]


def otherwise(text: str) -> bool:
    """Whether a condition on what is not known, which fails as a rule, holds on the way that is taken."""
    frame = asking()
    _path.asked[condition := (frame.f_code, frame.f_lasti, text)] = None
    if condition in _path.otherwise:
        doubt(f"{text}, which {_UNKNOWN}")
    return condition in _path.otherwise


class Unknown(str):
    """A text that is not known, as its placeholder; also where a number is wanted.

    Args:
        text: how it is described.
    """

    def __new__(cls, text: str) -> Unknown:
        return super().__new__(cls, placeholder(text))

    def __format__(self, _: str) -> str:
        return self

    def __eq__(self, other: object) -> bool:
        return decided(described(self)) if _asked_for(other) else str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return decided(described(self)) if _asked_for(other) else str.__ne__(self, other)

    __hash__ = str.__hash__

    def __int__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0


def _asked_for(other: object) -> bool:
    """Whether a source compares the text with one that is known."""
    by_us = sys._getframe(2).f_code.co_filename.startswith(_PACKAGE)
    return not by_us and isinstance(other, str) and bool(other) and not isinstance(other, Unknown)


def setting(key: str) -> Unknown:
    """The value of a configuration key that was not given: `${key}`."""
    return Unknown(f"${{{described(key)}}}")


class Base:
    """What a class is derived from when its base is a symbol."""

    def __init__(self, *_: Any, **fields: Any):
        self.__dict__.update(fields)

    def __init_subclass__(cls, **_: Any) -> None:
        super().__init_subclass__()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Symbol(f"{type(self).__name__}.{name}")


class Symbol:
    """A value that is not known.

    Args:
        text: how it is written, for messages and for SQL expressions.
        inputs: the tables that it was read from.
        streaming: it is, or comes from, a stream.
        function: what the symbol wraps, where a decorator that is not known was applied to a function.
    """

    __slots__ = ("__wrapped__", "_inputs", "_streaming", "_text")

    def __init__(
        self,
        text: str,
        inputs: frozenset[TableRead] = frozenset(),
        streaming: bool = False,
        function: Callable | None = None,
    ):
        # The end stays, since it holds the name that is called next.
        half = _MOST_TEXT // 2
        if len(text) > _MOST_TEXT and len(text := described(text)) > _MOST_TEXT:
            text = f"{text[:half]}{EACH if EACH in text else '…'}{text[-half:]}"
        object.__setattr__(self, "_text", text)
        object.__setattr__(self, "_inputs", inputs)
        object.__setattr__(self, "_streaming", streaming)
        if function is not None:
            object.__setattr__(self, "__wrapped__", function)

    def derived(self, text: str, *others: Any) -> Symbol:
        """A symbol that comes from this one and from every symbol among `others`."""
        inputs, streaming = self._inputs, self._streaming
        for other in symbols_in(others):
            inputs |= other._inputs
            streaming = streaming or other._streaming
        return Symbol(text, inputs, streaming)

    def __sql__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            if name == "__name__" and "." not in self._text:
                return getattr(self.__wrapped__, "__name__", self._text)
            if name == "__name__":
                last = self._text.rpartition(".")[2]
                # A class has the name that it is known by.
                return last if last.isidentifier() and last[0].isupper() else str(self.derived(f"{self._text}.{name}"))
            raise AttributeError(name)
        if name == "isStreaming":
            return self._streaming
        part = self.derived(f"{self._text}.{name}")
        return _Cased(part, self) if name in _SAME_NAME and type(part) is Symbol else part

    def __setattr__(self, name: str, value: Any) -> None:
        pass

    def __delattr__(self, name: str) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._text.rpartition(".")[2]
        wrapped = _wrapped(self)
        if wrapped is not None:
            return self.derived(f"{self._text}(…)", wrapped(*args, **kwargs))
        if name in _CREATE_VIEW and args:
            _path.views[str(args[0]).lower()] = self
            _path.own_views.append(self)
        if name == "transform" and args and callable(args[0]) and not isinstance(args[0], Symbol):
            return self.derived(self._text, args[0](self, *args[1:], **kwargs))
        if len(args) == 1 and not kwargs and isinstance(args[0], str) and name in ("col", "column", "expr"):
            return Symbol(str(args[0]))
        if name in _PREDICATES and len(args) == _PREDICATES[name].count("{}") - 1 and not kwargs:
            column = self._text.rpartition(".")[0]
            return self.derived(_PREDICATES[name].format(column, *map(shown, args)), args)
        if name == "isin" and args:
            values = args[0] if len(args) == 1 and isinstance(args[0], (list, tuple, set)) else args
            return self.derived(f"{self._text.rpartition('.')[0]} IN ({', '.join(map(shown, values))})", args)
        if len(args) == 1 and not kwargs and _is_function(args[0]):
            result = self.derived(getattr(args[0], "__name__", "function"))
            object.__setattr__(result, "__wrapped__", args[0])
            return result
        given = ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])
        if name in _ACTIONS and not _path.in_flow:
            return Symbol(f"{self._text}({given})")
        result = self.derived(f"{self._text}({given})", args, kwargs)
        if gives_a_stream(name):
            object.__setattr__(result, "_streaming", True)
        return result

    def __getitem__(self, key: Any) -> Any:
        return self.derived(f"{self._text}[{shown(key)}]", key)

    def __add__(self, other: Any) -> Any:
        match other:
            case list():
                return [*self, *other]
            case str():
                return str(self) + other
        return self.derived(f"{self._text} + {shown(other)}", other)

    def __radd__(self, other: Any) -> Any:
        match other:
            case list():
                return [*other, *self]
            case str():
                return other + str(self)
        return self.derived(f"{shown(other)} + {self._text}", other)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __delitem__(self, key: Any) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        """One round with a symbol; in `a, b = symbol`, as many as are wanted."""
        wanted = _unpacked(sys._getframe(1))
        if wanted is None:
            doubt(f"{self._text}, which {_UNKNOWN}")
            return iter([self._part(self._text + EACH)])
        return iter([self._part(f"{self._text}[{index}]") for index in range(wanted)])

    def _part(self, text: str) -> Any:
        """One of what it holds."""
        return self.derived(text)

    def __next__(self) -> Any:
        if self.__bool__():
            return self.derived(f"next({self._text})")
        raise StopIteration

    def __contains__(self, item: Any) -> bool:
        return decided(f"{shown(item)} in {self._text}")

    def __len__(self) -> int:
        return 1 if _path.answer else _MANY

    def __bool__(self) -> bool:
        return decided(self._text)

    def __str__(self) -> str:
        text = Unknown(self._text)
        if self._inputs:
            _path.texts[str.lower(text)] = self
        return text

    def __format__(self, _: str) -> str:
        return str(self)

    def __repr__(self) -> str:
        return self._text

    def __int__(self) -> int:
        return 1

    def __index__(self) -> int:
        return 1

    def __float__(self) -> float:
        return 1.0

    def __round__(self, _: int | None = None) -> Any:
        return self

    def __fspath__(self) -> str:
        return str(self)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Symbol)

    def __subclasscheck__(self, subclass: Any) -> bool:
        return False

    def __mro_entries__(self, bases: tuple) -> tuple[type, ...]:
        known = any(isinstance(base, type) and issubclass(base, Base) for base in bases)
        # Several unknown bases are one.
        return () if known or next(base for base in bases if isinstance(base, Symbol)) is not self else (Base,)

    def __copy__(self) -> Symbol:
        return self

    def __deepcopy__(self, _: dict) -> Symbol:
        return self


class Texts(Symbol):
    """The parts of a text that is not known: they are texts again."""

    __slots__ = ()

    def _part(self, text: str) -> Any:
        return Unknown(text)

    def __getitem__(self, key: Any) -> Any:
        text = f"{self._text}[{shown(key)}]"
        return Texts(text) if isinstance(key, slice) else Unknown(text)


class AnyKey(Symbol):
    """Any of the keys of what is not known, `holder`."""

    __slots__ = ("holder",)

    def __init__(self, holder: Symbol):
        super().__init__(f"{holder!r}.keys(){EACH}")
        object.__setattr__(self, "holder", holder)


class _Cased(Symbol):
    """A method of a text that is not known, which gives the same text as far as it names a table."""

    __slots__ = ("holder",)

    def __init__(self, method: Symbol, holder: Symbol):
        super().__init__(method._text, method._inputs, method._streaming)
        object.__setattr__(self, "holder", holder)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs) if args or kwargs else self.holder


def gives_a_stream(name: str) -> bool:
    """Whether a function of that name gives a stream, as far as its name tells."""
    return _GIVES_A_STREAM.search(name) is not None


def in_text(text: str) -> list[Symbol]:
    """What was read from tables and went into the text."""
    found = (_path.texts.get(match[0].lower()) for match in _PLACEHOLDER.finditer(text))
    return [each for each in found if each is not None]


def own_views() -> list[Symbol]:
    """The temporary views that were created on this way."""
    return list(_path.own_views)


def view(name: str) -> Symbol | None:
    """The temporary view of that name."""
    return _path.views.get(name.lower().strip("`"))


def _operator(template: str) -> Callable:
    def method(self: Symbol, *others: Any) -> Symbol:
        return self.derived(template.format(repr(self), *map(shown, others)), others)

    return method


_OPERATORS = {
    "eq": "{} = {}", "ne": "{} <> {}", "lt": "{} < {}", "le": "{} <= {}", "gt": "{} > {}", "ge": "{} >= {}",
    "and": "({}) AND ({})", "or": "({}) OR ({})", "xor": "{} ^ {}", "invert": "NOT ({})", "neg": "-{}", "pos": "{}",
    "abs": "abs({})", "sub": "{} - {}", "mul": "{} * {}", "truediv": "{} / {}",
    "floordiv": "{} / {}", "mod": "{} % {}", "pow": "pow({}, {})", "matmul": "{} @ {}", "lshift": "{} << {}",
    "rshift": "{} >> {}",
}  # fmt: skip
for _name, _template in _OPERATORS.items():
    setattr(Symbol, f"__{_name}__", _operator(_template))
    if _name not in ("eq", "ne", "lt", "le", "gt", "ge", "invert", "neg", "pos", "abs"):
        setattr(Symbol, f"__r{_name}__", _operator(_template))


def symbols_in(value: Any, depth: int = 4) -> Iterator[Symbol]:
    """The symbols of a value, also inside of collections."""
    if isinstance(value, Symbol):
        yield value
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from symbols_in(item, depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset, ValuesView)):
        for item in value:
            yield from symbols_in(item, depth - 1)


def is_unknown(value: Any, depth: int = 4) -> bool:
    """Whether a value, or something in it, is not known."""
    if isinstance(value, str):
        return bool(_PLACEHOLDER.search(value))
    if depth and isinstance(value, dict):
        return any(is_unknown(item, depth - 1) for item in (*value, *value.values()))
    if depth and isinstance(value, (list, tuple, set, frozenset, ValuesView)):
        return any(is_unknown(item, depth - 1) for item in value)
    return isinstance(value, Symbol)


def shown(value: Any) -> str:
    """A value as it is written in a symbol's text."""
    if isinstance(value, Symbol):
        return repr(value)
    if isinstance(value, (str, PurePath)):
        return "'" + described(str(value)).replace("'", "''") + "'"
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, slice):
        return ":".join("" if part is None else shown(part) for part in (value.start, value.stop))
    return "…" if callable(value) or isinstance(value, (dict, list, set)) else repr(value)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (Symbol, type)) and hasattr(value, "__code__")


def _wrapped(symbol: Symbol) -> Callable | None:
    try:
        return object.__getattribute__(symbol, "__wrapped__")
    except AttributeError:
        return None


def _unpacked(frame: Any) -> int | None:
    """How many values the caller's next step takes apart: `a, b = …` takes two; None for a loop."""
    code = frame.f_code.co_code
    at = frame.f_lasti
    name = dis.opname[code[at]]
    if name == "UNPACK_SEQUENCE":
        return code[at + 1]
    return code[at + 1] & 0xFF if name == "UNPACK_EX" else None
