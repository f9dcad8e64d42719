"""Errors that a person reads: one line that says what is wrong and what to do about it."""

from __future__ import annotations

import os
from pathlib import Path


class LakeflowError(Exception):
    """A fault that is reported as one line, without a stack trace unless `--traceback` is given.

    Args:
        message: what is wrong, then what to do; one line, with no secret and no row of data in it.
        file: the source that it was found in, if any.
        line: the line of `file`, counted from 1.
    """

    def __init__(self, message: str, *, file: str | Path | None = None, line: int | None = None):
        super().__init__(message)
        self.message = " ".join(message.split())
        self.file = Path(file) if file is not None else None
        self.line = line

    def __str__(self) -> str:
        if self.file is None:
            return self.message
        place = os.path.relpath(self.file)
        if place.startswith(".." + os.sep):
            place = str(self.file)
        return f"{place}:{self.line}: {self.message}" if self.line else f"{place}: {self.message}"


class UnsupportedError(LakeflowError):
    """Something that Databricks offers and this package does not: always refused, by name."""
