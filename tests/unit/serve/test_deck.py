"""A deck that is served: members switch with the stream, each answers as it would alone, and metrics count it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgec.core.gate import Gate
from edgec.core.target import Scheme
from edgec.graph.deck import deck_of
from edgec.package import Golden, ModelEntry, golden_bytes
from edgec.runtime import load_model

GATE = Gate(weights=((0.0, 0.0), (0.0, 1.0)), bias=(0.0, 0.0))
"""Picks the second member where the upper ring's mean power is above 1."""
INFER = "/v2/models/linear-host/infer"


@pytest.fixture
def deck(make_bundle: Callable[..., Path], linear: Any) -> Path:
    """Two members, the second of which says the opposite."""
    plain = onnx.load_from_string(linear.onnx())
    opposite = onnx.ModelProto()
    opposite.CopyFrom(plain)
    for tensor in opposite.graph.initializer:
        if tensor.name in ("weight", "bias"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    images = stream()
    logits = np.where(noisy(images)[:, None], -1, 1) * linear.logits(images)
    files = {
        "model.onnx": deck_of({"none": plain, "noise": opposite}, GATE).SerializeToString(),
        "golden.npz": golden_bytes(Golden(inputs=images, logits=logits.astype(np.float32))),
    }
    entry = ModelEntry(scheme=Scheme.FLOAT32, opset=18, members=("none", "noise"))
    return make_bundle(files=files, model=entry)


def stream() -> np.ndarray:
    """Twelve smooth images, then as many noisy ones; uint8 [24, 4, 5, 3]."""
    smooth = np.full((12, 4, 5, 3), 120, np.uint8)
    rough = np.random.default_rng(0).choice([0, 255], (12, 4, 5, 3)).astype(np.uint8)
    return np.concatenate([smooth, rough])


def noisy(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).std(axis=1) > 0


def answers(client: Any) -> dict[str, float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        sample.labels["member"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "edgec_deck_answers_total"
    }


def test_members_switch_with_the_stream_and_metrics_count_them(deck: Path, start: Callable[..., Any]) -> None:
    client = start(deck)
    assert answers(client) == {"none": 0, "noise": 0}  # warming up counts for nobody
    seen = []
    for image in stream():
        described = {"name": "pixels", "shape": [1, 4, 5, 3], "datatype": "UINT8", "data": image.ravel().tolist()}
        assert client.post(INFER, json={"inputs": [described]}).status_code == 200
        seen.append(answers(client))
    assert seen[11] == {"none": 12, "noise": 0}
    assert seen[12] == {"none": 12, "noise": 1}
    assert seen[23] == {"none": 12, "noise": 12}


def test_each_image_of_a_batch_gets_its_own_member(deck: Path, linear: Any) -> None:
    model = load_model(deck)
    model.smoke_test()
    images = stream()[[0, 12, 1, 13]]
    expected = np.array([1, -1, 1, -1])[:, None] * linear.logits(images)
    np.testing.assert_allclose(model.session.logits(images), expected, rtol=1e-4, atol=1e-5)


def test_a_bundle_of_one_net_counts_no_members(client: Any) -> None:
    assert answers(client) == {}
