"""A GitHub on this machine: runs, jobs, artifacts with their blob store, git data, pull requests.

It is as strict as the real one where that matters: pages with Link, a redirect to a signed address that refuses a
token and does not live long, ranges that may be refused, permissions, refs that only move forward.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fakes.http_server import Asked, FakeServer, Reply, Route

TOKEN = "secret-token"
REPOSITORY = "org/project"
SHA = "a" * 40

_ALL = frozenset({"actions: read", "contents: read", "contents: write", "pull-requests: write"})


class FakeGitHub(FakeServer):
    """AttemptState to set up, and routes over it. Everything is in the one repository `org/project`."""

    def __init__(self, *, latency_s: float = 0.0) -> None:
        super().__init__(latency_s=latency_s)
        self.permissions = set(_ALL)
        self.most_per_page = 100
        self.runs: list[dict[str, Any]] = []
        self.jobs: dict[int, list[dict[str, Any]]] = {}
        self.artifacts: dict[int, list[dict[str, Any]]] = {}
        self.blobs: dict[int, bytes] = {}
        self.ranges = True
        self.signature_uses = 1_000_000
        self.objects: dict[str, Any] = {}
        self.refs: dict[str, str] = {}
        self.pulls: list[dict[str, Any]] = []
        self.before_move: Callable[[], None] = lambda: None
        self._signatures: dict[str, int] = {}
        self._next_id = 100

    @property
    def environ(self) -> dict[str, str]:
        """What a command needs in its environment to talk to this server."""
        return {"GITHUB_TOKEN": TOKEN, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_API_URL": self.url}

    def add_run(
        self,
        *,
        workflow: str = "perf",
        sha: str = SHA,
        attempt: int = 1,
        status: str = "completed",
        event: str = "push",
    ) -> int:
        run = self._number()
        self.runs.append(
            {
                "id": run, "name": workflow, "event": event, "run_number": len(self.runs) + 1, "run_attempt": attempt,
                "head_sha": sha, "status": status, "created_at": "2026-01-02T03:04:05Z",
                "updated_at": "2026-01-02T04:05:06Z",
            }
        )  # fmt: skip
        self.jobs[run], self.artifacts[run] = [], []
        return run

    def add_job(
        self, run: int, name: str, *, attempt: int = 1, status: str = "completed", conclusion: str | None = "success"
    ) -> int:
        job = self._number()
        conclusion = conclusion if status == "completed" else None
        self.jobs[run].append(
            {"id": job, "name": name, "run_attempt": attempt, "status": status, "conclusion": conclusion}
        )
        return job

    def add_artifact(
        self, run: int, name: str, content: bytes, *, expired: bool = False, branch: str = "main", fork: bool = False
    ) -> int:
        artifact = self._number()
        sha = next(each["head_sha"] for each in self.runs if each["id"] == run)
        source = {
            "id": run, "head_branch": branch, "head_sha": sha,
            "repository_id": 1, "head_repository_id": 2 if fork else 1,
        }  # fmt: skip
        self.artifacts[run].append(
            {
                "id": artifact, "name": name, "size_in_bytes": len(content), "expired": expired, "workflow_run": source
            }
        )  # fmt: skip
        self.blobs[artifact] = content
        return artifact

    def commit(self, files: Mapping[str, bytes], *, branch: str, parents: Sequence[str] = ()) -> str:
        """A commit of exactly these files as the head of a branch."""
        tree = self._store({"tree": {path: self._store_blob(content) for path, content in files.items()}})
        sha = self._store({"message": "set up", "tree": tree, "parents": list(parents)})
        self.refs[branch] = sha
        return sha

    def files(self, branch: str) -> dict[str, bytes]:
        """The files at the head of a branch."""
        tree = self.objects[self.objects[self.refs[branch]]["tree"]]["tree"]
        return {path: self.objects[sha]["blob"] for path, sha in sorted(tree.items())}

    def history(self, branch: str) -> list[str]:
        """The messages of a branch's commits, the newest first."""
        return [self.objects[sha]["message"] for sha in self._line(branch)]

    def route(self, asked: Asked) -> Reply:
        if asked.path.startswith("/store/"):
            return self._serve_blob(asked)
        if asked.headers.get("authorization") not in {f"token {TOKEN}", f"Bearer {TOKEN}"}:
            return Reply(status=401, body={"message": "Bad credentials"})
        for method, pattern, needs, route in self._routes():
            match = re.fullmatch(f"/repos/{REPOSITORY}{pattern}", asked.path)
            if match and method == asked.method:
                if needs not in self.permissions:
                    headers = {"X-Accepted-GitHub-Permissions": needs.replace(": ", "=")}
                    message = {"message": "Resource not accessible by integration"}
                    return Reply(status=403, body=message, headers=headers)
                return route(asked, match)
        return Reply(status=404, body={"message": "Not Found"})

    def _routes(self) -> list[tuple[str, str, str, Route]]:
        return [
            ("GET", "", "contents: read", lambda *_: Reply(body={"default_branch": "main"})),
            ("GET", "/actions/runs", "actions: read", self._list_runs),
            ("GET", r"/actions/runs/(\d+)/jobs", "actions: read", self._list_jobs),
            ("GET", r"/actions/runs/(\d+)/artifacts", "actions: read", self._list_artifacts),
            ("GET", "/actions/artifacts", "actions: read", self._find_artifacts),
            ("GET", r"/actions/artifacts/(\d+)/zip", "actions: read", self._sign),
            ("GET", r"/commits/(\w+)", "contents: read", self._get_commit),
            ("GET", "/commits", "contents: read", self._list_commits),
            ("GET", r"/compare/(.+)\.\.\.(.+)", "contents: read", self._compare),
            ("GET", r"/contents/(.+)", "contents: read", self._get_contents),
            ("GET", r"/git/ref/heads/(.+)", "contents: read", self._get_ref),
            ("GET", r"/git/commits/(\w+)", "contents: read", self._get_git_commit),
            ("POST", "/git/blobs", "contents: write", self._post_blob),
            ("POST", "/git/trees", "contents: write", self._post_tree),
            ("POST", "/git/commits", "contents: write", self._post_commit),
            ("POST", "/git/refs", "contents: write", self._post_ref),
            ("PATCH", r"/git/refs/heads/(.+)", "contents: write", self._patch_ref),
            ("GET", "/pulls", "pull-requests: write", self._list_pulls),
            ("POST", "/pulls", "pull-requests: write", self._post_pull),
            ("PATCH", r"/pulls/(\d+)", "pull-requests: write", self._patch_pull),
        ]

    def page(self, asked: Asked, items: Sequence[Any], key: str = "") -> Reply:
        """One page of a list, with the link to the next one."""
        per_page = min(int(asked.query.get("per_page", 30)), self.most_per_page)
        number = int(asked.query.get("page", 1))
        held = list(items[(number - 1) * per_page : number * per_page])
        headers = {}
        if number * per_page < len(items):
            query = "&".join(f"{k}={v}" for k, v in {**asked.query, "page": str(number + 1)}.items())
            headers["Link"] = f'<{self.url}{asked.path}?{query}>; rel="next", <{self.url}/last>; rel="last"'
        return Reply(body={"total_count": len(items), key: held} if key else held, headers=headers)

    def _list_runs(self, asked: Asked, _: re.Match[str]) -> Reply:
        found = [run for run in self.runs if asked.query.get("head_sha") in {None, run["head_sha"]}]
        return self.page(asked, found, "workflow_runs")

    def _list_jobs(self, asked: Asked, match: re.Match[str]) -> Reply:
        jobs = self.jobs[int(match[1])]
        if asked.query.get("filter") != "all":
            newest = max((job["run_attempt"] for job in jobs), default=1)
            jobs = [job for job in jobs if job["run_attempt"] == newest]
        return self.page(asked, jobs, "jobs")

    def _list_artifacts(self, asked: Asked, match: re.Match[str]) -> Reply:
        return self.page(asked, self.artifacts[int(match[1])], "artifacts")

    def _find_artifacts(self, asked: Asked, _: re.Match[str]) -> Reply:
        found = [each for held in self.artifacts.values() for each in held if each["name"] == asked.query["name"]]
        return self.page(asked, sorted(found, key=lambda each: -each["id"]), "artifacts")

    def _sign(self, _: Asked, match: re.Match[str]) -> Reply:
        artifact = int(match[1])
        expired = [each["expired"] for held in self.artifacts.values() for each in held if each["id"] == artifact]
        if not expired or artifact not in self.blobs:
            return Reply(status=404, body={"message": "Not Found"})
        if expired[0]:
            return Reply(status=410, body={"message": "Artifact has expired"})
        signature = hashlib.sha1(str(self._number()).encode()).hexdigest()
        self._signatures[signature] = self.signature_uses
        return Reply(status=302, headers={"Location": f"{self.url}/store/{artifact}?sig={signature}"})

    def _serve_blob(self, asked: Asked) -> Reply:
        signature = asked.query.get("sig", "")
        if "authorization" in asked.headers:
            return Reply(status=400, body=b"<Error><Code>InvalidAuthenticationInfo</Code></Error>")
        if self._signatures.get(signature, 0) <= 0:
            return Reply(status=403, body=b"<Error><Code>AuthenticationFailed</Code></Error>")
        self._signatures[signature] -= 1
        return self._range(self.blobs[int(asked.path.rpartition("/")[2])], asked.headers.get("range", ""))

    def _range(self, content: bytes, wanted: str) -> Reply:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if not self.ranges or not wanted:
            return Reply(body=content)
        if not match or int(match[1]) >= len(content):  # suffix ranges are refused, as by some stores
            return Reply(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
        first, last = int(match[1]), min(int(match[2]), len(content) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        return Reply(status=206, body=content[first : last + 1], headers=headers)

    def _get_commit(self, _: Asked, match: re.Match[str]) -> Reply:
        found = {run["head_sha"] for run in self.runs if run["head_sha"].startswith(match[1])}
        return Reply(body={"sha": found.pop()}) if len(found) == 1 else Reply(status=422, body={"message": "No commit"})

    def _list_commits(self, asked: Asked, _: re.Match[str]) -> Reply:
        return self.page(asked, [{"sha": sha} for sha in self._line(asked.query["sha"])])

    def _compare(self, _: Asked, match: re.Match[str]) -> Reply:
        base, head = self._line(match[1]), self._line(match[2])
        common = next((sha for sha in head if sha in base), None)
        if common is None:
            return Reply(status=404, body={"message": "Not Found"})
        ahead = [sha for sha in reversed(head) if sha not in base]
        commits = [{"sha": sha, "commit": {"message": self.objects[sha].get("message", "")}} for sha in ahead]
        return Reply(body={"merge_base_commit": {"sha": common}, "total_commits": len(ahead), "commits": commits})

    def _line(self, name: str) -> list[str]:
        """The commit of a branch or SHA and its first parents, the nearest first; nothing for an unknown one."""
        found, at = [], self.refs.get(name, name)
        while at in self.objects:
            found.append(at)
            at = next(iter(self.objects[at]["parents"]), "")
        return found

    def _get_contents(self, asked: Asked, match: re.Match[str]) -> Reply:
        head = self.refs.get(asked.query.get("ref", "main"))
        tree = self.objects[self.objects[head]["tree"]]["tree"] if head else {}
        if match[1] not in tree:
            return Reply(status=404, body={"message": "Not Found"})
        return Reply(body={"type": "file", "path": match[1], "sha": tree[match[1]]})

    def _get_ref(self, _: Asked, match: re.Match[str]) -> Reply:
        if match[1] not in self.refs:
            return Reply(status=404, body={"message": "Not Found"})
        return Reply(body={"ref": f"refs/heads/{match[1]}", "object": {"sha": self.refs[match[1]], "type": "commit"}})

    def _get_git_commit(self, _: Asked, match: re.Match[str]) -> Reply:
        return Reply(body={"sha": match[1], "tree": {"sha": self.objects[match[1]]["tree"]}})

    def _post_blob(self, asked: Asked, _: re.Match[str]) -> Reply:
        return Reply(status=201, body={"sha": self._store_blob(base64.b64decode(asked.body["content"]))})

    def _post_tree(self, asked: Asked, _: re.Match[str]) -> Reply:
        base = asked.body.get("base_tree")
        tree = dict(self.objects[base]["tree"]) if base else {}
        for entry in asked.body["tree"]:
            if "content" in entry:
                tree[entry["path"]] = self._store_blob(entry["content"].encode())
            elif entry["sha"] is not None:
                tree[entry["path"]] = entry["sha"]
            elif tree.pop(entry["path"], None) is None:
                return Reply(status=422, body={"message": "GitRPC::BadObjectState"})
        return Reply(status=201, body={"sha": self._store({"tree": tree})})

    def _post_commit(self, asked: Asked, _: re.Match[str]) -> Reply:
        return Reply(status=201, body={"sha": self._store(asked.body)})

    def _post_ref(self, asked: Asked, _: re.Match[str]) -> Reply:
        self.before_move()
        branch = asked.body["ref"].removeprefix("refs/heads/")
        if branch in self.refs:
            return Reply(status=422, body={"message": "Reference already exists"})
        self.refs[branch] = asked.body["sha"]
        return Reply(status=201, body={"ref": asked.body["ref"]})

    def _patch_ref(self, asked: Asked, match: re.Match[str]) -> Reply:
        self.before_move()
        if self.refs[match[1]] not in {asked.body["sha"], *self.objects[asked.body["sha"]]["parents"]}:
            return Reply(status=422, body={"message": "Update is not a fast forward"})
        self.refs[match[1]] = asked.body["sha"]
        return Reply(body={"ref": f"refs/heads/{match[1]}"})

    def _list_pulls(self, asked: Asked, _: re.Match[str]) -> Reply:
        branch = asked.query["head"].removeprefix("org:")
        return self.page(asked, [pull for pull in self.pulls if pull["head"]["ref"] == branch])

    def _post_pull(self, asked: Asked, _: re.Match[str]) -> Reply:
        number = len(self.pulls) + 1
        addresses = {
            "url": f"{self.url}/repos/{REPOSITORY}/pulls/{number}",
            "html_url": f"{self.url}/{REPOSITORY}/pull/{number}",
        }
        pull = {**asked.body, **addresses, "number": number, "head": {"ref": asked.body["head"]}}
        self.pulls.append(pull)
        return Reply(status=201, body=pull)

    def _patch_pull(self, asked: Asked, match: re.Match[str]) -> Reply:
        self.pulls[int(match[1]) - 1].update(asked.body)
        return Reply(body=self.pulls[int(match[1]) - 1])

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id

    def _store(self, content: Any) -> str:
        sha = hashlib.sha1(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self.objects[sha] = content
        return sha

    def _store_blob(self, content: bytes) -> str:
        sha = hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
        self.objects[sha] = {"blob": content}
        return sha
