"""What a model says of one picture: every class with its score, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgec.runtime.model import UNKNOWN, Model

__all__ = ["Prediction", "prediction_of"]


@dataclass(frozen=True)
class Prediction:
    """One picture's answer.

    Attributes:
        label: The class, or `unknown` where that was asked for and the picture is of none.
        score: Of the best class, from 0 to 1.
        scores: Of every class, best first; they sum to 1.
        unknown: Whether the picture is of none of the classes; None where that was not asked.
    """

    label: str
    score: float
    scores: Mapping[str, float]
    unknown: bool | None = None


def prediction_of(model: Model, scores: np.ndarray, *, unknown: bool = False) -> Prediction:
    """The answer that scores, float32 [classes], make.

    Args:
        model: What gave them.
        scores: As `Model.predict` gives them for one picture.
        unknown: Ask whether the picture is of any class at all.

    Raises:
        DataError: That is asked, and the bundle has no threshold for it.
    """
    best_first = scores.argsort(kind="stable")[::-1]
    foreign = bool(model.is_unknown(scores[None])[0]) if unknown else None
    named = {model.labels[i]: float(scores[i]) for i in best_first}
    label, score = next(iter(named.items()))
    return Prediction(label=UNKNOWN if foreign else label, score=score, scores=named, unknown=foreign)
