"""What the splits of a data set are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from typing_extensions import Self

from edgec.core.errors import DataError

__all__ = ["Choice", "NoSplitError", "are_splits", "choose_split"]

_TRAIN, _TEST, _CALIBRATION = ("train", "training"), ("test", "testing"), ("calibration", "calib")
_BETWEEN = ("val", "valid", "validation", "dev")
_CALLED = {
    "train": (_TRAIN,),
    "test": (_TEST, _BETWEEN),
    "calibration": (_CALIBRATION, _BETWEEN, _TRAIN),
    "validation": (_BETWEEN,),
}
"""Names of a split, those that are preferred first."""

Choice = Callable[[Sequence[str]], str | None]
"""Of the names of splits the one that is wanted; None where there is none."""


class NoSplitError(DataError):
    """A source has splits, and not the one that is wanted."""

    @classmethod
    def among(cls, found: Iterable[str], source: Path) -> Self:
        """The error of a source that has these splits."""
        return cls(f"'{source}' has no such split, only {', '.join(found)}", hint="name them train and test")


def choose_split(split: str) -> Choice:
    """Finds a split's own name among those of a source, as `val` for testing where there is no `test`."""

    def choose(found: Sequence[str]) -> str | None:
        by_name = {name.lower(): name for name in found}
        return next((by_name[name] for names in _CALLED[split] for name in names if name in by_name), None)

    return choose


def are_splits(names: Iterable[str]) -> bool:
    """Whether all of these are splits: `train` between `car` and `ship` is a class."""
    return {*_TRAIN, *_TEST, *_CALIBRATION, *_BETWEEN}.issuperset(name.lower() for name in names)
