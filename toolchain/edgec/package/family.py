"""Families: bundles of one model, one for each target, in a folder with an index that names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from edgec.core.digest import digest_bytes
from edgec.core.errors import ConfigError, DataError, IntegrityError
from edgec.core.files import write_bytes
from edgec.core.frozen import Frozen
from edgec.package.bundle import Bundle, open_bundle
from edgec.package.manifest import is_safe_name
from edgec.package.source import MAX_FILES

__all__ = [
    "FAMILY",
    "Family",
    "bundles_at",
    "is_family",
    "member_names",
    "open_family",
    "require_family_place",
    "write_family",
]

FAMILY = "family.json"
"""The index; what makes a folder a family."""
_MOST_BYTES = 1 << 20


class _Index(Frozen):
    """`family.json`: the digest of each member by its target, whose name its folder has."""

    name: str
    members: Mapping[str, str] = Field(min_length=1, max_length=MAX_FILES)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for target in self.members:
            if "/" in target or not is_safe_name(target):
                raise ValueError(f"target {target!r} is no folder's name")
        return self


@dataclass(frozen=True, kw_only=True)
class Family:
    """An opened family.

    Attributes:
        path: Its folder.
        name: What all members are called.
        digest: Of the index, which names the digest of every member.
        members: Each target's bundle, in the order in which they were built.
    """

    path: Path
    name: str
    digest: str
    members: Mapping[str, Bundle]

    def member(self, target: str) -> Bundle:
        """The bundle that was built for a target.

        Raises:
            DataError: There is none.
        """
        if target not in self.members:
            raise DataError(
                f"'{self.path}' has no member for '{target}'; it has {', '.join(self.members)}",
                hint=f"build it with the others: edgec build --target {','.join([*self.members, target])}",
            )
        return self.members[target]


def is_family(path: Path) -> bool:
    """Whether a folder says that it is a family."""
    return (path / FAMILY).is_file()


def member_names(path: Path) -> tuple[str, ...]:
    """The targets that a family's index names, whatever became of their bundles.

    Raises:
        DataError: As `open_family`.
        IntegrityError: The index is damaged.
    """
    return tuple(_read_index(path)[0].members)


def _read_index(path: Path) -> tuple[_Index, bytes]:
    try:
        with (path / FAMILY).open("rb") as file:
            data = file.read(_MOST_BYTES)
        index = _Index.model_validate_json(data)
    except OSError as error:
        raise DataError(
            f"'{path}' is no family: {error.strerror}", hint="edgec build --target A,B makes one"
        ) from error
    except ValidationError as error:
        found = error.errors(include_url=False)[0]["msg"]
        raise IntegrityError(f"'{path / FAMILY}': {found}", hint="build or copy the family again") from error
    return index, data


def open_family(path: Path) -> Family:
    """Opens a family; `Bundle.verify` of every member checks the rest.

    Raises:
        DataError: There is none, or a member is missing.
        IntegrityError: The index is damaged, or a member is another bundle than the one that it names.
    """
    index, data = _read_index(path)
    members = {target: open_bundle(path / target) for target in index.members}
    for target, bundle in members.items():
        found = (bundle.manifest.name, bundle.manifest.target.name, bundle.digest)
        if found != (index.name, target, index.members[target]):
            raise IntegrityError(
                f"'{bundle.path}' is not the member that {FAMILY} names", hint="build or copy the family again"
            )
    return Family(path=path, name=index.name, digest=digest_bytes(data), members=members)


def write_family(folder: Path, name: str, bundles: Mapping[str, Bundle]) -> None:
    """Writes the index of a folder whose members are there already."""
    index = _Index(name=name, members={target: bundle.digest for target, bundle in bundles.items()})
    write_bytes(folder / FAMILY, (index.model_dump_json(indent=2) + "\n").encode())


def bundles_at(path: Path) -> tuple[Path, ...]:
    """A bundle, or every member of a family.

    Raises:
        DataError: As `open_family`.
        IntegrityError: As `open_family`.
    """
    return tuple(bundle.path for bundle in open_family(path).members.values()) if is_family(path) else (path,)


def require_family_place(output: Path) -> None:
    """Lets a family be written where nothing, an empty folder or a family stands; its members may be damaged.

    Raises:
        ConfigError: Something else is there: other things have a `family.json` too, and must not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        member_names(output)
    except (DataError, IntegrityError) as error:
        raise ConfigError(
            f"'{output}' exists and is no family", hint="name another --output, or remove it first"
        ) from error
