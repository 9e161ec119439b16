"""The class frequencies that a teacher was trained on, read from the weights of its last layer.

In a net that was trained on frequent and rare classes, the rows of the last layer are the longer, the more frequent
their class was (Kang et al., Decoupling Representation and Classifier, ICLR 2020; Kim and Kim, Adjusting Decision
Boundary for Class Imbalanced Learning, 2020). Rows of a balanced net differ too, by how hard their classes are. So the
few samples must agree: over changed copies of them, every class alike, the teacher must lean to the classes of long
rows. Neither test images nor OOD images take part. `docs/methods.md` §3 has the estimators that were tried and lost.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from edgec.core.frozen import Frozen
from edgec.learn.draws import balanced_chances

__all__ = ["LEAST_SPREAD", "PriorEstimate", "estimate_prior", "lean_of", "no_estimate"]

POWER = 5.0
"""A class's frequency goes as this power of the length of its row. Fitted to tailed nets it was 5.8 to 9.2."""
LEAST_SPREAD = 0.1
"""Of the logarithms of the lengths. Balanced nets had 0.03 to 0.08, nets from tails of 50 to 1 had 0.13 to 0.16."""
_DRAWS = 1000
_INTERVAL = (0.05, 0.95)
MOST = 1e6
"""Times the rarest class that the most frequent one counts at most: a row of nearly nothing is a class that is dead."""
_RAREST = 1000
"""Count of the rarest class: what was read are proportions."""


class PriorEstimate(Frozen):
    """What was read from the last layer, and whether it is used.

    Attributes:
        counts: In proportion to the estimated frequencies, by class; empty where nothing could be read.
        spread: Standard deviation over classes of the logarithm of the lengths of the rows.
        lean: Mean of that logarithm over the classes that the teacher gives, less that over the true ones.
        low: Of the lean, by a bootstrap of the few samples: 90 % lie between this and `high`.
        agreeing: Share of the bootstrap's draws in which the lean is above 0.
        used: Whether logits are adjusted by it.
        why: In words for the report.
    """

    counts: tuple[int, ...] = ()
    spread: float = Field(default=0.0, ge=0)
    lean: float = 0.0
    low: float = 0.0
    high: float = 0.0
    agreeing: float = Field(default=0.0, ge=0, le=1)
    used: bool = False
    why: str

    @property
    def told(self) -> str:
        """For the reader of a build."""
        what = "are adjusted by estimated class frequencies" if self.used else "are not adjusted"
        return f"model.trained_on = 'estimate': logits {what}: {self.why}"


def estimate_prior(
    weight: Float[np.ndarray, "class feature"],
    given: Float[np.ndarray, "view class"],
    shown: Int[np.ndarray, "view"],
    labels: Int[np.ndarray, "sample"],
    *,
    seed: int,
) -> PriorEstimate:
    """Frequencies from the rows' lengths, used where these differ enough and the few samples agree with them.

    Args:
        weight: Of the teacher's last layer.
        given: The teacher's probabilities for changed few samples.
        shown: The sample that each view shows.
        labels: The few samples' classes.
        seed: Of the bootstrap.
    """
    lengths = np.linalg.norm(weight.astype(np.float64), axis=1)
    if not (np.all(np.isfinite(lengths)) and np.all(lengths > 0)):
        return no_estimate("the last layer has rows that are 0 or not finite")
    logs = np.log(lengths) - np.log(lengths).mean()
    spread = float(logs.std())
    lean, drawn = lean_of(logs, given, shown, labels, seed=seed)
    low, high = np.quantile(drawn, _INTERVAL)
    agreeing, apart = float((drawn > 0).mean()), spread >= LEAST_SPREAD
    used = apart and agreeing > 0.5
    rows = f"the rows of the last layer spread by {spread:.2f} ({LEAST_SPREAD:g} is the least that counts)"
    side = "to" if lean > 0 else "away from"
    sure = f"{lean:+.4f}, 90 % {low:+.4f} to {high:+.4f}"
    views = f"on the few samples the teacher leans {side} classes of long rows ({sure})"
    times = np.exp(np.minimum(POWER * (logs - logs.min()), np.log(MOST)))
    return PriorEstimate(
        counts=tuple(np.rint(_RAREST * times).astype(np.int64).tolist()),
        spread=spread,
        lean=lean,
        low=float(low),
        high=float(high),
        agreeing=agreeing,
        used=used,
        why=f"{rows}, {'and' if used or not apart else 'but'} {views}",
    )


def no_estimate(why: str) -> PriorEstimate:
    """Of a teacher whose last layer says nothing."""
    return PriorEstimate(why=why)


def lean_of(
    scale: Float[np.ndarray, "class"],
    given: Float[np.ndarray, "view class"],
    shown: Int[np.ndarray, "view"],
    labels: Int[np.ndarray, "sample"],
    *,
    seed: int,
) -> tuple[float, Float[np.ndarray, "draw"]]:
    """How far what the teacher says lies above the truth on a scale of classes, and in draws of a bootstrap.

    It is the slope of the class-balanced log-likelihood, at no adjustment, when logits are shifted against the scale.
    Each sample counts by the mean of its views; samples, not views, are drawn again.
    """
    over = given @ scale - scale[labels[shown]]
    views = np.bincount(shown, minlength=len(labels))
    seen = np.flatnonzero(views)
    of_samples = np.bincount(shown, over, len(labels))[seen] / views[seen]
    chances = balanced_chances(labels[seen])
    counts = np.random.default_rng(seed).multinomial(len(seen), np.full(len(seen), 1 / len(seen)), size=_DRAWS)
    drawn = (counts @ (chances * of_samples)) / (counts @ chances)
    return float(chances @ of_samples), drawn
