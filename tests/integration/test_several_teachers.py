"""`model.also` from end to end: the report says how good each further teacher is, and a build learns from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.pipeline.embedded import WEIGHTS

ALSO = f'model.also=[{{name="edgec.models.digits:digits_net", weights="{WEIGHTS}", trained_on="few"}}]'


@pytest.mark.slow
def test_the_report_says_how_good_each_further_teacher_is(builder: Any, tmp_path: Path) -> None:
    brief = ("compress.steps=2", "compress.compare=[]", "data.ood_count=60", 'quantize.scheme="float32"')
    heard = "compress.oefsmc.recovery.logit_weight=1"
    build = builder(
        tmp_path, "--target", "jetson", settings=(*brief, heard, ALSO, 'model.teachers="attention"'), cache=tmp_path
    )
    right = f"right on {build.report['teacher']['accuracy']:.1%} of {build.report['teacher']['n']} labelled images"
    (note,) = (note for note in build.report["notes"] if note.startswith("further teacher"))
    assert note == f"further teacher 'edgec.models.digits:digits_net' is {right}"
    assert "further" not in build.report["teacher"]


def test_a_build_that_compares_no_logits_ends_before_it_begins(edgec: Any, tmp_path: Path) -> None:
    outcome = edgec("build", "--device", "cpu", "--set", ALSO, "--cache", tmp_path / "c", "--output", tmp_path / "b")
    assert outcome.exit_code == 2
    assert "they would teach nothing" in " ".join(outcome.failure)
    assert not (tmp_path / "c").exists()
