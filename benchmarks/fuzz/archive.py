"""The reader of archives: what it lists it reads, and Python's own reader of zip files sees the same."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from edgec.core.errors import EdgecError
from edgec.package import open_bundle
from edgec.package.archive import archive_bytes
from fuzz.specimens import bundle_files, signed

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.package.archive", "edgec.package.source", "edgec.package.bundle", "zipfile")
FOLDER = TemporaryDirectory(prefix="edgec-fuzz-")


def check(data: bytes) -> bool:
    """Raises AssertionError where a verified bundle holds other files than zipfile finds, or leads outside."""
    path = Path(FOLDER.name) / "b.edgec"
    path.write_bytes(data)
    try:
        bundle = open_bundle(path)
        bundle.verify()
    except EdgecError:
        return False
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(archive.namelist()) == sorted(bundle.source.sizes)
        for name in bundle.manifest.files:
            assert archive.read(name) == bundle.read_bytes(name)
            assert (Path(FOLDER.name) / name).resolve().is_relative_to(Path(FOLDER.name).resolve())
    return True


def seeds() -> list[bytes]:
    """A bundle, unsigned and signed."""
    return [archive_bytes(files) for files in (bundle_files(), signed().files)]
