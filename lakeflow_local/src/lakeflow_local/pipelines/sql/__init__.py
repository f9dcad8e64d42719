"""Pipelines' SQL files: their statements as the graph's dataclasses, and what their queries read.

The head of each statement is parsed here, on sqlglot's Databricks tokens; its query is handed over as it is written,
for Spark's own parser.
"""

from lakeflow_local.pipelines.sql.json_paths import json_paths
from lakeflow_local.pipelines.sql.parameters import filled
from lakeflow_local.pipelines.sql.query import TABLE_FUNCTIONS, Input, TableFunction, inputs, rewrite
from lakeflow_local.pipelines.sql.statements import (
    CreateDataset,
    CreateFlow,
    Scope,
    SetConf,
    Statement,
    defines,
    parse,
    sets_scope,
)
from lakeflow_local.pipelines.sql.tokens import Source, TableArgument, normalise

__all__ = [
    "TABLE_FUNCTIONS",
    "CreateDataset",
    "CreateFlow",
    "Input",
    "Scope",
    "SetConf",
    "Source",
    "Statement",
    "TableArgument",
    "TableFunction",
    "defines",
    "filled",
    "inputs",
    "json_paths",
    "normalise",
    "parse",
    "rewrite",
    "sets_scope",
]
