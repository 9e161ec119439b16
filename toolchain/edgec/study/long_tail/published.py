"""What the paper reports (LTKD, arXiv 2506.18496, main table): ImageNet-LT, to stand beside our own figures.

Top-1 accuracy in percent, of the tail and of all classes, at imbalance γ. No setting of ours is the paper's, so these
are never put in one row with ours. That γ is the most frequent class's images over the rarest's is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMBALANCE", "PAPER", "Published"]

IMBALANCE = (5, 10, 20)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of the paper's table.

    Attributes:
        pair: Teacher and student.
        loss: As the paper calls it.
        tail: Percent, at each of `IMBALANCE`.
        whole: Of all classes.
    """

    pair: str
    loss: str
    tail: tuple[float, float, float]
    whole: tuple[float, float, float]


def _rows(pair: str, figures: dict[str, tuple[float, ...]]) -> tuple[Published, ...]:
    """Rows of one pair, from figures in the order in which the paper prints them: tail and all, by imbalance."""
    return tuple(
        Published(pair=pair, loss=loss, tail=(a, c, e), whole=(b, d, f)) for loss, (a, b, c, d, e, f) in figures.items()
    )


PAPER = (
    *_rows(
        "ResNet-34 to ResNet-18",
        {
            "teacher": (57.75, 67.61, 50.61, 63.85, 43.00, 59.91),
            "student": (54.48, 64.73, 47.45, 61.18, 39.98, 57.25),
            "KD": (56.14, 66.27, 49.35, 63.03, 41.72, 59.15),
            "DKD": (56.83, 66.84, 49.95, 63.50, 42.65, 59.82),
            "ReviewKD": (57.27, 66.96, 50.80, 63.72, 43.48, 60.15),
            "DIST": (56.79, 66.66, 50.28, 63.56, 42.78, 59.94),
            "LTKD": (58.33, 67.23, 52.55, 64.29, 45.88, 60.80),
        },
    ),
    *_rows(
        "ResNet-50 to MobileNetV1",
        {
            "teacher": (59.62, 69.06, 52.69, 65.57, 44.82, 61.46),
            "student": (55.42, 65.46, 49.49, 62.55, 41.68, 58.94),
            "KD": (56.58, 66.51, 50.42, 63.70, 42.45, 59.91),
            "DKD": (58.54, 68.09, 52.39, 65.04, 45.04, 61.46),
            "ReviewKD": (58.59, 68.10, 53.06, 65.31, 45.35, 61.84),
            "DIST": (57.29, 66.94, 50.89, 64.09, 43.70, 60.71),
            "LTKD": (60.17, 68.48, 54.40, 65.52, 48.55, 62.22),
        },
    ),
)
