"""What a test set must not share with the images that are learned from: near-duplicates, and groups such as one video.

Equal images are refused by `data.splits`. An image that was saved again, scaled or moved by a pixel has another digest
and gives the answer away as well; frames of one video in two splits are the commonest case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgec.core.samples import Samples
from edgec.data.resemblance import BATCH, NEAR, Prints, batches_of_portraits, portraits_of, twins
from edgec.data.splits import name_image

__all__ = ["Leak", "find_contradictions", "find_leaks"]

_SMALL = 32
"""Pixels of the shorter side below which images are compared more strictly."""
_NEAR_SMALL = 0.995
"""Correlation of details for these: two handwritten digits of 8x8 pixels agree by up to 0.993 (790 against 1,007), and
by 0.9956 or more where one is a JPEG of quality 75 of the other."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An image that another split knows already.

    Attributes:
        position: Of the image in its split.
        image: Its name.
        split: The other split.
        like: The image there that it resembles or shares a group with.
        reason: Whether the image is nearly that one, or of its group, or of the group of an image that leaks.
    """

    position: int
    image: str
    split: str
    like: str
    reason: Literal["near-duplicate", "group", "group of a near-duplicate"]


def find_leaks(samples: Samples, others: Mapping[str, Samples]) -> tuple[Leak, ...]:
    """Images of a split that others know already, each named once, in their order.

    Memory: about 10 MB, and 6 KB per image of the largest of the others.

    Args:
        samples: The split that should be unknown: test images.
        others: Splits that are learned from, by name.
    """
    found: dict[int, Leak] = {}
    for split, other in others.items():
        for leak in (*_shared_groups(samples, other, split), *_near(samples, other, split)):
            found.setdefault(leak.position, leak)
    return tuple(sorted(_with_their_groups(samples, found), key=lambda leak: leak.position))


def _shared_groups(samples: Samples, other: Samples, split: str) -> Iterator[Leak]:
    known = {group: position for position, group in reversed(list(enumerate(other.groups or ()))) if group is not None}
    for position, group in enumerate(samples.groups or ()):
        if group is not None and group in known:
            like = f"{name_image(other, known[group])} (group '{group}')"
            yield Leak(position=position, image=name_image(samples, position), split=split, like=like, reason="group")


def _near(samples: Samples, other: Samples, split: str) -> Iterator[Leak]:
    above, portraits = _threshold(samples), portraits_of(other)
    for start, batch in enumerate(batches_of_portraits(samples)):
        prints, matches = Prints.of(batch), np.full(len(batch), -1)
        for first in range(0, len(portraits), BATCH):
            nearest = twins(prints, portraits[first : first + BATCH], above=above)
            matches = np.where((matches < 0) & (nearest >= 0), first + nearest, matches)
        for row in map(int, np.flatnonzero(matches >= 0)):
            position = start * BATCH + row
            like = name_image(other, int(matches[row]))
            yield Leak(
                position=position,
                image=name_image(samples, position),
                split=split,
                like=like,
                reason="near-duplicate",
            )


def _with_their_groups(samples: Samples, found: Mapping[int, Leak]) -> Iterator[Leak]:
    """The leaks, and the other images of the groups that they are of."""
    yield from found.values()
    leaking = {group: found[i] for i, group in enumerate(samples.groups or ()) if group is not None and i in found}
    for position, group in enumerate(samples.groups or ()):
        if group in leaking and position not in found:
            first = leaking[group]
            yield Leak(
                position=position,
                image=name_image(samples, position),
                split=first.split,
                like=f"{first.like}, by {first.image}",
                reason="group of a near-duplicate",
            )


def find_contradictions(samples: Samples) -> tuple[str, ...]:
    """Images that stand in two classes of one split, as `'a.png' (cat) and 'b.png' (dog)`; then those that nearly do.

    Memory: about 10 MB, and 1 KB per image.
    """
    copies: defaultdict[str, list[int]] = defaultdict(list)
    for position, digest in enumerate(samples.digests):
        copies[digest].append(position)
    found = []
    for positions in copies.values():
        first_of = {int(samples.labels[position]): position for position in reversed(positions)}
        if len(first_of) > 1:
            found.append(" and ".join(_named(samples, position) for position in sorted(first_of.values())))
    near = (f"{_named(samples, first)} and {_named(samples, second)}, nearly" for first, second in _torn(samples))
    return (*found, *near)


def _torn(samples: Samples) -> Iterator[tuple[int, int]]:
    """Images with an earlier one of another class that each nearly is, that one first; not those with one digest."""
    above, portraits, labels = _threshold(samples), portraits_of(samples), samples.labels
    for start in range(0, len(samples), BATCH):
        rows = slice(start, start + BATCH)
        prints, earlier = Prints.of(portraits[rows]), np.full(len(portraits[rows]), -1)
        for first in range(0, start + BATCH, BATCH):
            others = slice(first, first + BATCH)
            nearest = twins(
                prints,
                portraits[others],
                above=above,
                earlier_from=first - start,
                labels=(labels[rows], labels[others]),
            )
            earlier = np.where((earlier < 0) & (nearest >= 0), first + nearest, earlier)
        for row in map(int, np.flatnonzero(earlier >= 0)):
            pair = int(earlier[row]), start + row
            if samples.digests[pair[0]] != samples.digests[pair[1]]:
                yield pair


def _threshold(samples: Samples) -> float:
    """Correlation of details from which two images count as one."""
    return NEAR if min(samples.pixels.shape[1:3]) >= _SMALL else _NEAR_SMALL


def _named(samples: Samples, position: int) -> str:
    return f"{name_image(samples, position)} ({samples.classes[samples.labels[position]]})"
