"""Documents written in each format are read back equal; hostile and broken files are refused with a reason."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.errors import IngestError
from ingest.invoices import contract, generator
from ingest.invoices.readers import Refused, pdf, printed, read
from tests.ingest import invoice_files as files

REAL = json.loads((Path(__file__).parents[1] / "fixtures" / "invoices" / "hk-00001.json").read_text())
AS_OF = date(2024, 3, 31)


def read_one(content: bytes) -> contract.Document:
    (document,) = read(content, source_file="given")
    assert document.pop("source_file") == "given"
    assert contract.problems(document) == []
    return document


def minimal(**fields) -> contract.Document:
    return {
        "seller": {"name": "Seller"},
        "invoice_number": "1",
        "document_type_code": "380",
        "invoice_date": "2024-01-31",
        "currency_code": "EUR",
        "lines": [{"line_number": "1", "item_name": "Thing", "quantity": "1", "line_net_amount": "10.00"}],
        "subtotal_amount": "10.00",
        "total_amount": "10.00",
        **fields,
    }


# Text as documents hold it: one line, with markup characters and letters of several scripts.
texts = st.text("aZ09 äß&<>'\"€¥中文ñ", min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)
codes = st.text("ABZ019", min_size=1, max_size=6)
days = st.dates(date(1990, 1, 1), date(2099, 12, 31)).map(date.isoformat)
money = st.decimals(-(10**9), 10**9, places=2).map(lambda value: f"{value:f}")
numbers = st.decimals(0, 10**6, places=4).map(lambda value: f"{value:f}")
rates = st.decimals(0, 100, places=2).map(lambda value: f"{value:f}")


def some(required: dict | None = None, **optional) -> st.SearchStrategy:
    return st.fixed_dictionaries(required or {}, optional=optional)


identifiers = {"id": codes, "legal_id": codes, "vat_id": codes, "electronic_address": texts}


def is_percentage(entry: contract.Document) -> bool:
    """Whether its amount does not tell that the rate is a part of one, as some write it in UBL."""
    if not {"rate", "base_amount"} <= entry.keys():
        return True
    rate, base, amount = (Decimal(entry[name]) for name in ("rate", "base_amount", "amount"))
    return abs(rate * base - amount) > Decimal("0.01") or not rate * base


allowance_charges = st.lists(
    some(
        {"is_charge": st.sampled_from(["true", "false"]), "amount": money},
        base_amount=money,
        rate=rates,
        reason_code=codes,
        reason=texts,
        tax_category_code=codes,
        tax_rate=rates,
    ).filter(is_percentage),
    min_size=1,
    max_size=3,
)
lines = some(
    {"item_name": texts, "quantity": numbers},
    item_id=codes,
    buyer_item_id=codes,
    standard_item_id=codes,
    item_description=texts,
    unit_of_measure=codes,
    unit_price=numbers,
    gross_price=numbers,
    price_base_quantity=numbers,
    line_net_amount=money,
    tax_category_code=codes,
    tax_rate=rates,
    period_start=days,
    period_end=days,
    order_line_number=codes,
    note=texts,
    allowance_charges=allowance_charges,
)
taxes = st.lists(
    some(
        {"tax_amount": money},
        tax_category_code=codes,
        tax_rate=rates,
        taxable_amount=money,
        exemption_reason_code=codes,
        exemption_reason=texts,
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def documents(draw) -> contract.Document:
    """Documents of every field, whose amounts need not add up."""
    place = some(address=texts, country_code=codes)
    document = draw(
        some(
            {
                "seller": some({"name": texts}, **identifiers, address=texts, country_code=codes),
                "invoice_number": texts,
                "document_type_code": st.sampled_from(["380", "381", "384", "389", "326", "751"]),
                "invoice_date": days,
                "currency_code": st.just("EUR"),
                "lines": st.lists(lines, min_size=1, max_size=4),
                "total_amount": money,
            },
            bill_to=place,
            ship_to=place,
            due_date=days,
            delivery_date=days,
            period_start=days,
            period_end=days,
            specification_id=texts,
            buyer_reference=texts,
            contract_number=texts,
            purchase_order_number=texts,
            sales_order_number=texts,
            preceding_invoices=st.lists(some({"invoice_number": texts}, invoice_date=days), min_size=1, max_size=2),
            payment_method=texts,
            payment_terms=texts,
            notes=st.lists(some({"text": texts}), min_size=1, max_size=2),
            subtotal_amount=money,
            discount_amount=money,
            charge_amount=money,
            allowance_charges=allowance_charges,
            total_ex_tax_amount=money,
            taxes=taxes,
            amount_paid=money,
            rounding_amount=money,
            balance_due_amount=money,
        )
    )
    document["payment_means_code"] = "30"
    for number, line in enumerate(document["lines"], start=1):
        line["line_number"] = str(number)
    if draw(st.booleans()):
        document["customer"] = draw(some({"name": texts}, **identifiers))
        document.setdefault("bill_to", {})["name"] = document["customer"]["name"]
    if preceding := document.get("preceding_invoices"):
        document["preceding_invoice_number"] = preceding[0]["invoice_number"]
    if "taxes" in document:
        document["tax_amount"] = draw(money)
        if len(document["taxes"]) == 1 and "tax_rate" in document["taxes"][0]:
            document["tax_rate"] = document["taxes"][0]["tax_rate"]
        if draw(st.booleans()):
            document |= {"tax_currency_code": "HKD", "tax_amount_in_tax_currency": draw(money)}
    entries = document.get("allowance_charges", [])
    for name, is_charge in (("discount_amount", "false"), ("charge_amount", "true")):
        amounts = [Decimal(entry["amount"]) for entry in entries if entry["is_charge"] == is_charge]
        if amounts:
            document.setdefault(name, f"{sum(amounts):f}")
    discounts = [entry for entry in entries if entry["is_charge"] == "false"]
    if len(discounts) == 1 and "rate" in discounts[0]:
        document["discount_rate"] = discounts[0]["rate"]
    return {key: value for key, value in document.items() if value != {}}


class TestRoundTrip:
    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(document=documents(), encoding=st.sampled_from(["UTF-8", "UTF-16"]), prefixed=st.booleans(), data=st.data())
    def test_every_field_of_every_format(self, document, encoding, prefixed, data):
        expected = deepcopy(document)
        prefixes = ("cac", "cbc") if prefixed else ("x1", "y")
        assert read_one(files.ubl(document, prefixes=prefixes, encoding=encoding)) == expected
        assert read_one(files.cii(document, encoding=encoding)) == expected
        older = data.draw(st.sampled_from([files.zugferd_1, files.zugferd_draft, files.d10b]))
        assert read_one(older(document)) == expected
        assert read_one(files.hybrid(files.cii(document))) == expected

    def test_generated_documents_as_xml_and_on_paper(self):
        for document in generator.documents(25, seed=3, as_of=AS_OF):
            expected = without(document, "status")
            for content in (files.ubl(document), files.cii(document)):
                found = without(read_one(content), "allowance_charges", "taxes", "payment_means_code")
                # A discount's rate is part of an allowance, which these documents do not name.
                found = without(found, "preceding_invoices")
                assert found == without(expected, "discount_rate")
            shown = read_one(files.printed(document))
            assert without(shown, "seller") == without(as_printed(document), "seller")
            assert shown["seller"]["name"] == document["seller"]["name"]


def without(document: contract.Document, *names: str) -> contract.Document:
    return {name: value for name, value in document.items() if name not in names}


def as_printed(document: contract.Document) -> contract.Document:
    """What the printed page says of a document: no identifiers of items and lines, no due date but by its terms."""
    lines = [
        without(line, "item_id") | {"line_number": str(number)}
        for number, line in enumerate(document["lines"], start=1)
    ]
    if "payment_terms" not in document:
        document = without(document, "due_date")
    # A credit note's page does not name the invoice before it.
    return without(document, "lines", "preceding_invoice_number") | {"lines": lines}


class TestPrinted:
    def test_real_invoice(self):
        assert read_one(files.printed(REAL)) == without(REAL, "source_file")

    def test_drifted_labels(self):
        document = without(REAL, "tax_rate", "tax_amount")
        document |= {"lines": REAL["lines"][:2], "subtotal_amount": "4880.00", "discount_amount": "488.00"}
        document |= {"total_amount": "4392.00", "amount_paid": "0.00", "balance_due_amount": "4392.00"}
        assert read_one(files.printed(document, labels=files.LATER_LABELS)) == without(document, "source_file")

    @pytest.mark.parametrize(
        ("symbol", "currency"),
        [("HK$", "HKD"), ("$", "USD"), ("US$ ", "USD"), ("£", "GBP"), ("¥", "JPY"), ("CHF ", "CHF"), ("S$", "SGD")],
    )
    def test_currencies(self, symbol, currency):
        document = read_one(files.printed(REAL, symbol=symbol))
        assert (document["currency_code"], document["total_amount"]) == (currency, "5036.85")

    def test_decimal_comma_and_symbol_behind(self):
        def money(value):
            return f"{Decimal(value):,.2f} GBP".translate(str.maketrans(",.", ".,"))

        document = read_one(files.printed(REAL, money=money, date_format="%d.%m.%Y"))
        assert (document["currency_code"], document["total_amount"]) == ("GBP", "5036.85")

    def test_several_pages_and_wrapped_names(self):
        name = "EXTRAORDINARILY LONG COTTON CREWNECK T-SHIRT WITH PRINTED LOGO AND A SECOND LINE"
        lines = [
            {"line_number": str(n), "item_name": f"{name} {n}", "quantity": "2", "unit_price": "1.50"}
            | {"line_net_amount": "3.00"}
            for n in range(1, 31)
        ]
        document = minimal(
            lines=lines, subtotal_amount="90.00", total_amount="90.00", amount_paid="0.00", status="issued",
            balance_due_amount="90.00", bill_to={"name": "Someone"}, customer={"name": "Someone"}, currency_code="HKD",
        )  # fmt: skip
        for plain in (False, True):
            assert read_one(files.printed(document, lines_on_a_page=10, plain_pages=plain)) == document

    def test_other_labels(self):
        many = {
            "invoice_number": "Invoice Number:", "customer_id": "Membership No.", "purchase_order_number": "Order #",
            "quantity": "Qty.", "unit_price": "Price / Unit", "amount": "Amount (HKD)", "item": "Item / Description",
            "subtotal_amount": "Net Amount:", "discount_amount": "Less: Member Discount", "tax_amount": "GST Amount",
            "total_amount": "Amount Payable:", "amount_paid": "Payment Received:", "invoice_date": "Date of Invoice",
        }  # fmt: skip
        document = without(REAL, "source_file")
        assert read_one(files.printed(REAL, labels=files.LABELS | many)) == document
        # Without a symbol, the code that stands at a heading or a total is the currency.
        assert read_one(files.printed(REAL, labels=files.LABELS | many, symbol="")) == document

    @pytest.mark.parametrize(
        "written", ["%d-%b-%Y", "%b %-d %Y", "January 1st, 2024", "Mon %-d %B, %Y", "%Y.%m.%d", "%d.%m.%Y", "1/1/2024"]
    )
    def test_dates(self, written):
        assert read_one(files.printed(REAL, date_format=written))["invoice_date"] == "2024-01-01"

    def test_rounding(self):
        content = files.printed(without(REAL, "tax_rate"), labels=files.LABELS | {"tax_amount": "Rounding"})
        document = read_one(content)
        assert (document["rounding_amount"], document["total_amount"]) == ("239.85", "5036.85")
        assert "tax_amount" not in document

    def test_items_that_are_called_as_totals_are(self):
        lines = [
            line | {"item_name": name} for line, name in zip(REAL["lines"], ("Delivery", "Tax", "Net"), strict=True)
        ]
        assert read_one(files.printed(REAL | {"lines": lines}))["lines"] == lines

    def test_credit_note_and_cancelled(self):
        assert read_one(files.printed(REAL | {"document_type_code": "381"}))["document_type_code"] == "381"
        assert read_one(files.printed(REAL | {"status": "cancelled"}))["status"] == "cancelled"

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"total_amount": "5036.86"}, "do not add up to the total"),
            ({"subtotal_amount": "5330.01"}, "the items do not add up to the subtotal"),
            ({"balance_due_amount": "1.00"}, "the balance is not the total less what is paid"),
            ({"lines": [REAL["lines"][0] | {"quantity": "2"}]}, "quantity x price is not the amount of item 1"),
            ({"lines": []}, "the table of items is empty"),
        ],
    )
    def test_what_does_not_add_up_is_refused(self, change, reason):
        with pytest.raises(Refused, match=reason) as refused:
            read(files.printed(REAL | change), source_file="given")
        assert refused.value.reader == "printed"

    def test_ambiguous_dates_are_refused(self):
        assert read_one(files.printed(REAL | {"invoice_date": "2024-01-31"}, date_format="%m/%d/%Y"))
        with pytest.raises(Refused, match="may mean two days"):
            read(files.printed(REAL | {"invoice_date": "2024-01-02"}, date_format="%d/%m/%Y"), source_file="given")

    @pytest.mark.parametrize(
        ("page", "reason"),
        [
            (b" " * (pdf.MAX_PAGE_BYTES + 1), "unpacks to more than a printed page holds"),
            (b" " * 80_000_000, "unpacks to too much"),
            (b"BT /F1 1 Tf (%s) Tj ET" % (b"a" * (printed.MAX_CHARACTERS + 1)), "has more than 20000 characters"),
        ],
        ids=["page", "bomb", "flood"],
    )
    @pytest.mark.parametrize("on_a_form", [False, True])
    def test_pages_that_unpack_to_too_much_are_refused(self, page, reason, on_a_form):
        with pytest.raises(Refused, match=reason) as refused:
            read(files.painted(page, on_a_form=on_a_form), source_file="given")
        assert "\n" not in refused.value.reason

    def test_other_pages_are_refused(self):
        blank = files.hybrid(b"no xml", name="notes.txt")
        with pytest.raises(Refused, match="no text; a scanned page is not read"):
            read(blank, source_file="given")
        with pytest.raises(Refused, match="the XML attached to the PDF is no invoice"):
            read(files.hybrid(b"<Order/>", name="order-x.xml"), source_file="given")
        with pytest.raises(Refused, match="the PDF is damaged"):
            read(b"%PDF-1.7\n" + b"\x00" * 100, source_file="given")


class TestLines:
    def nested(self, parent: str, *amounts: str) -> contract.Document:
        below = [
            {"line_id": f"1.{n}", "parent_line_id": "1", "item_name": "Part", "line_net_amount": amount}
            for n, amount in enumerate(amounts, start=1)
        ]
        return minimal(lines=[{"line_number": "1", "item_name": "Set", "line_net_amount": parent}, *below])

    @pytest.mark.parametrize("write", [files.ubl, files.cii])
    def test_parts_that_add_up_count_in_place_of_their_heading(self, write):
        kinds = [line.get("line_kind") for line in read_one(write(self.nested("10.00", "4.00", "6.00")))["lines"]]
        assert kinds == ["group", None, None]

    @pytest.mark.parametrize("write", [files.ubl, files.cii])
    def test_parts_that_do_not_add_up_are_information(self, write):
        kinds = [line.get("line_kind") for line in read_one(write(self.nested("10.00", "4.00", "7.00")))["lines"]]
        assert kinds == [None, "information", "information"]

    def test_kinds_that_are_given_count(self):
        document = self.nested("10.00", "4.00", "7.00")
        document["lines"][0]["line_kind"] = "group"
        assert [line.get("line_kind") for line in read_one(files.cii(document))["lines"]] == ["group", None, None]

    def test_numbers_that_occur_again_below_other_lines(self):
        lines = [
            {"line_id": line, "item_name": "Thing", "line_net_amount": amount} | above
            for line, above, amount in (
                ("1", {}, "10.00"), ("A1", {"parent_line_id": "1"}, "4.00"), ("B1", {"parent_line_id": "1"}, "6.00"),
                ("2", {}, "5.00"), ("C1", {"parent_line_id": "2"}, "5.00"),
            )
        ]  # fmt: skip
        content = files.ubl(minimal(lines=lines, subtotal_amount="15.00", total_amount="15.00"))
        for written, number in ((b">A1<", b">1<"), (b">B1<", b">2<"), (b">C1<", b">1<")):
            content = content.replace(written, number)
        assert [line.get("line_kind") for line in read_one(content)["lines"]] == ["group", None, None, "group", None]

    @pytest.mark.parametrize(("net", "expected"), [("30.00", None), ("10.00", "3"), ("10.01", "3")])
    def test_a_base_quantity_that_repeats_the_quantity_is_none(self, net, expected):
        line = {"line_number": "1", "quantity": "3", "unit_price": "10", "price_base_quantity": "3"}
        (read,) = read_one(files.ubl(minimal(lines=[line | {"line_net_amount": net}])))["lines"]
        assert read.get("price_base_quantity") == expected

    @pytest.mark.parametrize(("net", "is_of_line"), [("130.68", True), ("132.00", False)])
    def test_an_allowance_at_the_price_that_leads_to_the_amount_is_the_lines(self, net, is_of_line):
        line = {"line_number": "1", "quantity": "44", "unit_price": "3", "line_net_amount": net}
        allowance = (
            b"<cac:AllowanceCharge><cbc:ChargeIndicator>false</cbc:ChargeIndicator><cbc:Amount>1.32</cbc:Amount>"
        )
        content = files.ubl(minimal(lines=[line]))
        content = content.replace(b"</cbc:PriceAmount>", b"</cbc:PriceAmount>%s</cac:AllowanceCharge>" % allowance)
        (read,) = read_one(content)["lines"]
        expected = [{"is_charge": "false", "amount": "1.32"}] if is_of_line else None
        assert read.get("allowance_charges") == expected

    def test_kinds_that_ubl_writes_as_references(self):
        lines = [
            {"line_id": number, "item_name": "Thing", "line_net_amount": amount}
            for number, amount in (("A", "10.00"), ("B", "10.00"), ("C", "0.00"))
        ]
        kinds = [
            {"line_kind": "group"},
            {"line_kind": "detail", "parent_line_id": "A"},
            {"line_kind": "information", "parent_line_id": "B"},
        ]
        content = files.ubl(minimal(lines=lines))
        for line, kind in zip(lines, kinds, strict=True):
            reference = (
                "<cac:BillingReference><cac:InvoiceDocumentReference><cbc:ID>Earlier</cbc:ID>"
                "</cac:InvoiceDocumentReference></cac:BillingReference><cac:BillingReference>"
                "<cac:InvoiceDocumentReference><cbc:ID>1</cbc:ID><cbc:DocumentStatusCode>"
                f"{kind['line_kind'].upper()}</cbc:DocumentStatusCode></cac:InvoiceDocumentReference>"
                "<cac:BillingReferenceLine><cbc:ID>"
                f"{kind.get('parent_line_id', '')}</cbc:ID></cac:BillingReferenceLine></cac:BillingReference>"
            ).encode()
            start = b"<cbc:ID>%s</cbc:ID>" % line["line_id"].encode()
            content = content.replace(b"<cac:InvoiceLine>" + start, b"<cac:InvoiceLine>" + start + reference)
        assert read_one(content)["lines"] == [line | kind for line, kind in zip(lines, kinds, strict=True)]

    def test_lines_below_a_missing_one_are_lines(self):
        below = self.nested("10.00", "4.00", "6.00")
        below["lines"][0]["parent_line_id"] = "0"
        assert [line.get("line_kind") for line in read_one(files.cii(below))["lines"]] == ["group", None, None]

    def test_a_line_with_nothing_but_a_note_is_information(self):
        document = minimal(lines=[{"note": "Delivered before noon"}, *minimal()["lines"]])
        assert [line.get("line_kind") for line in read_one(files.cii(document))["lines"]] == ["information", None]

    @pytest.mark.parametrize("profile", ["urn:factur-x.eu:1p0:minimum", "urn:factur-x.eu:1p0:basicwl"])
    def test_profiles_without_lines_say_so(self, profile):
        document = without(minimal(specification_id=profile), "lines")
        assert read_one(files.hybrid(files.cii(document))) == document | {"lines_omitted": "true"}

    def test_other_documents_without_lines_are_refused(self):
        with pytest.raises(Refused, match="lines is missing"):
            read(files.cii(minimal(lines=[])), source_file="given")


class TestTypes:
    def test_debit_notes(self):
        content = files.ubl(minimal())
        for of_invoice, of_debit_note in (
            (b"Invoice-2", b"DebitNote-2"), (b"<Invoice", b"<DebitNote"), (b"</Invoice", b"</DebitNote"),
            (b":InvoiceLine", b":DebitNoteLine"), (b"InvoicedQ", b"DebitedQ"), (b":LegalM", b":RequestedM"),
            (b"<cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode>", b""),
        ):  # fmt: skip
            content = content.replace(of_invoice, of_debit_note)
        assert read_one(content) == minimal(document_type_code="383")

    @pytest.mark.parametrize("code", ["380", "384", "386", "389", "326", "751"])
    def test_codes_are_kept(self, code):
        assert read_one(files.ubl(minimal(document_type_code=code)))["document_type_code"] == code

    @pytest.mark.parametrize(("version", "expected"), [(b" listVersionID='1.1'", "381"), (b"", "02")])
    def test_codes_of_malaysia(self, version, expected):
        content = files.ubl(minimal()).replace(b"<cbc:InvoiceTypeCode>380", b"<cbc:InvoiceTypeCode%s>02" % version)
        assert read_one(content)["document_type_code"] == expected

    def test_credit_notes_are_positive(self):
        note = read_one(files.ubl(minimal(document_type_code="381")))
        assert (note["document_type_code"], note["total_amount"]) == ("381", "10.00")

    def test_a_credit_note_never_has_the_code_of_an_invoice(self):
        content = files.ubl(minimal(document_type_code="381")).replace(b">381<", b">380<")
        assert read_one(content)["document_type_code"] == "381"

    def test_negative_invoices_are_kept(self):
        line = {"line_number": "1", "item_name": "Return", "quantity": "-1", "line_net_amount": "-10.00"}
        document = minimal(lines=[line], subtotal_amount="-10.00", total_amount="-10.00")
        assert read_one(files.ubl(document)) == document


class TestNotes:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("#REG# HRB 1 ", {"subject_code": "REG", "text": "HRB 1"}),
            ("#REG#", {"subject_code": "REG"}),
            ("##REG##HRB", {"text": "##REG##HRB"}),
            ("No. #ABC#", {"text": "No. #ABC#"}),
        ],
    )
    def test_subjects_stand_before_the_text_in_ubl(self, written, expected):
        assert read_one(files.ubl(minimal(notes=[{"text": written}])))["notes"] == [expected]


class TestParties:
    def test_where_older_documents_have_what_others_have_in_one_place(self):
        seller = {"name": "Seller", "vat_id": "DK1", "address": "Street", "country_code": "DK"}
        document = minimal(seller=seller, customer={"id": "7", "name": "Buyer"}, bill_to={"name": "Buyer"})
        content = files.ubl(document)
        for before, after in (
            (b"<cbc:CompanyID>DK1</cbc:CompanyID>", b"%s<cac:TaxScheme><cbc:ID>63</cbc:ID></cac:TaxScheme>"),
            (b"<cac:PartyIdentification><cbc:ID>7</cbc:ID></cac:PartyIdentification>", b""),
            (b"<cac:AccountingCustomerParty>", b"%s<cbc:SupplierAssignedAccountID>7</cbc:SupplierAssignedAccountID>"),
            (b"<cac:PostalAddress>", b"<cac:PhysicalLocation><cac:Address>"),
            (b"</cac:PostalAddress>", b"</cac:Address></cac:PhysicalLocation>"),
            (
                b"<cac:PartyLegalEntity><cbc:RegistrationName>Seller",
                b"<cac:PartyTaxScheme><cbc:RegistrationName>Seller",
            ),
        ):
            assert before in content
            content = content.replace(before, after.replace(b"%s", before))
        content = content.replace(
            b"Seller</cbc:RegistrationName></cac:PartyLegalEntity>",
            b"Seller</cbc:RegistrationName></cac:PartyTaxScheme>",
        )
        assert read_one(content) == document


class TestTotals:
    def test_allowances_and_taxes_without_an_amount_are_none(self):
        empty = b"<cac:AllowanceCharge><cbc:ChargeIndicator>true</cbc:ChargeIndicator></cac:AllowanceCharge>"
        empty += b"<cac:TaxTotal><cac:TaxSubtotal><cbc:Percent>5</cbc:Percent></cac:TaxSubtotal></cac:TaxTotal>"
        content = files.ubl(minimal()).replace(b"<cac:LegalMonetaryTotal>", empty + b"<cac:LegalMonetaryTotal>")
        assert read_one(content) == minimal()

    def test_older_ubl_has_no_total_with_tax(self):
        document = minimal(amount_paid="4.00", rounding_amount="0.30", balance_due_amount="6.30")
        content = files.ubl(document).replace(b"TaxInclusiveAmount", b"UnusedAmount")
        assert read_one(content)["total_amount"] == "10.00"

    def test_currency_of_the_total_is_that_of_the_document(self):
        content = files.ubl(minimal(balance_due_amount="10.00"))
        assert (
            read_one(content.replace(b"<cbc:DocumentCurrencyCode>EUR<", b"<cbc:DocumentCurrencyCode><"))[
                "currency_code"
            ]
            == "EUR"
        )
        with pytest.raises(Refused, match="Amount is in another currency than the document"):
            read(files.ubl(minimal()).replace(b">EUR<", b">USD<"), source_file="given")

    def test_what_is_no_code_of_a_currency_tells_none(self):
        content = files.ubl(minimal(currency_code="JOD", total_amount="10.00"))
        assert read_one(content.replace(b'currencyID="JOD"', b'currencyID="JO"')) == minimal(currency_code="JOD")

    @pytest.mark.parametrize(("balance", "paid"), [("7.00", "3.00"), ("10.00", None)])
    def test_payments_that_lead_to_the_balance_are_paid(self, balance, paid):
        payment = b"<cac:PrepaidPayment><cbc:PaidAmount currencyID='EUR'>3</cbc:PaidAmount></cac:PrepaidPayment>"
        content = files.ubl(minimal(balance_due_amount=balance))
        document = read_one(content.replace(b"<cac:LegalMonetaryTotal>", payment + b"<cac:LegalMonetaryTotal>"))
        assert document.get("amount_paid") == paid

    def test_third_parties_pay_in_xrechnung_only(self):
        payment = b"<cac:PrepaidPayment><cbc:PaidAmount currencyID='EUR'>3</cbc:PaidAmount></cac:PrepaidPayment>"
        extension = "urn:cen.eu:en16931:2017#compliant#urn:x:xrechnung_3.0#conformant#urn:x:extension:xrechnung_3.0"
        for specification, amount in ((extension, "3.00"), ("urn:cen.eu:en16931:2017", None)):
            content = files.ubl(minimal(specification_id=specification))
            document = read_one(content.replace(b"<cac:LegalMonetaryTotal>", payment + b"<cac:LegalMonetaryTotal>"))
            assert document.get("third_party_amount") == amount

    def test_tax_that_is_withheld(self):
        withheld = (
            b"<cac:WithholdingTaxTotal><cbc:TaxAmount currencyID='%s'>%s</cbc:TaxAmount></cac:WithholdingTaxTotal>"
        )
        content = files.ubl(minimal(balance_due_amount="8.20"))
        for parts, expected in (
            ([(b"EUR", b"1.8")], "1.80"),
            ([(b"EUR", b"1.00"), (b"EUR", b"0.80")], "1.80"),
            ([(b"TRY", b"1.80")], None),
        ):
            totals = b"".join(withheld % part for part in parts) + b"<cac:LegalMonetaryTotal>"
            document = read_one(content.replace(b"<cac:LegalMonetaryTotal>", totals))
            assert (document.get("withheld_tax_amount"), document["total_amount"]) == (expected, "10.00")

    @pytest.mark.parametrize("subtotal", ["10.00", "8.00"])
    def test_totals_that_repeat_the_allowances_of_lines(self, subtotal):
        line = {
            "line_number": "1",
            "item_name": "Thing",
            "quantity": "1",
            "unit_price": "10.00",
            "line_net_amount": "8.00",
        }
        line["allowance_charges"] = [{"is_charge": "false", "amount": "2.00"}]
        amounts = {"total_ex_tax_amount": "8.00", "total_amount": "8.00"}
        document = minimal(lines=[line], subtotal_amount=subtotal, discount_amount="2.00", **amounts)
        assert read_one(files.ubl(document)) == minimal(lines=[line], subtotal_amount="8.00", **amounts)
        # A discount of the document is what the lines do not have.
        line = without(line, "allowance_charges") | {"line_net_amount": "10.00"}
        document |= {"lines": [line], "subtotal_amount": "10.00"}
        assert read_one(files.ubl(document)) == document

    @pytest.mark.parametrize(
        ("net", "expected"),
        # Jordan's total without tax is that before the discounts of lines; elsewhere a total must have its parts.
        [("10.00", {}), ("8.00", {"discount_amount": "2.00"})],
    )
    def test_allowances_of_lines_that_the_document_names_again(self, net, expected):
        allowances = {"allowance_charges": [{"is_charge": "false", "amount": "2.00"}]}
        line = {"line_number": "1", "quantity": "2", "line_net_amount": "8.00", **allowances}
        amounts = {"total_ex_tax_amount": net, "total_amount": "8.00"}
        document = without(minimal(lines=[line], **allowances, **amounts), "subtotal_amount")
        assert read_one(files.ubl(document | {"discount_amount": "2.00"})) == document | expected

    @pytest.mark.parametrize(
        ("written", "rate", "amount", "base"),
        [
            ("0.05", "5", "12.35", "246.91"),
            ("5", "5", "12.35", "246.91"),
            ("1", "100", "246.91", "246.91"),
            ("0.05", "0.05", "9.99", "246.91"),
            ("0", "0", "0.00", "246.91"),
            # a cent is as near to both
            ("0.00", "0.00", "0.01", "0.00"),
            ("0.05", "5", "0.01", "0.20"),
        ],
    )
    def test_rates_are_percentages(self, written, rate, amount, base):
        entry = {"is_charge": "false", "base_amount": base, "amount": amount}
        (read,) = read_one(files.ubl(minimal(allowance_charges=[entry | {"rate": written}])))["allowance_charges"]
        assert read == entry | {"rate": rate}

    @pytest.mark.parametrize(
        ("net", "expected"),
        [("8.00", {"discount_amount": "2.00"}), ("11.00", {"charge_amount": "1.00"}), ("10.00", {})],
    )
    def test_the_net_total_tells_what_changes_the_subtotal(self, net, expected):
        taxes = {"taxes": [{"tax_amount": "1.00"}], "tax_amount": "1.00"}
        document = minimal(total_ex_tax_amount=net, total_amount=f"{Decimal(net) + 1}", **taxes)
        assert read_one(files.ubl(document)) == document | expected
        # An allowance that no total knows is told only, unless the net total is none that the tax makes the total of.
        named = document | {"allowance_charges": [{"is_charge": "false", "amount": "5.00"}]}
        assert read_one(files.ubl(named)) == named | expected
        other = named | {"total_amount": "99.00"}
        assert read_one(files.ubl(other)) == other | {"discount_amount": "5.00"}

    def test_oioubl_writes_the_tax_where_others_write_the_total_without_it(self):
        content = files.ubl(minimal(specification_id="OIOUBL-2.02", total_ex_tax_amount="2.00"))
        assert "total_ex_tax_amount" not in read_one(content)

    @pytest.mark.parametrize(
        ("written", "read"),
        [("10", "10.00"), ("10.0000", "10.00"), ("+10.00", "10.00"), (".5", "0.50"), ("10.005", "10.005")],
    )
    def test_amounts_are_exact(self, written, read):
        content = files.ubl(minimal(subtotal_amount=written))
        assert read_document(content)["subtotal_amount"] == read

    @pytest.mark.parametrize("written", ["1,000.00", "ten", "1e3", "NaN", "--1", "1" * 1_000_000, "." + "1" * 41])
    def test_what_is_no_number_is_refused(self, written):
        with pytest.raises(Refused, match="subtotal_amount is not a decimal number"):
            read(files.ubl(minimal(subtotal_amount=written)), source_file="given")


def read_document(content: bytes) -> contract.Document:
    return read(content, source_file="given")[0]


class TestXml:
    @pytest.mark.parametrize(
        "change",
        [
            lambda xml: b"\xef\xbb\xbf" + xml,
            lambda xml: b"\n  " + xml,
            lambda xml: b"\xef\xbb\xbf\xef\xbb\xbf" + xml,
            lambda xml: xml + b"\x00\x00\x1a trailing bytes",
            lambda xml: xml.replace(b"UTF-8", b"UTF-16"),
            lambda xml: xml.decode("utf-8").encode("windows-1252"),
            lambda xml: xml.replace(b"encoding='UTF-8'", b""),
            lambda xml: xml.replace(b"UTF-8", b""),
            lambda xml: xml.replace(b"?>", b'?><?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/a.xsl"?>', 1),
        ],
        ids=[
            "mark",
            "space",
            "two marks",
            "garbage",
            "says UTF-16",
            "is Windows-1252",
            "says nothing",
            "says empty",
            "style",
        ],
    )
    def test_damage_that_leaves_the_document_readable(self, change):
        document = minimal(seller={"name": "Müller & Söhne"})
        assert read_one(change(files.ubl(document))) == document

    @pytest.mark.parametrize("write", [files.ubl, files.cii])
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (
                '<StandardBusinessDocument xmlns="http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader">'
                "<StandardBusinessDocumentHeader/>",
                "</StandardBusinessDocument>",
            ),
            (
                '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><send>',
                "</send></s:Body></s:Envelope>",
            ),
            (
                f'<AttachedDocument xmlns="{files.UBL}AttachedDocument-2" xmlns:c="c"><c:Attachment>'
                "<c:ExternalReference><c:Description>\n<![CDATA[<?xml version='1.0' encoding='ISO-8859-1'?>",
                "]]></c:Description></c:ExternalReference></c:Attachment></AttachedDocument>",
            ),
        ],
        ids=["SBDH", "SOAP", "AttachedDocument"],
    )
    def test_envelopes(self, write, before, after):
        document = minimal(seller={"name": "Müller & Söhne"})
        inner = write(document).split(b"?>", 1)[1]
        assert read_one(before.encode() + inner + after.encode()) == document

    def test_envelopes_with_a_file(self):
        envelope = (
            '<StandardBusinessDocument xmlns="http://www.unece.org/cefact/namespaces/StandardBusinessDocumentHeader">'
            '<BinaryContent xmlns="http://peppol.eu/xsd/ticc/envelope/1.0">%s</BinaryContent></StandardBusinessDocument>'
        )
        for file in (files.ubl(minimal()), files.hybrid(files.cii(minimal()))):
            assert read_one((envelope % base64.encodebytes(file).decode()).encode()) == minimal()
        for file in (files.ubl(minimal()), files.hybrid(files.cii(minimal()))):
            attached = (
                f'<AttachedDocument xmlns="{files.UBL}AttachedDocument-2" xmlns:c="c"><c:Attachment>'
                f"<c:EmbeddedDocumentBinaryObject>{base64.encodebytes(file).decode()}</c:EmbeddedDocumentBinaryObject>"
                "</c:Attachment></AttachedDocument>"
            )
            assert read_one(attached.encode()) == minimal()
        for content, reason in (
            ("?", "not in base64"),
            ("", "not well-formed"),
            ("PGEvPg==", "the root element a is not"),
        ):
            with pytest.raises(Refused, match=reason):
                read((envelope % content).encode(), source_file="given")

    def test_an_envelope_with_two_invoices_is_refused(self):
        inner = files.ubl(minimal()).split(b"?>", 1)[1]
        with pytest.raises(Refused, match="the envelope holds 2 invoices; one is expected"):
            read(b"<Invoices>" + inner * 2 + b"</Invoices>", source_file="given")

    def test_large_attachments(self):
        attached = (
            b"<cac:Attachment><cbc:EmbeddedDocumentBinaryObject>%s</cbc:EmbeddedDocumentBinaryObject></cac:Attachment>"
        )
        content = files.ubl(minimal()).replace(b"<cac:LegalMonetaryTotal>", b"%s<cac:LegalMonetaryTotal>" % attached)
        large = content % (b"QUJD" * 3_000_000)
        assert read_one(large) == minimal()
        assert read_one(large.decode().replace("UTF-8", "UTF-16").encode("utf-16")) == minimal()

    @pytest.mark.parametrize(
        ("declaration", "use"),
        [
            ('<!DOCTYPE Invoice [<!ENTITY a "x">]>', "&a;"),
            ('<!DOCTYPE Invoice [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "&a;"),
            ('<!DOCTYPE Invoice SYSTEM "http://127.0.0.1:9/evil.dtd">', ""),
            ("<!DOCTYPE Invoice>", ""),
            (
                '<!DOCTYPE Invoice [<!ENTITY a0 "lol">'
                + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
                + "]>",
                "&a9;",
            ),
        ],
        ids=["entity", "file", "network", "declaration", "bomb"],
    )
    def test_declarations_are_refused(self, declaration, use):
        document = files.ubl(minimal()).decode().replace("?>", f"?>{declaration}").replace(">Thing<", f">{use}Thing<")
        with pytest.raises(Refused, match=r"document type declaration|not well-formed") as refused:
            read(document.encode(), source_file="given")
        assert refused.value.reader == "xml"

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "the file is empty"),
            (b" \n ", "the file is empty"),
            (b"Invoice HK-00001", "neither XML nor PDF nor JSON"),
            (b"PK\x03\x04", "neither XML nor PDF nor JSON"),
            (b"<Invoice", "the XML is not well-formed"),
            (b"<a/><b/>", "the XML is not well-formed"),
            (b"<Order/>", "the root element Order is not that of a UBL 2 or CII invoice"),
            (b"<Invoice xmlns='urn:other'/>", "the root element Invoice is not that of a UBL 2 or CII invoice"),
            (b"<Invoice/>", "seller is missing"),
            (b"<CrossIndustryInvoice/>", "the parts of a Cross Industry Invoice are missing"),
            (b"<a>" * 5000, "the XML is not well-formed"),
            (b"<StandardBusinessDocument/>", "the root element StandardBusinessDocument is not that"),
            (b"<AttachedDocument/>", "the XML is not well-formed"),
            (b"{}", "seller is missing"),
            (b"[" * 100_000, "nested too deeply"),
            (b'{"a": "\xff"}', "not in UTF-8"),
        ],
    )
    def test_what_is_no_invoice_is_refused(self, content, reason):
        with pytest.raises(Refused, match=reason) as refused:
            read(content, source_file="given")
        assert "\n" not in refused.value.reason

    @settings(max_examples=150, deadline=None)
    @given(data=st.data(), kind=st.sampled_from(["ubl", "cii", "hybrid", "printed"]))
    def test_any_damage_is_a_refusal_or_a_document(self, data, kind):
        whole = WHOLE[kind]
        start = data.draw(st.integers(0, len(whole)))
        end = data.draw(st.integers(start, min(len(whole), start + 400)))
        damaged = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
        try:
            documents = read(damaged, source_file="given")
        except Refused as refused:
            assert refused.reason
        else:
            assert contract.problems(documents[0], only_refusing=True) == []


WHOLE = {
    "ubl": files.ubl(REAL),
    "cii": files.cii(REAL),
    "hybrid": files.hybrid(files.cii(REAL)),
    "printed": files.printed(REAL),
}


class TestJson:
    def test_one_document_or_one_on_each_line(self):
        one, two = minimal(), minimal(invoice_number="2")
        assert read(json.dumps(one, indent=2).encode(), source_file="f") == [one | {"source_file": "f"}]
        content = f"{json.dumps(one)}\n{json.dumps(two)}\n".encode()
        assert [document["invoice_number"] for document in read(content, source_file="f")] == ["1", "2"]

    def test_halves_of_characters_are_refused(self):
        for document, reason in (
            (minimal(seller={"name": "\ud800"}), "seller.name is not text in Unicode"),
            (minimal() | {"\ud800": "1"}, r"'\\ud800' is not a field of the contract"),
        ):
            with pytest.raises(Refused, match=reason) as refused:
                read(json.dumps(document).encode(), source_file="f")
            assert refused.value.reason.encode()

    def test_a_fixture_that_is_nested_too_deeply(self, tmp_path):
        from ingest.invoices import land

        (tmp_path / "deep.json").write_text("[" * 100_000)
        with pytest.raises(IngestError, match=r"deep\.json is nested too deeply; give a file with one document"):
            land.read(tmp_path / "deep.json")

    def test_a_file_with_one_bad_line_is_refused_as_a_whole(self):
        content = f"{json.dumps(minimal())}\n{{}}\n".encode()
        with pytest.raises(Refused, match="seller is missing"):
            read(content, source_file="f")


class TestHybrid:
    def test_the_newest_of_two_standards_counts(self):
        old = files.hybrid(files.zugferd_1(minimal(invoice_number="old")), name="ZUGFeRD-invoice.xml")
        from io import BytesIO

        from pypdf import PdfReader, PdfWriter

        writer = PdfWriter(clone_from=PdfReader(BytesIO(old)))
        writer.add_attachment("factur-x.xml", files.cii(minimal()))
        out = BytesIO()
        writer.write(out)
        assert read_one(out.getvalue())["invoice_number"] == "1"

    def test_any_name_of_an_attached_invoice(self):
        for name in ("Rechnung.XML", "invoice"):
            for encoding in ("UTF-8", "UTF-16"):
                assert read_one(files.hybrid(files.ubl(minimal(), encoding=encoding), name=name)) == minimal()

    @pytest.mark.parametrize("place", ["files of the page", "file of the catalog", "annotation"])
    @pytest.mark.parametrize("key", ["/F", "/UF", "/Unix"])
    def test_any_place_of_an_attached_invoice(self, place, key):
        content = files.attached(files.cii(minimal()), place, key)
        assert read_one(content) == minimal()

    def test_broken_xml_is_not_replaced_by_the_printed_page(self):
        content = files.hybrid(files.cii(REAL)[:-20], pages=files.printed(REAL))
        with pytest.raises(Refused, match="the XML is not well-formed"):
            read(content, source_file="given")

    def test_encrypted(self):
        from io import BytesIO

        from pypdf import PdfReader, PdfWriter

        writer = PdfWriter(clone_from=PdfReader(BytesIO(files.hybrid(files.cii(minimal())))))
        for password, reads in (("", True), ("secret", False)):
            writer.encrypt(password, owner_password="owner", algorithm="AES-256")
            out = BytesIO()
            writer.write(out)
            if reads:
                assert read_one(out.getvalue()) == minimal()
            else:
                with pytest.raises(Refused, match="the PDF is encrypted"):
                    read(out.getvalue(), source_file="given")
