"""`audit-invoice`: shows one document from its source file through every table to the answers that it counts in."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F

from ingest import cli
from ingest.errors import IngestError, explained


@dataclass(frozen=True)
class Section:
    """What one place knows of the document: its name, and the rows."""

    place: str
    rows: Sequence[Row]

    def __str__(self) -> str:
        if not self.rows:
            return f"{self.place}\n  nothing"
        names = self.rows[0].__fields__
        table = [names, *(["" if value is None else str(value) for value in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table)
        return "\n".join([self.place, *(f"  {line}".rstrip() for line in lines)])


@dataclass(frozen=True)
class Audit:
    """The way of a document, from its source to the answers.

    Attributes:
        reconciles: whether its printed total is what its lines add up to, and what the questions add if they count it.
        verdict: that as a sentence.
    """

    sections: Sequence[Section]
    reconciles: bool
    verdict: str

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.sections), self.verdict])


def run(argv: Sequence[str], spark: SparkSession | None = None) -> Audit:
    """What is known of the document that the options name.

    Args:
        argv: the options of `audit-invoice`.
        spark: None is the active session, or the one that the environment gives.

    Raises:
        IngestError: there is no such document, or there are several; with one line for the user.
        SystemExit: code 2 after a wrong option.
    """
    return _run(_parse(argv), spark)


def main() -> None:
    """The entry point; exit code 1 if it does not reconcile, 2 after a wrong option, else as `cli.command`."""
    cli.main(_parse, lambda options: _reconciled(_run(options)))


def _reconciled(audit: Audit) -> Audit:
    if not audit.reconciles:
        print(audit)
        raise IngestError("the document does not reconcile; see the pipeline's check invoice_checks")
    return audit


def _run(options: argparse.Namespace, spark: SparkSession | None = None) -> Audit:
    spark = spark or SparkSession.builder.getOrCreate()
    try:
        return _audit(_Tables(spark, options), options)
    except AnalysisException as error:
        if error.getCondition() == "TABLE_OR_VIEW_NOT_FOUND":
            raise IngestError(f"{options.catalog} has no tables of invoices; run the pipeline invoices first") from None
        raise explained(error) from error


@dataclass(frozen=True)
class _Tables:
    spark: SparkSession
    options: argparse.Namespace

    def __call__(self, layer: str, name: str) -> DataFrame:
        schema = getattr(self.options, f"{layer}_schema")
        return self.spark.table(f"{self.options.catalog}.{schema}.{name}")


def _audit(table: _Tables, options: argparse.Namespace) -> Audit:
    def of_document(frame: DataFrame, seller: str) -> DataFrame:
        frame = frame.where(F.trim("invoice_number") == options.number)
        return frame.where(F.trim(seller) == options.seller) if options.seller else frame

    documents = of_document(table("silver", "invoices"), "seller_name").collect()
    bronze = of_document(table("bronze", "invoices"), "seller.name").orderBy("landed_at", "landed_file")
    landed = bronze.select(
        "source_file",
        "landed_file",
        "landed_at",
        "total_amount",
        F.size("lines").alias("lines"),
    ).collect()
    refused = of_document(table("silver", "invoices_quarantine"), "seller_name").select("landed_file", "failed_rules")
    if not landed:
        raise IngestError(f"no document {options.number} has landed; check the number and the seller")
    if len(documents) > 1:
        sellers = "; ".join(sorted(row.seller_name for row in documents))
        raise IngestError(f"{options.number} is a number of several sellers; give --seller, one of: {sellers}")
    before = [
        Section("landing zone, read again", list(_landing(table.spark, {row.landed_file for row in landed}, options))),
        Section("bronze.invoices, one row for each time it landed", landed),
        Section("silver.invoices_quarantine", refused.collect()),
    ]
    if not documents:
        return Audit(before, True, "in quarantine: no question counts it")
    (document,) = documents
    facts = table("gold", "fact_invoice").where(F.col("invoice_sk") == document.invoice_sk).collect()
    if not facts:
        raise IngestError(f"{options.number} is in silver and not yet in gold; run the pipeline invoices")
    (fact,) = facts
    lines = table("gold", "fact_invoice_line").where(F.col("invoice_sk") == document.invoice_sk).orderBy("line_number")
    answers = list(_answers(table("gold", "fact_invoice_line"), fact))
    counts = not (fact.is_cancelled or fact.is_replaced) and fact.fx_rate is not None
    converted = document.total_amount * (fact.fx_rate or 0) * document.document_sign
    printed = converted.quantize(Decimal("0.01"), ROUND_HALF_UP) if counts else None
    reconciles = fact.lines_total_amount == document.total_amount and all(row.adds == printed for row in answers[:2])
    verdict = "printed total = sum of its lines' totals" if reconciles else "printed total and sums of lines DIFFER"
    return Audit(
        [
            *before,
            Section("silver.invoices, the version that counts", [_of(document, _SILVER)]),
            Section("gold.fact_invoice", [_of(fact, _FACT)]),
            Section("gold.fact_invoice_line", lines.select(*_LINE).collect()),
            *_dimensions(table, document, lines),
            Section("answers", answers),
        ],
        reconciles,
        f"{verdict} = what the questions add"
        if counts
        else f"{verdict}; cancelled, replaced or without rate: not counted",
    )


_SILVER = (
    "document_type_code", "status", "invoice_date", "currency_code", "subtotal_amount", "discount_amount",
    "charge_amount", "tax_amount", "total_amount", "versions_landed", "times_landed", "source_file", "landed_file",
)  # fmt: skip
_FACT = (
    "document_sign", "is_cancelled", "is_replaced", "line_count", "total_amount", "lines_total_amount", "fx_rate",
    "total_amount_rpt", "reconciles",
)  # fmt: skip
_LINE = (
    "line_number", "item_name", "quantity", "line_net_amount", "allocated_discount_amount", "allocated_charge_amount",
    "allocated_tax_amount", "allocated_rounding_amount", "line_total_amount", "signed_total_amount_rpt",
)  # fmt: skip


def _of(row: Row, names: Sequence[str]) -> Row:
    return Row(**{name: row[name] for name in names})


def _landing(spark: SparkSession, files: set[str], options: argparse.Namespace) -> Iterator[Row]:
    """The landed lines as they are now; a file that is gone, as by a lifecycle rule, is told."""
    number = F.get_json_object("value", "$.invoice_number")
    for file in sorted(files):
        try:
            text = spark.read.text(file).where(F.trim(number) == options.number)
            lines = text.select(
                F.get_json_object("value", "$.total_amount").alias("total"), F.length("value")
            ).collect()
        except AnalysisException as error:
            if error.getCondition() != "PATH_NOT_FOUND":
                raise
            yield Row(file=file, found="no longer there", total_amount=None, characters=None)
            continue
        for total, characters in lines:
            yield Row(file=file, found="yes", total_amount=total, characters=characters)


def _dimensions(table: _Tables, document: Row, lines: DataFrame) -> Iterator[Section]:
    keys: dict[str, Column] = {
        "dim_customer": F.col("customer_sk") == document.customer_sk,
        "dim_seller": F.col("seller_sk") == document.seller_sk,
        "dim_date": F.col("date_key") == F.lit(document.invoice_date),
        "dim_currency": F.col("currency_code") == document.currency_code,
    }
    for name, key in keys.items():
        frame = table("gold", name).where(key)
        # Runs keep what they print, and a customer's name is nobody's business there.
        left_out = [column for column in frame.columns if column.endswith("_sk") or column == "customer_name"]
        yield Section(f"gold.{name}", frame.drop(*left_out).collect())
    products = table("gold", "dim_product").join(lines.select("product_sk").distinct(), "product_sk", "left_semi")
    yield Section("gold.dim_product", products.select("product_id", "product_name").orderBy("product_name").collect())


def _answers(lines: DataFrame, fact: Row) -> Iterator[Row]:
    """For each question: what the document adds, and the sum that it is part of with its place in the ranking."""
    counted = lines.where(~F.col("is_cancelled") & ~F.col("is_replaced"))
    first = fact.invoice_date.replace(day=1)
    of_month = counted.where(
        (F.col("invoice_date") >= F.lit(first)) & (F.col("invoice_date") < F.add_months(F.lit(first), 1))
    )
    # Unknown customers are not ranked, but shown beside.
    unranked = F.col("customer_sk") == F.sha2(F.lit("-1"), 256)
    mine = counted.where(F.col("invoice_sk") == fact.invoice_sk)
    adds = mine.agg(F.sum("signed_total_amount_rpt")).first()[0]
    for question, key, frame in (
        (f"customers of {first:%Y-%m} by total", "customer_sk", of_month.where(~unranked)),
        ("dates by total", "invoice_date", counted),
    ):
        ranked = frame.groupBy(key).agg(F.sum("signed_total_amount_rpt").alias("total"))
        ranked = ranked.withColumn("position", F.rank().over(Window.orderBy(F.desc("total"))))
        place = ranked.where(F.col(key) == F.lit(fact[key])).first()
        yield Row(question=question, adds=adds, total=place and place.total, position=place and place.position)
    over = mine.where((F.col("quantity") > 10) & (F.col("document_sign") == 1)).count()
    yield Row(question="invoices with quantity over 10", adds=min(over, 1), total=None, position=None)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="audit-invoice", description="Shows a document from its source file through every table to the answers."
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    parser.add_argument("--number", required=True, help="of the document, such as HK-00001")
    parser.add_argument("--seller", help="its name, where several sellers have the number")
    parser.add_argument("--catalog", required=True)
    for layer in ("bronze", "silver", "gold"):
        parser.add_argument(f"--{layer}-schema", default=layer, help="(%(default)s)")
    return parser.parse_args(argv)
