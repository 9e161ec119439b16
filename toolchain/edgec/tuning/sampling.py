"""Which candidate is tried next: Optuna's TPE over what is known, and no candidate twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgec.core.errors import MissingDependencyError
from edgec.tuning.candidate import Candidate
from edgec.tuning.space import Dimension, Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["Sampler", "next_point", "require_optuna"]

Sampler = Literal["tpe", "random"]
STARTUP = 8
"""Candidates that are drawn at random before TPE has enough to go by."""
LISTED = 100_000
"""Candidates that are listed to draw from; of more, one is drawn until it is new."""
ATTEMPTS = 20
"""Proposals that may be candidates which were tried already, before one that was not is drawn at random."""


def require_optuna() -> None:
    """Says so before anything runs.

    Raises:
        MissingDependencyError: Optuna is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "edgec tune searches with Optuna, which is not installed", hint="pip install 'edgec[build,tune]'"
        ) from error


def next_point(
    space: Space, candidates: Sequence[Candidate], *, required: float | None, seed: int, sampler: Sampler = "tpe"
) -> tuple[int, ...] | None:
    """A candidate that was not tried: the same for the same history; None where all were.

    Two objectives, latency and the worst class's agreement; a class that agrees too seldom breaks a constraint, by
    which TPE (Bergstra et al. 2011; Ozaki et al. 2022 for several objectives) draws first where all classes hold.

    Args:
        space: What may be tried.
        candidates: What was.
        required: On what share of its images every class is to agree.
        seed: Of the search.
        sampler: How to draw.
    """
    tried = {point for candidate in candidates if (point := space.point(candidate.settings)) is not None}
    if len(tried) == len(space):
        return None
    rng = np.random.default_rng((seed, len(candidates)))
    if sampler == "tpe":
        study = _study(space, candidates, required=required, seed=int(rng.integers(2**31)))
        of = _distributions(space)
        for _ in range(ATTEMPTS):
            trial = study.ask(of)
            point = tuple(trial.params[d.setting] for d in space.dimensions)
            if point not in tried:
                return point
            study.tell(trial, state=_failed())
    return _drawn(space, tried, rng)


def _drawn(space: Space, tried: Collection[tuple[int, ...]], rng: np.random.Generator) -> tuple[int, ...]:
    """A candidate that was not tried, every one alike."""
    if len(space) <= LISTED:
        left = [point for point in space.points() if point not in tried]
        return left[rng.integers(len(left))]
    while True:  # so few of so many were tried that this ends soon
        point = tuple(int(rng.integers(len(dimension.values))) for dimension in space.dimensions)
        if point not in tried:
            return point


def _study(space: Space, candidates: Sequence[Candidate], *, required: float | None, seed: int) -> Study:
    """What is known, as Optuna has it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.add_trials([trial for each in candidates if (trial := _trial(space, each, required)) is not None])
    return study


def _trial(space: Space, candidate: Candidate, required: float | None) -> FrozenTrial | None:
    """A candidate that lies in the space and could be built."""
    from optuna.trial import create_trial

    point, found = space.point(candidate.settings), candidate.found
    if point is None or found is None:
        return None
    return create_trial(
        values=[found.latency_share, found.quality],
        params={d.setting: at for d, at in zip(space.dimensions, point, strict=True)},
        distributions=_distributions(space),
        constraints={"classes": (required or 0.0) - found.quality},
    )


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {d.setting: _distribution(d) for d in space.dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    """Positions of values: near ones are alike where the values are numbers."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    count = len(dimension.values)
    return IntDistribution(0, count - 1) if dimension.is_ordered else CategoricalDistribution(tuple(range(count)))


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL
