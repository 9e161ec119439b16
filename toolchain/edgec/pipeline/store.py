"""The stage cache: what a stage made, under the digest of everything that it was made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from edgec.core.digest import digest_file, digest_value
from edgec.core.errors import IntegrityError
from edgec.core.files import new_folder, write_json
from edgec.core.shared_cache import RECORD
from edgec.pipeline.claims import Claim, claim, made_once
from edgec.pipeline.eviction import entry_path, note_use
from edgec.pipeline.exchange import Exchange
from edgec.pipeline.record import Record

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
    """A folder of finished stages. A stage that was killed leaves nothing under its name.

    Args:
        folder: Where they lie on this machine.
        exchange: Shared caches, which have stages that are not there, and keep those that are; None for none.
    """

    def __init__(self, folder: Path, exchange: Exchange | None = None) -> None:
        self.folder = folder
        self._exchange = exchange
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
        return entry_path(self.folder, key.stage, key.key)

    def holds(self, key: StageKey) -> bool:
        """Whether the stage is finished on this machine, and every file of it as it was left."""
        return self._record(key) is not None

    def has_entry(self, key: StageKey) -> bool:
        """Whether something stands in the stage's place; nothing of it is compared."""
        return (self.path(key) / RECORD).exists()

    def seconds(self, key: StageKey) -> float | None:
        """How long the stage took to make; None where it is not finished here."""
        try:
            return Record.parse((self.path(key) / RECORD).read_bytes(), stage=key.stage, key=key.key).seconds
        except (OSError, IntegrityError):
            return None

    def brings(self, key: StageKey) -> bool:
        """Whether the stage is finished: here, or in a shared cache, from which it is fetched now."""
        return self._brought(key) is not None

    def origin(self, key: StageKey) -> str | None:
        """The shared cache from which a stage came in this run; None where it came from none."""
        return self._exchange.origins.get(key.key) if self._exchange else None

    def get(self, key: StageKey, facts: type[FactsT], make: Callable[[Path], FactsT]) -> Output[FactsT]:
        """The output of a stage, made now if no cache has it.

        Args:
            key: What to make; where another process is making it, that is waited for.
            facts: What `make` returns.
            make: Writes files into the folder that it is given.
        """
        self._claim(key)
        record = self._brought(key)
        found = None if record is None else _parsed(facts, record)
        cached = record is not None and found is not None
        if record is None or found is None:
            self._refuse(key)
            with made_once(self.folder, self.path(key)):
                record = self._record(key)  # another process may have made it meanwhile
                found = None if record is None else _parsed(facts, record)
                cached = record is not None and found is not None
                if record is None or found is None:
                    record = self._make(key, make)
                    found = facts.model_validate(record.facts)
        if self._use:
            note_use(self.path(key), self._use[0])
        self._offer(record, self.path(key))
        return Output(key=key, folder=self.path(key), facts=found, files=record.files, cached=cached)

    def share(self, keys: Iterable[StageKey]) -> None:
        """Keeps stages that are finished here in the shared caches, too."""
        for key in keys if self._exchange else ():
            if (record := self._record(key)) is not None:
                self._offer(record, self.path(key))

    def _claim(self, key: StageKey) -> None:
        if self._use:
            self._use[1].add([self.path(key)])

    def _brought(self, key: StageKey) -> Record | None:
        """What a stage left, here or in a shared cache; None where that is not there, or not as it was left."""
        record = self._record(key)
        if record is None and self._exchange and self._exchange.may_have(key.key):
            self._claim(key)
            with made_once(self.folder, self.path(key)):
                record = self._record(key)
                if record is None and self._exchange.fetch(key.stage, key.key, self.path(key)):
                    record = self._record(key)
        return record

    def _record(self, key: StageKey) -> Record | None:
        folder = self.path(key)
        try:
            record = Record.parse((folder / RECORD).read_bytes(), stage=key.stage, key=key.key)
            whole = all(digest_file(folder / name) == digest for name, digest in record.files.items())
        except (OSError, ValueError, IntegrityError):
            return None
        return record if whole else None

    def _refuse(self, key: StageKey) -> None:
        """Tells that facts which came from elsewhere are not those of the stage, where that is so."""
        if self._exchange and (origin := self.origin(key)):
            self._exchange.refuse(key.stage, key.key, origin, "its facts are not those of this stage")

    def _offer(self, record: Record, folder: Path) -> None:
        if self._exchange:
            self._exchange.offer(record.stage, record.key, folder, record.files)

    def _make(self, key: StageKey, make: Callable[[Path], BaseModel]) -> Record:
        started = time.perf_counter()
        with new_folder(self.path(key)) as draft:
            facts = make(draft).model_dump(mode="json")
            files = {p.relative_to(draft).as_posix(): digest_file(p) for p in sorted(draft.rglob("*")) if p.is_file()}
            seconds = round(time.perf_counter() - started, 3)
            record = Record(stage=key.stage, key=key.key, facts=facts, files=files, seconds=seconds)
            write_json(draft / RECORD, record.told)
        return record


def _parsed(facts: type[FactsT], record: Record) -> FactsT | None:
    try:
        return facts.model_validate(record.facts)
    except ValidationError:
        return None
