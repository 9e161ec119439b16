"""A build that is asked what corrupted images and unseen_ood do to it, and gates on the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ASKED = {"evaluate.corrupted": 20, "evaluate.unseen_ood": 40, "compress.method": "none", "data.ood_count": 100}
NAMES = {"corrupted_accuracy", "corrupted_worst_class_accuracy", "ood_auroc", "accuracy_under_gaussian_noise"}


@pytest.fixture(scope="module")
def bundle(edgec: Any, tmp_path_factory: pytest.TempPathFactory, plain_cache: Path) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    settings = [part for name, value in ASKED.items() for part in ("--set", f"{name}={value}")]
    outcome = edgec("build", "--target", "host", "--output", folder / "b", "--cache", plain_cache, *settings)
    assert outcome.exit_code == 0, outcome
    return folder / "b"


def rows(bundle: Path, name: str) -> dict[str, dict[str, Any]]:
    report = json.loads((bundle / "report.json").read_text())
    return {row["stage"]: row for row in report["measurements"] if row["name"] == name and row["label"] is None}


def test_teacher_and_artifact_are_measured(bundle: Path) -> None:
    for name in NAMES:
        found = rows(bundle, name)
        assert found.keys() == {"teacher", "artifact"}
        assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in found.values())
    assert rows(bundle, "corrupted_accuracy")["artifact"]["n"] == 20
    assert rows(bundle, "ood_auroc")["artifact"]["n"] == 790 + 40


def test_corruption_costs_accuracy_and_digits_are_told_from_photographs(bundle: Path) -> None:
    corrupted, clean = rows(bundle, "corrupted_accuracy"), rows(bundle, "accuracy")
    assert all(0.1 < corrupted[stage]["value"] < clean[stage]["value"] - 0.05 for stage in corrupted)
    assert all(row["value"] > 0.7 for row in rows(bundle, "ood_auroc").values())


def test_gates_and_the_page_speak_of_it(bundle: Path, edgec: Any) -> None:
    outcome = edgec("check", bundle, "--min-corrupted", 0.99, "--min-ood-auroc", 0.5, "--json")
    assert outcome.exit_code == 3
    assert [(gate["name"], gate["verdict"]) for gate in outcome.last["gates"]] == [
        ("min_corrupted_accuracy", "fail"),
        ("min_ood_auroc", "pass"),
    ]
    assert "Told from other images (AUROC)" in (bundle / "report.html").read_text(encoding="utf-8")


def test_a_robust_build_says_what_it_was_trained_on_and_what_unseen_kinds_cost(
    edgec: Any, tmp_path: Path, plain_cache: Path
) -> None:
    asked = {"compress.robust": "mixed", "compress.steps": 5, "evaluate.corrupted": 10, "data.ood_count": 60}
    settings = [part for name, value in asked.items() for part in ("--set", f"{name}={value}")]
    more = ("--set", "compress.compare=[]", "--set", "compress.oefsmc.ood=always")
    outcome = edgec("build", "--output", tmp_path / "b", "--cache", plain_cache, *settings, *more)
    assert outcome.exit_code == 0, outcome
    for group, kinds in (("seen", 1), ("related", 6), ("unseen", 8)):
        found = rows(tmp_path / "b", f"accuracy_under_{group}_kinds")
        assert found.keys() == {"teacher", "artifact"}, kinds
        assert {row["n"] for row in found.values()} == {10}
    noise = rows(tmp_path / "b", "accuracy_under_gaussian_noise")["artifact"]["value"]
    assert rows(tmp_path / "b", "accuracy_under_seen_kinds")["artifact"]["value"] == noise
    (note,) = [note for note in json.loads((tmp_path / "b" / "report.json").read_text())["notes"] if "robust" in note]
    assert note.startswith("robust recovery: the student saw images changed by gaussian noise, gaussian blur, AugMix; ")
    assert "seen gaussian noise; related shot noise" in note
    assert "Corruptions never trained on" in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
