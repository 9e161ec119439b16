"""The table: means over seeds, and differences in pairs of the same seed."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from edgec.study.long_tail.findings import Findings, Measured
from edgec.study.long_tail.published import PAPER
from edgec.study.long_tail.table import gains, rows

Find = Callable[..., Findings]


def tails(findings: Findings, name: str) -> list[float]:
    """By seed, of a study of one group."""
    found = [o.result for o in findings.outcomes if o.cell.name == name and isinstance(o.result, Measured)]
    return [result.tail_accuracy for result in found if result.tail_accuracy is not None]


def test_a_row_holds_the_mean_of_its_seeds(find: Find) -> None:
    findings = find()
    table = rows(findings)
    assert len(table) == 2 + 2 + 4 * 3 + 2
    for row in table:
        values = tails(findings, row.cell.name)
        assert row.seeds["tail_accuracy"] == tuple(values)
        assert row.spreads["tail_accuracy"].mean == pytest.approx(statistics.fmean(values))
        assert row.spreads["tail_accuracy"].n == 3


def test_ltkd_is_held_against_every_other_loss_that_is_adjusted_alike(find: Find) -> None:
    titles = [gain.title for gain in gains(find(adjusted=("nothing", "labels")))]
    assert titles[:3] == ["ltkd over kd", "ltkd over dkd", "ltkd over dist"]
    assert "ltkd, adjusted labels over dist, adjusted labels" in titles
    assert "ltkd-alone over ltkd" in titles
    assert "kd, adjusted labels over kd" in titles
    assert "teacher, adjusted teacher over teacher" in titles


def test_differences_are_paired_by_seed(find: Find) -> None:
    findings = find()
    gain = next(gain for gain in gains(findings) if gain.title == "ltkd over dist")
    pairs = zip(tails(findings, "ltkd"), tails(findings, "dist"), strict=True)
    assert gain.spreads["tail_accuracy"].mean == pytest.approx(statistics.fmean(a - b for a, b in pairs))
    assert gain.spreads["tail_accuracy"].interval is not None


def test_what_does_not_apply_has_a_reason_and_no_gain(find: Find) -> None:
    findings = find(inapplicable=("ltkd",))
    assert {row.reason for row in rows(findings) if row.cell.loss == "ltkd"} == {"needs a head | or so"}
    assert not [gain for gain in gains(findings) if "ltkd" in (gain.cell.loss, gain.over.loss)]


@pytest.mark.parametrize(
    ("pair", "ratio", "gain"),
    [
        *(("ResNet-34 to ResNet-18", at, gain) for at, gain in enumerate(((1.06, 0.27), (1.75, 0.57), (2.40, 0.65)))),
        *(("ResNet-50 to MobileNetV1", at, gain) for at, gain in enumerate(((1.58, 0.38), (1.34, 0.21), (3.20, 0.38)))),
    ],
)
def test_the_paper_s_figures_agree_with_the_gains_that_it_prints(
    pair: str, ratio: int, gain: tuple[float, float]
) -> None:
    """Its last line: LTKD over ReviewKD, the second best."""
    found = {row.loss: row for row in PAPER if row.pair == pair}
    tail, whole = (
        found["LTKD"].tail[ratio] - found["ReviewKD"].tail[ratio],
        found["LTKD"].whole[ratio] - found["ReviewKD"].whole[ratio],
    )
    assert (tail, whole) == (pytest.approx(gain[0], abs=0.006), pytest.approx(gain[1], abs=0.006))
