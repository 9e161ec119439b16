"""What becomes of test images that training or calibration images give away, and what is said about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import numpy as np

from edgec.core.errors import DataError
from edgec.core.facts import SharedImage
from edgec.core.samples import Samples
from edgec.data import Leak, check_samples, find_contradictions, find_leaks

__all__ = ["Leaking", "leaking"]

_LISTED = 100
"""Images that the report names; of more it tells how many."""
_NAMED = 3
"""Images that a note names."""


@dataclass(frozen=True, kw_only=True)
class Leaking:
    """What was found.

    Attributes:
        leaks: By split, its images that others know already.
        tested: Positions of the test images that are left; None where all are.
        test: Those.
        contradictions: Images that stand in two classes of one split.
    """

    leaks: Mapping[str, Sequence[Leak]]
    tested: Sequence[int] | None
    test: Samples
    contradictions: Sequence[str]

    @property
    def left_out(self) -> int:
        """Test images that are not used."""
        return 0 if self.tested is None else len(self.leaks["test"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if found := self.leaks["test"]:
            became = (
                "are left out of the test set" if self.left_out else "are still in the test set (data.leaks = 'keep')"
            )
            yield f"{len(found)} test images {became}, as other splits give them away: {_some(found)}"
        for split in ("calibration", "validation"):
            if found := self.leaks.get(split, ()):
                yield f"{len(found)} {split} images are nearly training images, or of a group with one: {_some(found)}"
        if self.contradictions:
            shown, more = self.contradictions[:_NAMED], len(self.contradictions) - _NAMED
            others = f" and {more} more" if more > 0 else ""
            yield f"{len(self.contradictions)} images stand in two classes of one split: {'; '.join(shown)}{others}"

    @property
    def shared(self) -> tuple[SharedImage, ...]:
        """The images that splits share, the first of them."""
        named = (
            SharedImage(split=split, image=leak.image, other=leak.split, like=leak.like, reason=leak.reason)
            for split, leaks in self.leaks.items()
            for leak in leaks
        )
        return tuple(islice(named, _LISTED))

    @property
    def named_contradictions(self) -> tuple[str, ...]:
        """The first of the contradictions."""
        return tuple(self.contradictions[:_LISTED])


def leaking(splits: Mapping[str, Samples], policy: Literal["leave-out", "refuse", "keep"]) -> Leaking:
    """Compares the splits image by image, and takes what others give away out of the test set where that is asked for.

    Args:
        splits: `train`, `test` and perhaps `calibration` and `validation`.
        policy: `data.leaks`.

    Raises:
        DataError: Something leaks and is to be refused, or a class would have no test image left.
    """
    test, train = splits["test"], splits["train"]
    learned = {name: samples for name, samples in splits.items() if name != "test"}
    leaks = {"test": find_leaks(test, learned)}
    others = (name for name in ("calibration", "validation") if name in splits)
    leaks |= {name: find_leaks(splits[name], {"train": train}) for name in others}
    tested = None
    if leaks["test"] and policy == "refuse":
        raise DataError(
            f"{test.source}: {len(leaks['test'])} images are given away by other splits: {_some(leaks['test'])}",
            hint="take them out of one of the two, or set data.leaks to leave-out or keep",
        )
    if leaks["test"] and policy == "leave-out":
        gone = [leak.position for leak in leaks["test"]]
        tested = np.setdiff1d(np.arange(len(test)), gone).tolist()
        source = f"{test.source} (less {len(gone)} that other splits give away)"
        test = replace(test.choose(np.array(tested, dtype=np.int64)), source=source)
        check_samples(test, split="test")
    found = [f"{name}: {both}" for name, samples in splits.items() for both in find_contradictions(samples)]
    return Leaking(leaks=leaks, tested=tested, test=test, contradictions=found)


def _some(leaks: Sequence[Leak]) -> str:
    shown = "; ".join(f"{leak.image} ({_why(leak)})" for leak in leaks[:_NAMED])
    return f"{shown} and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else shown


def _why(leak: Leak) -> str:
    what = "nearly" if leak.reason == "near-duplicate" else f"{leak.reason}:"
    return f"{what} {leak.split} {leak.like}"
