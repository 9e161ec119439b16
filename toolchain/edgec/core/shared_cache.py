"""A place where several machines keep finished stages, as a build sees it: it is not believed, but compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

__all__ = ["MAX_ENTRY_BYTES", "MAX_FILES", "MAX_RECORD_BYTES", "RECORD", "Admit", "SharedCache"]

RECORD = "stage.json"
"""What a stage leaves beside its files: what it was made from, its facts, the digest of every file."""

MAX_RECORD_BYTES = 16 << 20
"""Of a record: one that names which of 50,000 test images count takes 0.4 MB."""
MAX_ENTRY_BYTES = 2_000_000_000
"""Of all files of a stage, the most that a bundle may have."""
MAX_FILES = 256
"""Of a stage; none makes more than a bundle's."""

Admit = Callable[[bytes], Mapping[str, str]]
"""The files that a record names, each with its SHA-256; an IntegrityError says why an entry is not to be used."""


class SharedCache(Protocol):
    """A folder or a registry. Its values can be pickled: processes of a pool open it for themselves."""

    @property
    def name(self) -> str:
        """As a person wrote it."""
        ...

    def fetch(self, stage: str, key: str, into: Path, admit: Admit) -> bool:
        """Copies an entry's record and files into an empty folder, where they are compared.

        Args:
            stage: Name of the stage.
            key: Its whole key.
            into: An empty folder that nobody else can write to.
            admit: Is asked about the record before any other file is read.

        Returns:
            Whether there is such an entry.

        Raises:
            IntegrityError: It is not to be used.
            TransportError: The place cannot be reached.
            OSError: A file cannot be read or written.
        """
        ...

    def store(self, stage: str, key: str, folder: Path, files: Mapping[str, str], *, replace: bool) -> bool:
        """Keeps a finished stage, which appears there whole or not at all.

        Args:
            stage: Name of the stage.
            key: Its whole key.
            folder: Its record and its files.
            files: The files, each with its SHA-256.
            replace: Also where an entry stands already: it is damaged.

        Returns:
            Whether it had to be sent.

        Raises:
            IntegrityError: It is larger than an entry may be.
            TransportError: The place cannot be reached, or refuses.
            OSError: A file cannot be read or written.
        """
        ...
