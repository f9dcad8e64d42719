"""What DuckDB makes of MySQL's text; the whole way is in test_edges.py, test_faults.py and test_security.py."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import md5

import duckdb
import pyarrow as pa
import pytest

from ingest import arrow, extract
from ingest.errors import IngestError, TransientError
from ingest.source import Source
from ingest.tables import HASH, NUMBER, Table

KINDS = {
    "id": ("DECIMAL(20,0)", "18446744073709551615", Decimal(18446744073709551615)),
    "small": ("TINYINT", "-128", -128),
    "day": ("DATE", "0001-01-01", date(1, 1, 1)),
    "moment": ("TIMESTAMP_NTZ", "9999-12-31 23:59:59.999999", datetime(9999, 12, 31, 23, 59, 59, 999999)),
    "instant": ("TIMESTAMP", "-1", datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    "exact": ("DECIMAL(38,10)", "-0.0000000001", Decimal("-1E-10")),
    "near": ("DOUBLE", "1e300", 1e300),
    "bytes": ("BINARY", "00FF", b"\x00\xff"),
    "note": ("STRING", "NUL \0, separator \x1f, 😀", "NUL \0, separator \x1f, 😀"),
    "nothing": ("STRING", None, None),
}
TABLE = Table(name="t", key=("id",), columns={name: kind for name, (kind, _, _) in KINDS.items()}, cursor="at")


def typed(**changes):
    texts = {name: text for name, (_, text, _) in KINDS.items()}
    hashed = md5("\x1f".join("\x1e" if t is None else t for t in texts.values()).encode()).hexdigest()
    raw = pa.Table.from_pylist([texts | changes | {HASH: hashed, "at": 7}])
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        select = arrow._typed(TABLE, tuple(TABLE.columns), numbered=True)
        found = connection.from_arrow(raw).query("raw", f"SELECT {select} FROM raw").to_arrow_table()
        return hashed, found.to_pylist()


def test_each_value_has_its_type_and_gives_the_hash_of_its_text():
    hashed, (row,) = typed()
    assert {name: row[name] for name in KINDS} == {name: value for name, (_, _, value) in KINDS.items()}
    assert (row["_same"], row[NUMBER], row["_text_of_near"]) == (1, int(hashed[:15], 16) + 7, "1e300")
    batch = pa.RecordBatch.from_pylist(
        [{HASH: hashed, "at": datetime(1970, 1, 1, tzinfo=UTC)}, {HASH: "f" * 32, "at": None}] * 40,
        pa.schema([(HASH, pa.string()), ("at", pa.timestamp("us", "UTC"))]),
    ).slice(1)
    hashes = [int(text[:15], 16) for text in batch[HASH].to_pylist()]
    assert arrow._checksum(batch, "at") == arrow._checksum(batch, None) == sum(hashes) > 2**64
    for change in ({"note": "another"}, {"exact": "0"}, {"nothing": ""}):
        assert typed(**change)[1][0]["_same"] == 0
    with pytest.raises(duckdb.Error):
        typed(small="128")


def test_a_source_is_read_by_arrow_where_that_can_be(monkeypatch):
    source = Source("env:X", "127.0.0.1", 3306, "d", "u", "p")
    assert extract.reader("auto", source) == "arrow" and extract.reader("jdbc", source) == "jdbc"
    assert extract.reader("auto", replace(source, ssl_mode="VERIFY_CA")) == "jdbc"
    monkeypatch.setattr(arrow, "find_spec", lambda name: None)
    assert extract.reader("auto", source) == "jdbc"
    with pytest.raises(IngestError, match="needs the packages duckdb"):
        extract.reader("arrow", source)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("IO Error: … TLS/SSL error: Hostname verification failed. Attempted", IngestError, "TLS with ssl_mode="),
        ("IO Error: ssl_mode=verify_identity: TLS/SSL error: unexpected eof while reading", TransientError, "was cut"),
        ('IO Error: Failed to fetch result row for MySQL query "SELECT secret', TransientError, "was cut"),
        ("Conversion Error: Could not convert string 'secret' to INT8", IngestError, "does not fit its declared type"),
        ("Binder Error: secret", IngestError, "DuckDB failed with Error"),
    ],
)
def test_errors_tell_what_to_do_and_no_value(text, kind, told):
    source = Source("env:X", "127.0.0.1", 3306, "d", "u", "p")
    found = arrow._explained(source, duckdb.Error(text))
    assert type(found) is kind and told in str(found) and "secret" not in str(found)
