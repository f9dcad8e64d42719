"""`make bundle-validate` with a stand-in for the CLI that asks the workspace who is there, as the CLI does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLI = f"""#!{sys.executable} -S
import json, os, sys, urllib.error, urllib.parse, urllib.request
def ask(path, content=None):
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(os.environ["DATABRICKS_HOST"] + path, data)
    request.add_header("Authorization", "Bearer " + os.environ["DATABRICKS_TOKEN"])
    return json.load(urllib.request.urlopen(request))
print("cli", *sys.argv[1:], ask("/api/2.0/preview/scim/v2/Me")["userName"], os.environ["BUNDLE_VAR_on_call"])
folder = "/Workspace/Users/stand-in@example.com/" + sys.argv[-1]
status = "/api/2.0/workspace/get-status?path=" + urllib.parse.quote(folder, safe="")
try:
    ask(status)
except urllib.error.HTTPError as error:
    print(error.code, json.load(error)["error_code"])
ask("/api/2.0/workspace/mkdirs", {{"path": folder}})
print(ask(status)["object_type"])
sys.exit(sys.argv[-1] == os.environ.get("FAILS"))
"""


def run(tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DATABRICKS_", "BUNDLE_VAR_"))}
    environment = {**kept, "HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin", **more}
    command = [sys.executable, "tools/bundle_validate.py"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(os.access("/usr/bin/databricks", os.X_OK), reason="the databricks CLI is where this test hides it")
def test_without_the_cli_its_part_is_left_out_and_said(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        *(f"member_lakehouse, target {target}" for target in ("dev", "staging", "prod", "local")),
        "the databricks CLI is not installed",
    ]


def test_the_cli_validates_each_target_against_a_stand_in_of_the_workspace(tmp_path: Path) -> None:
    cli = tmp_path / "databricks"
    cli.write_text(CLI)
    cli.chmod(0o755)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no workspace is configured: a stand-in on this machine answers" in done.stdout
    for target in ("dev", "staging", "prod"):
        told = f"cli bundle validate --strict -t {target} stand-in@example.com on-call@example.com"
        assert f"{told}\n404 RESOURCE_DOES_NOT_EXIST\nDIRECTORY" in done.stdout
    assert run(tmp_path, FAILS="prod").returncode == 1
    assert run(tmp_path, BUNDLE_VAR_landing_url="here").returncode == 1


@pytest.mark.skipif(shutil.which("databricks") is None, reason="the databricks CLI is not installed here")
def test_the_installed_cli_finds_no_fault(tmp_path: Path) -> None:
    done = run(tmp_path, PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^Target: (\w+)$", done.stdout, re.MULTILINE) == ["dev", "staging", "prod"]
