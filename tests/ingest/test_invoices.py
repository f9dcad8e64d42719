"""The landing contract, the made-up documents, and how they land."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import IngestError
from ingest.invoices import contract, generator, land
from tests.ingest import invoice_files as files

FIXTURE = Path(__file__).parents[1] / "fixtures" / "invoices" / "hk-00001.json"
AS_OF = date(2024, 3, 31)
CENT = Decimal("0.01")


def money(document: dict, name: str) -> Decimal:
    return Decimal(document.get(name, "0"))


@pytest.fixture(scope="module")
def documents() -> list[contract.Document]:
    return list(generator.documents(2000, seed=1, as_of=AS_OF))


class TestContract:
    def test_real_invoice_follows_it(self):
        assert contract.problems(json.loads(FIXTURE.read_text())) == []

    @pytest.mark.parametrize("name", [field.name for field in contract.FIELDS if field.required])
    def test_required_fields(self, name):
        document = json.loads(FIXTURE.read_text())
        del document[name]
        assert contract.problems(document) == [f"{name} is missing"]

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"invoice_date": "2024-02-30"}, "invoice_date is not a date YYYY-MM-DD"),
            ({"invoice_date": "1 Jan 2024"}, "invoice_date is not a date YYYY-MM-DD"),
            ({"total_amount": "1.005"}, "total_amount is not a decimal number (amounts have at most two decimals)"),
            ({"total_amount": "HK$1.00"}, "total_amount is not a decimal number (amounts have at most two decimals)"),
            ({"total_amount": "NaN"}, "total_amount is not a decimal number (amounts have at most two decimals)"),
            ({"total_amount": 5036.85}, "total_amount is not a string"),
            ({"lines": []}, "lines is missing"),
            ({"lines": ["one"]}, "lines[1] is not an object"),
            ({"lines": [{"line_number": "1.1"}]}, "lines[1].line_number is not an integer"),
            ({"seller": {"id": "1"}}, "seller.name is missing"),
            ({"seller": "East Star"}, "seller is not an object"),
            ({"colour": "red"}, "colour is not a field of the contract"),
        ],
    )
    def test_problems_name_the_field(self, change, problem):
        assert contract.problems(json.loads(FIXTURE.read_text()) | change) == [problem]

    def test_anything_else_is_no_document(self):
        assert contract.problems([]) == ["the document is not a JSON object"]


class TestGenerator:
    def test_same_arguments_give_the_same_documents(self, documents):
        assert documents == list(generator.documents(2000, seed=1, as_of=AS_OF))
        assert documents != list(generator.documents(2000, seed=2, as_of=AS_OF))

    def test_documents_follow_the_contract(self, documents):
        assert [problem for document in documents for problem in contract.problems(document)] == []

    def test_spread(self, documents):
        numbers = [document["invoice_number"] for document in documents]
        assert len(set(numbers)) == len(documents) and "HK-00001" not in numbers
        months = Counter(document["invoice_date"][:7] for document in documents)
        assert sorted(months) == ["2023-11", "2023-12", "2024-01", "2024-02", "2024-03"]
        assert min(months.values()) > 300
        assert {len(document["lines"]) for document in documents} == set(range(1, 21))
        assert len({document["customer"]["id"] for document in documents}) > 200
        assert all(len(document["customer"]["id"]) == 8 for document in documents)
        for name in ("discount_amount", "charge_amount", "tax_amount"):
            assert 100 < sum(name in document for document in documents) < 1900, name
        lines = [line for document in documents for line in document["lines"]]
        assert 100 < sum(Decimal(line["quantity"]) > 10 for line in lines) < len(lines) / 2
        assert 0 < sum("item_id" in line for line in lines) < len(lines)

    def test_credit_notes_refer_to_an_earlier_invoice_of_the_customer(self, documents):
        by_number = {document["invoice_number"]: document for document in documents}
        notes = [document for document in documents if document["document_type_code"] == contract.CREDIT_NOTE]
        assert 50 < len(notes) < 200
        for note in notes:
            invoice = by_number[note["preceding_invoice_number"]]
            assert invoice["document_type_code"] == contract.INVOICE and invoice["status"] == "issued"
            assert invoice["customer"] == note["customer"] and invoice["invoice_date"] <= note["invoice_date"]
            assert all(Decimal(line["quantity"]) > 0 for line in note["lines"])
            assert Decimal(note["total_amount"]) > 0

    def test_some_are_cancelled(self, documents):
        assert Counter(document["status"] for document in documents)["cancelled"] > 5

    @settings(max_examples=30, deadline=None)
    @given(seed=st.integers(), days=st.integers(0, 400))
    def test_arithmetic_holds_to_the_cent(self, seed, days):
        as_of = date.fromordinal(generator.FIRST_DAY.toordinal() + days)
        for document in generator.documents(30, seed=seed, as_of=as_of):
            for line in document["lines"]:
                exact = Decimal(line["quantity"]) * Decimal(line["unit_price"])
                assert Decimal(line["line_net_amount"]) == exact.quantize(CENT, ROUND_HALF_UP)
            subtotal = sum(Decimal(line["line_net_amount"]) for line in document["lines"])
            base = subtotal - money(document, "discount_amount") + money(document, "charge_amount")
            assert money(document, "subtotal_amount") == subtotal
            discount = subtotal * money(document, "discount_rate") / 100
            assert money(document, "discount_amount") == discount.quantize(CENT, ROUND_HALF_UP)
            tax = base * money(document, "tax_rate") / 100
            assert money(document, "tax_amount") == tax.quantize(CENT, ROUND_HALF_UP)
            assert money(document, "total_amount") == base + money(document, "tax_amount")
            paid, due = money(document, "amount_paid"), money(document, "balance_due_amount")
            assert money(document, "total_amount") == paid + due
            assert date.fromisoformat(document["invoice_date"]) <= as_of

    def test_refuses_what_it_cannot_do(self):
        with pytest.raises(ValueError, match="give a day from 2023-11-01 on"):
            next(generator.documents(1, seed=1, as_of=date(2023, 10, 31)))
        with pytest.raises(ValueError, match="not negative"):
            next(generator.documents(-1, seed=1, as_of=AS_OF))


class TestLanding:
    def test_a_repeat_changes_nothing(self, spark, tmp_path):
        arguments = f"--landing-url {tmp_path} --fixture {FIXTURE} --generate 20 --as-of 2024-04-01".split()
        first = land.run(arguments, spark)
        written = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")}
        assert land.run(arguments, spark) == first
        assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.json")} == written
        assert sorted(str(file) for file in written) == sorted(landed.file for landed in first)
        assert {file.parent for file in written} == {tmp_path / "invoices" / "ingest_date=2024-04-01"}
        assert [landed.documents for landed in first] == [1, 20]
        real, generated = (Path(landed.file).read_text(encoding="utf-8").splitlines() for landed in first)
        assert [json.loads(line) for line in real] == [json.loads(FIXTURE.read_text())]
        assert [json.loads(line) for line in generated] == list(generator.documents(20, seed=1, as_of=date(2024, 4, 1)))

    def test_other_content_makes_another_file(self, spark, tmp_path):
        document = json.loads(FIXTURE.read_text())
        corrected = document | {"purchase_order_number": "PO16700002"}
        files = {
            land.land(spark, [content], str(tmp_path), name="invoice", day=AS_OF).file
            for content in (document, corrected)
        }
        assert len(files) == 2

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "No such file or directory; give a JSON file with one document"),
            ("{", "is not JSON in UTF-8"),
            ("{}", "does not follow the landing contract: seller is missing"),
        ],
    )
    def test_a_bad_file_is_one_line(self, spark, tmp_path, content, message):
        file = tmp_path / "bad.json"
        if content is not None:
            file.write_text(content)
        with pytest.raises(IngestError, match=message) as error:
            land.run(["--landing-url", str(tmp_path), "--fixture", str(file)], spark)
        assert str(file) in str(error.value) and "\n" not in str(error.value)

    def test_a_folder_of_any_kind_of_files(self, spark, endpoints, tmp_path, caplog):
        document = json.loads(FIXTURE.read_text())
        folder = tmp_path / "in box"
        (folder / "below").mkdir(parents=True)
        contents = {
            "a.bin": files.ubl(document),
            "b.xml": files.hybrid(files.cii(document | {"invoice_number": "B"})),
            "below/c": files.printed(document | {"invoice_number": "C-3"}),
            "d.txt": json.dumps(document | {"invoice_number": "D"}).encode(),
            "e.xml": files.ubl(document),
            "f.pdf": b"%PDF-1.4 broken",
            "g.xml": files.ubl(document)[:-30],
            "h.xml": b"<Order/>",
            ".hidden": b"",
            "_started": b"",
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        landing = f"s3://landing/{tmp_path.name}"
        arguments = f"--landing-url {landing} --as-of 2024-04-01 --from".split()
        with caplog.at_level("INFO", logger="ingest"):
            (summary,) = land.run([*arguments, str(folder)], spark)
        assert summary == land.Summary(found=8, read=5, refused=3, repeated=1, documents=4)
        assert "8 files found: 5 read, 3 refused; 1 of them repeated" in caplog.text
        assert "Wong" not in caplog.text and "a.bin" not in caplog.text

        landed = spark.read.json(f"{landing}/invoices/ingest_date=2024-04-01/").collect()
        assert {row.invoice_number: row.source_file for row in landed} == {
            "HK-00001": "a.bin",
            "B": "b.xml",
            "C-3": "below/c",
            "D": "invoice.pdf",
        }
        assert {row.total_amount for row in landed} == {"5036.85"}
        refused = spark.read.json(f"{landing}/invoices_refused/ingest_date=2024-04-01/").collect()
        assert {(row.file, row.reader) for row in refused} == {("f.pdf", "pdf"), ("g.xml", "xml"), ("h.xml", "xml")}
        assert {row.sha256 for row in refused} == {
            hashlib.sha256(contents[name]).hexdigest() for name in ("f.pdf", "g.xml", "h.xml")
        }

        # Again on a later day, from the object store, with one file more.
        (folder / "i.xml").write_bytes(files.cii(document | {"invoice_number": "I"}))
        spark._jvm.org.apache.hadoop.fs.FileUtil.copy(
            *copied(spark, str(folder), f"{landing}/inbox"), False, spark._jsc.hadoopConfiguration()
        )
        (again,) = land.run([*arguments[:-2], "2024-04-02", "--from", f"{landing}/inbox"], spark)
        assert again == land.Summary(found=9, read=6, refused=3, repeated=8, documents=1)

    def test_a_file_that_cannot_be_opened_keeps_no_other_back(self, spark, tmp_path):
        document = json.loads(FIXTURE.read_text())
        folder, landing = tmp_path / "inbox", tmp_path / "landing"
        folder.mkdir()
        for name in ("a.xml", "b.xml", "c.xml"):
            (folder / name).write_bytes(files.ubl(document | {"invoice_number": name}))
        # Hadoop keeps a checksum of 512 bytes each beside a file on disk; this one is of another file.
        (folder / ".b.xml.crc").write_bytes(b"crc\0" + (512).to_bytes(4, "big") + bytes(4096))
        wanted = f"1 of 3 files of {folder} cannot be opened, the first is b.xml; check that it is whole"
        with pytest.raises(IngestError, match=wanted):
            land.run(["--landing-url", str(landing), "--as-of", "2024-04-01", "--from", str(folder)], spark)
        landed = spark.read.json(f"{landing}/invoices/ingest_date=2024-04-01/").collect()
        assert {row.invoice_number for row in landed} == {"a.xml", "c.xml"}

    def test_a_missing_folder_is_one_line(self, spark, tmp_path):
        with pytest.raises(IngestError, match=f"there is no folder {tmp_path}/nowhere; correct the path"):
            land.run(["--landing-url", str(tmp_path), "--from", f"{tmp_path}/nowhere"], spark)

    def test_an_unknown_landing_zone_is_one_line(self, spark):
        with pytest.raises(IngestError, match="cannot write to nowhere://bucket; use a URL that it knows"):
            land.run(["--landing-url", "nowhere://bucket", "--generate", "1", "--as-of", "2024-03-31"], spark)

    def test_nothing_to_land(self, capsys):
        with pytest.raises(SystemExit) as exit_:
            land.run(["--landing-url", "/nowhere"])
        assert exit_.value.code == 2
        assert "give --from FOLDER, --fixture FILE or --generate N" in capsys.readouterr().err


def copied(spark, source: str, target: str) -> list:
    """File systems and paths, in the order of Hadoop's `FileUtil.copy`."""
    paths = [spark._jvm.org.apache.hadoop.fs.Path(url) for url in (source, target)]
    return [part for path in paths for part in (path.getFileSystem(spark._jsc.hadoopConfiguration()), path)]
