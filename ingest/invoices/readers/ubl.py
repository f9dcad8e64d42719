"""OASIS UBL 2 invoices and credit notes, by the mapping of EN 16931-3-2.

What lies outside EN 16931 is read as UBL says: `SubInvoiceLine` and payments of third parties (extension of XRechnung),
totals without `TaxInclusiveAmount` (UBL 2.0), OIOUBL, whose `TaxExclusiveAmount` is the sum of the taxes, UBL-TR
and Jordan, whose `AllowanceTotalAmount` is the sum of what their lines have deducted, and `WithholdingTaxTotal`.
"""

from __future__ import annotations

import re
from decimal import Decimal

from lxml.etree import QName

from ingest.invoices.contract import CREDIT_NOTE, CREDIT_TYPES, INVOICE, Document
from ingest.invoices.readers.xml import (
    Element,
    allowance_charges,
    amount,
    amount_in_tax_currency,
    amount_of,
    attribute,
    charged,
    compact,
    day,
    decimal,
    discount_rate,
    in_currency,
    line_kind,
    line_number,
    number,
    settle_kinds,
    tax_rate,
    text,
    total,
)

_TYPES = {
    "Invoice": INVOICE,
    "CreditNote": CREDIT_NOTE,
    "SelfBilledInvoice": "389",
    "SelfBilledCreditNote": "261",
    "FreightInvoice": "780",
    "DebitNote": "383",
}
# Of the Malaysian tax authority, whose credit notes are an Invoice; Colombia and Peru mean other types by these codes.
_MYINVOIS_TYPES = {
    "01": INVOICE,
    "02": CREDIT_NOTE,
    "03": "383",
    "04": CREDIT_NOTE,
    "11": "389",
    "12": "261",
    "13": "527",
    "14": "261",
}
_CENT = Decimal("0.01")
_NAMESPACE = "urn:oasis:names:specification:ubl:schema:xsd:"
# 63 is the Danish one, by OIOUBL's list.
_VAT = ("VAT", "GST", "63", None)
_PLACES = ("PostalAddress", "PartyLegalEntity/RegistrationAddress", "PhysicalLocation/Address")
_DELIVERIES = ("DeliveryLocation/Address", "DeliveryAddress", "DeliveryParty/PostalAddress")
_ADDRESS = (
    "StreetName",
    "BuildingNumber",
    "AdditionalStreetName",
    "AddressLine/Line",
    "Postbox",
    "CityName",
    "PostalZone",
    "CountrySubentity",
)
_ALLOWANCE_CHARGE = {
    "is_charge": "ChargeIndicator",
    "amount": "Amount",
    "base_amount": "BaseAmount",
    "rate": "MultiplierFactorNumeric",
    "reason_code": "AllowanceChargeReasonCode",
    "reason": "AllowanceChargeReason",
    "tax_category_code": "TaxCategory/ID",
    "tax_rate": "TaxCategory/Percent",
}


def reads(name: QName) -> bool:
    """Whether it is that of an invoice of UBL 2; one without a namespace is taken for it."""
    return name.localname in _TYPES and name.namespace in (None, f"{_NAMESPACE}{name.localname}-2")


def read(root: Element) -> Document:
    """The document; required terms may be missing.

    Raises:
        Refused: its total is in another currency than the document.
    """
    totals = root.find("RequestedMonetaryTotal" if root.tag == "DebitNote" else "LegalMonetaryTotal")
    currency = text(root, "DocumentCurrencyCode")
    if currency is None and totals is not None:
        currency = next((found.get("currencyID") for found in totals if found.get("currencyID")), None)
    specification = (text(root, "CustomizationID") or "").lower()
    is_oioubl, is_extended = (
        specification.startswith("oioubl"),
        "xrechnung" in specification and "#conformant#" in specification,
    )

    def sum_of(name: str) -> str | None:
        return amount_of(name, [] if totals is None else totals.findall(name), currency)

    entries = _allowance_charges(root)
    tax_totals = in_currency(root.findall("TaxTotal"), currency)
    tax_totals = [found for found in tax_totals if in_currency(found.findall("TaxAmount"), currency)]
    # A total without its parts repeats one that has them.
    tax_totals = [found for found in tax_totals if found.find("TaxSubtotal") is not None] or tax_totals[:1]
    taxes = [_tax(found) for tax_total in tax_totals for found in tax_total.findall("TaxSubtotal")]
    taxes = [tax for tax in taxes if tax["tax_amount"] is not None]
    tax = total(
        amount(text(found, "."))
        for tax_total in tax_totals
        for found in in_currency(tax_total.findall("TaxAmount"), currency)[:1]
    )
    tax_currency = text(root, "TaxCurrencyCode")
    net = None if is_oioubl else sum_of("TaxExclusiveAmount")
    paid, rounding, balance = (sum_of(f"{name}Amount") for name in ("Prepaid", "PayableRounding", "Payable"))
    with_tax = sum_of("TaxInclusiveAmount")
    if with_tax is None and balance is not None:
        with_tax = total((balance, paid, _negative(rounding)))
    prepaid = total(amount(text(found, ".")) for found in root.findall("PrepaidPayment/PaidAmount"))
    if (
        paid is None
        and prepaid is not None
        and not is_extended
        and total((with_tax, _negative(prepaid), rounding)) == balance
    ):
        paid = prepaid
    seller, buyer = (root.find(f"Accounting{role}Party/Party") for role in ("Supplier", "Customer"))
    customer = _identifiers(buyer)
    customer["id"] = customer["id"] or text(
        root, *(f"AccountingCustomerParty/{role}AssignedAccountID" for role in ("Supplier", "Customer"))
    )
    delivery = root.find("Delivery")
    preceding = [
        {"invoice_number": text(found, "ID"), "invoice_date": day(text(found, "IssueDate"))}
        for tag in ("InvoiceDocumentReference", "CreditNoteDocumentReference")
        for found in root.findall(f"BillingReference/{tag}")
    ]
    lines: list[Document] = []
    parents: list[int | None] = []
    for kind in ("Invoice", "CreditNote", "DebitNote"):
        _add_lines(root, f"{kind}Line", None, lines, parents)
    lines = settle_kinds(lines, parents)
    subtotal = sum_of("LineExtensionAmount")
    discount, charge = sum_of("AllowanceTotalAmount"), sum_of("ChargeTotalAmount")
    has_totals = discount is not None or charge is not None
    discount, charge = discount or charged(entries, False), charge or charged(entries, True)
    change = total((charge, _negative(discount)))
    counted = total(
        line.get("line_net_amount", "x") for line in lines if line.get("line_kind") not in ("group", "information")
    )
    if _are_of_lines(change, counted, net, tax, with_tax, bool(entries)):
        subtotal, discount, charge = subtotal and counted, None, None
    elif not has_totals and None not in (subtotal, net) and total((net, tax)) == with_tax:
        discount, charge = _between(subtotal, net, discount, charge)
    return compact(
        {
            "seller": {
                **_identifiers(seller),
                "address": _address(seller, *_PLACES),
                "country_code": _country(seller, *_PLACES),
            },
            "customer": customer,
            "bill_to": {
                "name": _name(buyer),
                "address": _address(buyer, *_PLACES),
                "country_code": _country(buyer, *_PLACES),
            },
            "ship_to": {
                "name": text(
                    delivery,
                    *(f"DeliveryParty/{name}" for name in ("PartyName/Name", "PartyLegalEntity/RegistrationName")),
                ),
                "address": _address(delivery, *_DELIVERIES),
                "country_code": _country(delivery, *_DELIVERIES),
            },
            "invoice_number": text(root, "ID"),
            "document_type_code": _type(root),
            "specification_id": text(root, "CustomizationID"),
            "invoice_date": day(text(root, "IssueDate")),
            "due_date": day(text(root, "DueDate", "PaymentMeans/PaymentDueDate", "PaymentTerms/PaymentDueDate")),
            "delivery_date": day(text(delivery, "ActualDeliveryDate")),
            "period_start": day(text(root, "InvoicePeriod/StartDate")),
            "period_end": day(text(root, "InvoicePeriod/EndDate")),
            "currency_code": currency,
            "tax_currency_code": tax_currency,
            "buyer_reference": text(root, "BuyerReference"),
            "contract_number": text(root, "ContractDocumentReference/ID"),
            "purchase_order_number": text(root, "OrderReference/ID"),
            "sales_order_number": text(root, "OrderReference/SalesOrderID"),
            "preceding_invoice_number": preceding[0]["invoice_number"] if preceding else None,
            "preceding_invoices": preceding,
            "payment_means_code": text(root, "PaymentMeans/PaymentMeansCode"),
            "payment_method": attribute(root, "PaymentMeans/PaymentMeansCode", "name"),
            "payment_terms": " ".join(filter(None, (text(found, ".") for found in root.findall("PaymentTerms/Note")))),
            "notes": [_note(text(found, ".") or "") for found in root.findall("Note")],
            "lines": lines,
            "subtotal_amount": subtotal,
            "discount_rate": discount_rate(entries),
            "discount_amount": discount,
            "charge_amount": charge,
            "allowance_charges": entries,
            "total_ex_tax_amount": net,
            "tax_rate": tax_rate(taxes),
            "tax_amount": tax,
            "tax_amount_in_tax_currency": amount_in_tax_currency(
                root.findall("TaxTotal/TaxAmount"), tax_currency, currency
            ),
            "taxes": taxes,
            "total_amount": with_tax,
            "amount_paid": paid,
            "rounding_amount": rounding,
            # Elsewhere PrepaidPayment lists what PrepaidAmount adds up.
            "third_party_amount": prepaid if is_extended else None,
            "withheld_tax_amount": total(
                amount(text(found, "."))
                for found in in_currency(root.findall("WithholdingTaxTotal/TaxAmount"), currency)
            ),
            "balance_due_amount": balance,
        }
    )


def _are_of_lines(
    change: str | None, counted: str | None, net: str | None, tax: str | None, with_tax: str | None, is_named: bool
) -> bool:
    """Whether the totals of allowances and charges repeat those of the lines, which alone lead to the totals.

    Args:
        change: charges less allowances.
        counted: the sum of the lines.
        net: without tax; in Jordan also without that change.
        is_named: the document names its allowances and charges.
    """
    if counted is None or change in (None, "0.00", "-0.00"):
        return False
    if counted == net:
        return not is_named
    return total((counted, tax)) == with_tax == total((net, change, tax))


def _between(subtotal: str, net: str, discount: str | None, charge: str | None) -> tuple[str | None, str | None]:
    """The allowances and charges that lead from one total to the other, where they alone are printed."""
    if total((subtotal, charge, _negative(discount))) == net:
        return discount, charge
    change = total((net, _negative(subtotal))) or ""
    if not change.strip("-.0"):
        return None, None
    return (_negative(change), None) if change.startswith("-") else (None, change)


def _type(root: Element) -> str:
    given = text(root, "InvoiceTypeCode", "CreditNoteTypeCode")
    if attribute(root, "InvoiceTypeCode", "listVersionID"):
        given = _MYINVOIS_TYPES.get(given or "", given)
    default = _TYPES[root.tag]
    # The sign comes from the type, so that a credit note never carries the code of an invoice.
    if given is None or (default in CREDIT_TYPES and given not in CREDIT_TYPES):
        return default
    return given


def _negative(value: str | None) -> str | None:
    return None if value is None else value.removeprefix("-") if value.startswith("-") else f"-{value}"


def _name(party: Element | None) -> str | None:
    return text(party, "PartyLegalEntity/RegistrationName", "PartyName/Name", "PartyTaxScheme/RegistrationName") or (
        " ".join(filter(None, (text(party, "Person/FirstName"), text(party, "Person/FamilyName")))) or None
    )


def _identifiers(party: Element | None) -> Document:
    # SEPA marks the creditor's bank identifier, which is none of the party's own.
    ids = [] if party is None else [found for found in party.findall("PartyIdentification/ID") if text(found, ".")]
    ids = [found for found in ids if found.get("schemeID") != "SEPA"]
    taxes = [] if party is None else party.findall("PartyTaxScheme")
    vat = [tax for tax in taxes if text(tax, "TaxScheme/ID") in _VAT]
    return {
        "id": text(ids[0], ".") if ids else None,
        "id_scheme": ids[0].get("schemeID") if ids else None,
        "name": _name(party),
        "legal_id": text(party, "PartyLegalEntity/CompanyID"),
        "vat_id": text(vat[0], "CompanyID") if vat else None,
        "electronic_address": text(party, "EndpointID"),
    }


def _address(holder: Element | None, *paths: str) -> str | None:
    """The first of these addresses that says anything."""
    addresses = (filter(None, (text(holder, f"{path}/{part}") for part in _ADDRESS)) for path in paths)
    return next(filter(None, map(", ".join, addresses)), None)


def _country(holder: Element | None, *paths: str) -> str | None:
    return text(holder, *(f"{path}/Country/IdentificationCode" for path in paths))


def _add_lines(above: Element, tag: str, parent: int | None, lines: list[Document], parents: list[int | None]) -> None:
    """Appends the lines below an element to `lines`, each before those below it, and where its parent is there."""
    below = {} if parent is None else {"parent_line_id": text(above, "ID")}
    for found in above.findall(tag):
        lines.append(compact(_line(found) | below))
        parents.append(parent)
        _add_lines(found, f"Sub{tag.removeprefix('Sub')}", len(lines) - 1, lines, parents)


def _line(line: Element) -> Document:
    quantities = ("InvoicedQuantity", "CreditedQuantity", "DebitedQuantity")
    quantity = next((tag for tag in quantities if line.find(tag) is not None), quantities[0])
    category = line.find("Item/ClassifiedTaxCategory")
    if category is None:
        category = line.find("TaxTotal/TaxSubtotal/TaxCategory")
    # France's extension writes all lines at one level, and tells their tree by references to the document itself.
    kinds = [
        (found, line_kind(text(found, "InvoiceDocumentReference/DocumentStatusCode")))
        for found in line.findall("BillingReference")
    ]
    reference, kind = next((found for found in kinds if found[1] is not None), (None, None))
    values = {
        **line_number(text(line, "ID")),
        "parent_line_id": text(reference, "BillingReferenceLine/ID"),
        "line_kind": kind,
        "item_id": text(line, "Item/SellersItemIdentification/ID"),
        "buyer_item_id": text(line, "Item/BuyersItemIdentification/ID"),
        "standard_item_id": text(line, "Item/StandardItemIdentification/ID"),
        "standard_item_id_scheme": attribute(line, "Item/StandardItemIdentification/ID", "schemeID"),
        "item_name": text(line, "Item/Name", "Item/Description"),
        "item_description": text(line, "Item/Description"),
        "quantity": number(text(line, quantity)),
        "unit_of_measure": attribute(line, quantity, "unitCode"),
        "unit_price": number(text(line, "Price/PriceAmount")),
        "gross_price": number(text(line, "Price/AllowanceCharge/BaseAmount")),
        "price_base_quantity": number(text(line, "Price/BaseQuantity")),
        "price_base_unit": attribute(line, "Price/BaseQuantity", "unitCode"),
        "line_net_amount": amount(text(line, "LineExtensionAmount")),
        "tax_category_code": text(category, "ID"),
        "tax_rate": number(text(category, "Percent") or text(line, "TaxTotal/TaxSubtotal/Percent")),
        "period_start": day(text(line, "InvoicePeriod/StartDate")),
        "period_end": day(text(line, "InvoicePeriod/EndDate")),
        "order_line_number": text(line, "OrderLineReference/LineID"),
        "note": text(line, "Note"),
        "allowance_charges": _allowance_charges(line),
    }
    written, base, price, net = (
        decimal(values[field]) for field in ("quantity", "price_base_quantity", "unit_price", "line_net_amount")
    )
    if None in (written, price, net):
        return values
    if written == base not in (0, 1) and abs(written * price - net) <= _CENT:
        # Some repeat the quantity, though the price is for one.
        del values["price_base_quantity"]
    of_price = line.find("Price")
    entries = [] if of_price is None else _allowance_charges(of_price)
    change = decimal(total((charged(entries, True), _negative(charged(entries, False)))))
    if change and abs(written * price + change - net) <= _CENT:
        # In Jordan a discount that stands with the price is the line's, and not in the price yet.
        values["allowance_charges"] += entries
    return values


def _allowance_charges(holder: Element) -> list[Document]:
    entries = allowance_charges(holder.findall("AllowanceCharge"), _ALLOWANCE_CHARGE)
    for entry in entries:
        rate, base, written = (decimal(entry[field]) for field in ("rate", "base_amount", "amount"))
        # UBL's factor is a percentage in EN 16931, and in other customizations none: its amount tells.
        if None in (rate, base, written):
            continue
        of_one, of_hundred = abs(rate * base - written), abs((rate * base).scaleb(-2) - written)
        if written and of_one <= _CENT and of_one < of_hundred:
            entry["rate"] = f"{rate.scaleb(2):f}"
    return entries


def _note(written: str) -> Document:
    # EN 16931-3-2 has the code of the subject stand before the text.
    match = re.fullmatch(r"#([A-Z]{3})#(.*)", written)
    return {"subject_code": match[1], "text": match[2].strip()} if match else {"text": written}


def _tax(found: Element) -> Document:
    return {
        "tax_category_code": text(found, "TaxCategory/ID"),
        "tax_rate": number(text(found, "TaxCategory/Percent", "Percent")),
        "taxable_amount": amount(text(found, "TaxableAmount")),
        "tax_amount": amount(text(found, "TaxAmount")),
        "exemption_reason_code": text(found, "TaxCategory/TaxExemptionReasonCode"),
        "exemption_reason": text(found, "TaxCategory/TaxExemptionReason"),
    }
