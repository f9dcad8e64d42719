"""Files whose columns have other types than the schema, written anew with what does not fit as rescued data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from lakeflow_local.pipelines.auto_loader.columns import MISFIT
from lakeflow_local.pipelines.auto_loader.files import File, base, plain, url
from lakeflow_local.pipelines.auto_loader.infer import load_files
from lakeflow_local.pipelines.auto_loader.options import Options
from lakeflow_local.pipelines.auto_loader.schema import field, readable_as


def stage(
    spark: SparkSession,
    file: File,
    schema: StructType,
    kept: StructType,
    folder: str,
    options: Options,
    bases: Sequence[str],
) -> str:
    """Writes a Parquet, Avro or ORC file anew, as one that the schema reads.

    Spark reads a column of all files as one type or fails, so a value of another type cannot be rescued while it reads.

    Args:
        schema: the file's own.
        kept: the columns that are wanted; a column of another type than there is NULL in the new file.
        folder: where new files go; a file's partitions stay part of its path.

    Returns:
        The new file's path.
    """
    wanted = {f.name: field(kept, f.name) for f in schema.fields}
    own = [f for f in schema.fields if not (w := wanted[f.name]) or readable_as(f.dataType, w.dataType)]
    lost = [f for f in schema.fields if f not in own]
    values = [F.col(f"`{f.name}`") for f in own]
    rescued = [F.col(f"`{f.name}`").alias(f.name) for f in schema.fields if f in lost or wanted[f.name] is None]
    whole = F.to_json(F.struct(*rescued, F.lit(url(file.path)).alias("_file_path")))
    misfits = F.when(F.coalesce(*(value.cast("string") for value in rescued)).isNotNull(), whole)
    reader = spark.read.format(options.format).options(**options.reader).schema(schema)
    below = next((file.path[len(b) :] for b in map(_base, bases) if file.path.startswith(b)), "").rpartition("/")[0]
    name = hashlib.sha256(f"{file.path} {file.modified}".encode()).hexdigest()[:16]
    target = "/".join(part for part in (folder, name, below) if part)
    frame = load_files([file])(reader).select(*values, misfits.alias(MISFIT))
    frame.coalesce(1).write.format(options.format).mode("overwrite").save(target)
    return plain(next(iter(spark.read.format("binaryFile").load(target).inputFiles())))


def _base(path: str) -> str:
    return base(plain(path).rstrip("/") + "/")
