"""What is tampered with, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from edgec.core.digest import digest_bytes
from edgec.package.archive import archive_bytes

__all__ = ["KINDS", "Mutant", "Specimen", "kind", "with_manifest", "written"]

Files = dict[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A sound bundle, as the contents of its files.

    Attributes:
        files: All of them, manifest and signature too.
        public: The key that it is signed with.
        other: Another release of it, signed with the same key.
        foreign: The same, signed with a key that nobody trusts.
    """

    files: Mapping[str, bytes]
    public: Path
    other: Mapping[str, bytes] = field(default_factory=dict)
    foreign: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest's fields."""
        return json.loads(self.files["manifest.json"])

    def of_release(self, release: int) -> Files:
        """The files with another release in the manifest, and another report."""
        return self.fitting({"report.html": b"<!doctype html><title>other</title>"}, release=release)

    def fitting(self, changed: Mapping[str, bytes], **fields: Any) -> Files:
        """Unsigned, with other files and a manifest that fits: what anybody can make."""
        files = {name: data for name, data in {**self.files, **changed}.items() if name != "signature.json"}
        listed = {n: {"sha256": digest_bytes(d), "bytes": len(d)} for n, d in files.items() if n != "manifest.json"}
        return files | {"manifest.json": json.dumps({**self.manifest, **fields, "files": listed}).encode()}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A tampered bundle.

    Attributes:
        path: Folder or archive.
        canary: What is there once code of it has run.
        fits: Whether manifest and files agree, so that only the contents are wrong.
    """

    path: Path
    canary: Path
    fits: bool = False


Mutate = Callable[[Specimen, Path, Random], Mutant]
KINDS: dict[str, Mutate] = {}


def kind(name: str) -> Callable[[Mutate], Mutate]:
    """Registers a way to tamper, under what it does."""

    def register(mutate: Mutate) -> Mutate:
        KINDS[name] = mutate
        return mutate

    return register


def written(files: Mapping[str, bytes], place: Path, *, archive: bool, fits: bool = False) -> Mutant:
    """A bundle of these files, sound in its layout."""
    path = place / ("b.edgec" if archive else "b")
    if archive:
        path.write_bytes(archive_bytes(files))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return Mutant(path=path, canary=place / "canary", fits=fits)


def with_manifest(specimen: Specimen, data: bytes, place: Path, rng: Random) -> Mutant:
    """Half of them unsigned and without a key, so that the manifest itself must be refused."""
    fits = rng.random() < 0.5
    files = {name: data for name, data in specimen.files.items() if not fits or name != "signature.json"}
    return written(files | {"manifest.json": data}, place, archive=rng.random() < 0.5, fits=fits)
