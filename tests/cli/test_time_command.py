"""`time` answers in one sentence, and shows the suite it would be; a suite of callables runs and is compared."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from torchperf_ci.cli.time import OneOff
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case, Mode, Record, Status, Testing
from torchperf_ci.report.words import answer_for_one

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("args", "kwargs", "written"),
    [
        ("", "", '"call": torch.softmax, "cast"'),
        ("x", "", '"args": (x,),'),
        ("x, dim=-1", "", '"args": (x,), "kwargs": {"dim": -1}'),
        ("*[x] * 3", "{'dim': 0}", '"args": (*[x] * 3,), "kwargs": {**{\'dim\': 0}}'),
        ("x", "dim=0, k=f(2)", '"kwargs": {"dim": 0, "k": f(2)}'),
    ],
)
def test_a_call_becomes_a_suite(args: str, kwargs: str, written: str) -> None:
    """As people type it between brackets."""
    suite = OneOff(target="torch:softmax", args=args, kwargs=kwargs).write_suite()
    ast.parse(suite)
    assert written in suite
    assert 'MODELS = {"softmax": softmax}' in suite


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        ({"target": "softmax"}, "mypkg.ops:softmax"),
        ({"target": "no_such.py:f"}, "no file no_such.py"),
        ({"target": "a-b:f"}, "'a-b'"),
        ({"target": "os:x y"}, "which function"),
        ({"target": "os:f", "args": "'[1"}, '--args "\'[1" is not Python'),
        ({"target": "os:f", "args": "1), g(2"}, "--args"),
        ({"target": "os:f", "kwargs": "3"}, "dim=-1"),
    ],
)
def test_what_is_no_call_is_told(given: dict[str, str], fact: str) -> None:
    """With what to write."""
    with pytest.raises(UsageProblem) as refused:
        OneOff(**given).write_suite()
    assert fact in str(refused.value)


def test_a_file_of_a_package_is_imported_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder of its outermost package, so that its relative imports work, and `compare` finds each side's."""
    package = tmp_path / "package/below"
    package.mkdir(parents=True)
    for file in (package.parent / "__init__.py", package / "__init__.py", package / "ops.py"):
        file.write_text("")
    monkeypatch.chdir(tmp_path)
    here = OneOff(target="package/below/ops.py:f").write_suite()
    assert "import package.below.ops\n" in here
    assert "sys.path" not in here
    monkeypatch.chdir(package)
    assert f"sys.path.insert(0, {str(tmp_path)!r})" in OneOff(target="ops.py:f").write_suite()


def test_a_misspelt_module_gets_a_hint(cli, tmp_path: Path) -> None:
    """And no word of a suite that nobody wrote."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    (tmp_path / "package/ops.py").write_text("")
    done = cli("time", "package.opps:f", cwd=tmp_path)
    assert done.returncode == 2
    assert "Error: package.opps:f: ModuleNotFoundError: " in done.stderr
    assert done.stderr.rstrip().endswith("Did you mean package.ops?")


def record(testing: Testing = Testing.PERFORMANCE, *, status: Status = Status.PASS, **fields: object) -> Record:
    case = Case(suite="s", model="f", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
    return Record(case=case, testing=testing, status=status, **fields)  # type: ignore[arg-type]


def times(speedup: float, *, spread: float = 0.01) -> dict[str, float]:
    return {
        "speedup": speedup,
        "speedup_low": speedup - spread,
        "speedup_high": speedup + spread,
        "abs_latency": 1.0,
        "eager_latency": speedup,
        "compilation_latency": 3.0,
    }


@pytest.mark.parametrize(
    ("records", "sign", "facts"),
    [
        ([record(metrics=times(2.0))], "✅", ["2.00x (1.99 to 2.01)", "saves 1.0 ms", "3.0 s", "3,000 calls"]),
        ([record(metrics=times(0.5))], "❌", ["slower", "0.50x", "never"]),
        ([record(metrics=times(1.01, spread=0.1))], "⚠️", ["Not that it can be measured"]),
        ([record(metrics={"abs_latency": 0.25})], "✅", ["takes 0.25 ms"]),
        ([record(metrics=times(1.0), not_compiled=True)], "⚠️", ["does not compile"]),
        (
            [record(Testing.ACCURACY, status=Status.FAIL_ACCURACY, reason="off"), record(metrics=times(2.0))],
            "❌",
            ["wrong results: off"],
        ),
        ([record(status=Status.FAIL_TO_RUN, reason="boom")], "⚠️", ["could not be measured: boom"]),
        ([], "⚠️", ["could not be measured"]),
    ],
)
def test_the_answer_is_a_sentence(records: list[Record], sign: str, facts: list[str]) -> None:
    """With the speedup, its interval, what a call saves, and after how many calls compiling pays off."""
    said, sentence = answer_for_one(records, "ops:f")
    assert said == sign
    assert [fact for fact in facts if fact not in sentence] == []
    assert sentence.endswith(".")


def test_a_function_of_a_file_is_timed_as_it_is(in_process, tmp_path: Path) -> None:
    """And can be kept as a suite, which runs."""
    (tmp_path / "ops.py").write_text("def words(text):\n    return text.split()\n")
    done = in_process(
        *("time", "ops.py:words", "--args", "'a b ' * 9", "--compiler", "none", "--seconds", "0.1"),
        *("--suite-file", "bench.py", "--device", "cpu"),
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert "A call of ops.py:words takes" in done.stdout
    assert "--suites bench.py" in done.stderr
    assert "ops.words" in (tmp_path / "bench.py").read_text()


def test_a_suite_of_kernels_runs(in_process, tmp_path: Path) -> None:
    """Parameters and metrics of its own are in the records, and in the report."""
    for name in ("kernels.py", "kernel_ops.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    done = in_process(
        *("run", "--suites", "kernels.py", "--inference", "--compilers", "none", "--devices", "cpu", "--repeat", "20"),
        *("--warmup", "1", "--output-dir", "out", "--filter", "matmul[n=64,dtype=bfloat16", "--filter", "tokenize"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, (tmp_path / "out/records.jsonl").read_text().splitlines())
    timed = {line["case"]["model"]: line for line in lines if line.get("testing") == "performance"}
    matmul, tokenize = timed["matmul[n=64,dtype=bfloat16]"], timed["tokenize[words=1000]"]
    assert len(timed) == 2
    assert (matmul["params"], matmul["case"]["dtype"]) == ({"n": 64, "dtype": "bfloat16"}, "bfloat16")
    assert matmul["metrics"]["flops_per_second"] * matmul["metrics"]["abs_latency"] / 1e3 == pytest.approx(2 * 64**3)
    assert {"abs_latency_low", "dynamo_peak_mem"} <= matmul["metrics"].keys()
    assert not {"speedup", "compilation_latency"} & matmul["metrics"].keys()
    assert tokenize["own_metrics"] == {"tokens_per_second": {"unit": "1/s", "direction": "higher"}}
    assert len(tokenize["samples"]["tokens_per_second"]) == len(tokenize["samples"]["compiled"]) == 40
    assert "tokens_per_second (1/s)" in done.stdout


@pytest.mark.slow
def test_a_slowed_commit_of_a_library_is_found(cli, tmp_path: Path) -> None:
    """In the times of its kernel, and in the suite's own metric."""
    repository = tmp_path / "library"
    repository.mkdir()

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=repository, check=True, capture_output=True)

    git("init")
    for name in ("kernels.py", "kernel_ops.py"):
        shutil.copy(EXAMPLES / name, repository)
    git("add", ".")
    git("commit", "-m", "base")
    library = repository / "kernel_ops.py"
    library.write_text(library.read_text().replace("_TOKEN.findall(text)", "_TOKEN.findall(text * 4)[:1000]"))
    git("commit", "-am", "slow")
    done = cli(
        *("compare", "--suites", "kernels.py", "--inference", "--compilers", "none", "--base-ref", "HEAD~1"),
        *("--devices", "cpu", "--threads", "1", "--budget-per-case", "3", "--filter", "tokenize"),
        cwd=repository,
    )
    assert done.returncode == 3, done.stderr
    assert "tokenize[words=1000] none latency: slower" in done.stdout
    assert "tokenize[words=1000] none tokens_per_second: worse" in done.stdout
