"""Why a file is no document."""

from __future__ import annotations


class Refused(Exception):
    """A file that cannot be read as an invoice.

    Attributes:
        reason: one line that quotes no value of the document.
        reader: which one gave up: `xml`, `ubl`, `cii`, `pdf`, `printed`, `json`; empty if none knows the file.
    """

    def __init__(self, reason: str, reader: str = ""):
        self.reason = " ".join(reason.split())
        self.reader = reader
        super().__init__(self.reason)
