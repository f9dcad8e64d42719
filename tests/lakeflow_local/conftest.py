"""A pipeline for a test."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakeflow_local.pipelines.resolve import hidden_schema
from tests.lakeflow_local.project import Project


@pytest.fixture
def project(spark: SparkSession, tmp_path: Path):
    (tmp_path / "sources").mkdir()
    made = Project(spark, tmp_path, f"u_{uuid.uuid4().hex[:10]}")
    yield made
    for schema in (made.schema, f"{made.schema}_other", hidden_schema(made.spec)):
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
