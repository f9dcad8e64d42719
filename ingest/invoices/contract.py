"""The landing contract of invoices: one JSON document, one line of a file.

Every scalar is landed as a string, so that nothing is lost before the pipeline has judged it: numbers as decimal
strings (`"3380.00"`), dates as `YYYY-MM-DD`. Rates are percentages (`"5"` is 5 %). A field without a value is left out.
The numbers of the terms (BT-1 …) are those of EN 16931-1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

Document = dict[str, Any]

INVOICE = "380"
CORRECTED_INVOICE = "384"
CREDIT_NOTE = "381"
CREDIT_TYPES = frozenset({"81", "83", "261", "381", "396"})
"""UNTDID 1001 codes whose amounts reduce what was sold, though they are written positive."""


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


FIELDS = (
    Field(
        "seller",
        Type.OBJECT,
        required=True,
        fields=(
            Field("id", term="BT-29"),
            Field("name", required=True, term="BT-27"),
            Field("address", term="BG-5"),
            Field("country_code", term="BT-40"),
        ),
    ),
    Field("customer", Type.OBJECT, fields=(Field("id", term="BT-46"), Field("name", term="BT-44"))),
    Field("bill_to", Type.OBJECT, fields=(Field("name", term="BT-44"), Field("address", term="BG-8"))),
    Field("ship_to", Type.OBJECT, fields=(Field("name", term="BT-70"), Field("address", term="BG-15"))),
    Field("invoice_number", required=True, term="BT-1"),
    Field("document_type_code", term="BT-3"),
    Field("invoice_date", Type.DATE, required=True, term="BT-2"),
    Field("due_date", Type.DATE, term="BT-9"),
    Field("currency_code", required=True, term="BT-5"),
    Field("purchase_order_number", term="BT-13"),
    Field("preceding_invoice_number", term="BT-25"),
    Field("payment_method", term="BT-82"),
    Field("payment_terms", term="BT-20"),
    Field("status"),
    Field(
        "lines",
        Type.LIST,
        required=True,
        fields=(
            Field("line_number", Type.INTEGER, term="BT-126"),
            Field("item_id", term="BT-155"),
            Field("item_name", term="BT-153"),
            Field("quantity", Type.DECIMAL, term="BT-129"),
            Field("unit_of_measure", term="BT-130"),
            Field("unit_price", Type.DECIMAL, term="BT-146"),
            _amount("line_net_amount", "BT-131"),
            Field("tax_rate", Type.DECIMAL, term="BT-152"),
        ),
    ),
    _amount("subtotal_amount", "BT-106"),
    Field("discount_rate", Type.DECIMAL, term="BT-94"),
    _amount("discount_amount", "BT-107"),
    _amount("charge_amount", "BT-108"),
    Field("tax_rate", Type.DECIMAL, term="BT-119"),
    _amount("tax_amount", "BT-110"),
    _amount("total_amount", "BT-112", required=True),
    _amount("amount_paid", "BT-113"),
    _amount("balance_due_amount", "BT-115"),
    Field("source_file"),
)


def ddl() -> str:
    """The columns of a landed document in Spark's DDL: what `read_files` is given as its schema."""
    return ", ".join(f"{field.name} {field.ddl}" for field in FIELDS)


def problems(document: Any) -> list[str]:
    """What keeps `document` from being one of this contract: a path and a reason each, no values; empty if nothing."""
    if not isinstance(document, Mapping):
        return ["the document is not a JSON object"]
    return list(_object_problems(document, FIELDS, ""))


def _object_problems(value: Mapping[str, Any], fields: tuple[Field, ...], prefix: str):
    known = {field.name for field in fields}
    yield from (f"{prefix}{name} is not a field of the contract" for name in value if name not in known)
    for field in fields:
        path = f"{prefix}{field.name}"
        content = value.get(field.name)
        if content is None or content == "" or content == []:
            if field.required:
                yield f"{path} is missing"
        elif field.type is Type.OBJECT:
            if isinstance(content, Mapping):
                yield from _object_problems(content, field.fields, f"{path}.")
            else:
                yield f"{path} is not an object"
        elif field.type is Type.LIST:
            if not isinstance(content, list):
                yield f"{path} is not a list"
                continue
            for position, element in enumerate(content, start=1):
                if isinstance(element, Mapping):
                    yield from _object_problems(element, field.fields, f"{path}[{position}].")
                else:
                    yield f"{path}[{position}] is not an object"
        elif not isinstance(content, str):
            yield f"{path} is not a string"
        elif not _is_valid(content, field):
            yield f"{path} is not {_EXPECTED[field.type]}"


_EXPECTED = {
    Type.INTEGER: "an integer",
    Type.DECIMAL: "a decimal number (amounts have at most two decimals)",
    Type.DATE: "a date YYYY-MM-DD",
}


def _is_valid(text: str, field: Field) -> bool:
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
        try:
            number = Decimal(text)
        except InvalidOperation:
            return False
        return number.is_finite() and (field.scale is None or number == round(number, field.scale))
    return True
