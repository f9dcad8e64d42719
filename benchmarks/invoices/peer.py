"""DuckDB's side of benchmarks.invoices: a query over Parquet files, told on standard input; needs duckdb alone."""

import json
import sys
import time

import duckdb

given = json.load(sys.stdin)
connection = duckdb.connect()
connection.execute("SET threads = 2")
for name, files in given["tables"].items():
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files!r})")
seconds = []
for _ in range(given["times"]):
    started = time.monotonic()
    rows = connection.execute(given["sql"]).fetchall()
    seconds.append(time.monotonic() - started)
print(json.dumps({"seconds": min(seconds), "rows": [[str(value) for value in row] for row in rows]}))
