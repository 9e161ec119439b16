"""The session that a deployer has with a site: whatever is said, it ends, and the site's root stays a site's."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from edgec.core.digest import digest_bytes
from edgec.deploy.session import serve_session
from edgec.deploy.site import Site
from edgec.package.archive import archive_bytes
from fuzz.specimens import bundle_files

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.deploy.session", "edgec.deploy.site", "edgec.deploy.journal", "edgec.package.source")
FOLDER = TemporaryDirectory(prefix="edgec-fuzz-")
OWN = {"history.jsonl", "incoming", "versions", "current", ".lock", "agent.json"}


def check(data: bytes) -> bool:
    """Raises AssertionError where something lies in or beside the site that is none of its own."""
    root = Path(FOLDER.name) / "site"
    shutil.rmtree(root, ignore_errors=True)
    given, asked = os.pipe()
    heard, answered = os.pipe()
    os.set_blocking(asked, False)
    with os.fdopen(asked, "wb", buffering=0) as file:
        file.write(data)
    try:
        serve_session(Site(root, smoke_test=lambda _: None), given, answered, wait_s=0.0, idle_s=1.0)
    finally:
        for handle in (given, heard, answered):
            os.close(handle)
    assert {path.name for path in Path(FOLDER.name).iterdir()} == {"site"}
    assert {path.name for path in root.iterdir()} <= OWN, sorted(root.iterdir())
    return any((root / "versions").glob("*"))


def seeds() -> list[bytes]:
    """A whole deployment, and requests of each kind."""
    files = bundle_files()
    archive, digest = archive_bytes(files), digest_bytes(files["manifest.json"])
    lines = [
        {"do": "part", "digest": digest, "needs_bytes": 1},
        {"do": "receive", "digest": digest, "bytes": len(archive)},
        {"do": "install", "digest": digest},
        {"do": "activate", "digest": digest},
        {"do": "settle"},
        {"do": "rollback", "reason": "why"},
        {"do": "status"},
    ]
    said = [json.dumps(line).encode() + b"\n" for line in lines]
    return [said[0] + said[1] + archive + b"".join(said[2:]), *(said[i] for i in (0, 2, 3, 4, 5, 6))]
