"""Which candidate comes next: none twice, the same for the same history, and near what is good."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edgec.tuning.candidate import Candidate, Found, Tuned
from edgec.tuning.sampling import Sampler, next_point
from edgec.tuning.space import Dimension, Space

pytest.importorskip("optuna")
SPACE = Space(
    dimensions=(
        Dimension(setting="compress.keep_flops", values=tuple(i / 20 for i in range(1, 21))),
        Dimension(setting="compress.variant", values=("ours", "few")),
        Dimension(setting="compress.drop_blocks", values=tuple(range(6))),
    )
)

SAMPLERS: tuple[Sampler, ...] = ("tpe", "random")
REQUIRED = 0.8


def searched(count: int, *, sampler: Sampler, seed: int, known: tuple[Candidate, ...] = ()) -> list[Candidate]:
    """A search on a landscape that is known: blocks cost time, channels and the wrong variant cost agreement."""
    candidates = list(known)
    while len(candidates) < count:
        point = next_point(SPACE, candidates, required=REQUIRED, seed=seed, sampler=sampler)
        if point is None:
            break
        settings = SPACE.settings(point)
        keep, dropped = float(settings["compress.keep_flops"]), int(settings["compress.drop_blocks"])
        quality = 1 - 0.5 * (1 - keep) ** 2 - 0.05 * dropped - 0.3 * (settings["compress.variant"] == "few")
        found = Found(
            agreement={"rare": max(0.0, quality)},
            images=1,
            latency_ms=1.0,
            latency_share=0.2 + 0.3 * keep + 0.08 * (5 - dropped),
            size_bytes=1,
        )
        candidates.append(Candidate(number=len(candidates), settings=settings, found=found))
    return candidates


def points(candidates: list[Candidate]) -> Iterator[tuple[int, ...] | None]:
    return (SPACE.point(each.settings) for each in candidates)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_candidate_comes_twice_and_the_space_ends(sampler: Sampler, search_of: Callable[..., Tuned]) -> None:
    small = Space(dimensions=(Dimension(setting="compress.keep_flops", values=tuple(i / 100 for i in range(1, 16))),))
    tuned = search_of([(0.5, 0.5)])
    seen = [small.point(tuned.candidates[0].settings)]
    candidates = list(tuned.candidates)
    while (point := next_point(small, candidates, required=0.5, seed=3, sampler=sampler)) is not None:
        seen.append(point)
        candidates.append(Candidate(number=len(candidates), settings=small.settings(point), error="no"))
    assert sorted(seen) == [(i,) for i in range(15)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_was_cut_goes_on_as_if_it_had_not_been(sampler: Sampler) -> None:
    whole = searched(16, sampler=sampler, seed=1)
    resumed = searched(16, sampler=sampler, seed=1, known=tuple(whole[:11]))
    assert list(points(whole)) == list(points(resumed))
    assert list(points(whole)) != list(points(searched(16, sampler=sampler, seed=2)))


def test_the_search_finds_a_faster_candidate_than_random_draws_do() -> None:
    def fastest(sampler: Sampler, seed: int) -> float:
        made = [each.found for each in searched(30, sampler=sampler, seed=seed) if each.found]
        return min((found.latency_share for found in made if found.quality >= REQUIRED), default=1.0)

    mean = {sampler: sum(fastest(sampler, seed) for seed in range(5)) / 5 for sampler in SAMPLERS}
    assert mean["tpe"] < mean["random"] - 0.01


def test_what_lies_outside_of_the_space_or_failed_teaches_nothing(search_of: Callable[..., Tuned]) -> None:
    empty = Space(dimensions=(Dimension(setting="compress.steps", values=tuple(range(1, 30))),))
    outside, others = (search_of(figures).candidates for figures in ([(0.4, 0.9), "failed"], [(0.9, 0.1), "another"]))
    drawn = {next_point(empty, known, required=0.8, seed=0) for known in (outside, others)}
    assert len(drawn) == 1


def test_of_a_space_too_large_to_list_candidates_are_drawn() -> None:
    values = tuple(i / 10 for i in range(10))
    large = Space(dimensions=tuple(Dimension(setting=f"compress.x{i}", values=values) for i in range(9)))
    assert next_point(large, (), required=None, seed=0, sampler="random") is not None
