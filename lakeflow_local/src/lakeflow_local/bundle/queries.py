"""The SQL of a bundle's tasks and alerts: what it is made of and which tables it reads, without Spark."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from lakeflow_local import home as homes
from lakeflow_local.bundle import pipelines, sql_files
from lakeflow_local.bundle.load import Bundle, Resource, path_of
from lakeflow_local.bundle.tree import Value
from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import sql
from lakeflow_local.pipelines.names import Namespace
from lakeflow_local.pipelines.sql.tokens import Source

if TYPE_CHECKING:
    from lakeflow_local.pipelines.outline import Outline

# It warns of each statement of which it keeps the text alone, such as GRANT.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

_IDENTIFIER = re.compile(r"\bIDENTIFIER\s*\(((?:[^()'\"]|'[^']*'|\"[^\"]*\")*)\)", re.IGNORECASE)
_ALTERED = re.compile(r"ALTER\s+(?:STREAMING\s+TABLE|MATERIALIZED\s+VIEW|TABLE|VIEW)\s+([\w.`]+)", re.IGNORECASE)
_LITERAL = re.compile(r"'([^']*)'")


def tables(bundle: Bundle) -> set[str]:
    """Full names of what the pipelines of the bundle make, in lower case: datasets and event logs."""
    names = set()
    for pipeline in bundle.of_type("pipelines").values():
        if (found := outlined(bundle, pipeline)) is not None:
            made = [dataset.name.lower() for dataset in found.datasets if "." in dataset.name]  # the others are views
            names |= {name if name.count(".") == 2 else f"{pipeline.value.plain('catalog')}.{name}" for name in made}
        log = pipeline.value.plain("event_log", default={})
        if "name" in log:
            place = {key: pipeline.value.plain(key) for key in ("catalog", "schema")}
            names.add("{catalog}.{schema}.{name}".format(**{**place, **log}).lower())
    return names


def unknown_tables(bundle: Bundle, others: Collection[str] = ()) -> list[LakeflowError]:
    """The tables that alerts and SQL tasks read and nobody makes.

    Args:
        others: full names of tables that something else than a pipeline makes.
    """
    known = tables(bundle) | {name.lower() for name in others}
    queries: list[tuple[Value, Source, dict[str, str], str]] = [
        (alert.value["query_text"], Source(str(alert.value.plain("query_text"))), {}, alert.label)
        for alert in bundle.of_type("alerts").values()
    ]
    queries += [
        (path, Source(path_of(path).read_text(encoding="utf-8")), parameters, f"{job.label}, task {key}")
        for job in bundle.of_type("jobs").values()
        for key, path, parameters in sql_tasks(job)
    ]
    faults = []
    for value, source, parameters, label in queries:
        schema = ""
        for statement in parsed(source, parameters):
            if isinstance(statement, exp.Use):
                schema = f"{statement.this.sql()}."
                continue
            for name in _read(statement, schema):
                if name not in known:
                    faults.append(value.error(f"{label} reads {name}, which no pipeline makes{suggest(name, known)}"))
            if isinstance(statement, exp.Create) and statement.kind in ("TABLE", "VIEW"):
                made = statement.find(exp.Table)
                known |= {_full(made, schema)} if made is not None else set()
    return faults


def _read(statement: exp.Expr, schema: str) -> Iterator[str]:
    """Full names of the tables that a statement reads or is about; `schema` ends with a dot."""
    if isinstance(statement, exp.Grant | exp.Revoke) and statement.args.get("kind") not in ("TABLE", "VIEW"):
        return
    if isinstance(statement, exp.Command):
        if about := _ALTERED.match(statement.sql()):
            yield _full(exp.to_table(about[1], dialect="databricks"), schema)
        return
    inner = {cte.alias_or_name for cte in statement.find_all(exp.CTE)}
    made = statement.find(exp.Table) if isinstance(statement, exp.Create) else None
    for table in statement.find_all(exp.Table):
        if table is not made and (table.db or table.name not in inner):
            yield _full(table, schema)


def _full(table: exp.Table, schema: str) -> str:
    name = ".".join(part.name for part in table.parts).lower()
    return name if "." in name else f"{schema.lower()}{name}"


def suggest(word: str, known: Collection[str]) -> str:
    """What was probably meant, for the end of a message."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def outlined(bundle: Bundle, pipeline: Resource) -> Outline | None:
    """The graph of a pipeline; None where its definition is at fault, which is told elsewhere."""
    from lakeflow_local.pipelines import outline

    try:
        spec = pipelines.spec(bundle, pipeline, homes.find(bundle.root))
    except LakeflowError:
        return None
    return outline.outline(
        spec.sources,
        root=spec.root_path or spec.sources[0].parent,
        configuration=spec.configuration,
        names=Namespace(spec.catalog, spec.schema),
    )


def sql_tasks(job: Resource) -> Iterator[tuple[str, Value, dict[str, str]]]:
    """Key, file and parameters of the tasks that run a SQL file of the bundle."""
    given = {str(item.plain("name")): "" for item in job.value.sequence("parameters")}
    for task in job.value.sequence("tasks"):
        path = task.get("sql_task", "file", "path")
        if path is not None and path_of(path).is_file() and task.plain("sql_task", "file", "source") != "GIT":
            own = {name: str(value) for name, value in task.plain("sql_task", "parameters", default={}).items()}
            yield str(task.plain("task_key")), path, {**own, **given}


def parsed(source: Source, parameters: Mapping[str, str]) -> list[exp.Expr]:
    """The statements of a script with its parameters filled in.

    Raises:
        LakeflowError: a parameter has no value, or a statement is not Databricks' SQL as far as sqlglot knows it.
    """
    found = []
    for statement in sql_files.statements(source):
        text = sql.filled(statement, parameters)
        # sqlglot has no IDENTIFIER clause; the names in it are literals by now.
        text = _IDENTIFIER.sub(lambda match: "".join(_LITERAL.findall(match[1])), text)
        try:
            found.append(sqlglot.parse_one(text, read="databricks"))
        except ParseError as error:
            fault = error.errors[0] if error.errors else {}
            statement.fail(f"this is not SQL: {fault.get('description', error)} near `{fault.get('highlight', '')}`", 0)
    return found
