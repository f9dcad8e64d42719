"""One peer's way from a MySQL table to Parquet; runs in the peers' own environment.

python peers.py NAME TABLE file://FOLDER|s3://BUCKET/PREFIX on|off; LAKEHOUSE_MYSQL_URL and AWS_* are in the environment
"""

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

COLUMNS = "member_id, first_name, last_name, email, phone_number, address, city, country, registration_date, updated_at"


def connectorx(url: str, table: str, target: str, encrypted: bool) -> None:
    _write(_read(url, table, encrypted), target)


def parquet_from_memory(url: str, table: str, target: str, encrypted: bool) -> None:
    """The floor of writing: seconds of the writing alone are told."""
    import time

    found = _read(url, table, encrypted)
    started = time.monotonic()
    _write(found, target)
    print(f"{time.monotonic() - started:.1f} s")


def polars(url: str, table: str, target: str, encrypted: bool) -> None:
    import polars as pl

    frame = pl.read_database_uri(f"SELECT {COLUMNS} FROM {table}", bare(url, require_ssl=encrypted))
    if target.startswith("file:"):
        frame.write_parquet(_folder(target) / "members.parquet", compression="zstd")
    else:
        options = {"aws_endpoint_url": os.environ["AWS_ENDPOINT_URL"], "aws_allow_http": "true"}
        frame.write_parquet(f"{target}/members.parquet", compression="zstd", storage_options=options)


def duckdb(url: str, table: str, target: str, encrypted: bool) -> None:
    import duckdb as db

    if not target.startswith("file:"):
        sys.exit("DuckDB writes to S3 by its extension httpfs, which no wheel has")
    parts = urlsplit(url)
    # compressed, which is its default, it takes twice as long
    ssl = "required" if encrypted else "disabled"
    connection = db.connect()
    (extension,) = resources.files("duckdb_extension_mysql_scanner").glob("**/*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")
    connection.execute(
        f"ATTACH 'host={parts.hostname} port={parts.port} user={parts.username} password={parts.password} "
        f"database={parts.path[1:]} ssl_mode={ssl} compression=disabled' AS source (TYPE mysql, READ_ONLY)"
    )
    file = _folder(target) / "members.parquet"
    connection.execute(f"COPY source.{table} TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


def dlt_connectorx(url: str, table: str, target: str, encrypted: bool) -> None:
    _dlt(url, table, target, "connectorx", encrypted)


def dlt_pyarrow(url: str, table: str, target: str, encrypted: bool) -> None:
    _dlt(url, table, target, "pyarrow", encrypted)


def _dlt(url: str, table: str, target: str, backend: str, encrypted: bool) -> None:
    import tempfile

    import dlt
    from dlt.common.configuration.specs import AwsCredentials
    from dlt.sources.credentials import ConnectionStringCredentials
    from dlt.sources.sql_database import sql_table

    parts = urlsplit(url)
    # pymysql speaks TLS where it is given an authority
    authority = f"?ssl_ca={dict(parse_qsl(parts.query))['ssl_ca']}" if encrypted else ""
    source = f"mysql+pymysql://{parts.username}:{parts.password}@{parts.hostname}:{parts.port}{parts.path}{authority}"
    options = {}
    if backend == "connectorx":
        options = {"backend_kwargs": {"conn": bare(url, require_ssl=encrypted), "return_type": "arrow"}}
    credentials = None
    os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"  # the embedded server knows no trailing checksums
    if target.startswith("s3:"):
        credentials = AwsCredentials(
            aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region_name=os.environ["AWS_REGION"],
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
        )
    with tempfile.TemporaryDirectory() as state:
        pipeline = dlt.pipeline(
            "benchmark",
            # s3fs sends ten parts of 50 MB at once, which the embedded server's heap does not hold
            destination=dlt.destinations.filesystem(
                bucket_url=target, credentials=credentials, kwargs={"max_concurrency": 2}
            ),
            dataset_name="members",
            pipelines_dir=state,
        )
        found = sql_table(ConnectionStringCredentials(source), table=table, backend=backend, **options)
        pipeline.run(found, loader_file_format="parquet")


def _read(url: str, table: str, encrypted: bool):
    import connectorx as cx

    query = f"SELECT {COLUMNS} FROM {table}"
    ranges = [f"{query} WHERE member_id < '8'", f"{query} WHERE member_id >= '8'"]
    return cx.read_sql(bare(url, require_ssl=encrypted), ranges, return_type="arrow")


def _write(found, target: str) -> None:
    import pyarrow.parquet as pq
    from pyarrow import fs

    if target.startswith("file:"):
        pq.write_table(found, _folder(target) / "members.parquet", compression="zstd")
        return
    store = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], region=os.environ["AWS_REGION"])
    path = f"{target.removeprefix('s3://')}/members.parquet"
    pq.write_table(found, path, filesystem=store, compression="zstd")


def _folder(target: str) -> Path:
    return Path(target.removeprefix("file://"))


def bare(url: str, *, require_ssl: bool) -> str:
    """The URL as ConnectorX takes it."""
    if require_ssl:
        sys.exit("the MySQL driver of ConnectorX was built without TLS; compare with --tls off")
    return url.split("?")[0]


PEERS = {f.__name__: f for f in (connectorx, polars, duckdb, dlt_connectorx, dlt_pyarrow, parquet_from_memory)}

if __name__ == "__main__":
    name, table, target, tls = sys.argv[1:]
    PEERS[name](os.environ["LAKEHOUSE_MYSQL_URL"], table, target, tls == "on")
