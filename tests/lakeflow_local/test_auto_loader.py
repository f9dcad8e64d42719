"""Auto Loader by section 1c of the sheet: each test names the fact that it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakeflow_local.errors import LakeflowError, UnsupportedError
from lakeflow_local.pipelines.auto_loader import AutoLoader
from lakeflow_local.pipelines.storage import Storage

Row = tuple[Any, ...]


class Loading:
    """One flow over one folder, run as often as a test likes; a new AutoLoader each time, as a new update has.

    Attributes:
        said: what the update would report.
    """

    def __init__(self, spark: SparkSession, folder: Path):
        self.spark = spark
        self.folder = folder
        self.said: list[str] = []

    @property
    def landing(self) -> Path:
        return self.folder / "in"

    def land(self, name: str, *lines: str | dict, age: int = 0) -> Path:
        file = self.landing / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        if age:
            at = file.stat().st_mtime - age
            os.utime(file, (at, at))
        return file

    def loader(self) -> AutoLoader:
        return AutoLoader(self.spark, Storage(self.spark, str(self.folder / "storage")), self._report)

    def _report(self, level: str, message: str) -> None:
        self.said.append(f"{level} {message}")

    def frame(
        self, flow: str = "f", *, path: str | None = None, schema: str | None = None, **options: str
    ) -> DataFrame:
        how = {k: options.pop(k) for k in ("sql", "streaming") if k in options}
        named = {k if how.get("sql") else f"cloudFiles.{k}" if k in _CLOUD else k: v for k, v in options.items()}
        return self.loader().load(flow, path or str(self.landing), named, schema, **how)

    def take(self, flow: str = "f", *columns: str, **options: Any) -> list[Row]:
        """The rows that one update of the flow reads."""
        frame = self.frame(flow, **options)
        taken: list[Row] = []
        self.batches: list[int] = []

        def collect(batch: DataFrame, _: int) -> None:
            rows = [tuple(r) for r in batch.collect()]
            self.batches.append(len(rows))
            taken.extend(rows)

        frame = frame.select(*columns) if columns else frame
        self.columns = frame.columns
        self.types = dict(frame.dtypes)
        checkpoint = str(self.folder / "storage" / "checkpoints" / flow)
        query = frame.writeStream.option("checkpointLocation", checkpoint).foreachBatch(collect)
        query.trigger(availableNow=True).start().awaitTermination()
        return sorted(taken, key=repr)


_CLOUD = {
    "format",
    "inferColumnTypes",
    "schemaEvolutionMode",
    "schemaHints",
    "includeExistingFiles",
    "allowOverwrites",
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "partitionColumns",
    "schemaLocation",
    "useNotifications",
    "nonsense",
    "validateOptions",
}


@pytest.fixture
def loading(spark: SparkSession, tmp_path: Path) -> Iterator[Loading]:
    made = Loading(spark, tmp_path)
    made.landing.mkdir()
    yield made


def rescued(value: str | None) -> dict | None:
    if value is None:
        return None
    return {k: v for k, v in json.loads(value).items() if k != "_file_path"}


def _day(day: int) -> date:
    return date(2026, 1, day)


def test_csv_is_read_by_the_names_of_each_files_header(loading: Loading):
    loading.land("1.csv", "k,v,d", "a,1,2026-01-02", age=30)
    loading.land("2.csv", "d,v,k", "2026-01-03,2,b", age=20)
    loading.land("3.csv", "k,d", "c,2026-01-04", age=10)
    options = {"format": "csv", "header": "true", "inferColumnTypes": "true"}
    assert loading.take(**options) == [
        ("a", 1, _day(2), None),
        ("b", 2, _day(3), None),
        ("c", None, _day(4), None),
    ]
    assert loading.types == {"k": "string", "v": "int", "d": "date", "_rescued_data": "string"}
    # a further column evolves, a value of another type and one in another case are rescued
    loading.land("4.csv", "new,V,k", '"x, y",7,d')
    loading.land("5.csv", "v,k", "seven,e")
    loading.land("6.csv", "v,k", "8,f,beyond")
    rows = loading.take("f", "k", "v", "new", "_rescued_data", **options)
    assert [(*r[:3], rescued(r[3])) for r in rows] == [
        ("d", None, "x, y", {"V": "7"}),
        ("e", None, None, {"v": "seven"}),
        ("f", 8, None, {"_corrupt_record": "8,f,beyond"}),
    ]


def test_csv_with_a_schema_or_without_a_header(loading: Loading):
    loading.land("1.csv", "b,a", "1,x", "2,y")
    # by name, as no column is where the schema has it; without types, all are STRING by default
    assert loading.take("named", format="csv", header="true", schema="a STRING, b INT, c DATE") == [
        ("x", 1, None),
        ("y", 2, None),
    ]
    assert loading.take("text", "b", format="csv", header="true") == [("1",), ("2",)]
    # a schema that renames every column is applied by position, as Spark does, and a person is told
    assert loading.take("renamed", format="csv", header="true", schema="n INT, s STRING") == [(1, "x"), (2, "y")]
    assert any("read by position" in line for line in loading.said)
    # case and options of a file's dialect
    loading.land("odd.txt", "# said", "A;B", "'p;q';2,5")
    odd = {"sep": ";", "quote": "'", "comment": "#", "HEADER": True, "locale": "de"}
    path = str(loading.landing / "odd.txt")
    assert loading.take("odd", format="csv", path=path, schema="a STRING, b DECIMAL(5,1)", **odd)[0][0] == "p;q"
    bare = str(loading.land("bare/1.csv", "1,x", "2"))
    assert loading.take("bare", "_c0", "_c1", format="csv", path=bare, inferColumnTypes="true") == [(1, "x"), (2, None)]
    assert loading.take("dropped", format="csv", path=bare, mode="DROPMALFORMED", schema="n DATE, s STRING") == []


def test_json_is_text_unless_types_are_inferred_and_each_file_is_read_once(loading: Loading):
    loading.land("1.json", {"k": "a", "v": 1, "o": {"x": 1}}, age=9)
    assert loading.take(format="json") == [("a", '{"x": 1}', "1", None)]
    assert set(loading.types.values()) == {"string"}
    assert loading.take(format="json") == []
    loading.land("sub/2 b%20[c].json", {"k": "b", "v": 2})
    # recursive discovery, and names that a URL or a glob would read otherwise; an old file is a new file still
    loading.land("sub/3.json", {"k": "c", "v": 3}, age=20 * 86400)
    assert loading.take("f", "k", "_metadata.file_name", format="json") == [
        ("b", "2%20b%2520%5Bc%5D.json"),
        ("c", "3.json"),
    ]
    assert loading.take("typed", "k", "v", "o.x", format="json", inferColumnTypes="true")[0] == ("a", 1, 1)
    assert loading.types["v"] == "bigint"
    # read_files infers types by default, and the format by the names of files
    assert dict(loading.frame("s", sql=True, streaming=False, path=f"{loading.landing}/1.json").dtypes)["v"] == "bigint"
    loading.land("multi/1.json", "[", '{"k": "m1",', '"v": 1}, {"k": "m2"}', "]")
    rows = loading.take("m", "k", format="json", path=f"{loading.landing}/multi", multiLine="true")
    assert rows == [("m1",), ("m2",)]


def test_rescued_data_of_json(loading: Loading):
    schema = "k STRING, n INT, s STRUCT<a: INT, b: STRING>, l ARRAY<INT>"
    loading.land("1.json", {"k": "fits", "n": 1, "s": {"a": 1, "b": "x"}, "l": [1]})
    loading.land("2.json", {"k": "beyond", "new": 1.50, "s": {"a": 2, "c": {"d": True}}})
    loading.land("3.json", {"k": "misfit", "n": "one", "s": {"a": "two", "b": "y"}, "l": [1, "x"]})
    loading.land("4.json", "{broken", {"k": "case", "K": "other", "N": 5})
    options = {"format": "json", "schema": schema, "rescuedDataColumn": "rest"}
    rows = {r[0]: r for r in loading.take(**options)}
    assert {k: rescued(r[-1]) for k, r in rows.items()} == {
        "fits": None,
        "beyond": {"new": "1.5", "s": {"c": {"d": "true"}}},
        "misfit": {"n": "one", "s": {"a": "two"}, "l": '[1,"x"]'},
        "case": {"K": "other", "N": "5"},
        None: {"_corrupt_record": "{broken"},
    }
    assert tuple(rows["misfit"][2]) == (None, "y") and tuple(rows["beyond"][2]) == (2, None)
    assert json.loads(rows["misfit"][-1])["_file_path"].endswith("/3.json")
    assert any("4.json has 1 malformed records" in line for line in loading.said)
    # with a schema and no rescuedDataColumn there is none
    loading.take("none", format="json", schema="k STRING")
    assert loading.columns == ["k"]


def test_evolution_modes(loading: Loading):
    loading.land("1.json", {"k": "a", "o": {"x": 1}})
    modes = ("addNewColumns", "rescue", "failOnNewColumns", "none", "addNewColumnsWithTypeWidening")
    how = {"format": "json", "inferColumnTypes": "true"}
    for mode in modes:
        loading.take(mode, schemaEvolutionMode=mode, **how)
    loading.land("2.json", {"k": "b", "new": 7, "o": {"x": 2, "y": 3}})
    # the restart of a pipeline is not needed: new files are looked at before the stream starts
    ((k, o, new, rest),) = loading.take("addNewColumns", "k", "o", "new", "_rescued_data", **how)
    assert (k, tuple(o), new, rest) == ("b", (2, 3), 7, None)
    for mode in ("rescue", "none"):
        ((k, o, rest),) = loading.take(mode, schemaEvolutionMode=mode, **how)
        assert (k, tuple(o), rescued(rest)) == ("b", (2,), {"new": "7", "o": {"y": "3"}})
    for _ in range(2):
        with pytest.raises(LakeflowError, match="have new columns: new, o; add them to the schema"):
            loading.take("failOnNewColumns", schemaEvolutionMode="failOnNewColumns", **how)
    # a schema that has them ends the failure
    fixed = "k STRING, o STRUCT<x: INT, y: INT>, new INT"
    assert len(loading.take("failOnNewColumns", schemaEvolutionMode="failOnNewColumns", schema=fixed, **how)) == 1
    # given a schema, the mode is none: new fields are ignored
    assert loading.take("given", schema="k STRING", format="json") == [("a",), ("b",)]
    with pytest.raises(LakeflowError, match="schemaEvolutionMode is all; it can be addnewcolumns"):
        loading.take("wrong", schemaEvolutionMode="all", **how)


def test_type_widening_and_parquet_of_other_types(loading: Loading, spark: SparkSession):
    def land(name: str, query: str) -> None:
        spark.sql(query).coalesce(1).write.parquet(str(loading.landing / name))

    land("1", "SELECT 'a' AS k, 1 AS v, CAST(1.5 AS DECIMAL(4, 2)) AS d")
    widening = {"format": "parquet", "schemaEvolutionMode": "addNewColumnsWithTypeWidening"}
    for flow, options in {"wide": widening, "plain": {"format": "parquet"}}.items():
        loading.take(flow, **options)
        assert loading.types["v"] == "int"
    land("2", "SELECT 'b' AS k, 5000000000L AS v, CAST(1.25 AS DECIMAL(8, 3)) AS d, 'x' AS new")
    rows = loading.take("wide", "k", "v", "d", "new", "_rescued_data", **widening)
    assert [(*r[:2], str(r[2]), *r[3:]) for r in rows] == [("b", 5000000000, "1.250", "x", None)]
    assert (loading.types["v"], loading.types["d"]) == ("bigint", "decimal(8,3)")
    # without widening the value does not fit: the column is NULL and the value is rescued
    ((k, v, d, new, rest),) = loading.take("plain", "k", "v", "d", "new", "_rescued_data", format="parquet")
    assert (k, v, d, new, rescued(rest)) == ("b", None, None, "x", {"v": 5000000000, "d": 1.25})
    assert json.loads(rest)["_file_path"].startswith(f"file:{loading.landing}/2/")
    assert loading.take("plain", format="parquet") == []


def test_a_column_that_arrives_after_the_look_is_not_lost(loading: Loading, spark: SparkSession):
    spark.sql("SELECT 1 AS a").write.parquet(str(loading.landing / "1"))
    loading.take(format="parquet")
    spark.sql("SELECT 2 AS a").write.parquet(str(loading.landing / "2"))
    seen = loading.frame(format="parquet")
    spark.sql("SELECT 3 AS a, 'new' AS b").write.parquet(str(loading.landing / "3"))
    rows: list[Row] = []
    query = seen.writeStream.option("checkpointLocation", str(loading.folder / "storage" / "checkpoints" / "f"))
    query = query.foreachBatch(lambda batch, _: rows.extend(tuple(r) for r in batch.collect()))
    query.trigger(availableNow=True).start().awaitTermination()
    # the stream reads what was looked at; the file that came between is read by the next one, with its column
    assert rows == [(2, None)]
    assert loading.take("f", "a", "b", format="parquet") == [(3, "new")]


def test_schema_hints(loading: Loading):
    loading.land("1.json", {"k": "1", "o": {"when": "2026-01-02", "n": 1}, "l": [{"q": "3"}]})
    hints = "k INT, o.when DATE, l.element.q DECIMAL(9, 2), absent TIMESTAMP"
    loading.take("f", "k", "o.when", "l", "absent", format="json", schemaHints=hints, inferColumnTypes="true")
    assert loading.types == {
        "k": "int",
        "when": "date",
        "l": "array<struct<q:decimal(9,2)>>",
        "absent": "timestamp",
    }
    # types are not inferred, yet a hint inside a column keeps that column's parts
    ((o,),) = loading.take("text", "o", format="json", schemaHints="o.n BIGINT")
    assert tuple(sorted(o.asDict().items())) == (("n", 1), ("when", "2026-01-02"))
    with pytest.raises(LakeflowError, match="schemaHints needs a name and a type"):
        loading.take("bad", format="json", schemaHints="k")


def test_partition_columns(loading: Loading):
    loading.land("day=2026-01-02/part=1/a.json", {"k": "a"})
    loading.land("day=2026-01-03/part=x%20y/b.json", {"k": "b"})
    assert loading.take(format="json") == [("a", _day(2), "1", None), ("b", _day(3), "x y", None)]
    assert loading.types == {"k": "string", "day": "date", "part": "string", "_rescued_data": "string"}
    assert loading.take("one", format="json", partitionColumns="day") == [("a", _day(2), None), ("b", _day(3), None)]
    assert loading.take("no", format="json", partitionColumns="") == [("a", None), ("b", None)]
    # a schema that names one has it, in its place and type
    assert loading.take("given", format="json", schema="day STRING, k STRING") == [
        ("2026-01-02", "a"),
        ("2026-01-03", "b"),
    ]
    loading.land("loose.json", {"k": "c"})
    # folders that disagree have none
    assert loading.take("mixed", format="json") == [("a", None), ("b", None), ("c", None)]


def test_which_files_are_found(loading: Loading):
    loading.land("a/1.json", {"k": 1}, age=7200)
    loading.land("b/2.json", {"k": 2})
    loading.land("b/deep/3.json", {"k": 3})
    loading.land("b/4.txt", {"k": 4})
    loading.land("b/_hidden.json", {"k": 5})

    def keys(**options: Any) -> list[int]:
        options = {"format": "json", "schema": "k INT", "streaming": False, **options}
        return sorted(r.k for r in loading.frame("find", **options).collect())

    assert keys() == [1, 2, 3, 4]
    assert keys(pathGlobFilter="*.json") == [1, 2, 3]
    assert keys(PATHGLOBFILTER="*.txt") == [4]
    after = "2026-01-01T00:00:00"
    assert keys(modifiedAfter=after) == [1, 2, 3, 4] and keys(modifiedBefore=after) == []
    assert keys(path=f"{loading.landing}/{{a,b}}/*.json") == [1, 2]
    assert keys(path=f"{loading.landing}/b*") == [2, 3, 4]
    # read_files takes globs as Spark's own sources do, unless it is told otherwise
    assert keys(path=f"{loading.landing}/b*", sql=True) == [2, 4]
    assert keys(path=f"{loading.landing}/b*", sql=True, useStrictGlobber="false") == [2, 3, 4]
    assert keys(path=f"{loading.landing}/none*") == []
    with pytest.raises(LakeflowError, match=r"there is no folder .*/gone; land a file there first, or mend the path"):
        keys(path=str(loading.folder / "gone"))
    with pytest.raises(LakeflowError, match=r"set lakeflow_local.paths./Volumes/main/raw/v = FOLDER in the pipeline's"):
        keys(path="/Volumes/main/raw/v/x")
    with pytest.raises(LakeflowError, match=r"lakeflow_local.paths.abfss://c@a.dfs.core.windows.net = FOLDER"):
        keys(path="abfss://c@a.dfs.core.windows.net/x")


def test_existing_and_overwritten_files(loading: Loading):
    loading.land("1.json", {"k": 1}, age=9)
    how = {"format": "json", "schema": "k INT"}
    assert loading.take("late", includeExistingFiles="false", **how) == []
    loading.land("2.json", {"k": 2}, age=8)
    # evaluated at the first start only
    assert loading.take("late", includeExistingFiles="true", **how) == [(2,)]
    assert loading.take("once", **how) == loading.take("again", allowOverwrites="true", **how) == [(1,), (2,)]
    loading.land("1.json", {"k": 10})
    assert loading.take("once", **how) == []
    assert loading.take("again", allowOverwrites="true", **how) == [(10,)]
    assert loading.take("again", allowOverwrites="true", **how) == []


def test_batches(loading: Loading):
    for i in range(5):
        loading.land(f"{i}.json", {"k": i}, age=10 - i)
    how = {"format": "json", "schema": "k INT"}
    loading.take("all", **how)
    assert loading.batches == [5]
    loading.take("files", maxFilesPerTrigger=2, **how)
    assert loading.batches == [2, 2, 1]
    loading.take("bytes", maxBytesPerTrigger="1b", **how)
    assert loading.batches == [1] * 5


def test_options_are_checked_and_told_once(loading: Loading):
    loading.land("1.json", {"k": 1})
    how = {"format": "json", "schema": "k INT"}
    loader = loading.loader()
    for _ in range(2):
        given = {"CLOUDFILES.FORMAT": "json", "cloudFiles.useNotifications": True, "cloudFiles.schemaLocation": "/x"}
        loader.load("f", str(loading.landing), {**given, "checkpointLocation": "/y"}, "k INT")
    assert loading.said == [
        "INFO options that change nothing here: cloudFiles.schemaLocation, cloudFiles.useNotifications"
    ]
    with pytest.raises(LakeflowError, match=r"Auto Loader has no option cloudFiles.nonsense; mend its name"):
        loading.take(nonsense="1", **how)
    assert loading.take(nonsense="1", validateOptions="false", **how) == [(1,)]
    assert loading.said[-1] == "WARN Auto Loader has no option cloudFiles.nonsense; it is passed over"
    for options, error, message in (
        ({}, LakeflowError, "needs the option cloudFiles.format"),
        ({"format": "pdf"}, UnsupportedError, "format pdf is not supported here"),
        ({"format": "xml"}, LakeflowError, "XML needs the option rowTag"),
        ({"format": "csv", "skipRows": "1"}, UnsupportedError, "skipRows is not supported here"),
        ({"format": "json", "inferColumnTypes": "yes"}, LakeflowError, "inferColumnTypes is yes; it can be true or"),
    ):
        with pytest.raises(error, match=message):
            loading.frame("x", **options)
    empty = loading.folder / "empty"
    empty.mkdir()
    with pytest.raises(LakeflowError, match=r"no file under .*/empty to infer the columns from"):
        loading.frame("x", path=str(empty), format="json")


def test_other_formats(loading: Loading, spark: SparkSession):
    rows = spark.sql("SELECT 1 AS id, named_struct('x', 'y') AS s")
    rows.coalesce(1).write.orc(str(loading.landing / "orc"))
    assert loading.take("orc", "id", "s.x", format="orc", path=f"{loading.landing}/orc") == [(1, "y")]
    for name, query in {"1": "SELECT 1 AS id", "2": "SELECT CAST(2 AS INT) AS id, 'x' AS new"}.items():
        spark.sql(query).coalesce(1).write.format("avro").save(f"{loading.landing}/avro/{name}")
    (loading.landing / "avro" / "bad.avro").write_text("no Avro")
    avro = loading.take("avro", "id", "new", format="avro", path=f"{loading.landing}/avro")
    assert avro == [(1, None), (2, "x")]
    assert any("bad.avro was left out: it is not a readable avro file" in line for line in loading.said)
    loading.land("text/1.txt", "one", "two")
    assert loading.take("text", format="text", path=f"{loading.landing}/text") == [("one",), ("two",)]
    binary = loading.take("binary", "length", "content", format="binaryFile", path=f"{loading.landing}/text")
    assert binary == [(8, bytearray(b"one\ntwo\n"))]
    loading.land("xml/1.xml", "<r><row id='1'><a>1</a><b><c>x</c></b></row></r>", age=5)
    xml = {"format": "xml", "rowTag": "row", "path": f"{loading.landing}/xml"}
    assert loading.take("xml", "_id", "a", "_rescued_data", **xml) == [("1", "1", None)]
    assert loading.take("typed", "_id", "a", "b.c", inferColumnTypes="true", **xml) == [(1, 1, "x")]
    loading.land("xml/2.xml", "<r><row id='2'><a>zwei</a><new>n</new></row></r>")
    ((number, new, rest),) = loading.take("typed", "_id", "new", "_rescued_data", inferColumnTypes="true", **xml)
    assert (number, new, rescued(rest)) == (2, "n", {"a": "zwei"})
    loading.land("variant/1.json", {"a": {"b": 1}})
    variant = loading.frame(
        "v", format="json", path=f"{loading.landing}/variant", singleVariantColumn="v", streaming=False
    )
    assert [r[0] for r in variant.select(F.expr("v:a.b::int")).collect()] == [1]


def test_a_file_that_cannot_be_read_is_named_and_the_others_load(loading: Loading, spark: SparkSession):
    formats = {"parquet": {}, "orc": {}, "json": {}, "csv": {"header": "true"}}
    for name, more in formats.items():
        folder = loading.landing / name
        spark.range(1).coalesce(1).write.format(name).options(**more).save(str(folder))
        bad = folder / f"bad.{name}{'.gz' if name in ('json', 'csv') else ''}"
        bad.write_bytes(b"PAR1 no such file")
        loading.said.clear()
        rows = loading.take(name, "id", format=name, path=str(folder), inferColumnTypes="true", **more)
        assert rows == [(0,)], name
        assert [line for line in loading.said if bad.name in line and "was left out" in line], name


PIPELINE = """
    import dlt
    from pyspark.sql.functions import col

    @dlt.table(table_properties={"delta.enableChangeDataFeed": "true"})
    def from_volume():
        return spark.readStream.format("cloudFiles").option("cloudFiles.format", "json").load("/Volumes/main/raw/v")

    @dlt.table
    def plain():
        return spark.readStream.format("json").schema("k STRING").load("dbfs:/Volumes/main/raw/v")

    @dlt.table
    def looked_up():
        return spark.read.json("/Volumes/main/raw/v").select("k").distinct()

    @dlt.table
    def orders():
        return (spark.readStream.format("kafka").option("kafka.bootstrap.servers", "b:9092")
                .option("subscribe", "orders").load()
                .select(col("key").cast("string").alias("key"), col("value").cast("string").alias("value"),
                        "topic", "partition", "offset", "timestampType"))

    @dlt.table
    def changes():
        return (spark.readStream.option("readChangeFeed", "true").option("startingVersion", 0)
                .table("from_volume").select("k", "_change_type"))

    @dlt.table
    def skipping():
        return spark.readStream.option("skipChangeCommits", "true").table("LIVE.from_volume")
"""
QUERIES = """
    CREATE OR REFRESH STREAMING TABLE clicks AS
      SELECT CAST(data AS STRING) AS data, stream FROM STREAM read_kinesis(streamName => 'clicks');
    CREATE OR REFRESH MATERIALIZED VIEW by_path AS SELECT k FROM json.`/Volumes/main/raw/v`;
"""


def test_pipelines_of_others_run_against_local_files(project):
    project.source("a.py", PIPELINE)
    project.source("b.sql", QUERIES)
    project.land("v/1.json", {"k": "a"})
    project.land("o/1.json", {"key": "1", "value": {"n": 1}, "partition": 3, "offset": 7}, {"value": "text"})
    project.land("c/1.json", {"data": "click"})
    project.configuration = {
        "lakeflow_local.paths./Volumes/main/raw": str(project.landing),
        "lakeflow_local.kafka.orders": str(project.landing / "o"),
        "lakeflow_local.kinesis.clicks": str(project.landing / "c"),
    }
    result = project.update()
    assert result.succeeded, result.error
    assert project.rows("orders") == [("1", '{"n": 1}', "orders", 3, 7, 0), (None, "text", "orders", None, None, 0)]
    assert project.rows("clicks") == [("click", "clicks")]
    for table in ("plain", "looked_up", "by_path", "skipping"):
        assert project.rows(table, "k") == [("a",)], table
    assert project.rows("changes") == [("a", "insert")]
    # the kept schema goes with the checkpoint: a full refresh applies a hint of another type
    hinted = '"json").option("cloudFiles.schemaHints", "k BINARY").load("/Volumes'
    project.source(
        "a.py", PIPELINE.replace('"json").load("/Volumes', hinted, 1).split("    @dlt.table\n    def plain")[0]
    )
    project.source("b.sql", QUERIES.split(";")[0] + ";")
    assert project.update(full_refresh=True).succeeded
    assert dict(project.spark.table(f"{project.schema}.from_volume").dtypes)["k"] == "binary"
    project.source("b.sql", "CREATE STREAMING TABLE b AS SELECT * FROM STREAM read_kafka(subscribe => 'x');")
    with pytest.raises(LakeflowError, match=r"kafka is not read here; set lakeflow_local.kafka.x = FOLDER in the pip"):
        project.update()
