"""The flame graph: whose time a frame has, and whatever its name is."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.explain.report import WIDTH, draw_flames, make_tree

SVG = "{http://www.w3.org/2000/svg}"


def test_frames_hold_what_is_below_them() -> None:
    """On each side."""
    tree = make_tree([(["f", "g"], 10), (["f"], 5)], [(["f", "g"], 30), (["h"], 1)])
    assert (tree.base, tree.head) == (15, 31)
    assert (tree.children["f"].base, tree.children["f"].head) == (15, 30)
    assert (tree.children["f"].children["g"].base, tree.children["f"].children["g"].head) == (10, 30)
    assert (tree.children["h"].base, tree.children["h"].head) == (0, 1)


def test_more_time_on_head_is_red_and_less_is_blue() -> None:
    drawn = ET.fromstring(draw_flames([(["slow"], 10), (["fast"], 90)], [(["slow"], 100), (["fast"], 10)]))
    fills = {group.find(f"{SVG}title").text.split(":")[0]: group.find(f"{SVG}rect").get("fill") for group in drawn}
    assert fills["slow"].startswith("#ff")
    assert fills["fast"].endswith("ff")
    assert not fills["fast"].startswith("#ff")


def test_nothing_seen_draws_nothing() -> None:
    assert draw_flames([], []) == ""


names = st.lists(st.text(max_size=20), min_size=1, max_size=5)


@given(
    st.lists(st.tuples(names, st.integers(0, 10**9)), max_size=8),
    st.lists(st.tuples(names, st.integers(0, 10**9)), max_size=8),
)
def test_whatever_the_names_it_is_svg_that_fits(
    base: list[tuple[list[str], int]], head: list[tuple[list[str], int]]
) -> None:
    """No frame reaches beyond the picture, and no name becomes markup."""
    svg = draw_flames(base, head)
    if not svg:
        return
    for group in ET.fromstring(svg):
        rectangle = group.find(f"{SVG}rect")
        assert float(rectangle.get("x")) + float(rectangle.get("width")) <= WIDTH + 0.5
        assert {child.tag for child in group} == {f"{SVG}title", f"{SVG}rect", f"{SVG}text"}
