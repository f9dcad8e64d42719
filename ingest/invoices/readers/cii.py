"""UN/CEFACT Cross Industry Invoices by the mapping of EN 16931-3-3: D16B, ZUGFeRD 1.0 with its drafts, D09B to D10B."""

from __future__ import annotations

import re

from lxml.etree import QName

from ingest.invoices.contract import INVOICE, Document
from ingest.invoices.readers.errors import Refused
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

# The older schemas name the message within a name: SellerCITradeParty, SpecifiedCIILSupplyChainTradeDelivery.
_OF_THE_MESSAGE = re.compile("(?:Referenced)?CII?[HL]?(?=[A-Z][a-z])")
# One name for what D16B and ZUGFeRD 1.0 name differently.
_NAMES = {
    "SpecifiedExchangedDocumentContext": "ExchangedDocumentContext",
    "HeaderExchangedDocument": "ExchangedDocument",
    "SpecifiedSupplyChainTradeTransaction": "SupplyChainTradeTransaction",
    "ApplicableSupplyChainTradeAgreement": "ApplicableHeaderTradeAgreement",
    "ApplicableSupplyChainTradeDelivery": "ApplicableHeaderTradeDelivery",
    "ApplicableSupplyChainTradeSettlement": "ApplicableHeaderTradeSettlement",
    "SpecifiedSupplyChainTradeAgreement": "SpecifiedLineTradeAgreement",
    "SpecifiedSupplyChainTradeDelivery": "SpecifiedLineTradeDelivery",
    "SpecifiedSupplyChainTradeSettlement": "SpecifiedLineTradeSettlement",
    "SpecifiedTradeSettlementMonetarySummation": "MonetarySummation",
    "SpecifiedTradeSettlementHeaderMonetarySummation": "MonetarySummation",
    "SpecifiedTradeSettlementLineMonetarySummation": "MonetarySummation",
    "ApplicablePercent": "RateApplicablePercent",
}
_ROOTS = ("CrossIndustryInvoice", "CrossIndustryDocument")
# The root of drafts of ZUGFeRD 1.0 is an Invoice.
_DRAFT = "urn:un:unece:uncefact:data:standard:CBFBUY:"
_PROFILES_WITHOUT_LINES = ("minimum", "basicwl", "ereporting")
_ADDRESS = ("LineOne", "LineTwo", "LineThree", "CityName", "PostcodeCode", "CountrySubDivisionName")
_ALLOWANCE_CHARGE = {
    "is_charge": "ChargeIndicator",
    "amount": "ActualAmount",
    "base_amount": "BasisAmount",
    "rate": "CalculationPercent",
    "reason_code": "ReasonCode",
    "reason": "Reason",
    "tax_category_code": "CategoryTradeTax/CategoryCode",
    "tax_rate": "CategoryTradeTax/RateApplicablePercent",
}
_SERVICE_CHARGE = {
    "amount": "AppliedAmount",
    "reason": "Description",
    "tax_category_code": "AppliedTradeTax/CategoryCode",
    "tax_rate": "AppliedTradeTax/RateApplicablePercent",
}


def reads(name: QName) -> bool:
    """Whether it is that of a Cross Industry Invoice of any version."""
    return name.localname in _ROOTS or (name.localname == "Invoice" and (name.namespace or "").startswith(_DRAFT))


def read(root: Element) -> Document:
    """The document; required terms may be missing.

    Raises:
        Refused: its total is in another currency than the document.
    """
    for element in root.iter():
        name = _OF_THE_MESSAGE.sub("", element.tag)
        element.tag = _NAMES.get(name, name)
    header = root.find("ExchangedDocument")
    trade = root.find("SupplyChainTradeTransaction")
    if header is None or trade is None:
        raise Refused("the parts of a Cross Industry Invoice are missing")
    agreement, delivery, settlement = (
        trade.find(f"ApplicableHeaderTrade{part}") for part in ("Agreement", "Delivery", "Settlement")
    )
    totals = settlement.find("MonetarySummation") if settlement is not None else None
    currency = text(settlement, "InvoiceCurrencyCode") or attribute(totals, "GrandTotalAmount", "currencyID")

    def sum_of(name: str) -> str | None:
        found = [element for element in ([] if totals is None else totals.findall(name)) if text(element, ".")]
        # The tax is told in its own currency too.
        return amount_of(name, in_currency(found, currency) if name == "TaxTotalAmount" else found, currency)

    entries = _allowance_charges(settlement)
    taxes = [_tax(found) for found in ([] if settlement is None else settlement.findall("ApplicableTradeTax"))]
    taxes = [tax for tax in taxes if tax["tax_amount"] is not None]
    tax_currency = text(settlement, "TaxCurrencyCode")
    tax_totals = [] if totals is None else totals.findall("TaxTotalAmount")
    seller, buyer = (
        agreement.find(f"{role}TradeParty") if agreement is not None else None for role in ("Seller", "Buyer")
    )
    recipient = delivery.find("ShipToTradeParty") if delivery is not None else None
    preceding = [
        {
            "invoice_number": text(found, "IssuerAssignedID", "ID"),
            "invoice_date": day(text(found, "FormattedIssueDateTime/DateTimeString", "IssueDateTime")),
        }
        for found in ([] if settlement is None else settlement.findall("InvoiceReferencedDocument"))
    ]
    profile = text(root, "ExchangedDocumentContext/GuidelineSpecifiedDocumentContextParameter/ID")
    lines = [compact(_line(found)) for found in trade.findall("IncludedSupplyChainTradeLineItem")]
    positions = {line.get("line_number") or line.get("line_id"): position for position, line in enumerate(lines)}
    has_no_lines = not lines and (profile or "").lower().replace("-", "").endswith(_PROFILES_WITHOUT_LINES)
    terms = [] if settlement is None else settlement.findall("SpecifiedTradePaymentTerms")
    return compact(
        {
            "seller": {
                **_identifiers(seller),
                "address": _address(seller),
                "country_code": text(seller, "PostalTradeAddress/CountryID"),
            },
            "customer": _identifiers(buyer),
            "bill_to": {
                "name": _name(buyer),
                "address": _address(buyer),
                "country_code": text(buyer, "PostalTradeAddress/CountryID"),
            },
            "ship_to": {
                "name": _name(recipient),
                "address": _address(recipient),
                "country_code": text(recipient, "PostalTradeAddress/CountryID"),
            },
            "invoice_number": text(header, "ID"),
            "document_type_code": text(header, "TypeCode") or INVOICE,
            "specification_id": profile,
            "invoice_date": _day(header, "IssueDateTime"),
            "due_date": next(filter(None, (_day(found, "DueDateDateTime") for found in terms)), None),
            "delivery_date": _day(delivery, "ActualDeliverySupplyChainEvent/OccurrenceDateTime"),
            "period_start": _day(settlement, "BillingSpecifiedPeriod/StartDateTime"),
            "period_end": _day(settlement, "BillingSpecifiedPeriod/EndDateTime"),
            "currency_code": currency,
            "tax_currency_code": tax_currency,
            "buyer_reference": text(agreement, "BuyerReference"),
            "contract_number": _reference(agreement, "ContractReferencedDocument"),
            "purchase_order_number": _reference(agreement, "BuyerOrderReferencedDocument"),
            "sales_order_number": _reference(agreement, "SellerOrderReferencedDocument"),
            "preceding_invoice_number": preceding[0]["invoice_number"] if preceding else None,
            "preceding_invoices": preceding,
            "payment_means_code": text(settlement, "SpecifiedTradeSettlementPaymentMeans/TypeCode"),
            "payment_method": text(settlement, "SpecifiedTradeSettlementPaymentMeans/Information"),
            "payment_terms": " ".join(filter(None, (text(found, "Description") for found in terms))),
            "notes": [
                {"subject_code": text(found, "SubjectCode"), "text": text(found, "Content")}
                for found in header.findall("IncludedNote")
            ],
            "lines_omitted": "true" if has_no_lines else None,
            "lines": settle_kinds(lines, [positions.get(line.get("parent_line_id", "")) for line in lines]),
            "subtotal_amount": sum_of("LineTotalAmount"),
            "discount_rate": discount_rate(entries),
            "discount_amount": sum_of("AllowanceTotalAmount") or charged(entries, False),
            "charge_amount": sum_of("ChargeTotalAmount") or charged(entries, True),
            "allowance_charges": entries,
            "total_ex_tax_amount": sum_of("TaxBasisTotalAmount"),
            "tax_rate": tax_rate(taxes),
            "tax_amount": sum_of("TaxTotalAmount") or total(tax["tax_amount"] for tax in taxes),
            "tax_amount_in_tax_currency": amount_in_tax_currency(tax_totals, tax_currency, currency),
            "taxes": taxes,
            "total_amount": sum_of("GrandTotalAmount"),
            "amount_paid": sum_of("TotalPrepaidAmount"),
            "rounding_amount": sum_of("RoundingAmount"),
            "balance_due_amount": sum_of("DuePayableAmount"),
        }
    )


def _day(element: Element | None, path: str) -> str | None:
    return day(text(element, f"{path}/DateTimeString", f"{path}/DateString", f"{path}/DateTime", path))


def _reference(agreement: Element | None, path: str) -> str | None:
    return text(agreement, f"{path}/IssuerAssignedID", f"{path}/ID")


def _name(party: Element | None) -> str | None:
    return text(party, "Name", "SpecifiedLegalOrganization/TradingBusinessName", "DefinedTradeContact/PersonName")


def _identifiers(party: Element | None) -> Document:
    path = "ID" if text(party, "ID") else "GlobalID"
    registrations = [] if party is None else party.findall("SpecifiedTaxRegistration/ID")
    vat_ids = [found for found in registrations if found.get("schemeID") in ("VA", None)]
    return {
        "id": text(party, path),
        "id_scheme": attribute(party, path, "schemeID"),
        "name": _name(party),
        "legal_id": text(party, "SpecifiedLegalOrganization/ID"),
        "vat_id": text(vat_ids[0], ".") if vat_ids else None,
        "electronic_address": text(party, "URIUniversalCommunication/URIID"),
    }


def _address(party: Element | None) -> str | None:
    return ", ".join(filter(None, (text(party, f"PostalTradeAddress/{part}") for part in _ADDRESS))) or None


def _line(line: Element) -> Document:
    about, product, agreement, delivery, settlement = (
        line.find(part)
        for part in (
            "AssociatedDocumentLineDocument",
            "SpecifiedTradeProduct",
            "SpecifiedLineTradeAgreement",
            "SpecifiedLineTradeDelivery",
            "SpecifiedLineTradeSettlement",
        )
    )
    return {
        **line_number(text(about, "LineID")),
        "parent_line_id": text(about, "ParentLineID"),
        "line_kind": line_kind(text(about, "LineStatusReasonCode")),
        "item_id": text(product, "SellerAssignedID"),
        "buyer_item_id": text(product, "BuyerAssignedID"),
        "standard_item_id": text(product, "GlobalID"),
        "standard_item_id_scheme": attribute(product, "GlobalID", "schemeID"),
        "item_name": text(product, "Name", "Description"),
        "item_description": text(product, "Description"),
        "quantity": number(text(delivery, "BilledQuantity")),
        "unit_of_measure": attribute(delivery, "BilledQuantity", "unitCode"),
        "unit_price": number(text(agreement, "NetPriceProductTradePrice/ChargeAmount")),
        "gross_price": number(text(agreement, "GrossPriceProductTradePrice/ChargeAmount")),
        "price_base_quantity": number(text(agreement, "NetPriceProductTradePrice/BasisQuantity")),
        "price_base_unit": attribute(agreement, "NetPriceProductTradePrice/BasisQuantity", "unitCode"),
        "line_net_amount": amount(text(settlement, "MonetarySummation/LineTotalAmount")),
        "tax_category_code": text(settlement, "ApplicableTradeTax/CategoryCode"),
        "tax_rate": number(text(settlement, "ApplicableTradeTax/RateApplicablePercent")),
        "period_start": _day(settlement, "BillingSpecifiedPeriod/StartDateTime"),
        "period_end": _day(settlement, "BillingSpecifiedPeriod/EndDateTime"),
        "order_line_number": text(agreement, "BuyerOrderReferencedDocument/LineID"),
        "note": text(about, "IncludedNote/Content"),
        "allowance_charges": _allowance_charges(settlement),
    }


def _allowance_charges(settlement: Element | None) -> list[Document]:
    if settlement is None:
        return []
    return [
        *allowance_charges(settlement.findall("SpecifiedTradeAllowanceCharge"), _ALLOWANCE_CHARGE),
        *allowance_charges(settlement.findall("SpecifiedLogisticsServiceCharge"), _SERVICE_CHARGE),
    ]


def _tax(found: Element) -> Document:
    return {
        "tax_category_code": text(found, "CategoryCode"),
        "tax_rate": number(text(found, "RateApplicablePercent")),
        "taxable_amount": amount(text(found, "BasisAmount")),
        "tax_amount": amount(text(found, "CalculatedAmount")),
        "exemption_reason_code": text(found, "ExemptionReasonCode"),
        "exemption_reason": text(found, "ExemptionReason"),
    }
