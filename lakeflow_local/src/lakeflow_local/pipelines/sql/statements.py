"""The statements of a pipeline's SQL file, read up to their queries."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sqlglot.tokens import Token, TokenType

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.graph import (
    Action,
    AutoCdc,
    Column,
    Dataset,
    Expectation,
    Flow,
    ForeignKey,
    Kind,
    Place,
    PrimaryKey,
)
from lakeflow_local.pipelines.sql.tokens import (
    Source,
    constant,
    is_name,
    is_string,
    parentheses,
    split_name,
    word,
    written,
)

_CELL = re.compile(r"^--[ \t]*COMMAND[ \t]*-{3,}[ \t]*\r?$", re.MULTILINE)
_MAGIC = re.compile(r"--[ \t]*MAGIC[ \t]*%(\S*)")
_MAGIC_PREFIX = re.compile(r"^--[ \t]*MAGIC[ \t]?(?:%sql\b)?", re.MULTILINE)
_NOT_A_STATEMENT = re.compile(r"\A(?:\s|--(?![ \t]*MAGIC)[^\n]*\n?)*")

_QUERY_STARTS = ("SELECT", "WITH", "FROM", "VALUES", "TABLE", "(")
_DATASET_WORDS = ("TABLE", "VIEW", "FLOW", "STREAMING", "LIVE", "MATERIALIZED", "TEMPORARY", "TEMP", "PRIVATE", "INCREMENTAL")
_COLUMN_CLAUSES = (
    "NOT", "NULL", "COMMENT", "GENERATED", "DEFAULT", "MASK", "CONSTRAINT", "PRIMARY", "FOREIGN", "REFERENCES", ",", ")",
)  # fmt: skip
_AFTER_TYPE = ("", ",", ")", "(", "<", "NOT", "COMMENT", "GENERATED", "DEFAULT", "MASK")
# Informational, like the keys themselves: they change nothing here.
_KEY_OPTIONS = (
    ("NOT", "ENFORCED"), ("NORELY",), ("DEFERRABLE",), ("NOT", "DEFERRABLE"), ("INITIALLY", "DEFERRED"),
    ("INITIALLY", "IMMEDIATE"), ("MATCH", "FULL"), ("ON", "UPDATE", "NO", "ACTION"), ("ON", "DELETE", "NO", "ACTION"),
    ("ENABLE",), ("DISABLE",), ("VALIDATE",), ("NOVALIDATE",),
)  # fmt: skip
_CDC_CLAUSES = (
    ("FROM",), ("KEYS", "("), ("IGNORE", "NULL", "UPDATES"), ("APPLY", "AS"), ("SEQUENCE", "BY"),
    ("SYSTEM", "SEQUENCE", "BY"), ("COLUMNS", "TO", "UPDATE"), ("COLUMNS",), ("STORED", "AS"), ("TRACK", "HISTORY"),
    ("WHERE",),
)  # fmt: skip


@dataclass(frozen=True)
class CreateDataset:
    """A dataset with the flows that its own statement gives it.

    Attributes:
        flows: none for a streaming table that other statements fill.
        without_effect: clauses that are accepted and do nothing here, such as `SCHEDULE`.
    """

    dataset: Dataset
    flows: tuple[Flow, ...] = ()
    without_effect: tuple[str, ...] = ()


@dataclass(frozen=True)
class CreateFlow:
    flow: Flow


@dataclass(frozen=True)
class SetConf:
    """`SET key = value`: in force for the flows after it (their `spark_conf` has it already) and for `${key}`.

    Attributes:
        value: the text as written, quotes included, as Spark takes it.
    """

    key: str
    value: str
    line: int


Statement = CreateDataset | CreateFlow | SetConf


def parse(
    text: str,
    *,
    file: Path,
    configuration: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
    line: int = 1,
) -> list[Statement]:
    """The statements of a SQL file or SQL notebook, in their order.

    `USE CATALOG` and `USE SCHEMA` are applied: the names of tables after them are qualified, views' names are not, and
    flows carry the catalog and schema in which their queries' names are looked up.

    Args:
        text: the file's text.
        file: for places and errors.
        configuration: values of `${key}`; asked by `configuration[key]`, so that a mapping can supply defaults.
        parameters: values of `:name`, as far as `IDENTIFIER(:name)` gives a dataset its name.
        line: the line of `file` at which `text` begins, for SQL inside another file.
    Raises:
        LakeflowError: with file and line, for the first thing that is wrong.
        UnsupportedError: the same, for the first thing that Databricks has and this package has not.
    """
    scope = _Scope(file, configuration, parameters or {})
    for cell in _cells(Source(text.removeprefix("\ufeff"), file, line)):
        for statement in _split(cell):
            scope.read(statement.substitute(scope.value))
    return scope.statements


def _cells(source: Source) -> Iterator[Source]:
    """The SQL cells of a notebook; a file that is none is one cell."""
    start = 0
    for match in [*_CELL.finditer(source.text), None]:
        cell = source.slice(start, match.start() if match else len(source.text))
        start = match.end() if match else start
        magic = _MAGIC.match(cell.text, _NOT_A_STATEMENT.match(cell.text).end())  # type: ignore[union-attr]
        if magic is None or magic[1].startswith("md"):
            yield cell
        elif magic[1] == "sql":
            yield dataclasses.replace(cell, text=_MAGIC_PREFIX.sub("", cell.text))
        else:
            cell.fail(
                f"%{magic[1]} cells are not supported in a pipeline's SQL notebook; move it to a Python source",
                magic.start(),
                UnsupportedError,
            )


def _split(source: Source) -> Iterator[Source]:
    """The statements of a cell, without the semicolons between them and without empty ones."""
    first: Token | None = None
    last: Token | None = None
    for token in source.tokens:
        if token.token_type is not TokenType.SEMICOLON:
            first, last = first or token, token
        elif first and last:
            yield source.slice(first.start, last.end + 1)
            first = None
    if first and last:
        yield source.slice(first.start, last.end + 1)


class _Scope:
    """What the statements of one file hand on to the ones after them."""

    def __init__(self, file: Path, configuration: Mapping[str, str], parameters: Mapping[str, str]):
        self.file = file
        self.configuration = configuration
        self.parameters = parameters
        self.settings: dict[str, str] = {}
        self.catalog: str | None = None
        self.schema: str | None = None
        self.statements: list[Statement] = []

    def value(self, key: str) -> str:
        return self.settings[key] if key in self.settings else self.configuration[key]

    def read(self, source: Source) -> None:
        head = _Head(source, self)
        if head.accept("SET"):
            if setting := head.set_conf():
                self.statements.append(setting)
        elif head.accept("USE"):
            head.use()
        elif head.accept("APPLY", "CHANGES"):
            self.statements.append(CreateFlow(head.auto_cdc()))
        elif head.accept("CREATE"):
            self.statements.append(head.create())
        elif head.at_words("AUTO", "CDC"):
            head.fail("AUTO CDC INTO needs a flow's name: write CREATE FLOW name AS AUTO CDC INTO …")
        else:
            head.fail(
                f"{head.shown()} is not a statement of a pipeline; those are CREATE STREAMING TABLE, "
                "MATERIALIZED VIEW, VIEW or FLOW, APPLY CHANGES, SET and USE"
            )


class _Head:
    """Reads one statement from its first token on."""

    def __init__(self, source: Source, scope: _Scope):
        self.source = source
        self.scope = scope
        self.tokens = source.tokens
        self.pairs = parentheses(source)
        self.index = 0
        self.place = Place(scope.file, source.line(self.tokens[0].start))

    # Tokens

    def word(self, ahead: int = 0) -> str:
        index = self.index + ahead
        return word(self.tokens[index]) if index < len(self.tokens) else ""

    def at_end(self) -> bool:
        return self.index >= len(self.tokens)

    def at_words(self, *words: str) -> bool:
        return all(self.word(ahead) == expected for ahead, expected in enumerate(words))

    def accept(self, *words: str) -> bool:
        if self.at_words(*words):
            self.index += len(words)
            return True
        return False

    def shown(self) -> str:
        return "the end of the statement" if self.at_end() else self.source.text[self.start() : self.end(self.index)][:40]

    def start(self) -> int:
        return len(self.source.text) if self.at_end() else self.tokens[self.index].start

    def end(self, index: int) -> int:
        return self.tokens[index].end + 1

    def fail(self, message: str, kind: type[LakeflowError] = LakeflowError) -> NoReturn:
        self.source.fail(message, self.start(), kind)

    def unsupported(self, what: str) -> NoReturn:
        self.fail(f"{what} is not supported", UnsupportedError)

    def expect(self, *words: str, after: str) -> None:
        for expected in words:
            if not self.accept(expected):
                self.fail(f"expected {' '.join(words)} after {after}; found {self.shown()}")

    def text(self, low: int, high: int) -> str:
        return self.source.text[self.tokens[low].start : self.end(high - 1)] if low < high else ""

    def line_of(self, low: int, high: int) -> str:
        """The text of some tokens without comments and line breaks."""
        pieces = []
        for index in range(low, high):
            if index > low and self.tokens[index].start > self.end(index - 1):
                pieces.append(" ")
            pieces.append(self.text(index, index + 1))
        return "".join(pieces)

    def skip_until(self, stop: Callable[[], bool]) -> str:
        """Skips whole parentheses and brackets until `stop`, and gives the text that was skipped."""
        low, depth = self.index, 0
        while not self.at_end() and (depth or not stop()):
            here = self.word()
            if here == "(":
                self.index = self.pairs[self.index]
            depth += (here in ("<", "[")) - (here in (">", "]") and depth > 0)
            self.index += 1
        return self.text(low, self.index)

    def string(self, after: str) -> str:
        if self.at_end() or not is_string(self.tokens[self.index]):
            self.fail(f"expected a string after {after}; found {self.shown()}")
        value = ""
        while not self.at_end() and is_string(self.tokens[self.index]):
            value += self.tokens[self.index].text
            self.index += 1
        return value

    def identifier(self, after: str) -> str:
        if self.at_end() or not is_name(self.tokens[self.index]):
            self.fail(f"expected a name after {after}; found {self.shown()}")
        self.index += 1
        return self.tokens[self.index - 1].text

    def parts(self, after: str) -> list[str]:
        parts = [self.identifier(after)]
        while self.accept("."):
            parts.append(self.identifier(after="."))
        return parts

    def name(self, after: str) -> str:
        """A table's name, without `LIVE.`, or `IDENTIFIER(…)`."""
        if self.at_words("IDENTIFIER", "("):
            close = self.pairs[self.index + 1]
            parts: Sequence[str] = split_name(str(constant(self.source, self.index + 2, close, self.scope.parameters)))
            if not 1 <= len(parts) <= 3:
                self.fail(f"IDENTIFIER(…) after {after} must give a name of one to three parts")
            self.index = close + 1
            return written(parts)
        live = self.word() == "LIVE" and self.word(1) == "."
        parts = self.parts(after)
        if len(parts) - live > 3:
            self.index -= 1
            self.fail(f"{written(parts)} has more than three parts")
        return written(parts[live:])

    def qualified(self, name: str) -> str:
        """The name of a table with the catalog and schema that USE has put in force."""
        parts, scope = split_name(name), self.scope
        if len(parts) == 1 and scope.catalog and not scope.schema:
            self.fail(f"{name} has no schema: write one, or add USE SCHEMA after USE CATALOG {scope.catalog}")
        if len(parts) == 1 and scope.schema:
            parts = (scope.schema, *parts)
        if len(parts) == 2 and scope.catalog:
            parts = (scope.catalog, *parts)
        return written(parts)

    def group(self, after: str) -> str:
        """The text between parentheses."""
        if self.word() != "(":
            self.fail(f"expected ( after {after}; found {self.shown()}")
        low, close = self.index + 1, self.pairs[self.index]
        if low == close:
            self.fail(f"the parentheses after {after} are empty")
        self.index = close + 1
        return self.text(low, close)

    def items(self, after: str) -> Iterator[None]:
        """Stands at each item of a list in parentheses in turn; a comma after the last one is tolerated."""
        if self.word() != "(":
            self.fail(f"expected ( after {after}; found {self.shown()}")
        self.index += 1
        while not self.accept(")"):
            yield
            if not self.accept(",") and self.word() != ")":
                self.fail(f"expected , or ) in {after} (…); found {self.shown()}")

    def column(self, after: str) -> str:
        """A column as a flow knows it: its bare name, or the text of a nested field."""
        low = self.index
        parts = self.parts(after)
        return parts[0] if len(parts) == 1 else self.text(low, self.index)

    def columns(self, after: str) -> tuple[str, ...]:
        return tuple(self.column(after) for _ in self.items(after))

    def value(self, after: str) -> str:
        """A string, number, boolean or word, as text."""
        if not self.at_end() and is_string(self.tokens[self.index]):
            return self.string(after)
        low = self.index
        self.accept("-")
        if self.at_end() or self.word() in ("", ",", ")", "=", "("):
            self.fail(f"expected a value after {after}; found {self.shown()}")
        self.index += 1
        while self.word() == "." and self.tokens[self.index].start == self.end(self.index - 1):
            self.index += 1
            self.accept(self.word())
        text = self.text(low, self.index)
        return text.lower() if text.lower() in ("true", "false") else text

    def query(self, after: str) -> tuple[str, int]:
        """The rest of the statement, which must be a query, and its line."""
        if self.word() not in _QUERY_STARTS:
            self.fail(f"expected a query after {after}; found {self.shown()}")
        low = self.index
        while not self.at_end():
            if self.word() == "(":
                self.index = self.pairs[self.index]
            elif self.word() == "CREATE" and (self.at_words("CREATE", "OR") or self.word(1) in _DATASET_WORDS):
                self.fail(f"a ; is missing before {self.text(self.index, min(self.index + 4, len(self.tokens)))}")
            elif self.at_words("APPLY", "CHANGES", "INTO"):
                self.fail("a ; is missing before APPLY CHANGES INTO")
            self.index += 1
        return self.text(low, self.index), self.source.line(self.tokens[low].start)

    # SET, USE

    def set_conf(self) -> SetConf | None:
        """What `SET key = value` sets; None for `SET key`, which only shows a value."""
        low = self.index
        while not self.at_end() and self.word() != "=":
            self.index += 1
        key = self.text(low, self.index)
        if not key or any(character.isspace() for character in key):
            self.index = low
            self.fail(f"expected SET key = value; found SET {' '.join(self.source.text[self.start() :].split())[:40]}")
        if self.at_end():
            return None
        value = self.text(self.index + 1, len(self.tokens))
        self.scope.settings[key] = value
        return SetConf(key, value, self.place.line)

    def use(self) -> None:
        if self.accept("CATALOG"):
            self.scope.catalog, self.scope.schema = written([self.catalog_or_schema("USE CATALOG")]), None
        else:
            _ = self.accept("SCHEMA") or self.accept("DATABASE") or self.accept("NAMESPACE")
            parts = [self.catalog_or_schema("USE")]
            while self.accept("."):
                parts.append(self.identifier(after="."))
            if len(parts) > 2:
                self.fail(f"USE takes a schema; {written(parts)} has more than two parts")
            self.scope.schema = parts[-1]
            if len(parts) == 2:
                self.scope.catalog = parts[0]
        if not self.at_end():
            self.fail(f"expected the end of USE; found {self.shown()}")

    def catalog_or_schema(self, after: str) -> str:
        if not self.at_end() and is_string(self.tokens[self.index]):
            return self.string(after)
        if self.at_words("IDENTIFIER", "("):
            return split_name(self.name(after))[0]
        return self.identifier(after)

    # CREATE

    def create(self) -> Statement:
        modifiers: set[str] = set()
        if self.accept("OR"):
            if self.word() not in ("REFRESH", "REPLACE"):
                self.fail(f"expected REFRESH after CREATE OR; found {self.shown()}")
            modifiers.add(self.word())
            self.index += 1
        if self.accept("FLOW"):
            return CreateFlow(self.create_flow())
        while self.word() in ("PRIVATE", "TEMPORARY", "TEMP", "STREAMING", "INCREMENTAL", "LIVE", "GLOBAL"):
            if self.word() == "GLOBAL":
                self.unsupported("CREATE GLOBAL TEMPORARY VIEW")
            modifiers.add({"TEMP": "TEMPORARY", "INCREMENTAL": "STREAMING"}.get(self.word(), self.word()))
            self.index += 1
        if self.accept("TABLE"):
            if "STREAMING" in modifiers:
                kind = Kind.STREAMING_TABLE
            elif modifiers & {"LIVE", "REFRESH"}:
                kind = Kind.MATERIALIZED_VIEW
            else:
                self.index -= 1
                self.fail(
                    "CREATE TABLE is not a statement of a pipeline; write CREATE OR REFRESH STREAMING TABLE or "
                    "CREATE OR REFRESH MATERIALIZED VIEW"
                )
        elif self.accept("MATERIALIZED", "VIEW") or self.accept("MATERIALIZED", "LIVE", "VIEW"):
            kind = Kind.MATERIALIZED_VIEW
        elif self.accept("VIEW"):
            kind = Kind.TEMPORARY_VIEW
        else:
            what = " ".join(["CREATE", *sorted(modifiers - {"REFRESH", "REPLACE"}), self.shown()])
            self.fail(f"{what} is not a statement of a pipeline")
        return self.create_dataset(kind, modifiers)

    def create_dataset(self, kind: Kind, modifiers: set[str]) -> CreateDataset:
        view = kind is Kind.TEMPORARY_VIEW
        what = {
            Kind.STREAMING_TABLE: "STREAMING TABLE",
            Kind.MATERIALIZED_VIEW: "MATERIALIZED VIEW",
            Kind.TEMPORARY_VIEW: "VIEW",
        }[kind]
        self.accept("IF", "NOT", "EXISTS")
        name = self.name(after=what)
        if not view:
            name = self.qualified(name)
        private = bool(modifiers & {"PRIVATE", "TEMPORARY"}) or (view and "LIVE" in modifiers)
        dataset = Dataset(name, kind, self.place, private=private)
        if self.word() == "(" and self.word(1) not in ("SELECT", "WITH", "FROM"):
            dataset = self.table_elements(dataset, what)
        clauses = _Clauses(self, dataset, f"{what} {name}")
        flow = clauses.read()
        return CreateDataset(clauses.dataset, (flow,) if flow else (), tuple(clauses.without_effect))

    def flow(self, name: str, target: str, **changes: Any) -> Flow:
        return Flow(
            name,
            target,
            self.place,
            spark_conf=dict(self.scope.settings),
            catalog=self.scope.catalog,
            schema=self.scope.schema,
            **changes,
        )

    def query_flow(self, name: str, target: str, after: str, **changes: Any) -> Flow:
        query, line = self.query(after)
        return self.flow(name, target, query=query, query_line=line, **changes)

    # The column list

    def table_elements(self, dataset: Dataset, what: str) -> Dataset:
        columns: list[Column] = []
        expectations: dict[str, Expectation] = {}
        primary_keys: list[PrimaryKey] = []
        foreign_keys: list[ForeignKey] = []
        for _ in self.items(what):
            # CONSTRAINT may also be a column's name.
            named = self.word() == "CONSTRAINT" and self.word(2) not in _AFTER_TYPE
            if named:
                self.index += 1
                constraint: str | None = self.identifier(after="CONSTRAINT")
            else:
                constraint = None
            if named and self.word() == "EXPECT":
                expectation = self.expectation(str(constraint))
                if expectation.name in expectations:
                    self.fail(f"the expectation {expectation.name} is declared twice")
                expectations[expectation.name] = expectation
            elif self.at_words("PRIMARY", "KEY", "(") or (named and self.at_words("PRIMARY", "KEY")):
                primary_keys.append(self.primary_key(constraint))
            elif self.at_words("FOREIGN", "KEY", "(") or (named and self.at_words("FOREIGN", "KEY")):
                foreign_keys.append(self.foreign_key(constraint))
            elif named:
                self.fail(
                    f"expected EXPECT after CONSTRAINT {constraint}; found {self.shown()} "
                    "(only EXPECT, PRIMARY KEY and FOREIGN KEY constraints exist in pipelines)"
                )
            elif self.at_words("EXPECT", "("):
                self.fail("expected CONSTRAINT name before EXPECT")
            else:
                column = self.column_definition(primary_keys, foreign_keys)
                if any(column.name.lower() == other.name.lower() for other in columns):
                    self.fail(f"the column {column.name} is declared twice")
                columns.append(column)
        if len(primary_keys) > 1:
            self.fail(f"{dataset.name} has two primary keys")
        return dataclasses.replace(
            dataset,
            columns=tuple(columns),
            expectations=tuple(expectations.values()),
            primary_key=primary_keys[0] if primary_keys else None,
            foreign_keys=tuple(foreign_keys),
        )

    def expectation(self, name: str) -> Expectation:
        self.expect("EXPECT", after=f"CONSTRAINT {name}")
        predicate = self.group(after="EXPECT")
        action = Action.WARN
        if self.accept("ON", "VIOLATION"):
            if self.accept("DROP", "ROW"):
                action = Action.DROP
            elif self.accept("FAIL", "UPDATE"):
                action = Action.FAIL
            else:
                self.fail(f"expected DROP ROW or FAIL UPDATE after ON VIOLATION; found {self.shown()}")
        return Expectation(name, predicate, action)

    def key_options(self) -> bool:
        """Reads the options of a key; whether RELY is among them."""
        rely = False
        while True:
            if self.accept("RELY"):
                rely = True
            elif not any(self.accept(*option) for option in _KEY_OPTIONS):
                return rely

    def primary_key(self, name: str | None) -> PrimaryKey:
        self.expect("PRIMARY", "KEY", after="the columns")
        columns: list[str] = []
        for _ in self.items("PRIMARY KEY"):
            columns.append(self.identifier(after="PRIMARY KEY ("))
            self.accept("TIMESERIES")
        return PrimaryKey(tuple(columns), name, self.key_options())

    def foreign_key(self, name: str | None) -> ForeignKey:
        self.expect("FOREIGN", "KEY", after="the columns")
        return self.references(name, self.columns("FOREIGN KEY"))

    def references(self, name: str | None, columns: tuple[str, ...]) -> ForeignKey:
        self.expect("REFERENCES", after=f"FOREIGN KEY ({', '.join(columns)})")
        target = self.name(after="REFERENCES")
        referenced = self.columns("REFERENCES") if self.word() == "(" else ()
        return ForeignKey(columns, target, referenced, name, self.key_options())

    def column_definition(self, primary_keys: list[PrimaryKey], foreign_keys: list[ForeignKey]) -> Column:
        name = self.identifier(after="( or ,")
        low = self.index
        self.skip_until(lambda: self.word() in _COLUMN_CLAUSES)
        column = Column(name, self.line_of(low, self.index) or None)
        while self.word() not in (",", ")"):
            constraint = None
            if self.accept("CONSTRAINT"):
                constraint = self.identifier(after="CONSTRAINT")
                if self.word() == "EXPECT":
                    self.fail(f"a , is missing before CONSTRAINT {constraint}")
            if self.accept("NOT", "NULL"):
                column = dataclasses.replace(column, not_null=True)
            elif self.accept("NULL"):
                column = dataclasses.replace(column, not_null=False)
            elif self.accept("COMMENT"):
                column = dataclasses.replace(column, comment=self.string(after="COMMENT"))
            elif self.accept("GENERATED"):
                column = dataclasses.replace(column, generated=self.generated())
            elif self.accept("DEFAULT"):
                default = self.skip_until(lambda: self.word() in _COLUMN_CLAUSES and self.word() != "NULL")
                column = dataclasses.replace(column, default=default or self.fail("expected a value after DEFAULT"))
            elif self.accept("MASK"):
                low = self.index
                self.parts(after="MASK")
                if self.accept("USING", "COLUMNS"):
                    self.group(after="USING COLUMNS")
                column = dataclasses.replace(column, mask=self.text(low, self.index))
            elif self.accept("PRIMARY", "KEY"):
                primary_keys.append(PrimaryKey((name,), constraint, self.key_options()))
            elif self.at_words("REFERENCES") or self.accept("FOREIGN", "KEY"):
                foreign_keys.append(self.references(constraint, (name,)))
            else:
                self.fail(
                    f"expected NOT NULL, COMMENT, GENERATED, DEFAULT, MASK, a key, a comma or ) after the column {name}; "
                    f"found {self.shown()}"
                )
        return column

    def generated(self) -> str:
        """The expression of GENERATED ALWAYS AS (…); for an identity column the text from `ALWAYS` or `BY DEFAULT` on."""
        low = self.index
        if not self.accept("BY", "DEFAULT"):
            self.expect("ALWAYS", after="GENERATED")
        self.expect("AS", after="GENERATED ALWAYS")
        if self.accept("IDENTITY"):
            if self.word() == "(":
                self.group(after="IDENTITY")
            return self.text(low, self.index)
        return self.group(after="GENERATED ALWAYS AS")

    # Flows

    def create_flow(self) -> Flow:
        name = self.name(after="FLOW")
        comment = self.string(after="COMMENT") if self.accept("COMMENT") else None
        self.expect("AS", after=f"CREATE FLOW {name}")
        if self.accept("AUTO", "CDC") or self.accept("APPLY", "CHANGES"):
            return self.auto_cdc(name=name, comment=comment)
        if not self.accept("INSERT"):
            self.fail(f"expected INSERT INTO or AUTO CDC INTO after CREATE FLOW {name} AS; found {self.shown()}")
        once = self.accept("ONCE")
        self.expect("INTO", after="INSERT")
        # ONCE is also a name: INSERT INTO once BY NAME …
        if self.word() == "ONCE" and not self.word(1) == "BY" and self.word(1) not in _QUERY_STARTS:
            once = self.accept("ONCE")
        target = self.qualified(self.name(after="INTO"))
        return self.insert(name, target, once, comment)

    def insert(self, name: str, target: str, once: bool, comment: str | None = None) -> Flow:
        self.accept("BY", "NAME")
        if self.word() == "REPLACE":
            self.unsupported(f"REPLACE {self.word(1)}")
        return self.query_flow(name, target, "INSERT INTO … BY NAME", once=once, comment=comment)

    def auto_cdc(self, *, name: str | None = None, target: str | None = None, comment: str | None = None) -> Flow:
        """Reads what follows AUTO CDC or APPLY CHANGES; `target` where it is the table being created."""
        once = self.accept("ONCE")
        if target is None:
            self.expect("INTO", after="AUTO CDC")
            if self.word() == "ONCE" and self.word(1) != "FROM":
                once = self.accept("ONCE")
            target = self.qualified(self.name(after="INTO"))
        cdc = _ChangeFeed(self, target)
        cdc.read()
        return self.flow(
            name or target, target, cdc=cdc.result(), query_line=cdc.source_line, once=once, comment=comment
        )


class _Clauses:
    """The clauses between a dataset's name and its query, in any order."""

    def __init__(self, head: _Head, dataset: Dataset, what: str):
        self.head = head
        self.dataset = dataset
        self.what = what
        self.seen: set[str] = set()
        self.without_effect: list[str] = []

    def put(self, **changes: Any) -> None:
        self.dataset = dataclasses.replace(self.dataset, **changes)

    def once(self, clause: str) -> None:
        if clause in self.seen:
            self.head.fail(f"{clause} is given twice for {self.what}")
        self.seen.add(clause)

    def read(self) -> Flow | None:
        head, name = self.head, self.dataset.name
        while not head.at_end():
            if head.accept("AS"):
                return head.query_flow(name, name, "AS")
            if head.at_words("WITH", "ROW", "FILTER") or head.at_words("ROW", "FILTER"):
                self.row_filter()
            elif head.accept("WITH", "SCHEMA"):
                self.ignore("WITH SCHEMA", "BINDING", "COMPENSATION", "EVOLUTION", "TYPE")
            elif head.at_words("WITH", "METRICS"):
                head.unsupported("WITH METRICS")
            elif head.word() in _QUERY_STARTS:
                return head.query_flow(name, name, self.what)
            elif head.accept("FLOW"):
                return self.flow()
            else:
                self.clause()
        if self.dataset.kind is not Kind.STREAMING_TABLE:
            head.fail(f"expected AS and a query after {self.what}")
        return None

    def clause(self) -> None:
        head = self.head
        if head.accept("COMMENT"):
            self.once("COMMENT")
            self.put(comment=head.string(after="COMMENT"))
        elif head.accept("TBLPROPERTIES"):
            self.put(properties={**self.dataset.properties, **dict(self.properties())})
        elif head.accept("PARTITIONED", "BY"):
            self.once("PARTITIONED BY")
            self.put(partition_cols=head.columns("PARTITIONED BY"))
        elif head.accept("CLUSTER", "BY"):
            self.once("CLUSTER BY")
            if head.accept("AUTO"):
                self.put(cluster_by_auto=True)
            elif not head.accept("NONE"):
                self.put(cluster_by=head.columns("CLUSTER BY"))
        elif head.accept("LOCATION"):
            self.once("LOCATION")
            self.put(path=head.string(after="LOCATION"))
        elif head.accept("USING"):
            if not head.accept("DELTA"):
                head.unsupported(f"USING {head.shown()}")
        elif head.accept("REFRESH", "POLICY"):
            if not head.accept("INCREMENTAL", "STRICT"):
                self.ignore("REFRESH POLICY", "AUTO", "INCREMENTAL", "FULL")
            else:
                self.without_effect.append("REFRESH POLICY")
        elif head.at_words("SCHEDULE") or head.at_words("TRIGGER", "ON", "UPDATE"):
            self.schedule()
        else:
            head.fail(f"expected a clause of {self.what} or AS and its query; found {head.shown()}")

    def ignore(self, clause: str, *words: str) -> None:
        low = self.head.index
        while self.head.word() in words:
            self.head.index += 1
        if self.head.index == low:
            self.head.fail(f"expected {', '.join(words)} after {clause}; found {self.head.shown()}")
        self.without_effect.append(clause)

    def schedule(self) -> None:
        head = self.head
        if head.accept("TRIGGER", "ON", "UPDATE"):
            self.without_effect.append("TRIGGER ON UPDATE")
            if head.accept("AT", "MOST", "EVERY"):
                self.interval()
            return
        self.without_effect.append("SCHEDULE")
        head.accept("SCHEDULE")
        head.accept("REFRESH")
        if head.accept("EVERY"):
            self.interval()
        else:
            head.expect("CRON", after="SCHEDULE")
            head.string(after="CRON")
            if head.accept("AT", "TIME", "ZONE"):
                head.value(after="AT TIME ZONE")

    def interval(self) -> None:
        self.head.accept("INTERVAL")
        self.head.value(after="EVERY")
        self.head.identifier(after="EVERY")

    def row_filter(self) -> None:
        head = self.head
        self.once("WITH ROW FILTER")
        head.accept("WITH")
        head.index += 2
        low = head.index
        head.parts(after="ROW FILTER")
        head.expect("ON", after="ROW FILTER")
        if head.word() == "(":
            head.index = head.pairs[head.index] + 1
        else:
            head.fail(f"expected ( after ON; found {head.shown()}")
        self.put(row_filter=head.text(low, head.index))

    def properties(self) -> Iterator[tuple[str, str]]:
        head = self.head
        for _ in head.items("TBLPROPERTIES"):
            if is_string(head.tokens[head.index]):
                key = head.tokens[head.index].text
                head.index += 1
            else:
                key = ".".join(head.parts(after="TBLPROPERTIES ("))
            head.accept("=")
            yield key, head.value(after=key)

    def flow(self) -> Flow:
        head, name = self.head, self.dataset.name
        if self.dataset.kind is not Kind.STREAMING_TABLE:
            head.fail(f"FLOW belongs to a STREAMING TABLE; {name} is none")
        if head.accept("AUTO", "CDC") or head.accept("APPLY", "CHANGES"):
            return head.auto_cdc(target=name)
        if head.word() == "REPLACE":
            head.unsupported(f"FLOW REPLACE {head.word(1)}")
        head.expect("INSERT", after="FLOW")
        return head.insert(name, name, head.accept("ONCE"))


class _ChangeFeed:
    """The clauses of AUTO CDC, in any order."""

    def __init__(self, head: _Head, target: str):
        self.head = head
        self.target = target
        self.found: dict[str, Any] = {}
        self.where: str | None = None
        self.source_line: int | None = None

    def put(self, clause: str, **values: Any) -> None:
        if any(key in self.found for key in values):
            self.head.fail(f"{clause} is given twice for {self.target}")
        self.found.update(values)

    def at_clause(self) -> bool:
        return any(self.head.at_words(*clause) for clause in _CDC_CLAUSES)

    def expression(self, after: str) -> str:
        """The text up to the next clause; its first word is never one, so that a column may have a clause's name."""
        low = self.head.index
        first = [True]

        def stop() -> bool:
            return not first.pop() and self.at_clause() if first else self.at_clause()

        text = self.head.skip_until(stop)
        if not text:
            self.head.index = low
            self.head.fail(f"expected an expression after {after}; found {self.head.shown()}")
        return text

    def read(self) -> None:
        head = self.head
        while not head.at_end():
            if head.accept("FROM"):
                if head.word() == "SNAPSHOT" and head.word(1) not in ("KEYS", ".", ""):
                    head.unsupported("AUTO CDC FROM SNAPSHOT in SQL")
                self.source()
            elif head.accept("KEYS"):
                self.put("KEYS", keys=head.columns("KEYS"))
            elif head.accept("IGNORE", "NULL", "UPDATES"):
                self.ignore_null_updates()
            elif head.accept("APPLY", "AS"):
                what = head.word()
                if what not in ("DELETE", "TRUNCATE"):
                    head.fail(f"expected DELETE or TRUNCATE after APPLY AS; found {head.shown()}")
                head.index += 1
                head.expect("WHEN", after=f"APPLY AS {what}")
                clause = f"APPLY AS {what} WHEN"
                key = "apply_as_deletes" if what == "DELETE" else "apply_as_truncates"
                self.put(clause, **{key: self.expression(clause)})
            elif head.accept("SEQUENCE", "BY"):
                self.put("SEQUENCE BY", sequence_by=self.expression("SEQUENCE BY"))
            elif head.at_words("SYSTEM", "SEQUENCE", "BY"):
                head.unsupported("SYSTEM SEQUENCE BY (bitemporal AUTO CDC)")
            elif head.at_words("COLUMNS", "TO", "UPDATE"):
                head.unsupported("COLUMNS TO UPDATE")
            elif head.accept("COLUMNS"):
                columns, excepted = self.selection("COLUMNS")
                self.put("COLUMNS", columns=columns, except_columns=excepted)
            elif head.accept("STORED", "AS"):
                self.stored_as()
            elif head.accept("TRACK", "HISTORY"):
                head.expect("ON", after="TRACK HISTORY")
                columns, excepted = self.selection("TRACK HISTORY ON")
                self.put("TRACK HISTORY ON", track_history=columns, track_history_except=excepted)
            elif head.accept("WHERE"):
                if self.where:
                    head.fail(f"WHERE is given twice for {self.target}")
                self.where = self.expression("WHERE")
            else:
                head.fail(f"expected a clause of AUTO CDC INTO {self.target}; found {head.shown()}")

    def source(self) -> None:
        head = self.head
        low, line = head.index, head.source.line(head.start())
        if head.word() == "(" and head.word(1) in ("SELECT", "WITH", "FROM", "VALUES", "("):
            close = head.pairs[head.index]
            head.index = close + 1
            if head.at_end() or self.at_clause():
                line = head.source.line(head.tokens[low + 1].start)
                self.source_line = line
                self.put("FROM", source=None, source_query=head.text(low + 1, close))
                return
        else:
            wrapped = head.accept("STREAM", "(")
            streaming = wrapped or (head.word() == "STREAM" and not self.source_is_called_stream())
            head.index += streaming and not wrapped
            if not head.at_end() and is_name(head.tokens[head.index]) and head.word(1) != "(":
                name = head.name(after="FROM")
                if (not wrapped or head.accept(")")) and (head.at_end() or self.at_clause()):
                    self.source_line = line
                    self.put("FROM", source=name, source_query=None)
                    return
        head.index = low
        self.source_line = line
        self.put("FROM", source=None, source_query=f"SELECT * FROM {self.expression('FROM')}")

    def source_is_called_stream(self) -> bool:
        self.head.index += 1
        called = self.head.at_end() or self.head.word() == "." or self.at_clause()
        self.head.index -= 1
        return called

    def selection(self, after: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        """`(a, b)`, `a, b`, `*` or `* EXCEPT (a, b)` as the columns, None for all, and the columns left out."""
        head = self.head
        if not head.accept("*"):
            return self.column_list(after), ()
        return None, self.column_list(f"{after} * EXCEPT") if head.accept("EXCEPT") else ()

    def column_list(self, after: str) -> tuple[str, ...]:
        head = self.head
        if head.word() == "(":
            return head.columns(after)
        columns = [head.column(after)]
        while head.accept(","):
            columns.append(head.column(after))
        return tuple(columns)

    def ignore_null_updates(self) -> None:
        if not self.head.accept("ON"):
            self.put("IGNORE NULL UPDATES", ignore_null_updates=True)
            return
        columns, excepted = self.selection("IGNORE NULL UPDATES ON")
        if columns is None and not excepted:
            self.put("IGNORE NULL UPDATES", ignore_null_updates=True)
        else:
            self.put("IGNORE NULL UPDATES", ignore_null_columns=columns, ignore_null_except=excepted)

    def stored_as(self) -> None:
        head = self.head
        if head.word() == "BITEMPORAL" or head.at_words("SCD", "TYPE", "BITEMPORAL"):
            head.unsupported("STORED AS BITEMPORAL")
        head.expect("SCD", "TYPE", after="STORED AS")
        number = "" if head.at_end() else head.tokens[head.index].text
        if number not in ("1", "2"):
            head.fail(f"expected 1 or 2 after SCD TYPE; found {head.shown()}")
        head.index += 1
        self.put("STORED AS", scd_type=int(number))

    def result(self) -> AutoCdc:
        for key, clause in (("sequence_by", "SEQUENCE BY"), ("keys", "KEYS (…)"), ("source_query", "FROM")):
            if key not in self.found:
                self.head.fail(f"AUTO CDC INTO {self.target} has no {clause}")
        if self.where:
            source, query = self.found["source"], self.found["source_query"]
            relation = f"STREAM {source}" if source else f"({query})"
            self.found |= {"source": None, "source_query": f"SELECT * FROM {relation} WHERE {self.where}"}
        return AutoCdc(**self.found)
