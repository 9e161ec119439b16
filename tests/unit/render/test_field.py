"""Axes hold what is drawn, with few ticks."""

from __future__ import annotations

import pytest

from edgec.render.field import Axes


@pytest.mark.parametrize("shares", [[0.999], [0.97, 0.99], [0.5, 0.9], [0.0, 1.0]])
@pytest.mark.parametrize("amount", [0.003, 1.0, 4321.0])
def test_axes_hold_everything_and_few_ticks(shares: list[float], amount: float) -> None:
    amounts = [amount * (i + 1) for i in range(len(shares))]
    axes = Axes.over(amounts, shares)
    assert all(0 <= axes.x(each) <= 100 for each in amounts)
    assert all(0 <= axes.y(each) <= 100 for each in shares)
    assert 2 <= len(axes.ticks_x) <= 8
    assert 2 <= len(axes.ticks_y) <= 8
    assert all(0 <= place <= 100.01 for place, _ in (*axes.ticks_x, *axes.ticks_y))
