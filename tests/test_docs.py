"""What the documents say: pictures are those of the sources, and links lead somewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
