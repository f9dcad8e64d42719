"""Who may read what, over which connection, and where no password may be found."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import mysql.connector
import pytest

from ingest import arrow, extract
from ingest.errors import IngestError, explained
from ingest.members.table import MEMBERS
from ingest.source import Source, trust_store
from ingest.tables import Window
from lakeflow_local.platform import credentials
from tests.ingest.conftest import REFERENCE
from tests.ingest.faults import CuttingProxy
from tests.ingest.test_errors import _authority

GRANTS = Path(__file__).parents[2] / "sql" / "mysql" / "ingest_reader.sql"
READER_PASSWORD = "of-the-reader-only"


@pytest.fixture
def reader(lake, worker_home, monkeypatch):
    """The user that the file of grants makes; the source of the lake is read as that user."""
    root = {"user": "root", "password": credentials.load(worker_home).mysql_root_password, "ssl_ca": lake.source.ssl_ca}
    lake.load(20)
    statements = [
        "".join(line for line in part.splitlines(True) if not line.startswith("--")).strip()
        for part in GRANTS.read_text().split(";\n")
    ]
    with (
        closing(
            mysql.connector.connect(
                host="127.0.0.1", port=lake.source.port, database=lake.source.database, collation="utf8mb4_bin", **root
            )
        ) as admin,
        admin.cursor() as cursor,
    ):
        for statement in filter(None, statements):
            cursor.execute(statement)
        with pytest.raises(IngestError, match="the user 'ingest_reader' is locked"):  # it is locked at first
            replace(lake.source, user="ingest_reader", password="").connect()
        cursor.execute(f"ALTER USER ingest_reader IDENTIFIED BY '{READER_PASSWORD}' ACCOUNT UNLOCK")
        url = (
            f"mysql://ingest_reader:{READER_PASSWORD}@127.0.0.1:{lake.source.port}/{lake.source.database}"
            f"?ssl_ca={quote(lake.source.ssl_ca)}"
        )
        monkeypatch.setenv(REFERENCE.removeprefix("env:"), url)
        yield Source.of(REFERENCE)
        cursor.execute("DROP USER ingest_reader")


def test_a_reader_with_the_grants_of_the_file_ingests_and_cannot_write(lake, reader, worker_home, caplog):
    caplog.set_level("DEBUG", logger="ingest")
    assert lake.ingest().rows_landed == 20
    lake.refresh()
    lake.sql("DELETE FROM members LIMIT 2", "UPDATE members SET city = 'Bern' LIMIT 1")
    assert lake.ingest("--mode=reconcile").rows_deleted == 2
    assert lake.ingest("--mode=snapshot").rows_landed == 18
    assert lake.current() == lake.truth()
    with closing(reader.connect()) as connection, connection.cursor() as cursor:
        for write in ("DELETE FROM members", "UPDATE members SET city = ''", "CREATE TABLE t (i INT)"):
            with pytest.raises(IngestError, match="lacks a right"), reader.readable_errors():
                cursor.execute(write)
    with pytest.raises(IngestError, match="refused the user"):
        replace(reader, ssl_mode="DISABLED").connect()

    # Not in what Spark shows of its queries, on its pages, in its log, or in what ingest logged.
    store = lake.spark._jsparkSession.sharedState().statusStore()
    runs = store.executionsList()
    shown = [
        text
        for n in range(runs.size())
        for text in (runs.apply(n).physicalPlanDescription(), runs.apply(n).details(), runs.apply(n).description())
    ]
    assert any("JDBCRelation" in text for text in shown)
    frames = [extract.rows(lake.spark, reader, MEMBERS, Window(), 1, None, name) for name in extract.READERS]
    shown += [frame._jdf.queryExecution().toString() for frame in frames]
    shown += [path.read_text(errors="replace") for path in worker_home.logs.glob("*.log")] + [caplog.text]
    assert not [text for text in shown if READER_PASSWORD in text or lake.source.password in text]


def test_both_drivers_refuse_a_server_that_is_not_the_one(lake, endpoints, tmp_path, monkeypatch):
    bare = endpoints.mysql_url.split("?")[0]
    monkeypatch.setenv("BARE_URL", bare)
    assert Source.of("env:BARE_URL").ssl_mode == "VERIFY_IDENTITY", "the default of production"
    with pytest.raises(IngestError, match="TLS with ssl_mode=VERIFY_IDENTITY failed; check ssl_ca"):
        Source.of("env:BARE_URL").connect()  # the system's authorities did not sign it

    lake.load(3)
    other = tmp_path / "other.pem"
    other.write_text(_authority())
    assert trust_store(other).is_file()
    elsewhere = CuttingProxy(lake.source.port, "127.0.0.2")  # an address that the certificate does not name
    moved = replace(lake.source, host="127.0.0.2", port=elsewhere.port)
    for wrong in (replace(lake.source, ssl_ca=str(other)), moved):
        with pytest.raises(IngestError, match="TLS with ssl_mode=VERIFY_IDENTITY failed"):
            wrong.connect()
        with pytest.raises(Exception, match=r"FAILED_JDBC\.CONNECTION") as raised:
            extract.rows(lake.spark, wrong, MEMBERS, Window(), 1).count()
        assert wrong.password not in str(explained(raised.value, source=wrong))
        with pytest.raises(IngestError, match="TLS with ssl_mode=VERIFY_IDENTITY failed"):
            list(arrow.stream(wrong, "SELECT 1"))
    for refused in (Source.of("env:BARE_URL"), replace(lake.source, password="of-nobody")):
        with pytest.raises(IngestError) as raised:
            list(arrow.stream(refused, "SELECT 1"))
        assert refused.password not in str(raised.value) and raised.value.__suppress_context__
    anyone = replace(moved, ssl_mode="VERIFY_CA")
    with pytest.raises(IngestError, match="--reader arrow has no ssl_mode=VERIFY_CA; set VERIFY_IDENTITY in env:"):
        arrow.check(anyone)
    assert extract.rows(lake.spark, anyone, MEMBERS, Window(), 1).count() == 3
    elsewhere.close()
    assert extract.rows(lake.spark, lake.source, MEMBERS, Window(), 1).count() == 3
