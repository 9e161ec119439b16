"""Means, deviations and paired gains, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgec.study.few_sample.findings import Findings, Measured, Outcome
from edgec.study.few_sample.grid import Cell, Variant
from edgec.study.few_sample.table import ALL_METHODS, MEASURES, gains, rows

PLAIN, OURS = Variant(kind="plain"), Variant(kind="ours")


def values(findings: Findings, cell: Cell, name: str) -> np.ndarray:
    found = [o.result for o in findings.outcomes if o.cell == cell and isinstance(o.result, Measured)]
    return np.array([getattr(result, name) for result in found])


def outcome(method: str, variant: Variant, seed: int, accuracy: float) -> Outcome:
    result = Measured(
        accuracy=accuracy,
        worst_class_accuracy=accuracy / 2,
        macro_f1=accuracy,
        class_accuracy={},
        images=10,
        counts=(1, 1),
        kept_flops=0.5,
        seconds=1.0,
        where="here",
    )
    cell = Cell(method=method, variant=variant, samples=50, imbalance=100)
    return Outcome(cell=cell, seed=seed, result=result)


def test_a_row_holds_mean_and_sample_deviation_of_every_measure(find: Callable[..., Findings]) -> None:
    findings = find(seeds=(0, 1, 2, 3, 4))
    table = rows(findings)
    assert [row.cell for row in table] == list(findings.study.grid.cells)
    for row in table:
        assert set(row.spreads) == set(MEASURES)
        for name, spread in row.spreads.items():
            expected = values(findings, row.cell, name)
            assert spread.n == 5
            # sums of five shares in another order
            assert spread.mean == pytest.approx(np.mean(expected), abs=1e-12)
            assert spread.deviation == pytest.approx(np.std(expected, ddof=1), abs=1e-12)


def test_one_seed_has_no_deviation(find: Callable[..., Findings]) -> None:
    assert {row.spreads["accuracy"].deviation for row in rows(find(seeds=(3,)))} == {None}


def test_balanced_samples_have_no_groups(find: Callable[..., Findings]) -> None:
    assert not any("tail_accuracy" in row.spreads for row in rows(find(imbalance=(1,))))


def test_a_method_that_does_not_apply_has_a_reason_and_no_figures(find: Callable[..., Findings]) -> None:
    findings = find(inapplicable=("cd",))
    found = {row.cell.method: row for row in rows(findings)}
    assert (found["cd"].spreads, found["cd"].reason) == ({}, "needs blocks | or so")
    assert found["mir"].reason is None
    assert {gain.cell.method for gain in gains(findings.outcomes)} == {"mir"}


def test_gains_are_paired_by_seed(find: Callable[..., Findings]) -> None:
    findings = find(samples=(10, 50), seeds=(0, 1, 2, 3))
    for gain in (gain for gain in gains(findings.outcomes) if gain.cell.method != ALL_METHODS):
        for name, spread in gain.spreads.items():
            difference = values(findings, gain.cell, name) - values(findings, gain.cell.compared(gain.over), name)
            assert spread.mean == pytest.approx(difference.mean(), abs=1e-12)
            assert spread.deviation == pytest.approx(difference.std(ddof=1), abs=1e-12)


def test_the_gain_of_all_methods_is_the_mean_over_them_seed_by_seed(find: Callable[..., Findings]) -> None:
    findings = find(methods=("cd", "fskd", "mir"), samples=(10, 50))
    together = [gain for gain in gains(findings.outcomes) if gain.cell.method == ALL_METHODS]
    assert len(together) == 2 * 4
    for gain in together:
        cells = [replace(gain.cell, method=method) for method in ("cd", "fskd", "mir")]
        by_method = [
            values(findings, c, "accuracy") - values(findings, c.compared(gain.over), "accuracy") for c in cells
        ]
        assert gain.spreads["accuracy"].mean == pytest.approx(np.mean(by_method), abs=1e-12)
        assert gain.spreads["accuracy"].deviation == pytest.approx(np.mean(by_method, axis=0).std(ddof=1), abs=1e-12)


def test_gains_stand_draw_by_draw(find: Callable[..., Findings]) -> None:
    found = [gain.cell.draw for gain in gains(find(samples=(10, 50)).outcomes)]
    assert found == sorted(found)
    assert len(set(found)) == 2


def test_one_method_is_not_averaged(find: Callable[..., Findings]) -> None:
    assert ALL_METHODS not in {gain.cell.method for gain in gains(find(methods=("mir",)).outcomes)}


def test_a_seed_that_one_side_lacks_counts_for_neither() -> None:
    outcomes = [outcome("mir", PLAIN, 0, 0.5), outcome("mir", PLAIN, 1, 0.1), outcome("mir", OURS, 0, 0.75)]
    (gain,) = gains(outcomes)
    assert (gain.spreads["accuracy"].mean, gain.spreads["accuracy"].n) == (0.25, 1)


def test_without_the_plain_method_there_is_no_gain(find: Callable[..., Findings]) -> None:
    assert gains(find(variants=("ours",)).outcomes) == []


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    accuracies=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    shift=st.floats(-0.5, 0.5),
)
def test_what_is_common_to_a_seed_does_not_change_a_gain(accuracies: list[tuple[float, float]], shift: float) -> None:
    def gain(offset: float) -> float:
        outcomes = [
            outcome("mir", variant, seed, value + offset)
            for seed, pair in enumerate(accuracies)
            for variant, value in zip((PLAIN, OURS), pair, strict=True)
        ]
        return gains(outcomes)[0].spreads["accuracy"].mean

    assert gain(shift) == pytest.approx(gain(0.0), abs=1e-12)  # sums of shares up to 1.5
