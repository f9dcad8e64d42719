"""SQL text as tokens with places: what statements, queries and names are cut out of."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from sqlglot import Dialect
from sqlglot.dialects.databricks import Databricks
from sqlglot.errors import TokenError
from sqlglot.tokens import Token, TokenType

from lakeflow_local.errors import LakeflowError

_STRINGS = frozenset({TokenType.STRING, TokenType.RAW_STRING, TokenType.NATIONAL_STRING, TokenType.HEX_STRING})
_CONFIGURATION_KEY = re.compile(r"\$\{([^}]*)\}")
# As pipelines and as SQL tasks write it.
_PARAMETER = re.compile(r":\s*([A-Za-z_]\w*)|\{\{\s*(\w+)\s*\}\}")
_NAME_PART = re.compile(r"`((?:[^`]|``)*)`|([^.`\s]+)")
# Spark reads these as parts of a join or a set operation, not as names, in whatever mode it is.
_STRICT_WORDS = frozenset({
    "ANTI", "CROSS", "EXCEPT", "FULL", "INNER", "INTERSECT", "JOIN", "LATERAL", "LEFT", "MINUS", "NATURAL", "ON",
    "RIGHT", "SEMI", "UNION", "USING",
})  # fmt: skip


class _Lexer(Databricks):
    """Databricks' tokens without keywords: in a pipeline's header nearly every word is also used as a name."""

    class Tokenizer(Databricks.Tokenizer):
        KEYWORDS: ClassVar = {"=>": TokenType.FARROW, "||": TokenType.DPIPE, "|>": TokenType.PIPE_GT}
        COMMANDS: ClassVar = set()
        NUMERIC_LITERALS: ClassVar = {}
        # The body of a Python function or of a metric view.
        RAW_STRINGS: ClassVar = [*Databricks.Tokenizer.RAW_STRINGS, "$$"]
        # Spark 4 reads a doubled quote as one quote.
        STRING_ESCAPES: ClassVar = ["\\", "'", '"']


def _newlines(text: str) -> list[int]:
    return [match.start() for match in re.finditer("\n", text)]


@dataclass(frozen=True)
class Source:
    """A piece of a source file.

    Attributes:
        text: the piece, `${key}` replaced or not.
        file: None for text that stands in no file of its own.
        first_line: the line of `file` at which `text` begins.
        breaks: offsets of the line breaks that `file` has too; those of replaced values do not count.
    """

    text: str
    file: Path | None = None
    first_line: int = 1
    breaks: Sequence[int] | None = None

    @cached_property
    def _breaks(self) -> Sequence[int]:
        return _newlines(self.text) if self.breaks is None else self.breaks

    def line(self, offset: int) -> int:
        return self.first_line + bisect_left(self._breaks, offset)

    def fail(self, message: str, offset: int, kind: type[LakeflowError] = LakeflowError) -> NoReturn:
        raise kind(message, file=self.file, line=self.line(offset))

    def slice(self, start: int, end: int) -> Source:
        """The text from `start` up to but without `end`, in its place."""
        return Source(self.text[start:end], self.file, self.line(start))

    @cached_property
    def tokens(self) -> list[Token]:
        """The tokens; comments and white space are what lies between them.

        Raises:
            LakeflowError: a quote or a comment has no end.
        """
        tokenizer = Dialect.get_or_raise(_Lexer).tokenizer()
        try:
            return tokenizer.tokenize(self.text)
        except TokenError:
            end = tokenizer.tokens[-1].end + 1 if tokenizer.tokens else 0
            end += len(self.text[end:]) - len(self.text[end:].lstrip())
            self.fail("a quote or a comment that begins here has no end", min(end, len(self.text)))

    def substitute(self, value: Callable[[str], str]) -> Source:
        """Replaces each `${key}` outside comments with `value(key)`, which raises KeyError for a key it has not."""
        if "${" not in self.text:
            return self
        starts = [token.start for token in self.tokens]
        pieces: list[str] = []
        breaks: list[int] = []
        length = position = 0

        def add(piece: str) -> None:
            nonlocal length
            pieces.append(piece)
            length += len(piece)

        for match in _CONFIGURATION_KEY.finditer(self.text):
            index = bisect_right(starts, match.start()) - 1
            if index < 0 or self.tokens[index].end < match.start():
                continue
            literal = self.text[position : match.start()]
            breaks += [length + offset for offset in _newlines(literal)]
            add(literal)
            key = match[1].strip()
            try:
                add(value(key))
            except KeyError:
                self.fail(
                    f"the configuration key {key} is not set; give it in the pipeline's configuration or with SET",
                    match.start(),
                )
            position = match.end()
        literal = self.text[position:]
        breaks += [length + offset for offset in _newlines(literal)]
        add(literal)
        return Source("".join(pieces), self.file, self.first_line, breaks)


def word(token: Token) -> str:
    """The token in upper case, or nothing where it is quoted: a quoted word is never a keyword."""
    return "" if token.token_type in _STRINGS or token.token_type is TokenType.IDENTIFIER else token.text.upper()


def is_string(token: Token) -> bool:
    return token.token_type in _STRINGS


def is_name(token: Token) -> bool:
    """Whether the token can be a part of a name."""
    return token.token_type is TokenType.IDENTIFIER or (
        not is_string(token) and bool(re.fullmatch(r"\w+", token.text)) and not token.text.isdigit()
    )


def parentheses(source: Source) -> dict[int, int]:
    """The index of each opening parenthesis' token, with that of its closing one.

    Raises:
        LakeflowError: one of them has no partner.
    """
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for index, token in enumerate(source.tokens):
        if token.token_type is TokenType.L_PAREN:
            opened.append(index)
        elif token.token_type is TokenType.R_PAREN:
            if not opened:
                source.fail("this ) closes nothing", token.start)
            pairs[opened.pop()] = index
    if opened:
        source.fail("this ( is never closed", source.tokens[opened[-1]].start)
    return pairs


def written(parts: Sequence[str]) -> str:
    """The parts as one name, each in back quotes where it needs them."""
    return ".".join(
        part
        if re.fullmatch(r"[A-Za-z_]\w*|\d+_\w*", part, re.ASCII) and part.upper() not in _STRICT_WORDS
        else "`" + part.replace("`", "``") + "`"
        for part in parts
    )


def split_name(name: str) -> tuple[str, ...]:
    """The parts of a written name, without quotes and without a leading `LIVE.`."""
    parts = tuple(quoted.replace("``", "`") or plain for quoted, plain in _NAME_PART.findall(name))
    return parts[1:] if len(parts) > 1 and parts[0].upper() == "LIVE" else parts


def normalise(name: str) -> tuple[str, ...]:
    """The parts of a name as they are compared: unquoted, in lower case, without `LIVE.`."""
    return tuple(part.lower() for part in split_name(name))


@dataclass(frozen=True)
class TableArgument:
    """`TABLE(name)` as an argument of a function."""

    name: str


def constant(source: Source, low: int, high: int, parameters: Mapping[str, str]) -> object:
    """The value of the expression in the tokens from `low` up to but without `high`.

    Literals, `||`, concat(), map(), array(), `:parameter`, `{{parameter}}` and TABLE(name) are constants.

    Raises:
        LakeflowError: it is not a constant.
    """
    tokens = source.tokens
    position = low

    def fail() -> NoReturn:
        token = tokens[min(position, high - 1)] if low < high else tokens[low - 1]
        text = source.text[token.start : tokens[max(low, high - 1)].end + 1] if low < high else token.text
        source.fail(f"{' '.join(text.split())[:80]} must be a constant", token.start)

    def string(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if not isinstance(value, str | int | float):
            fail()
        return str(value)

    def at(text: str) -> bool:
        return position < high and word(tokens[position]) == text

    def arguments() -> list[object]:
        nonlocal position
        position += 2
        values: list[object] = []
        while not at(")"):
            values.append(expression())
            if at(","):
                position += 1
            elif not at(")"):
                fail()
        position += 1
        return values

    def expression() -> Any:
        nonlocal position
        value = operand()
        while at("||"):
            position += 1
            value = string(value) + string(operand())
        return value

    def operand() -> Any:
        nonlocal position
        if position >= high:
            fail()
        token = tokens[position]
        call = word(token) if position + 1 < high and word(tokens[position + 1]) == "(" else None
        if is_string(token):
            value = ""
            while position < high and is_string(tokens[position]):
                value += tokens[position].text
                position += 1
            return value
        if call == "CONCAT":
            return "".join(string(value) for value in arguments())
        if call == "ARRAY":
            return arguments()
        if call == "MAP":
            values = arguments()
            if len(values) % 2:
                fail()
            return dict(zip(map(string, values[::2]), values[1::2], strict=True))
        if word(token) == "TABLE":
            parts = [tokens[index] for index in range(position + 1, high) if word(tokens[index]) not in ("(", ")", ".")]
            position = high
            return TableArgument(written(split_name(".".join(written([part.text]) for part in parts))))
        if word(token) == "(":
            position += 1
            value = expression()
            if not at(")"):
                fail()
            position += 1
            return value
        if marker := _PARAMETER.match(source.text, token.start, tokens[high - 1].end + 1):
            name = marker[1] or marker[2]
            if name not in parameters:
                source.fail(f"the parameter {marker[0]} is not set; give it in the pipeline's parameters", token.start)
            while position < high and tokens[position].start < marker.end():
                position += 1
            return parameters[name]
        if word(token) in ("-", "+"):
            position += 1
            value = operand()
            if not isinstance(value, int | float) or isinstance(value, bool):
                fail()
            return -value if word(token) == "-" else value
        if word(token) in ("TRUE", "FALSE", "NULL"):
            position += 1
            return {"TRUE": True, "FALSE": False, "NULL": None}[word(token)]
        if token.token_type is TokenType.NUMBER or re.fullmatch(r"\d+[A-Z]+", word(token)):
            digits = token.text.upper().rstrip("LSYDFB")
            position += 1
            return int(digits) if digits.isdigit() else float(digits)
        fail()

    value = expression()
    if position != high:
        fail()
    return value
