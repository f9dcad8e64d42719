"""The linter and the charts of dashboards, without Spark."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import vl_convert

from lakeflow_local.dashboard import charts, document, preview
from lakeflow_local.dashboard.lint import lint
from lakeflow_local.dashboard.rows import Rows
from lakeflow_local.errors import LakeflowError

SOUND = {
    "datasets": [
        {
            "name": "sales",
            "queryLines": ["SELECT day, shop, amount ", "FROM IDENTIFIER(:schema || '.sales')\n"],
            "parameters": [
                {
                    "displayName": "schema",
                    "keyword": "schema",
                    "dataType": "STRING",
                    "defaultSelection": {"values": {"dataType": "STRING", "values": [{"value": "gold"}]}},
                }
            ],
        }
    ],
    "pages": [
        {
            "name": "main",
            "displayName": "Main",
            "pageType": "PAGE_TYPE_CANVAS",
            "layoutVersion": "GRID_V1",
            "layout": [
                {
                    "widget": {
                        "name": "total",
                        "queries": [
                            {
                                "name": "main_query",
                                "query": {
                                    "datasetName": "sales",
                                    "fields": [{"name": "sum(amount)", "expression": "SUM(`amount`)"}],
                                    "disaggregated": False,
                                },
                            }
                        ],
                        "spec": {
                            "version": 2,
                            "widgetType": "counter",
                            "encodings": {"value": {"fieldName": "sum(amount)", "displayName": "Total"}},
                            "frame": {"showTitle": True, "title": "Total"},
                        },
                    },
                    "position": {"x": 0, "y": 0, "width": 4, "height": 3},
                },
                {
                    "widget": {
                        "name": "by_shop",
                        "queries": [
                            {
                                "name": "main_query",
                                "query": {
                                    "datasetName": "sales",
                                    "fields": [
                                        {"name": "shop", "expression": "`shop`"},
                                        {"name": "sum(amount)", "expression": "SUM(`amount`)"},
                                    ],
                                    "disaggregated": False,
                                },
                            }
                        ],
                        "spec": {
                            "version": 3,
                            "widgetType": "bar",
                            "encodings": {
                                "x": {"fieldName": "shop", "scale": {"type": "categorical"}, "displayName": "Shop"},
                                "y": {"fieldName": "sum(amount)", "scale": {"type": "quantitative"}},
                            },
                        },
                    },
                    "position": {"x": 4, "y": 0, "width": 8, "height": 3},
                },
            ],
        },
        {
            "name": "filters",
            "pageType": "PAGE_TYPE_GLOBAL_FILTERS",
            "layoutVersion": "GRID_V1",
            "layout": [
                {
                    "widget": {
                        "name": "pick_day",
                        "queries": [
                            {
                                "name": "days",
                                "query": {
                                    "datasetName": "sales",
                                    "fields": [{"name": "day", "expression": "`day`"}],
                                    "disaggregated": False,
                                },
                            }
                        ],
                        "spec": {
                            "version": 2,
                            "widgetType": "filter-date-range-picker",
                            "encodings": {"fields": [{"fieldName": "day", "queryName": "days"}]},
                        },
                    },
                    "position": {"x": 0, "y": 0, "width": 4, "height": 2},
                }
            ],
        },
    ],
}


@pytest.fixture
def faults(tmp_path: Path) -> Callable[[Callable], list[str]]:
    """The faults of the sound dashboard after a change of it."""

    def of(change: Callable[[dict], object]) -> list[str]:
        content = copy.deepcopy(SOUND)
        change(content)
        file = tmp_path / "a.lvdash.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        return lint(document.read(file))

    return of


def tile(content: dict, number: int = 0, page: int = 0) -> dict:
    return content["pages"][page]["layout"][number]


def test_a_sound_dashboard_has_no_fault(faults: Callable) -> None:
    assert faults(lambda _: None) == []


SEEDED = {
    "a name that encodings do not agree with": (
        lambda c: tile(c)["widget"]["spec"]["encodings"]["value"].update(fieldName="sum(amont)"),
        "widget total: it shows sum(amont), which its queries do not ask for; did you mean sum(amount)?",
    ),
    "a field that nothing shows": (
        lambda c: tile(c)["widget"]["queries"][0]["query"]["fields"].append({"name": "shop", "expression": "`shop`"}),
        "widget total: it asks for shop and does not show it",
    ),
    "another version": (
        lambda c: tile(c)["widget"]["spec"].update(version=3),
        "widget total: a counter has version 2, not 3",
    ),
    "an unknown type": (
        lambda c: tile(c)["widget"]["spec"].update(widgetType="conter"),
        "widget total: the widgetType conter is not known; did you mean counter?",
    ),
    "a missing encoding": (
        lambda c: tile(c, 1)["widget"]["spec"]["encodings"].pop("y"),
        "widget by_shop: a bar needs the encoding y",
    ),
    "an unknown dataset": (
        lambda c: tile(c)["widget"]["queries"][0]["query"].update(datasetName="sale"),
        "widget total: it reads the dataset sale, which is not there; did you mean sales?",
    ),
    "a column that the query does not return": (
        lambda c: tile(c)["widget"]["queries"][0]["query"]["fields"][0].update(expression="SUM(`amounts`)"),
        "widget total: the dataset sales returns no column amounts; did you mean amount?",
    ),
    "an expression that dashboards do not know": (
        lambda c: tile(c)["widget"]["queries"][0]["query"]["fields"][0].update(expression="MEDIAN(`amount`)"),
        "widget total: the field sum(amount) is MEDIAN(`amount`): write",
    ),
    "raw rows that aggregate": (
        lambda c: tile(c)["widget"]["queries"][0]["query"].update(disaggregated=True),
        "widget total: the field sum(amount) aggregates, and the query is disaggregated",
    ),
    "a gap in the grid": (
        lambda c: tile(c, 1)["position"].update(width=7),
        "page main: row 0 of the grid is empty at column 11",
    ),
    "a tile on another": (lambda c: tile(c, 1)["position"].update(x=3, width=9), "page main: by_shop lies on total"),
    "a tile beyond the grid": (
        lambda c: tile(c, 1)["position"].update(width=9),
        "page main: by_shop ends beyond the 12 columns of the grid",
    ),
    "the grid of older files": (
        lambda c: c["pages"][0].pop("layoutVersion"),
        "page main: by_shop ends beyond the 6 columns of the grid",
    ),
    "no type of page": (lambda c: c["pages"][0].pop("pageType"), "page main: pageType is missing; it is one of"),
    "a name twice": (lambda c: tile(c, 1)["widget"].update(name="total"), "widget total: the name is there twice"),
    "a name that is too long": (
        lambda c: tile(c)["widget"].update(name="n" * 61),
        f"widget {'n' * 61}: a name has 1 to 60 letters, digits, - and _",
    ),
    "lines of a query that run together": (
        lambda c: c["datasets"][0].update(queryLines=["SELECT day, shop, amount", "FROM IDENTIFIER(:schema || '.s')"]),
        "dataset sales: this is not SQL",
    ),
    "a query that is no SQL": (
        lambda c: c["datasets"][0].update(queryLines=["SELECT (day FROM x"], parameters=[]),
        "dataset sales: this is not SQL",
    ),
    "a parameter without declaration": (
        lambda c: c["datasets"][0].update(parameters=[]),
        "dataset sales: :schema has no value",
    ),
    "a parameter that is not used": (
        lambda c: c["datasets"][0].update(queryLines=["SELECT day, shop, amount FROM s"]),
        "dataset sales: the parameter schema is declared and not used",
    ),
    "a filter of an unknown query": (
        lambda c: tile(c, 0, 1)["widget"]["spec"]["encodings"]["fields"][0].update(queryName="day"),
        "widget pick_day: an encoding names the query day, which is not there; did you mean days?",
    ),
    "a chart among filters": (
        lambda c: c["pages"][1]["layout"].append(
            {"widget": {**tile(c)["widget"], "name": "n"}, "position": {"x": 4, "y": 0, "width": 4, "height": 2}}
        ),
        "widget n: a counter cannot stand on a page of filters",
    ),
    "a tile of nothing": (
        lambda c: tile(c).update(widget={"name": "total"}),
        "widget total: it has neither a spec nor a text",
    ),
}


@pytest.mark.parametrize("seeded", SEEDED)
def test_a_seeded_fault_is_found(faults: Callable, seeded: str) -> None:
    change, told = SEEDED[seeded]
    found = faults(change)
    assert [fault for fault in found if fault.startswith(told)], found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("{}", "is no dashboard: 'datasets' is missing"),
        ('{"datasets": [1], "pages": []}', "is no dashboard"),
        ('{"datasets": [], "pages": [{"name": "p", "layout": [{}]}]}', "is no dashboard: 'widget' is missing"),
    ],
)
def test_what_is_no_dashboard_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "a.lvdash.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LakeflowError, match=told):
        document.read(file)


ROWS = Rows(
    ("day", "shop", "amount"),
    (
        {"day": "2026-01-01", "shop": "north", "amount": 10},
        {"day": "2026-01-02", "shop": "north", "amount": 20},
        {"day": "2026-01-03", "shop": "<south>", "amount": 7},
    ),
)


@pytest.fixture
def sound(tmp_path: Path) -> document.Dashboard:
    file = tmp_path / "a.lvdash.json"
    file.write_text(json.dumps(SOUND), encoding="utf-8")
    return document.read(file)


@pytest.mark.parametrize(
    ("days", "total"),
    [(None, 37), (["2026-01-02", ""], 27), (["", "2026-01-02"], 30), (["2026-01-02", "2026-01-02"], 20)],
)
def test_a_filter_is_applied_before_the_aggregate(sound: document.Dashboard, days: list | None, total: int) -> None:
    counter = next(widget for widget in sound.widgets if widget.name == "total")
    spec = charts.spec(counter, charts.filters(sound))
    (column,) = charts.columns(counter)
    spec["data"] = {"values": list(ROWS.rows)}
    spec["params"][0]["value"] = days
    spec["encoding"] = {"text": {"field": column["field"], "type": "quantitative"}}
    assert f">{total}<" in vl_convert.vegalite_to_svg(spec)


def test_the_page_is_whole_and_asks_nothing_of_the_network(sound: document.Dashboard) -> None:
    html = preview.page(sound, {"sales": ROWS}, title="Sales & more")
    head, _, scripts = html.partition('<script type="application/json"')
    assert "<h1>Sales &amp; more</h1>" in head and "<h3>Total</h3>" in head and 'data-signal="filter_0"' in head
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html) and "default-src 'none'" in head
    content = json.loads(re.search(r'id="dashboard">(.*?)</script>', html, re.DOTALL)[1])
    assert content["datasets"]["sales"][2]["shop"] == "<south>" and "<south>" not in scripts.partition("</script>")[0]
    assert [tile["type"] for tile in content["tiles"]] == ["counter", "bar"]


def test_a_dataset_that_failed_is_told_in_its_tiles(sound: document.Dashboard) -> None:
    html = preview.page(sound, {"sales": Rows(error="there is no table <b>")}, title="t")
    assert html.count("Not shown: there is no table &lt;b&gt;") == 2


def test_what_only_a_workspace_draws_is_told_in_its_tile(sound: document.Dashboard) -> None:
    counter = next(widget for widget in sound.widgets if widget.name == "total")
    with pytest.raises(LakeflowError, match="a pivot is not drawn here"):
        charts.spec(replace(counter, spec={"widgetType": "pivot"}), [])
    measure = replace(counter.queries[0], fields={"sum(amount)": "MEASURE(`amount`)"})
    with pytest.raises(LakeflowError, match="which only a workspace can compute"):
        charts.spec(replace(counter, queries=(measure,)), [])
