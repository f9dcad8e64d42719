"""A place in a statement's tokens, and the small things that are read there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from lakeflow_local.errors import LakeflowError, UnsupportedError
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

QUERY_STARTS = ("SELECT", "WITH", "FROM", "VALUES", "TABLE", "(")
_AFTER_CREATE = frozenset({
    "TABLE", "VIEW", "FLOW", "STREAMING", "LIVE", "MATERIALIZED", "TEMPORARY", "TEMP", "PRIVATE", "INCREMENTAL",
})  # fmt: skip


class NotOfAPipelineError(LakeflowError):
    """A statement that a pipeline has no use for, such as DROP."""


class Cursor:
    """Reads one statement from its first token on. `after` is what stands before, for the error if it is not so."""

    def __init__(self, source: Source, parameters: Mapping[str, str]):
        self.source = source
        self.parameters = parameters
        self.tokens = source.tokens
        self.pairs = parentheses(source)
        self.index = 0

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
        if self.at_end():
            return "the end of the statement"
        return "a string" if is_string(self.tokens[self.index]) else self.text(self.index, self.index + 1)[:40]

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

    def skip_until(self, stop: Callable[[], bool], *, angles: bool = False) -> str:
        """Skips whole parentheses and brackets until `stop`, and gives the text that was skipped.

        Args:
            angles: `<` opens and `>` closes a bracket too, as in types.
        """
        low, depth = self.index, 0
        while not self.at_end() and (depth or not stop()):
            here = self.word()
            if here == "(":
                self.index = self.pairs[self.index]
            elif here == "[" or (angles and here == "<"):
                depth += 1
            elif depth and (here == "]" or (angles and here == ">")):
                depth -= 1
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
            parts: Sequence[str] = split_name(str(constant(self.source, self.index + 2, close, self.parameters)))
            if not 1 <= len(parts) <= 3:
                self.fail(f"IDENTIFIER(…) after {after} must give a name of one to three parts")
            self.index = close + 1
            return written(parts)
        parts = self.parts(after)
        live = len(parts) > 1 and parts[0].upper() == "LIVE"
        if self.word() == "-":
            self.fail(f"a name with - in it needs back quotes: `{parts[-1]}-…`")
        if len(parts) - live > 3:
            self.index -= 1
            self.fail(f"{written(parts)} has more than three parts")
        return written(parts[live:])

    def group(self, after: str) -> str:
        """The text between parentheses."""
        if self.word() != "(":
            self.fail(f"expected ( after {after}; found {self.shown()}")
        low, close = self.index + 1, self.pairs[self.index]
        if low == close:
            self.fail(f"the parentheses after {after} are empty")
        self.index = close + 1
        return self.text(low, close)

    def items(self, after: str, also: str | None = None) -> Iterator[None]:
        """Stands at each item of a list in parentheses in turn; a comma after the last one is tolerated.

        Args:
            also: a word that begins an item even where no comma stands before it.
        """
        if self.word() != "(":
            self.fail(f"expected ( after {after}; found {self.shown()}")
        self.index += 1
        while not self.accept(")"):
            yield
            if not self.accept(",") and self.word() not in (")", also):
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
        if self.word() not in QUERY_STARTS:
            self.fail(f"expected a query after {after}; found {self.shown()}")
        low = self.index
        while not self.at_end():
            if self.word() == "(":
                self.index = self.pairs[self.index]
            elif self.word() == "CREATE" and (self.at_words("CREATE", "OR") or self.word(1) in _AFTER_CREATE):
                self.fail(f"a ; is missing before {self.text(self.index, min(self.index + 4, len(self.tokens)))}")
            elif self.at_words("APPLY", "CHANGES", "INTO"):
                self.fail("a ; is missing before APPLY CHANGES INTO")
            self.index += 1
        return self.text(low, self.index), self.source.line(self.tokens[low].start)
