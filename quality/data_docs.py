"""Data Docs of Great Expectations as pages that need no network: what they load from other hosts is left out, and the
index, which a script of another host would fill, is a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any


def site(folder: Path) -> dict[str, Any]:
    """The configuration of a site in a folder."""
    return {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "show_how_to_buttons": False,
    }


def finish(folder: Path, held: Mapping[str, tuple[int, int]]) -> None:
    """Makes the pages of a site readable offline.

    Args:
        held: suite (`layer.table`, as its page is named) → how many of its expectations held, and how many there are.
    """
    for page in folder.rglob("*.html"):
        page.write_text(offline(page.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "index.html").write_text(_index(folder, held), encoding="utf-8")


_REMOTE = re.compile(
    r"<script\b.*?</script>"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|<img\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>",
    re.IGNORECASE | re.DOTALL,
)


def offline(page: str) -> str:
    """A page of Data Docs without scripts and what it loads from other hosts, and with a style for its classes."""
    return _REMOTE.sub("", page).replace("</head>", f"<style>{_STYLE}</style></head>", 1)


def _index(folder: Path, held: Mapping[str, tuple[int, int]]) -> str:
    rows = []
    for suite, (good, every) in held.items():
        path = suite.replace(".", "/")
        runs = sorted((folder / "validations" / path).rglob("*.html"))
        result = (
            f'<a href="{escape(runs[-1].relative_to(folder).as_posix())}">{good} of {every} hold</a>' if runs else ""
        )
        mark = (
            '<i class="fa-check-circle text-success"></i>' if good == every else '<i class="fa-times text-danger"></i>'
        )
        page = f'<a href="expectations/{escape(path)}.html">{escape(suite)}</a>'
        rows.append(f"<tr><td>{mark}</td><td>{result}</td><td>{page}</td></tr>")
    head = "<tr><th>Status</th><th>Last result</th><th>Suite</th></tr>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><main class="container"><h1>Data Docs</h1><table class="table"><thead>{head}</thead>'
        f"<tbody>{''.join(rows)}</tbody></table></main></body></html>"
    )


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#f6f7f9}
a{color:#0a58ca}img,svg{max-width:100%}h1{font-size:1.4rem}h2,h3,h4,h5,h6{font-size:1.05rem;margin:.25rem 0}
.container,.container-fluid{max-width:1200px;margin:0 auto;padding:1rem}
.row{display:flex;flex-wrap:wrap;gap:1rem}.col,[class*=col-]{flex:1 1 0;min-width:14rem}
.col-lg-2,.col-md-2{flex:0 0 15rem}.col-12{flex:0 0 100%}
.breadcrumb,.list-unstyled,.nav-pills{list-style:none;padding:0;margin:0}
.card,.alert,section{background:#fff;border-radius:6px;padding:.75rem 1rem;margin:.75rem 0}
.ge-section{margin-bottom:1rem;padding-bottom:.5rem}
table,.table{border-collapse:collapse;width:100%;background:#fff}
th,td{border-bottom:1px solid #e3e6ea;padding:.4rem .6rem;text-align:left;vertical-align:top}
.badge{border:1px solid #b9c0c8;border-radius:4px;padding:0 .4rem}.text-success,.fa-check-circle{color:#1a7f37}
.text-danger,.fa-times{color:#b42318}.d-none,.modal,.invisible,.sticky-top,footer{display:none}
.d-md-block{display:block}.cooltip .top{display:none}
.card:has([onclick]),[data-toggle=collapse]{display:none}
.fa-check-circle:before{content:"\\2714"}.fa-times:before{content:"\\2718"}.fa-exclamation-triangle:before{content:"\\26A0"}
.fa-check-circle,.fa-times{font-style:normal}
"""
