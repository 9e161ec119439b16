"""A bundle as it lies among a site's versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgec.core.digest import digest_bytes
from edgec.core.errors import DataError, IntegrityError
from edgec.deploy.disk import sync_folder
from edgec.package import Bundle, open_bundle
from edgec.package.manifest import SIGNATURE

__all__ = ["Version", "copy_bundle", "folder_name", "installed_versions", "keeps_copy"]


@dataclass(frozen=True, kw_only=True)
class Version:
    """A bundle that is installed.

    Attributes:
        digest: The bundle's identity, SHA-256 of its manifest.
        name: As the manifest has it.
        release: What the manifest counts; a lower one than what runs is refused.
        target: The device profile that it was built for.
        size_bytes: Of all its files.
        signature: SHA-256 of its signature; None where it has none.
    """

    digest: str
    name: str
    release: int
    target: str
    size_bytes: int
    signature: str | None

    @classmethod
    def of(cls, bundle: Bundle) -> Version:
        """What an opened bundle says of itself."""
        manifest, sizes = bundle.manifest, bundle.source.sizes
        return cls(
            digest=bundle.digest,
            name=manifest.name,
            release=getattr(manifest, "release", 0),
            target=manifest.target.name,
            size_bytes=sum(sizes.values()),
            signature=digest_bytes(bundle.source.read(SIGNATURE)) if bundle.signed else None,
        )


def folder_name(digest: str) -> str:
    """Of a digest, the digits that name a version's folder."""
    return digest[:16]


def installed_versions(folder: Path) -> dict[str, Version]:
    """The versions in a folder, by digest; whatever else lies there is passed over."""
    found: dict[str, Version] = {}
    for place in folder.glob("[!.]*"):
        with suppress(DataError, IntegrityError, OSError):
            version = Version.of(open_bundle(place))
            if place.name == folder_name(version.digest):
                found[version.digest] = version
    return found


def keeps_copy(folder: Path, version: Version, require_signed: Callable[[Bundle], None] | None) -> bool:
    """Whether what lies in a version's folder stays when that version is installed again.

    A copy that is whole stays. One with another signature goes where signatures are asked for and it lacks one, or
    where nobody asks and it has none: a signature is never lost.

    Args:
        folder: The version's.
        version: What came, which is signed as asked.
        require_signed: Raises where a bundle is not signed as asked; None where nobody asks.

    Raises:
        IntegrityError: Another bundle lies there, or nobody can tell which of two signatures is the right one.
    """
    try:
        there = open_bundle(folder)
        found = Version.of(there)
    except (DataError, IntegrityError):
        return False  # nothing, or a damaged copy
    if found.digest != version.digest:
        raise _other(folder, "another bundle of the same first digits")
    if found.signature == version.signature:
        return _is_whole(there)
    if require_signed is not None:
        return _is_whole(there) and _passes(there, require_signed)
    if found.signature is not None:
        raise _other(folder, "this bundle with another signature")
    return False


def _passes(bundle: Bundle, check: Callable[[Bundle], None]) -> bool:
    try:
        check(bundle)
    except IntegrityError:
        return False
    return True


def _is_whole(bundle: Bundle) -> bool:
    return _passes(bundle, Bundle.verify)


def _other(folder: Path, what: str) -> IntegrityError:
    return IntegrityError(f"'{folder}' holds {what}", hint="deploy the bundle that is there, or another release")


def copy_bundle(bundle: Bundle, folder: Path) -> None:
    """Writes a bundle's files into a folder so that they are on the disk when this returns."""
    for name in sorted(bundle.source.sizes):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(bundle.source.read(name))
            file.flush()
            os.fsync(file.fileno())
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(inner)
