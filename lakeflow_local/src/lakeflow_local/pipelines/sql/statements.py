"""The statements of a pipeline's SQL file, read up to their queries."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sqlglot.tokens import Token, TokenType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines.graph import AutoCdc, Dataset, Flow, Kind, Place, Snapshot
from lakeflow_local.pipelines.sql.change_feed import ChangeFeed
from lakeflow_local.pipelines.sql.clauses import Clauses
from lakeflow_local.pipelines.sql.columns import read_columns
from lakeflow_local.pipelines.sql.cursor import QUERY_STARTS, Cursor, NotOfAPipelineError
from lakeflow_local.pipelines.sql.tokens import Source, is_string, split_name, written

_CELL = re.compile(r"^--[ \t]*COMMAND[ \t]*-{3,}[ \t]*\r?$", re.MULTILINE)
_MAGIC = re.compile(r"--[ \t]*MAGIC[ \t]*%sql\b")
_MAGIC_PREFIX = re.compile(r"^--[ \t]*MAGIC[ \t]?(?:%sql\b)?", re.MULTILINE)
# A magic command as a cell shows it, without the comment that it is in a file.
_BARE_MAGIC = re.compile(r"%([a-z][\w-]*)")
_NOT_A_STATEMENT = re.compile(r"\A(?:\s|--(?![ \t]*MAGIC)[^\n]*\n?)*")


# What Databricks SQL has besides, a script's pieces between its semicolons too.
_OTHER_STATEMENTS = frozenset({
    "ADD", "ALTER", "ANALYZE", "BEGIN", "CACHE", "CALL", "CASE", "CLEAR", "COMMENT", "CONVERT", "COPY", "DECLARE",
    "DELETE", "DENY", "DESC", "DESCRIBE", "DROP", "ELSE", "ELSEIF", "END", "EXECUTE", "EXPLAIN", "FOR", "FROM", "FSCK",
    "GET", "GRANT", "IF", "INSERT", "ITERATE", "LEAVE", "LIST", "LOAD", "LOOP", "MERGE", "MSCK", "OPTIMIZE", "PUT",
    "REFRESH", "REMOVE", "REORG", "REPAIR", "REPEAT", "RESET", "RESTORE", "REVOKE", "SELECT", "SHOW", "SIGNAL", "SYNC",
    "TABLE", "TRUNCATE", "UNCACHE", "UNDROP", "UNSET", "UPDATE", "VACUUM", "VALUES", "WHEN", "WHILE", "WITH", "(",
})  # fmt: skip
_OTHER_OBJECTS = frozenset({
    "AGGREGATE", "BLOOMFILTER", "CATALOG", "CONNECTION", "DATABASE", "EXTERNAL", "FOREIGN", "FUNCTION", "GROUP",
    "INDEX", "POLICY", "PROCEDURE", "PROVIDER", "RECIPIENT", "ROLE", "SCHEMA", "SERVICE", "SHARE", "STORAGE", "TABLE",
    "USER", "VOLUME", "WIDGET",
})  # fmt: skip


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
    scope: Scope | None = None,
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
        scope: what USE and SET have put in force before, for SQL in several pieces of a file.
    Raises:
        LakeflowError: with file and line, for the first thing that is wrong.
        UnsupportedError: the same, for the first thing that Databricks has and this package has not.
    """
    scope = scope or Scope(file, configuration, {} if parameters is None else parameters)
    before = len(scope.statements)
    for cell in _cells(Source(text.removeprefix("\ufeff"), file, line)):
        for statement in _split(cell):
            scope.read(statement.substitute(scope.value))
    return scope.statements[before:]


_DEFINES = re.compile(
    r"^\s*(?:CREATE\s+(?:OR\s+(?:REFRESH|REPLACE)\s+)?(?:(?:PRIVATE|TEMPORARY|TEMP|INCREMENTAL)\s+)*"
    r"(?:STREAMING|LIVE|MATERIALIZED|FLOW)\b|APPLY\s+CHANGES\b)",
    re.IGNORECASE | re.MULTILINE,
)


_SETS_SCOPE = re.compile(r"\A\s*(?:(?:--[^\n]*\n|(?:USE|SET)\b[^;]*(?:;|\Z))\s*)+\Z", re.IGNORECASE)


def sets_scope(text: str) -> bool:
    """Whether the text is nothing but USE and SET, which hold for what follows."""
    return bool(_SETS_SCOPE.match(text))


def defines(text: str) -> bool:
    """Whether the text of a notebook's SQL cell defines a dataset or a flow, rather than looking at data."""
    return bool(_DEFINES.search(text))


def _cells(source: Source) -> Iterator[Source]:
    """The SQL cells of a notebook; a file that is none is one cell."""
    start = 0
    for match in [*_CELL.finditer(source.text), None]:
        cell = source.slice(start, match.start() if match else len(source.text))
        start = match.end() if match else start
        begin = _NOT_A_STATEMENT.match(cell.text).end()
        if bare := _BARE_MAGIC.match(cell.text, begin):
            if bare[1] == "sql":
                yield dataclasses.replace(cell, text=cell.text[:begin] + cell.text[bare.end() :])
            continue
        # Cells of other languages are nothing but comments here.
        magic = _MAGIC.match(cell.text, begin)
        yield dataclasses.replace(cell, text=_MAGIC_PREFIX.sub("", cell.text)) if magic else cell


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


class Scope:
    """What the statements of one file hand on to the ones after them.

    Attributes:
        pass_over: told of statements that a pipeline has no use for, instead of their being refused.
    """

    def __init__(self, file: Path, configuration: Mapping[str, str], parameters: Mapping[str, str]):
        self.file = file
        self.configuration = configuration
        self.parameters = parameters
        self.settings: dict[str, str] = {}
        self.catalog: str | None = None
        self.schema: str | None = None
        self.statements: list[Statement] = []
        self.pass_over: Callable[[NotOfAPipelineError], None] | None = None

    def value(self, key: str) -> str:
        return self.settings[key] if key in self.settings else self.configuration[key]

    def read(self, source: Source) -> None:
        try:
            self._read(source)
        except NotOfAPipelineError as error:
            if self.pass_over is None:
                raise
            self.pass_over(error)

    def _read(self, source: Source) -> None:
        statement = _Statement(source, self)
        if statement.accept("SET"):
            if setting := statement.set_conf():
                self.statements.append(setting)
        elif statement.accept("USE"):
            statement.use()
        elif statement.accept("APPLY", "CHANGES"):
            self.statements.append(CreateFlow(statement.auto_cdc()))
        elif statement.accept("CREATE"):
            self.statements.append(statement.create())
        elif statement.at_words("{", "{") or statement.at_words("{", "%"):
            statement.fail("a template is not filled in: give the SQL that it makes")
        elif statement.at_words("AUTO", "CDC"):
            statement.fail("AUTO CDC INTO needs a flow's name: write CREATE FLOW name AS AUTO CDC INTO …")
        else:
            statement.not_of_a_pipeline(statement.shown(), exists=statement.word() in _OTHER_STATEMENTS)


class _Statement(Cursor):
    """Reads one statement."""

    def __init__(self, source: Source, scope: Scope):
        super().__init__(source, scope.parameters)
        self.scope = scope
        self.place = Place(scope.file, source.line(self.tokens[0].start))

    def qualified(self, name: str) -> str:
        """The name of a table with the catalog and schema that USE has put in force."""
        parts, scope = split_name(name), self.scope
        if len(parts) == 1 and scope.schema:
            parts = (scope.schema, *parts)
        if len(parts) == 2 and scope.catalog:
            parts = (scope.catalog, *parts)
        return written(parts)

    def not_of_a_pipeline(self, what: str, *, exists: bool = True) -> NoReturn:
        self.fail(
            f"{what} is not a statement of a pipeline; those are CREATE STREAMING TABLE, MATERIALIZED VIEW, VIEW or "
            "FLOW, APPLY CHANGES, SET and USE",
            NotOfAPipelineError if exists else LakeflowError,
        )

    def set_conf(self) -> SetConf | None:
        """What `SET key = value` sets; None for `SET key`, which only shows a value."""
        low = self.index
        if self.word() in ("VARIABLE", "VAR") or self.at_words("TIME", "ZONE"):
            self.not_of_a_pipeline(f"SET {self.word()}")
        while not self.at_end() and self.word() != "=":
            self.index += 1
        key = self.text(low, self.index)
        if not key or any(character.isspace() for character in key):
            self.index = low
            self.fail(f"expected SET key = value; found SET {' '.join(key.split()[:3])}")
        if self.at_end():
            return None
        value = self.text(self.index + 1, len(self.tokens))
        self.scope.settings[key] = value
        return SetConf(key, value, self.place.line)

    def use(self) -> None:
        catalog = self.accept("CATALOG")
        if not catalog:
            _ = self.accept("SCHEMA") or self.accept("DATABASE") or self.accept("NAMESPACE")
        quoted = not self.at_end() and is_string(self.tokens[self.index])
        parts = (self.string(after="USE"),) if quoted else split_name(self.name(after="USE"))
        if len(parts) > (1 if catalog else 2):
            self.fail(f"{written(parts)} has too many parts for USE {'CATALOG' if catalog else 'SCHEMA'}")
        if not self.at_end():
            self.fail(f"expected the end of USE; found {self.shown()}")
        if catalog:
            # As in Spark: another catalog begins in its schema `default`.
            self.scope.catalog, self.scope.schema = parts[0], "default"
        else:
            self.scope.catalog, self.scope.schema = parts[0] if len(parts) == 2 else self.scope.catalog, parts[-1]

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
        managed = None
        if self.accept("TABLE"):
            if "STREAMING" in modifiers:
                kind = Kind.STREAMING_TABLE
            elif modifiers & {"LIVE", "REFRESH"}:
                kind = Kind.MATERIALIZED_VIEW
            elif modifiers or self.word() == "IF":
                self.not_a_table(self.index - 1)
            else:
                kind = Kind.STREAMING_TABLE
                managed = self.index - 1
        elif self.accept("MATERIALIZED", "VIEW") or self.accept("MATERIALIZED", "LIVE", "VIEW"):
            kind = Kind.MATERIALIZED_VIEW
        elif self.accept("VIEW"):
            kind = Kind.TEMPORARY_VIEW
        else:
            refreshed = ["OR REFRESH"] if "REFRESH" in modifiers else []
            what = " ".join(["CREATE", *refreshed, *sorted(modifiers - {"REFRESH", "REPLACE"}), self.shown()])
            self.not_of_a_pipeline(
                what, exists=self.word() in _OTHER_OBJECTS and not modifiers - {"REPLACE", "TEMPORARY"}
            )
        return self.create_dataset(kind, modifiers, managed)

    def not_a_table(self, index: int) -> NoReturn:
        self.index = index
        self.fail(
            "CREATE TABLE is not a statement of a pipeline; write CREATE OR REFRESH STREAMING TABLE or "
            "CREATE OR REFRESH MATERIALIZED VIEW",
            NotOfAPipelineError,
        )

    def create_dataset(self, kind: Kind, modifiers: set[str], managed: int | None) -> CreateDataset:
        """Reads on after the kind; `managed` is where CREATE TABLE says TABLE: such a table is written by flows."""
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
            dataset = read_columns(self, dataset, what)
        clauses = Clauses(self, dataset, f"{what} {name}")
        clauses.read()
        flows: tuple[Flow, ...] = ()
        if managed is not None and self.word() in ("AS", *QUERY_STARTS):
            self.not_a_table(managed)
        replaced = kind is Kind.MATERIALIZED_VIEW and self.word(1) == "REPLACE"
        if (replaced or kind is Kind.STREAMING_TABLE) and self.accept("FLOW"):
            flows = (self.flow_clause(name),)
        elif kind is not Kind.STREAMING_TABLE or not self.at_end():
            if not self.accept("AS") and self.word() not in QUERY_STARTS:
                self.fail(f"expected AS and a query after {what} {name}; found {self.shown()}")
            flows = (self.query_flow(name, name, f"{what} {name} AS"),)
        return CreateDataset(clauses.dataset, flows, tuple(clauses.without_effect))

    def flow_clause(self, target: str) -> Flow:
        if self.accept("AUTO", "CDC") or self.accept("APPLY", "CHANGES"):
            return self.auto_cdc(target=target)
        if self.word() != "REPLACE":
            self.expect("INSERT", after="FLOW")
        return self.insert(target, target, self.accept("ONCE"))

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
        if self.word() == "ONCE" and self.word(1) != "BY" and self.word(1) not in QUERY_STARTS:
            once = self.accept("ONCE")
        target = self.qualified(self.name(after="INTO"))
        return self.insert(name, target, once, comment)

    def insert(self, name: str, target: str, once: bool, comment: str | None = None) -> Flow:
        refused = self.replaced(target)
        return self.query_flow(name, target, "INSERT INTO … BY NAME", once=once, comment=comment, refused=refused)

    def replaced(self, target: str) -> str | None:
        """Reads BY NAME, and which rows of the table are replaced, in either order; what of it an update refuses."""
        refused = None
        while True:
            if self.accept("REPLACE", "WHERE"):
                refused = "REPLACE WHERE"
                self.skip_until(lambda: self.at_words("BY", "NAME") or self.word() in QUERY_STARTS[:-1])
            elif self.accept("REPLACE", "USING"):
                refused = "REPLACE USING"
                self.columns("REPLACE USING")
                if self.accept("SEQUENCE", "BY"):
                    self.column(after="SEQUENCE BY")
            elif self.word() == "REPLACE":
                self.fail(f"expected REPLACE WHERE or REPLACE USING for {target}; found {self.shown()}")
            elif not self.accept("BY", "NAME"):
                return refused

    def auto_cdc(self, *, name: str | None = None, target: str | None = None, comment: str | None = None) -> Flow:
        """Reads what follows AUTO CDC or APPLY CHANGES; `target` where it is the table being created."""
        once = self.accept("ONCE")
        if target is None:
            self.expect("INTO", after="AUTO CDC")
            if self.word() == "ONCE" and self.word(1) != "FROM":
                once = self.accept("ONCE")
            target = self.qualified(self.name(after="INTO"))
        cdc = ChangeFeed(self, target)
        cdc.read()
        result = cdc.result()
        return self.flow(
            name or target,
            target,
            cdc=result if isinstance(result, AutoCdc) else None,
            snapshot=result if isinstance(result, Snapshot) else None,
            query_line=cdc.source_line,
            once=once,
            comment=comment,
        )
