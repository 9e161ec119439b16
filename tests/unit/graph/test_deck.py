"""Decks: one graph that runs the member that its gate picks, and as NumPy's gate says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import UnsupportedError
from edgec.core.gate import MEMBER, Gate, Rings, radial_spectrum
from edgec.graph.deck import deck_of, is_deck, members_alone, unfolded

CHANNELS, CLASSES = 3, 4
SIZES = [(32, 32), (8, 8), (28, 28), (40, 70), (5, 7)]


def member(seed: int, size: tuple[int, int] = (8, 8), *, classes: int = CLASSES, opset: int = 18) -> onnx.ModelProto:
    """A convolution, the mean of each map, and a matrix product."""
    rng = np.random.default_rng(seed)
    arrays = {"kernel": rng.normal(size=(5, CHANNELS, 3, 3)), "matrix": rng.normal(size=(5, classes))}
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["maps"], name="conv", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["maps"], ["positive"], name="relu"),
        helper.make_node("GlobalAveragePool", ["positive"], ["means"], name="pool"),
        helper.make_node("Flatten", ["means"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", CHANNELS, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def gate_of(count: int, size: tuple[int, int], seed: int = 0) -> Gate:
    """Scores around 0 for the images below, so that each member is picked."""
    rings = Rings(*size).count
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(count, rings))
    bias = -weights @ radial_spectrum(images(size)).mean(axis=0)
    return Gate(weights=tuple(map(tuple, weights)), bias=tuple(bias))


def images(size: tuple[int, int], count: int = 40) -> np.ndarray:
    """Noise, more and less blurred."""
    rng = np.random.default_rng(1)
    made = rng.normal(size=(count, CHANNELS, *size))
    blur = np.linspace(0, 0.9, count)[:, None, None, None]
    return ((1 - blur) * made + blur * np.roll(made, 1, axis=3)).astype(np.float32)


def run(model: onnx.ModelProto, image: np.ndarray) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_deck_gives_the_logits_of_the_member_that_its_gate_picks(size: tuple[int, int], count: int) -> None:
    members = {f"m{seed}": member(seed, size) for seed in range(count)}
    gate = gate_of(count, size)
    deck = deck_of(members, gate)
    picks = gate.picks(images(size))
    assert len(set(picks.tolist())) > 1
    session: Any = onnxruntime.InferenceSession(deck.SerializeToString())
    for image, pick in zip(images(size), picks, strict=True):
        logits, picked = session.run(None, {"image": image[None]})
        assert picked.tolist() == [pick]
        np.testing.assert_allclose(logits, run(members[f"m{pick}"], image[None])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_the_radial_spectrum_is_the_mean_power_by_distance_from_the_lowest_frequency(size: tuple[int, int]) -> None:
    rings = Rings(*size)
    assert rings.means.sum(axis=0) == pytest.approx(np.ones(rings.count), abs=1e-4)  # a mean, and no ring is empty
    wave = np.cos(2 * np.pi * (rings.tile // 2) * np.arange(size[1]) / rings.tile)
    flat, fast = np.ones((1, 1, *size)), np.broadcast_to(wave, (1, 1, *size))
    assert radial_spectrum(flat)[0].argmax() == 0
    assert radial_spectrum(fast)[0].argmax() == rings.count - 1
    assert radial_spectrum(3 * images(size))[:, -1] == pytest.approx(
        radial_spectrum(images(size))[:, -1] + 2 * np.log(3), abs=1e-3
    )


def test_what_is_around_a_deck_stays(tmp_path: Path) -> None:
    first = member(0)
    helper.set_model_props(first, {"labels": '["a"]'})
    deck = deck_of({"a": first, "b": member(1)}, gate_of(2, (8, 8)))
    assert is_deck(deck)
    assert not is_deck(first)
    assert {prop.key: prop.value for prop in deck.metadata_props} == {"labels": '["a"]'}
    assert [output.name for output in deck.graph.output] == ["logits", MEMBER]


def test_a_member_is_seen_alone_and_all_side_by_side() -> None:
    deck = deck_of({label: member(seed) for seed, label in enumerate("abc")}, gate_of(3, (8, 8)))
    layers = [node.name for node in unfolded(deck.graph).node if node.op_type == "Conv"]
    assert layers == ["a/conv", "b/conv", "c/conv"]
    image = images((8, 8), 1)
    for seed, alone in enumerate(members_alone(deck)):
        onnx.checker.check_model(alone)
        np.testing.assert_allclose(run(alone, image)[0], run(member(seed), image)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda: member(1, classes=5), "differ in input, classes or opset"),
        (lambda: member(1, (9, 8)), "differ in input, classes or opset"),
        (lambda: member(1, opset=19), "differ in input, classes or opset"),
    ],
)
def test_members_that_do_not_fit_are_refused(other: Callable[[], onnx.ModelProto], says: str) -> None:
    with pytest.raises(UnsupportedError, match=says):
        deck_of({"a": member(0), "b": other()}, gate_of(2, (8, 8)))


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="opset 18 and above"):
        deck_of({label: member(0, opset=17) for label in "ab"}, gate_of(2, (8, 8)))
