"""Causes from evidence whose right answer is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import (
    CauseKind,
    Comparison,
    Explanation,
    ProgramDifference,
    Sameness,
    write_explanation,
)
from torchperf_ci.core.records import Case, Mode
from torchperf_ci.explain.causes import OUTSIDE, explain_change, list_graph_diff, read_places, read_target
from torchperf_ci.explain.model import (
    CallProfile,
    CompilerArtefacts,
    Evidence,
    LineChanges,
    ProfiledTurn,
    SeenIteration,
    SideEvidence,
)

CASE = Case(suite="bench", model="net", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")
CHANGES = LineChanges(added={"src/layers.py": frozenset({41})})
Operators = Mapping[str, tuple[float, float]]
"""Calls and microseconds."""


def comparison(metric: str = "abs_latency", **fields: object) -> Comparison:
    return Comparison(case=CASE, metric=metric, verdict=Verdict.REGRESSED, **{"ratio": 1.2, **fields})  # type: ignore[arg-type]


def turns(
    base: Operators, head: Operators, *, outside: tuple[float, float] = (20.0, 20.0), noise: float = 0.002
) -> list[ProfiledTurn]:
    """Turns of three launches: what each operator takes wobbles, and so does every launch as a whole."""
    draw = random.Random(1)

    def profile(operators: Operators, rest: float, level: float) -> CallProfile:
        host = {name: (calls, 1e3 * time * level * draw.gauss(1, noise)) for name, (calls, time) in operators.items()}
        free = 1e3 * rest * level * draw.gauss(1, noise)
        wall = free + sum(time for _, time in host.values())
        return CallProfile(wall=wall, profiled=wall, outside=free, events=sum(c for c, _ in host.values()), host=host)

    taken = []
    for launch in range(3):
        levels = draw.gauss(1, noise), draw.gauss(1, noise)
        for _ in range(5):
            one, two = profile(base, outside[0], levels[0]), profile(head, outside[1], levels[1])
            taken.append(ProfiledTurn(launch=launch, base=one, head=two))
    return taken


def seen(
    *operators: tuple[str, str, str, int], functions: Sequence[tuple[str, int, str, int, int]] = ()
) -> SeenIteration:
    return SeenIteration(operators=list(operators), functions=list(functions))


def test_an_operator_that_is_called_more_often_is_the_cause() -> None:
    """With its part of the difference, its place, and whether that has changed."""
    base = seen(("aten::clone", "layers.py:30", "float32[8]", 24), ("aten::mm", "layers.py:12", "float32[8]", 4))
    head = seen(
        ("aten::clone", "layers.py:30", "float32[8]", 24),
        ("aten::clone", "layers.py:41", "float32[8]", 24),
        ("aten::mm", "layers.py:12", "float32[8]", 4),
    )
    evidence = Evidence(
        base=SideEvidence(seen=base),
        head=SideEvidence(seen=head),
        turns=turns({"aten::mm": (4, 700), "aten::clone": (24, 300)}, {"aten::mm": (4, 700), "aten::clone": (48, 600)}),
    )
    explanation = explain_change(comparison(), replace(evidence, changes=CHANGES))
    first = explanation.causes[0]
    assert (first.name, first.calls, first.place, first.is_changed) == ("aten::clone", (24, 48), "layers.py:41", True)
    assert first.share == pytest.approx(1.0, abs=0.1)
    assert [cause.name for cause in explanation.causes] == ["aten::clone"]
    sentence = write_explanation(explanation, lambda text: f"`{text}`")
    assert sentence.startswith("`aten::clone` is called 24 times more per iteration (24 → 48): ")
    assert sentence.endswith("in `layers.py:41`, changed between base and head.")


def test_noise_gets_no_cause() -> None:
    """Equal sides, even where one operator happens to be a little slower."""
    evidence = Evidence(
        base=SideEvidence(), head=SideEvidence(), turns=turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 702)})
    )
    explanation = explain_change(comparison(), evidence)
    assert explanation.causes == ()
    assert "noise" in explanation.problem
    assert write_explanation(explanation).startswith("No cause is given")


def test_the_same_program_gets_no_cause() -> None:
    """Where no change of it is confirmed, whatever its processes happen to differ by."""
    taken = turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 900)})
    for sameness in (Sameness(), Sameness(doubts=("threads",)), None):
        evidence = Evidence(base=SideEvidence(), head=SideEvidence(), turns=taken, sameness=sameness)
        unchanged = explain_change(replace(comparison(), verdict=Verdict.UNCHANGED), evidence)
        assert ("same program" in unchanged.problem) is (sameness == Sameness())
        assert explain_change(comparison(), evidence).causes


def test_equal_code_is_rarely_given_a_cause() -> None:
    """Of equal sides whose launches differ as processes of equal code do: short calls more than long ones."""
    wrong = 0
    for seed in range(80):
        draw = random.Random(seed)
        taken = []
        time, deviation = (1e6, 0.007) if seed % 2 else (5e4, 0.018)
        for launch in range(3):
            levels = draw.gauss(1, deviation / 2**0.5), draw.gauss(1, deviation / 2**0.5)
            for _ in range(5):
                one, two = (
                    CallProfile(
                        wall=time * level * draw.gauss(1, 0.005), profiled=time, outside=time / 10, events=5, host={}
                    )
                    for level in levels
                )
                taken.append(ProfiledTurn(launch=launch, base=one, head=two))
        evidence = Evidence(base=SideEvidence(), head=SideEvidence(), turns=taken)
        wrong += not explain_change(comparison(), evidence).problem
    assert wrong <= 4


def test_python_between_operators_is_split_by_function() -> None:
    """In proportion of one iteration that was traced."""
    base = seen(functions=[("layers.py", 30, "forward", 1, 1_000)])
    head = seen(functions=[("layers.py", 30, "forward", 1, 1_000), ("layers.py", 41, "check", 100, 90_000)])
    evidence = Evidence(
        base=SideEvidence(seen=base),
        head=SideEvidence(seen=head),
        turns=turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 700)}, outside=(20.0, 320.0)),
    )
    first, second, *_ = explain_change(comparison(), replace(evidence, changes=CHANGES)).causes
    assert (first.kind, first.name, first.calls, first.is_changed) == (CauseKind.PYTHON, "check", (0, 100), True)
    assert (second.kind, second.name) == (CauseKind.OUTSIDE, OUTSIDE)


def test_a_change_of_the_program_comes_before_what_only_takes_longer() -> None:
    """A new operator leaves the others with colder caches."""
    head = seen(("aten::sort", "layers.py:41", "float32[8]", 4))
    evidence = Evidence(
        base=SideEvidence(),
        head=SideEvidence(seen=head),
        turns=turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 1000), "aten::sort": (4, 200)}),
    )
    assert [cause.name for cause in explain_change(comparison(), replace(evidence, changes=CHANGES)).causes] == [
        "aten::sort",
        "aten::mm",
    ]


def test_other_inputs_of_an_operator_are_said() -> None:
    """As many calls, of another type."""
    evidence = Evidence(
        base=SideEvidence(seen=seen(("aten::mm", "layers.py:12", "float32[8, 8]", 4))),
        head=SideEvidence(seen=seen(("aten::mm", "layers.py:12", "float64[8, 8]", 4))),
        turns=turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 1400)}),
    )
    explanation = explain_change(comparison(), replace(evidence, changes=CHANGES))
    assert explanation.causes[0].inputs == ("float32[8, 8]", "float64[8, 8]")
    assert "float64[8, 8]" in write_explanation(explanation)


def test_generated_kernels_of_one_side_alone_are_one_row() -> None:
    """They are called after what they fuse, so another one stands in the place of the old."""
    evidence = Evidence(
        base=SideEvidence(),
        head=SideEvidence(),
        turns=turns({"cpp_fused_relu_0": (1, 100)}, {"cpp_fused_relu_sin_0": (1, 300)}),
    )
    first = explain_change(comparison(), evidence).causes[0]
    assert (first.kind, first.name) == (CauseKind.KERNEL, "cpp_fused_relu_sin_0")
    assert first.note == "in place of cpp_fused_relu_0"
    assert first.difference == pytest.approx(200e-6, rel=0.1)


def test_kernels_count_where_the_device_is_busy() -> None:
    """The host's operators only start them."""

    def profile(kernel: float) -> CallProfile:
        wall = kernel + 1e4
        device = {"sgemm": (4.0, kernel)}
        return CallProfile(
            wall=wall, profiled=wall, outside=1e4, events=4, host={"aten::mm": (4.0, 2e4)}, device=device
        )

    taken = [ProfiledTurn(launch=each % 3, base=profile(1e6 + each), head=profile(1.5e6 + each)) for each in range(15)]
    first = explain_change(comparison(), Evidence(base=SideEvidence(), head=SideEvidence(), turns=taken)).causes[0]
    assert (first.kind, first.name) == (CauseKind.KERNEL, "sgemm")


def artefacts(*lines: tuple[str, str], **fields: object) -> list[CompilerArtefacts]:
    return [CompilerArtefacts(graphs=[list(lines)], **fields)]  # type: ignore[arg-type]


def test_a_graph_break_comes_first() -> None:
    """Whatever else is slower for it."""
    base = SideEvidence(artefacts=artefacts(("y = x.sin()", "layers.py:3")), counters={"unique_graphs": 1})
    head = SideEvidence(
        artefacts=artefacts(("y = x.sin()", "layers.py:3"), breaks=[("print", "layers.py:41")]),
        counters={"unique_graphs": 2, "graph_breaks": 1},
    )
    taken = turns({"aten::sin": (1, 100)}, {"aten::sin": (2, 200)})
    explanation = explain_change(comparison(), Evidence(base=base, head=head, turns=taken, changes=CHANGES))
    first = explanation.causes[0]
    assert (first.kind, first.name, first.place, first.is_changed) == (
        CauseKind.GRAPHS,
        "graph breaks",
        "layers.py:41",
        True,
    )
    counted = explain_change(
        comparison("graph_breaks", base=0.0, head=1.0), Evidence(base=base, head=head, turns=taken)
    )
    assert "print" in write_explanation(counted)


def test_compiling_is_explained_by_what_is_compiled() -> None:
    """More of the same calls in a graph, before the phases that they make longer."""
    base = SideEvidence(
        artefacts=artefacts(("y = x.sin()", "layers.py:3"), phases={"backend_compile": 1.0}), compile_seconds=[2.0]
    )
    many = [(f"y_{step} = torch.sin(x)", "layers.py:41") for step in range(50)]
    head = SideEvidence(artefacts=artefacts(*many, phases={"backend_compile": 5.5}), compile_seconds=[7.0])
    taken = turns({"aten::sin": (1, 100)}, {"aten::sin": (1, 100)})
    explanation = explain_change(
        comparison("compilation_latency"), Evidence(base=base, head=head, turns=taken, changes=CHANGES)
    )
    assert explanation.causes[0].kind is CauseKind.NODES
    assert explanation.causes[0].name == "calls of torch.sin in the graphs"
    assert explanation.causes[0].is_changed
    assert [cause.name for cause in explanation.causes if cause.kind is CauseKind.PHASE] == ["backend_compile"]


def test_the_peak_is_explained_by_what_lives_at_it() -> None:
    """In bytes, exactly."""
    base = SideEvidence(seen=SeenIteration(peak=[("aten::mm", "layers.py:12", 1000)]))
    head = SideEvidence(
        seen=SeenIteration(peak=[("aten::mm", "layers.py:12", 1000), ("aten::cat", "layers.py:41", 500)])
    )
    taken = turns({"aten::mm": (1, 100)}, {"aten::mm": (1, 100)})
    explanation = explain_change(
        comparison("dynamo_peak_mem"), Evidence(base=base, head=head, turns=taken, changes=CHANGES)
    )
    assert [(cause.name, cause.difference, cause.share) for cause in explanation.causes] == [("aten::cat", 500, 1.0)]
    assert write_explanation(explanation).startswith("aten::cat holds 500 B more at the peak")


def test_a_failure_names_the_changed_line_on_its_way() -> None:
    """From the traceback in the log of the side that fails."""
    log = (
        'Traceback\n  File "/tmp/x/tree/src/layers.py", line 41, in forward\n  File "/usr/torch/nn.py", line 9, in f\nE'
    )
    head = SideEvidence(failure="fail_to_run: RuntimeError: boom", log=log)
    explanation = explain_change(
        comparison(), Evidence(base=SideEvidence(), head=head, problem="head fails", changes=CHANGES)
    )
    assert explanation.causes[0].place == "src/layers.py:41"
    assert "boom" in write_explanation(explanation)
    assert read_places("nothing") == []


def test_the_environment_is_the_cause_where_nothing_else_differs() -> None:
    """Of two Pythons, or of two sets of variables."""
    evidence = Evidence(
        base=SideEvidence(environment={"package numpy": "1.0"}),
        head=SideEvidence(environment={"package numpy": "2.0"}),
        turns=turns({"aten::mm": (4, 700)}, {"aten::mm": (4, 900)}),
    )
    explanation = explain_change(comparison(), evidence)
    assert explanation.causes[0].kind is CauseKind.ENVIRONMENT
    assert "1.0 → 2.0" in write_explanation(explanation)


def test_functions_that_differ_are_facts() -> None:
    """Those of the project alone."""
    sameness = Sameness(
        differences=(
            ProgramDifference(
                part="functions",
                name="lib.f",
                base=["<tree>/src/layers.py", 41, 1, "a"],
                head=["<tree>/src/layers.py", 41, 3, "b"],
            ),
            ProgramDifference(part="functions", name="torch.g", base=["torch/g.py", 1, 1, "a"], head=None),
        )
    )
    evidence = Evidence(
        base=SideEvidence(), head=SideEvidence(), sameness=sameness, turns=turns({"a": (1, 9)}, {"a": (1, 9)})
    )
    facts = explain_change(comparison(), replace(evidence, changes=CHANGES)).facts
    assert [(fact.name, fact.place, fact.is_changed) for fact in facts] == [("lib.f", "src/layers.py:41", True)]


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ('linear: "f32[8, 64]" = torch._C._nn.linear(l_x_, w)', "torch._C._nn.linear"),
        ("mul = sin * 2", "*"),
        ('x_1: "f32[8, 64][64, 1]cpu" = x + 0.5', "+"),
        ("y = l_x_.sin()", ".sin"),
        ("return (mul,)", ""),
        ("# forward: return x.sin()", ""),
    ],
)
def test_calls_are_read_from_the_code_of_a_graph(line: str, target: str) -> None:
    assert read_target(line) == target


def test_graphs_that_differ_have_a_diff() -> None:
    base = SideEvidence(artefacts=artefacts(("y = x.sin()", "a.py:1")))
    head = SideEvidence(artefacts=artefacts(("y = x.cos()", "a.py:2")))
    assert "+y = x.cos()" in list_graph_diff(Evidence(base=base, head=head))
    assert list_graph_diff(Evidence(base=base, head=base)) == []


def test_a_sentence_holds_no_markup_of_others() -> None:
    """Names go through the caller's quoting."""
    explanation = Explanation(case=CASE, metric="abs_latency", problem="a\nb")
    assert "\n" not in write_explanation(explanation)
