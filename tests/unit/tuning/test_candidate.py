"""The front, the choice, and the area that a front covers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgec.tuning.candidate import Found, Tuned, front, hypervolume, nearest, winner

shares = st.floats(0.01, 1.0).map(lambda value: round(value, 2))
SearchOf = Callable[..., Tuned]


def numbers(candidates: list) -> list[int]:
    return [each.number for each in candidates]


def test_the_front_is_what_nothing_beats_fastest_first(search_of: SearchOf) -> None:
    tuned = search_of([(0.9, 0.95), (0.5, 0.8), (0.7, 0.8), "too small", (0.6, 0.9), (0.9, 0.9)])
    assert numbers(front(tuned)) == [1, 4, 0]


def test_of_equal_candidates_the_first_is_on_the_front(search_of: SearchOf) -> None:
    assert numbers(front(search_of([(0.5, 0.8), (0.5, 0.8)]))) == [0]


def test_the_front_is_that_of_the_definition(search_of: SearchOf) -> None:
    @given(st.lists(st.tuples(shares, shares), min_size=1, max_size=12))
    def holds(figures: list[tuple[float, float]]) -> None:
        on_front = {(each.found.latency_share, each.found.quality) for each in front(search_of(figures)) if each.found}
        for point in set(figures):
            others = set(figures) - {point}
            beaten = any(other[0] <= point[0] and other[1] >= point[1] for other in others)
            assert (point in on_front) is not beaten

    holds()


def test_the_winner_is_the_fastest_that_is_good_enough(search_of: SearchOf) -> None:
    figures = [(0.9, 0.95), (0.5, 0.8), (0.6, 0.9)]
    chosen = winner(search_of(figures, agreement=0.85))
    assert chosen is not None
    assert chosen.number == 2
    assert winner(search_of(figures, agreement=0.96)) is None


def test_without_a_limit_candidates_must_be_as_good_as_the_first(search_of: SearchOf) -> None:
    tuned = search_of([(0.9, 0.9), (0.5, 0.89), (0.6, 0.9)])
    chosen = winner(tuned)
    assert tuned.required == 0.9
    assert chosen is not None
    assert chosen.number == 2


def test_where_the_first_could_not_be_built_nothing_says_what_is_good_enough(search_of: SearchOf) -> None:
    figures = ["no such share", (0.5, 0.3)]
    assert search_of(figures).required is None
    assert winner(search_of(figures)) is None
    chosen = winner(search_of(figures, agreement=0.3))
    assert chosen is not None
    assert chosen.number == 1


@pytest.mark.parametrize(
    "damaged",
    [
        {"candidates": [{"number": 1, "settings": {}}]},
        {"candidates": [{"number": 0, "settings": {"model.name": "evil:net"}}]},
        {"candidates": [{"number": 0, "settings": {"report.chosen_from": 3}}]},
        {"candidates": [{"number": 0, "settings": {}, "found": {"agreement": {}}}]},
        {"agreement": 80.0},
    ],
)
def test_a_file_that_no_search_wrote_is_refused(damaged: dict[str, object], search_of: SearchOf) -> None:
    whole = search_of([(0.5, 0.5)]).model_dump(mode="json")
    assert Tuned.model_validate(whole) == search_of([(0.5, 0.5)])
    with pytest.raises(ValidationError):
        Tuned.model_validate({**whole, **damaged})


@pytest.mark.parametrize("field", ["latency_ms", "latency_share"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), -1.0])
def test_latencies_are_positive_numbers(field: str, value: float) -> None:
    whole = Found(agreement={"a": 0.5}, images=1, latency_ms=1.0, latency_share=1.0, size_bytes=1).model_dump()
    with pytest.raises(ValidationError):
        Found.model_validate({**whole, field: value})


def test_the_nearest_is_the_one_whose_worst_class_agrees_most(search_of: SearchOf) -> None:
    best = nearest(search_of([(0.9, 0.7), (0.5, 0.6)], agreement=0.9))
    assert best is not None
    assert best.number == 0
    assert nearest(search_of(["a", "b"])) is None


@pytest.mark.parametrize(
    ("figures", "area"),
    [
        ([], 0.0),
        ([(0.4, 0.5)], 0.3),
        ([(0.4, 0.5), (0.5, 0.4)], 0.3),
        ([(0.4, 0.5), (0.8, 0.9)], 0.3 + 0.2 * 0.4),
        ([(1.2, 0.9)], 0.0),
    ],
)
def test_hypervolume_is_the_area_of_the_staircase(figures: list[tuple[float, float]], area: float) -> None:
    points = [
        Found(agreement={"a": quality}, images=1, latency_ms=1.0, latency_share=share, size_bytes=1)
        for share, quality in figures
    ]
    assert hypervolume(points) == pytest.approx(area)
