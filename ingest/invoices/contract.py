"""The landing contract of invoices: one JSON document, one line of a file.

Every scalar is landed as a string, so that nothing is lost before the pipeline has judged it: numbers as decimal
strings (`"3380.00"`), dates as `YYYY-MM-DD`. Rates are percentages (`"5"` is 5 %). A field without a value is left out.
The numbers of the terms (BT-1 …) are those of EN 16931-1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

Document = dict[str, Any]

INVOICE = "380"
CREDIT_NOTE = "381"
CREDIT_TYPES = frozenset({"81", "83", "261", "262", "296", "308", "381", "396", "420", "458", "502", "503", "532"})
"""UNTDID 1001 codes of the credit notes of EN 16931: their amounts reduce what was sold, though written positive."""

NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})", re.ASCII)
"""A DECIMAL as it is landed; what is longer is none, so that all of them can be reckoned with."""


class Type(enum.StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    DATE = "date"
    OBJECT = "object"
    LIST = "list"


@dataclass(frozen=True)
class Field:
    """One field of a document.

    Attributes:
        term: its number in EN 16931-1, if it has one.
        scale: the most decimal places that a DECIMAL may have; None where the standard sets no limit.
        fields: what an OBJECT, or each element of a LIST, holds.
    """

    name: str
    type: Type = Type.TEXT
    required: bool = False
    term: str | None = None
    scale: int | None = None
    fields: tuple[Field, ...] = ()

    @property
    def ddl(self) -> str:
        """The type as it is landed, in Spark's DDL."""
        if not self.fields:
            return "STRING"
        struct = f"STRUCT<{', '.join(f'{field.name}: {field.ddl}' for field in self.fields)}>"
        return f"ARRAY<{struct}>" if self.type is Type.LIST else struct


def _amount(name: str, term: str, *, required: bool = False) -> Field:
    return Field(name, Type.DECIMAL, required=required, term=term, scale=2)


_ALLOWANCE_CHARGE = (
    Field("is_charge"),
    _amount("amount", "BT-92", required=True),
    _amount("base_amount", "BT-93"),
    Field("rate", Type.DECIMAL, term="BT-94"),
    Field("reason_code", term="BT-98"),
    Field("reason", term="BT-97"),
    Field("tax_category_code", term="BT-95"),
    Field("tax_rate", Type.DECIMAL, term="BT-96"),
)
_PARTY_IDENTIFIERS = (
    Field("legal_id", term="BT-30"),
    Field("vat_id", term="BT-31"),
    Field("electronic_address", term="BT-34"),
)

FIELDS = (
    Field(
        "seller",
        Type.OBJECT,
        required=True,
        fields=(
            Field("id", term="BT-29"),
            Field("id_scheme", term="BT-29-1"),
            Field("name", required=True, term="BT-27"),
            *_PARTY_IDENTIFIERS,
            Field("address", term="BG-5"),
            Field("country_code", term="BT-40"),
        ),
    ),
    Field(
        "customer",
        Type.OBJECT,
        fields=(
            Field("id", term="BT-46"),
            Field("id_scheme", term="BT-46-1"),
            Field("name", term="BT-44"),
            *_PARTY_IDENTIFIERS,
        ),
    ),
    Field(
        "bill_to",
        Type.OBJECT,
        fields=(Field("name", term="BT-44"), Field("address", term="BG-8"), Field("country_code", term="BT-55")),
    ),
    Field(
        "ship_to",
        Type.OBJECT,
        fields=(Field("name", term="BT-70"), Field("address", term="BG-15"), Field("country_code", term="BT-80")),
    ),
    Field("invoice_number", required=True, term="BT-1"),
    Field("document_type_code", term="BT-3"),
    Field("specification_id", term="BT-24"),
    Field("invoice_date", Type.DATE, required=True, term="BT-2"),
    Field("due_date", Type.DATE, term="BT-9"),
    Field("delivery_date", Type.DATE, term="BT-72"),
    Field("period_start", Type.DATE, term="BT-73"),
    Field("period_end", Type.DATE, term="BT-74"),
    Field("currency_code", required=True, term="BT-5"),
    Field("tax_currency_code", term="BT-6"),
    Field("buyer_reference", term="BT-10"),
    Field("contract_number", term="BT-12"),
    Field("purchase_order_number", term="BT-13"),
    Field("sales_order_number", term="BT-14"),
    Field("preceding_invoice_number", term="BT-25"),
    Field(
        "preceding_invoices",
        Type.LIST,
        fields=(Field("invoice_number", term="BT-25"), Field("invoice_date", Type.DATE, term="BT-26")),
    ),
    Field("payment_means_code", term="BT-81"),
    Field("payment_method", term="BT-82"),
    Field("payment_terms", term="BT-20"),
    Field("notes", Type.LIST, fields=(Field("subject_code", term="BT-21"), Field("text", term="BT-22"))),
    Field("status"),
    Field("lines_omitted"),
    Field(
        "lines",
        Type.LIST,
        fields=(
            Field("line_number", Type.INTEGER, term="BT-126"),
            Field("line_id", term="BT-126"),
            Field("parent_line_id"),
            Field("line_kind"),
            Field("item_id", term="BT-155"),
            Field("buyer_item_id", term="BT-156"),
            Field("standard_item_id", term="BT-157"),
            Field("standard_item_id_scheme", term="BT-157-1"),
            Field("item_name", term="BT-153"),
            Field("item_description", term="BT-154"),
            Field("quantity", Type.DECIMAL, term="BT-129"),
            Field("unit_of_measure", term="BT-130"),
            Field("unit_price", Type.DECIMAL, term="BT-146"),
            Field("gross_price", Type.DECIMAL, term="BT-148"),
            Field("price_base_quantity", Type.DECIMAL, term="BT-149"),
            Field("price_base_unit", term="BT-150"),
            _amount("line_net_amount", "BT-131"),
            Field("tax_category_code", term="BT-151"),
            Field("tax_rate", Type.DECIMAL, term="BT-152"),
            Field("period_start", Type.DATE, term="BT-134"),
            Field("period_end", Type.DATE, term="BT-135"),
            Field("order_line_number", term="BT-132"),
            Field("note", term="BT-127"),
            Field("allowance_charges", Type.LIST, term="BG-27", fields=_ALLOWANCE_CHARGE),
        ),
    ),
    _amount("subtotal_amount", "BT-106"),
    Field("discount_rate", Type.DECIMAL, term="BT-94"),
    _amount("discount_amount", "BT-107"),
    _amount("charge_amount", "BT-108"),
    Field("allowance_charges", Type.LIST, term="BG-20", fields=_ALLOWANCE_CHARGE),
    _amount("total_ex_tax_amount", "BT-109"),
    Field("tax_rate", Type.DECIMAL, term="BT-119"),
    _amount("tax_amount", "BT-110"),
    _amount("tax_amount_in_tax_currency", "BT-111"),
    Field(
        "taxes",
        Type.LIST,
        term="BG-23",
        fields=(
            Field("tax_category_code", term="BT-118"),
            Field("tax_rate", Type.DECIMAL, term="BT-119"),
            _amount("taxable_amount", "BT-116"),
            _amount("tax_amount", "BT-117", required=True),
            Field("exemption_reason_code", term="BT-121"),
            Field("exemption_reason", term="BT-120"),
        ),
    ),
    _amount("total_amount", "BT-112", required=True),
    _amount("amount_paid", "BT-113"),
    _amount("rounding_amount", "BT-114"),
    Field("third_party_amount", Type.DECIMAL, scale=2),
    Field("withheld_tax_amount", Type.DECIMAL, scale=2),
    _amount("balance_due_amount", "BT-115"),
    Field("source_file"),
)
"""The fields of a document.

`is_charge` is `true` or `false`. A line's `line_kind` is `detail` (also if absent), `group` for a heading over lines
that name it in `parent_line_id`, or `information`: only details are amounts of the document, the others would count
twice. A document has lines, or says by `lines_omitted` = `true` that its profile has none (as Factur-X MINIMUM).
"""


def ddl() -> str:
    """The columns of a landed document in Spark's DDL: what `read_files` is given as its schema."""
    return ", ".join(f"{field.name} {field.ddl}" for field in FIELDS)


def problems(document: Any, *, only_refusing: bool = False) -> list[str]:
    """What keeps `document` from being one of this contract: a path and a reason each, no values; empty if nothing.

    Args:
        only_refusing: leaves out what the pipeline judges itself: malformed dates and numbers of lines that are not
            required, and amounts with more than two decimals.
    """
    if not isinstance(document, Mapping):
        return ["the document is not a JSON object"]
    found = list(_object_problems(document, FIELDS, "", only_refusing))
    if not document.get("lines") and document.get("lines_omitted") != "true":
        found.append("lines is missing")
    return found


def _object_problems(
    value: Mapping[str, Any], fields: tuple[Field, ...], prefix: str, only_refusing: bool
) -> Iterator[str]:
    known = {field.name for field in fields}
    yield from (f"{prefix}{_shown(name)} is not a field of the contract" for name in value if name not in known)
    for field in fields:
        path = f"{prefix}{field.name}"
        content = value.get(field.name)
        if content is None or content == "" or content == []:
            if field.required:
                yield f"{path} is missing"
        elif field.type is Type.OBJECT:
            if isinstance(content, Mapping):
                yield from _object_problems(content, field.fields, f"{path}.", only_refusing)
            else:
                yield f"{path} is not an object"
        elif field.type is Type.LIST:
            if not isinstance(content, list):
                yield f"{path} is not a list"
                continue
            for position, element in enumerate(content, start=1):
                if isinstance(element, Mapping):
                    yield from _object_problems(element, field.fields, f"{path}[{position}].", only_refusing)
                else:
                    yield f"{path}[{position}] is not an object"
        elif not isinstance(content, str):
            yield f"{path} is not a string"
        elif not _is_valid(content, field, only_refusing):
            yield f"{path} is not {_EXPECTED[field.type]}"


def _shown(name: str) -> str:
    return name if re.fullmatch(r"\w{1,60}", name) else ascii(name[:60])


_EXPECTED = {
    Type.TEXT: "text in Unicode",
    Type.INTEGER: "an integer",
    Type.DECIMAL: "a decimal number (amounts have at most two decimals)",
    Type.DATE: "a date YYYY-MM-DD",
}


def _is_valid(text: str, field: Field, only_refusing: bool) -> bool:
    # JSON can hold halves of characters, which no file can.
    if re.search("[\ud800-\udfff]", text):
        return False
    if only_refusing and not field.required and field.type in (Type.DATE, Type.INTEGER):
        return True
    if field.type is Type.DATE:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return False
        try:
            date.fromisoformat(text)
        except ValueError:
            return False
        return True
    if field.type is Type.INTEGER:
        return re.fullmatch(r"\d+", text, re.ASCII) is not None
    if field.type is Type.DECIMAL:
        if not NUMBER.fullmatch(text):
            return False
        return only_refusing or field.scale is None or not text.partition(".")[2][field.scale :].strip("0")
    return True
