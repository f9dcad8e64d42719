"""Analyses a pipeline and writes nothing: what an update would fail on, all of it, in the time that analysis takes."""

from __future__ import annotations

from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lakeflow_local.errors import LakeflowError
from lakeflow_local.pipelines import api, sinks
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.auto_loader.schema import struct
from lakeflow_local.pipelines.event_log import SCHEMA as EVENT_LOG
from lakeflow_local.pipelines.jvm import empty
from lakeflow_local.pipelines.prepare import loaded, null_is_violation, session
from lakeflow_local.pipelines.reads import seen_by
from lakeflow_local.pipelines.resolve import Node, Resolver
from lakeflow_local.pipelines.sources import Imports, describe
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.pipelines.storage import Overlay
from lakeflow_local.pipelines.tables import Tables


def dry_run(spark: SparkSession, spec: PipelineSpec) -> list[LakeflowError]:
    """What an update would fail on before it runs a flow, each with its file and its line; empty where nothing is.

    Datasets are read as empty frames of the columns that they would have, so no table has to be there. Files are
    looked at where an update would infer columns from them. A dataset that reads a faulty one is not looked at: it
    would only repeat the fault.
    """
    problems: list[LakeflowError] = []
    with (
        session(spark, spec, may_create=False),
        api.installed(),
        Imports(spec.root_path) as imports,
    ):
        registry = loaded(spark, spec, imports, lambda _: None, problems.append)
        try:
            datasets, flows = registry.close()
        except LakeflowError as error:
            return [*problems, error]
        if not datasets and not problems:
            return [LakeflowError(f"pipeline {spec.name} defines no dataset; check its libraries in the bundle")]
        storage = Overlay(spark, spec.storage)
        stand_ins = _StandIns(spark, Tables(spark, storage, spec.id))
        resolver = Resolver(
            spark,
            spec,
            datasets,
            flows,
            auto_loader=AutoLoader(spark, storage, lambda _level, _message: None),
            set_up=stand_ins.add,
            event_log=stand_ins.event_log,
            null_is_violation=null_is_violation(spec),
            stand_in=stand_ins.read,
            problems=problems,
        )
        with seen_by(resolver):
            resolver.resolve_all()
    return problems


class _StandIns:
    """Empty frames in place of the datasets of a pipeline."""

    def __init__(self, spark: SparkSession, tables: Tables):
        self._spark = spark
        self._tables = tables
        self._schemas: dict[Node, StructType] = {}

    def add(self, node: Node) -> None:
        """Checks what the set-up of a dataset would, and notes its columns."""
        for resolved in node.resolved:
            if resolved.frame.isStreaming:
                self._check_stream(node, resolved)
        if node.is_sink:
            sinks.check(self._spark, node)
        else:
            self._schemas[node] = self._tables.planned(node)

    def _check_stream(self, node: Node, resolved: Any) -> None:
        jvm = self._spark._jvm
        plan = resolved.frame._jdf.queryExecution().analyzed()
        modes = jvm.org.apache.spark.sql.streaming.OutputMode
        mode = modes.Update() if resolved.flow.output_mode == "update" else modes.Append()
        try:
            jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker.checkForStreaming(plan, mode)
        except (PySparkException, Py4JJavaError) as error:
            place = resolved.flow.place
            raise LakeflowError(
                f"{node.dataset.name}: {describe(error)}", file=place.file, line=resolved.flow.query_line or place.line
            ) from error

    def event_log(self, streaming: bool) -> str:
        self._empty(struct(EVENT_LOG), streaming).createOrReplaceTempView("__event_log")
        return "__event_log"

    def read(self, node: Node, streaming: bool) -> DataFrame:
        return self._empty(self._schemas[node], streaming)

    def _empty(self, schema: StructType, streaming: bool) -> DataFrame:
        if not streaming:
            return empty(self._spark, schema)
        # Every type can be cast from NULL; a stream of files could not have all of them.
        columns = [F.lit(None).cast(f.dataType).alias(f.name, metadata=f.metadata or {}) for f in schema.fields]
        return self._spark.readStream.format("rate").load().select(*columns)
