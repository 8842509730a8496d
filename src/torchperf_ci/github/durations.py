"""What the newest artifact of earlier runs says about how long models take."""

from __future__ import annotations

from torchperf_ci.errors import NothingToJudge
from torchperf_ci.github.artifacts import read_members
from torchperf_ci.github.blob import ArtifactProblem, store_session
from torchperf_ci.github.client import Client
from torchperf_ci.github.pulls import default_branch
from torchperf_ci.github.runs import newest_artifact
from torchperf_ci.records import Record
from torchperf_ci.results import RECORDS, parse_results


def newest_records(client: Client, repository: str, name: str) -> tuple[Record, ...]:
    """The records in the newest artifact of this name that a run of the default branch uploaded.

    Raises `NothingToJudge` when there is none, or it holds no results, and `GitHubRefused`.
    """
    artifact = newest_artifact(client, repository, name, branch=default_branch(client, repository))
    if artifact is None:
        raise NothingToJudge("the default branch has none that has not expired")
    try:
        with store_session(connections=1) as session:
            wanted = (RECORDS,)
            members = read_members(
                client, repository, artifact, wanted=lambda names: [n for n in wanted if n in names], session=session
            )
    except ArtifactProblem as error:
        raise NothingToJudge(f"it {error}") from error
    records = [record for member in members for record in parse_results(member.content).records]
    if not records:
        raise NothingToJudge(f"it holds no {RECORDS} with results")
    return tuple(records)
