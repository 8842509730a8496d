"""A GitHub with issues, as strict as the real one about labels, assignees and who may write."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from fakes.dashboard_server import LONGEST_COMMENT, DashboardGitHub
from fakes.github_server import REPOSITORY
from fakes.http_server import Asked, Reply, Route


class IssuesGitHub(DashboardGitHub):
    """`assignable` are the users who may be assigned; `drops_labels` when the token may not set any."""

    def __init__(self) -> None:
        super().__init__()
        self.issues: list[dict[str, Any]] = []
        self.labels: set[str] = {"bug"}
        self.assignable: set[str] = set()
        self.drops_labels = False

    def add_issue(
        self, title: str, body: str, *, login: str, labels: list[str], is_pull: bool = False
    ) -> dict[str, Any]:
        """Somebody's issue."""
        number = len(self.issues) + 1
        self._clock += timedelta(minutes=1)
        kind = "pull" if is_pull else "issues"
        issue = {
            "number": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/{number}",
            "html_url": f"https://github.com/{REPOSITORY}/{kind}/{number}",
            "title": title,
            "body": body,
            "state": "open",
            "user": {"login": login},
            "labels": [{"name": label} for label in labels],
            "assignees": [],
            "created_at": f"{self._clock:%Y-%m-%dT%H:%M:%SZ}",
        }
        self.issues.append(issue)
        self.comments[number] = []
        return issue

    def _routes(self) -> list[tuple[str, str, str, Route]]:
        return [
            ("GET", "/issues", "issues: read", self._list_issues),
            ("POST", "/issues", "issues: write", self._post_issue),
            ("PATCH", r"/issues/(\d+)", "issues: write", self._patch_issue),
            ("GET", r"/labels/(.+)", "issues: read", self._get_label),
            ("POST", "/labels", "issues: write", self._post_label),
            ("GET", r"/assignees/([^/]+)", "issues: read", self._get_assignee),
            *super()._routes(),
        ]

    def _list_issues(self, asked: Asked, _: re.Match[str]) -> Reply:
        labels = set(filter(None, asked.query.get("labels", "").split(",")))
        state = asked.query.get("state", "open")
        listed = [
            issue
            for issue in self.issues
            if labels <= {label["name"] for label in issue["labels"]} and state in {"all", issue["state"]}
        ]
        return self.page(asked, listed if asked.query.get("direction") == "asc" else listed[::-1])

    def _post_issue(self, asked: Asked, _: re.Match[str]) -> Reply:
        if len(asked.body["body"]) > LONGEST_COMMENT or not asked.body["title"].strip():
            return Reply(status=422, body={"message": "Validation Failed"})
        if not self.assignable.issuperset(asked.body.get("assignees", [])):
            return Reply(status=422, body={"message": "Validation Failed"})
        labels = [] if self.drops_labels else asked.body.get("labels", [])
        self.labels |= set(labels)
        issue = self.add_issue(asked.body["title"], asked.body["body"], login=self.login, labels=labels)
        issue["assignees"] = [{"login": login} for login in asked.body.get("assignees", [])]
        if self.lose_answers:
            self.lose_answers -= 1
            return Reply(status=502, body={"message": "Bad Gateway"})
        return Reply(status=201, body=issue)

    def _patch_issue(self, asked: Asked, match: re.Match[str]) -> Reply:
        issue = self.issues[int(match[1]) - 1]
        issue |= asked.body
        return Reply(body=issue)

    def _get_label(self, _: Asked, match: re.Match[str]) -> Reply:
        if match[1] not in self.labels:
            return Reply(status=404, body={"message": "Not Found"})
        return Reply(body={"name": match[1], "url": f"{self.url}/repos/{REPOSITORY}/labels/{match[1]}"})

    def _post_label(self, asked: Asked, _: re.Match[str]) -> Reply:
        self.labels.add(asked.body["name"])
        return Reply(status=201, body={**asked.body, "url": f"{self.url}/repos/{REPOSITORY}/labels/x"})

    def _get_assignee(self, _: Asked, match: re.Match[str]) -> Reply:
        if match[1] not in self.assignable:
            return Reply(status=404, body={"message": "Not Found"})
        return Reply(status=204)
