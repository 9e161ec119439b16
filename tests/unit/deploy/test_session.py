"""What a deployer says to a site over one connection."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.deploy import Site
from edgec.deploy.session import serve_session
from edgec.package import open_bundle, write_archive


class Deployer:
    """The other end of a session."""

    def __init__(self, site: Site, *, idle_s: float = 60.0) -> None:
        read, self.to = os.pipe()
        self.of, write = os.pipe()
        self.lines = os.fdopen(self.of, "rb")

        def serve() -> None:
            try:
                serve_session(site, read, write, wait_s=0.0, idle_s=idle_s)
            finally:
                os.close(read)
                os.close(write)

        self.thread = threading.Thread(target=serve)
        self.thread.start()

    def hear(self) -> dict[str, Any] | None:
        line = self.lines.readline()
        return json.loads(line) if line else None

    def say(self, **request: object) -> dict[str, Any]:
        os.write(self.to, json.dumps(request).encode() + b"\n")
        answer = self.hear()
        assert answer is not None
        return answer

    def send(self, data: bytes, **request: object) -> dict[str, Any]:
        os.write(self.to, json.dumps(request).encode() + b"\n" + data)
        answer = self.hear()
        assert answer is not None
        return answer

    def end(self) -> None:
        os.close(self.to)
        self.thread.join()
        self.lines.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site", smoke_test=lambda folder: None)


@pytest.fixture
def deployer(site: Site) -> Iterator[Deployer]:
    deployer = Deployer(site)
    try:
        hello = deployer.hear()
        assert hello is not None
        assert hello["status"]["current"] is None
        yield deployer
    finally:
        deployer.end()


@pytest.fixture
def archive(bundle: Path, tmp_path: Path) -> bytes:
    return write_archive(bundle, tmp_path / "b.edgec").read_bytes()


@pytest.fixture
def digest(bundle: Path) -> str:
    return open_bundle(bundle).digest


def test_what_is_sent_in_two_parts_is_installed_and_runs(
    deployer: Deployer, site: Site, archive: bytes, digest: str
) -> None:
    assert deployer.send(archive[:1000], do="receive", digest=digest, bytes=1000)["error"] is None
    part = deployer.say(do="part", digest=digest)
    assert (part["part_bytes"], part["part_sha256"]) == (1000, hashlib.sha256(archive[:1000]).hexdigest())
    rest = archive[1000:]
    assert deployer.send(rest, do="receive", digest=digest, offset=1000, bytes=len(rest))["error"] is None
    assert deployer.say(do="install", digest=digest)["error"] is None
    assert deployer.say(do="activate", digest=digest)["version"]["digest"] == digest
    assert deployer.say(do="status")["status"]["current"]["digest"] == digest
    assert list((site.root / "incoming").iterdir()) == []


def test_an_upload_that_ends_in_the_middle_leaves_what_came_and_the_lock_free(
    site: Site, archive: bytes, digest: str
) -> None:
    deployer = Deployer(site)
    deployer.hear()
    os.write(
        deployer.to, json.dumps({"do": "receive", "digest": digest, "bytes": 1000}).encode() + b"\n" + archive[:10]
    )
    deployer.end()
    assert site.incoming(digest).read_bytes() == archive[:10]


def test_a_deployer_that_falls_silent_is_given_up(site: Site) -> None:
    deployer = Deployer(site, idle_s=0.05)
    deployer.hear()
    assert deployer.hear() is None
    deployer.end()
    with site.locked():
        pass


def test_a_damaged_upload_is_refused_removed_and_the_session_goes_on(
    deployer: Deployer, site: Site, archive: bytes, digest: str
) -> None:
    bad = archive.replace(b"doctype", b"DOCTYPE")
    deployer.send(bad, do="receive", digest=digest, bytes=len(bad))
    assert "cannot read 'report.html'" in deployer.say(do="install", digest=digest)["error"]["message"]
    assert deployer.say(do="part", digest=digest)["part_bytes"] == 0


def test_another_bundle_than_was_announced_is_refused(deployer: Deployer, archive: bytes) -> None:
    deployer.send(archive, do="receive", digest="f" * 64, bytes=len(archive))
    assert "expected ffffffffffffffff" in deployer.say(do="install", digest="f" * 64)["error"]["message"]


def test_too_little_space_is_told_before_anything_is_sent(deployer: Deployer, digest: str) -> None:
    error = deployer.say(do="part", digest=digest, needs_bytes=1 << 60)["error"]
    assert "bytes free, the bundle needs" in error["message"]


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "dance"},
        {"do": "part", "digest": "../../etc/passwd"},
        {"do": "receive", "digest": "a" * 64, "bytes": -1},
        {"do": "receive", "digest": "a" * 64, "bytes": 1 << 60},
    ],
)
def test_a_request_that_makes_no_sense_ends_the_session(site: Site, request_: dict[str, object]) -> None:
    deployer = Deployer(site)
    deployer.hear()
    assert "request refused" in deployer.say(**request_)["error"]["message"]
    assert deployer.hear() is None
    deployer.end()
    assert not (site.root / "incoming").exists()


def test_a_second_deployer_is_told_who_is_there(deployer: Deployer, site: Site) -> None:
    other = Deployer(Site(site.root, by="you"))
    answer = other.hear()
    assert answer is not None
    assert "is being deployed to by" in answer["error"]["message"]
    other.end()


def test_a_deployer_that_drips_is_gone_when_its_patience_is_used_up(tmp_path: Path) -> None:
    """Each byte comes in time, and they come too slowly."""
    deployer = Deployer(Site(tmp_path / "site", smoke_test=lambda folder: None), idle_s=0.5)
    assert deployer.hear() is not None
    began = time.monotonic()
    with contextlib.suppress(BrokenPipeError):
        while deployer.thread.is_alive() and time.monotonic() - began < 20:
            os.write(deployer.to, b" ")
            time.sleep(0.05)
    assert time.monotonic() - began < 15
    deployer.end()
