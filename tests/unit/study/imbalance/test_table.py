"""Gap, ratio and verdict, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from edgec.study.draw import BALANCED, Draw
from edgec.study.imbalance.findings import Findings, Measured
from edgec.study.imbalance.grid import Cell
from edgec.study.imbalance.table import Robust, Row, gap, rows
from edgec.study.spread import spread_of

Find = Callable[..., Findings]


def scores(findings: Findings, cell: Cell) -> np.ndarray:
    found = [o.result for o in findings.outcomes if o.cell == cell and isinstance(o.result, Measured)]
    return np.array([result.macro_f1 for result in found])


def gaps(findings: Findings, cell: Cell) -> np.ndarray:
    return 1 - scores(findings, cell) / scores(findings, cell.balanced)


def by_cell(findings: Findings) -> dict[Cell, Row]:
    return {row.cell: row for row in rows(findings)}


def test_rows_stand_in_the_order_of_the_grid(find: Find) -> None:
    findings = find()
    assert [row.cell for row in rows(findings)] == list(findings.study.grid.cells)


def test_the_gap_is_the_share_of_the_balanced_score_that_is_lost_in_pairs_of_the_same_seed(find: Find) -> None:
    findings = find()
    for cell, row in by_cell(findings).items():
        if cell.draw == BALANCED:
            assert (row.gap, row.excess, row.ratio, row.robust) == (None, None, None, None)
            continue
        expected = gaps(findings, cell)
        assert row.gap is not None
        # sums of three shares in another order
        assert row.gap.mean == pytest.approx(expected.mean(), abs=1e-12)
        assert row.gap.deviation == pytest.approx(expected.std(ddof=1), abs=1e-12)
        assert row.gaps == pytest.approx(expected, abs=1e-12)
        assert row.scores == pytest.approx(scores(findings, cell))


def test_the_ratio_is_that_of_mean_gaps_and_the_excess_is_paired(find: Find) -> None:
    findings = find(harm={"a3w3": 0.3})
    for cell, row in by_cell(findings).items():
        if cell.draw == BALANCED or cell.compression == "none":
            continue
        own, plain = gaps(findings, cell), gaps(findings, cell.uncompressed)
        assert row.excess is not None
        assert row.ratio == pytest.approx(own.mean() / plain.mean(), abs=1e-9)
        assert row.excess.mean == pytest.approx((own - plain).mean(), abs=1e-12)
        assert row.excess.deviation == pytest.approx((own - plain).std(ddof=1), abs=1e-12)


@pytest.mark.parametrize(("harm", "robust"), [(0.4, Robust.NO), (0.1, Robust.YES)])
def test_a_net_that_loses_more_than_the_uncompressed_one_is_not_robust(find: Find, harm: float, robust: Robust) -> None:
    found = by_cell(find(harm={"a3w3": harm}))
    draw = Draw(profile="linear", imbalance=100)
    row = found[Cell(draw=draw, compression="a3w3")]
    assert row.ratio is not None
    assert (row.ratio <= 1) is (robust is Robust.YES)
    assert row.robust is robust
    assert found[Cell(draw=draw, compression="none")].robust is None


@pytest.mark.parametrize(
    ("excess", "robust"),
    [
        ((0.010, 0.011, 0.012), Robust.NO),
        ((-0.010, -0.011, -0.012), Robust.YES),
        # Ratios of 1.1 and of 0.9 by three seeds that differ more among themselves.
        ((-0.02, 0.01, 0.04), Robust.OPEN),
        ((0.02, -0.01, -0.04), Robust.OPEN),
        ((0.3,), Robust.OPEN),
    ],
)
def test_a_verdict_needs_seeds_that_agree(excess: tuple[float, ...], robust: Robust) -> None:
    cell = Cell(draw=Draw(profile="linear", imbalance=2), compression="a8w4")
    ratio = 1 + sum(excess) / len(excess) / 0.1
    assert Row(cell=cell, spreads={}, ratio=ratio, excess=spread_of(excess)).robust is robust


def test_without_a_ratio_there_is_no_verdict() -> None:
    cell = Cell(draw=Draw(profile="linear", imbalance=2), compression="a8w4")
    assert Row(cell=cell, spreads={}, excess=spread_of([0.1, 0.1])).robust is None


def test_chance_alone_seldom_settles_a_verdict() -> None:
    """Nets that are alike, three seeds each: 5 % of 400 are 20 ± 13 (three deviations)."""
    cell = Cell(draw=Draw(profile="linear", imbalance=2), compression="a8w4")
    drawn = np.random.default_rng(0).normal(0, 0.05, (400, 3))
    verdicts = [Row(cell=cell, spreads={}, ratio=1.0, excess=spread_of(row.tolist())).robust for row in drawn]
    assert sum(verdict is not Robust.OPEN for verdict in verdicts) <= 33


def test_the_interval_is_students() -> None:
    values = [0.06, 0.02, 0.11]
    low, high = ttest_1samp(values, 0).confidence_interval()
    assert spread_of(values).interval == pytest.approx((low, high), abs=1e-12)
    assert spread_of([0.1]).interval is None


def test_where_imbalance_costs_the_uncompressed_net_nothing_there_is_no_ratio(find: Find) -> None:
    findings = find(harm={"none": -0.02})
    row = by_cell(findings)[Cell(draw=Draw(profile="linear", imbalance=10), compression="a3w3")]
    assert (row.ratio, row.robust) == (None, None)
    assert row.gap is not None


def test_a_compression_that_does_not_apply_has_a_reason_and_no_figures(find: Find) -> None:
    found = by_cell(find(inapplicable=("a3w3",)))
    for cell, row in found.items():
        assert (row.reason is not None) == (row.spreads == {}) == (cell.compression == "a3w3")
        if cell.compression == "a3w3":
            assert (row.gap, row.ratio) == (None, None)


@given(st.floats(0.01, 1), st.floats(0, 1))
def test_the_gap_is_at_most_one_and_zero_where_nothing_is_lost(balanced: float, imbalanced: float) -> None:
    assert gap(balanced, balanced) == 0
    assert gap(balanced, imbalanced) <= 1
    assert (gap(balanced, imbalanced) > 0) == (imbalanced < balanced)
