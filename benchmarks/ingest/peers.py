"""One peer's way from a MySQL table to Parquet; runs in the peers' own environment.

python peers.py NAME URL TABLE FOLDER
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

COLUMNS = "member_id, first_name, last_name, email, phone_number, address, city, country, registration_date, updated_at"


def connectorx(url: str, table: str, folder: Path, encrypted: bool) -> None:
    import connectorx as cx
    import pyarrow.parquet as pq

    query = f"SELECT {COLUMNS} FROM {table}"
    ranges = [f"{query} WHERE member_id < '8'", f"{query} WHERE member_id >= '8'"]
    found = cx.read_sql(bare(url, require_ssl=encrypted), ranges, return_type="arrow")
    pq.write_table(found, folder / "members.parquet", compression="zstd")


def polars(url: str, table: str, folder: Path, encrypted: bool) -> None:
    import polars as pl

    frame = pl.read_database_uri(f"SELECT {COLUMNS} FROM {table}", bare(url, require_ssl=encrypted))
    frame.write_parquet(folder / "members.parquet", compression="zstd")


def duckdb(url: str, table: str, folder: Path, encrypted: bool) -> None:
    import duckdb as db

    parts = urlsplit(url)
    ssl = "required" if encrypted else "disabled"
    connection = db.connect()
    (extension,) = resources.files("duckdb_extension_mysql_scanner").glob("**/*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")
    connection.execute(
        f"ATTACH 'host={parts.hostname} port={parts.port} user={parts.username} password={parts.password} "
        f"database={parts.path[1:]} ssl_mode={ssl}' AS source (TYPE mysql, READ_ONLY)"
    )
    target = folder / "members.parquet"
    connection.execute(f"COPY source.{table} TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def dlt_connectorx(url: str, table: str, folder: Path, encrypted: bool) -> None:
    _dlt(url, table, folder, "connectorx", encrypted)


def dlt_pyarrow(url: str, table: str, folder: Path, encrypted: bool) -> None:
    _dlt(url, table, folder, "pyarrow", encrypted)


def _dlt(url: str, table: str, folder: Path, backend: str, encrypted: bool) -> None:
    import dlt
    from dlt.sources.credentials import ConnectionStringCredentials
    from dlt.sources.sql_database import sql_table

    parts = urlsplit(url)
    # pymysql speaks TLS where it is given an authority
    authority = f"?ssl_ca={dict(parse_qsl(parts.query))['ssl_ca']}" if encrypted else ""
    source = f"mysql+pymysql://{parts.username}:{parts.password}@{parts.hostname}:{parts.port}{parts.path}{authority}"
    options = {}
    if backend == "connectorx":
        options = {"backend_kwargs": {"conn": bare(url, require_ssl=encrypted), "return_type": "arrow"}}
    pipeline = dlt.pipeline(
        "benchmark",
        destination=dlt.destinations.filesystem(bucket_url=str(folder)),
        dataset_name="members",
        pipelines_dir=f"{folder}-state",
    )
    found = sql_table(ConnectionStringCredentials(source), table=table, backend=backend, **options)
    pipeline.run(found, loader_file_format="parquet")


def bare(url: str, *, require_ssl: bool) -> str:
    """The URL as ConnectorX takes it."""
    if require_ssl:
        sys.exit("the MySQL driver of ConnectorX was built without TLS; compare with --tls off")
    return url.split("?")[0]


PEERS = {f.__name__: f for f in (connectorx, polars, duckdb, dlt_connectorx, dlt_pyarrow)}

if __name__ == "__main__":
    name, url, table, folder, tls = sys.argv[1:]
    PEERS[name](url, table, Path(folder), tls == "on")
