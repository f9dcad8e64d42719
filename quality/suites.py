"""The suites of Great Expectations, as data, and their run: what the tables of members have to be as a whole.

Results are BOOLEAN_ONLY, so that no value of a table gets into a result or a page.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from quality import results
from quality.contract import Table
from quality.results import Result


@dataclass(frozen=True)
class Check:
    """One expectation: its class in `great_expectations.expectations`, its arguments, and what a failure means."""

    name: str
    expectation: str
    dimension: str
    severity: str = results.CRITICAL
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _matches(column: str, pattern: str) -> Check:
    arguments = {"column": column, "regex": pattern}
    return Check(f"{column}_format", "ExpectColumnValuesToMatchRegex", "validity", arguments=arguments)


def _between(column: str, least: Any, most: Any = None, severity: str = results.CRITICAL) -> Check:
    arguments = {"column": column, "min_value": least, "max_value": most}
    return Check(f"{column}_range", "ExpectColumnValuesToBeBetween", "validity", severity, arguments)


def _no_rows(name: str, condition: str, dimension: str) -> Check:
    query = f"SELECT 1 FROM {{batch}} WHERE {condition}"
    return Check(name, "UnexpectedRowsExpectation", dimension, arguments={"unexpected_rows_query": query})


_NOT_EMPTY = Check("not_empty", "ExpectTableRowCountToBeBetween", "completeness", arguments={"min_value": 1})

SUITES: dict[str, tuple[Check, ...]] = {
    "silver.members": (
        _NOT_EMPTY,
        _matches("country_code", "^[A-Z]{2}$"),
        _matches("phone_normalised", r"^\+[1-9][0-9]{6,14}$"),
        _matches("member_key", "^[0-9a-f]{64}$"),
    ),
    "silver.members_history": (
        _NOT_EMPTY,
        _no_rows("version_ends_after_start", "__END_AT <= __START_AT", "consistency"),
    ),
    "gold.members_current": (_NOT_EMPTY,),
    "gold.members_by_country": (_NOT_EMPTY, _between("members", 1)),
    "gold.members_registrations_by_month": (_between("registrations", 1),),
    "gold.members_churn_by_month": (_between("churn_rate", 0, 1, results.WARNING),),
}


def checks(table: Table) -> tuple[Check, ...]:
    """The suite of a table: what its key promises, then what `SUITES` adds."""
    found = [
        Check(f"{column}_not_null", "ExpectColumnValuesToNotBeNull", "completeness", arguments={"column": column})
        for column in table.key
    ]
    if len(table.key) == 1:
        arguments: dict[str, Any] = {"column": table.key[0]}
        found.append(Check("key_unique", "ExpectColumnValuesToBeUnique", "uniqueness", arguments=arguments))
    elif table.key:
        arguments = {"column_list": list(table.key)}
        found.append(Check("key_unique", "ExpectCompoundColumnsToBeUnique", "uniqueness", arguments=arguments))
    return (*found, *SUITES.get(table.full, ()))


def run(frames: Mapping[Table, DataFrame], docs: Path | None = None) -> Iterator[Result]:
    """Checks each table by its suite.

    Args:
        frames: the rows of each table.
        docs: folder for Data Docs, pages that need no network; None makes none.
    """
    # Before the import: it would report itself to its maker.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    warnings.filterwarnings("ignore", module=r"great_expectations|marshmallow|pyspark")
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    if docs is not None:
        context.add_data_docs_site("site", _site(docs))
        for name in [*context.variables.data_docs_sites]:
            if name != "site":
                context.delete_data_docs_site(name)
    source = context.data_sources.add_spark("members")
    for table, frame in frames.items():
        wanted = checks(table)
        asset = source.add_dataframe_asset(table.full)
        batch = asset.add_batch_definition_whole_dataframe("all")
        expectations = [getattr(gx.expectations, c.expectation)(**c.arguments, severity=c.severity) for c in wanted]
        suite = context.suites.add(gx.ExpectationSuite(name=table.full, expectations=expectations))
        definition = gx.ValidationDefinition(name=table.full, data=batch, suite=suite)
        found = context.validation_definitions.add(definition).run(
            batch_parameters={"dataframe": frame}, result_format="BOOLEAN_ONLY"
        )
        for check, result in zip(wanted, found.results, strict=True):
            column = check.arguments.get("column")
            broken = bool(result.exception_info and result.exception_info.get("raised_exception"))
            yield Result(
                "great expectations",
                table.layer,
                table.name,
                column,
                check.name,
                check.dimension,
                check.severity,
                "data platform",
                bool(result.success),
                message="the check itself failed"
                if broken
                else None
                if result.success
                else f"{check.name} does not hold",
            )
    if docs is not None:
        context.build_data_docs()
        for page in docs.rglob("*.html"):
            page.write_text(offline(page.read_text()))


def _site(folder: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }


_REMOTE = re.compile(
    r"<script\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>\s*</script>"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|<img\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>",
    re.IGNORECASE,
)


def offline(page: str) -> str:
    """A page of Data Docs without what it loads from other hosts, with a style of its own for the classes it uses."""
    return _REMOTE.sub("", page).replace("</head>", f"<style>{_STYLE}</style></head>", 1)


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#f6f7f9}
a{color:#0a58ca}img,svg{max-width:100%}
.container,.container-fluid{max-width:1200px;margin:0 auto;padding:1rem}
.row{display:flex;flex-wrap:wrap;gap:1rem}.col,[class*=col-]{flex:1 1 0;min-width:14rem}
.col-lg-2,.col-md-2,.navigation{flex:0 0 15rem}.col-12{flex:0 0 100%}
.navbar,.navbar-expand-md{display:flex;background:#fff;padding:.5rem 1rem;border-bottom:1px solid #d5d9de}
.breadcrumb,.nav,.list-unstyled,.nav-pills{list-style:none;display:flex;flex-wrap:wrap;gap:.75rem;padding:0;margin:0}
.flex-column{flex-direction:column}.card,.alert,section{background:#fff;border-radius:6px;padding:1rem;margin:.75rem 0}
table,.table{border-collapse:collapse;width:100%;background:#fff}
th,td{border-bottom:1px solid #e3e6ea;padding:.4rem .6rem;text-align:left;vertical-align:top}
.badge{border:1px solid #b9c0c8;border-radius:4px;padding:0 .4rem}.text-success,.fa-check-circle{color:#1a7f37}
.text-danger,.fa-times{color:#b42318}.d-none,.modal,.collapse:not(.show),.invisible{display:none}
.fa-check-circle:before{content:"\\2714"}.fa-times:before{content:"\\2718"}.fa-exclamation-triangle:before{content:"\\26A0"}
"""
