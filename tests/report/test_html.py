"""report.html as text."""

from dataclasses import replace
from html.parser import HTMLParser

from report_builders import accuracy, blank_charts, both, case, check_golden, findings, performance, sample_records
from torchperf_ci.core.records import Mode, Status
from torchperf_ci.report.charts import draw
from torchperf_ci.report.html import write_page


class Elements(HTMLParser):
    """Which elements and attributes a page has, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_in_full():
    """Everything the Markdown has, as tables that a script sorts and filters."""
    found = findings(sample_records())
    check_golden("report/sample/report.html", write_page(found, blank_charts(found)))


def test_the_page_asks_for_nothing_from_a_network():
    """No address of any kind is loaded, and the page forbids it."""
    found = findings(sample_records())
    page = write_page(found, draw(found))
    assert "default-src 'none'" in page
    for tag, attributes in Elements(page).elements:
        assert tag not in {"link", "img", "iframe", "object", "embed"}
        reference = attributes.get("src") or attributes.get("href") or attributes.get("xlink:href") or "#"
        assert reference.startswith("#")


def test_names_from_outside_are_text():
    """No element, attribute or script comes out of a name, also not through a chart."""
    names = [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</style><b>",
        "{{ 7 * 7 }}",
        "a\x00\u202eb",
    ]
    records = [record for name in names for record in both(case(name, name, suite=name))]
    records += [accuracy(case("m", name), Status.OOM, reason=name) for name in names]
    found = findings(records)
    ordinary = findings([*both(case("a", "b")), accuracy(case("m", "b"), Status.OOM, reason="c")])
    page = Elements(write_page(found, draw(found)))
    plain = Elements(write_page(ordinary, draw(ordinary)))
    assert {tag for tag, _ in page.elements} <= {*(tag for tag, _ in plain.elements), "small", "ul", "li", "b", "wbr"}
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert "{{ 7 * 7 }}" in page.text
    assert "a\ufffd\ufffdb" in page.text


def test_a_section_is_named_only_where_there_are_several():
    """Columns that say the same in every row, or nothing, are left out."""
    one = findings([accuracy(case(), Status.OOM)])
    two = findings([accuracy(case(mode=mode), Status.OOM) for mode in Mode])
    assert ">Section<" not in write_page(one, blank_charts(one))
    assert ">Section<" in write_page(two, blank_charts(two))


def test_benchmarks_without_an_eager_arm_are_compared_by_latency():
    """There is no speedup to show."""
    record = replace(performance(case(), None), metrics={"abs_latency": 2.5})
    found = findings([record])
    page = write_page(found, blank_charts(found))
    assert "<h3>Latency, compiled (ms; lower is better)" in page
    assert '<td class="n">2.500</td>' in page
    assert "Speedup over eager <small>" not in page


def test_a_chart_takes_on_the_colours_of_the_page():
    """Its text and its lines are drawn in the page's own ink, on no background."""
    found = findings(sample_records())
    page = write_page(found, draw(found))
    picture = page[page.index("<svg") : page.index("</svg>")]
    assert "var(--ink)" in picture
    assert "#1f2329" not in picture
    assert "#ffffff" not in picture
