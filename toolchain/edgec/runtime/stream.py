"""A camera and a model that do not keep the same pace: a bounded queue between them, and what becomes of the rest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Literal

import numpy as np
from typing_extensions import Self

from edgec.runtime.model import Model

__all__ = ["Frame", "Stream", "stream"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """An image of a source, and what happened to it.

    Attributes:
        number: Its position in the source, from 0: gaps are frames that were dropped.
        pixels: uint8 [height, width, channels].
        waited_ms: From its arrival until the model took it.
        latency_ms: From its arrival until its scores were there.
    """

    number: int
    pixels: np.ndarray
    waited_ms: float
    latency_ms: float


class Stream:
    """Frames with their scores, as fast as the model and the source allow; made by `stream`.

    Iterate it once. Leaving its `with` block, or closing it, stops the source after the frame that it is at.

    Attributes:
        seen: Frames that the source gave so far.
        dropped: Those of them that no one will see: newer ones took their place in the queue.
    """

    def __init__(
        self,
        model: Model,
        source: Iterable[np.ndarray],
        *,
        when_full: Literal["drop", "wait"],
        depth: int,
        clock: Callable[[], float],
    ) -> None:
        self.seen = 0
        self.dropped = 0
        self._model = model
        self._source = source
        self._drops = when_full == "drop"
        self._depth = depth
        self._clock = clock
        self._queue: deque[tuple[int, np.ndarray, float]] = deque()
        self._changed = Condition()
        self._closed = False
        self._ended = False
        self._pool = ThreadPoolExecutor(1)
        self._reader = self._pool.submit(self._read)

    def __iter__(self) -> Iterator[tuple[Frame, np.ndarray]]:
        """Frames in order, each with its scores, float32 [classes].

        Raises:
            DataError: A frame of another shape or type than the model takes.
        """
        try:
            while (taken := self._take()) is not None:
                number, pixels, arrived = taken
                begun = self._clock()
                scores = self._model.predict(pixels[None])[0]
                done = self._clock()
                yield (
                    Frame(
                        number=number,
                        pixels=pixels,
                        waited_ms=(begun - arrived) * 1e3,
                        latency_ms=(done - arrived) * 1e3,
                    ),
                    scores,
                )
            if not self._closed:
                self._reader.result()  # the source's own error, if it ended by one
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the source; frames that wait are dropped."""
        with self._changed:
            self._closed = True
            self.dropped += len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        self._pool.shutdown(wait=False)

    def _read(self) -> None:
        """The source's thread."""
        try:
            for number, pixels in enumerate(self._source):
                if not self._put(number, pixels):
                    return
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, number: int, pixels: np.ndarray) -> bool:
        """Queues a frame; False when nobody wants more."""
        with self._changed:
            self.seen += 1
            arrived = self._clock()
            while len(self._queue) >= self._depth and not self._closed:
                if self._drops:
                    self._queue.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if self._closed:
                self.dropped += 1
                return False
            self._queue.append((number, pixels, arrived))
            self._changed.notify_all()
            return True

    def _take(self) -> tuple[int, np.ndarray, float] | None:
        """The oldest frame that waits; None when there will be none."""
        with self._changed:
            while not self._queue and not self._ended and not self._closed:
                self._changed.wait()
            taken = self._queue.popleft() if self._queue else None
            self._changed.notify_all()
            return taken


def stream(
    model: Model,
    source: Iterable[np.ndarray],
    *,
    when_full: Literal["drop", "wait"] = "drop",
    depth: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Stream:
    """Classifies frames of a source that a thread of its own reads.

    Args:
        model: What classifies them.
        source: Gives frames, uint8 [height, width, channels]: a generator around a camera, say.
        when_full: `drop` lets go of the oldest frame that waits, so that answers stay fresh; `wait` lets the source
            wait, so that no frame is lost.
        depth: Frames that may wait.
        clock: Seconds that only ever grow.

    Raises:
        ValueError: No frame may wait.

    Example:
        >>> with stream(model, camera()) as frames:
        ...     for frame, scores in frames:
        ...         print(frame.number, model.labels[scores.argmax()], frame.latency_ms)
    """
    if depth < 1:
        raise ValueError(f"depth {depth}: expected at least 1")
    return Stream(model, source, when_full=when_full, depth=depth, clock=clock)
