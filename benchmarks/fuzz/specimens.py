"""Sound bundles that targets begin from, made once a process."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from edgec.package import open_bundle
from mutations import make_specimen
from support.mutants import Specimen
from support.sshd import make_bundle

__all__ = ["bundle_files", "bundle_folder", "signed"]

FOLDER = TemporaryDirectory(prefix="edgec-fuzz-")


@cache
def bundle_folder() -> Path:
    """A bundle of a tiny graph."""
    return make_bundle(Path(FOLDER.name) / "bundle")


@cache
def bundle_files() -> dict[str, bytes]:
    """Its files."""
    source = open_bundle(bundle_folder()).source
    return {name: source.read(name) for name in source.sizes}


@cache
def signed() -> Specimen:
    """It signed, another release of it, and one that a stranger signed."""
    return make_specimen(bundle_folder(), Path(FOLDER.name) / "signed")
