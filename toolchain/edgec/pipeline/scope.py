"""A plan of which a stage sees what its key covers: a setting that is read and not covered is an error at once.

Otherwise a build would take a result from the cache that another setting had made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from edgec.core.errors import ContractError

__all__ = ["OUTSIDE", "Covered"]

OUTSIDE: Mapping[str, tuple[str, ...]] = {
    "model": ("model.name", "model.weights"),
    "also": ("model.also",),
    "prior": ("model.trained_on",),
    "train": ("data.train",),
    "test": ("data.test",),
    "calibration": ("data.calibration",),
    "validation": ("data.validation",),
    "unlabelled": ("data.unlabelled",),
    "ood": ("data.ood",),
}
"""What comes from outside, and the settings that say where it lies. A key holds digests of it instead of paths."""


class Covered:
    """A value whose attributes can be read as far as they, or the values that they lie in, are covered.

    Args:
        value: A plan, or a part of one.
        stage: Who reads, for the error.
        covered: Dotted names of attributes, from the plan on.
        path: Dotted name of the value; empty for the plan.

    Raises:
        ContractError: From an attribute that is not covered.
    """

    def __init__(self, value: object, stage: str, covered: Collection[str], path: str = "") -> None:
        self._value = value
        self._stage = stage
        self._covered = covered
        self._path = path

    def __getattr__(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        found = getattr(self._value, name)
        if path in self._covered:
            return found
        if any(other.startswith(f"{path}.") for other in self._covered):
            return Covered(found, self._stage, self._covered, path)
        raise ContractError(f"stage '{self._stage}' reads the setting {path}, which its key does not cover")
