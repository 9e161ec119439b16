"""The smoke test in a process of its own: what passes, and what becomes of graphs that would bring a device down."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import EdgecError, IntegrityError
from edgec.core.host import usable_cores
from edgec.package import Golden, RuntimeEntry, golden_bytes, open_bundle
from edgec.runtime import load_model, proof, prove


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    """A classifier of images of 4 × 5 pixels with these nodes between input and logits."""
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def endless() -> bytes:
    """A loop whose condition stays true."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still"]),
            helper.make_node("Add", ["value", "value"], ["more"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 3]),
        ],
    )
    return graph_of(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["means"], keepdims=0),
            helper.make_node("Loop", ["", "true", "means"], ["logits"], body=body),
        ],
        axes=np.array([2, 3]),
        true=np.array(True),
    )


def greedy(values: int) -> bytes:
    """Makes so many float32 values on its way."""
    return graph_of(
        [
            helper.make_node("ReduceMean", ["input", "axes"], ["means"], keepdims=0),
            # Made from the input, so that no optimiser makes it when the graph is loaded.
            helper.make_node("ReduceMean", ["means"], ["mean"], keepdims=0),
            helper.make_node("Expand", ["mean", "shape"], ["many"]),
            helper.make_node("Sin", ["many"], ["sines"]),
            helper.make_node("ReduceMax", ["sines"], ["largest"], keepdims=0),
            helper.make_node("Add", ["means", "largest"], ["logits"]),
        ],
        axes=np.array([2, 3]),
        shape=np.array([values]),
    )


def test_a_sound_bundle_passes_and_is_named(bundle: Path) -> None:
    assert prove(bundle) == open_bundle(bundle).digest


def test_one_that_answers_differently_is_refused(make_bundle: Callable[..., Path], linear, pixels: np.ndarray) -> None:
    wrong = golden_bytes(Golden(inputs=pixels, logits=-linear.logits(pixels).astype(np.float32)))
    with pytest.raises(IntegrityError, match="smoke test: 6 of 6 golden images change class"):
        prove(make_bundle(files={"golden.npz": wrong}))


def test_a_graph_that_never_ends_is_ended(make_bundle: Callable[..., Path]) -> None:
    bundle, began = make_bundle(files={"model.onnx": endless()}), time.monotonic()
    with pytest.raises(IntegrityError, match=r"smoke test: it takes longer than 3 s") as caught:
        prove(bundle, seconds=3)
    assert time.monotonic() - began < 60
    assert caught.value.exit_code == 4


def test_a_graph_gets_no_more_than_half_of_the_memory(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(files={"model.onnx": greedy(1 << 28)})  # 1 GiB, twice
    with pytest.raises(IntegrityError, match="golden images change class"):
        prove(bundle)  # there is enough here: it runs, and is another classifier
    monkeypatch.setattr(proof, "memory_bytes", lambda: 1 << 30)
    with pytest.raises(EdgecError, match="alloc"):
        prove(bundle)


def test_one_that_is_not_signed_as_asked_does_not_run(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgec.package import Trust

    monkeypatch.setattr(proof, "Confined", lambda **_: pytest.fail("it ran"))
    with pytest.raises(IntegrityError, match="is not signed"):
        prove(make_bundle(), trust=Trust(public_key=b"any"))


def test_a_manifest_starts_no_more_threads_than_there_are_cores(make_bundle: Callable[..., Path]) -> None:
    many = make_bundle(runtime=RuntimeEntry(engine="onnxruntime", threads=1500))
    before = threads()
    model = load_model(many)
    assert threads() - before <= usable_cores()
    del model


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))
