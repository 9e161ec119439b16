"""The stage cache: what a stage made, under the digest of everything that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.core.digest import digest_file, digest_value
from edgec.core.files import new_folder, read_json, write_json

__all__ = ["Output", "Recipe", "Store"]

RECORD = "stage.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a stage is to make: its name, its settings, and the keys of what it is made from.

    Attributes:
        stage: Name, for people and for the folder.
        settings: JSON-able or pydantic value with every setting that changes the result.
        sources: Digests of files, keys of other stages, tool versions.
    """

    stage: str
    settings: Any
    sources: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 over name, settings and sources: equal keys mean equal results."""
        return digest_value([self.stage, self.settings, dict(self.sources)])


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a stage made: a folder that nobody changes any more, and facts.

    Attributes:
        recipe: What it was made from.
        folder: Its files.
        facts: What the stage tells the report, JSON values.
        files: SHA-256 of every file, by name.
        cached: Whether it lay there already.
    """

    recipe: Recipe
    folder: Path
    facts: Mapping[str, Any]
    files: Mapping[str, str]
    cached: bool


class Store:
    """A folder of finished stages. A stage that was killed leaves nothing under its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, recipe: Recipe) -> Path:
        """Where a stage's output is, or would be."""
        return self.folder / recipe.stage / recipe.key[:32]

    def holds(self, recipe: Recipe) -> bool:
        """Whether the stage is finished, and every file of it as it was left."""
        return self._record(recipe) is not None

    def _record(self, recipe: Recipe) -> Mapping[str, Any] | None:
        """What the stage left, facts too; None where that is not there, or not as it was left."""
        folder = self.path(recipe)
        try:
            record = read_json(folder / RECORD)
            told = record.pop("digest")
            whole = told == digest_value(record) and record["key"] == recipe.key
            files = record["files"].items() if whole else ()
            return record if whole and all(digest_file(folder / name) == digest for name, digest in files) else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def get(self, recipe: Recipe, make: Callable[[Path], Mapping[str, Any]]) -> Output:
        """The output of a stage, made now if it is not there.

        Args:
            recipe: What to make.
            make: Writes files into the folder it is given and returns facts, JSON values.
        """
        found = self._record(recipe)
        record = found
        if record is None:
            with new_folder(self.path(recipe)) as draft:
                facts = make(draft)
                files = {
                    p.relative_to(draft).as_posix(): digest_file(p) for p in sorted(draft.rglob("*")) if p.is_file()
                }
                record = {"stage": recipe.stage, "key": recipe.key, "facts": facts, "files": files}
                write_json(draft / RECORD, {**record, "digest": digest_value(record)})
            record = read_json(self.path(recipe) / RECORD)
        return Output(
            recipe=recipe,
            folder=self.path(recipe),
            facts=record["facts"],
            files=record["files"],
            cached=found is not None,
        )
