"""Readers of invoices: files of any kind in, documents of the landing contract out, or a reason why not.

A reader copies what a document says and computes nothing but what its format leaves implicit; whether the amounts add
up is judged by the pipeline. Only the reader of printed pages checks sums itself: they prove that it read aright.
"""

from __future__ import annotations

import json
from typing import Any

from lxml.etree import QName

from ingest.invoices import contract
from ingest.invoices.contract import Document
from ingest.invoices.readers import cii, pdf, ubl, xml
from ingest.invoices.readers.errors import Refused

__all__ = ["MAX_BYTES", "Refused", "read"]

MAX_BYTES = 64 * 1024 * 1024
"""No larger file is read."""


def read(content: bytes, *, source_file: str) -> list[Document]:
    """The documents of a file, whose kind is told by its content.

    Args:
        content: UBL 2 or UN/CEFACT CII in XML, a PDF that carries such XML or is printed in the company's layout, or
            JSON by the landing contract, one document or one on each line.
        source_file: what the documents say they come from.

    Returns:
        One document, or as many as a JSON file has lines.

    Raises:
        Refused: the file cannot be read as a whole; nothing of it is a document then.
    """
    if len(content) > MAX_BYTES:
        raise Refused(f"the file is larger than {MAX_BYTES // 1024**2} MiB")
    start = xml.in_utf_8(content).lstrip(xml.MARKS_AND_SPACE)
    if not start:
        raise Refused("the file is empty")
    try:
        if b"%PDF-" in content[:1024]:
            return [_landed(*_of_pdf(content), source_file)]
        if start.startswith((b"{", b"[")):
            return [_landed(document, "json", source_file) for document in _of_json(start)]
        if start.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
            return [_landed(*_of_xml(content), source_file)]
    except Refused:
        raise
    except (RecursionError, MemoryError):
        raise Refused("the file is nested too deeply or unpacks to too much") from None
    except Exception as error:
        # A fault of a reader must not keep the other files of a folder from landing.
        raise Refused(f"a reader failed with {type(error).__name__}; please report the file") from error
    raise Refused("the file is neither XML nor PDF nor JSON")


def _of_xml(content: bytes) -> tuple[Document, str]:
    root = xml.parse(content)
    carried = xml.binary_content(root)
    if carried is not None:
        return _of_pdf(carried) if b"%PDF-" in carried[:1024] else _of_xml(carried)
    root = xml.payload(root, _is_invoice)
    reader, name = (cii, "cii") if cii.reads(QName(root)) else (ubl, "ubl")
    try:
        return reader.read(xml.with_local_names(root)), name
    except Refused as error:
        raise Refused(error.reason, name) from None


def _is_invoice(name: QName) -> bool:
    return ubl.reads(name) or cii.reads(name)


def _of_pdf(content: bytes) -> tuple[Document, str]:
    attached = pdf.attached_invoice(content, _is_invoice)
    if attached is not None:
        return _of_xml(attached)
    from ingest.invoices.readers import printed

    return printed.read(content), "printed"


def _of_json(content: bytes) -> list[Any]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("the JSON is not in UTF-8", "json") from None
    try:
        return [json.loads(text)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        raise Refused("the file is neither a JSON document nor one on each line", "json") from None


def _landed(document: Any, reader: str, source_file: str) -> Document:
    # JSON claims to follow the contract; of what others wrote, the pipeline judges all that the contract can carry.
    problems = contract.problems(document, only_refusing=reader != "json")
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise Refused(shown, reader)
    return {**document, "source_file": document.get("source_file") or source_file}
