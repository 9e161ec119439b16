"""What a stage leaves beside its files: the key that it was made for, its facts, and the digest of every file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from typing_extensions import Self

from edgec.core.digest import digest_value
from edgec.core.errors import IntegrityError

__all__ = ["Record"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished stage.

    Attributes:
        stage: Its name.
        key: Digest of all that it was made from.
        facts: What it found, as JSON has it.
        files: SHA-256 of every file, by its path below the stage's folder.
        seconds: How long it took to make.
    """

    stage: str
    key: str
    facts: Any
    files: Mapping[str, str]
    seconds: float

    @classmethod
    def parse(cls, data: bytes, *, stage: str, key: str) -> Self:
        """Reads a record, and believes nothing of it.

        Args:
            data: The bytes of `stage.json`.
            stage: The stage that it must be of.
            key: What that must have been made from.

        Raises:
            IntegrityError: It is damaged, or of another stage.
        """
        try:
            fields = json.loads(data)
            told = fields.pop("digest")
            if told != digest_value(fields):
                raise IntegrityError("its record is not what its digest says")
            if (fields["stage"], fields["key"]) != (stage, key):
                raise IntegrityError(f"it was made as '{fields['stage']}' {str(fields['key'])[:12]}")
            files = {str(name): str(digest) for name, digest in fields["files"].items()}
            return cls(**{**fields, "files": files, "seconds": float(fields["seconds"])})
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise IntegrityError("its record cannot be read") from error

    @property
    def told(self) -> dict[str, Any]:
        """What `stage.json` holds: the fields, and their digest."""
        fields = asdict(self)
        return {**fields, "digest": digest_value(fields)}
