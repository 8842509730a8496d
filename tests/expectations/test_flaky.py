"""The file of flaky models."""

from pathlib import Path

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.expectations.table import CheckKind, Expectation, ExpectationTable, parse_flaky

TEXT = """
- name: yolov3
  reason: two eager runs differ now and then
- name: resnet18
  configs: ["rocm/*", inductor_*]
  checks: accuracy
  reason: new runner images
"""


def test_entries_cover_configurations_and_checks():
    """Without limits an entry covers everything; patterns and checks narrow it."""
    flaky = parse_flaky(TEXT, source="flaky.yaml")

    def names(config: str, kind: CheckKind) -> dict[str, str]:
        table = ExpectationTable(columns=("name",))
        return Expectation(path=Path(), name="t", config=config, table=table, flaky=flaky).flaky_names(kind)

    assert set(names("rocm/aot_timm_training", CheckKind.ACCURACY)) == {"yolov3", "resnet18"}
    assert set(names("inductor_timm", CheckKind.GRAPH_BREAKS)) == {"yolov3"}
    assert names("aot_timm", CheckKind.ACCURACY) == {"yolov3": "two eager runs differ now and then"}


def test_an_empty_file_has_no_entries():
    """Comments alone are fine."""
    assert parse_flaky("# none\n", source="flaky.yaml") == ()


def test_everything_wrong_is_listed_at_once():
    """One message names every entry and what is wrong with it."""
    text = "- name: a\n  reson: x\n- 3\n- {name: b, reason: c, checks: [speed]}\n"
    with pytest.raises(UsageProblem) as caught:
        parse_flaky(text, source="flaky.yaml")
    assert str(caught.value) == (
        "flaky.yaml: entry 1: unknown key 'reson', expected name, configs, checks, reason; "
        "entry 1: 'reason' is missing; entry 2: is not a mapping; "
        "entry 3: unknown check 'speed', expected accuracy, graph-breaks, performance, memory"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "f is not YAML"), ("a: 1", "f is not a list"), ("!!python/object/apply:os.system [ls]", "f is not YAML")],
)
def test_what_is_no_list_is_refused(text: str, message: str):
    """Broken YAML, a mapping, and YAML that would run code."""
    with pytest.raises(UsageProblem, match=message):
        parse_flaky(text, source="f")
