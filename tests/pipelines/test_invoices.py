"""The pipeline `invoices`, its sources as they are, over documents whose results were worked out by hand."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyspark.sql import Row

from ingest.invoices import contract, generator
from lakeflow_local.bundle import sql_files
from lakeflow_local.pipelines import update
from lakeflow_local.pipelines.spec import PipelineSpec

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "pipelines" / "invoices" / "transformations").glob("*.sql"))
REAL = json.loads((ROOT / "tests" / "fixtures" / "invoices" / "hk-00001.json").read_text())
SCHEMAS = {f"{layer}_schema": f"test_invoices_{layer}" for layer in ("bronze", "silver", "gold")}
QUESTIONS = ("top_five_customers_of_january_2024", "invoices_with_quantity_over_10", "date_with_highest_total")
CENT = Decimal("0.01")


def document(number: str, *nets: str, **fields) -> contract.Document:
    """A document with lines of these net amounts; the total is that of its parts unless given."""
    made = {
        "seller": {"id": "S-1", "name": "Test Seller"},
        "customer": {"id": "10000000", "name": "Someone"},
        "invoice_number": number,
        "invoice_date": "2023-11-15",
        "currency_code": "HKD",
        "lines": [{"item_name": f"Item {i}", "line_net_amount": net} for i, net in enumerate(nets)],
        **fields,
    }
    parts = [Decimal(line.get("line_net_amount", 0)) for line in made["lines"]]
    signs = {"discount_amount": -1, "charge_amount": 1, "tax_amount": 1}
    total = sum(parts) + sum(sign * Decimal(made.get(name, 0)) for name, sign in signs.items())
    return {"total_amount": str(total), **made}


def purchase(number: str, customer: str | None, day: str, total: str, *, quantity: str = "1", **fields):
    """A document with one line over this amount; `customer` may be unknown."""
    thing = {"item_id": "A-1", "item_name": "Thing", "quantity": quantity, "line_net_amount": total}
    buyer = {"id": customer, "name": f"Customer {customer}"} if customer else {}
    return document(number, invoice_date=day, customer=buyer, lines=[thing], **fields)


def line(quantity: str) -> dict[str, str]:
    return {"item_name": "Thing", "quantity": quantity, "line_net_amount": "1.00"}


CREDIT_NOTE = {"document_type_code": "381"}
CANCELLED = {"status": "cancelled"}

# The real invoice, of customer 11134891 with 5,036.85 on 1 January, counts among these.
PURCHASES = [
    purchase("P-1", "20000001", "2024-01-31", "10000.00"),
    purchase("P-2", "20000001", "2024-01-02", "1000.00", preceding_invoice_number="P-1", **CREDIT_NOTE),
    purchase("P-3", "20000001", "2024-02-02", "8999.00", preceding_invoice_number="P-1", **CREDIT_NOTE),
    purchase("P-4", "20000002", "2024-01-03", "8000.00"),
    purchase("P-5", "20000003", "2024-01-04", "7000.00"),
    purchase("P-6", "20000004", "2024-01-05", "6000.00"),
    purchase("P-7", "20000005", "2024-01-06", "5036.85"),
    purchase("P-8", "20000006", "2024-01-07", "100.00"),
    purchase("P-9", "20000006", "2024-01-08", "50000.00", quantity="20", **CANCELLED),
    purchase("P-10", "20000006", "2023-12-31", "9999900.00"),
    purchase("P-11", "20000006", "2024-02-01", "9999900.00"),
    purchase("P-12", None, "2024-01-09", "20000.00"),
    purchase("P-13", "20000006", "2024-01-10", "40000.00", quantity="30"),
    purchase("P-14", "20000006", "2024-01-11", "5.00", document_type_code="384", preceding_invoice_number="P-13"),
]
# Of these, three count: a fraction over ten, one line of eleven, and two of them in one invoice.
QUANTITIES = [
    document("N-1", lines=[line("6"), line("6")]),
    document("N-2", lines=[line("10")]),
    document("N-3", lines=[line("10.0001")]),
    document("N-4", lines=[line("1"), line("11")]),
    document("N-5", lines=[line("11"), line("12")]),
    document("N-6", lines=[line("20")], **CREDIT_NOTE),
    document("N-7", lines=[line("20")], **CANCELLED),
]
ALLOCATIONS = [
    document("A-remainder-to-first-of-equals", "10.00", "10.00", "10.00", discount_amount="10.00"),
    document("A-remainder-to-largest", "1.00", "5.00", "1.00", tax_amount="1.00", charge_amount="0.10"),
    document("A-remainder-is-negative", *["0.01"] * 7, tax_amount="0.04"),
    document("A-nothing-to-share-by", "0.00", "0.00", charge_amount="5.00"),
    document("A-cancels-out", "10.00", "-10.00", charge_amount="5.00"),
    document("A-return-on-an-invoice", "100.00", "-20.00", "3.33", discount_amount="7.77", tax_amount="1.11"),
    document("A-negative-invoice", "-100.00", "-50.00", "-0.01", tax_amount="-7.51"),
    document("A-half-a-cent", "1.00", "3.00", tax_amount="0.02", discount_amount="0.06"),
    document("A-large", "9999999999.99", "0.01", tax_amount="499999999.99", **CANCELLED),
    document("A-total-within-tolerance", "1.00", "2.00", total_amount="3.02"),
    document("A-numbered-backwards", lines=[
        {"line_number": "20", "line_net_amount": "1.00"},
        {"line_number": "10", "line_net_amount": "1.00"},
    ], tax_amount="0.01"),
    document("A-numbered-twice", lines=[
        {"line_number": "7", "line_net_amount": "1.00"},
        {"line_number": "7", "line_net_amount": "2.00"},
    ], tax_amount="0.01"),
    document("A-amounts-by-price", lines=[{"quantity": "3", "unit_price": "0.335"}], total_amount="1.01"),
    *generator.documents(60, seed=7, as_of=date(2023, 11, 30)),
]  # fmt: skip

NOTHING_READ = [
    "seller_name_is_given", "invoice_number_is_given", "invoice_date_is_a_date", "currency_code_is_iso_4217",
    "lines_are_given", "total_amount_is_given",
]  # fmt: skip
ONE = REAL["lines"][0]
REFUSED: dict[str, tuple[str | contract.Document, list[str]]] = {
    "cut-off": (json.dumps(REAL)[:200], NOTHING_READ),
    "no-json": ("Invoice HK-00001", NOTHING_READ),
    "no-object": ('["HK-00001"]', NOTHING_READ),
    "empty-object": ("{}", NOTHING_READ),
    "no-seller": (REAL | {"seller": None}, ["seller_name_is_given"]),
    "blank-seller": (REAL | {"seller": {"name": "  "}}, ["seller_name_is_given"]),
    "no-number": (REAL | {"invoice_number": ""}, ["invoice_number_is_given"]),
    "no-date": (REAL | {"invoice_date": None}, ["invoice_date_is_a_date"]),
    "no-such-date": (REAL | {"invoice_date": "2024-02-30"}, ["invoice_date_is_a_date"]),
    "other-date-format": (REAL | {"invoice_date": "2024-1-1"}, ["invoice_date_is_a_date"]),
    "date-of-another-age": (REAL | {"invoice_date": "0024-01-01"}, ["invoice_date_is_a_date"]),
    "currency-symbol": (REAL | {"currency_code": "HK$"}, ["currency_code_is_iso_4217"]),
    "no-currency": (REAL | {"currency_code": None}, ["currency_code_is_iso_4217"]),
    "no-lines": (REAL | {"lines": []}, ["lines_are_given"]),
    "lines-are-text": (REAL | {"lines": "three"}, ["lines_are_given"]),
    "no-total": (REAL | {"total_amount": None}, ["total_amount_is_given"]),
    "total-is-text": (REAL | {"total_amount": "HK$5,036.85"}, ["total_amount_is_given", "amounts_have_two_decimals"]),
    "three-decimals": (REAL | {"total_amount": "5036.851"}, ["amounts_have_two_decimals"]),
    "tax-is-text": (document("R", "1.00", total_amount="1.00") | {"tax_amount": "five"}, ["amounts_have_two_decimals"]),
    "quantity-is-text": (REAL | {"lines": [ONE | {"quantity": "one"}, *REAL["lines"][1:]]}, ["numbers_are_decimals"]),
    "line-without-amount": (document("R", lines=[{"item_name": "A"}], total_amount="1"), ["line_amounts_are_given"]),
    "line-is-null": (document("R", "1.00") | {"lines": [None]}, ["line_amounts_are_given"]),
    "line-does-not-multiply": (
        REAL | {"lines": [ONE | {"quantity": "2"}, *REAL["lines"][1:]]}, ["line_is_quantity_times_price"],
    ),
    "lines-do-not-add-up": (
        document("R", "1.00", subtotal_amount="1.03", total_amount="1.03"), ["subtotal_is_sum_of_lines"],
    ),
    "tax-is-not-its-rate": (
        REAL | {"tax_amount": "249.85", "total_amount": "5046.85", "balance_due_amount": "10.00"},
        ["tax_is_rate_of_its_base"],
    ),
    "total-does-not-add-up": (document("R", "1.00", total_amount="1.03"), ["total_is_sum_of_its_parts"]),
    "balance-does-not-add-up": (REAL | {"balance_due_amount": "5036.85"}, ["balance_is_total_less_paid"]),
}  # fmt: skip

# What lands first and what lands then, on which day, and the version that counts.
FIRST = [
    document("V-corrected", "100.00"),
    document("V-repeated", "100.00"),
    document("V-late", "100.00"),
    document("V-spoilt", "100.00"),
]
THEN = {
    "2024-04-03": [
        document("V-corrected", "120.00"),
        document("V-repeated", "100.00", source_file="another copy.pdf"),
        document("V-spoilt", "130.00", total_amount="1.00"),
    ],
    "2024-03-01": [document("V-late", "90.00")],
}
TOTALS = {"V-corrected": "120.00", "V-repeated": "100.00", "V-late": "100.00", "V-spoilt": "100.00"}


@dataclass
class Lakehouse:
    """The pipeline over a landing zone of its own. Tables are read after each update, since the next changes them."""

    spark: object
    folder: Path

    def land(self, name: str, documents: list[str | contract.Document], day: str = "2024-04-02") -> None:
        folder = self.folder / "landing" / "invoices" / f"ingest_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = (item if isinstance(item, str) else json.dumps(item) for item in documents)
        (folder / f"{name}.json").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def update(self) -> SimpleNamespace:
        spec = PipelineSpec(
            key="invoices",
            name="invoices",
            id="invoices",
            catalog="spark_catalog",
            schema=SCHEMAS["gold_schema"],
            sources=tuple(SOURCES),
            storage=str(self.folder / "storage"),
            configuration={"landing_url": str(self.folder / "landing"), "reporting_currency": "HKD", **SCHEMAS},
        )
        result = update.run(self.spark, spec, progress=lambda _: None)
        assert result.succeeded, result.error
        return SimpleNamespace(
            expectations={(r.dataset.split(".")[-1], r.name): r for r in result.expectations},
            bronze=self.rows("bronze", "invoices"),
            silver={row.invoice_number: row for row in self.rows("silver", "invoices")},
            quarantine=self.rows("silver", "invoices_quarantine"),
            lines=sorted(self.rows("gold", "fact_invoice_line"), key=lambda row: (row.invoice_number, row.line_number)),
            invoices={row.invoice_number: row for row in self.rows("gold", "fact_invoice")},
            customers=self.rows("gold", "dim_customer"),
            products=self.rows("gold", "dim_product"),
            sellers=self.rows("gold", "dim_seller"),
            dates=self.rows("gold", "dim_date"),
            answers={name: self.answer(name) for name in QUESTIONS},
        )

    def rows(self, layer: str, table: str) -> list[Row]:
        return self.spark.table(f"{SCHEMAS[f'{layer}_schema']}.{table}").collect()

    def answer(self, question: str) -> list[Row]:
        parameters = {"catalog": "spark_catalog", "gold_schema": SCHEMAS["gold_schema"]}
        (result,) = sql_files.run(self.spark, ROOT / "sql" / "analysis" / f"{question}.sql", parameters)
        return list(result.rows)


@pytest.fixture(scope="module")
def lakehouse(spark, tmp_path_factory):
    for schema in SCHEMAS.values():
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        spark.sql(f"CREATE SCHEMA {schema}")
    yield Lakehouse(spark, tmp_path_factory.mktemp("invoices"))
    for schema in SCHEMAS.values():
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture(scope="module")
def alone(lakehouse):
    """After an update over the real invoice alone."""
    lakehouse.land("real", [REAL], day="2024-04-01")
    return lakehouse.update()


@pytest.fixture(scope="module")
def filled(lakehouse, alone):
    """After a second update, over every document of this module but the later versions."""
    lakehouse.land("documents", [*PURCHASES, *QUANTITIES, *ALLOCATIONS, *FIRST])
    for name, (content, _) in REFUSED.items():
        lakehouse.land(f"refused-{name}", [content])
    return lakehouse.update()


@pytest.fixture(scope="module")
def corrected(lakehouse, filled):
    """After a third update, over the later versions."""
    for day, documents in THEN.items():
        lakehouse.land("versions", documents, day=day)
    return lakehouse.update()


def test_schema_is_that_of_the_contract():
    source = next(file for file in SOURCES if file.stem == "bronze_invoices").read_text()
    assert re.search(r"schema => '(.*)'", source)[1] == contract.ddl()


def test_credit_types_are_those_of_the_contract():
    source = next(file for file in SOURCES if file.stem == "silver_invoices").read_text()
    listed = re.search(r"document_type_code IN \((.*?)\), -1, 1\)", source)[1]
    assert set(re.findall(r"\d+", listed)) == contract.CREDIT_TYPES


class TestRealInvoice:
    def test_answers(self, alone):
        (customer,) = alone.answers["top_five_customers_of_january_2024"]
        assert (customer.customer_id, customer.customer_name) == ("11134891", "Chris Wong")
        assert customer.total_purchase_amount == Decimal("5036.85")
        assert customer.total_ex_tax_amount == Decimal("4797.00")
        assert [tuple(row) for row in alone.answers["invoices_with_quantity_over_10"]] == [(0,)]
        (day,) = alone.answers["date_with_highest_total"]
        assert (day.invoice_date, day.total_purchase_amount) == (date(2024, 1, 1), Decimal("5036.85"))

    def test_lines(self, alone):
        columns = (
            "line_number item_name quantity unit_price line_net_amount allocated_discount_amount allocated_tax_amount "
            "line_total_amount line_total_amount_rpt"
        )
        assert [" ".join(str(row[column]) for column in columns.split()) for row in alone.lines] == [
            "1 LEATHER SLEEVE CLASSIC JACKET 1.0000 3380.000000 3380.00 338.00 152.10 3194.10 3194.10",
            "2 CREWNECK COTTON T-SHIRT 2.0000 750.000000 1500.00 150.00 67.50 1417.50 1417.50",
            "3 WAISTBAND SHORTS 1.0000 450.000000 450.00 45.00 20.25 425.25 425.25",
        ]

    def test_document(self, alone):
        (row,) = alone.invoices.values()
        assert row.reconciles and row.line_count == 3
        assert {name: str(row[name]) for name in contract_amounts()} == contract_amounts()
        assert (row.bill_to_name, row.bill_to_address) == ("Chris Wong", "12 Court Square, HONG KONG")
        assert row.ship_to_address == "4912 Pineview Place, HONG KONG"
        assert (row.due_date, row.payment_method) == (date(2024, 1, 16), "Visa")
        assert row.source_file == "invoice.pdf"

    def test_dimensions(self, alone):
        assert {(row.customer_id, row.customer_name, row.is_inferred) for row in alone.customers} == {
            ("11134891", "Chris Wong", True),
            (None, "Unknown", False),
        }
        assert {(row.product_id, row.product_name, row.product_id_is_inferred) for row in alone.products} == {
            (None, "LEATHER SLEEVE CLASSIC JACKET", True),
            (None, "CREWNECK COTTON T-SHIRT", True),
            (None, "WAISTBAND SHORTS", True),
            (None, "Unknown", False),
        }
        (seller,) = alone.sellers
        assert (seller.seller_name, seller.seller_country_code) == ("East Star Retail Ltd.", "HK")
        assert len(alone.dates) == 366
        (new_year,) = (row for row in alone.dates if row.date_key == date(2024, 1, 1))
        assert (new_year.day_of_week, new_year.iso_week, new_year.iso_year, new_year.is_weekend) == (1, 1, 2024, False)


def contract_amounts() -> dict[str, str]:
    names = [field.name for field in contract.FIELDS if field.scale == 2 and field.name in REAL]
    return {name: REAL[name] for name in names}


class TestQuestions:
    def test_top_five_keeps_ties_and_nets_credit_notes(self, filled):
        assert [
            (row.customer_id, str(row.total_purchase_amount), row.position)
            for row in filled.answers["top_five_customers_of_january_2024"]
        ] == [
            ("20000001", "9000.00", 1),
            ("20000002", "8000.00", 2),
            ("20000003", "7000.00", 3),
            ("20000004", "6000.00", 4),
            ("11134891", "5036.85", 5),
            ("20000005", "5036.85", 5),
        ]

    def test_unknown_customers_stand_beside_the_ranking(self, filled):
        beside = {str(row.total_of_unknown_customers) for row in filled.answers["top_five_customers_of_january_2024"]}
        assert beside == {"20000.00"}

    def test_single_lines_over_ten(self, filled):
        generated = sum(
            any(Decimal(line.get("quantity", 1)) > 10 for line in made["lines"])
            for made in ALLOCATIONS
            if made.get("document_type_code") != "381" and made.get("status") != "cancelled"
        )
        assert generated > 0
        assert [tuple(row) for row in filled.answers["invoices_with_quantity_over_10"]] == [(3 + generated,)]

    def test_dates_that_tie(self, filled):
        best = filled.answers["date_with_highest_total"]
        assert [(row.invoice_date, str(row.total_purchase_amount)) for row in best] == [
            (date(2023, 12, 31), "9999900.00"),
            (date(2024, 2, 1), "9999900.00"),
        ]


class TestAllocation:
    @pytest.mark.parametrize("made", ALLOCATIONS, ids=lambda made: made["invoice_number"])
    def test_shares_are_those_of_exact_arithmetic(self, filled, made):
        rows = [row for row in filled.lines if row.invoice_number == made["invoice_number"]]
        nets = [row.line_net_amount for row in rows]
        for name in ("discount", "charge", "tax"):
            amount = Decimal(made.get(f"{name}_amount", 0))
            assert [row[f"allocated_{name}_amount"] for row in rows] == shares(amount, nets), name
        assert sum(row.line_total_amount for row in rows) == Decimal(made["total_amount"])
        assert filled.invoices[made["invoice_number"]].reconciles

    @pytest.mark.parametrize(
        ("number", "column", "expected"),
        [
            ("A-remainder-to-first-of-equals", "allocated_discount_amount", ["3.34", "3.33", "3.33"]),
            ("A-remainder-to-largest", "allocated_tax_amount", ["0.14", "0.72", "0.14"]),
            ("A-remainder-to-largest", "allocated_charge_amount", ["0.01", "0.08", "0.01"]),
            ("A-remainder-is-negative", "allocated_tax_amount", ["-0.02", *["0.01"] * 6]),
            ("A-nothing-to-share-by", "allocated_charge_amount", ["5.00", "0.00"]),
            ("A-cancels-out", "allocated_charge_amount", ["5.00", "0.00"]),
            ("A-half-a-cent", "allocated_tax_amount", ["0.01", "0.01"]),
            ("A-half-a-cent", "allocated_discount_amount", ["0.02", "0.04"]),
            ("A-total-within-tolerance", "allocated_rounding_amount", ["0.01", "0.01"]),
            ("A-numbered-backwards", "line_number", ["10", "20"]),
            ("A-numbered-backwards", "allocated_tax_amount", ["0.00", "0.01"]),
            ("A-numbered-twice", "line_number", ["1", "2"]),
            ("A-amounts-by-price", "line_net_amount", ["1.01"]),
        ],
    )
    def test_by_hand(self, filled, number, column, expected):
        assert [str(row[column]) for row in filled.lines if row.invoice_number == number] == expected


def shares(amount: Decimal, nets: list[Decimal]) -> list[Decimal]:
    """The rule of the model, in exact arithmetic: rounded half up, the remainder to the first of the largest lines."""
    whole = sum(nets)
    parts = [(net * amount / whole).quantize(CENT, ROUND_HALF_UP) if whole else Decimal("0.00") for net in nets]
    largest = max(range(len(nets)), key=lambda i: (abs(nets[i]), -i))
    parts[largest] += amount - sum(parts)
    return parts


class TestDocuments:
    def test_credit_notes_are_kept_as_printed(self, filled):
        (row,) = (row for row in filled.lines if row.invoice_number == "P-2")
        assert (row.document_sign, str(row.line_total_amount)) == (-1, "1000.00")
        assert str(row.signed_total_amount_rpt) == "-1000.00"
        assert row.preceding_invoice_number == "P-1"

    def test_cancelled_and_replaced_are_marked(self, filled):
        assert filled.invoices["P-9"].is_cancelled and not filled.invoices["P-9"].is_replaced
        assert filled.invoices["P-13"].is_replaced and not filled.invoices["P-14"].is_replaced

    def test_unknown_customer(self, filled):
        (unknown,) = (row for row in filled.customers if row.customer_id is None)
        assert filled.invoices["P-12"].customer_sk == unknown.customer_sk

    def test_every_key_of_the_facts_is_in_its_dimension(self, filled):
        for facts in (filled.lines, filled.invoices.values()):
            assert {row.customer_sk for row in facts} <= {row.customer_sk for row in filled.customers}
            assert {row.seller_sk for row in facts} <= {row.seller_sk for row in filled.sellers}
            assert {row.invoice_date for row in facts} <= {row.date_key for row in filled.dates}
        assert {row.product_sk for row in filled.lines} <= {row.product_sk for row in filled.products}
        assert {row.invoice_sk for row in filled.lines} == {row.invoice_sk for row in filled.invoices.values()}

    def test_warnings_are_counted_and_the_rows_kept(self, filled):
        warned = filled.expectations["invoices", "customer_is_known"]
        assert (warned.failed, warned.passed) == (1, len(filled.silver) - 1)
        assert filled.expectations["fact_invoice_line", "exchange_rate_is_known"].failed == 0


class TestQuarantine:
    @pytest.mark.parametrize("name", REFUSED)
    def test_names_every_broken_rule(self, filled, name):
        (row,) = (row for row in filled.quarantine if row.landed_file.endswith(f"/refused-{name}.json"))
        assert row.failed_rules == REFUSED[name][1]

    @pytest.mark.parametrize("name", ["cut-off", "no-json"])
    def test_keeps_the_text_of_what_is_no_json(self, filled, name):
        (row,) = (row for row in filled.quarantine if row.landed_file.endswith(f"/refused-{name}.json"))
        assert REFUSED[name][0][:100] in row.raw.replace('\\"', '"')

    def test_nothing_else_is_refused(self, filled):
        assert len(filled.quarantine) == len(REFUSED)

    def test_nothing_is_lost(self, filled, corrected):
        assert len(filled.bronze) == len(filled.silver) + len(filled.quarantine)
        superseded = 3
        assert len(corrected.bronze) == len(corrected.silver) + superseded + len(corrected.quarantine)


class TestVersions:
    @pytest.mark.parametrize(("number", "total"), TOTALS.items())
    def test_what_landed_last_and_is_valid_counts(self, corrected, number, total):
        assert str(corrected.silver[number].total_amount) == total
        assert [str(row.line_total_amount) for row in corrected.lines if row.invoice_number == number] == [total]

    def test_an_identical_repeat_changes_nothing(self, filled, corrected):
        unchanged = filled.silver.keys() - {"V-corrected"}
        assert {number: corrected.silver[number] for number in unchanged} == {n: filled.silver[n] for n in unchanged}

    def test_a_spoilt_version_is_quarantined(self, corrected):
        (row,) = (row for row in corrected.quarantine if row.invoice_number == "V-spoilt")
        assert row.failed_rules == ["total_is_sum_of_its_parts"]
