"""Files that must agree: the actions' inputs, their steps, and the options of the commands they call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from torchperf_ci.cli.main import cli

ROOT = Path(__file__).parents[2]
ACTIONS = sorted([*ROOT.glob("action.yml"), *ROOT.glob("actions/*/action.yml")])
WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("examples/*.yml")])
SETUP = re.compile(
    r'(?:GITHUB_STEP_SUMMARY="" )?bash "\$GITHUB_ACTION_PATH/(?:\.\./|actions/)_setup\.sh" '
    r"([a-z]+(?:[ -][a-z]+)*)(?: --|$)"
)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")

DIFFERENT_ON_PURPOSE = {
    *((name, "python") for name in ("run", "plan", "compare", "action.yml")),
    *((name, other) for name in ("compare", "action.yml") for other in ("base-ref", "upstream", "compilers")),
    ("update-expected", "pull-request"),
}
"""An action measures the caller's `python`; at home it is the Python that runs the command. On GitHub a comparison is
that of a pull request, and a checkout knows no origin/HEAD. What an action writes into its checkout would be lost, so
it goes into a pull request."""


CALLED_OTHERWISE = {"TORCHPERF_CONFIG": "TORCHPERF_TABLES"}
"""The first one is the file of defaults for all commands."""


def named(path: Path) -> str:
    return path.parent.name if path.parent != ROOT else "action.yml"


each_action = pytest.mark.parametrize("path", ACTIONS, ids=named)
each_file = pytest.mark.parametrize("path", [*ACTIONS, *WORKFLOWS], ids=lambda path: str(path.relative_to(ROOT)))


def steps(path: Path) -> list[dict[str, Any]]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = [loaded["runs"]] if "runs" in loaded else loaded["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [])]


def command_of(step: Mapping[str, Any]) -> click.Command:
    """The command that a step's shell line calls."""
    called = SETUP.match(step["run"])
    assert called, f"a step runs something else than a command: {step['run']}"
    command: click.Command | None = cli
    for name in called.group(1).split():
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    return command


def options_by_variable(command: click.Command) -> dict[str, click.Parameter]:
    found = {}
    for option in command.params:
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or ()
        found |= dict.fromkeys(names, option)
    return found


def shown(value: object) -> str:
    """An option's default as an action's input would have it."""
    if isinstance(value, (tuple, list)) and all(isinstance(item, tuple) for item in value):
        return "\n".join("=".join(item) for item in value)
    if isinstance(value, (tuple, list)):
        return " ".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def test_there_are_actions_and_workflows() -> None:
    """Else the tests below would see nothing."""
    assert "run" in {named(path) for path in ACTIONS}
    assert WORKFLOWS


def test_run_is_a_link_to_its_action() -> None:
    """`uses: org/torchperf-ci/run@v1` and actions/run are one source."""
    assert (ROOT / "run").is_symlink()
    assert (ROOT / "run").readlink() == Path("actions/run")
    links = {path for path in ROOT.iterdir() if path.is_symlink()}
    assert {path.readlink() for path in links} <= {path.parent.relative_to(ROOT) for path in ACTIONS}


def commands_below(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from commands_below(found)


def test_no_variable_has_two_meanings() -> None:
    """Neither that of `torchperf-ci` itself for an option of a command, nor GitHub's address for somebody else's."""
    own = set(options_by_variable(cli))
    for command in list(commands_below(cli))[1:]:
        variables = options_by_variable(command)
        assert not own & set(variables), command.name
        assert "GitHub" in getattr(variables.get("TORCHPERF_API_URL"), "help", "GitHub"), command.name


@each_action
def test_every_input_is_used(path: Path) -> None:
    """And every input that is used is declared."""
    text = path.read_text(encoding="utf-8")
    declared = set(yaml.safe_load(text).get("inputs", {}))
    assert set(re.findall(r"\binputs\.([A-Za-z_-]+)", text)) == declared


@each_action
def test_every_variable_of_a_step_is_an_option_of_its_command(path: Path) -> None:
    """An input that no option takes would be silently lost; it is called like the option."""
    for step in steps(path):
        if "run" not in step:
            continue
        variables = options_by_variable(command_of(step))
        for name, value in step.get("env", {}).items():
            taken = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)
            if not taken or name == "TORCHPERF_ARGS" or not name.startswith("TORCHPERF_"):
                continue
            assert name in variables
            usual = "TORCHPERF_" + taken.group(1).replace("-", "_").upper()
            assert name == CALLED_OTHERWISE.get(usual, usual)


@each_action
def test_a_default_is_the_same_in_action_and_option(path: Path) -> None:
    """Where both have one."""
    inputs = yaml.safe_load(path.read_text(encoding="utf-8")).get("inputs", {})
    for step in steps(path):
        if "run" not in step:
            continue
        command = command_of(step)
        variables = options_by_variable(command)
        defaults = command.make_context("it", [], resilient_parsing=True).params
        for name, item in inputs.items():
            variable = "TORCHPERF_" + name.replace("-", "_").upper()
            option = variables.get(variable) if variable in step["env"] else None
            theirs = defaults[str(option.name)] if option else None
            if item.get("default") and theirs not in {None, ()} and (named(path), name) not in DIFFERENT_ON_PURPOSE:
                assert (name, item["default"]) == (name, shown(theirs))


@each_action
def test_inputs_and_outputs_are_described_and_outputs_come_from_a_step(path: Path) -> None:
    """What a person reads in the documentation is made of these."""
    action = yaml.safe_load(path.read_text(encoding="utf-8"))
    identifiers = {step.get("id") for step in steps(path)}
    for item in [*action.get("inputs", {}).values(), *action.get("outputs", {}).values()]:
        assert item["description"].strip()
    for item in action.get("outputs", {}).values():
        assert re.fullmatch(r"\$\{\{ steps\.([a-z-]+)\.outputs\.[a-z-]+ \}\}", item["value"])
        assert item["value"].split(".")[1] in identifiers


@each_file
def test_no_expression_reaches_a_shell_but_through_its_environment(path: Path) -> None:
    """An input is text, never code."""
    for step in steps(path):
        assert "${{" not in step.get("run", "")


@each_file
def test_what_others_wrote_is_pinned_to_a_commit(path: Path) -> None:
    """With its version beside it, for people and for the tool that updates it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    uses = [line.partition("uses:")[2].strip() for line in lines if re.match(r"\s*(- )?uses:", line)]
    own = re.compile(r"\$/.+|org/torchperf-ci(/[\w./-]+)?@v1")
    assert [name for name in uses if not own.fullmatch(name) and not PINNED.fullmatch(name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_workflow_begins_without_permissions(path: Path) -> None:
    """Its jobs name what they need; one that calls a workflow of ours gives exactly what that one's jobs need."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"]
        called = re.fullmatch(r"org/torchperf-ci/(\.github/workflows/[\w-]+\.yml)@v1", job.get("uses", ""))
        if called:
            theirs = yaml.safe_load((ROOT / called.group(1)).read_text(encoding="utf-8"))
            needed = [item for each in theirs["jobs"].values() for item in each["permissions"].items()]
            assert job["permissions"] == dict(sorted(needed))  # read comes before write
            assert set(job.get("with", {})) <= set(theirs[True]["workflow_call"]["inputs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_workflow_gives_actions_inputs_that_they_have(path: Path) -> None:
    """Of this repository; GitHub would only warn of others."""
    for step in steps(path):
        own = re.fullmatch(r"(?:\$/|org/torchperf-ci/?)([\w-]*)(?:@v1)?", step.get("uses", ""))
        if own:
            folder = ROOT / "actions" / own.group(1) if own.group(1) else ROOT
            action = yaml.safe_load((folder / "action.yml").read_text(encoding="utf-8"))
            assert set(step.get("with", {})) <= set(action["inputs"])


YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def used(block: object) -> list[dict[str, Any]]:
    """Everything in a YAML block that uses an action or a workflow."""
    if isinstance(block, list):
        return [found for item in block for found in used(item)]
    if not isinstance(block, dict):
        return []
    own = [block] if isinstance(block.get("uses"), str) else []
    return own + [found for item in block.values() for found in used(item)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_give_actions_and_workflows_inputs_that_they_have(path: Path) -> None:
    """And name only those that there are."""
    for block in YAML_BLOCK.findall(path.read_text(encoding="utf-8")):
        for step in used(yaml.safe_load(block)):
            own = re.fullmatch(r"org/torchperf-ci/?([\w./-]*)@v1", step["uses"])
            if own and own.group(1).endswith(".yml"):
                workflow = yaml.safe_load((ROOT / own.group(1)).read_text(encoding="utf-8"))
                assert set(step.get("with", {})) <= set(workflow[True]["workflow_call"]["inputs"])
            elif own:
                action = yaml.safe_load((ROOT / own.group(1) / "action.yml").read_text(encoding="utf-8"))
                assert set(step.get("with", {})) <= set(action["inputs"])
