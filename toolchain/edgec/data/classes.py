"""Class names of a data source against those of a model."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgec.core.errors import DataError

__all__ = ["class_positions", "composed"]

_SHOWN = 10
"""Names that an error lists before it says how many more there are."""


def class_positions(names: Sequence[str], classes: Sequence[str], *, where: str) -> np.ndarray:
    """Where a source's class names stand among a model's labels.

    Args:
        names: The source's class names.
        classes: The model's labels, in the order of its outputs; some may have no images.
        where: The source, for the error.

    Returns:
        int64 [names], positions in `classes`.

    Raises:
        DataError: A name is none of the labels, or stands there twice.
    """
    twice = [name for name, count in Counter(map(composed, names)).items() if count > 1]
    if twice:
        raise DataError(f"{where}: class name '{twice[0]}' stands there twice", hint="give every class its own name")
    known = {composed(name): position for position, name in enumerate(classes)}
    for name in names:
        if composed(name) not in known:
            raise _unknown_class(name, classes, where)
    return np.array([known[composed(name)] for name in names], dtype=np.int64)


def composed(name: str) -> str:
    """The name with its accents in one piece: macOS writes `é` as two letters, other systems as one (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)


def _unknown_class(name: str, classes: Sequence[str], where: str) -> DataError:
    shown = ", ".join(classes[:_SHOWN]) + (f" and {len(classes) - _SHOWN} more" if len(classes) > _SHOWN else "")
    nearest = difflib.get_close_matches(name, classes, n=1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "name the classes as the model's labels are named"
    return DataError(f"{where}: class '{name}' is not one of the model's labels: {shown}", hint=hint)
