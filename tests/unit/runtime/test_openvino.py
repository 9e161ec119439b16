"""Graphs in OpenVINO: what onnxruntime and NumPy say of them, and the same refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.host import this_host
from edgec.core.inputs import InputSpec
from edgec.package import RuntimeEntry
from edgec.runtime import Session, load_model

openvino: Any = pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'edgec[openvino]'")


def graph(nodes: list[Any], *, constants: dict[str, np.ndarray] | None = None, out: list[Any] | None = None) -> bytes:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out or ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def session(model: bytes | Path, spec: InputSpec, **settings: Any) -> Session:
    return Session(model, spec, engine="openvino", **settings)


def assert_close(logits: np.ndarray, exact: np.ndarray) -> None:
    """float32 against float64 over 20 pixels: about sqrt(20) units of 6e-8 on logits below 10."""
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, exact, rtol=1e-5, atol=1e-5)


class TestLogits:
    @pytest.mark.parametrize("raw", [False, True])
    def test_pixels_give_the_logits_of_the_reference(
        self, linear: Any, spec: InputSpec, pixels: np.ndarray, raw: bool
    ) -> None:
        run = session(linear.onnx(raw=raw), spec, preprocessing_in_graph=raw, threads=1)
        assert_close(run.logits(pixels), linear.logits(pixels))

    @pytest.mark.parametrize("batch", [1, 2, 5, 7])
    def test_the_batch_size_changes_nothing(self, linear: Any, spec: InputSpec, pixels: np.ndarray, batch: int) -> None:
        assert_close(session(linear.onnx(), spec, batch=batch).logits(pixels), linear.logits(pixels))

    def test_a_graph_for_one_image_at_a_time_runs_many(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        assert_close(session(linear.onnx(batch=1), spec).logits(pixels), linear.logits(pixels))

    def test_a_file_gives_what_its_contents_give(
        self, linear: Any, spec: InputSpec, pixels: np.ndarray, tmp_path: Path
    ) -> None:
        (tmp_path / "m.onnx").write_bytes(linear.onnx())
        by_path = session(tmp_path / "m.onnx", spec).logits(pixels)
        np.testing.assert_array_equal(by_path, session(linear.onnx(), spec).logits(pixels))

    def test_logits_of_one_call_outlive_the_next(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        run = session(linear.onnx(), spec)
        first = run.logits(pixels[:2])
        kept = first.copy()
        run.logits(pixels[2:4])
        np.testing.assert_array_equal(first, kept)

    def test_input_that_is_no_plain_block_is_read_right(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        run = session(linear.onnx(), spec)
        feed = run.feed(pixels)
        np.testing.assert_array_equal(run.logits(feed[::2]), run.logits(feed[::2].copy()))


def test_names_are_the_files_where_tensors_are_the_same(spec: InputSpec) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["b"], axes=[2, 3], keepdims=0),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    run = session(graph(nodes), spec)
    assert (run.input, run.output) == ("x", "y")


def test_a_device_that_is_not_here_falls_back_to_the_cpu(linear: Any, spec: InputSpec) -> None:
    run = session(linear.onnx(), spec, device="NPU")
    assert run.providers == ("CPU",)


class TestBundles:
    def test_a_bundle_for_openvino_runs_in_it(self, make_bundle: Callable[..., Path], pixels: np.ndarray) -> None:
        bundle = make_bundle(runtime=RuntimeEntry(engine="openvino", threads=1))
        model = load_model(bundle)
        assert (model.session.engine, model.session.providers, model.note) == ("openvino", ("CPU",), None)
        model.smoke_test()
        # Both are float32; softmax keeps the logits' errors of 1e-6.
        np.testing.assert_allclose(
            model.predict(pixels), load_model(bundle, engine="onnxruntime").predict(pixels), atol=1e-5
        )

    def test_a_gpu_that_is_not_here_is_said(self, make_bundle: Callable[..., Path]) -> None:
        if "GPU" in openvino.Core().available_devices:
            pytest.skip("OpenVINO has a GPU here")
        model = load_model(make_bundle(runtime=RuntimeEntry(engine="openvino", device="GPU")))
        assert model.note == "built for OpenVINO's GPU, which is not here: runs on CPU"

    def test_another_engine_than_the_manifests_is_said(self, bundle: Path) -> None:
        model = load_model(bundle, engine="openvino")
        assert model.note == "built for onnxruntime, which does not run it here: OpenVINO does, on CPU"


class TestRefusals:
    @pytest.mark.parametrize("tensor", [np.zeros((1, 3, 4, 5)), np.zeros((1, 4, 5, 3), np.float32)])
    def test_prepared_input_of_another_type_or_shape(self, linear: Any, spec: InputSpec, tensor: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"input float\d+ \(.*\): expected float32 \(n, 3, 4, 5\)"):
            session(linear.onnx(), spec).logits(tensor)

    def test_bytes_that_are_no_model(self, spec: InputSpec) -> None:
        with pytest.raises(DataError, match=r"OpenVINO [\d.]+ cannot load the model: Error during import") as caught:
            session(b"noise", spec)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("model", [b"", b"\x08\x09" * 50])
    def test_a_model_of_nothing(self, spec: InputSpec, model: bytes) -> None:
        with pytest.raises(UnsupportedError, match="the model has 0 inputs"):
            session(model, spec)

    def test_a_missing_file(self, spec: InputSpec, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cannot load the model: .*gone\.onnx"):
            session(tmp_path / "gone.onnx", spec)

    def test_an_operator_that_is_unknown(self, spec: InputSpec) -> None:
        with pytest.raises(DataError, match=r"cannot load the model: .*NoSuchOperator"):
            session(graph([helper.make_node("NoSuchOperator", ["x"], ["y"])]), spec)

    def test_an_input_that_is_not_the_spec(self, linear: Any) -> None:
        with pytest.raises(
            UnsupportedError, match=r"input 'input' is f32 \[None, 3, 4, 5\], expected float32 \(n, 3, 8"
        ):
            session(linear.onnx(), InputSpec(height=8, width=8))

    @pytest.mark.skipif(
        openvino.__version__ >= "2026.4", reason="this OpenVINO answers a Reshape that cannot be with what memory holds"
    )
    def test_a_graph_that_fails_when_it_runs(self, spec: InputSpec, pixels: np.ndarray) -> None:
        nodes = [
            helper.make_node("Constant", [], ["shape"], value_ints=[7, 3]),
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
        ]
        run = session(graph(nodes, out=["m", 3]), spec)
        with pytest.raises(UnsupportedError, match=r"OpenVINO [\d.]+: .*(?i:reshape)") as caught:
            run.logits(pixels)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_a_graph_of_openvinos_own_format_is_a_name(
    linear: Any, spec: InputSpec, pixels: np.ndarray, tmp_path: Path
) -> None:
    """OpenVINO's `read_model` takes the text for the model, and computes what nobody has looked at."""
    plain = onnx.load_from_string(linear.onnx())
    other = graph([helper.make_node("ReduceMax", ["x"], ["y"], axes=[2, 3], keepdims=0)])
    openvino.save_model(openvino.Core().read_model(other), tmp_path / "other.xml")
    plain.producer_name = (tmp_path / "other.xml").read_text(encoding="utf-8")
    hidden = session(plain.SerializeToString(), spec)
    np.testing.assert_array_equal(hidden.logits(pixels), session(linear.onnx(), spec).logits(pixels))


@pytest.mark.skipif(this_host().saturates, reason="pairs of 8-bit products saturate on this CPU, which has no VNNI")
def test_rounded_graphs_compute_the_same_integers(spec: InputSpec, pixels: np.ndarray) -> None:
    """A convolution between Q/DQ pairs, as for a target with U8S8, against int64 arithmetic in NumPy."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (8, 3, 1, 1), dtype=np.int8)
    scale = rng.uniform(0.005, 0.02, 8).astype(np.float32)
    constants = {
        "sx": np.float32(0.02),
        "zx": np.uint8(117),
        "w": weight,
        "sw": scale,
        "zw": np.zeros(8, np.int8),
        "head": rng.normal(size=(8, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["dw"], axis=0),
        helper.make_node("Conv", ["d", "dw"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "head"], ["y"]),
    ]
    run = session(graph(nodes, constants={name: np.asarray(value) for name, value in constants.items()}), spec)
    feed = run.feed(pixels)
    integers = np.clip(np.rint(feed / np.float32(0.02)) + 117, 0, 255).astype(np.int64) - 117
    sums = np.einsum("nchw,oc->nohw", integers, weight[:, :, 0, 0].astype(np.int64))
    exact = (sums * (0.02 * scale)[:, None, None]).mean(axis=(2, 3)) @ constants["head"]
    # The integers are exact; the last product sums eight float32 values.
    np.testing.assert_allclose(run.logits(feed), exact, rtol=1e-4, atol=1e-4)
