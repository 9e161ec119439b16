"""The page's first words: the verdict, what follows from it, which classes lost beyond chance."""

from __future__ import annotations

import pytest

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.gate_settings import Gates, Policy
from edgec.evaluate.gates import Verdict, check_gates
from edgec.evaluate.loss import Loss
from edgec.evaluate.report import Report
from edgec.evaluate.teacher import TeacherCheck
from edgec.render.headline import headline_of, lost_classes
from edgec.render.page import render_report

LABELS = ("a", "b", "c", "d")


def report(drops: dict[str, tuple[float, float]]) -> Report:
    """Drops and their p-values by class."""
    rows = [
        Measurement(stage=Stage.ARTIFACT, name=name, label=label, value=value, unit="share", n=50, where="here")
        for label, pair in drops.items()
        for name, value in zip(("accuracy_drop", "accuracy_drop_p"), pair, strict=True)
    ]
    whole = Measurement(
        stage=Stage.ARTIFACT, name="accuracy", value=0.9, unit="share", n=200, low=0.8, high=0.95, where=""
    )
    return Report(title="t", target="x", target_title="X", labels=LABELS, measurements=(whole, *rows))


def test_losses_are_corrected_for_the_number_of_classes() -> None:
    # Holm over four: 0.012 x 4 and 0.016 x 3 pass 5 % together, 0.02 x 4 would alone not.
    assert lost_classes(report({"a": (0.1, 0.012), "b": (0.2, 0.016), "c": (0.0, 0.9), "d": (0.0, 1.0)})) == ["b", "a"]
    assert lost_classes(report({"a": (0.1, 0.02), "b": (0.2, 0.03), "c": (0.0, 0.9), "d": (0.0, 1.0)})) == []


def test_a_class_that_gained_is_no_loss() -> None:
    assert lost_classes(report({"a": (-0.3, 1e-6)})) == []


def test_without_pairs_nothing_is_said_of_losses() -> None:
    assert lost_classes(report({})) is None
    assert headline_of(report({}), ()).losses == ""


def test_losses_are_named() -> None:
    told = headline_of(report(dict.fromkeys(LABELS, (0.2, 1e-09))), ()).losses
    assert told == "4 of 4 classes lose more against the teacher than chance explains: a, b, c and 1 more."


@pytest.mark.parametrize(
    ("gates", "state", "meaning"),
    [
        (Gates(), Verdict.INCONCLUSIVE, "Nothing says yet what is good enough"),
        (Gates(min_accuracy=0.5), Verdict.PASS, "edgec check lets it through."),
        (Gates(min_accuracy=0.99), Verdict.FAIL, "edgec check stops it: accuracy: 90.0 %, asked ≥ 99.0 %."),
        (Gates(max_latency_ms_p50=5), Verdict.INCONCLUSIVE, "stops it: latency, median: unknown, asked ≤ 5.00 ms."),
        (Gates(min_accuracy=0.91, policy=Policy.CONFIDENT), Verdict.INCONCLUSIVE, "Nothing is proven against it"),
    ],
)
def test_the_verdict_says_what_follows(gates: Gates, state: Verdict, meaning: str) -> None:
    given = report({})
    headline = headline_of(given, check_gates(given, gates))
    assert headline.state is state
    assert meaning in headline.meaning


def test_a_bad_teacher_is_warned_of_before_the_figures() -> None:
    check = TeacherCheck(accuracy=0.2, n=100, low=0.15, high=0.3, chance=0.25)
    given = report({}).model_copy(update={"teacher": check})
    headline = headline_of(given, check_gates(given, Gates(min_accuracy=0.5)))
    assert headline.title == "Look at the teacher first. Passes its one check"
    assert headline.state is Verdict.INCONCLUSIVE
    assert headline.warning.startswith("The teacher is right on 20.0% of 100 labelled images, no better than chance")
    page = render_report(given, gates=None)
    assert page.index('<p class="warning" role="note">') < page.index('<dl class="headline">')
    assert 'class="warning"' not in render_report(report({}), gates=None)


@pytest.mark.parametrize("gates", [Gates(), Gates(min_accuracy=0.5), Gates(min_accuracy=0.99)])
def test_what_was_lost_against_fp32_comes_first_whatever_the_gates_are(gates: Gates) -> None:
    loss = Loss(scheme="u8s8", before=1.0, after=0.333, low=0.6, high=0.7, proven=True, n=180)
    given = report({}).model_copy(update={"loss": loss})
    headline = headline_of(given, check_gates(given, gates))
    assert headline.title.startswith("u8s8 lost 66.7 points of FP32's accuracy. ")
    assert headline.state is not Verdict.PASS
    assert "180 test images" in headline.losses
