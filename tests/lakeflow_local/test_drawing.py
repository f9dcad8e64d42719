"""Graphs as pictures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from lakeflow_local.drawing import Node, svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(edges: list[tuple[str, str]], *keys: str) -> tuple[ElementTree.Element, dict[str, tuple[int, int, int]]]:
    """The picture, and for each box its left, upper and lower edge."""
    picture = ElementTree.fromstring(svg("g", [Node(key, (key,)) for key in keys], [(a, b, "") for a, b in edges]))
    boxes = {}
    for group in picture.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        x, y, height = (int(rect.get(name)) for name in ("x", "y", "height"))
        boxes[group.find(f"{SVG}title").text] = x, y, y + height
    return picture, boxes


def test_each_box_is_to_the_right_of_what_it_depends_on_and_no_edge_passes_a_box() -> None:
    picture, boxes = drawn([("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("b", "d")], "d", "c", "b", "a")
    assert [key for key, _ in sorted(boxes.items(), key=lambda box: box[1])] == ["a", "b", "c", "d"]
    # an edge passes a column as a level line from the column's left edge
    lanes = [
        (int(x), int(y)) for path in picture.iter(f"{SVG}path") for x, y in re.findall(r"(\d+),(\d+) H", path.get("d"))
    ]
    assert lanes
    for x, y in lanes:
        assert all(not top <= y <= bottom for left, top, bottom in boxes.values() if left == x)


def test_edges_that_cross_are_untangled() -> None:
    _, boxes = drawn([("a", "y"), ("b", "x"), ("c", "z")], "a", "b", "c", "x", "y", "z")
    top = {key: box[1] for key, box in boxes.items()}
    assert [top["y"], top["x"], top["z"]] == [top["a"], top["b"], top["c"]]


def test_a_circle_and_nothing_are_drawn_too() -> None:
    picture, boxes = drawn([("a", "b"), ("b", "a"), ("b", "b"), ("b", "c")], "a", "b", "c")
    assert len(boxes) == 3 and len([p for p in picture.iter(f"{SVG}path") if p.get("class") == "edge"]) == 2
    assert drawn([])[1] == {}


def test_texts_are_escaped_and_cut() -> None:
    text = svg("<g>", [Node("k", ("<b>" * 20, "&"), link='/"x')], [])
    assert "<b>" not in text and "…" in text and 'href="/&quot;x"' in text and 'aria-label="&lt;g&gt;"' in text
