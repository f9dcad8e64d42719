"""Invoices of one retailer, made up but consistent: the same arguments give the same documents."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import accumulate

from ingest.invoices.contract import CREDIT_NOTE, INVOICE, Document

FIRST_DAY = date(2023, 11, 1)
LAST_DAY = date(2024, 3, 31)
SELLER = {"name": "East Star Retail Ltd.", "address": "153 Harvest Lane HONG KONG", "country_code": "HK"}

CUSTOMERS = 300
SKU_PRODUCTS = 60
PRODUCTS = 160
MAX_LINES = 20
TERMS_DAYS = 15

_CENT = Decimal("0.01")
_ZERO = Decimal("0.00")
_GIVEN_NAMES = ["Alex", "Betty", "Chris", "Daniel", "Emily", "Fiona", "Grace", "Henry", "Ivy", "Jason", "Kelly", "Leo"]
_FAMILY_NAMES = ["Chan", "Cheung", "Fung", "Ho", "Kwok", "Lam", "Lau", "Lee", "Leung", "Ng", "Tang", "Wong", "Yip"]
_STREETS = ["Court Square", "Pineview Place", "Harbour Road", "Temple Street", "Garden Lane", "Hill Path"]
_MATERIALS = ["LEATHER", "COTTON", "LINEN", "WOOL", "DENIM", "SILK", "CORDUROY", "CANVAS"]
_CUTS = ["CLASSIC", "CREWNECK", "SLIM", "RELAXED", "CROPPED", "HOODED", "PLEATED", "STRAIGHT"]
_GARMENTS = ["JACKET", "T-SHIRT", "SHORTS", "TROUSERS", "SKIRT", "COAT", "SHIRT", "SCARF", "BELT", "DRESS"]
_PAYMENT_METHODS = ("Visa", "Mastercard", "Octopus", "FPS", "Bank transfer")


def documents(count: int, *, seed: int, as_of: date) -> Iterator[Document]:
    """Documents by the landing contract, in the order of their dates, numbered from HK-00002.

    The dates lie between 1 November 2023 and 31 March 2024, none after `as_of`; what was due by then is paid.
    About one in twenty is a credit note over some lines of an earlier invoice; one in sixty is cancelled. Amounts are
    HKD with two decimals, rounded half up, and add up to the cent: line = quantity x price, subtotal = lines,
    tax = rate x (subtotal - discount + charge), total = subtotal - discount + charge + tax.

    Args:
        count: how many.
        seed: of the random numbers.
        as_of: the day on which the documents are looked at.

    Raises:
        ValueError: `count` is negative, or `as_of` lies before the first day.
    """
    if count < 0:
        raise ValueError(f"{count} documents cannot be generated; give a number that is not negative")
    if as_of < FIRST_DAY:
        raise ValueError(f"no invoice is dated on or before {as_of}; give a day from {FIRST_DAY} on")
    rng = random.Random(seed)
    days = (min(as_of, LAST_DAY) - FIRST_DAY).days
    customers = _customers(rng)
    # A few customers buy often and most of them seldom, so that a ranking has something to rank.
    popularity = list(accumulate(1 / rank for rank in range(1, len(customers) + 1)))
    products = _products(rng)
    creditable: list[Document] = []
    for number, offset in enumerate(sorted(rng.choices(range(days + 1), k=count)), start=2):
        day = FIRST_DAY + timedelta(days=offset)
        heading = {"invoice_number": f"HK-{number:05d}", "invoice_date": day.isoformat(), "currency_code": "HKD"}
        if creditable and rng.random() < 0.05:
            yield _credit_note(rng, heading, rng.choice(creditable))
            continue
        customer = rng.choices(customers, cum_weights=popularity)[0]
        document = _invoice(rng, heading, customer, products, day, as_of)
        if document["status"] == "issued":
            creditable.append(document)
        yield document


def _invoice(
    rng: random.Random, heading: Document, customer: Document, products: list[Document], day: date, as_of: date
) -> Document:
    rates = {}
    if rng.random() < 0.4:
        rates["discount_rate"] = rng.choice(("5", "10", "12.5", "20"))
    if rng.random() < 0.6:
        rates["tax_rate"] = "5"
    lines = [_line(rng, product) for product in rng.sample(products, rng.randint(1, MAX_LINES))]
    charge = Decimal(rng.randrange(30, 151, 10)) if rng.random() < 0.15 else _ZERO
    due = day + timedelta(days=TERMS_DAYS)
    cancelled = rng.random() < 1 / 60
    shipped = rng.random() < 0.7
    return {
        "seller": SELLER,
        "customer": {"id": customer["id"], "name": customer["name"]},
        "bill_to": {"name": customer["name"], "address": customer["address"]},
        **({"ship_to": {"name": customer["name"], "address": _address(rng)}} if shipped else {}),
        **heading,
        "document_type_code": INVOICE,
        "due_date": due.isoformat(),
        **({"purchase_order_number": f"PO{rng.randrange(10**8):08d}"} if rng.random() < 0.3 else {}),
        "payment_method": rng.choice(_PAYMENT_METHODS),
        "payment_terms": f"Payment is due within {TERMS_DAYS} days",
        "status": "cancelled" if cancelled else "issued",
        **_amounts(lines, rates, charge, paid=due <= as_of and not cancelled),
    }


def _credit_note(rng: random.Random, heading: Document, invoice: Document) -> Document:
    returned = sorted(rng.sample(range(len(invoice["lines"])), rng.randint(1, min(3, len(invoice["lines"])))))
    lines = []
    for position in returned:
        line = dict(invoice["lines"][position])
        line["quantity"] = str(Decimal(rng.randint(1, max(1, int(Decimal(line["quantity"]))))))
        lines.append(_priced(line))
    rates: dict[str, str] = {name: invoice[name] for name in ("discount_rate", "tax_rate") if name in invoice}
    return {
        **{name: invoice[name] for name in ("seller", "customer", "bill_to", "payment_method")},
        **heading,
        "document_type_code": CREDIT_NOTE,
        "preceding_invoice_number": invoice["invoice_number"],
        "status": "issued",
        **_amounts(lines, rates, _ZERO, paid=True),
    }


def _line(rng: random.Random, product: Document) -> Document:
    if product["unit_of_measure"] == "MTR":
        quantity = str(Decimal(rng.randint(1, 60)) / 4)
    else:
        usual = rng.choices((1, 2, 3, 5, 10), (60, 20, 10, 7, 3))[0]
        quantity = str(rng.randint(11, 40) if rng.random() < 0.03 else usual)
    return _priced({**product, "quantity": quantity})


def _priced(line: Document) -> Document:
    amount = _round(Decimal(line["quantity"]) * Decimal(line["unit_price"]))
    return {**line, "line_net_amount": str(amount)}


def _amounts(lines: list[Document], rates: dict[str, str], charge: Decimal, *, paid: bool) -> Document:
    subtotal = sum((Decimal(line["line_net_amount"]) for line in lines), _ZERO)
    discount = _round(subtotal * Decimal(rates.get("discount_rate", 0)) / 100)
    tax = _round((subtotal - discount + charge) * Decimal(rates.get("tax_rate", 0)) / 100)
    total = subtotal - discount + charge + tax
    amounts = {"subtotal_amount": subtotal, "total_amount": total, "amount_paid": total if paid else _ZERO}
    amounts["balance_due_amount"] = total - amounts["amount_paid"]
    if "discount_rate" in rates:
        amounts["discount_amount"] = discount
    if "tax_rate" in rates:
        amounts["tax_amount"] = tax
    if charge:
        amounts["charge_amount"] = charge
    return {
        "lines": [{"line_number": str(number), **line} for number, line in enumerate(lines, start=1)],
        **rates,
        **{name: str(_round(amount)) for name, amount in amounts.items()},
    }


def _customers(rng: random.Random) -> list[Document]:
    return [
        {
            "id": str(identifier),
            "name": f"{rng.choice(_GIVEN_NAMES)} {rng.choice(_FAMILY_NAMES)}",
            "address": _address(rng),
        }
        for identifier in rng.sample(range(12_000_000, 100_000_000), CUSTOMERS)
    ]


def _products(rng: random.Random) -> list[Document]:
    names = rng.sample([f"{m} {c} {g}" for m in _MATERIALS for c in _CUTS for g in _GARMENTS], PRODUCTS)
    products = []
    for position, name in enumerate(names):
        by_length = position % 20 == 19
        product = {
            "item_name": f"{name} FABRIC" if by_length else name,
            "unit_of_measure": "MTR" if by_length else "EA",
            "unit_price": str(_round(Decimal(rng.randrange(5_000, 400_000)) / 100)),
        }
        if position < SKU_PRODUCTS:
            product["item_id"] = f"SKU-{position + 1:04d}"
        products.append(product)
    return products


def _address(rng: random.Random) -> str:
    return f"{rng.randint(1, 400)} {rng.choice(_STREETS)}, HONG KONG"


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT, rounding=ROUND_HALF_UP)
