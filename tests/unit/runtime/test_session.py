"""The session: what it computes against NumPy, in any batch, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.runtime import Session, softmax


def graph(inputs: list[Any], outputs: list[Any], nodes: list[Any]) -> bytes:
    made = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def value(name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def assert_close(logits: np.ndarray, exact: np.ndarray) -> None:
    """float32 against float64 over 20 pixels: about sqrt(20) units of 6e-8 on logits below 10."""
    np.testing.assert_allclose(logits, exact, rtol=1e-5, atol=1e-5)


class TestLogits:
    def test_pixels_give_the_logits_of_the_reference(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        logits = Session(linear.onnx(), spec).logits(pixels)
        assert logits.dtype == np.float32
        assert_close(logits, linear.logits(pixels))

    def test_a_graph_that_normalises_gets_raw_values(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        session = Session(linear.onnx(raw=True), spec, preprocessing_in_graph=True)
        assert session.feed(pixels).max() > 200
        assert_close(session.logits(pixels), linear.logits(pixels))

    def test_prepared_input_gives_what_pixels_give(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        session = Session(linear.onnx(), spec)
        np.testing.assert_array_equal(session.logits(session.feed(pixels)), session.logits(pixels))

    @pytest.mark.parametrize("batch", [1, 2, 5, 6, 7])
    def test_the_batch_size_changes_nothing(self, linear: Any, spec: InputSpec, pixels: np.ndarray, batch: int) -> None:
        logits = Session(linear.onnx(), spec, batch=batch).logits(pixels)
        assert_close(logits, linear.logits(pixels))

    def test_a_graph_for_one_image_at_a_time_runs_many(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        logits = Session(linear.onnx(batch=1), spec).logits(pixels)
        assert_close(logits, linear.logits(pixels))

    def test_no_images_give_no_logits(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        logits = Session(linear.onnx(), spec).logits(pixels[:0])
        assert logits.shape == (0, 3)
        assert logits.dtype == np.float32

    def test_a_file_gives_what_its_contents_give(
        self, linear: Any, spec: InputSpec, pixels: np.ndarray, tmp_path: Path
    ) -> None:
        (tmp_path / "m.onnx").write_bytes(linear.onnx())
        by_path = Session(tmp_path / "m.onnx", spec).logits(pixels)
        np.testing.assert_array_equal(by_path, Session(linear.onnx(), spec).logits(pixels))

    def test_feed_is_a_plain_block_of_float32(self, linear: Any, spec: InputSpec, pixels: np.ndarray) -> None:
        for raw in (False, True):
            tensor = Session(linear.onnx(), spec, preprocessing_in_graph=raw).feed(pixels)
            assert tensor.shape == (6, 3, 4, 5)
            assert tensor.dtype == np.float32
            assert tensor.flags.c_contiguous


class TestSettings:
    def test_providers_that_are_not_here_are_passed_over(self, linear: Any, spec: InputSpec) -> None:
        session = Session(linear.onnx(), spec, providers=("NoSuchExecutionProvider",))
        assert session.providers == ("CPUExecutionProvider",)

    def test_threads_reach_onnxruntime(self, linear: Any, spec: InputSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        real = onnxruntime.InferenceSession

        def spy(*args: Any, sess_options: onnxruntime.SessionOptions, **kwargs: Any) -> Any:
            seen.append(sess_options.intra_op_num_threads)
            return real(*args, sess_options=sess_options, **kwargs)

        monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
        Session(linear.onnx(), spec, threads=1)
        Session(linear.onnx(), spec)
        assert seen == [1, 0]


class TestRefusals:
    @pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 4, 5), (2, 4, 5, 1), (4, 5, 3)])
    def test_pixels_of_another_shape(self, linear: Any, spec: InputSpec, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError, match=r"images \(.*\): expected \(n, 4, 5, 3\)") as caught:
            Session(linear.onnx(), spec).logits(np.zeros(shape, np.uint8))
        assert caught.value.hint

    @pytest.mark.parametrize("tensor", [np.zeros((1, 3, 4, 5)), np.zeros((1, 4, 5, 3), np.float32)])
    def test_prepared_input_of_another_type_or_shape(self, linear: Any, spec: InputSpec, tensor: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"input float\d+ \(.*\): expected float32 \(n, 3, 4, 5\)"):
            Session(linear.onnx(), spec).logits(tensor)

    @pytest.mark.parametrize("model", [b"", b"noise", b"\x08\x09" * 50])
    def test_bytes_that_are_no_model(self, spec: InputSpec, model: bytes) -> None:
        with pytest.raises(DataError, match=r"onnxruntime [\d.]+ cannot load the model: \S") as caught:
            Session(model, spec)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("location", ["weights.bin", "../weights.bin"])
    def test_bytes_take_no_weights_from_the_current_folder(
        self, spec: InputSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
    ) -> None:
        """Such a graph is refused before; this is the second wall."""
        here = tmp_path / "here"
        here.mkdir()
        for folder in (here, tmp_path):
            (folder / "weights.bin").write_bytes(bytes(240))
        monkeypatch.chdir(here)
        weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 4, 5], data_location=1)
        weights.external_data.add(key="location", value=location)
        nodes = [
            helper.make_node("Min", ["x", "w"], ["m"]),
            helper.make_node("ReduceMean", ["m"], ["y"], axes=[2, 3], keepdims=0),
        ]
        made = onnx.load_from_string(graph([value("x", ["n", 3, 4, 5])], [value("y", ["n", 3])], nodes))
        made.graph.initializer.append(weights)
        with pytest.raises(DataError, match=r"weights\.bin|/dev/null"):
            Session(made.SerializeToString(), spec)

    def test_onnxruntimes_own_format(self, linear: Any, spec: InputSpec, tmp_path: Path) -> None:
        """Nobody has looked into it."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "own.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(linear.onnx(), options, providers=["CPUExecutionProvider"])
        with pytest.raises(DataError, match="cannot load the model"):
            Session((tmp_path / "own.ort").read_bytes(), spec)

    def test_a_missing_file(self, spec: InputSpec, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot load the model"):
            Session(tmp_path / "gone.onnx", spec)

    def test_an_operator_that_is_unknown(self, spec: InputSpec) -> None:
        nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"])]
        model = graph([value("x", ["n", 3, 4, 5])], [value("y", ["n", 3])], nodes)
        with pytest.raises(DataError, match=r"cannot load the model: .*NoSuchOperator"):
            Session(model, spec)

    def test_an_input_that_is_not_the_spec(self, linear: Any) -> None:
        with pytest.raises(
            UnsupportedError, match=r"input 'input' is tensor\(float\) .*expected float32 \(n, 3, 8, 8\)"
        ):
            Session(linear.onnx(), InputSpec(height=8, width=8))

    def test_a_fixed_batch(self, linear: Any, spec: InputSpec) -> None:
        with pytest.raises(UnsupportedError, match="has a fixed batch of 4, expected 1 or dynamic"):
            Session(linear.onnx(batch=4), spec)

    def test_two_inputs(self, spec: InputSpec) -> None:
        nodes = [helper.make_node("Add", ["x", "z"], ["y"])]
        model = graph([value("x", ["n", 3, 4, 5]), value("z", [1])], [value("y", ["n", 3, 4, 5])], nodes)
        with pytest.raises(UnsupportedError, match="the model has 2 inputs, expected one"):
            Session(model, spec)

    def test_an_output_that_is_no_row_of_logits(self, spec: InputSpec) -> None:
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
        model = graph([value("x", ["n", 3, 4, 5])], [value("y", ["n", 3, 4, 5])], nodes)
        with pytest.raises(UnsupportedError, match=r"output 'y' is .* expected logits, float32 \(n, classes\)"):
            Session(model, spec)

    def test_a_graph_that_fails_when_it_runs(self, spec: InputSpec, pixels: np.ndarray) -> None:
        nodes = [
            helper.make_node("Constant", [], ["shape"], value_ints=[7, 3]),
            helper.make_node("Reshape", ["x", "shape"], ["y"]),
        ]
        model = graph([value("x", ["n", 3, 4, 5])], [value("y", ["m", 3])], nodes)
        with pytest.raises(UnsupportedError, match=r"onnxruntime [\d.]+: .*Reshape") as caught:
            Session(model, spec).logits(pixels)
        assert "\n" not in str(caught.value)


class TestSoftmax:
    @given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
    def test_it_is_the_reference(self, rows: list[list[float]]) -> None:
        logits = np.array(rows, np.float32)
        exact = np.array([[float(np.exp(np.float64(x) - max(row))) for x in row] for row in logits])
        # Two roundings of exp and one of the division, each half a unit of 1.2e-7.
        np.testing.assert_allclose(softmax(logits), exact / exact.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)

    def test_large_logits_do_not_overflow(self) -> None:
        np.testing.assert_array_equal(softmax(np.array([[1e38, 0, -1e38]], np.float32)), [[1, 0, 0]])

    def test_the_logits_are_left_alone(self) -> None:
        logits = np.array([[1.0, 2.0]], np.float32)
        softmax(logits)
        np.testing.assert_array_equal(logits, [[1, 2]])

    def test_float32_stays_float32(self) -> None:
        assert softmax(np.zeros((2, 3), np.float32)).dtype == np.float32
