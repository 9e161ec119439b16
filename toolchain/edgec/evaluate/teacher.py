"""Is the teacher as good here as a trained classifier should be; and if not, which setting would mend it?

It tries what usually is wrong: the order of the labels (folders sort 0, 1, 10, 2 where a model counts 0, 1, 2), the
order of the channels, mean and deviation, the range of values, and how pictures are brought to size. It names a setting
if chance does not explain what that mends: McNemar's exact test, over all that was tried. An order of labels that is
read from the answers is judged on images that it was not read from.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, JsonValue

from edgec.core.frozen import Frozen
from edgec.core.inputs import InputSpec
from edgec.core.samples import even_positions
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.significance import binomial_tails

__all__ = ["Mend", "TeacherCheck", "check_teacher", "natural_order"]

Pictures = Callable[[InputSpec], np.ndarray | None]
"""The labelled images as a spec would have them, uint8 [n, height, width, channels]; None where they cannot be had."""
Run = Callable[[InputSpec, np.ndarray], np.ndarray]
"""The teacher's logits, float32 [n, classes]."""

FINE = 0.97
"""Accuracy from which nothing is tried."""
SKILL = 0.4
"""Share of the way from chance to certainty below which a trained classifier is not."""
GAIN = 0.05
"""Least accuracy that a setting must bring to be named."""
ALPHA = 1e-3
_SECONDS = 30.0
_FEWEST = 60
_SHOWN = 20
_FRAMES = (
    {"resize": "squash", "crop_share": 1.0},
    {"resize": "letterbox", "crop_share": 1.0},
    {"resize": "short-side", "crop_share": 0.875},
)
_COLOURS = (
    {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "value_range": "0-1"},
    {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "value_range": "0-255", "channel_order": "bgr"},
)


class Mend(Frozen):
    """Settings that would make the teacher right more often.

    Attributes:
        settings: By dotted name.
        accuracy: With them, on the same images.
        n: Images.
    """

    settings: Mapping[str, JsonValue]
    accuracy: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


class TeacherCheck(Frozen):
    """The teacher on labelled images, before anything was done to it.

    Attributes:
        n: Images.
        low: Of the 95 % interval; `high` likewise.
        chance: Accuracy of one who guesses, every class alike.
        mend: What would mend it; None where it is fine, or where nothing did.
    """

    accuracy: float = Field(ge=0, le=1)
    n: int = Field(ge=1)
    low: float
    high: float
    chance: float
    mend: Mend | None = None

    @property
    def warning(self) -> str | None:
        """What a person must know; None where the teacher is as it should be."""
        right = f"the teacher is right on {self.accuracy:.1%} of {self.n} labelled images"
        if self.mend is not None:
            settings = ", ".join(f"{name} = {_shown(value)}" for name, value in self.mend.settings.items())
            return f"{right}; with {settings} on {self.mend.accuracy:.1%} of {self.mend.n}: set that and build again"
        if self.low <= self.chance:
            return f"{right}, no better than chance ({self.chance:.1%}): {_NOTHING}"
        if self.accuracy < self.chance + SKILL * (1 - self.chance):
            return f"{right}, which is little for a trained classifier: {_NOTHING}"
        return None


_NOTHING = (
    "no order of labels, channels, mean and deviation or way to resize that was tried mends it; check that weights, "
    "architecture and classes belong together"
)


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """Settings, and on which images the teacher is right with them. `fitted` ones were read from the answers."""

    settings: Mapping[str, Any]
    right: np.ndarray
    fitted: bool = False


def check_teacher(
    spec: InputSpec, labels: np.ndarray, classes: Sequence[str], *, pictures: Pictures, run: Run
) -> TeacherCheck:
    """Measures the teacher, and where it is not fine tries what usually is wrong.

    Args:
        spec: What the teacher is said to take.
        labels: int64 [n], n >= 1, positions in `classes`.
        classes: In the order of the outputs, as it is said.
        pictures: The images.
        run: The teacher.
    """
    pixels = pictures(spec)
    if pixels is None or len(pixels) != len(labels):
        raise ValueError("expected a picture per label")
    started = time.perf_counter()
    logits = run(spec, pixels)
    seconds = time.perf_counter() - started
    right = logits.argmax(axis=1) == labels
    interval = wilson_interval(int(right.sum()), len(labels))
    found = None
    if right.mean() < FINE:
        variants = list(_variants(spec))
        some = _affordable(labels, seconds * len(variants))
        tried = list(_orders(logits[some], labels[some], classes, {}))
        for changed in variants:
            framed = pictures(changed) if {"resize", "crop_share"} & _changes(spec, changed).keys() else pixels
            if framed is not None:
                answers = run(changed, framed[some])
                tried += _with_orders(answers, labels[some], classes, _changes(spec, changed))
        found = _best(right[some], tried)
    return TeacherCheck(
        accuracy=float(right.mean()),
        n=len(labels),
        low=interval.low,
        high=interval.high,
        chance=1 / len(classes),
        mend=found,
    )


def natural_order(names: Sequence[str]) -> list[str]:
    """Names sorted as people count: numbers in them by their value."""
    return sorted(names, key=_counted)


def _counted(name: str) -> list[tuple[int, str]]:
    """Its parts, numbers before words; of numbers their value."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part[0] in "0123456789" else (sys.maxsize, part) for part in parts]


def _affordable(labels: np.ndarray, seconds: float) -> np.ndarray:
    """Positions of as many images, of every class alike, as can be tried in the time that there is."""
    count = len(labels) if seconds <= _SECONDS else max(_FEWEST, int(len(labels) * _SECONDS / seconds))
    return even_positions(labels, count)


def _variants(spec: InputSpec) -> Iterator[InputSpec]:
    """Specs that differ from the one given in what usually is wrong."""
    plain = ({"mean": 0.5, "std": 0.5}, {"mean": 0.0, "std": 1.0}, {"mean": 0.0, "std": 1 / 255})
    changes: list[dict[str, Any]] = [
        {"value_range": "0-1", **{name: (value,) * spec.channels for name, value in numbers.items()}}
        for numbers in plain
    ]
    changes += [{"value_range": "0-255" if spec.value_range == "0-1" else "0-1"}, *_FRAMES]
    if spec.channels == 3:
        order = "bgr" if spec.channel_order == "rgb" else "rgb"
        changes += [{**colours, "channel_order": order} for colours in changes[:3]]
        changes += [*_COLOURS, {"channel_order": order}]
    seen = [spec]
    for change in changes:
        changed = InputSpec.model_validate({**spec.model_dump(), **change})
        if changed not in seen:
            seen.append(changed)
            yield changed


def _changes(spec: InputSpec, changed: InputSpec) -> dict[str, Any]:
    before, after = spec.model_dump(mode="json"), changed.model_dump(mode="json")
    return {name: value for name, value in after.items() if value != before[name]}


def _with_orders(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], changes: Mapping[str, Any]
) -> Iterator[_Tried]:
    settings = {f"model.input.{name}": value for name, value in changes.items()}
    yield _Tried(settings=settings, right=logits.argmax(axis=1) == labels)
    yield from _orders(logits, labels, classes, settings)


def _orders(
    logits: np.ndarray, labels: np.ndarray, classes: Sequence[str], settings: Mapping[str, Any]
) -> Iterator[_Tried]:
    """Other orders of the labels: those that programs sort by, and the one that fits the answers best."""
    given, position = logits.argmax(axis=1), {name: i for i, name in enumerate(classes)}
    orders = [natural_order(classes), sorted(classes), sorted(classes, key=str.casefold)]
    for order in orders:
        if order != list(classes):
            means = np.array([position[name] for name in order])
            yield _Tried(settings={**settings, "model.labels": order}, right=means[given] == labels)
    half = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        half[np.flatnonzero(labels == label)[::2]] = True
    if half.all():
        return
    right = np.empty(len(labels), dtype=bool)
    for part in (half, ~half):
        means = _fitting(given[~part], labels[~part], len(classes))
        right[part] = means[given[part]] == labels[part]
    order = [classes[i] for i in _fitting(given, labels, len(classes))]
    if order != list(classes):
        yield _Tried(settings={**settings, "model.labels": order}, right=right, fitted=True)


def _fitting(given: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """int64 [classes]: what each output means if as many answers as possible are right; as it is said, where open."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((count, count))
    np.add.at(counts, (given, labels), 1)
    return linear_sum_assignment(counts + 1e-3 * np.eye(count), maximize=True)[1]


def _best(right: np.ndarray, tried: Sequence[_Tried]) -> Mend | None:
    """What mends most; of nearly equal ones that with the fewest settings, and one that was not read from answers."""
    mending = [one for one in tried if _mends(right, one.right, among=len(tried))]
    if not mending:
        return None
    most = max(one.right.mean() for one in mending)
    near = [one for one in mending if one.right.mean() >= most - GAIN / 2]
    best = min(near, key=lambda one: (one.fitted, len(one.settings), -one.right.mean()))
    return Mend(settings=best.settings, accuracy=float(best.right.mean()), n=len(right))


def _mends(before: np.ndarray, after: np.ndarray, *, among: int) -> bool:
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained - lost < GAIN * len(before):
        return False
    return binomial_tails(gained, gained + lost, 0.5)[1] < ALPHA / among


def _shown(value: JsonValue) -> str:
    """A setting as TOML has it; of long lists the beginning."""
    if isinstance(value, list) and len(value) > _SHOWN:
        return f"[{', '.join(map(json.dumps, value[:_SHOWN]))}, … {len(value)} in all, see report.json]"
    return json.dumps(value, ensure_ascii=False)
