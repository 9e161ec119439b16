"""A deck from the config to the bundle: built, judged, described, replayed, and run again elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.core.gate import MEMBER, Gate
from edgec.data import load_digits_splits
from edgec.evaluate.corruptions import corrupt
from edgec.package import open_bundle
from edgec.runtime import load_model

TARGET = ("--target", "x86-vnni")
SMALL = ("compress.steps=60", "compress.compare=[]", "data.ood_count=100")
DECK = ('deck.members=["none","noise"]', "deck.share=0.5", "evaluate.corrupted=20")


@pytest.fixture(scope="module")
def built(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Nobody may change it."""
    return builder(tmp_path_factory.mktemp("deck"), *TARGET, settings=(*SMALL, *DECK))


def report(built: Any) -> dict[str, Any]:
    return json.loads((built.bundle / "report.json").read_bytes())


def facts(built: Any) -> dict[str, Any]:
    return next(step["facts"] for step in report(built)["lineage"] if step["name"] == "deck")


def test_members_answer_as_the_gate_says(built: Any) -> None:
    clean = load_digits_splits()[1].evenly(100).decoded()
    model, gate = load_model(built.bundle), Gate(**facts(built)["gate"])
    assert model.bundle.manifest.model.members == ("none", "noise")
    images = model.session.feed(np.concatenate([clean, corrupt(clean, "gaussian_noise", 5)]))
    model.session.logits(images)
    counts = np.bincount(gate.picks(images), minlength=2)
    assert [model.session.answers[position] for position in range(2)] == pytest.approx(counts, abs=1)
    assert sum(member["picked"] for member in facts(built)["members"]) == pytest.approx(1)


def test_the_bundle_says_who_answers_and_what_was_trained_on(built: Any) -> None:
    notes = " ".join(report(built)["notes"])
    assert "views that the gate was not fitted to" in notes
    assert "are answered by that member" in notes
    assert "robust recovery: members of the deck saw images changed by gaussian noise" in notes
    assert [member["robust"] for member in facts(built)["members"]] == ["none", "noise"]


def test_sizes_and_multiply_adds_are_of_all_members_and_of_one(built: Any) -> None:
    layers = [part["name"] for part in report(built)["sizes"] if part["operator"] == "Conv"]
    assert {name.partition("/")[0] for name in layers} == {"none", "noise"}
    assert all(part["full_bytes"] for part in report(built)["sizes"] if part["operator"] == "Conv")
    macs = {row["stage"]: row["value"] for row in report(built)["measurements"] if row["name"] == "multiply_adds"}
    assert macs["artifact"] < 0.5 * macs["teacher"]


def test_the_golden_images_replay_and_the_command_line_runs_it(built: Any, edgec: Any, images: Path) -> None:
    open_bundle(built.bundle).verify()
    load_model(built.bundle).smoke_test()
    pictures = sorted((images / "test" / "3").iterdir())[:2]
    outcome = edgec("predict", built.bundle, *pictures, "--json")
    assert outcome.exit_code == 0, outcome.stderr
    timed = edgec("bench", built.bundle, "--seconds", "0.2", "--batch", "1,4", "--json")
    assert timed.exit_code == 0, timed.stderr


def test_each_image_gets_the_answer_of_its_member_alone(built: Any, builder: Any, tmp_path: Path) -> None:
    """From the deck's own cache: a member is the build with that `compress.robust`, and a deck of one is that build."""
    cache = tmp_path / "cache"
    shutil.copytree(built.cache, cache)
    how = {"none": "compress.robust=none", "noise": 'deck.members=["noise"]'}
    alone = {name: builder(tmp_path / name, *TARGET, cache=cache, settings=(*SMALL, how[name])) for name in how}
    graph = onnx.load(alone["noise"].bundle / "model.onnx").graph
    assert MEMBER not in [output.name for output in graph.output]
    same = builder(tmp_path / "same", *TARGET, cache=cache, settings=(*SMALL, "compress.robust=noise"))
    assert (same.bundle / "model.onnx").read_bytes() == (alone["noise"].bundle / "model.onnx").read_bytes()

    clean = load_digits_splits()[1].evenly(60).decoded()
    deck = load_model(built.bundle).session
    images = deck.feed(np.concatenate([clean, corrupt(clean, "gaussian_noise", 5)]))
    picks = Gate(**facts(built)["gate"]).picks(images)
    each = [load_model(build.bundle).session.logits(images) for build in alone.values()]
    expected = np.where(picks[:, None] == 0, *each)
    assert (
        np.isclose(deck.logits(images), expected, rtol=1e-4, atol=1e-4).all(axis=1).mean() > 0.98
    )  # but for near ties
