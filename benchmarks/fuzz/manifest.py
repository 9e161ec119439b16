"""The reader of a bundle's manifest: what it accepts, it writes and reads again as the same."""

from __future__ import annotations

from edgec.core.errors import IntegrityError
from edgec.package.manifest import Manifest
from fuzz.specimens import bundle_files

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.package.manifest", "edgec.core.inputs", "json")


def check(data: bytes) -> bool:
    """Raises AssertionError where a manifest does not survive being written."""
    try:
        manifest = Manifest.from_bytes(data, where="manifest.json")
    except IntegrityError:
        return False
    assert Manifest.from_bytes(manifest.to_bytes(), where="manifest.json") == manifest
    return True


def seeds() -> list[bytes]:
    """A manifest."""
    return [bundle_files()["manifest.json"]]
