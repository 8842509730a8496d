"""Where the dashboard's run, pictures and comments go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torchperf_ci.cli.history_options import Place, repository_of
from torchperf_ci.core.errors import Refused

if TYPE_CHECKING:
    from torchperf_ci.dashboard.run import Comment
    from torchperf_ci.github.client import Client
    from torchperf_ci.history.parquet import ParquetHistory
    from torchperf_ci.history.store import History, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Everything outside of the results folder that a dashboard writes to.

    client: None where nothing on GitHub is read or written.
    issues: by dtype; under the blank name the one for all others.
    """

    options: Mapping[str, Any]
    place: Place
    issues: Mapping[str, int]
    environ: Mapping[str, str] = field(repr=False)
    client: Client | None = None

    def history(self) -> History:
        """The history to compare with and to add to."""
        if archive := self.options["archive"]:
            from torchperf_ci.core.result_files import read_folder
            from torchperf_ci.history.lookup import LookupHistory

            return LookupHistory(root=archive, read=read_folder, archive_name=self.options["archive_name"])
        return self._parquet()

    def picture_urls(self, run: Run, pictures: Mapping[Path, bytes]) -> Mapping[str, str]:
        """Where the pictures, by their path in the results folder, can be seen: by file name.

        On the data branch that is known before they are there; a command uploads them now.
        """
        from torchperf_ci.dashboard.image_command import upload_by_command

        if command := self.options["image_uploader"]:
            if self.options["dry_run"]:
                for path, content in pictures.items():
                    click.echo(f"Would run: {command} {path} ({len(content):,} bytes)", err=True)
                return {}
            uploaded = upload_by_command(command, list(pictures))
            for problem in uploaded.problems:
                click.echo(f"Warning: {problem}", err=True)
            return uploaded.urls
        if not self.place.data_branch:
            return {}
        from torchperf_ci.history.data_branch import picture_path, picture_url, server_of

        server, branch = server_of(self.place.github.api_url), self.place.branch()
        return {
            path.name: picture_url(server, branch, picture_path(run.time, path.name, content))
            for path, content in pictures.items()
        }

    def keep(self, run: Run, folder: Path, pictures: Mapping[Path, bytes]) -> None:
        """Add the run to the history, and the pictures to the data branch: in one commit where both are there."""
        from torchperf_ci.history.data_branch import HISTORY, picture_path

        on_branch: dict[str, bytes] = {}
        if self.place.data_branch and not self.options["image_uploader"]:
            on_branch = {picture_path(run.time, path.name, content): content for path, content in pictures.items()}
        if not self.options["no_update_archive"]:
            if self.place.needs_github and not self.options["archive"]:
                made = self._parquet().encode(run)
                on_branch |= {f"{HISTORY}/{path}": content for path, content in made.items()}
            else:
                self._add(run, folder)
        if on_branch:
            self._commit(run, on_branch)

    def post(self, run: Run, comments: Sequence[Comment]) -> list[str]:
        """Post the comments that have an issue; their addresses. Raises `Refused` after all of them were tried."""
        urls: list[str] = []
        failures: list[str] = []
        for comment in comments:
            issue = self.issues.get(comment.dtype, self.issues.get(""))
            if issue is None:
                click.echo(f"No --issue is named for {comment.dtype}: its comment is in {comment.path}", err=True)
                continue
            try:
                urls += self._post(run, comment, issue)
            except Refused as error:
                failures.append(f"{error}. The comment is in {comment.path}; repeat the command to post it")
        if failures:
            raise Refused("\n".join(failures))
        return urls

    def _parquet(self) -> ParquetHistory:
        from torchperf_ci.history.parquet import ParquetHistory

        return ParquetHistory(files=self.place.files(self.environ, self.client))

    def _add(self, run: Run, folder: Path) -> None:
        dry_run = self.options["dry_run"]
        added = self.history().add(run, folder, dry_run=dry_run)
        for path, size in added.sizes.items():
            click.echo(f"{'Would write' if dry_run else 'Wrote'} {added.where}/{path} ({size:,} bytes)", err=True)
        if not added.sizes:
            click.echo(f"{added.where} has this run already", err=True)

    def _commit(self, run: Run, files: Mapping[str, bytes]) -> None:
        branch = self.place.branch()
        where = f"the branch {branch.name} of {branch.repository}"
        if self.options["dry_run"]:
            for path, content in files.items():
                click.echo(f"Would commit {path} ({len(content):,} bytes) to {where}", err=True)
            return
        from torchperf_ci.github.branch import commit_files

        assert self.client is not None
        message = f"Add the run of {run.time:%Y-%m-%d %H:%M} UTC"
        commit = commit_files(self.client, branch, files, message=message)
        size = sum(map(len, files.values()))
        done = f"Committed {len(files)} files ({size:,} bytes) to" if commit.made else "Everything is already on"
        click.echo(f"{done} {where}", err=True)

    def _post(self, run: Run, comment: Comment, issue: int) -> list[str]:
        repository = repository_of(self.place.github)
        if self.options["dry_run"]:
            how = "edit the earlier comment on, or post one to," if self.options["sticky"] else "post a comment to"
            size = len(comment.text.encode())
            click.echo(f"Would {how} {repository}#{issue} ({size:,} bytes, {comment.path})", err=True)
            return []
        from torchperf_ci.github.comments import Marker, post_comment

        assert self.client is not None
        marker = Marker(subject=f"dashboard {run.name} {comment.dtype}", run=run.key, time=run.time)
        posted = post_comment(self.client, repository, issue, comment.text, marker, sticky=self.options["sticky"])
        click.echo(f"{'Posted' if posted.was_new else 'Updated'} {posted.url}", err=True)
        return [posted.url]
