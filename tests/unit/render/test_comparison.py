"""Two bundles compared: in pairs where they saw the same images, beside each other where they did not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from edgec.core.errors import DataError
from edgec.core.facts import Split
from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.broken import Answer, BrokenImage, BrokenImages
from edgec.evaluate.gates import Verdict
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.predictions import Predictions
from edgec.evaluate.report import LineageStep, Report
from edgec.render.compare_page import render_comparison
from edgec.render.comparison import Side, changed_images, compare

LABELS = ("cat", "dog", "eel")
N = 60
TRUTH = np.repeat(np.arange(3), N)


def side(
    name: str, wrong: Sequence[Sequence[int]], *, first: int = 0, labels: Sequence[str] = LABELS, **more: object
) -> Side:
    """A bundle that gets the images at some places of each class wrong; its images are numbered from `first`."""
    given = TRUTH.copy()
    for label, places in enumerate(wrong):
        given[label * N + np.array(places, dtype=int)] = (label + 1) % 3
    scores = {Stage.TEACHER: np.eye(3)[TRUTH], Stage.ARTIFACT: np.eye(3)[given]}
    digests = [f"{first + i:016x}{'0' * 48}" for i in range(len(TRUTH))]
    rows = [_row(labels[i], int((given[i == TRUTH] == i).sum()), N) for i in range(3)]
    whole = _row(None, int((given == TRUTH).sum()), len(TRUTH))
    confusion = tuple(tuple(int(((i == TRUTH) & (given == j)).sum()) for j in range(3)) for i in range(3))
    report = Report(
        title=name,
        target="x",
        target_title="X",
        labels=tuple(labels),
        train_counts=(9, 5, 1),
        measurements=(whole, *rows),
        confusion={Stage.ARTIFACT: confusion},
        **more,
    )
    return Side(name=name, report=report, predictions=Predictions.of(digests, TRUTH, scores, labels))


def _row(label: str | None, right: int, n: int) -> Measurement:
    low, high = wilson_interval(right, n)
    fields = {"unit": "share", "n": n, "low": low, "high": high, "where": "here"}
    return Measurement(stage=Stage.ARTIFACT, name="accuracy", label=label, value=right / n, **fields)


BEFORE = side("old", [range(3), range(20), []])
AFTER = side("new", [range(3, 9), range(2), range(30, 45)])


def test_p_values_are_mcnemars_with_holms_correction_over_the_classes() -> None:
    found = compare(BEFORE, AFTER)
    plain = [binomtest(b, b + c).pvalue for b, c in ((6, 3), (0, 18), (15, 0))]
    corrected = multipletests(plain, method="holm")[1]
    assert [change.p for change in found.classes] == pytest.approx(corrected)
    assert [change.sense for change in found.classes] == ["same", "better", "worse"]
    assert (found.lost, found.won, found.shared) == (21, 21, 180)


def test_the_verdict_names_what_is_proven() -> None:
    found = compare(BEFORE, AFTER)
    assert found.state is Verdict.FAIL
    assert found.title == "1 class is worse and 1 is better, beyond chance"
    assert found.meaning.startswith("Worse: eel. Better: dog. Over 180 test images")
    assert compare(BEFORE, BEFORE).title == "No class changed beyond chance"


def test_swapping_the_bundles_swaps_the_signs() -> None:
    there, back = compare(BEFORE, AFTER), compare(AFTER, BEFORE)
    for one, two in zip(there.classes, back.classes, strict=True):
        assert one.gain == pytest.approx((-two.gain[0], -two.gain[2], -two.gain[1]))
        assert (one.before, one.after) == (two.after, two.before)


def test_other_test_images_are_not_paired_and_prove_nothing() -> None:
    found = compare(BEFORE, side("new", [range(3), range(2), range(40)], first=1000))
    assert (found.shared, found.lost, found.state) == (0, None, Verdict.INCONCLUSIVE)
    assert found.title == "Not tested on the same images"
    assert {change.p for change in found.classes} == {None}
    # Newcombe's hybrid score interval for two separate proportions, by statsmodels.
    low, high = confint_proportions_2indep(20, 60, 60, 60, method="newcomb")
    assert found.classes[2].gain == pytest.approx((-2 / 3, low, high))


def test_only_images_that_both_saw_count() -> None:
    found = compare(BEFORE, side("new", [[], [], []], first=60))
    assert found.shared == 0  # the same numbers, but of other classes
    half = compare(side("old", [[], [], []]), side("new", [range(60)] * 3, first=0))
    assert (half.shared, half.lost) == (180, 180)


def test_without_a_common_class_there_is_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="'old' and 'new' have no class in common: cat, dog and eel against x, y and z"):
        compare(BEFORE, side("new", [[], [], []], labels=("x", "y", "z")))


def test_classes_that_only_one_knows_are_named() -> None:
    found = compare(BEFORE, side("new", [[], [], []], labels=("cat", "dog", "fox")))
    assert found.missing == ("eel", "fox")
    assert [change.label for change in found.classes] == ["cat", "dog"]


def broken(place: int, truth: int) -> BrokenImage:
    answers = {"teacher": Answer(label=LABELS[truth], score=0.9), "artifact": Answer(label="dog", score=0.5)}
    return BrokenImage(image=f"{place:016x}", truth=LABELS[truth], **answers)


def test_images_are_lost_where_the_first_had_them_right_and_won_the_other_way_round() -> None:
    old = Side(**{**vars(BEFORE), "broken": BrokenImages(total=2, images=(broken(0, 0), broken(60, 1)))})
    new = Side(**{**vars(AFTER), "broken": BrokenImages(total=2, images=(broken(150, 2), broken(60, 1)))})
    lost, won = changed_images(old, new)
    assert [(changed.image.image, changed.before, changed.after) for changed in lost] == [(f"{150:016x}", "eel", "dog")]
    assert [(changed.image.image, changed.after) for changed in won] == [(f"{0:016x}", "cat")]


def test_the_page_tells_what_differs_in_data_and_lineage() -> None:
    splits = [Split(name="train", n=50, digest=digest * 32, source="s") for digest in ("ab", "cd")]
    steps = [
        LineageStep(name="quantize", config=config * 32, facts={"scheme": {"bits": bits}})
        for config, bits in (("11", 8), ("22", 4))
    ]
    pages = [
        side(name, [[], [], []], lineage=(step,), data={"splits": (split,)}, tools={"torch": name})
        for name, split, step in zip(("old", "new"), splits, steps, strict=True)
    ]
    page = render_comparison(*pages)
    assert page.count("≠ different") == 2
    assert "What differs in quantize" in page
    assert "scheme.bits" in page
    assert "Tools of different versions" in page


def test_names_are_escaped_and_confusions_counted() -> None:
    page = render_comparison(BEFORE, Side(**{**vars(AFTER), "name": "<script>x"}))
    assert page.count("<script>") == 1  # the page's own
    assert "Confused more often than before" in page
    assert "<td>0</td><td>15</td><td>+15</td>" in page
