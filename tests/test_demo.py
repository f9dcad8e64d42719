"""`make demo`, killed in the middle and repeated; then the README's other commands.

The repeat and the commands run in the Java of this process, which each of them would start anew from a shell.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from glob import glob
from io import StringIO
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import pytest
from pyspark.sql import SparkSession

from demo import __main__ as program
from ingest.members.table import DDL, MEMBERS
from ingest.source import Source
from lakeflow_local import cli
from tests.conftest import OF_SETUP, SHARED

ROOT = Path(__file__).parents[1]
SIZE = "--members 1000 --invoices 60"
README = (ROOT / "README.md").read_text()


def made_home(path: Path) -> Path:
    """A home in which only set-up was done."""
    path.mkdir()
    for name in OF_SETUP:
        (path / name).symlink_to(ROOT / ".lakehouse" / name)
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    ours = ("LAKEHOUSE_", "AWS_", "BUNDLE_VAR_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**inherited, "LAKEHOUSE_HOME": str(home), "COLUMNS": "160", **more}


def run(command: str, home: Path, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(home, **more), capture_output=True, text=True, timeout=600
    )


@contextmanager
def as_from_a_shell(home: Path) -> Iterator[StringIO]:
    """This process in the environment of a new one; what it prints."""
    output = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(output):
        for name in set(os.environ) - set(environment(home)):
            patch.delenv(name)
        for name, value in environment(home).items():
            patch.setenv(name, value)
        terminated = signal.getsignal(signal.SIGTERM)
        yield output
        signal.signal(signal.SIGTERM, terminated)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The home after `make demo`, its figures, and what a person sees of it.

    A run before it is killed in the middle of an update. A repeat has to give what a first run gives, so the figures
    are those that the numbers of the rounds add up to.
    """
    home = made_home(tmp_path_factory.mktemp("demo") / "home")
    try:
        kill_when(home, "members_changes")
        with as_from_a_shell(home) as output, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["demo", *SIZE.split()])
            assert program.main() == 0, output.getvalue()[-3000:]
        yield home, json.loads((home / "demo.json").read_text()), output.getvalue()
    finally:
        if (session := SparkSession.getActiveSession()) is not None:
            session.stop()
        run(".venv/bin/lakeflow-local down", home)


@pytest.mark.timeout(900)
def test_members_arrive_as_they_are_in_mysql(demo):
    _, figures, _ = demo
    members = figures["members"]
    assert members["silver_equals_mysql"] is True
    assert members["mysql"] == 1000 + 20 - 5 + 37
    assert members["quarantine"] == 37
    assert members["silver"] == members["mysql"] - 37
    assert members["landed"] == members["bronze"] == 1000 + 50 + 20 + 5 + 37
    # Every version: the first ones, those of changed members and of new ones; a delete closes one and adds none.
    assert members["history"] == 1000 + 50 + 20


def test_invoices_reconcile_and_are_answered(demo):
    _, figures, _ = demo
    invoices = figures["invoices"]
    assert invoices["reconciled"] is True and invoices["quarantined"] == 0
    assert invoices["documents"] == 61
    answers = figures["answers"]
    assert len(answers["top_customers"]) >= 5
    totals = [float(total) for _, total in answers["top_customers"]]
    assert totals == sorted(totals, reverse=True)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", answers["best_dates"][0][0])


def test_every_change_is_counted_by_every_rule(demo):
    _, figures, _ = demo
    rules = [e for e in figures["expectations"] if e["dataset"].endswith(".members_changes")]
    assert len(rules) >= 10 and {e["action"] for e in rules} == {"warn", "drop", "fail"}
    # The changes of the first round may have been counted by the update that was killed.
    (counted,) = {e["passed"] + e["failed"] for e in rules}
    assert counted in (figures["members"]["bronze"] - 1000, figures["members"]["bronze"])
    assert sum(e["failed"] for e in rules) >= 37


def test_what_a_person_sees(demo):
    _, figures, output = demo
    assert "Traceback" not in output
    for told in ("job members_refresh", "5 leave", "members_quarantine", "demo.json"):
        assert told in output
    assert set(figures["seconds"]) >= {"session", "ingest", "refresh", "invoices", "total"}


def commands() -> list[str]:
    """Every command of the README that needs no workspace."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks if not block.startswith("# needs a workspace") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_two_commands_of_the_readme():
    assert commands()[:2] == ["make demo", "make test"]
    assert "make test" in (ROOT / ".ci" / "run").read_text()


UI = ".venv/bin/lakeflow-local ui --allow-runs"


@pytest.mark.parametrize("command", [c for c in commands() if not c.startswith("make ") and c != UI])
def test_the_other_commands_of_the_readme(demo, command):
    home, _, _ = demo
    name, *words = shlex.split(command)
    assert name == ".venv/bin/lakeflow-local"
    arguments = [part for word in words for part in sorted(glob(word, root_dir=ROOT)) or [word]]
    with as_from_a_shell(home) as output:
        assert cli.main(arguments) == 0, output.getvalue()[-2000:]
    assert output.getvalue().strip()


def test_the_pages_of_the_readme(demo):
    assert UI in commands()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {UI}"], cwd=ROOT, env=environment(demo[0]), stdout=subprocess.PIPE, text=True
    )
    try:
        browser = build_opener(HTTPCookieProcessor())
        with browser.open(process.stdout.readline().strip()) as page:
            assert "members_refresh" in page.read().decode()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_the_users_own_mysql_and_bucket(endpoints, tmp_path, monkeypatch):
    """The servers of the tests stand for those of a user: nothing is started beside them."""
    database = f"lakehouse_{uuid.uuid4().hex[:12]}"
    own = {
        "LAKEHOUSE_MYSQL_URL": endpoints.mysql_url.replace("/lakehouse?", f"/{database}?"),
        "BUNDLE_VAR_landing_url": "s3://own/some/prefix",
        "AWS_ENDPOINT_URL": endpoints.s3_endpoint,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": endpoints.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": endpoints.s3_secret_key,
    }
    row = "'1', 'Ada', 'Lovelace', 'ada@example.com', '+44 20 7946 0018', '1 High Street', 'London', 'UK', '2020-01-02'"
    monkeypatch.setenv("OF_THE_TESTS", endpoints.mysql_url)
    with closing(Source.of("env:OF_THE_TESTS").connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {database}")
        cursor.execute(f"USE {database}")
        cursor.execute(DDL)
        cursor.execute(f"INSERT INTO members ({', '.join(MEMBERS.columns)}) VALUES ({row})")
        connection.commit()
    bucket = Path(os.environ[SHARED]) / "s3" / "own"
    bucket.mkdir()
    home = made_home(tmp_path / "home")
    try:
        done = run(".venv/bin/lakeflow-local bundle run members_ingest", home, **own)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert len(list(bucket.glob("some/prefix/members/ingest_date=*/**/*.parquet"))) == 1
        assert not (home / "mysql").exists() and not (home / "s3").exists()
    finally:
        run(".venv/bin/lakeflow-local down", home)


def kill_when(home: Path, told: str) -> None:
    """Runs `make demo` and kills it half a second after its output says `told`: `kill -9`, no clean-up of any kind."""
    process = subprocess.Popen(
        ["make", "demo", f"DEMO={SIZE}"],
        cwd=ROOT,
        env=environment(home, PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if told in line:
            break
    else:
        pytest.fail(f"the demo ended before it said {told!r}: {''.join(seen)[-3000:]}")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
