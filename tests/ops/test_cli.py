# ruff: noqa: E501 - a table of cases reads best with a case a line
"""`lakehouse-ops` against a server that records requests and answers as a workspace does: real HTTP, no mocks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from ops import queries
from ops.cli import main

TOKEN = "dapi-not-to-be-shown"
PIPELINE = "0b5d7a1e-52fb-4b8f-8a59-2f1f2a9b7c11"


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: dict
    authorization: str | None


@dataclass
class Workspace:
    """Answers by method and path; of several answers each is given once and the last one again and again."""

    answers: dict[str, list[tuple[int, dict]]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    def on(self, route: str, *bodies: dict | tuple[int, dict]) -> None:
        self.answers[route] = [body if isinstance(body, tuple) else (200, body) for body in bodies]

    def asked(self, route: str) -> list[Request]:
        return [request for request in self.requests if f"{request.method} {request.path}" == route]

    def answer(self, request: Request) -> tuple[int, dict]:
        self.requests.append(request)
        answers = self.answers.get(f"{request.method} {request.path}")
        if not answers:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{request.path} does not exist"}
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            request = Request(self.command, parts.path, query, body, self.headers.get("Authorization"))
            status, content = made.answer(request)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if status in (429, 503):
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATABRICKS_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DATABRICKS_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "160")
    yield made
    server.shutdown()
    server.server_close()


def ops(*arguments: str) -> int:
    return main([*arguments, "--poll", "0.01"])


def state(name: str) -> dict:
    return {"update": {"update_id": "u1", "state": name}}


PIPELINES, UPDATES = "GET /api/2.0/pipelines", f"POST /api/2.0/pipelines/{PIPELINE}/updates"
UPDATE, EVENTS = f"GET /api/2.0/pipelines/{PIPELINE}/updates/u1", f"GET /api/2.0/pipelines/{PIPELINE}/events"


def with_pipeline(workspace: Workspace, *states: str) -> None:
    others = {"pipeline_id": "other", "name": "members_old"}
    workspace.on(PIPELINES, {"statuses": [{"pipeline_id": PIPELINE, "name": "members"}, others]})
    workspace.on(UPDATES, {"update_id": "u1"})
    workspace.on(UPDATE, *map(state, states))


def test_an_update_is_followed_to_its_end(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with_pipeline(workspace, "QUEUED", "RUNNING", "RUNNING", "COMPLETED")
    assert ops("update", "members") == 0
    told = ["started", *(f": {name}" for name in ("QUEUED", "RUNNING", "COMPLETED"))]
    assert capsys.readouterr().out.splitlines() == [f"update u1 {told[0]}", *(f"update u1{line}" for line in told[1:])]
    assert workspace.asked(PIPELINES)[0].query["filter"] == "name LIKE 'members'"
    assert workspace.asked(UPDATES)[0].body == {}
    assert {request.authorization for request in workspace.requests if request.path.startswith("/api")} == {
        f"Bearer {TOKEN}"
    }

    with_pipeline(workspace, "COMPLETED")
    assert ops("update", "members", "--full-refresh", "gold.a, gold.b") == 0
    assert workspace.asked(UPDATES)[1].body == {"full_refresh_selection": ["gold.a", "gold.b"]}
    assert ops("update", "members", "--full-refresh-all") == 0
    assert workspace.asked(UPDATES)[2].body == {"full_refresh": True}


def test_a_failed_update_tells_the_errors_of_its_event_log(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with_pipeline(workspace, "RUNNING", "FAILED")
    event = {
        "level": "ERROR",
        "message": "Flow 'fact_invoice' has FAILED.\nlines_add_up_to_total",
        "origin": {"update_id": "u1"},
    }
    workspace.on(EVENTS, {"events": [event, event, {**event, "message": "of another", "origin": {"update_id": "u0"}}]})
    assert ops("update", "members") == 1
    assert capsys.readouterr().err == (
        "error: the update u1 ended as FAILED: Flow 'fact_invoice' has FAILED. lines_add_up_to_total\n"
    )
    assert workspace.asked(EVENTS)[0].query["filter"] == "level='ERROR'"


def test_a_name_must_be_that_of_one_pipeline(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.on(PIPELINES, {"statuses": []})
    assert ops("update", "members") == 1
    assert "there is no pipeline members that you may see" in capsys.readouterr().err
    workspace.on(PIPELINES, {"statuses": [{"pipeline_id": id, "name": "members"} for id in ("a", "b")]})
    assert ops("update", "members") == 1
    assert "2 pipelines are named members: a, b; give the id of one" in capsys.readouterr().err


def job_run(life_cycle: str, result: str | None = None, **tasks: tuple[str, str | None, str]) -> dict:
    def as_state(life_cycle: str, result: str | None, message: str = "") -> dict:
        return {
            "life_cycle_state": life_cycle,
            "state_message": message,
            **({"result_state": result} if result else {}),
        }

    return {
        "run_id": 7,
        "run_page_url": "https://w/run/7",
        "state": as_state(life_cycle, result),
        "tasks": [{"task_key": key, "state": as_state(*values)} for key, values in tasks.items()],
    }


def test_a_run_is_followed_and_its_failed_tasks_are_told(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.on("GET /api/2.2/jobs/list", {"jobs": [{"job_id": 5, "settings": {"name": "members_ingest"}}]})
    workspace.on("POST /api/2.2/jobs/run-now", {"run_id": 7})
    workspace.on(
        "GET /api/2.2/jobs/runs/get",
        job_run("RUNNING", ingest=("PENDING", None, "")),
        job_run("RUNNING", ingest=("RUNNING", None, "")),
        job_run("TERMINATED", "SUCCESS", ingest=("TERMINATED", "SUCCESS", "")),
    )
    assert ops("run", "members_ingest", "--param", "mode=reconcile") == 0
    assert capsys.readouterr().out.splitlines() == [
        "run 7 started", "run 7: ingest: PENDING", "run 7: ingest: RUNNING", "run 7: ingest: SUCCESS",
        "run 7: SUCCESS: https://w/run/7",
    ]  # fmt: skip
    assert workspace.asked("GET /api/2.2/jobs/list")[0].query["name"] == "members_ingest"
    assert workspace.asked("POST /api/2.2/jobs/run-now")[0].body == {
        "job_id": 5,
        "job_parameters": {"mode": "reconcile"},
    }

    failed = job_run(
        "TERMINATED", "FAILED", a=("TERMINATED", "FAILED", "MySQL refuses"), b=("TERMINATED", "UPSTREAM_FAILED", "")
    )
    workspace.on("GET /api/2.2/jobs/runs/get", failed)
    assert ops("run", "5") == 1
    assert capsys.readouterr().err == "error: the run 7 ended as FAILED: a: MySQL refuses\n"
    assert ops("run", "5", "--param", "mode") == 1
    assert "--param mode: write --param NAME=VALUE" in capsys.readouterr().err


STATEMENTS = "POST /api/2.0/sql/statements"


def rows(*values: list, columns: dict[str, str] | None = None, **result: object) -> dict:
    columns = columns or {"what": "STRING", "state": "STRING", "n": "DECIMAL"}
    described = [{"name": name, "type_name": type, "position": at} for at, (name, type) in enumerate(columns.items())]
    return {
        "statement_id": "s1",
        "status": {"state": "SUCCEEDED"},
        "manifest": {"schema": {"columns": described}},
        "result": {"data_array": list(values), **result},
    }


def with_warehouse(workspace: Workspace, *answers: dict) -> None:
    ours = {"id": "w1", "name": "[dev ann] member_lakehouse operations"}
    workspace.on("GET /api/2.0/sql/warehouses", {"warehouses": [ours, {"id": "w2", "name": "other"}]})
    workspace.on(STATEMENTS, *answers)


def test_a_sql_file_is_run_and_all_its_rows_are_shown_or_saved(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.sql"
    file.write_text("SELECT :x")
    with_warehouse(workspace, {"statement_id": "s1", "status": {"state": "PENDING"}})
    done = rows(["a", None, "1.50"], next_chunk_index=1)
    workspace.on("GET /api/2.0/sql/statements/s1", {"statement_id": "s1", "status": {"state": "RUNNING"}}, done)
    workspace.on("GET /api/2.0/sql/statements/s1/result/chunks/1", {"data_array": [["b", "[red]", "12"]]})
    assert ops("sql", str(file), "--param", "x=1") == 0
    out = capsys.readouterr().out
    assert "NULL" in out and "[red]" in out and "│   12 │" in out
    sent = workspace.asked(STATEMENTS)[0].body
    assert (sent["statement"], sent["warehouse_id"]) == ("SELECT :x", "w1")
    assert sent["parameters"] == [{"name": "x", "value": "1"}]

    assert ops("sql", str(file), "--save", str(tmp_path / "a.csv"), "--warehouse", "other") == 0
    assert (tmp_path / "a.csv").read_text() == "what,state,n\na,,1.50\nb,[red],12\n"
    assert workspace.asked(STATEMENTS)[1].body["warehouse_id"] == "w2"
    assert ops("sql", str(file), "--save", str(tmp_path / "a.json")) == 0
    assert json.loads((tmp_path / "a.json").read_text())[0] == {"what": "a", "state": None, "n": "1.50"}
    assert ops("sql", str(file), "--save", str(tmp_path / "a.xls")) == 1
    assert ops("sql", str(file), "--warehouse", "absent") == 1
    assert ops("sql", str(tmp_path / "absent.sql")) == 1
    error = {"statement_id": "s1", "status": {"state": "FAILED", "error": {"message": "[TABLE_OR_VIEW_NOT_FOUND] t"}}}
    workspace.on(STATEMENTS, error)
    assert ops("sql", str(file)) == 1
    assert [line for line in capsys.readouterr().err.splitlines() if line] == [
        f"error: {tmp_path}/a.xls: rows are saved as .csv or .json",
        "error: name one warehouse by --warehouse; matching 'absent': none",
        f"error: {tmp_path}/absent.sql cannot be read: [Errno 2] No such file or directory: '{tmp_path}/absent.sql'",
        "error: the statement failed: [TABLE_OR_VIEW_NOT_FOUND] t",
    ]


def test_freshness_expectations_and_cost_run_our_own_queries(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with_warehouse(workspace, rows(["members", "fresh", "1"]))
    assert ops("freshness", "--catalog", "c") == 0
    with_warehouse(workspace, rows(["members", "STALE", "99"], ["other", "fresh", "1"]))
    assert ops("freshness") == 1
    assert capsys.readouterr().err == "error: stale: members; see docs/operations.md\n"
    assert ops("expectations", "members", "--update", "u9") == 0
    assert ops("cost", "--days", "7") == 0
    assert [(r.body["statement"], {p["name"]: p["value"] for p in r.body["parameters"]}) for r in workspace.asked(STATEMENTS)] == [
        (queries.named("freshness"), {"catalog": "c", "ops_schema": "ops"}),
        (queries.named("freshness"), {"catalog": "lakehouse", "ops_schema": "ops"}),
        (queries.named("expectations"), {"event_log": "lakehouse.ops.members_event_log", "update_id": "u9"}),
        (queries.named("cost"), {"days": "7"}),
    ]  # fmt: skip


def test_a_secret_comes_from_standard_input(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    workspace.on("POST /api/2.0/secrets/put", {})
    monkeypatch.setattr("sys.stdin", io.StringIO("mysql://u:p@h/d\n"))
    assert ops("put-secret", "member_lakehouse_prod", "mysql_url") == 0
    (request,) = workspace.asked("POST /api/2.0/secrets/put")
    assert request.body == {"scope": "member_lakehouse_prod", "key": "mysql_url", "string_value": "mysql://u:p@h/d"}
    assert capsys.readouterr().out == "member_lakehouse_prod/mysql_url is put\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert ops("put-secret", "a", "b") == 1


def test_what_passes_is_tried_again(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with_pipeline(workspace, "COMPLETED")
    busy = {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"}
    down = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "in a moment"}
    workspace.on(UPDATE, (429, busy), (503, down), state("COMPLETED"))
    assert ops("update", "members") == 0
    assert len(workspace.asked(UPDATE)) == 3


EXPIRED = {"error_code": "401", "message": "Credential was not sent or was of an unsupported type: token expired"}
REFUSALS = {
    "expired": ((401, EXPIRED), 3, "the workspace does not accept the login: ", "databricks auth login"),
    "revoked": ((403, {"error_code": "403", "message": "Invalid access token."}), 3, "the workspace refuses: Invalid access token", "renew the token"),
    "forbidden": ((403, {"error_code": "PERMISSION_DENIED", "message": "no CAN_RUN"}), 3, "the workspace refuses: no CAN_RUN", "ask for the permission"),
    "broken": ((500, {"error_code": "INTERNAL_ERROR", "message": "boom"}), 1, "the workspace answered: boom", ""),
    "missing": ((404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}), 3, "not found: gone", ""),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "code", "begin", "contains"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_line_without_the_token(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], answer: tuple, code: int, begin: str, contains: str
) -> None:
    workspace.on(PIPELINES, answer)
    assert ops("update", "members") == code
    told = capsys.readouterr().err
    assert told.startswith(f"error: {begin}") and contains in told
    assert told.count("\n") == 1 and TOKEN not in told and "Config" not in told


def test_no_login_and_no_workspace_are_told(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.cli._RETRY_SECONDS", 1)
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")
    assert ops("update", "members") == 4
    assert "the workspace cannot be reached or stays busy: " in capsys.readouterr().err
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.delenv(name)
    assert ops("update", "members") == 3
    assert "cannot configure default credentials; run `databricks auth login`" in capsys.readouterr().err
