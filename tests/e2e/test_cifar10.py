"""ResNet-20 on CIFAR-10 with 50 samples at imbalance 100, as benchmarks/configs has it: real images, real weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.measurement import Stage
from edgec.evaluate.report import Report, parse_report

ROOT = Path(__file__).parents[2]
PACKED = Path(os.environ.get("EDGEC_DATA", ROOT.parent / "shared" / "data"))

TESTED = 4000
"""Of the 10,000 test images, the first ones."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # a build of two to four minutes on two idle cores
    pytest.mark.skipif(not (PACKED / "cifar10_test.webp").is_file(), reason=f"no packed CIFAR-10 in {PACKED}"),
]


@pytest.fixture(scope="module")
def built(builder: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "unpack_mosaics.py"), str(folder)],
        check=True,
        capture_output=True,
        env={**os.environ, "EDGEC_DATA": str(PACKED)},
    )
    with np.load(folder / "cifar10_test.npz") as whole:
        np.savez(folder / "cifar10_test.npz", **{name: values[:TESTED] for name, values in whole.items()})
    images = {"train": "cifar10_train", "test": "cifar10_test", "ood": "cifar100_ood"}
    flags = [part for flag, name in images.items() for part in (f"--{flag}", folder / f"{name}.npz")]
    config = ROOT / "benchmarks" / "configs" / "cifar10-resnet20.toml"
    weights = ["--weights", PACKED / "resnet20_cifar10.safetensors"]
    # 90 steps instead of 600, and no controls beside: what is tested are limits, which 90 keep
    return builder(folder, "--config", config, *weights, *flags, settings=("compress.steps=90", "compress.compare=[]"))


@pytest.fixture(scope="module")
def report(built: Any) -> Report:
    return parse_report((built.bundle / "report.json").read_bytes())


def share(report: Report, stage: Stage, name: str) -> float:
    found = report.find(stage, name)
    assert found is not None
    return found.value


def test_what_ships_is_calibrated_as_its_teacher_is(report: Report) -> None:
    error = {row.stage: row.value for row in report.measurements if row.name == "calibration_error"}
    assert error[Stage.ARTIFACT] <= error[Stage.TEACHER] + 0.02


def test_what_ships_keeps_the_whole_and_the_worst_class(report: Report) -> None:
    # The limits; docs/results.md has what three seeds gave in FP32.
    assert share(report, Stage.ARTIFACT, "accuracy") >= 0.82
    assert share(report, Stage.ARTIFACT, "worst_class_accuracy") >= 0.70


def test_int8_costs_no_class_much(report: Report) -> None:
    # The limits: a point of the whole, two and a half of any class.
    fp32, int8 = (report.by_class(stage, "accuracy") for stage in (Stage.COMPRESSED, Stage.ARTIFACT))
    lost = share(report, Stage.COMPRESSED, "accuracy") - share(report, Stage.ARTIFACT, "accuracy")
    assert lost <= 0.01
    assert max(fp32[label].value - int8[label].value for label in fp32) <= 0.025


def test_no_image_is_in_two_splits_and_the_report_proves_it(report: Report) -> None:
    assert {split.name for split in report.data.splits} == {"train", "test", "ood"}
    assert all(overlap.shared == 0 for overlap in report.data.overlaps)


def test_the_report_counts_what_the_logits_say(built: Any, report: Report) -> None:
    (found,) = Path(built.cache).glob("evaluate/*/logits.npz")
    with np.load(found) as logits:
        right = logits["artifact"].argmax(1) == logits["labels"]
    assert share(report, Stage.ARTIFACT, "accuracy") == pytest.approx(right.mean(), abs=1e-12)
