"""The local GitHub with what a reviewer sees: pull requests and their heads, comments, check runs."""

from __future__ import annotations

import re
from typing import Any

from fakes.github_server import REPOSITORY, SHA, FakeGitHub
from fakes.http_server import Asked, Reply

BOT = "github-actions[bot]"
MOST_ANNOTATIONS = 50
LARGEST_TEXT = 65_535


class ReviewGitHub(FakeGitHub):
    """As strict as the real one: sizes, numbers of annotations, a workflow's token that may not ask `/user`."""

    def __init__(self) -> None:
        super().__init__()
        self.permissions |= {"checks: write", "issues: write"}
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.checks: list[dict[str, Any]] = []
        self.writers: set[str] = set()
        """Those who may write to the repository."""
        self.events: dict[int, list[dict[str, Any]]] = {}
        self.merged: dict[str, int] = {}
        """The pull request that brought a commit."""
        self.line: list[str] = []
        """The commits of the default branch, oldest first."""
        self._minute = 0

    def add_pull(
        self, *, sha: str = SHA, branch: str = "feature", fork: str = REPOSITORY, base: str = REPOSITORY
    ) -> int:
        """An open pull request with this head; its number."""
        number = len(self.pulls) + 1
        head = {"ref": branch, "sha": sha, "repo": {"full_name": fork}}
        self.pulls.append(
            {
                "number": number,
                "html_url": f"{self.url}/{REPOSITORY}/pull/{number}",
                "head": head,
                "base": {"repo": {"full_name": base}},
                "labels": [],
                "body": "",
                "merged_at": None,
            }
        )
        self.comments[number] = []
        return number

    def describe(self, pull: int, body: str) -> None:
        """Somebody edits a pull request's description."""
        self.pulls[pull - 1] |= {"body": body, "lastEditedAt": self.tell_time()}

    def put_label(self, pull: int, label: str, *, login: str) -> int:
        """Somebody puts a label on a pull request; the number of the event."""
        self.pulls[pull - 1]["labels"].append({"name": label})
        return self._add_event(pull, "labeled", label, login)

    def take_label(self, pull: int, label: str, *, login: str) -> int:
        """Somebody takes a label off; the number of the event."""
        self.pulls[pull - 1]["labels"].remove({"name": label})
        return self._add_event(pull, "unlabeled", label, login)

    def merge(self, pull: int, *commits: str) -> None:
        """A pull request becomes these commits of the default branch."""
        self.pulls[pull - 1] |= {"state": "closed", "merged_at": self.tell_time()}
        self.merged |= dict.fromkeys(commits, pull)

    def _add_event(self, pull: int, event: str, label: str, login: str) -> int:
        number = self._number()
        self.events.setdefault(pull, []).append(
            {
                "id": number,
                "event": event,
                "label": {"name": label},
                "actor": {"login": login},
                "created_at": self.tell_time(),
            }
        )
        return number

    def add_comment(self, pull: int, body: str, *, login: str) -> int:
        """Somebody's comment; its number."""
        made = self._comment(pull, body, login)
        self.comments[pull].append(made)
        return int(made["id"])

    def edit_comment(self, number: int, body: str) -> None:
        """Change what a comment says, as its author or somebody with write access may."""
        comment = next(each for held in self.comments.values() for each in held if each["id"] == number)
        comment |= {"body": body, "updated_at": self.tell_time()}

    def tell_time(self) -> str:
        """A minute later than the last time it was asked."""
        self._minute += 1
        return f"2026-11-20T{self._minute // 60:02}:{self._minute % 60:02}:00Z"

    def _comment(self, pull: int, body: str, login: str) -> dict[str, Any]:
        number, now = self._number(), self.tell_time()
        return {
            "id": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
            "html_url": f"{self.url}/{REPOSITORY}/pull/{pull}#issuecomment-{number}",
            "body": body,
            "user": {"login": login},
            "created_at": now,
            "updated_at": now,
        }

    def route(self, asked: Asked) -> Reply:
        if asked.method == "GET" and asked.path == "/user":
            return Reply(status=403, body={"message": "Resource not accessible by integration"})
        if asked.method == "POST" and asked.path == "/graphql":
            if "pullRequest" in asked.body["query"]:
                pull = self.pulls[asked.body["variables"]["number"] - 1]
                written = {"body": pull["body"], "lastEditedAt": pull.get("lastEditedAt")}
                return Reply(body={"data": {"repository": {"pullRequest": written}}})
            return Reply(body={"data": {"viewer": {"login": BOT}}})
        return super().route(asked)

    def _routes(self) -> list[tuple[str, str, str, Any]]:
        return [
            ("GET", "/pulls", "pull-requests: write", self._list_heads),
            ("GET", r"/pulls/(\d+)", "pull-requests: write", self._get_pull),
            ("GET", r"/issues/(\d+)/events", "issues: write", self._list_events),
            ("GET", r"/compare/(\w{40})\.\.\.(\w{40})", "contents: read", self._list_range),
            ("GET", r"/commits/(\w{40})/pulls", "pull-requests: write", self._list_pulls_of),
            ("GET", r"/collaborators/([^/]+)/permission", "contents: read", self._get_permission),
            ("GET", r"/issues/(\d+)/comments", "issues: write", self._list_comments),
            ("POST", r"/issues/(\d+)/comments", "issues: write", self._post_comment),
            ("PATCH", r"/issues/comments/(\d+)", "issues: write", self._patch_comment),
            ("GET", r"/commits/(\w{40})/check-runs", "checks: write", self._list_checks),
            ("POST", "/check-runs", "checks: write", self._post_check),
            ("PATCH", r"/check-runs/(\d+)", "checks: write", self._patch_check),
            *super()._routes(),
        ]

    def _list_heads(self, asked: Asked, _: re.Match[str]) -> Reply:
        owner, _, branch = asked.query["head"].partition(":")
        found = [
            pull
            for pull in self.pulls
            if (pull["head"]["repo"] or {"full_name": "/"})["full_name"].split("/")[0] == owner
            and pull["head"]["ref"] == branch
        ]
        return self.page(asked, found)

    def _get_pull(self, _: Asked, match: re.Match[str]) -> Reply:
        return Reply(body={"state": "open", **self.pulls[int(match[1]) - 1]})

    def _list_events(self, asked: Asked, match: re.Match[str]) -> Reply:
        return self.page(asked, self.events.get(int(match[1]), []))

    def _list_range(self, asked: Asked, match: re.Match[str]) -> Reply:
        if match[1] not in self.line or match[2] not in self.line:
            return self._compare(asked, match)
        shas = self.line[self.line.index(match[1]) + 1 : self.line.index(match[2]) + 1]
        return Reply(body={"commits": [{"sha": sha} for sha in shas], "total_commits": len(shas)})

    def _list_pulls_of(self, asked: Asked, match: re.Match[str]) -> Reply:
        number = self.merged.get(match[1])
        return self.page(asked, [self.pulls[number - 1]] if number else [])

    def _get_permission(self, _: Asked, match: re.Match[str]) -> Reply:
        permission = "write" if match[1] in self.writers else "read"
        return Reply(body={"permission": permission, "user": {"login": match[1]}})

    def _list_comments(self, asked: Asked, match: re.Match[str]) -> Reply:
        return self.page(asked, self.comments[int(match[1])])

    def _post_comment(self, asked: Asked, match: re.Match[str]) -> Reply:
        if len(asked.body["body"]) > LARGEST_TEXT:
            return Reply(status=422, body={"message": "Body is too long"})
        made = self._comment(int(match[1]), asked.body["body"], BOT)
        self.comments[int(match[1])].append(made)
        return Reply(status=201, body=made)

    def _patch_comment(self, asked: Asked, match: re.Match[str]) -> Reply:
        comment = next(each for held in self.comments.values() for each in held if each["id"] == int(match[1]))
        comment["body"] = asked.body["body"]
        return Reply(body=comment)

    def _list_checks(self, asked: Asked, match: re.Match[str]) -> Reply:
        wanted = (match[1], asked.query["check_name"])
        found = [check for check in self.checks if (check["head_sha"], check["name"]) == wanted]
        if asked.query.get("filter") != "all":  # as GitHub: the latest of a name alone
            found = found[-1:]
        return self.page(asked, found, "check_runs")

    def _post_check(self, asked: Asked, _: re.Match[str]) -> Reply:
        number = self._number()
        check = {
            "id": number,
            "url": f"{self.url}/repos/{REPOSITORY}/check-runs/{number}",
            "html_url": f"{self.url}/{REPOSITORY}/runs/{number}",
            "annotations": [],
        }
        self.checks.append(check)
        return self._write_check(check, asked, status=201)

    def _patch_check(self, asked: Asked, match: re.Match[str]) -> Reply:
        return self._write_check(next(each for each in self.checks if each["id"] == int(match[1])), asked, status=200)

    def _write_check(self, check: dict[str, Any], asked: Asked, *, status: int) -> Reply:
        output = asked.body.get("output", {})
        notes = output.get("annotations", [])
        if len(notes) > MOST_ANNOTATIONS or len(output.get("summary", "")) > LARGEST_TEXT:
            return Reply(status=422, body={"message": "Invalid request"})
        check |= {**asked.body, "annotations": [*check["annotations"], *notes]}
        return Reply(status=status, body=check)
