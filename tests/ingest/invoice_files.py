"""Documents of the landing contract as files of every kind that the readers know."""

from __future__ import annotations

import re
from decimal import Decimal
from io import BytesIO

from fpdf import FPDF
from lxml import etree
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    RectangleObject,
    TextStringObject,
)

from ingest.invoices.contract import CREDIT_TYPES, Document

UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
UNECE = "urn:un:unece:uncefact:data:standard:"

# A node is (tag, content, attributes): content is text, nodes, or None for no element at all.
Node = tuple


def node(tag: str, *content, **attributes) -> Node | None:
    content = tuple(part for part in content if part not in (None, "", ()))
    return (tag, content, {key: value for key, value in attributes.items() if value}) if content else None


def _build(parent, spec: Node, namespaces: dict[str, str], of_tag) -> None:
    tag, content, attributes = spec
    element = etree.SubElement(parent, of_tag(tag, isinstance(content[0], str)), attributes)
    _fill(element, content, namespaces, of_tag)


def _fill(element, content, namespaces, of_tag) -> None:
    for part in content:
        if isinstance(part, str):
            element.text = part
        else:
            _build(element, part, namespaces, of_tag)


def _xml(root: str, content, namespaces: dict[str | None, str], of_tag, encoding: str) -> bytes:
    element = etree.Element(of_tag(root, False), nsmap=namespaces)
    _fill(element, [part for part in content if part is not None], namespaces, of_tag)
    return etree.tostring(element, xml_declaration=True, encoding=encoding)


def ubl(document: Document, *, prefixes=("cac", "cbc"), encoding: str = "UTF-8") -> bytes:
    """UBL 2.1; nested lines by their `parent_line_id`."""
    credit = document["document_type_code"] in CREDIT_TYPES
    root = "CreditNote" if credit else "Invoice"
    currency = document["currency_code"]
    aggregate, basic = f"{UBL}CommonAggregateComponents-2", f"{UBL}CommonBasicComponents-2"

    def of_tag(tag: str, holds_text: bool) -> str:
        if tag == root:
            return f"{{{UBL}{root}-2}}{root}"
        return f"{{{basic if holds_text else aggregate}}}{tag}"

    def money(tag: str, value: str | None, currency: str = currency) -> Node | None:
        return node(tag, value, currencyID=currency)

    def address(tag: str, place: Document) -> Node | None:
        country = node("Country", node("IdentificationCode", place.get("country_code")))
        return node(tag, node("StreetName", place.get("address")), country)

    def party(tag: str, who: Document, place: Document) -> Node | None:
        return node(
            tag,
            node(
                "Party",
                node("EndpointID", who.get("electronic_address"), schemeID="EM"),
                node("PartyIdentification", node("ID", who.get("id"), schemeID=who.get("id_scheme"))),
                address("PostalAddress", place),
                node("PartyTaxScheme", node("CompanyID", who.get("vat_id"))),
                node(
                    "PartyLegalEntity",
                    node("RegistrationName", who.get("name")),
                    node("CompanyID", who.get("legal_id")),
                ),
            ),
        )

    def category(tag: str, entry: Document, *more) -> Node | None:
        return node(tag, node("ID", entry.get("tax_category_code")), node("Percent", entry.get("tax_rate")), *more)

    def allowance_charges(holder: Document) -> list[Node | None]:
        return [
            node(
                "AllowanceCharge",
                node("ChargeIndicator", entry["is_charge"]),
                node("AllowanceChargeReasonCode", entry.get("reason_code")),
                node("AllowanceChargeReason", entry.get("reason")),
                node("MultiplierFactorNumeric", entry.get("rate")),
                money("Amount", entry["amount"]),
                money("BaseAmount", entry.get("base_amount")),
                category("TaxCategory", entry),
            )
            for entry in holder.get("allowance_charges", [])
        ]

    def line(entry: Document, tag: str) -> Node | None:
        line_id = entry.get("line_id") or entry.get("line_number")
        scheme = entry.get("standard_item_id_scheme")
        gross = node("AllowanceCharge", node("ChargeIndicator", "false"), money("BaseAmount", entry.get("gross_price")))
        return node(
            tag,
            node("ID", line_id),
            node("Note", entry.get("note")),
            node(
                "CreditedQuantity" if credit else "InvoicedQuantity",
                entry.get("quantity"),
                unitCode=entry.get("unit_of_measure"),
            ),
            money("LineExtensionAmount", entry.get("line_net_amount")),
            node(
                "InvoicePeriod", node("StartDate", entry.get("period_start")), node("EndDate", entry.get("period_end"))
            ),
            node("OrderLineReference", node("LineID", entry.get("order_line_number"))),
            *allowance_charges(entry),
            node(
                "Item",
                node("Description", entry.get("item_description")),
                node("Name", entry.get("item_name")),
                node("BuyersItemIdentification", node("ID", entry.get("buyer_item_id"))),
                node("SellersItemIdentification", node("ID", entry.get("item_id"))),
                node("StandardItemIdentification", node("ID", entry.get("standard_item_id"), schemeID=scheme)),
                category("ClassifiedTaxCategory", entry),
            ),
            node(
                "Price",
                money("PriceAmount", entry.get("unit_price")),
                node("BaseQuantity", entry.get("price_base_quantity"), unitCode=entry.get("price_base_unit")),
                gross if entry.get("gross_price") else None,
            ),
            *(
                line(below, f"Sub{tag.removeprefix('Sub')}")
                for below in document["lines"]
                if below.get("parent_line_id") == line_id
            ),
        )

    ship_to = document.get("ship_to", {})
    get = document.get
    content = (
        node("CustomizationID", get("specification_id")),
        node("ID", get("invoice_number")),
        node("IssueDate", get("invoice_date")),
        node("DueDate", None if credit else get("due_date")),
        node(f"{root}TypeCode", document["document_type_code"]),
        *(node("Note", note["text"]) for note in get("notes", [])),
        node("DocumentCurrencyCode", currency),
        node("TaxCurrencyCode", get("tax_currency_code")),
        node("BuyerReference", get("buyer_reference")),
        node("InvoicePeriod", node("StartDate", get("period_start")), node("EndDate", get("period_end"))),
        node(
            "OrderReference", node("ID", get("purchase_order_number")), node("SalesOrderID", get("sales_order_number"))
        ),
        *(
            node(
                "BillingReference",
                node(
                    "InvoiceDocumentReference",
                    node("ID", preceding.get("invoice_number")),
                    node("IssueDate", preceding.get("invoice_date")),
                ),
            )
            for preceding in _preceding(document)
        ),
        node("ContractDocumentReference", node("ID", get("contract_number"))),
        party("AccountingSupplierParty", document["seller"], document["seller"]),
        party("AccountingCustomerParty", get("customer", {}), get("bill_to", {})),
        node(
            "Delivery",
            node("ActualDeliveryDate", get("delivery_date")),
            node("DeliveryLocation", address("Address", ship_to)),
            node("DeliveryParty", node("PartyName", node("Name", ship_to.get("name")))),
        ),
        node(
            "PaymentMeans",
            node(
                "PaymentMeansCode",
                get("payment_means_code") or ("ZZZ" if get("payment_method") else None),
                name=get("payment_method"),
            ),
            node("PaymentDueDate", get("due_date") if credit else None),
        ),
        node("PaymentTerms", node("Note", get("payment_terms"))),
        *allowance_charges(document),
        node(
            "TaxTotal",
            money("TaxAmount", get("tax_amount")),
            *(
                node(
                    "TaxSubtotal",
                    money("TaxableAmount", tax.get("taxable_amount")),
                    money("TaxAmount", tax["tax_amount"]),
                    category(
                        "TaxCategory",
                        tax,
                        node("TaxExemptionReasonCode", tax.get("exemption_reason_code")),
                        node("TaxExemptionReason", tax.get("exemption_reason")),
                    ),
                )
                for tax in _taxes(document)
            ),
        ),
        node("TaxTotal", money("TaxAmount", get("tax_amount_in_tax_currency"), get("tax_currency_code"))),
        node(
            "LegalMonetaryTotal",
            money("LineExtensionAmount", get("subtotal_amount")),
            money("TaxExclusiveAmount", get("total_ex_tax_amount")),
            money("TaxInclusiveAmount", get("total_amount")),
            money("AllowanceTotalAmount", get("discount_amount")),
            money("ChargeTotalAmount", get("charge_amount")),
            money("PrepaidAmount", get("amount_paid")),
            money("PayableRoundingAmount", get("rounding_amount")),
            money("PayableAmount", get("balance_due_amount")),
        ),
        *(line(entry, f"{root}Line") for entry in document["lines"] if "parent_line_id" not in entry),
    )
    # An empty prefix is the root's namespace, as most writers have it.
    namespaces = {prefixes[0]: aggregate, prefixes[1]: basic}
    return _xml(root, content, {None: f"{UBL}{root}-2", **namespaces}, of_tag, encoding)


def cii(document: Document, *, encoding: str = "UTF-8") -> bytes:
    """UN/CEFACT CII D16B; nested lines by their `parent_line_id`."""
    currency = document["currency_code"]
    root, rsm = "CrossIndustryInvoice", f"{UNECE}CrossIndustryInvoice:100"
    ram, udt = f"{UNECE}ReusableAggregateBusinessInformationEntity:100", f"{UNECE}UnqualifiedDataType:100"
    top = {root, "ExchangedDocumentContext", "ExchangedDocument", "SupplyChainTradeTransaction"}

    def of_tag(tag: str, holds_text: bool) -> str:
        namespace = rsm if tag in top else udt if tag in ("DateTimeString", "Indicator") else ram
        return f"{{{namespace}}}{tag}"

    def day(tag: str, value: str | None) -> Node | None:
        return node(tag, node("DateTimeString", value and value.replace("-", ""), format="102"))

    def party(tag: str, who: Document, place: Document) -> Node | None:
        scheme = who.get("id_scheme")
        address = node(
            "PostalTradeAddress", node("LineOne", place.get("address")), node("CountryID", place.get("country_code"))
        )
        return node(
            tag,
            node("GlobalID" if scheme else "ID", who.get("id"), schemeID=scheme),
            node("Name", who.get("name")),
            node("SpecifiedLegalOrganization", node("ID", who.get("legal_id"))),
            address,
            node("URIUniversalCommunication", node("URIID", who.get("electronic_address"), schemeID="EM")),
            node("SpecifiedTaxRegistration", node("ID", who.get("vat_id"), schemeID="VA")),
        )

    def tax(tag: str, entry: Document) -> Node | None:
        return node(
            tag,
            node("CalculatedAmount", entry.get("tax_amount")),
            node("ExemptionReason", entry.get("exemption_reason")),
            node("BasisAmount", entry.get("taxable_amount")),
            node("CategoryCode", entry.get("tax_category_code")),
            node("ExemptionReasonCode", entry.get("exemption_reason_code")),
            node("RateApplicablePercent", entry.get("tax_rate")),
        )

    def allowance_charges(holder: Document) -> list[Node | None]:
        return [
            node(
                "SpecifiedTradeAllowanceCharge",
                node("ChargeIndicator", node("Indicator", entry["is_charge"])),
                node("CalculationPercent", entry.get("rate")),
                node("BasisAmount", entry.get("base_amount")),
                node("ActualAmount", entry["amount"]),
                node("ReasonCode", entry.get("reason_code")),
                node("Reason", entry.get("reason")),
                tax("CategoryTradeTax", {key: entry.get(key) for key in ("tax_category_code", "tax_rate")}),
            )
            for entry in holder.get("allowance_charges", [])
        ]

    def period(holder: Document) -> Node | None:
        return node(
            "BillingSpecifiedPeriod",
            day("StartDateTime", holder.get("period_start")),
            day("EndDateTime", holder.get("period_end")),
        )

    def line(entry: Document) -> Node | None:
        unit, base_unit = entry.get("unit_of_measure"), entry.get("price_base_unit")
        scheme = entry.get("standard_item_id_scheme")
        kind = entry.get("line_kind")
        return node(
            "IncludedSupplyChainTradeLineItem",
            node(
                "AssociatedDocumentLineDocument",
                node("LineID", entry.get("line_id") or entry.get("line_number")),
                node("ParentLineID", entry.get("parent_line_id")),
                node("LineStatusReasonCode", kind and kind.upper()),
                node("IncludedNote", node("Content", entry.get("note"))),
            ),
            node(
                "SpecifiedTradeProduct",
                node("GlobalID", entry.get("standard_item_id"), schemeID=scheme),
                node("SellerAssignedID", entry.get("item_id")),
                node("BuyerAssignedID", entry.get("buyer_item_id")),
                node("Name", entry.get("item_name")),
                node("Description", entry.get("item_description")),
            ),
            node(
                "SpecifiedLineTradeAgreement",
                node("BuyerOrderReferencedDocument", node("LineID", entry.get("order_line_number"))),
                node("GrossPriceProductTradePrice", node("ChargeAmount", entry.get("gross_price"))),
                node(
                    "NetPriceProductTradePrice",
                    node("ChargeAmount", entry.get("unit_price")),
                    node("BasisQuantity", entry.get("price_base_quantity"), unitCode=base_unit),
                ),
            ),
            node("SpecifiedLineTradeDelivery", node("BilledQuantity", entry.get("quantity"), unitCode=unit)),
            node(
                "SpecifiedLineTradeSettlement",
                tax("ApplicableTradeTax", {key: entry.get(key) for key in ("tax_category_code", "tax_rate")}),
                period(entry),
                *allowance_charges(entry),
                node(
                    "SpecifiedTradeSettlementLineMonetarySummation",
                    node("LineTotalAmount", entry.get("line_net_amount")),
                ),
            ),
        )

    get = document.get
    content = (
        node(
            "ExchangedDocumentContext",
            node("GuidelineSpecifiedDocumentContextParameter", node("ID", get("specification_id"))),
        ),
        node(
            "ExchangedDocument",
            node("ID", get("invoice_number")),
            node("TypeCode", get("document_type_code")),
            day("IssueDateTime", get("invoice_date")),
            *(
                node("IncludedNote", node("Content", note["text"]), node("SubjectCode", note.get("subject_code")))
                for note in get("notes", [])
            ),
        ),
        node(
            "SupplyChainTradeTransaction",
            *(line(entry) for entry in get("lines", [])),
            node(
                "ApplicableHeaderTradeAgreement",
                node("BuyerReference", get("buyer_reference")),
                party("SellerTradeParty", document["seller"], document["seller"]),
                party("BuyerTradeParty", get("customer", {}), get("bill_to", {})),
                node("SellerOrderReferencedDocument", node("IssuerAssignedID", get("sales_order_number"))),
                node("BuyerOrderReferencedDocument", node("IssuerAssignedID", get("purchase_order_number"))),
                node("ContractReferencedDocument", node("IssuerAssignedID", get("contract_number"))),
            ),
            node(
                "ApplicableHeaderTradeDelivery",
                party("ShipToTradeParty", {"name": get("ship_to", {}).get("name")}, get("ship_to", {})),
                node("ActualDeliverySupplyChainEvent", day("OccurrenceDateTime", get("delivery_date"))),
            ),
            node(
                "ApplicableHeaderTradeSettlement",
                node("TaxCurrencyCode", get("tax_currency_code")),
                node("InvoiceCurrencyCode", currency),
                node(
                    "SpecifiedTradeSettlementPaymentMeans",
                    node("TypeCode", get("payment_means_code")),
                    node("Information", get("payment_method")),
                ),
                *(tax("ApplicableTradeTax", entry) for entry in _taxes(document)),
                period(document),
                *allowance_charges(document),
                node(
                    "SpecifiedTradePaymentTerms",
                    node("Description", get("payment_terms")),
                    day("DueDateDateTime", get("due_date")),
                ),
                node(
                    "SpecifiedTradeSettlementHeaderMonetarySummation",
                    node("LineTotalAmount", get("subtotal_amount")),
                    node("ChargeTotalAmount", get("charge_amount")),
                    node("AllowanceTotalAmount", get("discount_amount")),
                    node("TaxBasisTotalAmount", get("total_ex_tax_amount")),
                    node("TaxTotalAmount", get("tax_amount"), currencyID=currency),
                    node("TaxTotalAmount", get("tax_amount_in_tax_currency"), currencyID=get("tax_currency_code")),
                    node("RoundingAmount", get("rounding_amount")),
                    node("GrandTotalAmount", get("total_amount")),
                    node("TotalPrepaidAmount", get("amount_paid")),
                    node("DuePayableAmount", get("balance_due_amount")),
                ),
                *(
                    node(
                        "InvoiceReferencedDocument",
                        node("IssuerAssignedID", preceding.get("invoice_number")),
                        day("FormattedIssueDateTime", preceding.get("invoice_date")),
                    )
                    for preceding in _preceding(document)
                ),
            ),
        ),
    )
    return _xml(root, content, {"rsm": rsm, "ram": ram, "udt": udt}, of_tag, encoding)


ZUGFERD_1 = {
    b"CrossIndustryInvoice:100": b"CrossIndustryDocument:invoice:1p0",
    b"CrossIndustryInvoice": b"CrossIndustryDocument",
    b"ExchangedDocumentContext": b"SpecifiedExchangedDocumentContext",
    b"rsm:ExchangedDocument>": b"rsm:HeaderExchangedDocument>",
    b"SupplyChainTradeTransaction": b"SpecifiedSupplyChainTradeTransaction",
    b"ApplicableHeaderTrade": b"ApplicableSupplyChainTrade",
    b"SpecifiedLineTrade": b"SpecifiedSupplyChainTrade",
    b"SpecifiedTradeSettlementHeaderMonetarySummation": b"SpecifiedTradeSettlementMonetarySummation",
    b"SpecifiedTradeSettlementLineMonetarySummation": b"SpecifiedTradeSettlementMonetarySummation",
    b"RateApplicablePercent": b"ApplicablePercent",
    b"IssuerAssignedID": b"ID",
}


def zugferd_1(document: Document) -> bytes:
    """ZUGFeRD 1.0: the same structure under older names."""
    return _renamed(cii(document), ZUGFERD_1)


def _renamed(content: bytes, names: dict[bytes, bytes]) -> bytes:
    for name, older in names.items():
        content = content.replace(name, older)
    return content


DRAFT = {
    b"CrossIndustryDocument:invoice:1p0": b"CBFBUY:5",
    b"rsm:CrossIndustryDocument": b"rsm:Invoice",
}


def zugferd_draft(document: Document) -> bytes:
    """A draft of ZUGFeRD 1.0: another root, and no namespace but those of the parts at the top."""
    content = _renamed(zugferd_1(document), DRAFT)
    return re.sub(rb"(</?)(?:ram|udt):", rb"\1", content)


D10B = {
    rb"Applicable(SupplyChainTrade)": rb"ApplicableCIIH\1",
    rb"(?<=Specified)(SupplyChainTrade(?:Agreement|Delivery|Settlement))": rb"CIIL\1",
    rb"rsm:SpecifiedSupplyChainTradeTransaction": rb"rsm:CIIHSupplyChainTradeTransaction",
    rb"rsm:SpecifiedExchangedDocumentContext": rb"rsm:CIExchangedDocumentContext",
    rb"rsm:HeaderExchangedDocument": rb"rsm:CIIHExchangedDocument",
    rb"IncludedSupplyChainTradeLineItem": rb"IncludedCIILSupplyChainTradeLineItem",
    rb"AssociatedDocumentLine": rb"AssociatedCIILDocumentLine",
    rb"(Order|Contract|Invoice)ReferencedDocument": rb"\1ReferencedCIReferencedDocument",
    rb"(Seller|Buyer|ShipTo)TradeParty": rb"\1CITradeParty",
    rb"PostalTradeAddress": rb"PostalCITradeAddress",
    rb"SpecifiedTaxRegistration": rb"SpecifiedCITaxRegistration",
    rb"(Applicable|Category)TradeTax": rb"\1CITradeTax",
    rb"(Gross|Net)PriceProductTradePrice": rb"\1PriceProductCITradePrice",
    rb"Specified(Trade|LogisticsService)": rb"SpecifiedCI\1",
    rb"BillingSpecifiedPeriod": rb"BillingCISpecifiedPeriod",
    rb"CrossIndustryDocument:invoice:1p0": rb"CrossIndustryInvoice:2",
    rb"CrossIndustryDocument": rb"CrossIndustryInvoice",
}


def d10b(document: Document) -> bytes:
    """UN/CEFACT CII D10B: the names of ZUGFeRD 1.0, each with the message that it belongs to."""
    content = zugferd_1(document)
    for name, older in D10B.items():
        content = re.sub(name, older, content)
    return content


def _preceding(document: Document) -> list[Document]:
    number = document.get("preceding_invoice_number")
    return document.get("preceding_invoices") or ([{"invoice_number": number}] if number else [])


def _taxes(document: Document) -> list[Document]:
    if "taxes" in document or "tax_amount" not in document:
        return document.get("taxes", [])
    return [{"tax_rate": document.get("tax_rate"), "tax_amount": document["tax_amount"]}]


def hybrid(xml: bytes, *, name: str = "factur-x.xml", pages: bytes | None = None) -> bytes:
    """A PDF with the XML attached to it."""
    writer = PdfWriter()
    if pages is None:
        writer.add_blank_page(595, 842)
    else:
        writer.append(PdfReader(BytesIO(pages)))
    writer.add_attachment(name, xml)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def attached(xml: bytes, place: str, key: str) -> bytes:
    """A PDF with the XML attached where no standard has it: not in the catalog's name tree."""
    writer = PdfWriter()
    page = writer.add_blank_page(595, 842)
    stream = DecodedStreamObject()
    stream.set_data(xml)
    of_file = _dictionary({"/EF": _dictionary({key: writer._add_object(stream)})})
    of_file[NameObject("/F")] = TextStringObject("factur-x.xml")
    specification = writer._add_object(of_file)
    if place == "files of the page":
        page[NameObject("/AF")] = ArrayObject([specification])
    elif place == "file of the catalog":
        writer.root_object[NameObject("/AF")] = specification
    else:
        annotation = {"/Type": "/Annot", "/Subtype": "/FileAttachment", "/FS": specification}
        page[NameObject("/Annots")] = ArrayObject([writer._add_object(_dictionary(annotation))])
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def painted(instructions: bytes, *, on_a_form: bool = False) -> bytes:
    """A PDF of one page painted by these instructions, whose font is F1, directly or by a form."""
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    resources = _dictionary({"/Font": _dictionary({"/F1": _dictionary(font)})})
    stream = DecodedStreamObject()
    stream.set_data(instructions)
    stream = stream.flate_encode()
    writer = PdfWriter()
    page = writer.add_blank_page(595, 842)
    if on_a_form:
        stream.update(_dictionary({"/Type": "/XObject", "/Subtype": "/Form", "/Resources": resources}))
        stream[NameObject("/BBox")] = RectangleObject((0, 0, 595, 842))
        resources = _dictionary({"/XObject": _dictionary({"/X": writer._add_object(stream)})})
        stream = DecodedStreamObject()
        stream.set_data(b"/X Do")
    page.update({NameObject("/Contents"): writer._add_object(stream), NameObject("/Resources"): resources})
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def _dictionary(entries: dict) -> DictionaryObject:
    return DictionaryObject(
        {NameObject(key): NameObject(value) if isinstance(value, str) else value for key, value in entries.items()}
    )


LABELS = {
    "invoice_number": "#",
    "invoice_date": "Date:",
    "payment_method": "Payment Method:",
    "customer_id": "Customer ID:",
    "purchase_order_number": "PO Number:",
    "balance_due_amount": "Balance Due:",
    "item": "Item",
    "quantity": "Quantity",
    "unit_price": "Rate",
    "amount": "Amount",
    "subtotal_amount": "Subtotal:",
    "discount_amount": "Discount",
    "charge_amount": "Shipping:",
    "tax_amount": "Tax",
    "total_amount": "Total:",
    "amount_paid": "Amount Paid:",
}
LATER_LABELS = LABELS | {
    "payment_method": "Payment Terms:",
    "customer_id": "Member No.:",
    "unit_price": "Unit Price",
    "item": "Description",
    "quantity": "Qty",
    "tax_amount": "VAT",
    "total_amount": "Grand Total:",
}


def printed(
    document: Document,
    *,
    labels: dict[str, str] = LABELS,
    symbol: str = "HK$",
    date_format: str = "%b %-d, %Y",
    lines_on_a_page: int = 20,
    plain_pages: bool = False,
    money=None,
) -> bytes:
    """A PDF in the company's layout: letter paper, positions as on the original, labels as given.

    With `plain_pages` the pages after the first repeat number and date in place of the headings, and carry a sum over.
    """
    from datetime import date

    pdf = FPDF(unit="pt", format="letter")
    pdf.set_auto_page_break(False)
    pdf.set_font("Helvetica", size=9.8)
    pdf.add_page()
    money = money or (
        lambda value: f"{symbol}{Decimal(value):,.2f}" if Decimal(value) >= 0 else f"-{symbol}{-Decimal(value):,.2f}"
    )

    def left(x: float, y: float, text: str | None, style: str = "") -> None:
        pdf.set_font(style=style)
        pdf.text(x, y, text or "")

    def right(x: float, y: float, text: str | None, style: str = "") -> None:
        pdf.set_font(style=style)
        pdf.text(x - pdf.get_string_width(text or ""), y, text or "")

    get = document.get
    pdf.set_font(size=27)
    right(575, 50, "CREDIT NOTE" if document["document_type_code"] in CREDIT_TYPES else "INVOICE")
    pdf.set_font(size=12)
    right(572, 68, f"{labels['invoice_number']} {document['invoice_number']}")
    pdf.set_font(size=9.8)
    left(48, 150, document["seller"]["name"], "B")
    left(48, 162, document["seller"].get("address"))
    for x, heading, name in ((48, "Bill To:", "bill_to"), (182, "Ship To:", "ship_to")):
        if name in document:
            left(x, 189, heading)
            left(x, 205, document[name].get("name"), "B")
            for row, part in enumerate((document[name].get("address") or "").split(", ")):
                left(x, 217 + 12 * row, part)
    values = {
        "invoice_date": date.fromisoformat(document["invoice_date"]).strftime(date_format),
        "payment_method": get("payment_method"),
        "customer_id": get("customer", {}).get("id"),
        "purchase_order_number": get("purchase_order_number"),
        "balance_due_amount": money(document["balance_due_amount"]),
    }
    for row, (name, value) in enumerate(values.items()):
        if value:
            right(462, 118 + 21.8 * row, labels[name], "B" if row == 4 else "")
            right(567, 118 + 21.8 * row, value, "B" if row == 4 else "")
    if get("status") == "cancelled":
        left(300, 250, "CANCELLED", "B")

    def headings(y: float) -> None:
        left(44, y, labels["item"])
        left(373, y, labels["quantity"])
        right(493, y, labels["unit_price"])
        right(567, y, labels["amount"])

    y = 290.0
    headings(y)
    for position, line in enumerate(document["lines"]):
        if position and position % lines_on_a_page == 0:
            left(44, 770, f"Page {pdf.page}")
            if plain_pages:
                left(44, y + 30, "Carried forward")
                right(567, y + 30, money("1.00"))
            pdf.add_page()
            y = 40.0
            if plain_pages:
                right(572, y, f"{labels['invoice_number']} {document['invoice_number']}")
                right(462, y + 15, labels["invoice_date"])
                right(567, y + 15, values["invoice_date"])
                y += 20
            else:
                headings(y)
        y += 20
        quantity = line["quantity"] + (f" {line['unit_of_measure']}" if line.get("unit_of_measure") else "")
        left(373, y, quantity)
        right(493, y, money(line["unit_price"]))
        right(567, y, money(line["line_net_amount"]))
        for row, text in enumerate(_wrapped(pdf, line["item_name"], 310)):
            y += 12 if row else 0
            left(44, y, text, "B")
    if y > 560:
        pdf.add_page()
        y = 40.0
    for name in ("subtotal_amount", "discount_amount", "charge_amount", "tax_amount", "total_amount", "amount_paid"):
        if name in document:
            y += 21.8
            rate = get(name.replace("_amount", "_rate"))
            label = labels[name] + (f" ({rate}%):" if rate else "")
            right(462, y, label)
            right(567, y, money(document[name]))
    if get("payment_terms"):
        left(48, y + 40, "Terms:")
        for row, text in enumerate(document["payment_terms"].split(". ")):
            left(48, y + 56 + 13 * row, text)
    return bytes(pdf.output())


def _wrapped(pdf: FPDF, text: str, width: float) -> list[str]:
    pdf.set_font(style="B")
    rows = [""]
    for word in text.split():
        if rows[-1] and pdf.get_string_width(f"{rows[-1]} {word}") > width:
            rows.append("")
        rows[-1] = f"{rows[-1]} {word}".strip()
    return rows
