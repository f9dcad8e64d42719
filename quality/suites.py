"""The suites of Great Expectations, as data, and their run: what tables have to be as a whole.

Results are BOOLEAN_ONLY, so that no value of a table gets into a result or a page.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from quality import data_docs, results
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
        context.add_data_docs_site("site", data_docs.site(docs))
        for name in [*context.variables.data_docs_sites]:
            if name != "site":
                context.delete_data_docs_site(name)
    source = context.data_sources.add_spark("tables")
    held: dict[str, tuple[int, int]] = {}
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
        held[table.full] = sum(bool(result.success) for result in found.results), len(wanted)
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
        data_docs.finish(docs, held)
