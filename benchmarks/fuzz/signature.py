"""The check of a signature: of all envelopes, only those of the right key over the right manifest are believed."""

from __future__ import annotations

import json
from pathlib import Path

from edgec.core.errors import IntegrityError
from edgec.package.signing import Trust, read_signed_manifest
from fuzz.specimens import signed

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.package.envelope", "edgec.package.signing", "json")


def check(data: bytes) -> bool:
    """Raises AssertionError where an envelope is believed that is not the one that the key made."""
    specimen = signed()
    trust = Trust.read(key=specimen.public)
    try:
        read_signed_manifest(specimen.files["manifest.json"], data, trust, where=Path("bundle"))
    except IntegrityError:
        return False
    ours, given = (json.loads(each) for each in (specimen.files["signature.json"], data))
    assert given["dsseEnvelope"]["payload"] == ours["dsseEnvelope"]["payload"]
    return True


def seeds() -> list[bytes]:
    """The right envelope, that of another release, and a stranger's."""
    specimen = signed()
    return [each["signature.json"] for each in (specimen.files, specimen.other, specimen.foreign)]
