"""What a query reads, and queries with Databricks' table functions replaced. Spark parses queries; this finds names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sqlglot.tokens import Token, TokenType

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

TABLE_FUNCTIONS = frozenset({
    "read_files", "cloud_files", "event_log", "read_kafka", "read_kinesis", "read_pubsub", "read_pulsar",
})  # fmt: skip

_QUERY_STARTS = frozenset({"SELECT", "WITH", "FROM", "VALUES"})
_SET_OPERATORS = frozenset({"UNION", "INTERSECT", "EXCEPT", "MINUS"})
_ENDS_OF_FROM = _SET_OPERATORS | frozenset({
    "SELECT", "WHERE", "GROUP", "HAVING", "ORDER", "SORT", "CLUSTER", "DISTRIBUTE", "LIMIT", "OFFSET", "WINDOW",
    "QUALIFY", "LATERAL", "|>",
})  # fmt: skip
# After STREAM these say that it is itself a table's name: FROM stream JOIN …
_AFTER_TABLE = _ENDS_OF_FROM | frozenset({
    "AS", "ON", "USING", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "SEMI", "ANTI", "PIVOT",
    "UNPIVOT", "TABLESAMPLE", "WATERMARK", "WITH",
})  # fmt: skip
# No table begins with these, and after an asterisk nothing else can follow.
_NO_TABLE = frozenset({
    "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "ON", "UNION",
    "SELECT", ",", ")",
})  # fmt: skip
_OF_JOINS = frozenset({"JOIN", "OUTER", "SEMI", "ANTI"})
# What follows the first word of a clause that begins with several, and so no alias of a table that is called so.
_SECOND_WORDS = {
    **dict.fromkeys(("ORDER", "GROUP"), frozenset({"BY"})),
    **dict.fromkeys(("INNER", "LEFT", "RIGHT", "FULL", "CROSS"), _OF_JOINS),
    "UNION": frozenset({"ALL", "DISTINCT", "SELECT", "("}),
}
_AFTER_ASTERISK = _ENDS_OF_FROM | frozenset({"FROM", "REPLACE", "RENAME", "ILIKE", "AS"})
_NO_END = frozenset({
    "SELECT", "FROM", "WHERE", "AND", "OR", "NOT", "ON", "BY", "JOIN", "IN", "IS", "LIKE", "RLIKE", "BETWEEN", "CASE",
    "WHEN", "THEN", "ELSE", "HAVING", "QUALIFY", "UNION", "INTERSECT", "EXCEPT", "AS", "OVER", "USING", "VALUES", ",",
    "=", "==", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "/", "%", "||", "::", "=>", "->", "|>", ".", ":",
})  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A table or view that a query reads.

    Attributes:
        name: as written, without `LIVE.` and needless quotes.
        streaming: read as a stream.
    """

    name: str
    streaming: bool
    line: int


@dataclass(frozen=True)
class TableFunction:
    """A call of a table function with constant arguments.

    Attributes:
        name: in lower case.
        streaming: it is read as a stream; `cloud_files` always is.
        arguments: by position: strings, numbers, booleans, None, dict (`map(…)`), list (`array(…)`), TableArgument.
        named: the same, by name in lower case.
    """

    name: str
    streaming: bool
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    line: int


@dataclass(frozen=True)
class _Table:
    parts: tuple[str, ...]
    streaming: bool
    start: int
    live: tuple[int, int] | None = None
    end: int | None = None


@dataclass(frozen=True)
class _Call:
    name: str
    streaming: bool
    low: int
    high: int
    start: int
    end: int


@dataclass
class _Reader:
    """Walks the tokens of a query and notes each table and each table function that it reads."""

    source: Source
    parameters: Mapping[str, str]
    tables: list[_Table] = field(default_factory=list)
    calls: list[_Call] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tokens: list[Token] = self.source.tokens
        self.pairs = parentheses(self.source)
        try:
            self.query(0, len(self.tokens), frozenset())
        except RecursionError:
            self.source.fail("this query is nested too deeply to be read", 0)
        self.finished()

    def finished(self) -> None:
        """Refuses what nobody meant to end here; Spark's parser judges the rest."""
        last = len(self.tokens) - 1
        if self.word(last) in _NO_END and self.word(last - 1) not in (".", "AS"):
            self.source.fail(f"the query ends after {self.tokens[last].text}", self.tokens[last].start)
        opened: list[int] = []
        for index in range(last + 1):
            if self.word(index) == "CASE" and self.word(index - 1) != ".":
                opened.append(index)
            elif self.word(index) == "END" and self.word(index - 1) not in (".", "AS") and opened:
                opened.pop()
        if opened:
            self.source.fail("this CASE has no END", self.tokens[opened[-1]].start)

    def word(self, index: int) -> str:
        return word(self.tokens[index]) if 0 <= index < len(self.tokens) else ""

    def query(self, low: int, high: int, scope: frozenset[str], *, relation: bool = False) -> None:
        """Reads a query, or an expression with queries inside it.

        Args:
            scope: the names of the common table expressions in force, in lower case.
            relation: it begins with a table, as in `FROM (a JOIN b)`.
        """
        index, start, selected, from_clause, expect = low, True, False, relation, relation
        while index < high:
            if expect:
                index, expect, start = self.relation(index, high, scope), False, False
                continue
            here, before = self.word(index), self.word(index - 1) if index > low else ""
            if before == ".":
                index += 1
                continue
            if here == "WITH" and (common := self.common_tables(index, high, scope)):
                index, scope = common
                continue
            if here == "(":
                self.query(index + 1, self.pairs[index], scope)
                index, start = self.pairs[index] + 1, False
                continue
            if here == "FROM":
                distinct_from = before == "DISTINCT" and self.word(index - 2) in ("IS", "NOT")
                if (start or selected) and not distinct_from:
                    expect = from_clause = True
            elif (
                here == "JOIN"
                or (here == "," and from_clause)
                or (here == "TABLE" and (start or before in (",", "=>")))
            ):
                expect = True
            elif here in _ENDS_OF_FROM:
                from_clause = False
                selected = selected or here == "SELECT"
            elif here == "*" and before in ("SELECT", "DISTINCT", ",") and index + 1 < high:
                self.after_asterisk(index + 1)
            start = here in _SET_OPERATORS or (start and here in ("ALL", "DISTINCT") and before in _SET_OPERATORS)
            index += 1
        if expect:
            self.no_table(high)

    def no_table(self, index: int) -> NoReturn:
        self.source.fail(f"a table is missing after {self.word(index - 1)}", self.tokens[index - 1].start)

    def is_called_so(self, index: int, high: int) -> bool:
        """Whether a table has the name of a clause, as in `FROM order ORDER BY a`: Spark reserves no word."""
        here, following = self.word(index), self.word(index + 1) if index + 1 < high else ","
        if here in _SECOND_WORDS:
            return following not in _SECOND_WORDS[here]
        return here.isalpha() and following in (_AFTER_TABLE - _OF_JOINS - {"SELECT"}) | {",", "."}

    def after_asterisk(self, index: int) -> None:
        if is_name(self.tokens[index]) and self.word(index) not in _AFTER_ASTERISK:
            self.source.fail(f"expected FROM after *; found {self.tokens[index].text}", self.tokens[index].start)

    def common_tables(self, index: int, high: int, scope: frozenset[str]) -> tuple[int, frozenset[str]] | None:
        """Reads `WITH name AS (…), …`; None where this WITH is another clause's."""
        index += 1
        recursive = self.word(index) == "RECURSIVE" and index + 1 < high and self.word(index + 1) not in ("AS", "(")
        index += recursive
        found = False
        while index < high and is_name(self.tokens[index]):
            name = self.tokens[index].text.lower()
            body = index + 1
            if self.word(body) == "(":
                body = self.pairs[body] + 1
            if self.word(body) == "MAX":
                body += 4
            if self.word(body) != "AS" or self.word(body + 1) != "(":
                break
            close = self.pairs[body + 1]
            self.query(body + 2, close, scope | {name} if recursive else scope)
            scope |= {name}
            found = True
            index = close + 1
            if self.word(index) != ",":
                break
            index += 1
        return (index, scope) if found else None

    def relation(self, index: int, high: int, scope: frozenset[str]) -> int:
        """Reads what stands where a table is expected; gives the index of the token after it."""
        here = self.word(index)
        if index >= high or (here in _NO_TABLE and not self.is_called_so(index, high)):
            self.no_table(index)
        if here == "LATERAL":
            return self.relation(index + 1, high, scope) if index + 1 < high else high
        if here == "VALUES":
            return self.values(index + 1, high, scope)
        if here == "TABLE" and self.word(index + 1) == "(":
            return self.enclosed(index + 1, scope)
        if here == "(":
            return self.enclosed(index, scope)
        if here == "STREAM" and index + 1 < high:
            following = self.tokens[index + 1]
            if self.word(index + 1) == "(":
                close = self.pairs[index + 1]
                if self.word(index + 2) in _QUERY_STARTS:
                    self.query(index + 2, close, scope)
                else:
                    low = index + 4 if self.word(index + 2) == "TABLE" and self.word(index + 3) == "(" else index + 2
                    self.table(low, self.pairs[low - 1], scope, streaming=True, outer=(index, close))
                return close + 1
            if is_name(following) and self.word(index + 1) not in _AFTER_TABLE:
                return self.table(index + 1, high, scope, streaming=True, outer=(index, None))
        return self.table(index, high, scope, streaming=False)

    def enclosed(self, index: int, scope: frozenset[str]) -> int:
        """Reads the relation or the query in the parentheses at `index`."""
        first, close = self.word(index + 1), self.pairs[index]
        self.query(index + 1, close, scope, relation=first not in _QUERY_STARTS and first != "TABLE")
        return close + 1

    def values(self, index: int, high: int, scope: frozenset[str]) -> int:
        while index < high:
            if self.word(index) == "(":
                self.query(index + 1, self.pairs[index], scope)
                index = self.pairs[index] + 1
            else:
                index += 1
            if self.word(index) != ",":
                break
            index += 1
        return index

    def table(
        self,
        index: int,
        high: int,
        scope: frozenset[str],
        *,
        streaming: bool,
        outer: tuple[int, int | None] | None = None,
    ) -> int:
        """Reads a name or a call. `outer` is the token of its STREAM and that of the parenthesis that closes it."""
        if index >= high or not is_name(self.tokens[index]):
            return index + 1
        first, parts = index, [self.tokens[index].text]
        index += 1
        while index + 1 < high and self.word(index) == "." and is_name(self.tokens[index + 1]):
            parts.append(self.tokens[index + 1].text)
            index += 2
        start = self.tokens[first].start
        if self.word(index) == "(" and index < high:
            close = self.pairs[index]
            name = parts[-1].lower() if len(parts) == 1 else ""
            if name == "identifier":
                text = constant(self.source, index + 1, close, self.parameters)
                self.tables.append(_Table(split_name(str(text)), streaming, start, end=self.tokens[close].end + 1))
                return close + 1
            if name == "table_changes" and is_string(self.tokens[index + 1]):
                self.tables.append(_Table(split_name(self.tokens[index + 1].text), streaming, start))
            elif name != "event_log":
                self.query(index + 1, close, scope)
            opening, closing = outer or (first, None)
            last = close if closing is None else closing
            self.calls.append(
                _Call(name, streaming, index + 1, close, self.tokens[opening].start, self.tokens[last].end + 1)
            )
            self.options(last + 1)
            return close + 1
        live = len(parts) > 1 and parts[0].upper() == "LIVE"
        if live:
            del parts[0]
            if len(parts) == 1 and parts[0].lower() in scope:
                self.source.fail(f"LIVE.{parts[0]} is hidden by WITH {parts[0]}; give the latter another name", start)
        elif len(parts) == 1 and parts[0].lower() in scope:
            return index
        prefix = (start, self.tokens[first + 2].start) if live else None
        self.tables.append(_Table(tuple(parts), streaming, start, prefix, self.tokens[index - 1].end + 1))
        self.options(index if outer is None or outer[1] is None else outer[1] + 1)
        return index

    def options(self, index: int) -> None:
        """Notes the options without a value of the `WITH (…)` that may follow a table."""
        if self.word(index) == "WITH" and self.word(index + 1) == "(":
            self.flags += [
                self.tokens[option].end + 1
                for option in range(index + 2, self.pairs[index + 1])
                if self.word(option - 1) in ("(", ",") and self.word(option + 1) in (")", ",")
            ]

    def call(self, call: _Call) -> TableFunction:
        arguments: list[Any] = []
        named: dict[str, Any] = {}
        low = index = call.low
        while index <= call.high:
            if index == call.high or self.word(index) == ",":
                if low < index:
                    if low + 1 < index and self.tokens[low + 1].token_type is TokenType.FARROW:
                        key = self.tokens[low].text.lower()
                        named[key] = constant(self.source, low + 2, index, self.parameters)
                    else:
                        arguments.append(constant(self.source, low, index, self.parameters))
                low = index + 1
            index = self.pairs[index] + 1 if self.word(index) == "(" and index < call.high else index + 1
        streaming = call.streaming or call.name == "cloud_files"
        return TableFunction(call.name, streaming, tuple(arguments), named, self.source.line(call.start))


def inputs(
    query: str, *, parameters: Mapping[str, str] | None = None, file: Path | None = None, line: int = 1
) -> list[Input]:
    """The tables and views that a query reads, in the order of the text, each once as a table and once as a stream.

    Names that WITH gives and table functions are not among them; the table of `table_changes('name', …)` is.

    Args:
        query: SQL text as Spark would get it; `${key}` replaced.
        parameters: values of `:name`, for `IDENTIFIER(:name)`.
        file: for errors.
        line: the line at which the query begins.
    Raises:
        LakeflowError: a quote, a comment or a parenthesis has no end, or `IDENTIFIER(…)` is not a constant.
    """
    source = Source(query, file, line)
    found: dict[tuple[tuple[str, ...], bool], Input] = {}
    for table in sorted(
        _Reader(source, {} if parameters is None else parameters).tables, key=lambda table: table.start
    ):
        key = (tuple(part.lower() for part in table.parts), table.streaming)
        found.setdefault(key, Input(written(table.parts), table.streaming, source.line(table.start)))
    return list(found.values())


def rewrite(
    query: str,
    replace: Callable[[TableFunction], str],
    *,
    parameters: Mapping[str, str] | None = None,
    file: Path | None = None,
    line: int = 1,
    functions: Collection[str] = TABLE_FUNCTIONS,
    rename: Callable[[str, bool], str | None] = lambda _name, _streaming: None,
) -> str:
    """The query with each call of `functions` replaced by what `replace` gives, and without `LIVE.` prefixes.

    A call's `STREAM` belongs to it: `STREAM read_files(…)` and `STREAM(read_files(…))` are replaced whole.
    A table's option without a value, as in `STREAM t WITH (SKIPCHANGECOMMITS)`, gets the value that Spark asks for.
    All other text stays as it is.

    Args:
        rename: gives another name for a table that is read, by its name and whether it is read as a stream, or None.

    Raises:
        LakeflowError: as for `inputs`, or an argument of a call is not a constant.
    """
    source = Source(query, file, line)
    reader = _Reader(source, parameters or {})
    edits: list[tuple[int, int, str]] = []
    renamed: dict[tuple[str, ...], str] = {}
    for table in reader.tables:
        name = rename(written(table.parts), table.streaming) if table.end is not None else None
        if name is not None:
            edits.append((table.start, table.end, name))
            renamed[tuple(part.lower() for part in table.parts)] = written(split_name(name)[-1:])
        elif table.live:
            edits.append((*table.live, ""))
    # orders.sales.amount: a column, by the full name of its table.
    edits += [
        (source.tokens[index].start, source.tokens[index + 2 * len(parts) - 1].start, name)
        for parts, name in renamed.items()
        if len(parts) > 1
        for index in _qualifiers(source.tokens, parts)
    ]
    edits += [(flag, flag, " = 'true'") for flag in reader.flags]
    live = {table.parts[0].lower(): renamed.get((table.parts[0].lower(),)) for table in reader.tables if table.live}
    for call in reader.calls:
        if call.name in functions:
            edits.append((call.start, call.end, replace(reader.call(call))))
    tokens = source.tokens
    in_tables = {start for start, _, _ in edits}
    for index in range(len(tokens) - 3):
        # LIVE.orders.amount: a column, by the name of its table.
        first, dot, name_token, second_dot = tokens[index : index + 4]
        qualified = is_name(first) and first.text.upper() == "LIVE" and word(dot) == word(second_dot) == "."
        nested = index > 0 and word(tokens[index - 1]) == "."
        if qualified and not nested and name_token.text.lower() in live and first.start not in in_tables:
            name = live[name_token.text.lower()]
            until = name_token.start if name is None else name_token.end + 1
            edits.append((first.start, until, name or ""))
    pieces: list[str] = []
    position = 0
    for start, end, text in sorted(edits):
        pieces += [query[position:start], text]
        position = end
    return "".join([*pieces, query[position:]])


def _qualifiers(tokens: list[Token], parts: tuple[str, ...]) -> list[int]:
    """Where a column is given with the name of its table, which is `parts`: the index of the first token."""
    texts = [token.text.lower() for token in tokens]
    pattern = [text for part in parts for text in (part, ".")]
    return [
        index
        for index in range(len(tokens) - len(pattern))
        if texts[index : index + len(pattern)] == pattern and (index == 0 or texts[index - 1] != ".")
    ]
