"""The graph of a pipeline by its sources alone, without Spark and without data."""

from lakeflow_local.pipelines.outline.outline import DatasetOutline, Fault, FlowOutline, Outline, Rule, outline
from lakeflow_local.pipelines.outline.render import as_json, as_mermaid, as_text

__all__ = [
    "DatasetOutline",
    "Fault",
    "FlowOutline",
    "Outline",
    "Rule",
    "as_json",
    "as_mermaid",
    "as_text",
    "outline",
]
