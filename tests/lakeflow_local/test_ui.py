"""The pages of `lakeflow-local ui`: by Flask's client on files that runs leave, and in a browser with a real run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from flask.testing import FlaskClient

from lakeflow_local.bundle.runs import Runs, TaskRun
from lakeflow_local.cli import main
from lakeflow_local.errors import LakeflowError
from lakeflow_local.home import Home
from lakeflow_local.ui import console, personal
from lakeflow_local.ui.access import Access
from lakeflow_local.ui.app import create_app
from lakeflow_local.ui.project import Project

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
BAD = "<script>alert('x')</script>"
START = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
ACCESS = Access()

PIPELINE = """
from pyspark import pipelines as dp


@dp.materialized_view(comment="Orders as they came")
@dp.expect("amount_is_positive", "amount > 0")
def orders():
    return spark.sql("SELECT * FROM VALUES (1, 5.0), (2, -1.0), (3, 0.0) AS t (id, amount)")


@dp.materialized_view
def revenue():
    return spark.read.table("orders").groupBy().sum("amount")
"""
TAGS = """
USE IDENTIFIER(:catalog || '.' || :sales_schema);
ALTER TABLE customers ALTER COLUMN email SET TAGS ('privacy' = 'contact');
ALTER STREAMING TABLE customers ALTER COLUMN birth_day SET TAGS ('class.date_of_birth' = '');
ALTER TABLE customers ALTER COLUMN city SET TAGS ('privacy' = 'quasi');
SET TAG ON COLUMN main.sales.customers.phone pii = 'true';
ALTER TABLE customers ALTER COLUMN name SET TAGS ('pii' = 'true');
ALTER TABLE customers ALTER COLUMN name UNSET TAGS ('pii');
"""


def write_bundle(root: Path, datasets: str = PIPELINE, schema: str = "sales") -> None:
    (root / "orders").mkdir(parents=True)
    (root / "orders" / "orders.py").write_text(datasets)
    (root / "tags.sql").write_text(TAGS)
    resources = {
        "schemas": {"sales": {"catalog_name": "spark_catalog", "name": schema}},
        "pipelines": {
            "orders": {
                "name": f"orders {BAD}",
                "catalog": "spark_catalog",
                "schema": schema,
                "libraries": [{"glob": {"include": "orders/**"}}],
            }
        },
        "jobs": {
            "refresh": {
                "name": f"refresh {BAD}",
                "description": BAD,
                "schedule": {"quartz_cron_expression": "0 0 2 * * ?", "timezone_id": "UTC"},
                "parameters": [{"name": "day", "default": "2024-01-01"}],
                "tasks": [
                    {"task_key": "update", "pipeline_task": {"pipeline_id": "${resources.pipelines.orders.id}"}},
                    {
                        "task_key": "positive",
                        "depends_on": [{"task_key": "update"}],
                        "condition_task": {"left": "{{job.parameters.day}}", "op": "NOT_EQUAL", "right": ""},
                    },
                ],
            }
        },
    }
    variables = {"catalog": {"default": "main"}, "sales_schema": {"default": schema}}
    content = {"bundle": {"name": "shop"}, "variables": variables, "resources": resources, "targets": {"local": {}}}
    (root / "databricks.yml").write_text(yaml.safe_dump(content))


def event(update: str, seconds: int, type: str, details: dict, message: str = "", **origin: str) -> dict:
    return {
        "id": str(uuid.uuid4()),
        "sequence": "{}",
        "origin": {"update_id": update, "flow_name": None, "dataset_name": None, **origin},
        "timestamp": START + timedelta(seconds=seconds),
        "message": message or f"{type} {details}",
        "level": "INFO",
        "error": {"fatal": False, "exceptions": [{"class_name": "", "message": "out of paper"}]}
        if seconds == 5
        else None,
        "details": json.dumps({type: details}),
        "event_type": type,
    }


def events_of_an_update(update: str) -> list[dict]:
    orders = {"flow_name": "spark_catalog.sales.orders", "dataset_name": "spark_catalog.sales.orders"}
    expectation = {"name": "amount_is_positive", "dataset": "orders", "passed_records": 990, "failed_records": 10}
    quality = {"dropped_records": 3, "expectations": [expectation]}
    return [
        event(update, 0, "create_update", {"cause": "USER_ACTION"}),
        event(update, 1, "update_progress", {"state": "RUNNING"}),
        event(update, 2, "flow_progress", {"status": "RUNNING"}, **orders),
        event(
            update,
            4,
            "flow_progress",
            {"status": "COMPLETED", "metrics": {"num_output_rows": 1000}, "data_quality": quality},
            BAD,
            **orders,
        ),
        event(update, 5, "flow_progress", {"status": "FAILED"}, dataset_name="spark_catalog.sales.revenue"),
        event(update, 6, "update_progress", {"state": "FAILED"}),
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A bundle whose job ran twice and whose pipeline was updated once, with a table of customers."""
    root = tmp_path_factory.mktemp("ui")
    write_bundle(root)
    home = Home(root, root / ".lakehouse")
    runs = Runs(home, "refresh")
    for state in ("SUCCESS", "FAILED"):
        tasks = [TaskRun("update", "pipeline_task", state, START.isoformat(), START.isoformat(), 1)]
        run = runs.create("local", {"type": "ONE_TIME"}, {"day": BAD}, [*tasks, TaskRun("positive", "condition_task")])
        run.state, run.start, run.end = state, START.isoformat(), (START + timedelta(seconds=90)).isoformat()
        run.error = f"update: {BAD}" if state == "FAILED" else None
        runs.save(run)
        runs.logged(run, lambda _: None)(f"refresh: {BAD}")
    made = Project(home)
    spec = made.spec(made.resource("pipelines", "orders"))
    log = home.warehouse / "sales.db" / f"event_log_{spec.id.replace('-', '_')}"
    write_deltalake(str(log), pa.Table.from_pylist(events_of_an_update("u-1")))
    customers = pa.table({
        "id": [1, 2],
        "name": ["Ann", BAD],
        "email": ["ann@example.com", None],
        "phone": ["+1", "+2"],
        "birth_day": ["1990-01-01", "1991-01-01"],
        "city": ["Rome", "Oslo"],
    })  # fmt: skip
    write_deltalake(str(home.warehouse / "sales.db" / "customers"), customers)
    write_deltalake(str(home.warehouse / "copies.db" / "letters"), customers.select(["id", "email"]))
    return made


def client_of(project: Project, *, session=None, **options: bool) -> FlaskClient:
    app = create_app(project, session=session, access=ACCESS, **options)
    client = app.test_client()
    assert client.get(f"/?token={ACCESS.token}").status_code == 303
    return client


@pytest.fixture
def client(project: Project) -> FlaskClient:
    return client_of(project)


def last_run(project: Project) -> int:
    return project.runs("refresh").last().run_id


def test_only_the_token_opens_the_pages(project: Project) -> None:
    app = create_app(project, session=None, access=ACCESS)
    stranger = app.test_client()
    for path in ("/", "/jobs/refresh", "/static/ui.css", "/nothing", "/?token=wrong", "/?token=ü"):
        answer = stranger.get(path)
        assert answer.status_code == 403 and "shop" not in answer.text
    answer = stranger.get(f"/?token={ACCESS.token}")
    assert answer.status_code == 303 and answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and ACCESS.token not in cookie
    assert stranger.get("/").status_code == 200
    known, bare = {"Cookie": f"{ACCESS.cookie}={ACCESS.session}"}, app.test_client(use_cookies=False)
    for host in ("evil.example", "127.0.0.1.evil.example", "evil.example:80"):
        for path in ("/", "/static/ui.css", f"/?token={ACCESS.token}"):
            assert bare.get(path, headers={"Host": host, **known}).status_code == 400
    assert bare.get("/", headers={"Host": "127.0.0.1:8000", **known}).status_code == 200


def test_every_answer_has_the_headers_that_keep_scripts_and_frames_out(project: Project, client: FlaskClient) -> None:
    for path in ("/", "/static/ui.js", "/nothing", "/tables/sales/customers"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")


def test_every_page_escapes_what_it_shows_and_can_be_read_without_seeing_it(
    project: Project, client: FlaskClient
) -> None:
    run = last_run(project)
    pages = {
        "/": "refresh",
        "/jobs/refresh": "Runs",
        f"/jobs/refresh/runs/{run}": "Log",
        "/pipelines/orders": "amount_is_positive",
        "/pipelines/orders/updates/u-1": "Event log",
        "/tables": "customers",
        "/tables/sales/customers": "History",
        "/sql": "One query",
        "/sql?text=" + BAD: "One query",
    }
    for path, told in pages.items():
        answer = client.get(path)
        text = answer.text
        assert answer.status_code == 200, path
        assert told in text and "<script>alert" not in text, path
        assert text.count("<h1") == 1 and '<main id="main"' in text and 'href="#main"' in text and "<nav aria-" in text
        assert text.count("<table") == text.count("<caption"), path
        assert 'lang="en"' in text and not re.search(r"<[^>]+\s(style|on\w+)=", text), path
    assert "&lt;script&gt;" in client.get(f"/jobs/refresh/runs/{run}").text


def test_pages_that_are_not_there_say_so(project: Project, client: FlaskClient) -> None:
    for path, said in {
        "/nothing": "there is no such page",
        "/jobs/other": "the bundle has no job other",
        "/jobs/refresh/runs/7": "the job refresh has no run 7",
        "/pipelines/orders/updates/u-9": "has no update u-9",
        "/tables/sales/none": "has no table sales.none",
        "/tables/..%2f..%2fetc/passwd": "",
        "/sql/none": "ask it again",
    }.items():
        answer = client.get(path)
        assert answer.status_code == 404 and said in answer.text


def test_a_job_shows_its_runs_its_tasks_and_what_they_said(project: Project, client: FlaskClient) -> None:
    page = client.get("/jobs/refresh").text
    assert "0 0 2 * * ? UTC" in page and page.count("1 min 30 s") == 2
    assert page.count('class="box failed"') == 1 and "condition task" not in page
    run = client.get(f"/jobs/refresh/runs/{last_run(project)}").text
    assert "pipeline orders" in run and "03:04:05" in run and "data-going" not in run
    assert re.search(r"\d\d:\d\d:\d\d refresh: &lt;script", run)


def test_a_pipeline_shows_what_its_last_update_did(client: FlaskClient) -> None:
    page = client.get("/pipelines/orders").text
    assert 'aria-label="990 passed, 10 failed"' in page and "out of paper" in page
    assert "3 dropped · 1 rule failing" in page and 'class="box materialized_view failed"' in page
    log = client.get("/pipelines/orders/updates/u-1?type=flow_progress").text
    assert log.count("<td>flow_progress</td>") == 3 and "<td>create_update</td>" not in log
    assert 'href="/tables/sales/customers"' not in page


def test_an_update_that_goes_on_is_seen_and_one_that_was_killed_too(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    project = Project(Home(tmp_path, tmp_path / ".lakehouse"))
    storage = Path(project.spec(project.resource("pipelines", "orders")).storage)
    (storage / "events").mkdir(parents=True)
    lines = [json.dumps(one, default=datetime.isoformat) for one in events_of_an_update("u-2")[:3]]
    (storage / "events" / "u-2.jsonl").write_text("\n".join([*lines, lines[0][:40]]))
    client = client_of(project)
    with (storage / ".lock").open("w") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        page = client.get("/pipelines/orders/live").text
        assert "data-going" in page and 'class="state running">RUNNING' in page
    page = client.get("/pipelines/orders/live").text
    assert "data-going" not in page and "INTERNAL_ERROR" in page


def test_personal_columns_are_masked_unless_they_are_asked_for(project: Project, client: FlaskClient) -> None:
    page = client.get("/tables/sales/customers").text
    assert "5 personal" not in page and "3 personal columns are masked" in page
    assert "ann@example.com" not in page and "1990-01-01" not in page and "+1" not in page
    assert "Ann" in page and "Rome" in page and page.count(personal.MASK) == 5 and "NULL" in page
    # derived from it, and tagged by nobody
    assert "ann@example.com" not in client.get("/tables/copies/letters").text
    assert "ann@example.com" in client_of(project, show_pii=True).get("/tables/sales/customers").text


def test_nothing_is_changed_without_the_flag_and_the_token_of_the_form(project: Project, client: FlaskClient) -> None:
    changing = ("/jobs/refresh/start", "/pipelines/orders/start", "/jobs/refresh/cancel")
    form = {"form_token": ACCESS.form}
    assert "Run now" not in client.get("/jobs/refresh").text
    for path in changing:
        assert client.get(path).status_code == 405
        assert client.post(path, data=form).status_code == 405
    may = client_of(project, allow_runs=True)
    assert "Run now" in may.get("/jobs/refresh").text
    for path in (*changing, "/sql", "/sql/x/cancel"):
        assert may.post(path).status_code == 403
        assert may.post(path, data={"form_token": "no"}).status_code == 403
        assert may.post(path, data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert may.application.extensions["lakeflow_local"].processes.end() == []


def test_a_run_that_cannot_start_says_why(project: Project) -> None:
    (project.home.path / "jars").mkdir(exist_ok=True)
    client = client_of(project, allow_runs=True)
    form = {"form_token": ACCESS.form, "parameter day": "x", "parameter other": "y"}
    assert client.post("/jobs/refresh/start", data=form).status_code == 303
    processes = client.application.extensions["lakeflow_local"].processes
    assert "A run is starting" in client.get("/jobs/refresh/live").text
    assert "other" not in " ".join(processes.last("refresh").process.args)
    processes.last("refresh").process.wait(30)
    page = client.get("/jobs/refresh").text
    assert "ended badly" in page and "error:" in page and "Traceback" not in page


def test_200_datasets_are_shown_in_less_than_two_seconds(tmp_path: Path) -> None:
    parts = ["from pyspark import pipelines as dp\n"]
    for number in range(200):
        read = f"spark.read.table('d{number // 3}')" if number else "spark.range(1)"
        parts.append(f"@dp.materialized_view\n@dp.expect('e', 'x > 0')\ndef d{number}():\n    return {read}\n")
    write_bundle(tmp_path, "\n".join(parts))
    home = Home(tmp_path, tmp_path / ".lakehouse")
    for number in range(200):
        (home.warehouse / "sales.db" / f"d{number}" / "_delta_log").mkdir(parents=True)
    client = client_of(Project(home))
    assert client.get("/pipelines/orders").text.count('class="box') == 200  # the sources are followed once
    began = time.monotonic()
    assert client.get("/pipelines/orders").status_code == 200
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write one statement"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("DROP TABLE t", "DROP is not run here"),
        ("INSERT INTO t SELECT 1", "INSERT is not run here"),
        ("SET x = 1", "SET is not run here"),
        ("EXPLAIN SELECT 1", "EXPLAIN is not run here"),
        ("SELECT reflect('java.lang.System', 'exit', 0)", "calls code"),
        ("SELECT TRANSFORM(a) USING 'cat' FROM t", "calls a program"),
        ("SELECT * FROM table_changes('t', 0)", "past the masks"),
        ("SELECT * FROM read_files('/etc')", "past the masks"),
        ("DESCRIBE EXTENDED t email", "DESCRIBE takes"),
        ("SHOW PARTITIONS t", "SHOW takes"),
        ("SELECT 'a", "no end"),
    ],
)
def test_the_box_takes_one_statement_that_reads(text: str, said: str) -> None:
    with pytest.raises(LakeflowError, match=said):
        console.check(text, masked=True)


def test_the_box_takes_queries() -> None:
    for text in ("SELECT 1;", "WITH a AS (SELECT 1) SELECT * FROM a", "SHOW TABLES IN s", "DESC TABLE EXTENDED s.t"):
        assert console.check(text, masked=True)
    assert console.check("SELECT * FROM table_changes('t', 0)", masked=False)


def test_queries_see_masks_and_nothing_else(spark, project: Project, tmp_path: Path) -> None:
    schema = f"ui_{uuid.uuid4().hex[:8]}"
    write_bundle(tmp_path / "b", schema=schema)
    spark.sql(f"CREATE SCHEMA {schema}")
    try:
        columns = "1 AS id, 'Ann' AS name, 'ann@example.com' AS email, DATE'1990-01-01' AS birth_day, '+1' AS phone"
        spark.sql(f"CREATE TABLE {schema}.customers AS SELECT {columns}")
        spark.sql(f"CREATE VIEW {schema}.seen AS SELECT * FROM {schema}.customers")
        project = Project(Home(tmp_path / "b", tmp_path / "b" / ".lakehouse"))
        client = client_of(project, session=lambda: nullcontext(spark))

        def post(text: str, client: FlaskClient = client) -> str:
            form = {"form_token": ACCESS.form, "text": text.format(s=schema), "limit": "50"}
            return client.post("/sql", data=form).headers["Location"]

        def ask(text: str, client: FlaskClient = client) -> str:
            page = post(text, client)
            deadline = time.monotonic() + 60
            while "data-going" in (answer := client.get(f"{page}/live").text) and time.monotonic() < deadline:
                time.sleep(0.05)
            return answer

        answer = ask("SELECT *, customers.email AS again, upper(email) AS up FROM {s}.customers")
        assert "Ann" in answer and "example.com" not in answer.lower() and "1990" not in answer
        assert answer.count(personal.MASK) == 3 and f"{schema}.customers (email, birth_day)" in answer
        common = "WITH customers AS (SELECT email e FROM {s}.customers)"
        joined = f"{common} SELECT count(*) AS n FROM customers c, {{s}}.customers d WHERE c.e = d.email"
        assert "<td>1</td>" in ask(joined)
        assert "<td>0</td>" in ask("SELECT count(*) AS n FROM {s}.customers WHERE email = 'ann@example.com'")
        assert "is a view" in ask("SELECT * FROM {s}.seen")
        assert "there is no schema parquet" in ask("SELECT * FROM parquet.`/etc`")
        assert "UNRESOLVED_COLUMN" in ask("SELECT nope FROM {s}.customers")
        assert "<td>customers</td>" in ask("SHOW TABLES IN {s}")
        assert "&lt;script&gt;" in ask(f'SELECT "{BAD}" AS x')
        for writes in (
            "FROM {s}.customers INSERT INTO {s}.customers SELECT *",
            "WITH a AS (SELECT 1) DELETE FROM {s}.customers",
        ):
            assert 'class="fault"' in ask(writes)
        assert spark.table(f"{schema}.customers").count() == 1
        endless = post("SELECT sum(id) FROM range(10000000000000)")
        deadline = time.monotonic() + 30
        while not spark.sparkContext.statusTracker().getActiveJobsIds() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.post(f"{endless}/cancel", data={"form_token": ACCESS.form}).status_code == 303
        assert "canceled" in client.get(endless).text and "1 row in" in ask("SELECT 1")
        shown = client_of(project, session=lambda: nullcontext(spark), show_pii=True)
        assert "ann@example.com" in ask("SELECT email FROM {s}.seen", shown)
    finally:
        spark.sql(f"DROP SCHEMA {schema} CASCADE")


def test_the_command_says_in_one_line_why_it_does_not_start(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("LAKEHOUSE_HOME", raising=False)

    def said(*arguments: str, cwd: Path) -> str:
        monkeypatch.chdir(cwd)
        assert main(["ui", *arguments]) == 1
        return capsys.readouterr().err

    assert said(cwd=tmp_path).startswith("error: there is no databricks.yml here or above")
    write_bundle(tmp_path / "b")
    assert said(cwd=tmp_path / "b").endswith("run `lakeflow-local setup` first\n")
    (tmp_path / "b" / ".lakehouse" / "jars").mkdir(parents=True)
    assert "a port is from" in said("--port", "99999", cwd=tmp_path / "b")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert said("--port", port, cwd=tmp_path / "b").endswith("in use; give another\n")
    (tmp_path / "b" / "databricks.yml").write_text("bundle: [")
    assert "databricks.yml" in said(cwd=tmp_path / "b")


@pytest.fixture
def served(worker_home: Home, endpoints, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """The command as a person starts it, on the servers of the tests and tables of its own."""
    write_bundle(tmp_path / "b", schema=f"ui_{uuid.uuid4().hex[:8]}")
    home = tmp_path / "home"
    home.mkdir()
    for link in worker_home.path.iterdir():
        if link.is_symlink():
            (home / link.name).symlink_to(link.resolve())
    process = subprocess.Popen(
        [sys.executable, "-m", "lakeflow_local.cli", "ui", "--allow-runs"],
        cwd=tmp_path / "b",
        env={**os.environ, "LAKEHOUSE_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip(), process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture
def browser(tmp_path: Path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    switches = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    more = f"--disable-component-update --disable-sync --user-data-dir={tmp_path / 'browser'}"
    for switch in f"{switches} {more}".split():
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver")
def test_in_a_browser_a_run_is_started_and_watched_to_its_end(served, browser) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    url, process = served
    base = url.partition("/?")[0]
    browser.get(url)
    assert browser.current_url == f"{base}/" and "Jobs and pipelines" in browser.title
    browser.get(f"{base}/jobs/refresh")
    browser.find_element(By.CSS_SELECTOR, "button.main").click()
    wait = WebDriverWait(browser, 120, poll_frequency=0.2)
    seen = set()

    def ended(_: object) -> bool:
        state = browser.execute_script("return document.querySelector('[data-state]').dataset.state")
        seen.add(state.rpartition(": ")[2])
        return bool(seen & {"SUCCESS", "FAILED", "INTERNAL_ERROR"})

    wait.until(ended)  # by the page alone: it is not loaded again
    assert {"RUNNING", "SUCCESS"} <= seen
    assert "SUCCESS" in browser.find_element(By.ID, "announcement").get_attribute("textContent")
    wait.until(lambda _: browser.find_element(By.CSS_SELECTOR, "tbody th a")).click()
    assert "rows" in browser.find_element(By.CSS_SELECTOR, "pre").text
    paths = ["/", "/jobs/refresh", "/tables", "/sql", browser.current_url.removeprefix(base)]
    paths.append(browser.find_element(By.LINK_TEXT, "update").get_attribute("href").removeprefix(base))
    browser.get(f"{base}/pipelines/orders")
    row = browser.find_element(By.CSS_SELECTOR, "tr.failing")
    assert "amount_is_positive" in row.text and row.find_element(By.CSS_SELECTOR, ".bar").get_attribute(
        "aria-label"
    ) == ("1 passed, 2 failed")
    paths.append(browser.find_element(By.CSS_SELECTOR, "figure a").get_attribute("href") or "")
    for path in paths:
        browser.get(base + path if path.startswith("/") else base)
        assert browser.find_element(By.TAG_NAME, "h1").text
    assert browser.get_log("browser") == []
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
