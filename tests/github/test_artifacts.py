"""Single files out of artifacts."""

import io
import os
import struct
import zipfile

import pytest

from fakes.artifacts import zipped
from fakes.github_server import REPOSITORY
from fakes.http_server import Reply
from torchperf_ci.github.artifacts import ArtifactProblem, open_store, read_members
from torchperf_ci.github.client import GitHubRefused
from torchperf_ci.github.runs import Artifact

CSV = "name,accuracy\nresnet18,pass\n"
LARGE = zipped({"log": os.urandom(900_000), "a/x.csv": CSV, "z": os.urandom(600_000)})


@pytest.fixture
def read(server, client):
    """Reads the CSV files of an artifact that holds `content`."""

    def call(content: bytes, *, size: int | None = None, expired: bool = False, **limits: int):
        run = server.add_run()
        number = server.add_artifact(run, "reports", content, expired=expired)
        artifact = Artifact(
            id=number,
            name="reports",
            size=len(content) if size is None else size,
            expired=expired,
            commit="",
            branch="",
        )
        with open_store(connections=2) as session:
            members = read_members(
                client,
                REPOSITORY,
                artifact,
                wanted=lambda names: [name for name in names if name.endswith(".csv")],
                session=session,
                **limits,
            )
        return {name: content.decode() for name, content in members.items()}

    return call


def test_only_the_directory_and_the_wanted_file_cross_the_network(server, read):
    """Two ranges of a large zip, no range counted from the end, no token at the store."""
    assert read(LARGE) == {"a/x.csv": CSV}
    assert server.bytes_sent < len(LARGE) / 10
    stored = [asked for asked in server.asked if asked.path.startswith("/store")]
    assert len(stored) == 2
    assert all("authorization" not in asked.headers for asked in stored)
    assert all(asked.headers["range"].startswith("bytes=") and "=-" not in asked.headers["range"] for asked in stored)


def test_a_small_zip_takes_one_request_to_the_store(server, read):
    """The end that is read first is all of it."""
    assert read(zipped({"x.csv": CSV})) == {"x.csv": CSV}
    assert server.count("GET /store") == 1


@pytest.mark.parametrize("size", [0, 10, len(LARGE) - 5, len(LARGE) + 5, 10 * len(LARGE)])
def test_a_wrong_size_is_corrected_by_the_store(read, size: int):
    """GitHub's word on the size is only where to look first."""
    assert read(LARGE, size=size) == {"a/x.csv": CSV}


def test_a_store_without_ranges_sends_the_whole_once(server, read):
    """The fallback downloads once and reads everything from there."""
    server.ranges = False
    assert read(LARGE) == {"a/x.csv": CSV}
    assert server.count("GET /store") == 1


def test_a_whole_download_is_bounded(server, read, monkeypatch):
    """A zip that is too large for the fallback is refused."""
    server.ranges = False
    monkeypatch.setattr("torchperf_ci.github.artifacts.MAX_WHOLE_BYTES", 1_000_000)
    with pytest.raises(ArtifactProblem, match="and its store serves no ranges"):
        read(LARGE)


def test_the_address_is_signed_again_when_it_has_expired(server, read):
    """Every address is good for one request here."""
    server.signature_uses = 1
    assert read(LARGE) == {"a/x.csv": CSV}
    assert server.count("GET .*/zip$") == 2


def test_a_store_that_never_accepts_the_address_is_given_up(server, read):
    """After a few signatures it is not the time."""
    server.signature_uses = 0
    with pytest.raises(ArtifactProblem, match="the store answers 403"):
        read(LARGE)
    assert server.count("GET .*/zip$") == 4


def test_faults_of_the_store_are_tried_again(server, read, clock):
    """A 503, and a body that breaks off."""
    server.fail("GET /store", Reply(status=503))
    tail = {"Content-Range": f"bytes {len(LARGE) - 65536}-{len(LARGE) - 1}/{len(LARGE)}"}
    server.fail("GET /store", Reply(status=206, body=LARGE[-65536:], headers=tail, cut=9))
    assert read(LARGE) == {"a/x.csv": CSV}
    assert clock.slept == [1.0, 2.0]


def test_a_store_that_stays_broken_is_that_artifacts_problem(server, read):
    """Others can still be read, so it is no refusal of GitHub; the signed address stays secret."""
    server.fail("GET /store", Reply(status=500), times=99)
    with pytest.raises(ArtifactProblem) as caught:
        read(LARGE)
    assert str(caught.value) == "cannot be downloaded (the store answers 500)"


def test_an_expired_artifact_is_told(read):
    """GitHub answers 410."""
    with pytest.raises(ArtifactProblem, match="has expired"):
        read(LARGE, expired=True)


def test_a_deleted_artifact_is_told(server, client):
    """GitHub answers 404."""
    artifact = Artifact(id=1, name="gone", size=9, expired=False, commit="", branch="")
    with open_store(connections=1) as session, pytest.raises(ArtifactProblem, match="has been deleted"):
        read_members(client, REPOSITORY, artifact, wanted=list, session=session)


def test_a_token_that_may_not_download_is_a_refusal(server, read):
    """That is no artifact's problem: it holds for all of them."""
    server.permissions.clear()
    with pytest.raises(GitHubRefused, match=r"download the artifact reports.*'actions: read'"):
        read(LARGE)


@pytest.mark.parametrize("content", [b"", b"not a zip at all", LARGE[:-30], LARGE[: len(LARGE) // 2]])
def test_what_is_no_zip_is_unreadable(read, content: bytes):
    """Empty, something else, or truncated."""
    with pytest.raises(ArtifactProblem, match=r"is no readable zip|is empty or truncated"):
        read(content)


def test_a_damaged_file_is_unreadable(read):
    """Its checksum tells."""
    content = bytearray(zipped({"x.csv": "name,accuracy\n" + "a,pass\n" * 3}))
    content[40] ^= 0xFF
    with pytest.raises(ArtifactProblem, match="is no readable zip"):
        read(bytes(content))


def test_a_file_that_unpacks_too_large_is_refused(read):
    """What the directory says is enough."""
    bomb = zipped({"x.csv": b"0" * 5_000_000})
    with pytest.raises(ArtifactProblem, match=r"holds a x\.csv of more than 1 MiB"):
        read(bomb, max_member=1024 * 1024)


def test_a_directory_that_lies_about_the_size_is_refused(read):
    """A file that unpacks to more than its directory says is not read on."""
    content = zipped({"x.csv": b"0" * 5_000_000})
    lying = content.replace(struct.pack("<L", 5_000_000), struct.pack("<L", 1_000))
    assert lying != content
    with pytest.raises(ArtifactProblem, match=r"is no readable zip|of more than"):
        read(lying, max_member=1024 * 1024)


def test_a_huge_directory_is_refused(read):
    """A zip of very many files is not listed."""
    with pytest.raises(ArtifactProblem, match="has a directory that leads to"):
        read(zipped({f"{number:0100}": b"" for number in range(2_000)}), max_directory=100_000)


def test_a_name_that_stands_there_twice_is_refused(read):
    """Which of the two is the truth cannot be known."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.csv", CSV)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.csv", CSV)
    with pytest.raises(ArtifactProblem, match=r"holds x\.csv twice"):
        read(stream.getvalue())


def test_names_lead_nowhere(read, tmp_path, monkeypatch):
    """Nothing is written to disk, whatever a file is called."""
    monkeypatch.chdir(tmp_path)
    assert read(zipped({"../../evil.csv": CSV, "/abs.csv": CSV})) == {"../../evil.csv": CSV, "/abs.csv": CSV}
    assert list(tmp_path.iterdir()) == []


def rewritten(method: int) -> bytes:
    """A zip whose file is said to be packed by another method than it is."""
    content = bytearray(zipped({"x.csv": CSV}))
    at = content.rfind(b"PK\x01\x02")
    content[8:10] = content[at + 10 : at + 12] = struct.pack("<H", method)
    return bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_file_packed_by_nobody_is_unreadable(read, method: int):
    """Every packer fails in its own way."""
    with pytest.raises(ArtifactProblem, match="is no readable zip"):
        read(rewritten(method))


def test_a_name_that_is_no_text_is_unreadable(read):
    """It says that it is UTF-8."""
    content = zipped({"xy.csv": CSV, "x.csv": CSV}).replace(b"xy.csv", b"\xff\xfe.csv")
    flagged = bytearray(content)
    at = flagged.find(b"PK\x01\x02")
    flagged[at + 9] |= 0x08
    with pytest.raises(ArtifactProblem, match="is no readable zip"):
        read(bytes(flagged))


def test_an_encrypted_file_is_unreadable(read):
    """There is no password to ask for."""
    content = bytearray(zipped({"x.csv": CSV}))
    at = content.rfind(b"PK\x01\x02")
    content[at + 8] |= 1
    content[6] |= 1
    with pytest.raises(ArtifactProblem, match="is no readable zip"):
        read(bytes(content))
