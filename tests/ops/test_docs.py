"""`docs/operations.md` names commands, alerts, jobs and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from lakeflow_local.bundle import load
from lakeflow_local.cli import build_parser
from ops.cli import parser

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
COMMAND = r"(?:lakehouse-ops|lakeflow-local) "
WRITTEN = [*re.findall(rf"`({COMMAND}[^`]+)`", TEXT), *re.findall(rf"^{COMMAND}.*", TEXT, re.MULTILINE)]
COMMANDS = sorted({re.split(r"  #| <", line)[0].strip() for line in WRITTEN})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood_and_names_what_exists(command: str) -> None:
    program, *arguments = shlex.split(command)
    args = (parser() if program == "lakehouse-ops" else build_parser()).parse_args(arguments)
    bundle = load.load(ROOT, environment={})
    if program == "lakehouse-ops":
        for type, name in (("jobs", getattr(args, "job", None)), ("pipelines", getattr(args, "pipeline", None))):
            assert name is None or bundle.find(name, type).name == name
        if getattr(args, "job", None):
            known = {item.plain("name") for item in bundle.find(args.job, "jobs").value.sequence("parameters")}
            assert {pair.partition("=")[0] for pair in args.param} <= known
    elif hasattr(args, "key"):
        assert bundle.find(args.key, "jobs", "pipelines", "alerts")


def test_what_it_names_exists() -> None:
    bundle = load.load(ROOT, environment={})
    assert set(re.findall(r"\(alert `(\w+)`\)", TEXT)) == set(bundle.of_type("alerts"))
    for path in re.findall(r"`((?:resources|docs|tools)/[\w./]+)`", TEXT):
        assert (ROOT / path).is_file(), path
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())
    wanted = set(re.findall(r"vars\.(\w+)", str(workflow)))
    assert wanted <= set(re.findall(r"`([A-Z_]+)`", TEXT))
    for alert in bundle.of_type("alerts").values():
        title = re.search(r'operations\.md, "(.+?)"', str(alert.value.plain("custom_description")))
        assert title and f"### {title[1]}" in TEXT
