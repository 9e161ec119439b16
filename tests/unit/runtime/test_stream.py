"""A camera of paper before a model: what waits, what is dropped, and how it ends. Events, not sleeps, set the pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.runtime import Model, load_model, stream

SOON_S = 10
"""No step of these tests takes that long, on any machine."""


class Camera:
    """Gives numbered frames as fast as they are taken; tells how many it gave."""

    def __init__(self, count: int) -> None:
        self.count, self.given = count, 0
        self.through = threading.Event()

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(self.count):
            self.given = number + 1
            yield np.full((4, 5, 3), number % 256, np.uint8)
        self.through.set()


@pytest.fixture
def model(bundle: Path) -> Model:
    return load_model(bundle)


def test_a_fast_source_and_a_slow_consumer_see_the_newest(model: Model) -> None:
    camera = Camera(100)
    with stream(model, camera) as frames:
        seen = []
        for frame, _ in frames:
            camera.through.wait(SOON_S)  # the consumer is slower than the whole of the source
            seen.append(frame.number)
    assert seen[-1] == 99
    assert seen == sorted(set(seen))
    assert len(seen) <= 3  # the one at hand, one that waited, and the last
    assert (frames.seen, frames.dropped) == (100, 100 - len(seen))


def test_a_source_that_waits_loses_nothing(model: Model) -> None:
    with stream(model, Camera(50), when_full="wait", depth=2) as frames:
        assert [frame.number for frame, _ in frames] == list(range(50))
    assert (frames.seen, frames.dropped) == (50, 0)


def test_a_waiting_source_is_no_further_ahead_than_the_queue(model: Model) -> None:
    camera = Camera(50)
    with stream(model, camera, when_full="wait", depth=3) as frames:
        taken = iter(frames)  # kept: a generator that nobody holds is closed
        next(taken)
        deadline = time.monotonic() + SOON_S
        while camera.given < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        # One is at the consumer, three wait, one stands before the full queue.
        assert camera.given == 5


def test_scores_are_the_models(model: Model, pixels: np.ndarray) -> None:
    found = [scores for _, scores in stream(model, pixels, when_full="wait")]
    np.testing.assert_allclose(np.stack(found), model.predict(pixels), rtol=1e-5)


def test_latency_runs_from_arrival_to_scores(model: Model, pixels: np.ndarray) -> None:
    # Arrival, start of the inference, its end.
    ticks = iter([1.0, 1.5, 1.75])
    ((frame, _),) = stream(model, pixels[:1], clock=lambda: next(ticks))
    assert (frame.waited_ms, frame.latency_ms) == (500, 750)


def test_leaving_the_block_stops_an_endless_source(model: Model) -> None:
    camera = Camera(10**9)
    with stream(model, camera) as frames:
        for frame, _ in frames:
            if frame.number >= 3:
                break
    frames._reader.result(SOON_S)
    assert frames.seen == camera.given
    assert frames.dropped > 0 or frames.seen <= 5


def test_an_error_of_the_source_comes_after_its_frames(model: Model) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield np.zeros((4, 5, 3), np.uint8)
        raise OSError("the camera was unplugged")

    frames = iter(stream(model, broken(), when_full="wait"))
    assert next(frames)[0].number == 0
    with pytest.raises(OSError, match="unplugged"):
        next(frames)


def test_a_frame_of_another_shape_is_told(model: Model) -> None:
    with pytest.raises(DataError, match=r"images \(1, 3, 3, 3\): expected \(n, 4, 5, 3\)"):
        list(stream(model, [np.zeros((3, 3, 3), np.uint8)]))


def test_a_queue_of_nothing_is_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="depth 0: expected at least 1"):
        stream(model, [], depth=0)


def test_an_empty_source_gives_nothing(model: Any) -> None:
    assert list(stream(model, [])) == []
