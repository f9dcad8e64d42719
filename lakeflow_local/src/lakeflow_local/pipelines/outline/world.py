"""What a source finds around it while it is followed: a session, `dbutils`, the pipeline module, and other modules."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import io
import os
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from pyspark.sql import functions

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api, sql
from lakeflow_local.pipelines.names import without_live
from lakeflow_local.pipelines.outline import lenient
from lakeflow_local.pipelines.outline.symbols import (
    Symbol,
    TableRead,
    asking,
    doubt,
    falls_back,
    in_text,
    is_unknown,
    known_parts,
    own_views,
    placeholder,
    setting,
    shown,
    symbols_in,
    unknown_parts,
    view,
)
from lakeflow_local.pipelines.sources import NotebookExit, new_module

# Modules of Spark that need no session.
_REAL_OF_SPARK = frozenset({"pyspark.sql.types", "pyspark.errors", "pyspark.sql.utils"})
# Libraries that read settings; every other library is followed by a symbol.
_REAL_LIBRARIES = frozenset({
    "yaml", "dateutil", "pytz", "typing_extensions", "jinja2", "packaging", "tomli",
    "pydantic",
})  # fmt: skip
# What sources call the pipeline module.
PIPELINE_MODULES = frozenset({"dlt", "dp", "sdp", "pipelines"})
# Parts of the standard library that wait.
_NOT_FOLLOWED = frozenset({"asyncio", "concurrent", "multiprocessing", "sched", "signal", "threading", "time"})
_FUNCTIONS = "pyspark.sql.functions."
# What `from pyspark.sql.functions import *` brought as well until Spark 4 gave the module its `__all__`.
_OF_TYPING = (
    "Any", "Callable", "Dict", "Iterable", "List", "Optional", "TYPE_CHECKING", "Tuple", "Union", "ValuesView",
)  # fmt: skip
_OF_PYTHON = ("functools", "inspect", "sys", "warnings")
_BEFORE_SPARK_4 = (
    *_OF_TYPING, "ArrayType", "Column", "DataFrame", "DataType", "SparkContext", "StringType", "StructType",
    *_OF_PYTHON,
)  # fmt: skip
# Their first text is none.
_OF_TEXT = frozenset({"col", "column", "expr", "udf", "pandas_udf", "lit"})
_RUNTIME = "databricks.sdk.runtime"
# Of all below `databricks`, these are not part of it.
_LIBRARIES = "databricks.labs"
# `_sqldf` is what the last %sql cell gave.
_OF_NOTEBOOKS = ("sc", "display", "displayHTML", "udf", "_sqldf")
# What gives the session: in Spark, and by habit in the helpers of a project.
_GET_SESSION = re.compile(
    r"getOrCreate|getActiveSession|active|_*(?:(?:get|create|init|make|build|start|new|set_?up|configure)\w*?)?"
    r"spark(?:_?session)?",
    re.IGNORECASE,
)
_STREAMS = re.compile(
    r"\b(?:STREAM\s*\(?\s*(?:read_files|read_kafka|read_kinesis|read_pubsub|read_pulsar|cloud_files)|cloud_files)\s*\(",
    re.IGNORECASE,
)


# What may stand between queries.
_BETWEEN_QUERIES = re.compile(r"(?:[\s();]|\b(?:UNION|ALL|DISTINCT|EXCEPT|INTERSECT|MINUS|BY|NAME)\b)*", re.IGNORECASE)


class _Reader(Symbol):
    """`spark.read`, `spark.readStream` and what is made of them."""

    __slots__ = ()

    def derived(self, text: str, *others: Any) -> Symbol:
        symbol = super().derived(text, *others)
        return _Reader(symbol._text, symbol._inputs, symbol._streaming)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = super().__call__(*args, **kwargs)
        name = args[0] if args else kwargs.get("tableName", kwargs.get("name"))
        if self._text.rpartition(".")[2] == "table" and name is not None:
            return result.derived(result._text, _named(str(name), self._streaming))
        return result


_EMPTY = frozenset({"", "[]", "{}"})
_CONSTANT = re.compile(r"[^\W\d]\w*(?:\.\w+|\['[^']*'\])*")
# json.`/folder`: files, not a table.
_FILES = re.compile(r"(?:avro|binaryFile|csv|delta|json|orc|parquet|text|xml)\.`[^`]*/", re.IGNORECASE)


def tables_in(text: str, **how: Any) -> list[sql.Input]:
    """What a query reads, other than files."""
    return [read for read in sql.inputs(text, **how) if not _FILES.match(read.name)]


def streams(text: str) -> bool:
    """Whether a query reads files or a message bus as a stream."""
    return _STREAMS.search(text) is not None


def _named(name: str, streaming: bool = False) -> Symbol:
    """The rows of a table, or of a temporary view that the source has made."""
    made = view(name)
    if made is not None:
        return made
    if lenient.has_other_table() and falls_back():
        raise lenient.NotThere(f"[TABLE_OR_VIEW_NOT_FOUND] {name}")
    return Symbol(name, frozenset({TableRead(without_live(name), streaming)}), streaming)


class _Session(Symbol):
    """`spark`."""

    def __init__(self, world: World):
        super().__init__("spark")
        object.__setattr__(self, "_world", world)

    def __getattr__(self, name: str) -> Any:
        match name:
            case "read":
                return _Reader("spark.read")
            case "readStream":
                return _Reader("spark.readStream", streaming=True)
            case "conf":
                return self._world.conf
            case "table":
                return _Reader("spark.table")
            case "sql":
                return self._world.query
            case "builder" | "newSession":
                return Symbol("spark.builder")
        return super().__getattr__(name)


class _Defaults:
    """The defaults of settings that were not given.

    Attributes:
        given: whether those that are empty count too: a source may need what they stand for.
        had_empty: whether a source asked for one that is empty.
    """

    def __init__(self) -> None:
        self.given = True
        self.had_empty = False
        self._numbered: dict[str, str] = {}

    def has_one_like(self, key: str) -> bool:
        """Whether another key has been asked for that differs by its number."""
        return self._numbered.setdefault(re.sub(r"\d+", "#", key), key) != key

    def of(self, key: str, default: Any) -> Any:
        """The default of a setting, or what stands for it: what may be missing is there as a rule."""
        if isinstance(default, str) and default in _EMPTY:
            self.had_empty = True
            return default if self.given else setting(key)
        return setting(key) if default is None else default


class _Conf(Symbol):
    """`spark.conf`, and `dbutils.widgets`, whose values are the pipeline's configuration."""

    def __init__(self, text: str, configuration: Mapping[str, str], defaults: _Defaults):
        super().__init__(text)
        object.__setattr__(self, "_values", dict(configuration))
        object.__setattr__(self, "_defaults", defaults)

    def get(self, key: str, default: Any = None) -> Any:
        value = self._values.get(str(key), default)
        if value is None and lenient.ends_loop() and self._defaults.has_one_like(str(key)):
            raise lenient.NotThere(f"[CONFIG_NOT_AVAILABLE] Configuration {key} is not available.")
        return self._defaults.of(str(key), value)

    getArgument = get

    def set(self, key: str, value: Any) -> None:
        self._values[str(key)] = value

    def text(self, name: str, defaultValue: Any = "", label: str | None = None) -> None:
        self._values.setdefault(str(name), defaultValue)

    def dropdown(self, name: str, defaultValue: Any = "", *_: Any, **__: Any) -> None:
        self._values.setdefault(str(name), defaultValue)

    combobox = multiselect = dropdown


class _Notebook(Symbol):
    def exit(self, _: Any = None) -> None:
        raise NotebookExit

    def run(self, *_: Any, **__: Any) -> Any:
        return Symbol("dbutils.notebook.run()")


class _Utils(Symbol):
    """`dbutils`."""

    def __init__(self, widgets: _Conf):
        super().__init__("dbutils")
        object.__setattr__(self, "_widgets", widgets)

    def __getattr__(self, name: str) -> Any:
        if name == "widgets":
            return self._widgets
        return _Notebook("dbutils.notebook") if name == "notebook" else super().__getattr__(name)


class _Module(Symbol):
    """A module that is not loaded; its parts are symbols, but for those that the world knows better."""

    def __init__(self, name: str, world: World):
        super().__init__(name)
        object.__setattr__(self, "_world", world)

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return self._world.exported(self._text)
        if name == "spark":
            return self._world.spark
        full = f"{self._text}.{name}"
        if full in self._world.known or full in _REAL_OF_SPARK or full in api.MODULES:
            return self._world.module(full)
        if f"{self._text}." == _FUNCTIONS and not (hasattr(functions, name) or name in _BEFORE_SPARK_4):
            doubt(f"{full}, which this Spark does not have")
        if name == "dlt" and self._world.is_absent(full):
            doubt(f"{full}, which is taken for dlt itself")
            return self._world.more_than_dlt(full)
        return super().__getattr__(name)

    def derived(self, text: str, *others: Any) -> Symbol:
        symbol = super().derived(text, *others)
        reads = symbol._inputs or symbol._streaming or next(symbols_in(others), None) is not None
        return symbol if reads else _Part(symbol._text, self._world)


class _Part(_Module):
    """A class or function of a module that is not loaded."""

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            raise AttributeError(name)
        return super().__getattr__(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self._text.rpartition(".")[2]
        if _GET_SESSION.fullmatch(name):
            return self._world.spark
        if self._text.startswith(_FUNCTIONS) and args and not kwargs:
            if name == "lit" and not isinstance(args[0], Symbol):
                return Symbol(shown(args[0]))
            if name not in _OF_TEXT:
                # The first text is a column's name.
                args = (Symbol(args[0]) if isinstance(args[0], str) else args[0], *args[1:])
                return _Part(name, self._world).derived(f"{name}({', '.join(map(shown, args))})", args)
        result = super().__call__(*args, **kwargs)
        if name == "forName" and "DeltaTable" in self._text:
            table = kwargs.get("tableOrViewName", args[-1] if args else None)
            return Symbol(result._text, frozenset({TableRead(without_live(str(table)), False)}))
        return result


class _Builtins(dict):
    """The builtins of followed sources; names that a module which is not here may have brought are symbols."""

    def __init__(self, world: World):
        super().__init__(vars(builtins))
        self._world = world
        self.update(lenient.names, __import__=world.import_, input=lambda *_: "", print=lambda *_, **__: None)
        self.update(exit=_exit, quit=_exit)

    def __missing__(self, name: str) -> Any:
        if self._world.open_names and not name.startswith("__"):
            self._world.given.add(name)
            return Symbol(name)
        raise KeyError(name)


class _Arguments(list):
    """What a script is called with."""

    def __getitem__(self, at: Any) -> Any:
        try:
            return super().__getitem__(at)
        except IndexError:
            raise IndexError(f"sys.argv[{at}] is not there: the sources of a pipeline get no arguments") from None


class World:
    """The surroundings of one pipeline's sources.

    Args:
        folders: where modules of the pipeline's own are looked for, besides the folder of the file that imports them.
        configuration: what `spark.conf.get` gives; a key that it has not gives a `setting`.

    Attributes:
        absent: the modules and notebooks that sources refer to and that are not here, and the first place that does.
        open_names: names may come from one of those.
        given: the names that did.
    """

    def __init__(self, folders: list[Path], configuration: Mapping[str, str]):
        self.absent: dict[str, tuple[str, int] | None] = {}
        self.open_names = False
        self.given: set[str] = set()
        self.defaults = _Defaults()
        self.conf = _Conf("spark.conf", configuration, self.defaults)
        self.spark = _Session(self)
        self.dbutils = _Utils(_Conf("dbutils.widgets", configuration, self.defaults))
        self.builtins = _Builtins(self)
        self._modules: dict[Path, ModuleType] = {}
        streams = {name: io.StringIO() for name in ("stdin", "stdout", "stderr")}
        self._sys = _copy(
            sys, path=[str(folder) for folder in folders], modules={}, exit=_exit, argv=_Arguments([""]), **streams
        )
        ends = {name: Symbol(f"os.{name}") for name in ("_exit", "abort")}
        self.known: dict[str, Any] = {
            "sys": self._sys,
            "os": _copy(os, **ends, environ=(environment := _Environment(self.defaults)), getenv=environment.get),
            "importlib": _copy(
                importlib, import_module=self._imported, reload=lambda module: module, util=Symbol("importlib.util")
            ),
            "pyspark.dbutils.DBUtils": lambda *_: self.dbutils,
        }
        self.known.update(dict.fromkeys(api.MODULES, self._pipelines()))
        self.known.update({_FUNCTIONS + name: getattr(typing, name) for name in _OF_TYPING})
        self.known.update(
            {_FUNCTIONS + name: self.known.get(name) or importlib.import_module(name) for name in _OF_PYTHON}
        )
        self.known.update({f"{_RUNTIME}.{name}": value for name, value in self.names.items()})

    @property
    def names(self) -> dict[str, Any]:
        """What every source finds as globals."""
        return {
            "__builtins__": self.builtins,
            "spark": self.spark,
            "dbutils": self.dbutils,
            "sql": self.query,
            "table": self.spark.table,
            "sqlContext": self.spark,
            "getArgument": self.dbutils.widgets.get,
            **{name: Symbol(name) for name in _OF_NOTEBOOKS},
        }

    def _pipelines(self) -> ModuleType:
        module = ModuleType("dlt")
        module.__dict__.update({name: getattr(api, name) for name in api.__all__}, dlt=module, dp=module)
        module.__dict__.update({name: getattr(_Module("pyspark.sql", self), name) for name in api.TYPES})
        module.__all__ = [*api.__all__, "dlt"]  # type: ignore[attr-defined]

        def read(name: Any) -> Symbol:
            return self.spark.read.table(name)

        def read_stream(name: Any) -> Symbol:
            return self.spark.readStream.table(name)

        for function in (read, read_stream):
            function.__qualname__ = function.__name__
        module.__dict__.update(read=read, read_stream=read_stream, readStream=read_stream)
        return module

    def more_than_dlt(self, name: str) -> ModuleType:
        """A module that is not here and passes the parts of `dlt` on, with others of its own."""

        def own(part: str) -> Symbol:
            if part.startswith("__"):
                raise AttributeError(f"module {name!r} has no attribute {part!r}")
            return Symbol(f"{name}.{part}")

        module = ModuleType(name)
        module.__dict__.update(vars(self.known["dlt"]), __name__=name, __getattr__=own)
        return module

    def begin_again(self, given: bool, anew: bool) -> None:
        """A source is followed, `anew` with its modules; `given` says whether empty defaults count."""
        self.open_names = self.defaults.had_empty = False
        if anew or given != self.defaults.given:
            self.defaults.given = given
            self._modules.clear()

    def query(self, sqlQuery: Any = "", args: Any = None, **frames: Any) -> Symbol:
        """`spark.sql`: what the text reads, as far as it is a query."""
        text = str(sqlQuery)
        try:
            read = tables_in(text, parameters=args if isinstance(args, Mapping) else {})
        except LakeflowError as error:
            doubt(f"a query that cannot be read: {error.message}")
            read = []
        tables = [_named(i.name, i.streaming) for i in read]
        if not read and is_unknown(text) and _BETWEEN_QUERIES.fullmatch(known_parts(text)):
            # The whole query comes from elsewhere; so does what it reads, other than what was made for it.
            queries = [placeholder(each) for each in unknown_parts(text)] if known_parts(text).strip() else [text]
            tables = [*map(_named, queries), *own_views()]
        return Symbol("spark.sql(…)", streaming=streams(text)).derived("spark.sql(…)", tables, in_text(text), frames)

    def import_(self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        """`import` inside followed sources."""
        importer = Path((globals or {}).get("__file__") or ".").resolve()
        if level:
            return self._relative(name, importer, level, fromlist)
        module = self._find(name, importer, fromlist)
        if module is None:
            if lenient.has_other_module():
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            self._lacks(name)
            module = _Module(name, self)
        if fromlist:
            if "*" in fromlist and isinstance(module, _Module) and not self._installed(name):
                self.open_names = True
            return module
        top = name.split(".")[0]
        if top == name:
            return module
        if isinstance(module, _Module) and top not in self.known:
            return _Module(top, self)
        found = self._find(top, importer, fromlist)
        return _Module(top, self) if found is None else found

    def is_absent(self, text: str) -> bool:
        """Whether a symbol of that text comes from a module that is not here."""
        # A long text has its middle cut out; a name alone is of a module all of whose names were imported.
        start, cut, _ = text.partition("…")
        return _CONSTANT.fullmatch(text) is not None or any(
            start.startswith((f"{name}.", f"{name}(")) or (cut and name.startswith(start))
            for name in (*(name.lstrip(".") for name in self.absent), *self.given)
        )

    def _lacks(self, name: str) -> None:
        frame = asking()
        self.absent.setdefault(name, (frame.f_code.co_filename, frame.f_lineno))

    def _imported(self, name: str, package: str | None = None) -> Any:
        """`importlib.import_module`."""
        file = {"__file__": sys._getframe(2).f_code.co_filename}
        return self.import_(str(name).lstrip("."), file, None, ("",), len(str(name)) - len(str(name).lstrip(".")))

    def stand_in(self, name: str) -> Any:
        """What a source means by a parameter of that name: the session, the pipeline module, or any value."""
        meant = {"spark": self.spark, "dbutils": self.dbutils, **dict.fromkeys(PIPELINE_MODULES, self.known["dlt"])}
        return meant[name] if name in meant else _Part(name, self)

    def decorated(self, decorator: FunctionType) -> Callable[[], Any]:
        """A function that reads what is not known, as if it were defined where the decorator is."""

        def query() -> Any:
            return self.stand_in("query")

        code = decorator.__code__
        query.__code__ = query.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno)
        query.__name__ = query.__qualname__ = placeholder("query")
        return query

    def module(self, full: str) -> Any:
        return self.known[full] if full in self.known else importlib.import_module(full)

    def exported(self, name: str) -> list[str]:
        """The names that `from name import *` brings, where the module is installed."""
        if name == _RUNTIME:
            return [name for name in self.names if not name.startswith("_")]
        if not self._installed(name):
            return []
        module = importlib.import_module(name)
        names = list(getattr(module, "__all__", None) or (n for n in vars(module) if not n.startswith("_")))
        return [*names, *_BEFORE_SPARK_4] if f"{name}." == _FUNCTIONS else names

    def _installed(self, name: str) -> bool:
        return name.split(".")[0] in ("pyspark", "delta") and _spec(name)

    def _find(self, name: str, importer: Path, fromlist: Any) -> Any:
        top = name.split(".")[0]
        if name in self.known or name in _REAL_OF_SPARK:
            return self.module(name)
        of_runtime = top == "databricks" and not name.startswith(_LIBRARIES) and not lenient.has_other_module()
        if top in ("pyspark", "delta") or of_runtime:
            return _Module(name, self)
        own = self._own(name, importer, fromlist)
        # As in Python, a folder without __init__.py hides no module of another place.
        if own is not None and not (isinstance(own, _Folder) and top in sys.stdlib_module_names):
            return own
        if name in _NOT_FOLLOWED or top in _NOT_FOLLOWED:
            return _Module(name, self)
        if top in sys.stdlib_module_names or (top in _REAL_LIBRARIES and _spec(name)):
            module = importlib.import_module(name)
            return module if fromlist or "." not in name else importlib.import_module(top)
        return None

    def _own(self, name: str, importer: Path, fromlist: Any) -> Any:
        """A module of the pipeline's own folders."""
        parts = name.split(".")
        folders = [importer.parent, *map(Path, self._sys.path), *list(importer.parents)[1:4]]
        for folder in dict.fromkeys(folder if folder.is_absolute() else importer.parent / folder for folder in folders):
            for base in (folder, folder / "src"):
                if (module := self._in_folder(base, parts, importer, fromlist)) is not None:
                    return module
        return None

    def _in_folder(
        self, folder: Path, parts: list[str], importer: Path | None = None, fromlist: Any = ()
    ) -> ModuleType | None:
        path = folder.joinpath(*parts)
        if (file := path.with_name(path.name + ".py")).is_file() and file != importer:
            return self._loaded(file, ".".join(parts))
        if (file := path / "__init__.py").is_file():
            return self._loaded(file, ".".join(parts))
        # A folder without __init__.py is a package if a source could import from it what it wants.
        wanted = [part for part in fromlist or () if part and part != "*"]
        if wanted:
            has_all = all((path / f"{part}.py").is_file() or (path / part).is_dir() for part in wanted)
        else:
            has_all = any(next(path.glob(f"{below}*.py"), None) for below in ("", "*/", "*/*/"))
        return _Folder(path, parts, self) if has_all else None

    def _loaded(self, file: Path, name: str) -> Any:
        file = file.resolve()
        if file not in self._modules:
            module = new_module(file)
            module.__class__ = _OwnModule
            self._modules[file] = module
            module.__dict__.update(self.names, _lakeflow=(file, self))
            try:
                text = file.read_text(encoding="utf-8-sig")
                code = lenient.code_of(ast.parse(text, str(file)), str(file))
            except (SyntaxError, UnicodeDecodeError, ValueError) as error:
                del self._modules[file]
                line = getattr(error, "lineno", None)
                raise LakeflowError(f"cannot be imported: {error}", file=file, line=line) from error
            exec(code, module.__dict__)
        return self._modules[file]

    def _relative(self, name: str, importer: Path, level: int, fromlist: Any) -> Any:
        folder = importer.parents[level - 1]
        parts = name.split(".") if name else []
        if parts:
            module = self._in_folder(folder, parts)
        elif (folder / "__init__.py").is_file():
            module = self._loaded(folder / "__init__.py", folder.name)
        else:
            module = _Folder(folder, [folder.name], self)
            for part in fromlist or ():
                if part != "*" and self._in_folder(folder, [part]) is None:
                    self._lacks("." * level + part)
                    module.__dict__[part] = _Module(part, self)
        if module is None:
            self._lacks("." * level + name)
            self.open_names = self.open_names or "*" in (fromlist or ())
            return _Module(name or folder.name, self)
        return module


class _OwnModule(ModuleType):
    """A module of the pipeline, whose submodules are imported when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        file, world = self.__dict__["_lakeflow"]
        if file.name == "__init__.py" and not name.startswith("__"):
            module = world._in_folder(file.parent, [name])
            if module is not None:
                return module
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Folder(ModuleType):
    """A folder of sources without `__init__.py`."""

    def __init__(self, path: Path, parts: list[str], world: World):
        super().__init__(".".join(parts))
        self.__dict__["_lakeflow"] = (path, world)

    def __getattr__(self, name: str) -> Any:
        path, world = self.__dict__["_lakeflow"]
        if name.startswith("__"):
            raise AttributeError(name)
        module = world._in_folder(path, [name])
        if module is None:
            # An installed package of the folder's name, which is not here, comes before the folder.
            full = f"{self.__name__}.{name}"
            world._lacks(full)
            return _Module(full, world)
        return module


class _Environment(Mapping):
    """`os.environ`, in which each variable has a value."""

    def __init__(self, defaults: _Defaults):
        self._defaults = defaults

    def __getitem__(self, key: str) -> str:
        return os.environ.get(key) or setting(key)

    def __iter__(self) -> Iterator[str]:
        return iter(os.environ)

    def __len__(self) -> int:
        return len(os.environ)

    def get(self, key: str, default: Any = None) -> Any:
        return self._defaults.of(key, os.environ.get(key, default))

    def __setitem__(self, key: str, value: str) -> None:
        pass


def _exit(*_: Any) -> None:
    raise NotebookExit


def _copy(module: ModuleType, **changed: Any) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__dict__.update({**vars(module), **changed})
    return copy


def _spec(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
