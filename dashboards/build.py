"""Puts the SQL of `sql/` into the dashboards: `python -m dashboards.build`, after a change of either.

The layout is kept in the .lvdash.json alone, where Databricks' editor writes it too; a dataset's SQL is kept in the
file of its name in `sql/quality`, `sql/ops` or `sql/analysis`.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "dashboards" / "data_quality.lvdash.json",)
_FOLDERS = tuple(ROOT / "sql" / name for name in ("quality", "ops", "analysis"))
_INCLUDE = re.compile(r"^( *)--include (\w+)$", re.MULTILINE)
# The bundle gives a dashboard its catalog; schemas have a default in each dataset.
_CATALOG = re.compile(r"IDENTIFIER\(:catalog \|\| '\.' \|\| ")


def query(name: str) -> str:
    """The SQL of a dataset, as a dashboard holds it: fragments put in, the catalog left to the bundle.

    Raises:
        FileNotFoundError: no folder has `name`.sql, or there is no fragment of an included name.
    """
    file = next((folder / f"{name}.sql" for folder in _FOLDERS if (folder / f"{name}.sql").is_file()), None)
    if file is None:
        raise FileNotFoundError(f"no {name}.sql in sql/quality, sql/ops or sql/analysis")
    text = _with_fragments(file.read_text(encoding="utf-8"))
    return _CATALOG.sub("IDENTIFIER(", text).strip().removesuffix(";") + "\n"


def _with_fragments(text: str) -> str:
    def fragment(match: re.Match[str]) -> str:
        inner = (ROOT / "sql" / "quality" / "shared" / f"{match[2]}.sql").read_text(encoding="utf-8")
        return textwrap.indent(_with_fragments(inner).rstrip(), match[1])

    return _INCLUDE.sub(fragment, text)


def built(file: Path) -> str:
    """The text of a dashboard with the SQL of now."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for dataset in content["datasets"]:
        text = query(dataset["name"])
        dataset["queryLines"] = text.splitlines(keepends=True)
        dataset["parameters"] = [
            _parameter(keyword) for keyword in dict.fromkeys(re.findall(r"(?<!:):(\w+_schema)\b", text))
        ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _parameter(keyword: str) -> dict:
    """A schema's name: that of every target but `dev`, whose schemas carry the user's name before it."""
    value = keyword.removesuffix("_schema")
    return {
        "displayName": keyword,
        "keyword": keyword,
        "dataType": "STRING",
        "defaultSelection": {"values": {"dataType": "STRING", "values": [{"value": value}]}},
    }


def main() -> None:
    for file in FILES:
        file.write_text(built(file), encoding="utf-8")


if __name__ == "__main__":
    main()
