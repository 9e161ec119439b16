"""`edgec build` with ONNX files as exporters write them, from end to end."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgec.runtime import load_model
from edgec.runtime.session import softmax

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
onnx_files = import_module("onnx_files")
FILES = onnx_files.FILES


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Arguments for images of three classes, and a cache in which they are drawn once."""
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 30, 5), ("test", 60, 6)):
        pixels, labels = onnx_files.images(count, seed)
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, names=np.array(onnx_files.CLASSES))
    return ("--train", str(folder / "train.npz"), "--test", str(folder / "test.npz"))


SETTINGS = ("data.ood_count=60",)


@pytest.mark.parametrize("target", ["jetson", "x86-vnni"])
def test_pixels_in_and_probabilities_out_become_a_bundle_that_says_so(
    builder: Any, data: tuple[str, ...], tmp_path: Path, target: str
) -> None:
    """uint8, channels last, normalised and softmaxed inside, as tf2onnx writes a whole Keras model."""
    file = FILES["Keras, pixels as uint8"]
    made = file.make(tmp_path)
    build = builder(tmp_path, "--target", target, "--model", made, *data, settings=(*SETTINGS, *file.settings))
    manifest = build.manifest
    assert manifest["preprocessing_in_graph"]
    done = next(stage["facts"]["done"] for stage in manifest["lineage"] if stage["name"] == "export")
    assert any("pixels in uint8" in each for each in done)
    assert "its softmax cut off" in done
    (note,) = (note for note in build.report["notes"] if note.startswith("the graph as given: "))
    assert "same class as the file on 100.0%" in note
    assert f"the graph as given: {done[0]}" in build.outcome.stderr
    pixels, labels = onnx_files.images(30, 8)
    session = session_of(made)
    given = session.run(["dense"], {"input_1:0": pixels})[0]
    model = load_model(build.bundle)
    # A second softmax would leave 0.6 at most, 0.3 off; int8 moved single probabilities by 0.26, all of them by 0.01.
    assert np.abs(softmax(model.session.logits(pixels)) - given).mean() < 0.05
    assert (model.session.logits(pixels).argmax(axis=1) == labels).mean() > 0.9


def session_of(path: Path) -> Any:
    from onnxruntime import InferenceSession

    return InferenceSession(path)


@pytest.mark.parametrize("target", ["jetson", "x86-vnni"])
def test_a_graph_that_is_quantised_already_ships_with_its_own_numbers(
    builder: Any, data: tuple[str, ...], tmp_path: Path, target: str
) -> None:
    made = FILES["QDQ, symmetric int8"].make(tmp_path)
    setting = onnx_files.input_setting()
    build = builder(tmp_path, "--target", target, "--model", made, *data, settings=(*SETTINGS, setting))
    assert build.manifest["model"]["scheme"] == "s8s8"
    assert any("is quantised already" in note for note in build.report["notes"])
    assert build.report["loss"] is None
    shipped, given = (onnx.load(path) for path in (build.bundle / "model.onnx", made))
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        counts = [sum(node.op_type == kind for node in graph.graph.node) for graph in (shipped, given)]
        assert counts[0] == counts[1] > 0


def test_a_target_that_cannot_run_its_integers_refuses_before_anything_is_read(
    edgec: Any, data: tuple[str, ...], tmp_path: Path
) -> None:
    made = FILES["QDQ, uint8"].make(tmp_path)
    arguments = ("--target", "jetson", "--model", made, *data, "--set", onnx_files.input_setting())
    outcome = edgec("build", *arguments, "--output", tmp_path / "out", "--cache", tmp_path / "cache")
    assert outcome.exit_code == 1
    error, hint = outcome.failure
    assert error.startswith("TensorRT cannot take this graph: ")
    assert hint
    assert "[1/" not in outcome.stderr
