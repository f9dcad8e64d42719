"""Faults of what ingest stands on, injected between it and the real servers. After a repeat, landed equals source."""

import os
import shutil
import subprocess
import threading
import time
import uuid
from contextlib import closing
from dataclasses import replace

import mysql.connector
import pytest

from ingest import errors, extract, job, landing, objects
from ingest.errors import IngestError, TransientError
from ingest.run_log import RunLog
from ingest.source import Source
from lakeflow_local.home import Home
from lakeflow_local.platform import credentials, mariadb
from tests.conftest import OF_SETUP
from tests.ingest.conftest import REFERENCE
from tests.ingest.faults import CuttingProxy, FaultyS3
from tests.ingest.test_job import insert


@pytest.fixture
def short_waits(monkeypatch):
    sleep = time.sleep
    monkeypatch.setattr(errors.time, "sleep", lambda seconds: sleep(min(seconds, 0.2)))


@pytest.fixture
def faulty(lake, worker_home, endpoints):
    """The S3 server behind a proxy, and a lake that lands through it."""
    bucket = f"faulty-{uuid.uuid4().hex[:8]}"
    (worker_home.s3 / bucket).mkdir()
    proxy = FaultyS3(endpoints.s3_endpoint)
    hadoop = lake.spark.sparkContext._jsc.hadoopConfiguration()
    own = "fs.s3a.bucket.landing."
    copied = ("endpoint.region", "path.style.access", "connection.ssl.enabled", "access.key", "secret.key")
    settings = {name: hadoop.get(own + name) for name in (*copied, "aws.credentials.provider")}
    impatient = {
        "endpoint": proxy.endpoint,
        "attempts.maximum": "2",
        "retry.limit": "2",
        "retry.interval": "50ms",
        "retry.throttle.limit": "2",
        "retry.throttle.interval": "50ms",
        "retry.http.5xx.errors": "true",
    }
    for name, value in (settings | impatient).items():
        hadoop.set(f"fs.s3a.bucket.{bucket}.{name}", value)
    yield proxy, replace(lake, landing_url=f"s3://{bucket}/x")
    proxy.close()


def test_an_object_store_that_fails_stalls_or_hangs_up(faulty, short_waits, monkeypatch):
    proxy, lake = faulty
    lake.load(20)
    assert lake.ingest().rows_landed == 20
    for reader, fault, times, methods in (
        ("jdbc", 503, 3, ()),
        ("jdbc", 500, 12, ("PUT", "POST")),
        ("jdbc", "cut", 3, ("PUT", "POST")),
        ("jdbc", "slow", 3, ()),
        ("arrow", 500, 3, ("POST",)),
        ("arrow", "cut", 3, ("PUT", "POST")),
    ):
        lake.sql(f"UPDATE members SET city = '{reader} {fault}' LIMIT 3")
        proxy.inject(fault, times, *methods)
        run = replace(lake, reader=reader).ingest()
        assert proxy.met == times and run.rows_landed == 3, (fault, proxy.met)
        assert lake.current() == lake.truth(), fault
    # It stays away: the run fails as one that may be given again, and is.
    lake.sql("UPDATE members SET city = 'Bern' LIMIT 3")
    proxy.inject(503, 10_000)
    monkeypatch.setattr(job, "ATTEMPTS", 2)
    with pytest.raises(TransientError, match=r"the object store of s3://faulty-\w+/x (did not|cannot)"):
        lake.ingest("--run-id=away")
    proxy.inject(503, 0)
    assert lake.ingest().rows_landed == 3
    assert lake.current() == lake.truth()
    assert [r.run_id for r in lake.runs().where("status = 'failed'").collect()] == ["away"]


@pytest.fixture
def through_proxy(monkeypatch, endpoints):
    """Has a source reached through a proxy that can cut its connections."""
    opened = []

    def proxied(source: Source, url: str) -> CuttingProxy:
        proxy = CuttingProxy(source.port)
        opened.append(proxy)
        monkeypatch.setenv(REFERENCE.removeprefix("env:"), url.replace(f":{source.port}/", f":{proxy.port}/"))
        return proxy

    yield proxied
    for proxy in opened:
        proxy.close()


READ = 100_000
"""Bytes of a connection after which it is cut: 2,000 members are several times as many."""


def test_a_server_that_is_stopped_and_started_in_the_middle_of_the_read(
    lake, worker_home, tmp_path_factory, through_proxy, monkeypatch
):
    path = tmp_path_factory.mktemp("own-server")
    for name in OF_SETUP:
        (path / name).symlink_to(worker_home.path / name)
    home = Home(root=worker_home.root, path=path)
    home.run.mkdir(mode=0o700)
    server = mariadb.server(home)
    server.launch()
    try:
        url = mariadb.url(home, server.wait())
        monkeypatch.setenv(REFERENCE.removeprefix("env:"), url)
        own = replace(lake, source=Source.of(REFERENCE))
        root = {"user": "root", "password": credentials.load(home).mysql_root_password, "ssl_ca": own.source.ssl_ca}
        with (
            closing(
                mysql.connector.connect(host="127.0.0.1", port=own.source.port, collation="utf8mb4_bin", **root)
            ) as admin,
            admin.cursor() as cursor,
        ):
            # A client that forgets to name its own zone shifts every timestamp, and the checksums differ.
            cursor.execute("SET GLOBAL time_zone = '+09:00'")
        own.load(2000)
        proxy = through_proxy(own.source, url)
        # A cut alone first, under JDBC; then, under the other reader, one whose server is away for a while.
        proxy.cut_after = READ
        assert own.ingest("--partitions=1").rows_landed == 2000 and proxy.cuts == 1
        assert own.current() == own.truth()

        def restart():
            server.stop()
            threading.Timer(1.5, lambda: (server.launch(), server.wait())).start()

        own.sql("UPDATE members SET city = 'Bern'")
        proxy.cut_after, proxy.on_cut = READ, restart
        own = replace(own, reader="arrow")
        assert own.ingest("--partitions=1").rows_landed == 2000 and proxy.cuts == 2
        assert own.current() == own.truth()
        assert [r.status for r in own.runs().collect()] == ["succeeded"] * 2
    finally:
        server.stop()


def test_a_run_that_dies_between_any_two_steps_is_mended_by_its_repeat(lake, monkeypatch):
    """Its process dies as far as ingest can tell: nothing after the step is done, not even the row of the log."""

    class Death(BaseException):
        pass

    def dies(*given, **named):
        raise Death

    lake.load(20)
    steps = [
        ("after the read", landing, "write", "jdbc"),
        ("before the log", RunLog, "append", "jdbc"),
        ("after the log", landing.Marker, "remove", "jdbc"),
        ("before the commit", objects.S3Folder, "commit", "arrow"),
    ]
    for number, (step, owner, name, reader) in enumerate(steps):
        lake.sql(f"UPDATE members SET city = '{step}' LIMIT 5", insert(f"{number}"))
        truth, before = lake.truth(), lake.runs().count() if number else 0
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, dies)
            with pytest.raises(Death):
                replace(lake, reader=reader).ingest(f"--run-id=dead-{number}")
        with closing(lake.source.connect()) as connection:
            wait_for_the_lock(connection)
        replace(lake, reader=reader).ingest(f"--run-id=alive-{number}")
        assert lake.current() == truth == lake.truth(), step
        assert lake.runs().count() == before + 2
    status = {r.run_id: r.status for r in lake.runs().collect()}
    assert status == {
        "dead-0": "abandoned",
        "alive-0": "succeeded",
        "dead-1": "abandoned",
        "alive-1": "succeeded",
        "dead-2": "succeeded",
        "alive-2": "succeeded",
        "dead-3": "abandoned",
        "alive-3": "succeeded",
    }


def wait_for_the_lock(connection):
    """Until the server has seen that the dead run's connection is gone."""
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()")
            if cursor.fetchone() == (1,):
                return
            assert time.monotonic() < deadline, "the server keeps the connection of the dead run"
            time.sleep(0.1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where this user may mount one, as root or as a runner of CI."""
    folder = tmp_path / "small"
    folder.mkdir()
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*as_root, "mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder]
    if not shutil.which(mount[0]) or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    yield folder
    subprocess.run([*as_root, "umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_as_such_and_room_mends_it(lake, small_disk):
    lake.load(20)
    here = replace(lake, landing_url=f"file://{small_disk}")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(248 * 1024))
    for reader in extract.READERS:
        with pytest.raises(IngestError, match="the disk is full; make room and start the same command again"):
            replace(here, reader=reader).ingest(f"--run-id=full-{reader}")
    filler.unlink()
    assert replace(here, reader="arrow").ingest("--run-id=roomy").rows_landed == 20
    assert here.current() == here.truth()
    status = {r.run_id: r.status for r in here.runs().collect()}
    assert status == {"full-jdbc": "failed", "full-arrow": "failed", "roomy": "succeeded"}


def test_waiting_for_a_source_ends(monkeypatch):
    """What is transient is tried for a quarter of a minute, longer than a server needs to start."""
    waits = []
    monkeypatch.setattr(errors.time, "sleep", waits.append)
    with pytest.raises(TransientError):
        errors.retry(
            lambda: (_ for _ in ()).throw(TransientError("away")),
            attempts=job.ATTEMPTS,
            first_wait=job.FIRST_WAIT,
        )
    assert waits == [1, 2, 4, 8]
