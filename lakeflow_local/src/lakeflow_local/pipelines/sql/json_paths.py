"""`details:flow_progress.metrics`: paths into JSON text, which Databricks reads and Spark only in a VARIANT."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot.tokens import Token, TokenType

from lakeflow_local.pipelines.sql.tokens import Source, is_name, is_string, word

# After these a colon begins a parameter, and `a: INT` is no path.
_NO_COLUMNS = frozenset({
    "ALL", "AND", "AS", "BETWEEN", "BY", "CASE", "DISTINCT", "ELSE", "ESCAPE", "FROM", "HAVING", "IDENTIFIER", "ILIKE",
    "IN", "INTERVAL", "IS", "LIKE", "LIMIT", "NOT", "OFFSET", "ON", "OR", "RLIKE", "SELECT", "SET", "THEN", "VALUES",
    "WHEN", "WHERE",
})  # fmt: skip


def ends_column(token: Token) -> bool:
    """Whether a colon after the token begins a path, not a parameter."""
    return is_name(token) and word(token) not in _NO_COLUMNS


def json_paths(query: str, *, parameters: Collection[str] = ()) -> str:
    """The query with each path into a column as a call of `get_json_object`; all other text stays as it is.

    A path that is a whole column of a SELECT gets the name of its last field, as on Databricks. Paths are written with
    `:`, `.`, `['name']` and `[0]`; there may be space before a colon.

    Args:
        parameters: names of parameters, which `:name` may stand for.
    """
    source = Source(query)
    tokens = source.tokens
    within_types = _types(tokens)
    pieces: list[str] = []
    position = index = 0
    while index < len(tokens):
        first = index
        index += 1
        if not ends_column(tokens[first]) or first in within_types:
            continue
        while index + 1 < len(tokens) and word(tokens[index]) == "." and is_name(tokens[index + 1]):
            index += 2
        if not _begins_path(tokens, index, parameters):
            continue
        column_end = tokens[index - 1].end + 1
        path, end, name = _path(tokens, index)
        text = path.replace("\\", "\\\\").replace("'", "\\'")
        pieces += [query[position : tokens[first].start]]
        pieces += [f"get_json_object({query[tokens[first].start : column_end]}, '{text}')"]
        if name and _is_whole_column(tokens, first, end):
            pieces += [f" AS `{name}`"]
        position = tokens[end - 1].end + 1
        index = end
    return "".join([*pieces, query[position:]])


def _begins_path(tokens: list[Token], index: int, parameters: Collection[str]) -> bool:
    if index + 1 >= len(tokens) or word(tokens[index]) != ":":
        return False
    before, colon, following = tokens[index - 1 : index + 2]
    if word(following) == ":" or not (is_name(following) or word(following) == "["):
        return False
    adjacent = before.end + 1 == colon.start
    return adjacent or following.text not in parameters


def _path(tokens: list[Token], index: int) -> tuple[str, int, str]:
    """A path from the token of its first colon: as Spark writes it, the token after it, its last field."""
    path, name = "$", ""
    while index + 1 < len(tokens):
        here, following = word(tokens[index]), tokens[index + 1]
        if here in (":", ".") and is_name(following):
            name = following.text
            path += f"['{name}']" if following.token_type is TokenType.IDENTIFIER else f".{name}"
            index += 2
        elif here == ":" and word(following) == "[":
            index += 1
        elif here == "[" and index + 2 < len(tokens) and word(tokens[index + 2]) == "]":
            if is_string(following):
                name = following.text
                path += f"['{name}']"
            else:
                path += f"[{following.text}]"
            index += 3
        else:
            break
    return path, index, name


def _is_whole_column(tokens: list[Token], first: int, end: int) -> bool:
    before = word(tokens[first - 1]) if first else ""
    if before == "DISTINCT" and first > 1:
        before = word(tokens[first - 2])
    after = word(tokens[end]) if end < len(tokens) else ""
    return before in ("SELECT", ",") and after in (",", "FROM") and _depth_is_a_select(tokens, first)


def _depth_is_a_select(tokens: list[Token], index: int) -> bool:
    """Whether the token stands in a SELECT list, not among the arguments of a function."""
    depth = 0
    for i in range(index - 1, -1, -1):
        here = word(tokens[i])
        if here == ")":
            depth += 1
        elif here == "(":
            if depth == 0:
                return False
            depth -= 1
        elif depth == 0 and here == "SELECT":
            return True
        elif depth == 0 and here in ("FROM", "BY", "WHERE", "VALUES"):
            return False
    return False


def _types(tokens: list[Token]) -> set[int]:
    """The tokens inside `STRUCT<…>`, where `a: INT` is a field."""
    found: set[int] = set()
    opened = 0
    for index, token in enumerate(tokens):
        if word(token) == "<" and index and word(tokens[index - 1]) in ("STRUCT", "ARRAY", "MAP"):
            opened += 1
        elif opened and token.text.startswith(">"):
            opened = max(0, opened - len(token.text))
        if opened:
            found.add(index)
    return found
