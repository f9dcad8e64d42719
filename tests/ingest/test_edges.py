"""What users of ingest tools lose rows by, injected on the real server."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from pyspark.sql import functions as F

from ingest import declarations, extract, job, reconciliation, table_job
from ingest.errors import IngestError
from ingest.members.table import MEMBERS
from tests.ingest.test_job import insert

# Types that drivers get wrong, under a key of two columns and a cursor that may be NULL.
ODD = """
readings:
  key: [station, number]
  cursor: seen_at
  landing: odd_readings
  drift: {added: add, dropped: ignore, retyped: fail}
  columns:
    station: STRING
    number: DECIMAL(20, 0)
    flag: TINYINT
    day: DATE
    moment: TIMESTAMP_NTZ
    exact: DECIMAL(38, 10)
    near: DOUBLE
    rough: FLOAT
    bytes: BINARY
    bits: BIGINT
    document: STRING
    note: STRING
"""
ODD_DDL = """
CREATE TABLE readings (
  station VARCHAR(20) CHARACTER SET latin1 NOT NULL, number BIGINT UNSIGNED NOT NULL, flag TINYINT(1), day DATE,
  moment DATETIME(6), exact DECIMAL(38, 10), near DOUBLE, rough FLOAT, bytes VARBINARY(20), bits BIT(9), document JSON,
  note TEXT, seen_at TIMESTAMP(6) NULL, PRIMARY KEY (station, number), INDEX (seen_at))
"""
MOST = 18446744073709551615


@pytest.fixture
def readings(lake, tmp_path):
    """Ingests the table of odd types; `file` is its declaration."""
    file = tmp_path / "sources.yml"
    file.write_text(ODD)
    lake.sql(ODD_DDL)

    def ingest(*options):
        return table_job.run([*lake.options, "--table=readings", f"--sources={file}", *options], lake.spark)

    return ingest


def test_another_table_of_odd_types_lands_value_by_value(lake, readings, tmp_path):
    lake.sql(
        "SET SESSION sql_mode = ''",
        f"""INSERT INTO readings VALUES
        ('Zürich', {MOST}, 2, '0000-00-00', '0000-00-00', 1234567890123456789012345678.0123456789, 0.1, 0.1,
          X'00ff', b'101', '{{"a": 1}}', 'four bytes 😀', '2026-01-01 00:00:00.000001'),
        ('Zürich', 0, -128, '2024-02-29', '2024-02-29 23:59:59.999999', 0.0000000001, 1e300, 16777216, '', b'0', NULL,
          'NUL \\0, tab \\t, line\\nbreak, quote \\', backslash \\\\', '2026-01-01 00:00:00.000001'),
        ('bern', 1, NULL, '2024-00-15', '1000-01-01', -1.5, -0.0, NULL, NULL, NULL, 'null', '', NULL)""",
    )
    first = readings("--run-id=odd")
    assert (first.rows_source, first.rows_landed, first.checksum_source) == (3, 3, first.checksum_read)
    landed = lake.spark.read.parquet(f"{lake.landing_url}/odd_readings")
    kinds = {name.split(" ")[0]: name.split(" ")[1] for name in (" ".join(f) for f in landed.dtypes)}
    assert (kinds["number"], kinds["flag"], kinds["exact"]) == ("decimal(20,0)", "tinyint", "decimal(38,10)")
    assert (kinds["moment"], kinds["bytes"], kinds["seen_at"]) == ("timestamp_ntz", "binary", "timestamp")
    assert not [name for name in kinds if name.startswith("_text")]
    rows = {(r.station, int(r.number)): r for r in landed.collect()}
    zero, leap, bare = rows["Zürich", MOST], rows["Zürich", 0], rows["bern", 1]
    assert (zero.flag, zero.day, zero.moment, zero.bits) == (2, None, None, 5)
    assert (zero.exact, zero.near) == (Decimal("1234567890123456789012345678.0123456789"), 0.1)
    assert (bytes(zero.bytes), json.loads(zero.document), zero.note) == (b"\x00\xff", {"a": 1}, "four bytes 😀")
    assert (leap.flag, leap.day, leap.moment) == (-128, date(2024, 2, 29), datetime(2024, 2, 29, 23, 59, 59, 999999))
    assert (leap.exact, leap.near, leap.rough, bytes(leap.bytes)) == (Decimal("1E-10"), 1e300, 16777216.0, b"")
    assert leap.note == "NUL \0, tab \t, line\nbreak, quote ', backslash \\"
    assert (bare.flag, bare.day, bare.exact, bare.rough, bare.note) == (None, None, Decimal("-1.5"), None, "")
    assert bare.seen_at is None and bare._changed_at is not None
    assert lake.spark.createDataFrame([(0.1,)], "a FLOAT").first().a == zero.rough

    table = declarations.table("readings", tmp_path / "sources.yml")
    jdbc, arrow = (extract.rows(lake.spark, lake.source, table, job.Window(), 2, None, r) for r in extract.READERS)
    assert jdbc.dtypes == arrow.dtypes
    assert sorted(map(repr, jdbc.collect())) == sorted(map(repr, arrow.collect()))
    # What the tasks of the one write themselves is what Spark writes of the other.
    own = lake.spark.read.parquet(readings("--mode=snapshot", "--reader=arrow", "--partitions=1").path)
    written = lake.spark.read.parquet(first.path)
    assert own.dtypes == written.dtypes
    of_run = ("_run_id", "_extracted_at", "_changed_at")
    assert sorted(map(repr, own.drop(*of_run).collect())) == sorted(map(repr, written.drop(*of_run).collect()))
    assert own.where("_changed_at != coalesce(seen_at, _extracted_at)").count() == 0

    # Between runs a column is added and another dropped; a row changes, one goes, one has no cursor.
    lake.sql(
        "ALTER TABLE readings ADD COLUMN wind SMALLINT UNSIGNED, DROP COLUMN bits",
        "UPDATE readings SET wind = 65535, seen_at = CURRENT_TIMESTAMP(6) WHERE number = 0",
        "DELETE FROM readings WHERE number = 1",
        "INSERT INTO readings (station, number) VALUES ('basel', 7)",
    )
    second = readings()
    assert (second.rows_landed, second.drift.splitlines()) == (
        1,
        [
            "dropped bits: is declared and not there; ignore",
            "added wind: is smallint(5) unsigned and not declared; add",
        ],
    )
    (changed,) = lake.spark.read.parquet(second.path).collect()
    assert (changed.number, changed.wind, changed.bits, changed.note) == (0, 65535, None, leap.note)

    # Only a comparison of all keys sees what was deleted and what has no cursor.
    held = landed.where("number != 0").select("station", "number", "_row_hash")
    held = held.unionByName(lake.spark.read.parquet(second.path).select("station", "number", "_row_hash"))
    held.write.format("delta").saveAsTable(f"spark_catalog.silver_{lake.name}.odd_readings")
    third = readings("--mode=reconcile")
    operations = {(r.station, int(r.number)): r._op for r in lake.spark.read.parquet(third.path).collect()}
    assert operations == {("basel", 7): "U", ("bern", 1): "D", ("Zürich", MOST): "U"}  # one has another column now

    # Retyped is declared to fail, before a byte is read.
    lake.sql("ALTER TABLE readings MODIFY exact DECIMAL(38, 9)")
    with pytest.raises(IngestError, match=r"exact is decimal\(38,9\), which wants DECIMAL\(38,9\)"):
        readings()
    assert [r.status for r in lake.runs().collect()] == ["succeeded"] * 4 + ["failed"]


def test_a_dry_run_says_what_a_run_would_do_and_a_backfill_does_it_again(lake):
    lake.load(20)
    stamps = "UPDATE members SET updated_at = '2026-01-{} 00:00:00' WHERE updated_at > '2026-06-01' LIMIT {}"
    lake.sql(stamps.format("01", 5), stamps.format("02", 5), stamps.format("03", 5))
    plan = str(lake.ingest("--dry-run"))
    assert "members incremental: window (beginning, " in plan and "ranges of the key" in plan
    assert f"would land in {lake.landing_url}/members/ingest_date=" in plan
    first = lake.ingest()
    assert first.rows_landed == 20
    again = str(lake.ingest("--dry-run"))
    assert f"window ({first.high}, " in again and "would look for late commits in (" in again
    assert lake.runs().count() == 1 and lake.landed().count() == 20

    window = ("--mode=backfill", "--from=2026-01-02", "--to=2026-01-03")
    for _ in range(2):
        run = lake.ingest(*window)
        assert (run.rows_landed, run.low) == (5, datetime(2026, 1, 1, 23, 59, 59, 999999, tzinfo=UTC))
    assert run.path.endswith("ingest_date=2026-01-02/backfill-from-20260102T000000.000000Z-to-20260103T000000.000000Z")
    landed = lake.spark.read.parquet(run.path)
    assert landed.count() == 5 and landed.where("updated_at != TIMESTAMP '2026-01-02 00:00:00'").isEmpty()
    assert lake.ingest().rows_landed == 0, "a backfill must not move the mark"
    with pytest.raises(IngestError, match="--to is later than "):
        lake.ingest("--mode=backfill", "--from=2026-01-01", "--to=2999-01-01")
    with pytest.raises(IngestError, match="--to must be later than --from"):
        lake.ingest("--mode=backfill", "--from=2026-01-02", "--to=2026-01-02")


def test_clocks_and_time_zones_of_server_and_client_do_not_matter(members_table, monkeypatch):
    lake = members_table
    # Written by a client that lives in another time zone; Spark and this process live in yet another.
    lake.sql("SET time_zone = '+09:00'", insert("a1", "2026-06-01 12:00:00"))
    lake.spark.conf.set("spark.sql.session.timeZone", "America/New_York")

    class AheadOfTheServer(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=400)

    monkeypatch.setattr(job, "datetime", AheadOfTheServer)
    try:
        first = lake.ingest()
    finally:
        lake.spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert (first.rows_landed, first.high.year) == (1, lake.sql("SELECT YEAR(UTC_TIMESTAMP())")[0][0])
    assert lake.landed().where("updated_at = TIMESTAMP '2026-06-01 03:00:00'").count() == 1

    # The server's clock moves to the next day: the row that changes moves to another partition of the landing zone.
    honest = extract.clock
    monkeypatch.setattr(extract, "clock", lambda *given: honest(*given) + timedelta(days=1))
    lake.sql("UPDATE members SET city = 'Bern'")
    second = lake.ingest()
    assert second.rows_landed == 1 and first.path.split("/")[-2] != second.path.split("/")[-2]
    assert lake.current() == lake.truth()
    # It moves back: nothing is read under the mark, and nothing lost above it.
    monkeypatch.setattr(extract, "clock", honest)
    assert lake.ingest().rows_landed == 0
    with pytest.raises(IngestError, match="has not passed; wait that long, or correct the clock"):
        lake.ingest("--mode=snapshot")


def test_a_past_run_is_reconciled_over_source_landing_and_bronze(lake, monkeypatch):
    lake.load(30)
    lake.ingest("--run-id=first")
    lake.change(30, changed=3, added=2, deleted=1)
    lake.ingest("--run-id=second")

    def reconcile(run_id):
        options = [o for o in lake.options if not o.startswith(("--landing", "--silver", "--reader"))]
        return reconciliation.run([*options, f"--bronze-schema=silver_{lake.name}", f"--run-id={run_id}"], lake.spark)

    assert reconcile("first").differences == ("bronze has no row of the run; update the pipeline",)
    bronze = f"spark_catalog.silver_{lake.name}.members"
    lake.landed().write.format("delta").saveAsTable(bronze)
    second = reconcile("second")
    assert second.differences == () and str(second).endswith("all agree")
    assert second.source == second.logged_source == second.logged_read == second.landing == second.bronze
    first = reconcile("first")
    assert first.differences == () and first.source.rows == 26 and "belong to later windows" in str(first)
    noted = {r.run_id: (r.rows_bronze, r.checksum_bronze == r.checksum_landed) for r in lake.runs().collect()}
    assert noted == {"first": (30, True), "second": (42, True)}

    lake.spark.sql(f"DELETE FROM {bronze} WHERE _run_id = 'second' AND first_name IS NULL")
    assert reconcile("second").differences == ("bronze does not hold what stands in the landing zone",)
    spoilt = lake.spark.read.parquet(first.run.path).withColumn("city", F.upper("city")).localCheckpoint()
    spoilt.write.mode("overwrite").parquet(first.run.path)
    assert "30 landed rows were altered" in reconcile("first").differences
    with pytest.raises(IngestError, match="has no run 'nobody'; its column run_id has those there are"):
        reconcile("nobody")


def test_rows_without_a_cursor_belong_to_the_first_window():
    nullable = replace(MEMBERS, cursor_nullable=True)
    high = job.Window(None, datetime(2026, 1, 1, tzinfo=UTC))
    assert nullable.condition(high) == "(`updated_at` <= '2026-01-01 00:00:00.000000' OR `updated_at` IS NULL)"
    assert nullable.condition(job.Window()) == "TRUE"


def test_the_declared_members_are_what_the_loader_makes(members_table):
    lake = members_table
    with closing(lake.source.connect()) as connection:
        from ingest import drift

        checked = drift.check(connection, lake.source, declarations.table("members"), cursor_needed=True)
    assert checked.changes == ()
