"""XML of invoices: parsed without entities and network, and read by local names, whatever prefixes they have."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any, TypeAlias

from lxml import etree

from ingest.invoices.contract import NUMBER, Document
from ingest.invoices.readers.errors import Refused

Element: TypeAlias = etree._Element

MARKS_AND_SPACE = b"\xef\xbb\xbf \t\r\n"
"""Bytes before a document: two byte order marks occur where a file was joined from parts."""

_UTF_16 = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"<\x00": "utf-16-le", b"\x00<": "utf-16-be"}
_DECLARATION = re.compile(rb"^\s*<\?xml\s[^>]*\?>")
_CENT = Decimal("0.01")
_ATTACHED_TEXT = "{*}Attachment/{*}ExternalReference/{*}Description"


def in_utf_8(content: bytes) -> bytes:
    """The content as it is, or without its declaration in UTF-8 if it is in UTF-16."""
    for mark, encoding in _UTF_16.items():
        if content.startswith(mark):
            with suppress(UnicodeDecodeError):
                return _DECLARATION.sub(b"", content.decode(encoding).encode())
    return content


def parse(content: bytes) -> Element:
    """The root of a document.

    An encoding that is declared wrongly is corrected to UTF-8 or Windows-1252, and bytes without markup after the end
    of the document are ignored.

    Raises:
        Refused: it is not well-formed, or has a document type declaration, so that entities never expand.
    """
    root = _tree(content)
    if root.getroottree().docinfo.internalDTD is not None or root.getroottree().docinfo.doctype:
        raise Refused("the XML has a document type declaration, which may hold entities", "xml")
    return root


def _tree(content: bytes) -> Element:
    content = in_utf_8(content).lstrip(MARKS_AND_SPACE)
    failure: etree.XMLSyntaxError | None = None
    for encoding in (None, "utf-8", "windows-1252"):
        for candidate in (content, _without_trailing_bytes(content)):
            if encoding is not None:
                candidate = _DECLARATION.sub(b"", candidate, count=1)
            # A parser keeps errors, so that each attempt has one of its own.
            parser = etree.XMLParser(
                encoding=encoding,
                resolve_entities=False,
                no_network=True,
                load_dtd=False,
                dtd_validation=False,
                # Attachments may be large. Where no entity is declared, and the bytes are known to be what they look
                # like, nothing else grows.
                huge_tree=encoding is not None and b"<!DOCTYPE" not in candidate,
                remove_comments=True,
                remove_pis=True,
            )
            try:
                return etree.fromstring(candidate, parser)
            except etree.XMLSyntaxError as error:
                failure = failure or error
            except ValueError:
                continue
    line = failure.lineno if failure is not None else 0
    kind = etree.ErrorTypes._getName(failure.code, "") if failure is not None else ""
    raise Refused(f"the XML is not well-formed: {kind or 'syntax error'} in line {line}", "xml")


def _without_trailing_bytes(content: bytes) -> bytes:
    last = content.rfind(b">") + 1
    if last and b"\0" not in content[:4]:
        return content[:last]
    return content


def binary_content(root: Element) -> bytes | None:
    """The file that an envelope carries in base64, such as a hybrid PDF; None if it carries none.

    A Peppol envelope may, and a UBL `AttachedDocument` that does not hold the other document as text.

    Raises:
        Refused: it is not in base64.
    """
    encoded = root.findtext("{http://peppol.eu/xsd/ticc/envelope/1.0}BinaryContent")
    if etree.QName(root).localname == "AttachedDocument" and not (root.findtext(_ATTACHED_TEXT) or "").strip():
        encoded = root.findtext("{*}Attachment/{*}EmbeddedDocumentBinaryObject")
    if encoded is None:
        return None
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except ValueError:
        raise Refused("the content of the envelope is not in base64", "xml") from None


def payload(root: Element, is_invoice: Callable[[etree.QName], bool]) -> Element:
    """The invoice that `root` is, or that is in its envelope.

    Envelopes are of any kind: a Standard Business Document, a SOAP message, a UBL `AttachedDocument`, which holds
    another document as text.

    Raises:
        Refused: there is none, or more than one.
    """
    if etree.QName(root).localname == "AttachedDocument":
        # What was its encoding, before it became text of another document, is no longer.
        attached = root.findtext(_ATTACHED_TEXT) or ""
        root = parse(_DECLARATION.sub(b"", attached.encode()))
    candidates = [root] if is_invoice(etree.QName(root)) else root.iter(etree.Element)
    found = [element for element in candidates if is_invoice(etree.QName(element))]
    if not found:
        name = etree.QName(root).localname[:60]
        raise Refused(f"the root element {name} is not that of a UBL 2 or CII invoice", "xml")
    if len(found) > 1:
        raise Refused(f"the envelope holds {len(found)} invoices; one is expected", "xml")
    return found[0]


def with_local_names(element: Element) -> Element:
    """The element, whose tags and those below it are without namespaces from now on."""
    for found in element.iter(etree.Element):
        found.tag = etree.QName(found).localname
    return element


def text(element: Element | None, *paths: str) -> str | None:
    """The text at the first of these paths that has one, in one line; None if none has."""
    if element is None:
        return None
    for path in paths:
        for found in element.iterfind(path):
            content = " ".join("".join(found.itertext()).split())
            if content:
                return content
    return None


def attribute(element: Element | None, path: str, key: str) -> str | None:
    found = element.find(path) if element is not None else None
    return (found.get(key) or "").strip() or None if found is not None else None


def number(written: str | None) -> str | None:
    """A number as JSON's readers write it, `0.5` for `.5`; what is no number is left for the contract to refuse."""
    if written is None or not NUMBER.fullmatch(written):
        return written
    return f"{Decimal(written):f}"


def decimal(written: str | None) -> Decimal | None:
    """None for what is no number."""
    return Decimal(written) if written is not None and NUMBER.fullmatch(written) else None


def flag(written: str | None) -> str:
    """`true` or `false` for an `xs:boolean`, of which some write `True`."""
    return "true" if written is not None and written.lower() in ("true", "1") else "false"


def amount(written: str | None) -> str | None:
    """Money with two decimals; more of them only where they are not zero."""
    plain = number(written)
    if plain is None or not NUMBER.fullmatch(plain):
        return plain
    exact = Decimal(plain)
    # What quantize cannot do without rounding stays as it is.
    if exact.adjusted() > 20 or exact != round(exact, 2):
        return plain
    return f"{exact.quantize(_CENT):f}"


def total(amounts: Iterable[str | None]) -> str | None:
    """The sum of amounts; None if there is none or one is no number."""
    given = [value for value in amounts if value is not None]
    if not given or any(not NUMBER.fullmatch(value) for value in given):
        return None
    return amount(f"{sum(map(Decimal, given)):f}")


def in_currency(elements: Iterable[Element], currency: str | None) -> list[Element]:
    """Those of the amounts that are in `currency` or do not say in which; Jordan's `JO` is no code of a currency."""
    return [
        found
        for found in elements
        if found.get("currencyID") == currency or not re.fullmatch("[A-Z]{3}", found.get("currencyID", ""))
    ]


def amount_of(name: str, elements: list[Element], currency: str | None) -> str | None:
    """The amount of the first of these elements that is in the document's currency; None where there is no element.

    Raises:
        Refused: all are in another currency.
    """
    same = in_currency(elements, currency)
    if elements and not same:
        raise Refused(f"{name} is in another currency than the document")
    return amount(text(same[0], ".")) if same else None


def amount_in_tax_currency(elements: Iterable[Element], tax_currency: str | None, currency: str | None) -> str | None:
    """The tax in the currency that it is paid in, where that is another than the document's."""
    if not tax_currency or tax_currency == currency:
        return None
    found = [element for element in elements if element.get("currencyID") == tax_currency]
    return amount(text(found[0], ".")) if found else None


def day(written: str | None) -> str | None:
    """`YYYY-MM-DD` of an `xs:date`, `xs:dateTime` or a UN/CEFACT date (formats 102, 203, 204); else as written."""
    if written is None:
        return None
    if match := re.match(r"(\d{4})-?(\d{2})-?(\d{2})(?!\d)|(\d{4})(\d{2})(\d{2})(?:\d{4}|\d{6})\Z", written, re.ASCII):
        return "-".join(part for part in match.groups() if part)
    return written


def line_number(written: str | None) -> dict[str, Any]:
    """`line_number` if it is a whole number, else `line_id`."""
    if written is None:
        return {}
    return {"line_number" if re.fullmatch(r"\d{1,9}", written, re.ASCII) else "line_id": written}


def line_kind(written: str | None) -> str | None:
    """`detail`, `group` or `information` of a code that Factur-X and France's extension of UBL write in capitals."""
    kind = (written or "").lower()
    return kind if kind in ("detail", "group", "information") else None


def compact(value: Any) -> Any:
    """Without what is None or empty, at any depth."""
    if isinstance(value, dict):
        pairs = ((key, compact(content)) for key, content in value.items())
        return {key: content for key, content in pairs if content not in (None, "", [], {})}
    if isinstance(value, list):
        return [content for content in map(compact, value) if content not in (None, "", [], {})]
    return value


def settle_kinds(lines: list[Document], parents: list[int | None]) -> list[Document]:
    """The lines, each with its kind, so that what details add up to counts once.

    A line that names no amount, quantity or price is information. Where the document says nothing of kinds, a line over
    others is a heading (`group`) if they add up to its amount; if they do not, its own amount is the one that counts,
    and they are information.

    Args:
        parents: the position of the line that each one stands below.
    """
    for line in lines:
        if not any(field in line for field in ("line_net_amount", "quantity", "unit_price")):
            line.setdefault("line_kind", "information")
    if any(line.get("line_kind") in ("group", "detail") for line in lines):
        return lines
    below = defaultdict(list)
    for position, parent in enumerate(parents):
        below[parent].append(position)
    waiting = [(position, True) for position in below[None]]
    while waiting:
        position, counts = waiting.pop()
        line, parts = lines[position], [lines[part] for part in below[position]]
        if not counts:
            line["line_kind"] = "information"
        elif parts and line.get("line_kind") != "information":
            counts = total(part.get("line_net_amount", "x") for part in parts) == line.get("line_net_amount")
            if counts:
                line["line_kind"] = "group"
        waiting += [(part, counts) for part in below[position]]
    return lines


def allowance_charges(elements: Iterable[Element], paths: Mapping[str, str]) -> list[Document]:
    """The allowances and charges of the contract that name an amount.

    Args:
        paths: where below each element a field is. What has no `is_charge` is a charge.
    """
    values = {"is_charge": flag, "amount": amount, "base_amount": amount, "rate": number, "tax_rate": number}
    entries = [
        {"is_charge": "true"}
        | {field: values.get(field, _as_written)(text(found, path)) for field, path in paths.items()}
        for found in elements
    ]
    return [entry for entry in entries if entry["amount"] is not None]


def _as_written(value: str | None) -> str | None:
    return value


def discount_rate(entries: list[Document]) -> str | None:
    """The rate of the document's only allowance."""
    rates = [entry.get("rate") for entry in entries if entry.get("is_charge") == "false"]
    return rates[0] if len(rates) == 1 else None


def tax_rate(taxes: list[Document]) -> str | None:
    """The rate of the document's only tax."""
    return taxes[0].get("tax_rate") if len(taxes) == 1 else None


def charged(entries: list[Document], is_charge: bool) -> str | None:
    """The sum of the allowances, or of the charges."""
    wanted = str(is_charge).lower()
    return total(entry.get("amount") for entry in entries if entry.get("is_charge") == wanted)
