"""Bundles of released versions: they open, are whole, are believed and run, for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec import __version__
from edgec.core.digest import digest_bytes
from edgec.evaluate.report import parse_report
from edgec.package import Trust, open_bundle, read_golden, verify_signature
from edgec.runtime import load_model

HERE = Path(__file__).resolve().parent
ARCHIVES = sorted(HERE.glob("*.edgec"))


@pytest.fixture(params=ARCHIVES, ids=lambda archive: archive.stem)
def archive(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_this_version_has_one() -> None:
    assert HERE / f"edgec-{__version__}.edgec" in ARCHIVES


def test_it_is_the_file_that_was_released(archive: Path) -> None:
    digests = dict(line.split()[::-1] for line in (HERE / "digests").read_text(encoding="utf-8").splitlines())
    assert digests[archive.name] == digest_bytes(archive.read_bytes())


def test_it_opens_is_whole_and_its_signature_is_good(archive: Path) -> None:
    pytest.importorskip("model_signing", reason="needs the extra signing")
    bundle = open_bundle(archive)
    bundle.verify()
    assert verify_signature(bundle, Trust.read(key=archive.with_suffix(".pem")))


def test_it_runs_and_predicts_its_golden_images_as_it_did(archive: Path) -> None:
    model = load_model(archive)
    model.smoke_test()
    manifest = model.bundle.manifest
    data = model.bundle.read_bytes("golden.npz")
    golden = read_golden(data, manifest.input, classes=len(manifest.labels), where=str(archive))
    np.testing.assert_array_equal(model.predict(golden.inputs).argmax(1), golden.logits.argmax(1))


def test_its_report_is_read_and_gates_are_checked_on_it(archive: Path, edgec: Any) -> None:
    report = parse_report(open_bundle(archive).read_bytes("report.json"))
    assert len(report.labels) == 10
    outcome = edgec("check", archive, "--min-accuracy", 0.01, "--json")
    assert outcome.last["passed"] is True
