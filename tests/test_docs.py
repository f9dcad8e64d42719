"""What the documents say: pictures are those of the sources, and links lead somewhere."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lakeflow_local import cli
from lakeflow_local.bundle import load
from lakeflow_local.pipelines import notebooks
from tools import pictures

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_pictures_are_those_of_the_sources() -> None:
    drawn = pictures.drawn()
    stale = [file.name for file, text in drawn.items() if not file.is_file() or file.read_text("utf-8") != text]
    assert stale == [], "run make pictures"
    kept = set((ROOT / "docs" / "pictures").glob("*.job.svg"))
    assert kept == {file for file in drawn if file.suffix == ".svg"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_to_what_is_tracked(document: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    known = {ROOT / name for name in listed.stdout.splitlines()}
    known |= {parent for file in known for parent in file.parents}
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if (document.parent / link).resolve() not in known] == []


SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
# Verbs and flags of the databricks CLI as its sources have them (cmd/bundle, cmd/auth); asked of it where it is here.
DATABRICKS = {
    "auth login": {"--host", "--profile"},
    "bundle validate": {"-t", "--strict", "--var"},
    "bundle deploy": {"-t", "--var", "--auto-approve"},
    "bundle summary": {"-t", "--var"},
    "bundle run": {"-t", "--var", "--params"},
    "bundle destroy": {"-t", "--var", "--auto-approve"},
}


def commands() -> list[tuple[str, list[str], bool]]:
    """Program, arguments, and whether it stands in a block to be copied, of all commands in the documents."""
    program = rf"(?:\.venv/bin/)?((?:databricks|lakeflow-local|{'|'.join(SCRIPTS)}) "
    found = {}
    for document in [*DOCUMENTS, ROOT / "benchmarks" / "README.md"]:
        text = document.read_text(encoding="utf-8").replace("\\\n", "")
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        whole = [line for block in blocks for line in re.findall(rf"^{program}.*)", block, re.MULTILINE)]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for complete, lines in ((True, whole), (False, re.findall(rf"`{program}[^`]+)`", prose))):
            for line in lines:
                found[tuple(shlex.split(" ".join(re.split(r"\s#|\s<", line)[0].split())))] = complete
    return [(program, arguments, complete) for (program, *arguments), complete in found.items()]


def script(name: str) -> argparse.ArgumentParser:
    """The parser of an entry point, taken where it is about to parse."""

    class Made(Exception):
        pass

    def taken(self: argparse.ArgumentParser, *_: object) -> None:
        raise Made(self)

    module = importlib.import_module(SCRIPTS[name].partition(":")[0])
    if hasattr(module, "parser"):
        return module.parser()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Made) as made:
        patch.setattr(argparse.ArgumentParser, "parse_args", taken)
        module._parse([])
    return made.value.args[0]


def chosen(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.ArgumentParser:
    """The parser of the subcommand that the arguments begin with."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and arguments:
            assert arguments[0] in action.choices, f"{parser.prog} has no {arguments[0]}"
            return chosen(action.choices[arguments[0]], arguments[1:])
    return parser


def test_documented_commands_are_those_there_are() -> None:
    bundle = load.load(ROOT, environment={})
    programs = {"lakeflow-local": cli.build_parser()}
    seen = set()
    for program, arguments, complete in commands():
        seen.add(program)
        flags = {word.partition("=")[0] for word in arguments if word.startswith("-")}
        if program == "databricks":
            verb = " ".join(arguments[:2])
            assert flags <= DATABRICKS[verb], f"{program} {verb}"
            if verb == "bundle run":
                assert bundle.find(arguments[2], "jobs", "pipelines")
            continue
        parser = programs.get(program) or programs.setdefault(program, script(program))
        if complete:
            parser.parse_args(arguments)
        assert flags <= {*chosen(parser, arguments)._option_string_actions}, f"{program} {shlex.join(arguments)}"
    assert seen >= {"databricks", "lakeflow-local", "lakehouse-ops", "land-invoices", "members-generate"}


@pytest.mark.skipif(shutil.which("databricks") is None, reason="the databricks CLI is not installed here")
@pytest.mark.parametrize("verb", DATABRICKS)
def test_the_installed_cli_has_those_flags(verb: str) -> None:
    told = subprocess.run(["databricks", *verb.split(), "--help"], check=True, capture_output=True, text=True).stdout
    assert {flag for flag in DATABRICKS[verb] if not re.search(rf"(?<![\w-]){flag}\b", told)} == set()


def test_the_pages_of_notebooks_have_the_cells_of_now() -> None:
    for file in sorted((ROOT / "docs" / "notebooks").glob("*.py")):
        page = (file.parent / "pages" / f"{file.stem}.md").read_text(encoding="utf-8")
        for cell in notebooks.cells(file.read_text(encoding="utf-8"), file, markdown=True):
            text = cell.text.removeprefix("# Databricks notebook source").strip()
            assert text in page, f"{file.name}:{cell.line}: run make notebooks"


def test_the_tutorial_holds_together(tmp_path: Path) -> None:
    """Its steps on a copy, up to what a session is needed for; the blocks are taken from its text."""
    for name in ("databricks.yml", "resources", "pipelines", "sql", "dashboards", "ingest", "ops", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    rule, dataset = (block for kind, block in blocks if kind in ("text", "python"))
    severity, query = (block for kind, block in blocks if kind == "sql")
    source, tile = (json.loads(block) for kind, block in blocks if kind == "json")

    def edit(path: str, after: str, text: str) -> None:
        before = (tmp_path / path).read_text(encoding="utf-8")
        assert before.count(after) == 1
        (tmp_path / path).write_text(before.replace(after, after + text), encoding="utf-8")

    edit("pipelines/members/rules.py", '    _present("city", "deliveries go there"),\n', rule)
    edit("sql/quality/shared/catalogue.sql", "FROM VALUES\n", severity)
    (tmp_path / "pipelines/members/gold/members_by_city.py").write_text(dataset, encoding="utf-8")
    (tmp_path / "sql/quality/cities.sql").write_text(query, encoding="utf-8")
    file = tmp_path / "dashboards/data_quality.lvdash.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["datasets"].append(source)
    next(page for page in content["pages"] if page["name"] == "pipeline")["layout"].append(tile)
    file.write_text(json.dumps(content), encoding="utf-8")

    commands = [line for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    offline = ("pipelines graph", "bundle validate", "dashboards.build", "dashboard lint")
    done = [
        subprocess.run(
            [sys.executable, "-m", *command.removeprefix(".venv/bin/").replace("python -m ", "").split()],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for command in (line.replace("lakeflow-local", "lakeflow_local.cli") for line in commands)
        if any(words in command for words in offline)
    ]
    assert len(done) == 6 and "gold.members_by_city" in done[3]
    built = json.loads(file.read_text(encoding="utf-8"))
    assert "FROM IDENTIFIER(:gold_schema || '.members_by_city')\n" in built["datasets"][-1]["queryLines"]
