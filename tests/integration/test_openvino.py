"""A build for an Intel board, with OpenVINO and without it: who measured, what is said, what the bundle does."""

from __future__ import annotations

import importlib.util
from typing import Any

import onnx
import pytest

from edgec.core.host import this_host
from edgec.runtime import engine, load_model

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
SETTINGS = ("compress.method=none", "data.ood_count=60")


def accuracies(build: Any) -> dict[str | None, dict[str, Any]]:
    """The artifact's, of the whole and by class."""
    rows = [row for row in build.report["measurements"] if (row["stage"], row["name"]) == ("artifact", "accuracy")]
    return {row["label"]: row for row in rows}


@pytest.mark.skipif(not HAS_OPENVINO, reason="OpenVINO is not installed: pip install 'edgec[openvino]'")
@pytest.mark.skipif(this_host().saturates, reason="pairs of 8-bit products saturate on this CPU, which has no VNNI")
def test_openvino_says_how_good_every_class_is(builder: Any, tmp_path: Any, plain_cache: Any) -> None:
    build = builder(tmp_path, "--target", "intel-n100", settings=SETTINGS, cache=plain_cache)
    rows = accuracies(build)
    assert set(rows) == {None, *"0123456789"}
    assert all(row["where"].startswith("openvino, ") for row in rows.values())
    assert rows[None]["value"] >= 0.97  # the teacher has 98 %
    assert not any("OpenVINO is not installed" in note for note in build.report["notes"])
    model = load_model(build.bundle)
    assert (model.session.engine, model.note) == ("openvino", None)
    model.smoke_test()
    load_model(build.bundle, engine="onnxruntime").smoke_test()


def test_without_openvino_onnxruntime_stands_in_and_the_extra_is_named(
    builder: Any, tmp_path: Any, plain_cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine.find_spec
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == "openvino" else real(name))
    # The versions of the tools are in every key of the cache: the other build is not found in this one's place.
    cache = plain_cache if not HAS_OPENVINO else tmp_path / "cache"
    build = builder(tmp_path, "--target", "intel-n100", settings=SETTINGS, cache=cache)
    assert all(row["where"].startswith("onnxruntime, ") for row in accuracies(build).values())
    said = "OpenVINO is not installed here: onnxruntime ran the graphs in its place"
    (note,) = [note for note in build.report["notes"] if note.startswith(said)]
    assert note.endswith("pip install 'edgec[openvino]'")
    assert said in build.outcome.stderr
    assert build.manifest["runtime"]["engine"] == "openvino"
    nodes = onnx.load(build.bundle / "model.onnx").graph.node
    dequantized = {name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output}
    # onnxruntime's int8 kernels add integers: with a bias in float the whole convolution would be computed in float.
    assert all(dequantized.issuperset(node.input) for node in nodes if node.op_type == "Conv")
    model = load_model(build.bundle)
    assert str(model.note).startswith("built for OpenVINO, which does not run it here: onnxruntime does")
    model.smoke_test()
