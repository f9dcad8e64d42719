import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from pyspark.sql import functions as F

from ingest import extract, job, landing, objects
from ingest.errors import IngestError
from ingest.members.table import MEMBERS
from ingest.run_log import RunLog
from ingest.tables import Window
from tests.ingest.test_objects import uploads

ROW = (
    "'{}', 'Ada', 'Lovelace', 'ada@example.com', '+44 20 7946 0018', '12 High Street', 'London', 'United Kingdom', "
    "'2020-01-02'"
)
COLUMNS = "member_id, first_name, last_name, email, phone_number, address, city, country, registration_date"


def insert(key, at=None):
    named, value = (f"{COLUMNS}, updated_at", f", '{at}'") if at else (COLUMNS, "")
    return f"INSERT INTO members ({named}) VALUES ({ROW.format(key)}{value})"


def test_what_lands_has_the_columns_and_values_of_the_contract(members_table):
    lake = members_table
    lake.sql(insert("a1"), insert("b2").replace("'Ada'", "NULL").replace("High", "Straße 😀\\nHigh"))
    run = lake.ingest("--run-id=first")
    assert lake.landed().dtypes == [
        *((name, kind.lower()) for name, kind in MEMBERS.columns.items()),
        ("updated_at", "timestamp"),
        ("_op", "string"),
        ("_changed_at", "timestamp"),
        ("_row_hash", "string"),
        ("_extracted_at", "timestamp"),
        ("_run_id", "string"),
        ("ingest_date", "date"),
    ]
    stored = lake.sql(f"SELECT {COLUMNS}, DATE_FORMAT(updated_at, '%Y-%m-%d %H:%i:%s.%f') FROM members")
    micros = F.date_format("updated_at", "yyyy-MM-dd HH:mm:ss.SSSSSS")
    assert {tuple(r) for r in lake.landed().select(*MEMBERS.columns, micros).collect()} == set(stored)
    (day, op, run_id) = lake.landed().select(F.col("ingest_date").cast("string"), "_op", "_run_id").distinct().first()
    assert (day, op, run_id) == (f"{run.high:%Y-%m-%d}", "U", "first")
    assert lake.landed().where("_changed_at != updated_at OR _extracted_at < updated_at").count() == 0
    (logged,) = lake.runs().collect()
    assert (logged.run_id, logged.status, logged.rows_source, logged.rows_landed) == ("first", "succeeded", 2, 2)
    assert logged.checksum_source == logged.checksum_landed
    assert (logged.files, logged.path) == (1, run.path) and logged.bytes > 0


def test_ranges_of_the_key_cover_every_key_once(each_reader, monkeypatch):
    lake = each_reader
    monkeypatch.setattr(extract, "ROWS_PER_PARTITION", 1)
    lake.load(60)
    lake.sql(insert("no key of this form"), insert("0"), insert("~"), insert("4000"), insert("8000"), insert("c000"))
    run = lake.ingest("--partitions=4")
    assert (run.rows_landed, run.files) == (66, 4)
    assert lake.current() == lake.truth()


def test_a_second_run_lands_nothing_and_is_logged(lake):
    lake.load(100)
    first, second, third = (lake.ingest() for _ in range(3))
    assert (first.rows_landed, second.rows_landed, third.rows_landed) == (100, 0, 0)
    assert (second.low, second.files, second.path) == (first.high, 0, None)
    assert lake.landed().count() == 100
    assert [r.status for r in lake.runs().collect()] == ["succeeded"] * 3
    log = RunLog(lake.spark, "spark_catalog", f"ops_{lake.name}")
    assert log.find(first.run_id) == first
    lake.spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    log.append(replace(first, run_id="again"))
    lake.spark.conf.set("spark.sql.session.timeZone", "UTC")
    assert log.find("again") == replace(first, run_id="again")
    assert all(field.metadata["comment"] for field in lake.runs().schema)


def test_an_empty_table_lands_nothing(members_table):
    assert [members_table.ingest(f"--mode={m}").files for m in ("incremental", "snapshot", "reconcile")] == [0, 0, 0]


def test_changes_land_once_and_alone(lake):
    lake.load(100)
    lake.ingest()
    lake.change(100, changed=10, added=5, deleted=0)
    assert lake.ingest().rows_landed == 52
    assert lake.current() == lake.truth()


def test_a_row_committed_late_arrives_by_the_overlap_and_once(lake):
    lake.load(20)
    with contextlib.closing(lake.source.connect()) as late, late.cursor() as cursor:
        cursor.execute(insert("late"))
        lake.ingest()
        late.commit()
    assert lake.ingest("--overlap-seconds=0").rows_landed == 0
    assert lake.ingest().rows_landed == 1
    assert lake.ingest().rows_landed == 0
    assert lake.current() == lake.truth()


def test_a_lag_leaves_the_last_seconds_to_the_next_run(members_table):
    lake = members_table
    lake.sql(insert("old", "2026-01-01 00:00:00"), insert("new"))
    assert lake.ingest("--lag-seconds=3600").rows_landed == 1
    assert lake.ingest("--lag-seconds=0", "--overlap-seconds=0").rows_landed == 1


def test_rows_at_the_edge_with_equal_timestamps_are_neither_lost_nor_doubled(members_table):
    lake = members_table
    lake.sql(insert("first"))
    high = lake.ingest().high
    edge = f"{high:%Y-%m-%d %H:%M:%S.%f}"
    lake.sql(insert("at the edge", edge), insert("behind", f"{high + timedelta(microseconds=1):%Y-%m-%d %H:%M:%S.%f}"))
    assert lake.ingest().rows_landed == 2
    assert lake.ingest().rows_landed == 0
    assert lake.current() == lake.truth()


def test_a_snapshot_lands_everything_and_needs_no_cursor(lake):
    lake.load(30)
    lake.ingest()
    assert lake.ingest("--mode=snapshot").rows_landed == 30
    lake.sql("ALTER TABLE members DROP COLUMN updated_at")
    run = lake.ingest("--mode=snapshot")
    assert run.rows_landed == 30
    assert lake.spark.read.parquet(run.path).where("_changed_at = _extracted_at").count() == 30


def test_reconcile_without_silver_lands_everything(lake):
    lake.load(30)
    assert lake.ingest("--mode=reconcile").rows_landed == 30


def test_reconcile_lands_deletes_and_repairs_alone(lake):
    lake = replace(lake, reader="arrow")  # by JDBC the next tests reconcile
    lake.load(100)
    lake.ingest()
    lake.refresh()
    lake.change(100, changed=10, added=5, deleted=7)
    lake.sql("UPDATE members SET city = 'Berlin', updated_at = updated_at - INTERVAL 1 DAY LIMIT 1")
    run = lake.ingest("--mode=reconcile")
    assert run.rows_deleted == 7 and run.rows_landed in (59, 60)
    assert lake.current() == lake.truth()
    deletes = lake.landed().where("_op = 'D'")
    assert deletes.where("_changed_at != _extracted_at OR _row_hash IS NOT NULL OR email IS NOT NULL").count() == 0
    assert lake.ingest().rows_landed == 0
    lake.refresh()
    assert lake.ingest("--mode=reconcile").files == 0


def test_reconcile_leaves_alone_what_the_quarantine_holds(lake):
    lake.load(10)
    lake.ingest()
    lake.refresh()
    lake.sql("UPDATE members SET email = '' LIMIT 1")
    quarantined = lake.spark.createDataFrame(
        lake.sql(f"SELECT member_id, {MEMBERS.mysql_hash()} FROM members WHERE email = ''"),
        "member_id STRING, _row_hash STRING",
    )
    quarantined.write.format("delta").saveAsTable(f"spark_catalog.silver_{lake.name}.members_quarantine")
    assert lake.ingest("--mode=reconcile").files == 0


def test_a_value_altered_on_the_way_is_found_and_what_landed_is_withdrawn(lake, monkeypatch):
    lake.load(30)
    honest = extract.rows
    broken = lambda *given: honest(*given).withColumn("city", F.upper("city"))  # noqa: E731
    monkeypatch.setattr(extract, "rows", broken)
    with pytest.raises(IngestError, match="30 rows changed on their way"):
        lake.ingest()
    assert lake.landed().count() == 0
    (failed,) = lake.runs().collect()
    assert (failed.status, failed.rows_landed) == ("failed", 0) and "on their way" in failed.error
    monkeypatch.setattr(extract, "rows", honest)
    assert lake.ingest().rows_landed == 30
    assert lake.landed().count() == 30


def test_a_row_lost_on_the_way_is_found_before_it_is_taken_for_deleted(lake, monkeypatch):
    lake.load(30)
    lake.ingest()
    lake.refresh()
    honest = extract.keys
    monkeypatch.setattr(extract, "keys", lambda *given: honest(*given).where("member_id >= '4'"))
    with pytest.raises(IngestError, match=r"MySQL counts 30 rows and Spark read \d+"):
        lake.ingest("--mode=reconcile")
    assert lake.landed().where("_op = 'D'").count() == 0


def test_objects_whose_rows_are_not_those_of_the_source_are_never_seen(lake, monkeypatch):
    lake = replace(lake, reader="arrow")
    lake.load(30)
    honest = extract.write
    monkeypatch.setattr(
        extract, "write", lambda *given: replace(found := honest(*given), totals=replace(found.totals, rows=29))
    )
    with pytest.raises(IngestError, match="MySQL counts 30 rows and Spark read 29"):
        lake.ingest()
    files, folder = landing._file_system(lake.spark, lake.landing_url)
    assert [status.getPath().getName() for status in files.listStatus(folder)] == ["_running"]

    # Where the session's S3A is asked for what the tasks cannot do, and where Spark alone has access, Spark writes.
    hadoop, key = lake.spark.sparkContext._jsc.hadoopConfiguration(), "fs.s3a.bucket.landing.encryption.algorithm"
    assert isinstance(objects.folder(lake.spark, f"{lake.landing_url}/x"), objects.S3Folder)
    hadoop.set(key, "SSE-KMS")
    try:
        assert objects.folder(lake.spark, f"{lake.landing_url}/x") is None
    finally:
        hadoop.unset(key)


def test_rows_that_change_during_the_read_arrive_with_the_next_run(lake, monkeypatch):
    lake.load(30)
    honest = extract.rows

    def interrupted(*given):
        lake.sql("UPDATE members SET city = 'Berlin' LIMIT 3", "DELETE FROM members WHERE city != 'Berlin' LIMIT 1")
        return honest(*given)

    monkeypatch.setattr(extract, "rows", interrupted)
    assert lake.ingest().rows_landed == 26
    monkeypatch.setattr(extract, "rows", honest)
    assert lake.ingest().rows_landed == 3
    assert lake.current() == lake.truth()


def test_rows_that_are_counted_while_they_are_read_are_those_of_before(lake, monkeypatch):
    lake = replace(lake, reader="arrow")
    lake.load(30)
    honest, expected = extract.write, []

    def late(*given):
        lake.sql(insert("late", "2026-01-02 03:04:05"))
        return honest(*given)

    verify = job._Attempt._verify
    monkeypatch.setattr(job._Attempt, "_verify", lambda self, *given: expected.append(given[0]) or verify(self, *given))
    monkeypatch.setattr(job, "COUNTED_BESIDE", 1)
    monkeypatch.setattr(extract, "write", late)
    assert lake.ingest().rows_landed == 31 and [totals.rows for totals in expected] == [30]
    assert [row.status for row in lake.runs().collect()] == ["succeeded"]
    assert lake.current() == lake.truth()

    monkeypatch.setattr(
        extract, "write", lambda *given: replace(found := honest(*given), totals=replace(found.totals, rows=29))
    )
    with pytest.raises(IngestError, match="MySQL counts 31 rows and Spark read 29"):
        lake.ingest("--mode=snapshot")


@pytest.mark.parametrize("failing", ["the log", "the check", "a task"])
def test_a_run_that_fails_after_tasks_wrote_leaves_no_upload(lake, monkeypatch, failing):
    lake = replace(lake, reader="arrow")
    lake.load(30)
    begun, clear = [], objects.S3Folder.clear

    def fails(*_given):
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(job, "COUNTED_BESIDE", 1)
        broken.setattr(objects.S3Folder, "clear", lambda folder: begun.append(len(uploads(folder))) or clear(folder))
        if failing == "the log":
            broken.setattr(job.RunLog, "make", fails)
        elif failing == "the check":
            broken.setattr(job._Attempt, "_verify", fails)
        else:
            # The session has fewer cores: the last begins when others have ended.
            ranges = [f"member_id LIKE '%{digit}'" for digit in "012345"]
            broken.setattr(extract, "_conditions", lambda *_given: [*ranges, "no_such_column = 1"])
        with pytest.raises(IngestError):
            lake.ingest()
    assert begun[0] == 0 and begun[1] > 0
    assert uploads(objects.folder(lake.spark, lake.landing_url)) == []
    assert lake.ingest().rows_landed == 30


def test_a_second_run_at_the_same_time_is_refused(lake, monkeypatch):
    lake.load(10)
    honest = extract.rows

    def nested(*given):
        with pytest.raises(IngestError, match=r"another ingest of lakehouse_\w+\.members is running"):
            lake.ingest()
        return honest(*given)

    monkeypatch.setattr(extract, "rows", nested)
    assert lake.ingest().rows_landed == 10


def test_the_folder_of_a_run_is_found_again_until_the_mark_moves(lake, monkeypatch):
    lake.load(10)
    honest = landing.written
    monkeypatch.setattr(
        landing, "written", lambda *given: (_ for _ in ()).throw(IngestError("cut off after the write"))
    )
    with pytest.raises(IngestError, match="cut off"):
        lake.ingest()
    assert lake.landed().count() == 10
    monkeypatch.setattr(landing, "written", honest)
    lake.load(20)
    assert lake.ingest().rows_landed == 20
    assert lake.landed().count() == 20


KILLED = """
import os, sys, threading, time
from dataclasses import replace
from pathlib import Path
from lakeflow_local.home import Home
from lakeflow_local.platform import servers, session
from ingest import landing, objects
from ingest.members import job

root, path, catalog_url, step, *options = sys.argv[1:]
home = Home(root=Path(root), path=Path(path))
endpoints = replace(servers.up(home), catalog_url=catalog_url)
spark = session.start(home, endpoints, app_name="killed", master="local[1]")

if step == "between two objects":
    honest = objects.S3Folder.commit
    def commit(folder, pending):
        honest(folder, pending[:1])
        print("now", flush=True)
        time.sleep(600)
    objects.S3Folder.commit = commit
else:
    honest, mark = landing.write, Path(path, f"writing-{os.getpid()}")
    def slow(batches):
        yield from batches
        mark.touch()
        time.sleep(600)
    def tell():
        while not mark.exists():
            time.sleep(0.05)
        print("now", flush=True)
    def write(frame, *given):
        threading.Thread(target=tell, daemon=True).start()
        honest(frame.mapInArrow(slow, frame.schema), *given)
    landing.write = write
job.run(options, spark)
"""


@pytest.mark.parametrize(
    ("reader", "step", "visible"), [("jdbc", "in the middle of the write", 100), ("arrow", "between two objects", 130)]
)
def test_a_killed_run_leaves_nothing_that_its_repeat_does_not_mend(lake, worker_home, endpoints, reader, step, visible):
    lake = replace(lake, reader=reader)
    lake.load(100)
    lake.ingest()
    lake.change(100, changed=10, added=5, deleted=0)
    place = [str(worker_home.root), str(worker_home.path), endpoints.catalog_url]
    command = [sys.executable, "-c", KILLED, *place, step, *lake.options, "--rows-per-file=30"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout.readline() == "now\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert lake.landed().count() == visible
    assert lake.runs().count() == 1
    deadline = time.monotonic() + 30
    while lake.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()") != [(1,)]:
        assert time.monotonic() < deadline, "the server keeps the connection of the killed run"
        time.sleep(0.1)
    left = objects.folder(lake.spark, lake.landing_url)
    assert uploads(left)
    assert lake.ingest().rows_landed == 52
    if reader == "arrow":
        assert uploads(left) == []
    assert lake.landed().count() == 152
    assert lake.current() == lake.truth()


def test_the_condition_of_a_window_is_open_below_and_closed_above(members_table):
    lake = members_table
    lake.sql(*(insert(f"k{n}", f"2026-01-01 00:00:00.00000{n}") for n in range(4)))
    low, high = (r[0] for r in lake.sql("SELECT updated_at FROM members ORDER BY updated_at")[1:3])
    found = lake.sql(f"SELECT member_id FROM members WHERE {MEMBERS.condition(Window(low, high))}")
    assert found == [("k2",)]


def test_a_source_that_was_emptied_is_landed_as_deletes(lake):
    lake.load(5)
    lake.ingest()
    lake.refresh()
    lake.sql("DELETE FROM members")
    run = lake.ingest("--mode=reconcile")
    assert (run.rows_landed, run.rows_deleted) == (5, 5)
