"""`make bundle-validate`: every target by lakeflow-local, then by the databricks CLI where it is installed.

The CLI asks a workspace who is there even to validate. Where none is configured (`DATABRICKS_HOST`, a profile), a small
stand-in on this machine answers: a user, a workspace without files in which folders can be made, and nothing else. What
the CLI asks for was read in its sources (`bundle/config/validate`, `libs/sync`) and in its own test server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from lakeflow_local import cli

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("dev", "staging", "prod")
# What only the one who deploys knows; values of the environment win.
GIVEN = {
    "BUNDLE_VAR_service_principal": "00000000-0000-0000-0000-000000000000",
    "BUNDLE_VAR_on_call": "on-call@example.com",
}
USER = {"id": "1", "userName": "stand-in@example.com", "displayName": "Stand-in", "active": True}


class StandIn(BaseHTTPRequestHandler):
    """The part of a workspace's API that validation asks for."""

    folders: ClassVar[set[str]] = {"/", "/Workspace"}

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/api/2.0/preview/scim/v2/Me":
            return self._answer(200, USER)
        path = parse_qs(asked.query).get("path", [""])[0]
        if asked.path == "/api/2.0/workspace/get-status" and path in self.folders:
            return self._answer(200, {"path": path, "object_type": "DIRECTORY", "object_id": 1})
        self._refuse()

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if urlsplit(self.path).path == "/api/2.0/workspace/mkdirs":
            self.folders.add(json.loads(content)["path"])
            return self._answer(200, {})
        if urlsplit(self.path).path == "/telemetry-ext":
            return self._answer(200, {"errors": [], "numProtoSuccess": 1})
        self._refuse()

    def do_HEAD(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        self._answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"not here: {self.path}"})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Databricks-Org-Id", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the CLI tells what goes wrong."""


@contextmanager
def workspace() -> Iterator[dict[str, str]]:
    """The environment that leads the CLI to a workspace: the user's own, else the stand-in."""
    own = ("DATABRICKS_HOST", "DATABRICKS_CONFIG_PROFILE")
    if any(os.environ.get(name) for name in own) or (Path.home() / ".databrickscfg").is_file():
        yield {}
        return
    print("no workspace is configured: a stand-in on this machine answers", flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield {"DATABRICKS_HOST": f"http://127.0.0.1:{server.server_port}", "DATABRICKS_TOKEN": "stand-in"}
    finally:
        server.shutdown()


def main() -> int:
    os.chdir(ROOT)
    os.environ.update({**GIVEN, **os.environ})
    failed = sum(cli.main(["bundle", "validate", "-t", target]) != 0 for target in (*TARGETS, "local"))
    sys.stdout.flush()
    databricks = shutil.which("databricks")
    if databricks is None:
        print("the databricks CLI is not installed: its own strict validation was left out")
        return 1 if failed else 0
    with workspace() as host:
        for target in TARGETS:
            command = [databricks, "bundle", "validate", "--strict", "-t", target]
            failed += subprocess.run(command, env={**os.environ, **host}).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
