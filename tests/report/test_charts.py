"""The charts: which there are, that they are pictures, and that hostile and extreme input draws."""

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from matplotlib import image

from report_builders import accuracy, both, case, findings, performance, sample_records
from torchperf_ci.core.records import Mode, Status
from torchperf_ci.report.charts import choose_flagged, draw
from torchperf_ci.report.plots import round_numbers

SAMPLES = [0.01 * (1 + 0.05 * (number % 7)) for number in range(40)]


def words(svg: bytes) -> list[str]:
    """Every text in a picture."""
    return [element.text or "" for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_report_has_an_overview_and_a_chart_per_suite():
    """Two files each, and their texts name models, compilers and what failed."""
    charts = draw(findings(sample_records()))
    assert [name for name, _ in charts.files()] == [
        "overview.svg",
        "overview.png",
        "tiny_float32.svg",
        "tiny_float32.png",
    ]
    (speedups,) = charts.speedups.values()
    shown = words(speedups.svg)
    assert {
        "tiny: inference, float32, cpu",
        "mlp",
        "resnet18",
        "eager (dynamo)",
        "inductor",
        "failed",
        "could not run",
    } <= set(shown)
    assert {"2/5", "1.15x (1.13 to 1.17)"} <= set(words(charts.overviews[0].svg))


def test_a_png_is_a_readable_picture_of_the_same_shape():
    """Both files come from one figure."""
    (chart,) = draw(findings(sample_records())).speedups.values()
    height, width = image.imread(io.BytesIO(chart.png)).shape[:2]
    box = ET.fromstring(chart.svg).attrib["viewBox"].split()
    assert width / height == pytest.approx(float(box[2]) / float(box[3]), rel=0.02)
    assert width >= 640


def test_charts_of_several_sections_have_names_of_their_own():
    """Mode and device are in the name where the dtype alone does not tell them apart."""
    records = [record for mode in Mode for record in both(case("mlp", mode=mode))]
    names = [name for name, _ in draw(findings(records)).files() if name.endswith("svg")]
    assert names == [
        "overview_float32_inference_cpu.svg",
        "overview_float32_training_cpu.svg",
        "tiny_float32_inference_cpu.svg",
        "tiny_float32_training_cpu.svg",
    ]


def test_two_hundred_models_stand_in_panels_and_thousands_are_cut():
    """Every one of two hundred has its name; of more the title says how many are not drawn."""
    many = [record for number in range(200) for record in both(case(f"model_{number}"), 1 + number / 100)]
    (chart,) = draw(findings(many)).speedups.values()
    assert {f"model_{number}" for number in range(200)} <= set(words(chart.svg))
    more = [record for number in range(300) for record in both(case(f"model_{number}"), 1 + number / 100)]
    (chart,) = draw(findings(more)).speedups.values()
    assert any("(60 models in the middle are not drawn)" in text for text in words(chart.svg))
    assert {"model_299", "model_0"} <= set(words(chart.svg))


def test_the_samples_of_flagged_cases_are_drawn_slowest_first():
    """Only where there are samples of both arms."""
    records = [
        *both(case("fast"), 2.0),
        performance(case("slow"), 0.9, samples=SAMPLES),
        performance(case("slower"), 0.5, samples=SAMPLES, speedup_low=0.49, speedup_high=0.51),
        performance(case("unknown"), 0.4),
    ]
    found = findings(records)
    assert [record.case.model for record in choose_flagged(found)] == ["slower", "slow"]
    charts = draw(found)
    assert [chart.name for chart in charts.samples] == [
        "samples_tiny_slower_inductor_float32_inference_cpu",
        "samples_tiny_slow_inductor_float32_inference_cpu",
    ]
    assert "its 95 % interval" in words(charts.samples[0].svg)


def test_the_same_findings_make_the_same_files():
    """Pictures can be compared and kept in git."""
    found = findings([performance(case(), 0.5, samples=SAMPLES)])
    assert dict(draw(found).files()) == dict(draw(found).files())


def test_without_any_speedup_there_is_no_chart_of_them():
    """There is nothing to draw, nor is there where everything failed."""
    for record in (accuracy(case()), performance(case(), None, Status.CRASHED)):
        charts = draw(findings([record]))
        assert [name for name, _ in charts.files()] == ["overview.svg", "overview.png"]


@pytest.mark.parametrize(
    "speedups",
    [(1e-9, 1e9), (1e-300, 1e300), (1.0, 1.0), (0.999999, 1.000001), (5e-324,), (1.7e308,), (1.0,)],
)
def test_extreme_speedups_draw(speedups: tuple[float, ...]):
    """No value that a file can hold breaks a chart."""
    records = [
        replace(record, metrics={**record.metrics, "speedup_low": value, "speedup_high": value})
        for number, value in enumerate(speedups)
        for record in both(case(f"m{number}"), value)
        if value > 1e-300 or record.testing.value == "accuracy"
    ]
    assert len(list(draw(findings(records)).files())) in {2, 4}


def test_hostile_names_draw_as_text():
    """No mathematics, no markup, no control character, and file names that stay in their folder."""
    names = ["$\\frac{1}{", "<script>&amp;", "a\nb\x00\x1b", "../../etc/passwd", "\u202emodel", "模型", "🙂", "x" * 500]
    records = [record for name in names for record in both(case(name, f"c{name}", suite=f"s{name}"), 1.5)]
    charts = draw(findings(records))
    for name, content in charts.files():
        assert re.fullmatch(r"[\w.-]{1,220}\.(svg|png)", name)
        if name.endswith(".svg"):
            assert "$\\frac{1}{" in "".join(words(content)) or "frac" not in name
    drawn = {text for chart in charts.speedups.values() for text in words(chart.svg)}
    assert {"$\\frac{1}{", "<script>&amp;", "a b\ufffd\ufffd", "模型"} <= drawn


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 1.3, [0.9, 1.0, 1.1, 1.2, 1.3]),
        (0.6, 2.8, [0.75, 1.0, 1.5, 2.0]),
        (0.4, 50, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]),
        (0.1, 50, [0.25, 1.0, 4.0, 16.0]),
        (0.01, 1000, [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]),
    ],
)
def test_ticks_are_few_and_round(low: float, high: float, ticks: list[float]):
    """From a narrow range to a very wide one."""
    assert [tick for tick in round_numbers(low, high) if low <= tick <= high] == pytest.approx(ticks)


def test_a_compiler_that_failed_everywhere_has_its_marks():
    """There is no bar to draw for it."""
    records = [*both(case("mlp", "eager"), 1.1), performance(case("mlp", "inductor"), None, Status.CRASHED)]
    (chart,) = draw(findings(records)).speedups.values()
    assert {"inductor", "failed"} <= set(words(chart.svg))
