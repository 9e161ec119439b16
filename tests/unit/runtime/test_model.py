"""A bundle as a device loads it: verified first, run as the manifest asks, proved by its golden images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgec.core.errors import DataError, IntegrityError
from edgec.core.target import Scheme
from edgec.package import BuildPlan, Golden, ModelEntry, RuntimeEntry, Trust, golden_bytes, pack_bundle, write_archive
from edgec.runtime import load_model, softmax, tolerance


def test_scores_are_the_softmax_of_the_reference(bundle: Path, linear: Any, pixels: np.ndarray) -> None:
    exact = np.exp(linear.logits(pixels))
    # float32 logits below 10 carry errors of 1e-6, which exp passes on.
    np.testing.assert_allclose(
        load_model(bundle).predict(pixels), exact / exact.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6
    )


def test_folder_archive_and_bare_onnxruntime_agree(bundle: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    archive = write_archive(bundle, tmp_path / "b.edgec")
    model = load_model(bundle)
    bare = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = softmax(bare.run(None, {"input": model.session.feed(pixels)})[0])  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(model.predict(pixels), expected)
    np.testing.assert_array_equal(load_model(archive).predict(pixels), expected)


def test_a_path_may_be_text(bundle: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    archive = write_archive(bundle, tmp_path / "b.edgec")
    expected = load_model(bundle).predict(pixels)
    for path in (bundle, archive):
        np.testing.assert_array_equal(load_model(str(path)).predict(pixels), expected)
    with pytest.raises(DataError, match="nowhere"):
        load_model("nowhere")


def test_labels_and_settings_are_the_manifests(bundle: Path) -> None:
    model = load_model(bundle)
    assert model.labels == ("cat", "dog", "eel")
    assert model.note is None
    assert model.session.providers == ("CPUExecutionProvider",)


def test_a_model_that_normalises_by_itself(make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray) -> None:
    raw = load_model(make_bundle(files={"model.onnx": linear.onnx(raw=True)}, preprocessing_in_graph=True))
    raw.smoke_test()
    np.testing.assert_allclose(raw.predict(pixels), softmax(linear.logits(pixels)), rtol=1e-5, atol=1e-6)


def test_no_images_give_no_scores(bundle: Path, pixels: np.ndarray) -> None:
    assert load_model(bundle).predict(pixels[:0]).shape == (0, 3)


def test_a_changed_file_is_refused_before_anything_runs(bundle: Path) -> None:
    (bundle / "report.html").write_bytes(b"<!doctype html><title>forged</title>\n")
    with pytest.raises(IntegrityError, match=r"'report.html' was changed"):
        load_model(bundle)


def test_what_is_not_signed_as_asked_is_not_loaded(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.runtime.model.Session", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(IntegrityError, match="is not signed, expected a signature"):
        load_model(bundle, trust=Trust(public_key=b"any"))


def test_more_labels_than_logits_are_refused(make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(IntegrityError, match="the model has 3 classes, the manifest 4"):
        load_model(make_bundle(labels=("a", "b", "c", "d")))


class TestNote:
    def test_tensorrt_that_is_not_here_is_said(self, make_bundle: Callable[..., Path]) -> None:
        plan = BuildPlan(tool="trtexec", arguments=("--onnx=model.onnx", "--stronglyTyped"))
        entry = RuntimeEntry(engine="tensorrt", build_plan=plan)
        model = load_model(make_bundle(runtime=entry))
        assert model.note == (
            "built for TensorRT, which does not run it here: onnxruntime does, on CPUExecutionProvider"
        )
        model.smoke_test()

    def test_a_provider_that_is_not_here_is_said(self, make_bundle: Callable[..., Path]) -> None:
        entry = RuntimeEntry(engine="onnxruntime", providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this onnxruntime has CUDA")
        note = load_model(make_bundle(runtime=entry)).note
        assert note == "built for CUDAExecutionProvider, which is not here: runs on CPUExecutionProvider"


class TestSmokeTest:
    def golden(self, linear: Any, pixels: np.ndarray, *, shift: float = 0.0) -> dict[str, bytes]:
        logits = linear.logits(pixels).astype(np.float32)
        logits[0, 0] += shift
        return {"golden.npz": golden_bytes(Golden(inputs=pixels, logits=logits))}

    def test_the_recorded_logits_pass(self, bundle: Path) -> None:
        load_model(bundle).smoke_test()

    def test_a_logit_beyond_the_tolerance_fails(
        self, make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray
    ) -> None:
        with pytest.raises(IntegrityError, match=r"logits differ by up to 0.1, expected at most \d") as caught:
            load_model(make_bundle(files=self.golden(linear, pixels, shift=0.1))).smoke_test()
        assert caught.value.exit_code == 4
        assert "CPUExecutionProvider" in str(caught.value.hint)

    def test_int8_may_differ_by_a_step_that_float32_may_not(
        self, make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray
    ) -> None:
        logits = linear.logits(pixels)
        step = float(np.abs(logits).max()) / 127
        files = self.golden(linear, pixels, shift=-step if logits[0].argmax() else step)
        int8 = ModelEntry(scheme=Scheme.S8S8, opset=18)
        load_model(make_bundle("int8", files=files, model=int8)).smoke_test()
        with pytest.raises(IntegrityError, match="smoke test"):
            load_model(make_bundle("float32", files=files)).smoke_test()

    def test_a_changed_class_is_counted(
        self, make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray
    ) -> None:
        with pytest.raises(IntegrityError, match="1 of 6 golden images change class"):
            load_model(make_bundle(files=self.golden(linear, pixels, shift=50.0))).smoke_test()

    def test_a_class_that_hangs_by_less_than_the_tolerance_may_change(
        self, make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray
    ) -> None:
        logits = linear.logits(pixels).astype(np.float32)
        first, second = np.argsort(logits[0])[[-1, -2]]
        # The recorded logits put the second class a hair before the first.
        allowed = tolerance(logits, Scheme.FLOAT32)
        linear.bias[second] += logits[0, first] - logits[0, second] - allowed / 4
        recorded = linear.logits(pixels[:1]).astype(np.float32)
        recorded[0, second] += allowed / 2
        golden = golden_bytes(Golden(inputs=pixels[:1], logits=recorded))
        model = load_model(make_bundle(files={"model.onnx": linear.onnx(), "golden.npz": golden}))
        assert model.predict(pixels[:1]).argmax() != recorded.argmax()
        model.smoke_test()

    def test_a_model_that_gives_nan_fails(
        self, make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray
    ) -> None:
        files = self.golden(linear, pixels)
        linear.bias[:] = np.nan
        with pytest.raises(IntegrityError, match="logits differ by up to nan"):
            load_model(make_bundle(files=files | {"model.onnx": linear.onnx()})).smoke_test()

    def test_a_bundle_without_golden_images_says_so(
        self, description: Any, contents: dict[str, bytes], tmp_path: Path
    ) -> None:
        files = {name: data for name, data in contents.items() if name != "golden.npz"}
        model = load_model(pack_bundle(description=description, files=files, output=tmp_path / "b"))
        with pytest.raises(DataError, match=r"holds no 'golden.npz'"):
            model.smoke_test()


def test_the_tolerance_is_a_share_of_the_largest_logit() -> None:
    logits = np.array([[1, -254], [3, 4]], np.float32)
    assert tolerance(logits, Scheme.U8S8) == tolerance(logits, Scheme.S8S8) == 4
    assert tolerance(logits, Scheme.FLOAT32) == pytest.approx(0.0254)
    assert tolerance(logits, Scheme.FLOAT16) == pytest.approx(5.08)


def test_importing_runtime_and_package_loads_no_build_tool() -> None:
    code = (
        "import sys, edgec.runtime, edgec.package\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'sklearn', 'lightning_fabric', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_package_needs_no_onnxruntime() -> None:
    code = "import sys, edgec.package; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
