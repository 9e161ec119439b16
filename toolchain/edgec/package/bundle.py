"""Bundles: a folder, or one archive, that holds a model with the proof of what it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.core.digest import digest_bytes, digest_file
from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.core.files import new_folder, require_writable, write_bytes
from edgec.package.archive import archive_bytes
from edgec.package.foreign import foreign_part
from edgec.package.manifest import MANIFEST, MAX_MANIFEST_BYTES, SIGNATURE, Description, FileEntry, Manifest
from edgec.package.source import Source, open_source

__all__ = ["Bundle", "open_bundle", "pack_bundle", "require_replaceable", "write_archive"]


def pack_bundle(*, description: Description, files: Mapping[str, Path | bytes], output: Path) -> Path:
    """Writes a bundle as a folder that appears whole or not at all; a bundle that stood there is replaced.

    Args:
        description: What the manifest is to say.
        files: Contents, or the files that hold them, by their path in the bundle.
        output: The folder.

    Returns:
        The folder.

    Raises:
        ConfigError: `output` cannot be written, or something that is not a bundle stands there.
        ValueError: A file name is not allowed, or the model is not among the files.
    """
    require_replaceable(output)
    require_writable(output)
    # A dry run of the manifest's rules, so that no name can lead a write out of the draft.
    Manifest.of(description, dict.fromkeys(files, FileEntry.of(b"")))
    with new_folder(output) as draft:
        entries = {name: _place(content, draft / name) for name, content in sorted(files.items())}
        write_bytes(draft / MANIFEST, Manifest.of(description, entries).to_bytes())
    return output


def require_replaceable(output: Path) -> None:
    """Lets a bundle be written where nothing, an empty folder or a bundle stands.

    Raises:
        ConfigError: Something else is there: a slip in `--output` must not cost anybody a folder of theirs.
    """
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not empty and not _is_bundle(output):
        raise ConfigError(f"'{output}' exists and is not a bundle", hint="name another --output, or remove it first")


def _is_bundle(folder: Path) -> bool:
    """Whether edgec wrote it: other things have a `manifest.json` too."""
    try:
        open_bundle(folder)
    except (DataError, IntegrityError):
        return False
    return True


def _place(content: Path | bytes, path: Path) -> FileEntry:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        shutil.copyfile(content, path)
    return FileEntry(sha256=digest_file(path), bytes=path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle. Nothing of it is believed before its digest agrees with the manifest.

    Attributes:
        manifest: As it was when the bundle was opened.
        digest: The bundle's identity: SHA-256 of that `manifest.json`, which names the digest of every other file.
    """

    path: Path
    manifest: Manifest
    digest: str
    source: Source

    @property
    def signed(self) -> bool:
        """Whether it holds a signature. Who made it, `verify_signature` tells."""
        return SIGNATURE in self.source.sizes

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file, checked against the manifest.

        Raises:
            DataError: The manifest names no such file.
            IntegrityError: The file is missing, or is not what the manifest says.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            known = ", ".join(sorted(self.manifest.files))
            raise DataError(f"'{self.path}' holds no '{name}'; it holds: {known}")
        found = self.source.sizes.get(name)
        if found is None:
            raise self._damaged(f"'{name}' is missing")
        if found != entry.bytes:
            raise self._damaged(f"'{name}' has {found} bytes, expected {entry.bytes}")
        data = self.source.read(name)
        if digest_bytes(data) != entry.sha256:
            raise self._damaged(f"'{name}' was changed: its SHA-256 is not the manifest's")
        return data

    def verify(self) -> None:
        """Reads every file and compares it with the manifest. The signature is another matter: `verify_signature`.

        Raises:
            IntegrityError: A file is missing, changed, or not named by the manifest, or the graph reads another file.
        """
        extra = sorted(set(self.source.sizes) - set(self.manifest.files) - {MANIFEST, SIGNATURE})
        if extra:
            raise self._damaged(f"'{extra[0]}' is not in the manifest")
        for name in sorted(self.manifest.files):
            data = self.read_bytes(name)
            if name == self.manifest.model.file and (part := foreign_part(data)):
                raise self._damaged(f"'{name}' has a {part}, expected a graph that brings everything along")

    def _damaged(self, reason: str) -> IntegrityError:
        return IntegrityError(f"'{self.path}': {reason}", hint="build or copy the bundle again")


def open_bundle(path: Path) -> Bundle:
    """Opens a bundle, folder or archive, and reads its manifest; `Bundle.verify` checks the rest.

    Raises:
        DataError: Nothing is there, or it is no bundle.
        IntegrityError: A bundle that is damaged or was edited.
    """
    source = open_source(path)
    size = source.sizes[MANIFEST]
    if size > MAX_MANIFEST_BYTES:
        raise IntegrityError(f"'{path}': {MANIFEST} has {size} bytes, expected at most {MAX_MANIFEST_BYTES}")
    data = source.read(MANIFEST)
    manifest = Manifest.from_bytes(data, where=f"{path}/{MANIFEST}")
    return Bundle(path=path, manifest=manifest, digest=digest_bytes(data), source=source)


def write_archive(folder: Path, output: Path) -> Path:
    """Writes a bundle as one file, `NAME.edgec`, that appears whole or not at all.

    A zip of stored entries in the order of their names, with fixed times and permissions: equal bundles
    give equal archives. A signature travels with it.

    Returns:
        The archive.

    Raises:
        ConfigError: `output` cannot be written, or is a folder.
        DataError: `folder` is no bundle.
        IntegrityError: It is a damaged one.
    """
    bundle = open_bundle(folder)
    bundle.verify()
    if output.is_dir():
        raise ConfigError(f"'{output}' is a folder", hint=f"name a file, such as {bundle.manifest.name}.edgec")
    require_writable(output)
    write_bytes(output, archive_bytes({name: bundle.source.read(name) for name in bundle.source.sizes}))
    return output
