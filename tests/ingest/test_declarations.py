"""Declarations, and their comparison with a real server; no Spark."""

from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingest import declarations, drift, extract
from ingest.errors import IngestError
from ingest.members.table import MEMBERS
from ingest.table_job import _parse, moment
from ingest.tables import Drift, Table, Totals

ORDERS = Table(name="orders", key=("id",), columns={"id": "BIGINT", "note": "STRING", "price": "DECIMAL(10,2)"})
DDL = (
    "CREATE TABLE orders (id BIGINT PRIMARY KEY, note VARCHAR(20), price DECIMAL(10,2), "
    "updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))"
)


@contextmanager
def there(source, *statements):
    with closing(source.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS orders")
        for statement in statements:
            cursor.execute(statement)
        yield connection


def checked(source, table, *statements, cursor_needed=True):
    with there(source, *statements) as connection:
        return drift.check(connection, source, table, cursor_needed=cursor_needed)


def refused(source, table, *statements, cursor_needed=True):
    with pytest.raises(IngestError) as raised:
        checked(source, table, *statements, cursor_needed=cursor_needed)
    return str(raised.value)


def test_a_table_as_declared_shows_no_drift(source):
    found = checked(source, ORDERS, DDL)
    assert (found.table, found.changes, found.table.utf8) == (ORDERS, (), {"note"})


def test_an_added_column_is_told_and_answered_as_declared(source):
    added = (DDL, "ALTER TABLE orders ADD COLUMN stock INT UNSIGNED")
    ignored = checked(source, ORDERS, *added)
    assert ignored.table == ORDERS and ignored.changes == ("added stock: is int(10) unsigned and not declared; ignore",)
    also = checked(source, replace(ORDERS, drift=Drift(added="add")), *added)
    assert also.table.columns["stock"] == "BIGINT"
    line = refused(source, replace(ORDERS, drift=Drift(added="fail")), *added)
    assert "table 'orders' lacks or differs: stock is int(10) unsigned and not declared" in line


def test_a_dropped_column_is_told_and_answered_as_declared(source):
    dropped = (DDL, "ALTER TABLE orders DROP COLUMN note")
    assert "note is declared and not there; correct the table" in refused(source, ORDERS, *dropped)
    found = checked(source, replace(ORDERS, drift=Drift(dropped="ignore")), *dropped)
    assert found.table.absent == {"note"} and found.changes == ("dropped note: is declared and not there; ignore",)
    lost = (DDL, "ALTER TABLE orders DROP COLUMN id")
    assert "has no key column id" in refused(source, replace(ORDERS, drift=Drift(dropped="ignore")), *lost)


def test_a_retyped_column_is_told_and_answered_as_declared(source):
    retyped = (DDL, "ALTER TABLE orders MODIFY price DECIMAL(12,3)")
    line = "price is decimal(12,3), which wants DECIMAL(12,3), and is declared DECIMAL(10,2)"
    assert line in refused(source, ORDERS, *retyped)
    found = checked(source, replace(ORDERS, drift=Drift(retyped="ignore")), *retyped)
    assert found.changes == (f"retyped price: {line.removeprefix('price ')}; ignore",)
    # what a declared type holds is no drift
    assert not checked(source, ORDERS, DDL, "ALTER TABLE orders MODIFY price DECIMAL(8,2), MODIFY id INT").changes


def test_every_type_of_the_server_has_one_that_holds_it(source):
    types = {
        "tinyint(1)": "TINYINT",
        "tinyint unsigned": "SMALLINT",
        "smallint": "SMALLINT",
        "mediumint unsigned": "INT",
        "int unsigned": "BIGINT",
        "bigint": "BIGINT",
        "bigint unsigned": "DECIMAL(20,0)",
        "decimal(38,10)": "DECIMAL(38,10)",
        "decimal(40,2)": "STRING",
        "float": "FLOAT",
        "double": "DOUBLE",
        "bit(1)": "BIGINT",
        "bit(64)": "DECIMAL(20,0)",
        "date": "DATE",
        "datetime(6)": "TIMESTAMP_NTZ",
        "timestamp(3) NULL": "TIMESTAMP",
        "time": "STRING",
        "year": "INT",
        "char(3)": "STRING",
        "longtext": "STRING",
        "enum('a')": "STRING",
        "json": "STRING",
        "varbinary(9)": "BINARY",
        "longblob": "BINARY",
    }
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
    table = Table("orders", ("id",), {"id": "INT"}, cursor=None, drift=Drift(added="add"))
    found = checked(source, table, f"CREATE TABLE orders (id INT PRIMARY KEY, {columns})", cursor_needed=False)
    assert list(found.table.columns.values())[1:] == list(types.values())
    with_point = ("CREATE TABLE orders (id INT PRIMARY KEY, place POINT)",)
    assert "place is point, which cannot be landed" in refused(source, table, *with_point, cursor_needed=False)


def test_a_key_must_be_unique_and_a_cursor_a_time(source):
    assert "no unique index of note; declare" in refused(source, replace(ORDERS, key=("note",)), DDL)
    no_time = (DDL, "ALTER TABLE orders MODIFY updated_at BIGINT NOT NULL")
    assert "the cursor 'updated_at' is bigint(20); it must be a TIMESTAMP(6)" in refused(source, ORDERS, *no_time)
    none = replace(ORDERS, cursor=None)
    assert "declared without a cursor; use --mode snapshot" in refused(source, none, DDL)
    gone = (DDL, "ALTER TABLE orders DROP COLUMN updated_at")
    assert checked(source, ORDERS, *gone, cursor_needed=False).table.cursor is None


def test_ranges_cover_every_key_once(source):
    with there(source, DDL, "INSERT INTO orders (id) VALUES (-5), (0), (7), (8), (9223372036854775807)") as connection:
        cursor = connection.cursor()
        for partitions in (1, 2, 3, 7):
            conditions = extract.ranges(ORDERS, partitions, Totals(5, 0, -5, 9223372036854775807))
            found = []
            for condition in conditions:
                cursor.execute(f"SELECT id FROM (SELECT id, id AS _range FROM orders) o WHERE {condition}")
                found += [row[0] for row in cursor.fetchall()]
            assert sorted(found) == [-5, 0, 7, 8, 9223372036854775807]
        cursor.close()
    assert extract.ranges(ORDERS, 4, Totals(2, 0, 1, 2)) == ["_range < 2", "_range >= 2"]
    assert len(extract.ranges(MEMBERS, 4)) == 4 and extract.ranges(ORDERS, 4) == ["TRUE"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "declares no table"),
        ("a: [", ":1: is not YAML"),
        ("a: 1", "a: must have key, columns and cursor"),
        ("a: {key: id, columns: {id: INT}}", "a: cursor is missing"),
        ("a: {key: id, cursor: null, columns: {id: INT}, keys: 1}", "a: unknown 'keys'; known are table, key"),
        ("a: {key: id, cursor: null, columns: {id: INTEGER}}", "a: column id has the type 'INTEGER', which cannot"),
        ("a: {key: no, cursor: null, columns: {id: INT}}", "a: the key 'False' is not among the columns"),
        ("a: {key: [], cursor: null, columns: {id: INT}}", "a: the key is empty"),
        ("a: {key: id, cursor: id, columns: {id: INT}}", "a: the cursor 'id' is landed anyway"),
        ("a: {table: 'x`y', key: id, cursor: null, columns: {id: INT}}", "'x`y' is not a plain identifier"),
        ("a: {key: id, cursor: null, columns: {id: INT}, drift: {added: no}}", "drift.added must be one of fail, add"),
        ("a: {key: id, cursor: null, columns: {id: INT}, drift: {new: add}}", "drift has only added, dropped, retyped"),
    ],
)
def test_a_wrong_declaration_is_one_line(tmp_path, text, told):
    file = tmp_path / "sources.yml"
    file.write_text(text)
    with pytest.raises(IngestError) as raised:
        declarations.declared(file)
    assert str(raised.value).startswith(str(file)) and told in str(raised.value)


def test_a_table_that_nothing_declares(tmp_path):
    with pytest.raises(IngestError, match="no table 'member' is declared; there is members"):
        declarations.table("member")
    with pytest.raises(IngestError, match="cannot be read; --sources must name a YAML file"):
        declarations.declared(tmp_path / "none.yml")


@pytest.mark.parametrize(
    "options",
    [
        ["--mode=backfill", "--from=2026-01-01"],
        ["--from=2026-01-01", "--to=2026-02-01"],
        ["--mode=backfill", "--from=yesterday", "--to=2026-02-01"],
        ["--ops-schema=a`b"],
        ["--landing-url=s3://key:secret@bucket/x"],
    ],
)
def test_wrong_options_stop_before_anything_starts(options, capsys):
    with pytest.raises(SystemExit) as stopped:
        _parse(["--landing-url=s3://b", "--catalog=c", *options], "members")
    assert stopped.value.code == 2 and "secret" not in capsys.readouterr().err.replace("s3://key:secret", "")


def test_moments_are_utc():
    assert moment("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("2026-01-31T02:00:00+02:00") == datetime(2026, 1, 31, tzinfo=UTC)
