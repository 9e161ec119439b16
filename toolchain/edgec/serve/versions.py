"""The version that answers: loaded, proved by its golden images, and switched without a request being lost."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from edgec.core.errors import EdgecError, IntegrityError
from edgec.runtime import UNKNOWN, Model, load_model, prove
from edgec.serve.drift import ClassMix, expected_mix
from edgec.serve.metrics import Metrics
from edgec.serve.settings import Settings
from edgec.serve.tensors import Shape

__all__ = ["Served", "Versions", "load_proved"]

_LOG = logging.getLogger("edgec.serve")
_VERSION_LENGTH = 12
_BRIEF_S = 0.002
"""How long other requests, and health checks, may wait for one that is run on the event loop itself."""
_TRIES = 5
_HEADER_BYTES = 1024
"""More than the JSON before one binary tensor takes."""
Mark = tuple[str, int, int] | None
"""What tells one state of a path from another: where it leads, and the identity and time of what is there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """A version that answers.

    Attributes:
        model: Loaded, and proved on this machine.
        name: What clients call it.
        version: First digits of the bundle's digest.
        shape: What it takes and gives.
        unknown: Whether it may say that an image is of none of its classes.
        mix: The classes that are expected of it.
        guard: Held while it runs, where its engine takes one thread at a time.
        brief_bytes: Size of a body that holds one image, where that takes the model next to no time; else 0.
    """

    model: Model
    name: str
    version: str
    shape: Shape
    unknown: bool
    mix: ClassMix | None
    guard: AbstractContextManager[object]
    brief_bytes: int

    def named(self, scores: np.ndarray) -> list[str]:
        """The label of each row of scores, `unknown` where it is asked to say that."""
        best = [self.shape.labels[i] for i in scores.argmax(axis=1)]
        if not self.unknown:
            return best
        return [
            UNKNOWN if foreign else label for label, foreign in zip(best, self.model.is_unknown(scores), strict=True)
        ]


def load_proved(path: Path, settings: Settings, *, name: str | None) -> Served:
    """Verifies a bundle, lets it replay its golden images in another process, and loads it here.

    The largest batch is run once: no request waits for that.

    Raises:
        EdgecError: It is damaged, not signed as asked, cannot be loaded, or answers differently here.
    """
    digest = prove(path, trust=settings.trust)
    model = load_model(path, trust=settings.trust, threads=settings.threads, tell=_LOG.info)
    if model.bundle.digest != digest:
        raise IntegrityError(f"'{path}' was replaced while it was loaded", hint="load it again")
    spec = model.bundle.manifest.input
    for batch in {1, settings.batch}:
        model.predict(np.zeros((batch, spec.height, spec.width, spec.channels), np.uint8))
    if settings.unknown:
        model.is_unknown(np.ones((1, len(model.labels)), np.float32))  # a bundle without a threshold is refused here
    if model.note:
        _LOG.warning("%s", model.note)
    return Served(
        model=model,
        name=name or model.bundle.manifest.name,
        version=model.bundle.digest[:_VERSION_LENGTH],
        shape=Shape(
            spec=spec,
            tensor=model.session.input,
            labels=model.labels,
            images=settings.images,
            json_values=settings.json_values,
            pixels=settings.most_pixels,
        ),
        unknown=settings.unknown,
        mix=expected_mix(model.bundle),
        guard=nullcontext() if model.session.parallel else Lock(),
        brief_bytes=_brief_bytes(model),
    )


def _brief_bytes(model: Model) -> int:
    spec = model.bundle.manifest.input
    image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
    seconds = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        model.predict(image)
        seconds.append(time.perf_counter() - began)
    return image.size * np.dtype(np.float32).itemsize + _HEADER_BYTES if min(seconds) <= _BRIEF_S else 0


def _load(path: Path, settings: Settings, name: str | None) -> Served:
    """As `load_proved`; whatever a bundle makes of it, those who watch for the next one go on."""
    try:
        return load_proved(path, settings, name=name)
    except EdgecError:
        raise
    except Exception as error:
        _LOG.exception("%s cannot be loaded", path)
        raise IntegrityError(
            f"'{path}' cannot be loaded: unexpected {type(error).__name__}", hint="report it, a fault of edgec"
        ) from error


class Versions:
    """The current version, and the next one when the path leads to another.

    Attributes:
        current: None until the first is ready.
        failure: Why the first could not be loaded.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.current: Served | None = None
        self.failure: EdgecError | None = None
        self._settings = settings
        self._metrics = metrics
        self._seen: Mark = None
        self._loading = asyncio.Lock()

    async def load(self) -> bool:
        """Loads what the path leads to now and switches to it; False where it is refused and all stays as it was."""
        async with self._loading:
            path = self._settings.real_path
            self._seen = _mark(path)
            name = self._settings.name if self.current is None else self.current.name
            try:
                served = await asyncio.to_thread(_load, path, self._settings, name)
            except EdgecError as error:
                self._metrics.refused()
                if self.current is None:
                    self.failure = error
                else:
                    _LOG.error("%s is refused, %s goes on: %s", path, self.current.version, error)
                return False
            self._switch(served)
            return True

    async def watch(self) -> None:
        """Loads whenever the path leads to something else; never ends."""
        while self._settings.watch_seconds is not None:
            await asyncio.sleep(self._settings.watch_seconds)
            path = self._settings.real_path
            now = await asyncio.to_thread(_mark, path)
            if now is not None and now != self._seen:
                await self.load()

    def _switch(self, served: Served) -> None:
        if self.current is not None and self.current.version == served.version:
            return
        self.current = served
        self._metrics.switched(
            name=served.name,
            version=served.version,
            engine=served.model.session.engine,
            labels=served.shape.labels,
            mix=served.mix,
            members=served.model.bundle.manifest.model.members,
            answers=served.model.session.answers,
        )
        _LOG.info("%s %s answers, on %s", served.name, served.version, served.model.session.providers[0])


def _mark(path: Path) -> Mark:
    """None where nothing is there: an exchange may be under way."""
    manifest = path / "manifest.json"
    try:
        found = (manifest if path.is_dir() else path).stat()
    except OSError:
        return None
    return str(path), found.st_ino, found.st_mtime_ns
