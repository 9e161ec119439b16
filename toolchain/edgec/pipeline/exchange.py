"""What builds share with other machines: finished stages are fetched, compared, used; those made here are offered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from edgec.core.digest import digest_file
from edgec.core.errors import EdgecError, IntegrityError
from edgec.core.files import new_folder
from edgec.core.progress import Progress
from edgec.core.shared_cache import MAX_FILES, RECORD, SharedCache
from edgec.package.manifest import is_safe_name
from edgec.pipeline.record import Record

__all__ = ["Exchange"]

AGAIN_S = 300
"""After which a cache that could not be reached is asked again."""


class Exchange:
    """Shared caches of a run. None of them can end it: what they cannot do is told, and the stage is made here.

    Args:
        sources: Where finished stages are looked for, in this order.
        sinks: Where they are kept for others.
        progress: Told of what is not used, and why.

    Attributes:
        origins: The name of the cache from which a stage came, by its key.
    """

    def __init__(
        self, *, sources: Sequence[SharedCache] = (), sinks: Sequence[SharedCache] = (), progress: Progress
    ) -> None:
        self.sources = tuple(sources)
        self.sinks = tuple(sinks)
        self.origins: dict[str, str] = {}
        self._progress = progress
        self._stages: dict[str, Counter[str]] = {}
        self._absent: set[str] = set()
        self._spoilt: set[tuple[str, str]] = set()
        self._offered: set[tuple[str, str]] = set()
        self._lost: dict[str, float] = {}

    def may_have(self, key: str) -> bool:
        """Whether it was not found yet that no cache has a stage."""
        return bool(self.sources) and key not in self._absent

    def fetch(self, stage: str, key: str, place: Path) -> bool:
        """Puts a finished stage in its place, whole and compared; False where no cache has a sound one."""
        for cache in filter(self._is_up, self.sources):
            try:
                _fetch(cache, stage, key, place)
            except _AbsentError:
                continue
            except IntegrityError as error:
                self.refuse(stage, key, cache.name, str(error))
            except (EdgecError, OSError) as error:
                self._lose(cache, error, "stages are made here")
            else:
                self.origins[key] = cache.name
                self._count(f"from {cache.name}", stage)
                return True
        self._absent.add(key)
        return False

    def refuse(self, stage: str, key: str, name: str, reason: str) -> None:
        """Tells of an entry that is not used, and has it replaced."""
        self._spoilt.add((name, key))
        self._progress.note(f"warning: {name}: the entry {stage} {key[:12]} is not used: {reason}")

    def offer(self, stage: str, key: str, folder: Path, files: Mapping[str, str]) -> None:
        """Keeps a finished stage for others, where it is not kept already."""
        for cache in filter(self._is_up, self.sinks):
            this = (cache.name, key)
            if this in self._offered or (self.origins.get(key) == cache.name and this not in self._spoilt):
                continue
            try:
                sent = cache.store(stage, key, folder, files, replace=this in self._spoilt)
            except IntegrityError as error:
                self._progress.note(f"warning: {cache.name}: {stage} {key[:12]} is not kept there: {error}")
                self._offered.add(this)
            except (EdgecError, OSError) as error:
                self._lose(cache, error, "stages are not kept there")
            else:
                self._offered.add(this)
                self._spoilt.discard(this)
                self._count(f"to {cache.name}" if sent else f"in {cache.name} already", stage)

    def summary(self) -> tuple[str, ...]:
        """Lines that say which stages came from where, and which went where."""
        asked = {f"from {cache.name}": Counter[str]() for cache in self.sources}
        return tuple(f"stages {where}: {_listed(stages)}" for where, stages in (asked | self._stages).items())

    def _is_up(self, cache: SharedCache) -> bool:
        return time.monotonic() >= self._lost.get(cache.name, 0)

    def _lose(self, cache: SharedCache, error: Exception, so: str) -> None:
        reason = error.strerror or error if isinstance(error, OSError) else error
        self._lost[cache.name] = time.monotonic() + AGAIN_S
        self._progress.note(f"warning: shared cache {cache.name}: {reason}; {so}")

    def _count(self, where: str, stage: str) -> None:
        self._stages.setdefault(where, Counter())[stage] += 1


class _AbsentError(Exception):
    """A cache has no such entry."""


def _fetch(cache: SharedCache, stage: str, key: str, place: Path) -> None:
    """Puts an entry in its place once it is here whole and every file was compared."""
    with new_folder(place) as draft:
        if not cache.fetch(stage, key, draft, lambda data: _admitted(data, stage, key)):
            raise _AbsentError
        _compare(draft, _admitted((draft / RECORD).read_bytes(), stage, key))


def _listed(stages: Mapping[str, int]) -> str:
    return ", ".join(stage if n == 1 else f"{n} {stage}" for stage, n in stages.items()) or "none"


def _admitted(data: bytes, stage: str, key: str) -> Mapping[str, str]:
    """The files of a record, which is the stage's own and names no place outside its folder."""
    files = Record.parse(data, stage=stage, key=key).files
    if len(files) > MAX_FILES:
        raise IntegrityError(f"{len(files)} files, expected at most {MAX_FILES}")
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    for name in files:
        if not is_safe_name(name) or name in folders or name == RECORD:
            raise IntegrityError(f"file name {name!r} is not allowed")
    return files


def _compare(folder: Path, files: Mapping[str, str]) -> None:
    """Raises IntegrityError where a file that was fetched is not what the record says."""
    for name, digest in files.items():
        if not (folder / name).is_file() or digest_file(folder / name) != digest:
            raise IntegrityError(f"'{name}' is not what its SHA-256 says")
