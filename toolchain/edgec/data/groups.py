"""Which images belong together, as frames of one video or pictures of one object do: a key read from where they lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgec.core.errors import ConfigError
from edgec.core.frozen import Frozen

__all__ = ["Grouping", "Groups"]

Groups = tuple[str | None, ...]
"""A key per image; None for one that belongs with no other."""


class Grouping(Frozen):
    """Where an image's group is read from. Of a file that has a folder and a pattern to go by, both together are it.

    Attributes:
        folder: Of a class folder's image the name of the folder at this depth: 1 is the class, 2 the folder in it.
        pattern: Of a file a regular expression, searched in its path below the split's folder: the group is what its
            first pair of brackets holds, or all that it matches.
        array: Of an `.npz` the name of an array of strings or whole numbers, one for each image.
    """

    folder: int | None = Field(default=None, ge=1)
    pattern: str | None = None
    array: str | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if all(value is None for _, value in self):
            raise ValueError("got none, expected one of folder, pattern and array")
        return self

    def of_files(self, paths: Sequence[Path], root: Path) -> Groups:
        """The group of each file below the split's folder.

        Raises:
            ConfigError: The group is asked of an array alone, or no file has one.
        """
        if self.folder is None and self.pattern is None:
            raise ConfigError(
                f"data.group.array = '{self.array}': '{root}' is a folder",
                hint="set data.group.folder or data.group.pattern",
            )
        found = tuple(self._of_file(path.relative_to(root)) for path in paths)
        if not any(found):
            asked = " and ".join(f"{name} = {value!r}" for name, value in self if value is not None and name != "array")
            raise ConfigError(
                f"data.group: {asked}: none of {len(paths)} images has a group, the first is "
                f"'{paths[0].relative_to(root).as_posix()}'",
                hint="choose a depth or a pattern that fits these paths",
            )
        return found

    def _of_file(self, path: Path) -> str | None:
        found: list[str | None] = []
        if self.folder is not None:
            found.append(path.parts[self.folder - 1] if self.folder < len(path.parts) else None)
        if self.pattern is not None:
            match = re.search(self.pattern, path.as_posix())
            found.append(match and (match[1] if match.re.groups else match[0]))
        pieces = [piece for piece in found if piece is not None]
        return "/".join(pieces) if len(pieces) == len(found) else None
