"""The workflows of CI: read by zizmor, pinned, without secrets, and calling only what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> dict:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return {**content, "on": content.pop(True)}  # YAML 1.1 takes `on` for a truth value


def zizmor(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", "--min-severity=medium", *files]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_zizmor_finds_nothing_of_weight() -> None:
    done = zizmor(*WORKFLOWS)
    assert done.returncode == 0, done.stdout


def test_zizmor_would_find_it(tmp_path: Path) -> None:
    text = (ROOT / ".github/workflows/deploy.yml").read_text()
    seeded = tmp_path / "deploy.yml"
    seeded.write_text(re.sub(r"actions/checkout@\w+", "actions/checkout@main", text))
    assert "unpinned-uses" in zizmor(seeded).stdout
    seeded.write_text(text.replace('deploy -t "$TARGET"', "deploy -t ${{ github.ref_name }}"))
    assert "template-injection" in zizmor(seeded).stdout


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_hash_with_their_version(file: Path) -> None:
    text = file.read_text()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert action.startswith("./.github/") or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
        assert action.startswith("./") or re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert "secrets." not in text


def test_permissions_are_the_least() -> None:
    for name in ("check", "deploy"):
        workflow = read(name)
        assert workflow["permissions"] == {"contents": "read"}
        for key, job in workflow["jobs"].items():
            wanted = (
                {"contents": "read", "id-token": "write"}
                if (name, key) == ("deploy", "deploy")
                else {"contents": "read"}
            )
            assert job.get("permissions", workflow["permissions"]) == wanted


def test_main_goes_to_staging_and_a_tag_to_prod_after_the_checks() -> None:
    workflow = read("deploy")
    assert workflow["on"] == {"push": {"branches": ["main"], "tags": ["v*"]}}
    job = workflow["jobs"]["deploy"]
    assert job["needs"] == "check" and workflow["jobs"]["check"]["uses"] == "./.github/workflows/check.yml"
    assert job["environment"] == job["env"]["TARGET"] == "${{ github.ref_type == 'tag' && 'prod' || 'staging' }}"
    assert job["env"]["DATABRICKS_AUTH_TYPE"] == "github-oidc"
    given = {name.removeprefix("BUNDLE_VAR_") for name in job["env"] if name.startswith("BUNDLE_VAR_")}
    assert given <= set(yaml.safe_load((ROOT / "databricks.yml").read_text())["variables"])


def test_what_the_workflows_run_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = [step["run"] for job in read("check")["jobs"].values() for step in job["steps"] if "run" in step]
    assert {run.split()[1] for run in runs if run.startswith("make ")} == {"setup", "lint", "test"} <= targets
    for path in re.findall(r"tools/[\w.]+", "\n".join(runs)):
        assert (ROOT / path).is_file()
