"""The stage cache: what a stage made, under the digest of everything that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from edgec.core.digest import digest_file, digest_value
from edgec.core.files import new_folder, read_json, write_json
from edgec.pipeline.claims import Claim, claim
from edgec.pipeline.eviction import RECORD, note_use

__all__ = ["CACHE", "LIMIT_BYTES", "Output", "StageKey", "Store"]

CACHE = Path(".edgec/cache")
"""Where builds keep what stages made, unless another folder is named."""

LIMIT_BYTES = 10_000_000_000
"""How large a build leaves the cache, unless another limit is given."""

FactsT_co = TypeVar("FactsT_co", bound=BaseModel, covariant=True)
FactsT = TypeVar("FactsT", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class StageKey:
    """What a stage's result depends on: its name, the settings that it reads, and what it is made from.

    Attributes:
        stage: Name, for people and for the folder.
        settings: Every setting that changes the result, JSON-able or pydantic values; a build's by dotted names.
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
class Output(Generic[FactsT_co]):
    """What a stage made: a folder that nobody changes any more, and facts.

    Attributes:
        key: What it was made from.
        folder: Its files.
        facts: What the stage found.
        files: SHA-256 of every file, by name.
        cached: Whether it lay there already.
    """

    key: StageKey
    folder: Path
    facts: FactsT_co
    files: Mapping[str, str]
    cached: bool

    @property
    def told(self) -> dict[str, JsonValue]:
        """The facts as JSON values, without those that are not known."""
        return self.facts.model_dump(mode="json", exclude_none=True)


class Store:
    """A folder of finished stages. A stage that was killed leaves nothing under its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._use: tuple[str, Claim] | None = None

    @contextmanager
    def used_by(self, build: str, keys: Iterable[StageKey]) -> Iterator[None]:
        """Claims stages while the block runs, those too that `get` is asked for: nobody evicts them meanwhile.

        Args:
            build: Its name, for who asks later what an entry belongs to.
            keys: Stages that may be there already.
        """
        with claim(self.folder) as held:
            self._use = build, held
            try:
                places = [self.path(key) for key in keys]
                held.add(places)
                for place in places:
                    note_use(place, build)
                yield
            finally:
                self._use = None

    def path(self, key: StageKey) -> Path:
        """Where a stage's output is, or would be."""
        return self.folder / key.stage / key.key[:32]

    def holds(self, key: StageKey) -> bool:
        """Whether the stage is finished, and every file of it as it was left."""
        return self._record(key) is not None

    def get(self, key: StageKey, facts: type[FactsT], make: Callable[[Path], FactsT]) -> Output[FactsT]:
        """The output of a stage, made now if it is not there.

        Args:
            key: What to make.
            facts: What `make` returns.
            make: Writes files into the folder that it is given.
        """
        if self._use:
            self._use[1].add([self.path(key)])
        record = self._record(key)
        found = None if record is None else _parsed(facts, record)
        cached = record is not None and found is not None
        if record is None or found is None:
            record = self._make(key, make)
            found = facts.model_validate(record["facts"])
        if self._use:
            note_use(self.path(key), self._use[0])
        return Output(key=key, folder=self.path(key), facts=found, files=record["files"], cached=cached)

    def _record(self, key: StageKey) -> dict[str, Any] | None:
        """What the stage left, facts too; None where that is not there, or not as it was left."""
        folder = self.path(key)
        try:
            record = read_json(folder / RECORD)
            told = record.pop("digest")
            whole = told == digest_value(record) and record["key"] == key.key
            files = record["files"].items() if whole else ()
            return record if whole and all(digest_file(folder / name) == digest for name, digest in files) else None
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None

    def _make(self, key: StageKey, make: Callable[[Path], BaseModel]) -> dict[str, Any]:
        with new_folder(self.path(key)) as draft:
            facts = make(draft).model_dump(mode="json")
            files = {p.relative_to(draft).as_posix(): digest_file(p) for p in sorted(draft.rglob("*")) if p.is_file()}
            record = {"stage": key.stage, "key": key.key, "facts": facts, "files": files}
            write_json(draft / RECORD, {**record, "digest": digest_value(record)})
        return read_json(self.path(key) / RECORD)


def _parsed(facts: type[FactsT], record: Mapping[str, Any]) -> FactsT | None:
    try:
        return facts.model_validate(record["facts"])
    except ValidationError:
        return None
