"""The invoice that a hybrid PDF (Factur-X, ZUGFeRD, XRechnung) carries as an attached file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from lxml.etree import QName
from pypdf import PdfReader
from pypdf.errors import DependencyError, LimitReachedError

from ingest.invoices.readers import xml
from ingest.invoices.readers.errors import Refused

MAX_PAGE_BYTES = 2 * 1024 * 1024
"""What is painted on one page has no more, images aside; the company's pages have some 20 KiB."""

# The newest standard first, where a file follows two of them.
_NAMES = ("factur-x.xml", "xrechnung.xml", "zugferd-invoice.xml")

# It warns of every oddity of a file, with what the file says there.
logging.getLogger("pypdf").setLevel(logging.CRITICAL)


def attached_invoice(content: bytes, is_invoice: Callable[[QName], bool]) -> bytes | None:
    """The XML of the invoice in a PDF; None if no XML is attached.

    Args:
        is_invoice: tells the element of one by its name.

    Raises:
        Refused: the PDF cannot be opened, or what is attached to it is no invoice.
    """
    attached = _attached(content)
    for name in _NAMES:
        if name in attached:
            return attached[name]
    for data in attached.values():
        if not xml.in_utf_8(data).lstrip(xml.MARKS_AND_SPACE).startswith(b"<"):
            continue
        try:
            xml.payload(xml.parse(data), is_invoice)
        except Refused:
            continue
        return data
    if any(name.endswith(".xml") for name in attached):
        raise Refused("the XML attached to the PDF is no invoice", "pdf")
    return None


def check_pages(content: bytes) -> None:
    """Keeps pages that unpack to more than a printed one holds from the reader of pages, which has no limit.

    Raises:
        Refused: the PDF cannot be opened, or a page or a form on it is too large.
    """
    with _opened(content) as reader:
        for page in reader.pages:
            contents = page.get_contents()
            streams = [] if contents is None else [contents]
            waiting, seen = [page.get("/Resources")], set()
            while waiting:
                resources = _resolved(waiting.pop()) or {}
                for form in map(_resolved, (_resolved(resources.get("/XObject")) or {}).values()):
                    if form.get("/Subtype") == "/Form" and id(form) not in seen:
                        seen.add(id(form))
                        streams.append(form)
                        waiting.append(form.get("/Resources"))
            if any(len(stream.get_data()) > MAX_PAGE_BYTES for stream in streams):
                raise Refused("a page of the PDF unpacks to more than a printed page holds", "printed")


@contextmanager
def _opened(content: bytes) -> Iterator[PdfReader]:
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("the PDF is encrypted", "pdf")
        yield reader
    except Refused:
        raise
    except DependencyError:
        raise Refused("the PDF is encrypted", "pdf") from None
    except LimitReachedError:
        raise Refused("the PDF unpacks to too much", "pdf") from None
    except Exception as error:
        # What a damaged file makes pypdf stumble over raises errors of many kinds, most of them not its own.
        raise Refused(f"the PDF is damaged ({type(error).__name__})", "pdf") from None


def _attached(content: bytes) -> dict[str, bytes]:
    with _opened(content) as reader:
        # What the catalog has can be read where pages are damaged.
        return _files(_of_catalog(reader)) or _files(_of_pages(reader))


def _files(specifications: Iterator[Any]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for specification in specifications:
        if not isinstance(specification, dict):
            continue
        name = str(specification.get("/UF") or specification.get("/F") or "").strip().lower()
        files = _resolved(specification.get("/EF")) or {}
        data = next((files[key] for key in ("/F", "/UF", "/DOS", "/Unix", "/Mac") if key in files), None)
        if data is not None:
            found.setdefault(name, _resolved(data).get_data())
    return found


def _of_catalog(reader: PdfReader) -> Iterator[Any]:
    """The file specifications of the catalog's name tree, then its associated files that the tree leaves out."""
    catalog = _resolved(reader.trailer["/Root"])
    names = _resolved(catalog.get("/Names")) or {}
    waiting = [names["/EmbeddedFiles"]] if "/EmbeddedFiles" in names else []
    visited = 0
    while waiting:
        node = _resolved(waiting.pop(0))
        visited += 1
        if visited > 1000:
            raise Refused("the PDF's list of attached files has no end", "pdf")
        yield from map(_resolved, (_resolved(node.get("/Names")) or [])[1::2])
        waiting += _resolved(node.get("/Kids")) or []
    yield from _associated(catalog)


def _of_pages(reader: PdfReader) -> Iterator[Any]:
    """The file specifications that pages are associated with or show as an annotation."""
    for page in reader.pages:
        yield from _associated(page)
        for annotation in map(_resolved, _resolved(page.get("/Annots")) or []):
            if isinstance(annotation, dict) and annotation.get("/Subtype") == "/FileAttachment":
                yield _resolved(annotation.get("/FS"))


def _associated(holder: Any) -> Iterator[Any]:
    files = _resolved(holder.get("/AF")) or []
    yield from map(_resolved, files if isinstance(files, list) else [files])


def _resolved(value: Any) -> Any:
    return value.get_object() if hasattr(value, "get_object") else value
