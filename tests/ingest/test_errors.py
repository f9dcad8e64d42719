"""Bad input: each is one line that says what to do, exit code 1, and no password."""

import logging
import socket

import pytest

from ingest import cli, extract
from ingest.errors import IngestError, TransientError, explained, retry
from ingest.members import job
from ingest.source import Source, trust_store

PASSWORD = "not-to-be-seen"


@pytest.fixture
def told(lake, monkeypatch, capfd):
    """Runs `ingest-members` with options that come after the good ones; returns its one line on stderr."""

    def run(*options, code=1):
        monkeypatch.setattr("sys.argv", ["ingest-members", *lake.options, *options])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            job.main()
        out, err = capfd.readouterr()
        assert stopped.value.code == code and out == ""
        assert lake.source.password not in err and PASSWORD not in err and "Traceback" not in err
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        return line.removeprefix("error: ")

    return run


@pytest.fixture
def url(monkeypatch, endpoints):
    """Sets the source to the good URL with something replaced."""

    def change(old, new):
        assert old in endpoints.mysql_url
        monkeypatch.setenv("INGEST_TEST_MYSQL_URL", endpoints.mysql_url.replace(old, new))

    return change


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_unreachable(told, url, lake, no_waiting):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url(f":{lake.source.port}/", f":{taken.getsockname()[1]}/")
        assert "cannot be reached; check host and port in env:INGEST_TEST_MYSQL_URL" in told(code=75)


def test_wrong_password(told, url, lake):
    url(lake.source.password, PASSWORD)
    assert told().endswith(
        f"refused the user {lake.source.user!r}; check user and password in env:INGEST_TEST_MYSQL_URL"
    )


def test_unknown_database(told, url):
    url("/lakehouse?", "/lakehouse_of_nobody?")
    assert "there is no database 'lakehouse_of_nobody'; create it or correct env:INGEST_TEST_MYSQL_URL" in told()


def test_missing_table_is_logged_as_a_failed_run(told, lake):
    line = told()
    assert "has no table 'members'" in line
    (run,) = lake.runs().collect()
    assert (run.status, run.error) == ("failed", line)


def test_missing_column(told, members_table):
    members_table.sql("ALTER TABLE members DROP COLUMN email, DROP COLUMN city")
    assert (
        "table 'members' lacks or differs: email is declared and not there; city is declared and not there; " in told()
    )


def test_missing_cursor(told, members_table):
    members_table.sql("ALTER TABLE members DROP COLUMN updated_at")
    assert "has no column 'updated_at'; add it, or use --mode snapshot" in told()


@pytest.fixture
def served(lake, endpoints):
    """Has the embedded server asked for a bucket, with the good key or another."""

    def serve(bucket, secret_key=endpoints.s3_secret_key):
        hadoop = lake.spark.sparkContext._jsc.hadoopConfiguration()
        names = ("endpoint", "endpoint.region", "path.style.access", "connection.ssl.enabled", "access.key")
        for name in (*names, "aws.credentials.provider"):
            hadoop.set(f"fs.s3a.bucket.{bucket}.{name}", hadoop.get(f"fs.s3a.bucket.landing.{name}"))
        hadoop.set(f"fs.s3a.bucket.{bucket}.secret.key", secret_key)

    return serve


def test_missing_bucket(told, lake, served):
    lake.load(5)
    served("of-nobody")
    assert told("--landing-url=s3://of-nobody/x").startswith("the bucket of s3://of-nobody/x does not exist")


def test_wrong_key_of_the_bucket(told, lake, served):
    lake.load(5)
    served("wrong-key", PASSWORD)
    line = told("--landing-url=s3://wrong-key/x")
    assert line.startswith("access to s3://wrong-key/x was refused; check the access key")


def test_missing_schema_of_the_log(told, lake):
    lake.load(5)
    assert told("--ops-schema=of_nobody").startswith("the schema of spark_catalog.of_nobody.ingest_runs does not exist")


def test_a_certificate_of_another_authority_is_refused(told, url, lake, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text(_authority())
    url(f"ssl_ca={lake.source.ssl_ca}", f"ssl_ca={other}")
    assert "TLS with ssl_mode=VERIFY_IDENTITY failed; check ssl_ca" in told()


@pytest.mark.parametrize(
    ("reference", "value", "line"),
    [
        ("env:NOT_SET_ANYWHERE", None, "the environment variable NOT_SET_ANYWHERE is not set; set it to mysql://"),
        ("env:URL", "postgres://a:b@c/d", "env:URL is not a URL of the form mysql://"),
        ("env:URL", f"mysql://u:{PASSWORD}@h:port/d", "env:URL is not a URL of the form mysql://"),
        ("env:URL", f"mysql://u:{PASSWORD}@h/d?ssl=1", "env:URL has the unknown setting 'ssl'"),
        ("env:URL", f"mysql://u:{PASSWORD}@h/d?ssl_mode=maybe", "env:URL has an unknown ssl_mode; use one of"),
        (
            "env:URL",
            f"mysql://u:{PASSWORD}@h/d?ssl_ca=/none",
            "env:URL names the ssl_ca file /none, which is not there",
        ),
        ("file:/none", None, "/none cannot be read; it must hold mysql://"),
        (f"mysql://u:{PASSWORD}@h/d", None, "--source must be env:NAME, secret:SCOPE/KEY or file:PATH"),
        ("secret:scope/key", None, "the Databricks secret scope/key cannot be read; it needs a workspace"),
    ],
)
def test_a_source_that_names_nothing(reference, value, line, monkeypatch):
    if value:
        monkeypatch.setenv("URL", value)
    with pytest.raises(IngestError) as raised:
        Source.of(reference)
    assert str(raised.value).startswith(line) and PASSWORD not in str(raised.value)


def test_a_source_shows_no_password_and_decodes_it(tmp_path):
    file = tmp_path / "url"
    file.write_text("mysql://me:p%40ss%2Fword@db.example.com/lake?ssl_mode=verify_identity\n")
    source = Source.of(f"file:{file}")
    assert (source.password, source.port, source.ssl_mode) == ("p@ss/word", 3306, "VERIFY_IDENTITY")
    assert "p@ss" not in f"{source!r} {source}"
    options = source.jdbc_options()
    assert options["url"].startswith("jdbc:mysql://db.example.com:3306/lake?sslMode=VERIFY_IDENTITY&")
    # anything else would reach Connector/J in small letters, and be ignored
    assert options.keys() == {"url", "driver", "user", "password", "fetchsize"}
    assert "p%40ss" not in options["url"] and "p@ss" not in options["url"]


def test_an_authority_file_that_is_none(tmp_path):
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(IngestError, match="holds no PEM certificate"):
        trust_store(file)


def test_transient_errors_are_tried_again_and_others_are_not(no_waiting):
    tried = []

    def fails(error):
        tried.append(error)
        raise error

    with pytest.raises(TransientError):
        retry(lambda: fails(TransientError("cut")), attempts=3)
    with pytest.raises(IngestError):
        retry(lambda: fails(IngestError("wrong")), attempts=3)
    assert len(tried) == 4


def test_a_cut_connection_in_the_middle_of_a_run_is_tried_again(lake, monkeypatch, no_waiting):
    lake.load(20)
    honest, cut = extract.count, []

    def killed(connection, *given, **settings):
        if not cut:
            cut.append(connection.connection_id)
            lake.sql(f"KILL {connection.connection_id}")
        return honest(connection, *given, **settings)

    monkeypatch.setattr(extract, "count", killed)
    assert lake.ingest().rows_landed == 20 and cut
    assert [r.status for r in lake.runs().collect()] == ["succeeded"]


def test_an_error_that_nobody_foresaw_tells_its_class_and_no_value():
    error = explained(RuntimeError(f"Duplicate entry '{PASSWORD}'"))
    assert str(error) == "unexpected builtins.RuntimeError; run again with --traceback to see where it comes from"


def test_success_prints_one_line_and_raises_nothing(capsys):
    cli.command(lambda: "all is well", run_id="r")
    logging.getLogger("ingest").info("after the command")
    assert capsys.readouterr() == ("all is well\n", "")


def test_wrong_options_are_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        job.run(["--mode=sideways", "--landing-url=x", "--catalog=y"])
    assert stopped.value.code == 2


def _authority():
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another authority")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime.now(UTC)).not_valid_after(datetime.now(UTC) + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
