"""A teacher that saw classes at different frequencies: what ships has them taken out, and the report says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgec.learn.prior import logit_shift
from edgec.pipeline.embedded import WEIGHTS

COUNTS = (900, 800, 500, 300, 200, 100, 50, 30, 20, 10)
PLAIN = ('compress.method="none"', 'quantize.scheme="float32"', "data.ood_count=60")


def logits_of(build: Any, stage: str) -> np.ndarray:
    (found,) = Path(build.cache).glob("evaluate/*/logits.npz")
    with np.load(found) as logits:
        return logits[stage]


@pytest.fixture(scope="module")
def adjusted(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    told = f"model.trained_on={list(COUNTS)}"
    return builder(tmp_path_factory.mktemp("tailed"), "--target", "jetson", settings=(*PLAIN, told))


def test_the_shipped_logits_are_the_teacher_s_without_its_frequencies(adjusted: Any) -> None:
    shift = logit_shift(COUNTS, strength=1.0)
    given, shipped = (logits_of(adjusted, stage) for stage in ("teacher", "artifact"))
    np.testing.assert_allclose(shipped, given + shift, atol=1e-3)


def test_the_report_shows_the_teacher_before_and_after(adjusted: Any) -> None:
    rows = {row["name"]: row["value"] for row in adjusted.report["measurements"] if row["stage"] == "teacher"}
    given = logits_of(adjusted, "teacher")
    with np.load(next(Path(adjusted.cache).glob("evaluate/*/logits.npz"))) as file:
        labels = file["labels"]
    after = ((given + logit_shift(COUNTS, strength=1.0)).argmax(axis=1) == labels).mean()
    assert rows["accuracy_without_prior"] == pytest.approx(after)
    assert rows["accuracy"] > rows["accuracy_without_prior"]
    (note,) = (each for each in adjusted.report["notes"] if "model.trained_on" in each)
    assert note.endswith("both fall: was it trained on these?"), "this teacher saw all classes alike"
    (export,) = (step for step in adjusted.report["lineage"] if step["name"] == "export")
    assert tuple(export["facts"]["trained_on"]) == COUNTS


def test_all_students_are_adjusted_alike(builder: Any, tmp_path: Path) -> None:
    """Else the table would give the adjustment's gain to our recipe."""
    brief = ("compress.steps=2", 'compress.compare=["plain", "few"]', "compress.oefsmc.finetune.steps=2")
    settings = (*brief, "data.ood_count=60", "evaluate.unseen_ood=20")
    told = f"model.trained_on={list(COUNTS)}"
    places = [tmp_path / name for name in ("balanced", "tailed")]
    for place, more in zip(places, ((), (told,)), strict=True):
        builder(place, "--target", "jetson", settings=(*settings, *more), cache=tmp_path / "cache")
    found = sorted((tmp_path / "cache").glob("evaluate/*/logits.npz"), key=lambda path: path.stat().st_mtime)
    with np.load(found[0]) as before, np.load(found[1]) as after:
        np.testing.assert_array_equal(after["teacher"], before["teacher"])
        for stage in ("baseline", "few"):
            shift = logit_shift(COUNTS, strength=1.0)
            np.testing.assert_allclose(
                after[stage] - before[stage], np.broadcast_to(shift, after[stage].shape), atol=1e-5
            )


def test_training_with_rounding_learns_from_the_adjusted_teacher(builder: Any, tmp_path: Path) -> None:
    """Else it would bring back the bias that export took out."""
    training = ("quantize.train=true", "quantize.training.steps=40", "quantize.training.logit_weight=20")
    settings = ('compress.method="none"', "data.ood_count=60", *training, f"model.trained_on={list(COUNTS)}")
    build = builder(tmp_path, "--target", "jetson", settings=settings)
    given, shipped = (logits_of(build, stage) for stage in ("teacher", "artifact"))
    shift = logit_shift(COUNTS, strength=1.0)
    assert np.abs((shipped - given).mean(axis=0) - shift).mean() < 0.25 * np.abs(shift).mean()


def test_ltkd_groups_classes_by_the_frequencies_that_were_told(builder: Any, tmp_path: Path) -> None:
    loss = ("compress.steps=2", "compress.oefsmc.recovery.logit_weight=1", "compress.oefsmc.recovery.logit_loss=ltkd")
    settings = (*loss, "compress.compare=[]", "data.ood_count=60", "export.adjust_logits=0")
    students = []
    for name, counts in (("falling", COUNTS), ("rising", COUNTS[::-1])):
        told = f"model.trained_on={list(counts)}"
        builder(tmp_path / name, "--target", "jetson", settings=(*settings, told), cache=tmp_path / "cache")
        students.append({path.read_bytes() for path in (tmp_path / "cache").glob("compress/*/student.safetensors")})
    assert len(students[0]) == 1
    assert len(students[1]) == 2, "the same bytes whatever the frequencies"


@pytest.mark.parametrize("told", ["balanced", "estimate"])
def test_ltkd_without_frequencies_ends_the_build_before_it_begins(edgec: Any, tmp_path: Path, told: str) -> None:
    settings = ("logit_loss=ltkd", "logit_weight=1")
    loss = [part for each in settings for part in ("--set", f"compress.oefsmc.recovery.{each}")]
    outcome = edgec(
        "build",
        "--device",
        "cpu",
        "--set",
        f"model.trained_on={told}",
        *loss,
        "--cache",
        tmp_path / "c",
        "--output",
        tmp_path / "b",
    )
    assert outcome.exit_code == 2
    assert "compress.oefsmc.recovery.logit_loss = 'ltkd' goes by how often" in " ".join(outcome.failure)
    assert not (tmp_path / "c").exists()


def test_a_teacher_given_as_a_graph_is_shown_as_it_was_given(builder: Any, adjusted: Any, tmp_path: Path) -> None:
    (graph,) = Path(adjusted.cache).glob("export/*/fp32.onnx")
    given = (f'model.name="{graph}"', "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}")
    settings = (*given, 'quantize.scheme="float32"', "data.ood_count=60", "evaluate.corrupted=10")
    told = f"model.trained_on={list(COUNTS)}"
    rows = []
    for name, more in (("balanced", ()), ("tailed", (told,))):
        build = builder(tmp_path / name, "--target", "rpi5", settings=(*settings, *more), cache=tmp_path / "cache")
        of = ("accuracy", "corrupted_accuracy")
        rows.append(
            {
                (row["stage"], row["name"]): row["value"]
                for row in build.report["measurements"]
                if row["name"] in of and row["label"] is None and row["stage"] in ("teacher", "artifact")
            }
        )
    balanced, tailed = rows
    for name in ("accuracy", "corrupted_accuracy"):
        assert tailed["teacher", name] == balanced["teacher", name]
        assert tailed["artifact", name] != balanced["artifact", name]


def test_counts_of_other_classes_end_the_build_with_one_error(edgec: Any, tmp_path: Path) -> None:
    arguments = ("--set", "model.trained_on={ cat = 3 }", "--cache", tmp_path / "c", "--output", tmp_path / "b")
    outcome = edgec("build", "--device", "cpu", *(p for s in PLAIN for p in ("--set", s)), *arguments)
    assert outcome.exit_code == 2
    assert outcome.failure[0] == "model.trained_on: 'cat' is no class"


def notes_of(build: Any) -> list[str]:
    return [note for note in build.report["notes"] if "'estimate'" in note]


@pytest.fixture(scope="module")
def estimated(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A teacher whose rows were made longer for the first digits, so that it leans to them, as a tail would have it."""
    folder = tmp_path_factory.mktemp("estimated")
    state = load_file(WEIGHTS)
    state["head.weight"] *= torch.linspace(2.0, 0.8, 10)[:, None]
    save_file(state, folder / "leaning.safetensors")
    settings = (*PLAIN, f'model.weights="{folder / "leaning.safetensors"}"', 'model.trained_on="estimate"')
    return builder(folder, "--target", "jetson", settings=settings)


def test_an_estimate_that_the_few_samples_confirm_is_taken_out(estimated: Any) -> None:
    (export,) = (step for step in estimated.report["lineage"] if step["name"] == "export")
    prior = export["facts"]["prior"]
    assert prior["used"]
    assert prior["low"] <= prior["lean"] <= prior["high"]
    assert prior["counts"] == list(export["facts"]["trained_on"])
    given, shipped = (logits_of(estimated, stage) for stage in ("teacher", "artifact"))
    np.testing.assert_allclose(shipped, given + logit_shift(prior["counts"], strength=1.0), atol=1e-3)
    (note,) = notes_of(estimated)
    assert "logits are adjusted by estimated class frequencies" in note
    (entry,) = (step for step in estimated.manifest["lineage"] if step["name"] == "export")
    assert entry["facts"]["prior"] == prior


def test_an_estimate_of_a_balanced_teacher_changes_nothing(builder: Any, tmp_path: Path) -> None:
    build = builder(tmp_path, "--target", "jetson", settings=(*PLAIN, 'model.trained_on="estimate"'))
    (export,) = (step for step in build.report["lineage"] if step["name"] == "export")
    assert not export["facts"]["prior"]["used"]
    assert "trained_on" not in export["facts"]
    given, shipped = (logits_of(build, stage) for stage in ("teacher", "artifact"))
    np.testing.assert_allclose(shipped, given, atol=1e-3)
    (note,) = notes_of(build)
    assert "logits are not adjusted" in note


def test_a_graph_s_last_layer_is_read_as_the_module_s(builder: Any, estimated: Any, tmp_path: Path) -> None:
    (graph,) = Path(estimated.cache).glob("export/*/fp32.onnx")
    given = (f'model.name="{graph}"', "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}")
    settings = (*given, 'quantize.scheme="float32"', "data.ood_count=60", 'model.trained_on="estimate"')
    build = builder(tmp_path, "--target", "rpi5", settings=settings)
    spreads = [
        next(step for step in each.report["lineage"] if step["name"] == "export")["facts"]["prior"]["spread"]
        for each in (estimated, build)
    ]
    assert spreads[1] == pytest.approx(spreads[0], abs=1e-6)


def test_training_with_rounding_learns_from_the_teacher_without_its_estimated_prior(
    builder: Any, estimated: Any, tmp_path: Path
) -> None:
    training = ("quantize.train=true", "quantize.training.steps=40", "quantize.training.logit_weight=20")
    weights = Path(estimated.cache).parent / "leaning.safetensors"
    more = (f'model.weights="{weights}"', 'model.trained_on="estimate"')
    settings = ('compress.method="none"', "data.ood_count=60", *training, *more)
    build = builder(tmp_path, "--target", "jetson", settings=settings)
    (export,) = (step for step in build.report["lineage"] if step["name"] == "export")
    given, shipped = (logits_of(build, stage) for stage in ("teacher", "artifact"))
    shift = logit_shift(export["facts"]["trained_on"], strength=1.0)
    assert np.abs((shipped - given).mean(axis=0) - shift).mean() < 0.25 * np.abs(shift).mean()
