"""What is generated is current, every column is classified, and drift is told by the column's name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from quality import contract
from quality.data_docs import finish, offline
from tools import dataset_docs

TABLES = contract.tables("members")


def test_generated_files_are_current(capsys):
    assert dataset_docs.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("domain", dataset_docs.PIPELINES)
def test_every_table_of_the_pipelines_has_a_contract(domain: str):
    graph = dataset_docs._graph(domain)
    made = {name for name, dataset in graph.items() if dataset.kind != "temporary_view"}
    # What is private to its pipeline nobody reads.
    assert {table.full for table in contract.tables(domain)} == {name for name in made if "." in name}


def test_what_is_called_personal_of_invoices_is_there():
    listed = tomllib.loads((dataset_docs.CONTRACTS / "invoices_privacy.toml").read_text())
    named = {column.name for table in contract.tables("invoices") for column in table.columns}
    assert {column for columns in listed.values() for column in columns} <= named


def test_gold_has_nobody_who_could_be_named():
    for table in TABLES:
        classes = {column.privacy for column in table.columns}
        if table.layer == "gold":
            assert not classes & {"identifier", "contact"}


def test_drift_is_told_by_its_column():
    table = next(t for t in TABLES if t.full == "silver.members")
    found = {column.name: column.type for column in table.columns}
    assert contract.differences(table, found) == []
    drifted = {**found, "registration_date": "string", "loyalty": "string"}
    del drifted["city"]
    told = [(d.column, d.problem, d.breaks) for d in contract.differences(table, drifted)]
    assert told == [("city", "missing", True), ("registration_date", "retyped", True), ("loyalty", "unexpected", False)]


@pytest.mark.parametrize(
    "remote",
    [
        '<link rel="stylesheet" href="https://example.com/a.css">',
        '<script src="https://example.com/a.js" integrity="x"></script>',
        "<img src='//example.com/logo.png'/>",
    ],
)
def test_pages_load_nothing_from_elsewhere(remote: str):
    page = offline(f"<html><head>{remote}</head><body>{remote}<b>1</b></body></html>")
    assert "example.com" not in page and "<b>1</b>" in page and page.count("<style>") == 1


def test_the_index_of_data_docs_needs_no_script(tmp_path: Path):
    pages = [tmp_path / "expectations/gold/a.html", *(tmp_path / f"validations/gold/a/r/{n}/x.html" for n in (1, 2))]
    for page in (tmp_path / "index.html", *pages):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html><head></head><body><script>fill()</script></body></html>")
    finish(tmp_path, {"gold.a": (2, 3)})
    index = (tmp_path / "index.html").read_text()
    assert '<a href="validations/gold/a/r/2/x.html">2 of 3 hold</a>' in index and "fa-times" in index
    assert '<a href="expectations/gold/a.html">gold.a</a>' in index
    assert not any("<script" in page.read_text() for page in pages)
