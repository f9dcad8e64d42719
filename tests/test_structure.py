"""Who may import whom, and what the generic package must not know."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERIC = ROOT / "lakeflow_local"
PRODUCT = ("ingest", "ops", "pipelines", "sql", "quality", "resources", "dashboards")


def tracked(*folders: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def python(*folders: str) -> list[Path]:
    return [file for file in tracked(*folders) if file.suffix == ".py"]


@pytest.mark.parametrize("file", python(*PRODUCT), ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_above_the_local_platform_imports_it(file: Path):
    assert "lakeflow_local" not in imports(file)


@pytest.mark.parametrize("file", python("lakeflow_local"), ids=lambda f: str(f.relative_to(ROOT)))
def test_the_local_platform_imports_nothing_above_it(file: Path):
    assert not imports(file) & {*PRODUCT, "demo", "tests", "benchmarks"}


def test_the_local_platform_knows_neither_members_nor_invoices():
    told = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in tracked("lakeflow_local")
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(r"(?<![a-z])(members?|invoices?)(?![a-z])", line, re.IGNORECASE)
    ]
    assert told == []


def test_nothing_committed_names_a_registry_host_or_a_path_of_a_machine():
    bad = re.compile(r"(files\.pythonhosted\.org|repo1?\.maven\.org|pypi\.org/simple|/work/(main|shared)|/root/)")
    told = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in tracked()
        if file != Path(__file__) and file.suffix not in (".png", ".pdf")
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if bad.search(line)
    ]
    assert told == []
