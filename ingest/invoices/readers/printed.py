"""The company's own invoices as they are printed: a PDF read by the positions of its words.

Labels drift from version to version, so each has synonyms; discount, tax, prices and most of the head are optional. A
page is rows of cells (words that stand close together). Amounts are taken by the column that they stand in, and what
was read is believed only if it adds up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from io import BytesIO
from typing import Any

import pdfplumber

from ingest.invoices.contract import CREDIT_NOTE, INVOICE, Document
from ingest.invoices.readers import pdf
from ingest.invoices.readers.errors import Refused
from ingest.invoices.readers.xml import compact

MAX_PAGES = 100
MAX_CHARACTERS = 20_000
"""Of a page; comparing them all takes the square of their number."""

_ROW_TOLERANCE = 3.0  # points that the baselines of bold and plain words in a row differ by
_CENT = Decimal("0.01")

# As `_label` writes them: lower case, `no` for every word that means a number.
_HEAD = {
    "invoice_number": ("no", "invoice no", "inv no", "credit note no", "document no"),
    "invoice_date": ("date", "invoice date", "date of invoice", "issue date", "date of issue", "issued", "issued on"),
    "due_date": ("due date", "due", "payment due", "pay by"),
    "payment_method": ("payment method", "payment terms", "payment", "paid by", "method of payment"),
    "customer_id": ("customer no", "member no", "membership no", "client no", "account no"),
    "purchase_order_number": ("po no", "po", "purchase order", "purchase order no", "order no", "your order"),
    "preceding_invoice_number": (
        "original invoice", "original invoice no", "credit for invoice", "refers to invoice", "corrects invoice",
    ),
    "currency_code": ("currency", "invoice currency"),
    "balance_due_amount": (
        "balance due", "amount due", "balance", "outstanding", "amount outstanding", "balance outstanding",
    ),
}  # fmt: skip
_TOTALS = {
    "subtotal_amount": ("subtotal", "sub total", "sub-total", "net", "net amount", "net total", "total before tax"),
    "discount_amount": ("discount", "discounts", "disc", "member discount", "total discount", "rebate"),
    "charge_amount": (
        "shipping", "delivery", "freight", "postage", "shipping & handling", "handling", "charges", "delivery fee",
        "shipping fee", "service charge", "surcharge",
    ),
    "tax_amount": ("tax", "vat", "gst", "sales tax", "tax amount", "vat amount", "gst amount", "total tax"),
    "rounding_amount": ("rounding", "rounding adjustment", "rounding difference"),
    "total_amount": (
        "total", "grand total", "total amount", "invoice total", "total due", "amount payable", "total payable",
    ),
    "amount_paid": ("amount paid", "paid", "payments", "payment received", "payments received", "deposit paid"),
    "balance_due_amount": _HEAD["balance_due_amount"],
}  # fmt: skip
_COLUMNS = {
    "item": ("item", "items", "description", "product", "products", "article", "service", "item description"),
    "quantity": ("quantity", "qty", "units", "pieces"),
    "unit_price": ("rate", "unit price", "price", "price/unit", "unit cost", "price each"),
    "amount": ("amount", "line total", "total", "line amount", "net amount"),
}
_SEVERAL = ("discount_amount", "charge_amount", "tax_amount")
_BETWEEN_PAGES = re.compile(r"page \d+( ?(of|/) ?\d+)?|(carried|brought) forward|continued( on next page)?")
_BILL_TO = ("bill to", "billed to", "invoice to", "sold to", "customer")
_SHIP_TO = ("ship to", "deliver to", "delivered to", "delivery to")
_TERMS = ("terms", "notes", "terms & conditions", "conditions")
_CREDIT_TITLES = ("credit note", "credit memo")
_VOID_TITLES = ("cancelled", "canceled", "void")

# As CLDR's English locale writes them, which is how the company's `HK$` is written.
_CURRENCIES = {
    "HK$": "HKD", "US$": "USD", "$": "USD", "A$": "AUD", "AU$": "AUD", "C$": "CAD", "CA$": "CAD", "NZ$": "NZD",
    "S$": "SGD", "SG$": "SGD", "NT$": "TWD", "MOP$": "MOP", "MX$": "MXN", "R$": "BRL", "€": "EUR", "£": "GBP",
    "¥": "JPY", "JP¥": "JPY", "CN¥": "CNY", "RMB": "CNY", "₩": "KRW", "₹": "INR", "₫": "VND", "₱": "PHP", "₪": "ILS",
    "฿": "THB", "RM": "MYR", "Rp": "IDR",
}  # fmt: skip
_SYMBOL = "|".join(re.escape(symbol).replace(r"\$", r"\s?\$") for symbol in sorted(_CURRENCIES, key=len, reverse=True))
_MINUS = r"[-\u2212\u2013]"
_SPACES = r" \u00a0\u202f"
_MONEY = re.compile(
    rf"(?P<open>\()?(?P<minus>{_MINUS})?\s*(?P<before>{_SYMBOL}|[A-Z]{{3}})?\s*(?P<inner>{_MINUS})?"
    rf"\s*(?P<digits>\d[\d.,'{_SPACES}]*)\s*(?P<after>{_SYMBOL}|[A-Z]{{3}})?\)?"
)
_QUANTITY = re.compile(r"(-?[\d.,]*\d)(?:\s*([A-Za-z]{1,6})\.?)?")
_RATE = re.compile(r"(\d+(?:[.,]\d+)?)\s*%")
_NUMBERED = re.compile(r"(?:(?:invoice|inv\.?|credit note) ?(?:#|no\.?|number)|#):? ?(\S*\d\S*)", re.I)
_DATES_IN_DIGITS = ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y")
_DATES_IN_WORDS = ("%b %d %Y", "%B %d %Y", "%d %b %Y", "%d %B %Y", "%d %b %y", "%d %B %y")


@dataclass(frozen=True)
class _Cell:
    """Words of one row that stand close together; positions in points from the page's left and the first page's top."""

    text: str
    left: float
    right: float
    top: float
    page: int

    @property
    def label(self) -> str:
        return _label(self.text)


Row = list[_Cell]

# It warns of every oddity of a file, with what the file says there.
logging.getLogger("pdfminer").setLevel(logging.CRITICAL)


def read(content: bytes) -> Document:
    """The document that the pages of a PDF print.

    Raises:
        Refused: there is no text, the layout is not the company's, a value cannot be read for certain, or what was
            read does not add up.
    """
    rows = list(_rows(content))
    if not rows:
        raise Refused("the PDF has no XML attached and no text; a scanned page is not read", "printed")
    header = _header(rows)
    if header is None:
        raise Refused("the PDF has no XML attached and no table of items under known headings", "printed")
    try:
        return _document(rows, header)
    except Refused as error:
        raise Refused(error.reason, "printed") from None


def _document(rows: list[Row], header: int) -> Document:
    end = next(
        (
            index
            for index, row in enumerate(rows)
            if index > header and any(_named(cell, _TOTALS) for cell in row)
            if not _columns(row) and not _is_item(_values(row, _columns(rows[header])))
        ),
        None,
    )
    if end is None:
        raise Refused("no subtotal or total follows the items")
    head = dict(_pairs(rows[:header], _HEAD))
    totals = list(_pairs(rows[end:], _TOTALS))
    texts = {name: value for name, (_, value) in head.items()}
    currencies: set[str] = set()
    amounts: dict[str, Decimal] = {}
    for name, (_, value) in [*head.items(), *totals]:
        if name.endswith("_amount") or name == "amount_paid":
            amount = _money(value, name, currencies)
            # A discount is printed with or without its minus.
            amount = abs(amount) if name == "discount_amount" else amount
            amounts[name] = amounts.get(name, Decimal(0)) + amount if name in _SEVERAL else amount
    lines = _lines(rows[header:end], currencies)
    if "total_amount" not in amounts:
        raise Refused("no total follows the items")
    if not currencies:
        labels = [text for _, (text, _) in totals] + [cell.text for cell in rows[header]]
        currencies = {code for label in labels for code in re.findall(r"\(([A-Z]{3})\)", label)}
        currencies |= {texts["currency_code"]} if "currency_code" in texts else set()
    if len(currencies) != 1:
        raise Refused(f"the amounts are in {len(currencies)} currencies; one is expected")
    rates = {
        f"{name}_rate": str(Decimal(match[1].replace(",", ".")))
        for name in ("discount", "tax")
        if len(labels := [label for found, (label, _) in totals if found == f"{name}_amount"]) == 1
        and (match := _RATE.search(labels[0]))
    }
    _check(lines, amounts)
    bill_to, ship_to = (_block(rows[:header], labels) for labels in (_BILL_TO, _SHIP_TO))
    titles = {cell.label for row in rows[:header] for cell in row}
    issued = _day(texts.get("invoice_date"), "invoice_date")
    terms = _terms(rows[end:])
    due = _day(texts.get("due_date"), "due_date") or _due(issued, terms)
    return compact(
        {
            "seller": _seller(rows[:header]),
            "customer": {"id": texts.get("customer_id"), "name": bill_to.get("name")},
            "bill_to": bill_to,
            "ship_to": ship_to,
            "invoice_number": (texts.get("invoice_number") or "").removeprefix("#").strip(),
            "document_type_code": CREDIT_NOTE if titles & set(_CREDIT_TITLES) else INVOICE,
            "invoice_date": issued.isoformat() if issued else None,
            "due_date": due.isoformat() if due else None,
            "currency_code": currencies.pop(),
            "purchase_order_number": texts.get("purchase_order_number"),
            "preceding_invoice_number": texts.get("preceding_invoice_number"),
            "payment_method": texts.get("payment_method"),
            "payment_terms": terms,
            "status": "cancelled" if titles & set(_VOID_TITLES) else "issued",
            "lines": [
                {"line_number": str(number), **{name: str(value) for name, value in line.items() if value is not None}}
                for number, line in enumerate(lines, start=1)
            ],
            **rates,
            **{name: str(value) for name, value in amounts.items()},
        }
    )


def _rows(content: bytes) -> Iterator[Row]:
    """The rows of all pages, from top to bottom, each from left to right."""
    pdf.check_pages(content)
    try:
        with pdfplumber.open(BytesIO(content)) as document:
            if len(document.pages) > MAX_PAGES:
                raise Refused(f"the PDF has more than {MAX_PAGES} pages and no XML attached", "printed")
            for number, page in enumerate(document.pages):
                if len(page.chars) > MAX_CHARACTERS:
                    raise Refused(f"a page of the PDF has more than {MAX_CHARACTERS} characters", "printed")
                words = page.dedupe_chars().extract_words(extra_attrs=["size"])
                words.sort(key=lambda word: (word["bottom"], word["x0"]))
                row: list[dict[str, Any]] = []
                for word in words:
                    if row and word["bottom"] - row[0]["bottom"] > _ROW_TOLERANCE:
                        yield _cells(row, number)
                        row = []
                    row.append(word)
                if row:
                    yield _cells(row, number)
                page.close()
    except Refused:
        raise
    except Exception as error:
        # pdfminer raises errors of many kinds for damaged files, most of them not its own.
        raise Refused(f"the PDF is damaged ({type(error).__name__})", "printed") from None


def _cells(words: list[dict[str, Any]], page: int) -> Row:
    cells: list[list[dict[str, Any]]] = []
    for word in sorted(words, key=lambda word: word["x0"]):
        if cells and word["x0"] - cells[-1][-1]["x1"] < 0.65 * word["size"]:
            cells[-1].append(word)
        else:
            cells.append([word])
    return [
        _Cell(" ".join(word["text"] for word in cell), cell[0]["x0"], cell[-1]["x1"], cell[0]["bottom"], page)
        for cell in cells
    ]


def _label(text: str) -> str:
    text = re.sub(r"\(.*?\)|[\d.,]+\s*%|^less\b:?|\.", "", text.lower()).strip(" :")
    text = re.sub(r"\s*/\s*", "/", re.sub(r"(^|\s)(number|nr|num|id|#)$", r"\1no", text))
    return " ".join(text.split()).replace("item/description", "item description")


def _named(cell: _Cell, labels: dict[str, tuple[str, ...]]) -> str | None:
    return next((name for name, synonyms in labels.items() if cell.label in synonyms), None)


def _pairs(rows: list[Row], labels: dict[str, tuple[str, ...]]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(name, (label, value)) of each label with a value to its right, in the same cell or the next."""
    for row in rows:
        for cell, after in zip(row, [*row[1:], None], strict=True):
            if name := _named(cell, labels):
                if after is not None:
                    yield name, (cell.text, after.text)
                continue
            label, colon, value = cell.text.partition(":")
            inside = _Cell(label, cell.left, cell.right, cell.top, cell.page)
            if colon and value.strip() and (name := _named(inside, labels)):
                yield name, (label, value.strip())
            elif "invoice_number" in labels and (match := _NUMBERED.fullmatch(cell.text)):
                yield "invoice_number", (cell.text, match[1])


def _columns(row: Row) -> dict[str, _Cell]:
    """The headings of the items by what they stand over; empty if the row is none of headings."""
    found = {name: cell for cell in row if (name := _named(cell, _COLUMNS))}
    return found if {"item", "quantity", "amount"} <= found.keys() else {}


def _header(rows: list[Row]) -> int | None:
    return next((index for index, row in enumerate(rows) if _columns(row)), None)


def _lines(rows: list[Row], currencies: set[str]) -> list[dict[str, Any]]:
    columns = _columns(rows[0])
    lines: list[dict[str, Any]] = []
    repeated = {cell.page: index for index, row in enumerate(rows) if _columns(row) for cell in row}
    for index, row in enumerate(rows):
        # What stands over repeated headings is the head of a following page.
        values = _values(row, columns)
        if index <= repeated.get(row[0].page, -1) or _BETWEEN_PAGES.fullmatch(row[0].label):
            continue
        if row[0].page > rows[0][0].page and not _is_item(values) and any(True for _ in _pairs([row], _HEAD)):
            continue
        if "amount" not in values:
            if not lines or values.keys() != {"item"}:
                raise Refused(f"a row after item {len(lines)} is neither an item nor the rest of a name")
            lines[-1]["item_name"] += f" {values['item']}"
            continue
        if "item" not in values or "quantity" not in values:
            raise Refused(f"item {len(lines) + 1} has no name or quantity")
        quantity = _QUANTITY.fullmatch(values["quantity"])
        if quantity is None:
            raise Refused(f"the quantity of item {len(lines) + 1} cannot be read")
        price = values.get("unit_price")
        lines.append(
            {
                "item_name": values["item"],
                "quantity": _plain(quantity[1], "quantity"),
                "unit_of_measure": quantity[2].upper() if quantity[2] else None,
                "unit_price": _money(price, "unit_price", currencies) if price else None,
                "line_net_amount": _money(values["amount"], "line_net_amount", currencies),
            }
        )
    if not lines:
        raise Refused("the table of items is empty")
    return lines


def _values(row: Row, columns: dict[str, _Cell]) -> dict[str, str]:
    """The text of a row by the columns that its cells stand in."""
    values: dict[str, str] = {}
    for cell in row:
        name = min(columns, key=lambda name: _distance(cell, columns[name]))
        values[name] = f"{values[name]} {cell.text}" if name in values else cell.text
    return values


def _is_item(values: dict[str, str]) -> bool:
    """Whether it is one, though it be called as a line of the totals is, such as Delivery."""
    return {"item", "quantity", "amount"} <= values.keys() and _QUANTITY.fullmatch(values["quantity"]) is not None


def _distance(cell: _Cell, heading: _Cell) -> float:
    """How far a cell is from standing flush with a heading on either side."""
    return min(abs(cell.left - heading.left), abs(cell.right - heading.right))


def _check(lines: list[dict[str, Any]], amounts: dict[str, Decimal]) -> None:
    for number, line in enumerate(lines, start=1):
        if line["unit_price"] is not None:
            exact = line["quantity"] * line["unit_price"]
            if abs(exact.quantize(_CENT, ROUND_HALF_UP) - line["line_net_amount"]) > _CENT:
                raise Refused(f"quantity x price is not the amount of item {number}")
    subtotal = sum((line["line_net_amount"] for line in lines), Decimal(0))
    if amounts.get("subtotal_amount", subtotal) != subtotal:
        raise Refused("the items do not add up to the subtotal")
    zero = Decimal(0)
    parts = (
        subtotal
        - amounts.get("discount_amount", zero)
        + amounts.get("charge_amount", zero)
        + amounts.get("tax_amount", zero)
        + amounts.get("rounding_amount", zero)
    )
    if parts != amounts["total_amount"]:
        raise Refused("subtotal, discount, charges and tax do not add up to the total")
    due = amounts["total_amount"] - amounts.get("amount_paid", zero)
    if amounts.get("balance_due_amount", due) != due:
        raise Refused("the balance is not the total less what is paid")


def _money(text: str, name: str, currencies: set[str]) -> Decimal:
    match = _MONEY.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{name} is not an amount of money")
    # Where there are both, the code says which of the currencies with that symbol it is.
    if symbol := match["after"] or match["before"]:
        symbol = "".join(symbol.split())
        currencies.add(_CURRENCIES.get(symbol, symbol))
    value = _plain(match["digits"], name)
    if name != "unit_price":
        if value != round(value, 2):
            raise Refused(f"{name} has more than two decimals")
        value = value.quantize(_CENT)
    return -value if match["open"] or match["minus"] or match["inner"] else value


def _plain(digits: str, name: str) -> Decimal:
    """The number of `3,380.00`, `3.380,00`, `3 380,00` or `3'380.00`: the last mark is the decimal one.

    Raises:
        Refused: it stands for two numbers, as `1.234,56.7` does.
    """
    digits = re.sub(rf"['{_SPACES}]", "", digits)
    marks = [mark for mark in digits if mark in ".,"]
    if len(set(marks)) == 2:
        decimal = marks[-1]
    elif marks == [","]:
        decimal = "," if not re.fullmatch(r"-?\d{1,3},\d{3}", digits) else "."
    else:
        decimal = "." if marks in ([], ["."]) else "," if marks[0] == "." else "."
    thousands = "," if decimal == "." else "."
    whole, _, fraction = digits.partition(decimal)
    if thousands in fraction or decimal in fraction or not re.fullmatch(r"-?\d+|-?\d{1,3}([.,]\d{3})+", whole):
        raise Refused(f"{name} is not a number")
    return Decimal(whole.replace(thousands, "") + (f".{fraction}" if fraction else ""))


def _day(text: str | None, name: str) -> date | None:
    if text is None:
        return None
    in_words = re.search("[A-Za-z]", text) is not None
    if in_words:
        # Without the day of the week, ordinals and marks: Monday, January 1st, 2024
        text = re.sub(r"^(mon|tue|wed|thu|fri|sat|sun)[a-z]*|(?<=\d)(st|nd|rd|th)\b", "", text, flags=re.I)
        text = " ".join(re.findall(r"[A-Za-z]+|\d+", text)).replace("Sept ", "Sep ")
    for pattern in _DATES_IN_WORDS if in_words else _DATES_IN_DIGITS:
        try:
            return datetime.strptime(text, pattern).date()
        except ValueError:
            continue
    # Day or month first: known only if one of them cannot be a month.
    if match := re.fullmatch(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", text):
        first, second, year = map(int, match.groups())
        if first > 12 or second > 12 or first == second:
            try:
                return date(year, *((second, first) if first > 12 else (first, second)))
            except ValueError:
                pass
        else:
            raise Refused(f"{name} may mean two days; month and day cannot be told apart")
    raise Refused(f"{name} is not a date in a known format")


def _due(issued: date | None, terms: str | None) -> date | None:
    match = re.search(r"\bwithin (\d{1,3}) days\b", terms or "", re.I)
    return issued + timedelta(days=int(match[1])) if issued and match else None


def _block(rows: list[Row], labels: tuple[str, ...]) -> Document:
    """Name and address under a label: the cells flush with it, down to the next gap."""
    heading = next((cell for row in rows for cell in row if cell.label in labels and cell.text.endswith(":")), None)
    heading = heading or next((cell for row in rows for cell in row if cell.label in labels), None)
    if heading is None:
        return {}
    below = [
        cell
        for row in rows
        for cell in row
        if cell.page == heading.page and cell.top > heading.top and abs(cell.left - heading.left) < 4
    ]
    return _name_and_address(below, heading.top)


def _seller(rows: list[Row]) -> Document:
    """The block at the left above whom the bill goes to."""
    bill_to = next((cell for row in rows for cell in row if cell.label in _BILL_TO), None)
    if bill_to is None:
        return {}
    above = [
        cell
        for row in rows
        for cell in row
        if cell.page == bill_to.page and cell.top < bill_to.top and abs(cell.left - bill_to.left) < 4
    ]
    if not above:
        return {}
    found = _name_and_address(above, above[0].top)
    country = {"country_code": "HK"} if (found.get("address") or "").upper().endswith("HONG KONG") else {}
    return {**found, **country}


def _name_and_address(cells: list[_Cell], top: float) -> Document:
    lines: list[str] = []
    for cell in cells:
        if cell.top - top > 24 or _label(cell.text) in (*_BILL_TO, *_SHIP_TO):
            break
        lines.append(cell.text)
        top = cell.top
    return {"name": lines[0], "address": ", ".join(lines[1:])} if lines else {}


def _terms(rows: list[Row]) -> str | None:
    start = next((index for index, row in enumerate(rows) if row[0].label in _TERMS), None)
    if start is None:
        return None
    following = [" ".join(cell.text for cell in row) for row in rows[start + 1 :]]
    return ". ".join(line.rstrip(".") if line is not following[-1] else line for line in following) or None
