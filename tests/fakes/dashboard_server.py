"""A GitHub with comments and a readable data branch, as strict as the real one about authors, sizes and pages."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta, timezone
from typing import Any

from fakes.github_server import REPOSITORY, FakeGitHub
from fakes.http_server import Asked, Reply, Route

LONGEST_COMMENT = 65_536


class DashboardGitHub(FakeGitHub):
    """`login` is who the token belongs to; an installation's token may ask GraphQL only, as a workflow's does."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        super().__init__(latency_s=latency_s)
        self.permissions |= {"issues: read", "issues: write"}
        self.login = "octocat"
        self.is_installation = False
        self.comments: dict[int, list[dict[str, Any]]] = {7: [], 8: []}
        self.lose_answers = 0
        self._clock = datetime(2026, 12, 1, tzinfo=timezone.utc)

    def bodies(self, issue: int = 7) -> list[str]:
        """The comments on an issue, without the markers above them."""
        return [comment["body"].partition("\n")[2] for comment in self.comments[issue]]

    def add_comment(self, issue: int, body: str, *, login: str) -> dict[str, Any]:
        number = self._number()
        self._clock += timedelta(minutes=1)
        comment = {
            "id": number,
            "url": f"{self.url}/repos/{REPOSITORY}/issues/comments/{number}",
            "body": body,
            "user": {"login": login},
            "html_url": f"https://github.com/{REPOSITORY}/issues/{issue}#issuecomment-{number}",
            "updated_at": f"{self._clock:%Y-%m-%dT%H:%M:%SZ}",
        }
        self.comments[issue].append(comment)
        return comment

    def route(self, asked: Asked) -> Reply:
        if asked.path == "/user" and asked.method == "GET":
            if self.is_installation:
                return Reply(status=403, body={"message": "Resource not accessible by integration"})
            return Reply(body={"login": self.login})
        if asked.path == "/graphql" and asked.method == "POST":
            return Reply(body={"data": {"viewer": {"login": self.login}}})
        return super().route(asked)

    def _routes(self) -> list[tuple[str, str, str, Route]]:
        return [
            ("GET", r"/issues/(\d+)/comments", "issues: read", self._list_comments),
            ("POST", r"/issues/(\d+)/comments", "issues: write", self._post_comment),
            ("PATCH", r"/issues/comments/(\d+)", "issues: write", self._patch_comment),
            ("GET", r"/git/trees/(.+)", "contents: read", self._get_tree),
            ("GET", r"/git/blobs/(\w+)", "contents: read", self._get_blob),
            ("GET", r"/contents/(\w+)", "contents: read", self._get_folder),
            *super()._routes(),
        ]

    def _list_comments(self, asked: Asked, match: re.Match[str]) -> Reply:
        if int(match[1]) not in self.comments:
            return Reply(status=404, body={"message": "Not Found"})
        since = asked.query.get("since", "")
        return self.page(asked, [found for found in self.comments[int(match[1])] if found["updated_at"] >= since])

    def _post_comment(self, asked: Asked, match: re.Match[str]) -> Reply:
        if refused := self._too_long(asked.body["body"]):
            return refused
        made = self.add_comment(int(match[1]), asked.body["body"], login=self.login)
        if self.lose_answers:
            self.lose_answers -= 1
            return Reply(status=502, body={"message": "Bad Gateway"})
        return Reply(status=201, body=made)

    def _patch_comment(self, asked: Asked, match: re.Match[str]) -> Reply:
        if refused := self._too_long(asked.body["body"]):
            return refused
        (found,) = (item for held in self.comments.values() for item in held if item["id"] == int(match[1]))
        found["body"] = asked.body["body"]
        return Reply(body=found)

    def _too_long(self, body: str) -> Reply | None:
        if len(body) <= LONGEST_COMMENT:
            return None
        errors = [{"field": "body", "message": "body is too long (maximum is 65536 characters)"}]
        return Reply(status=422, body={"message": "Validation Failed", "errors": errors})

    def _get_folder(self, asked: Asked, match: re.Match[str]) -> Reply:
        """The folders in a folder; their trees are named by their place."""
        head = self.refs.get(asked.query.get("ref", "main"))
        if not head:
            return Reply(status=404, body={"message": "No commit found for the ref"})
        tree = self.objects[head]["tree"]
        below = {path.split("/")[1] for path in self.objects[tree]["tree"] if path.startswith(f"{match[1]}/")}
        if not below:
            return Reply(status=404, body={"message": "Not Found"})
        return Reply(body=[{"name": name, "type": "dir", "sha": f"{tree}:{match[1]}/{name}"} for name in sorted(below)])

    def _get_tree(self, _: Asked, match: re.Match[str]) -> Reply:
        tree, _, folder = match[1].partition(":")
        entries = [
            {"path": path.rpartition("/")[2], "type": "blob", "sha": sha}
            for path, sha in self.objects[tree]["tree"].items()
            if path.rpartition("/")[0] == folder
        ]
        return Reply(body={"sha": match[1], "tree": entries, "truncated": False})

    def _get_blob(self, _: Asked, match: re.Match[str]) -> Reply:
        content = self.objects[match[1]]["blob"]
        return Reply(body={"sha": match[1], "encoding": "base64", "content": base64.encodebytes(content).decode()})
