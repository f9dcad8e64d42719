"""The pipeline `invoices` at scale: the load, an increment of one per cent, and the three questions against DuckDB.

    python -m benchmarks.invoices --documents 100000 [--phases generate load increment questions] [--peers PYTHON]

A document has ten lines on average. Phases may run one by one, each in a process of its own; what they leave stays in
`.lakehouse/benchmarks/invoices` until `generate` makes it anew. PYTHON is that of an environment with duckdb.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from multiprocessing import Pool
from pathlib import Path
from typing import Any

from pyspark import SparkContext

from ingest.invoices import generator
from lakeflow_local import home as homes
from lakeflow_local.bundle import sql_files
from lakeflow_local.pipelines import databricks_sql, sql, update
from lakeflow_local.pipelines.resolve import hidden_schema
from lakeflow_local.pipelines.spec import PipelineSpec
from lakeflow_local.pipelines.sql.tokens import Source
from lakeflow_local.platform import servers, session

ROOT = Path(__file__).resolve().parents[2]
PHASES = ("generate", "load", "increment", "questions")
QUESTIONS = ("top_five_customers_of_january_2024", "invoices_with_quantity_over_10", "date_with_highest_total")
SCHEMAS = {f"{layer}_schema": f"benchmark_invoices_{layer}" for layer in ("bronze", "silver", "gold")}
DOCUMENTS_IN_A_FILE = 10_000
# Small, so that there are files to skip; a table of this size would be one or two of the default.
FILE_BYTES = 16 * 1024 * 1024
TIMES = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoices", description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--peers", help="Python of an environment with duckdb")
    options = parser.parse_args()
    home = homes.find(ROOT)
    folder = home.path / "benchmarks" / "invoices"
    print(f"{options.documents:,} documents, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    if "generate" in options.phases:
        shutil.rmtree(folder, ignore_errors=True)
        _generate(folder, range(max(1, options.documents // DOCUMENTS_IN_A_FILE)), "2024-04-01")
    if set(options.phases) == {"generate"}:
        return
    conf = {"spark.databricks.delta.optimize.maxFileSize": str(FILE_BYTES)}
    spark = session.start(home, servers.up(home), app_name="benchmark", conf=conf, long_running=True)
    if "load" in options.phases:
        for schema in (*SCHEMAS.values(), hidden_schema(_spec(folder))):
            spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            spark.sql(f"CREATE SCHEMA {schema}")
        _update(spark, folder)
    if "increment" in options.phases:
        files = len(list(folder.glob("landing/invoices/*/*.json")))
        _generate(folder, range(files, files + 1), "2024-04-02", max(1, options.documents // 100))
        _update(spark, folder)
    if "questions" in options.phases:
        _questions(spark, options.peers)
    spark.stop()


def _generate(folder: Path, shards: range, day: str, documents: int = DOCUMENTS_IN_A_FILE) -> None:
    landing = folder / "landing" / "invoices" / f"ingest_date={day}"
    landing.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with Pool() as pool:
        lines = sum(pool.starmap(_write, [(landing, shard, documents) for shard in shards]))
    size = sum(file.stat().st_size for file in landing.glob("*.json"))
    print(
        f"generated {len(shards) * documents:,} documents, {lines:,} lines, {size / 1e6:,.0f} MB of JSON "
        f"in {time.monotonic() - started:.0f} s",
        flush=True,
    )


def _write(landing: Path, shard: int, documents: int) -> int:
    """One file of documents of its own numbers; returns how many lines they have."""
    lines = 0
    with (landing / f"shard-{shard:05}.json").open("w", encoding="utf-8") as out:
        for document in generator.documents(documents, seed=shard, as_of=date(2024, 3, 31)):
            for name in ("invoice_number", "preceding_invoice_number"):
                if name in document:
                    document[name] = f"{shard}-{document[name]}"
            lines += len(document["lines"])
            out.write(json.dumps(document, separators=(",", ":")) + "\n")
    return lines


def _spec(folder: Path) -> PipelineSpec:
    return PipelineSpec(
        key="benchmark",
        name="benchmark",
        id="benchmark",
        catalog="spark_catalog",
        schema=SCHEMAS["gold_schema"],
        sources=tuple(sorted((ROOT / "pipelines" / "invoices" / "transformations").glob("*.sql"))),
        storage=str(folder / "storage"),
        configuration={"landing_url": str(folder / "landing"), "reporting_currency": "HKD", **SCHEMAS},
    )


def _update(spark: Any, folder: Path) -> None:
    before = _cpu_seconds()
    result = update.run(spark, _spec(folder), progress=lambda line: print(f"  {line}", flush=True))
    if not result.succeeded:
        sys.exit(f"error: {result.error}")
    cpu = _cpu_seconds() - before
    rows = spark.table(f"{SCHEMAS['gold_schema']}.fact_invoice_line").count()
    print(f"update: {result.seconds:.0f} s, {cpu:.0f} s of CPU, {rows:,} rows in fact_invoice_line", flush=True)


def _cpu_seconds() -> float:
    """What the JVM has used since it began, by Linux's count: the same on a machine that is shared."""
    fields = Path(f"/proc/{SparkContext._gateway.proc.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _questions(spark: Any, peers: str | None) -> None:
    gold = SCHEMAS["gold_schema"]
    facts = f"{gold}.fact_invoice_line"
    for state in ("as written", "after OPTIMIZE"):
        if state == "after OPTIMIZE":
            started = time.monotonic()
            spark.sql(f"OPTIMIZE {facts}")
            print(f"OPTIMIZE: {time.monotonic() - started:.0f} s", flush=True)
        detail = spark.sql(f"DESCRIBE DETAIL {facts}").first()
        print(f"{state}: fact_invoice_line has {detail.numFiles} files, {detail.sizeInBytes / 1e6:,.0f} MB", flush=True)
        tables = {
            name: [path.removeprefix("file:") for path in spark.table(f"{gold}.{name}").inputFiles()]
            for name in ("fact_invoice_line", "dim_customer")
        }
        for question in QUESTIONS:
            seconds, rows, read = min((_ask(spark, question) for _ in range(TIMES)), key=lambda asked: asked[0])
            peer = _duckdb(peers, question, tables) if peers else None
            same = f", DuckDB {peer['seconds']:.2f} s" if peer else ""
            if peer and peer["rows"] != rows:
                same += f", OTHER ROWS: {peer['rows']} for {rows}"
            skipped = detail.numFiles - read
            print(f"  {question}: {seconds:.2f} s{same}, {read} files read, {skipped} skipped", flush=True)


def _ask(spark: Any, question: str) -> tuple[float, list[list[str]], int]:
    """Seconds, the rows as text, and how many files of the facts were read."""
    file = ROOT / "sql" / "analysis" / f"{question}.sql"
    parameters = {"catalog": "spark_catalog", "gold_schema": SCHEMAS["gold_schema"]}
    (statement,) = sql_files.statements(Source(file.read_text(encoding="utf-8"), file))
    started = time.monotonic()
    frame = databricks_sql.query(spark, sql.filled(statement, parameters))
    rows = [[str(value) for value in row] for row in frame.collect()]
    seconds = time.monotonic() - started
    scans = _scans(frame._jdf.queryExecution().executedPlan())
    read = [scan.metrics().apply("numFiles").value() for scan in scans if "fact_invoice_line" in scan.toString()]
    return seconds, rows, sum(read)


def _scans(node: Any) -> Iterator[Any]:
    name = node.getClass().getSimpleName()
    if name == "FileSourceScanExec":
        yield node
    if name == "AdaptiveSparkPlanExec" or name.endswith("QueryStageExec"):
        yield from _scans(node.executedPlan() if name == "AdaptiveSparkPlanExec" else node.plan())
        return
    children = node.children()
    for position in range(children.size()):
        yield from _scans(children.apply(position))


def _duckdb(python: str, question: str, tables: dict[str, list[str]]) -> dict[str, Any]:
    """The same question over the Parquet files of the same version, since its Delta extension is a download."""
    text = (ROOT / "sql" / "analysis" / f"{question}.sql").read_text(encoding="utf-8")
    for name in tables:
        text = text.replace(f"IDENTIFIER(:catalog || '.' || :gold_schema || '.{name}')", name)
    given = json.dumps({"tables": tables, "sql": text, "times": TIMES})
    done = subprocess.run(
        [python, str(Path(__file__).with_name("peer.py"))], input=given, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
