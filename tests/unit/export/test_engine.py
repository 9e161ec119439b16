"""Building engines: what they depend on, for which shapes, and the whole path where a TensorRT is installed."""

from __future__ import annotations

from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from edgec.core.errors import MissingDependencyError, UnsupportedError
from edgec.core.progress import Silent
from edgec.core.target import load_target
from edgec.export import engine
from edgec.export.engine import EngineSpec, build_engine, cached_engine, compute_capability, engine_key, load_tensorrt


class Notes(Silent):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def model(tmp_path):
    """A ReLU for batches of any size."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 4, 4]) for name in ("input", "logits")
    ]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["logits"])], "relu", values[:1], values[1:])
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_an_engine_takes_one_image_to_the_largest_batch():
    assert EngineSpec(most=4).shapes((-1, 3, 8, 8)) == ((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))


def test_a_fixed_batch_stays_what_it_is():
    assert EngineSpec(most=4).shapes((1, 3, 8, 8)) == ((1, 3, 8, 8),) * 3


def test_scratch_space_is_a_quarter_of_the_devices_memory():
    assert EngineSpec.of(load_target("jetson")).workspace_mb == 2048


def test_whatever_an_engine_depends_on_changes_its_key(model, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\n")
    same = {"version": "10.3.0", "capability": "8.7"}
    keys = [
        engine_key(model, EngineSpec(), **same),
        engine_key(other, EngineSpec(), **same),
        engine_key(model, EngineSpec(most=4), **same),
        engine_key(model, EngineSpec(workspace_mb=1), **same),
        engine_key(model, EngineSpec(), **same | {"version": "10.16.0"}),
        engine_key(model, EngineSpec(), **same | {"capability": "11.0"}),
    ]
    assert len(set(keys)) == len(keys)
    assert engine_key(model, EngineSpec(), **same) == keys[0]


def test_without_tensorrt_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="needs TensorRT, which is not installed") as raised:
        load_tensorrt()
    assert "trtexec" in (raised.value.hint or "")


def test_an_older_tensorrt_is_refused(monkeypatch):
    monkeypatch.setattr(engine, "find_spec", lambda _: object())
    monkeypatch.setattr(engine.importlib, "import_module", lambda _: SimpleNamespace(__version__="8.5.2"))
    with pytest.raises(UnsupportedError, match=r"TensorRT 8\.5\.2 is installed, expected 10 or newer"):
        load_tensorrt()


def test_capability_is_read_from_the_driver():
    """A stand-in for cuda-python: its functions give an error code and a value."""
    cuda = SimpleNamespace(
        cudaDeviceAttr=int, cudaDeviceGetAttribute=lambda attribute, _: (0, {75: 8, 76: 7}[attribute])
    )
    assert compute_capability(cuda) == "8.7"


def test_without_a_gpu_the_drivers_error_is_told():
    """Likewise."""
    cuda = SimpleNamespace(cudaDeviceAttr=int, cudaDeviceGetAttribute=lambda *_: (100, 0))
    with pytest.raises(UnsupportedError, match="CUDA: 100"):
        compute_capability(cuda)


@pytest.mark.tensorrt
class TestWithRtx:
    """tensorrt-rtx has the same API, and builds without a GPU."""

    @pytest.fixture
    def api(self):
        return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    def test_a_graph_is_built_once(self, api, model, tmp_path):
        folder = tmp_path / "engines"
        path = cached_engine(model, EngineSpec(most=2), folder, api=api, capability="8.7")
        assert path.stat().st_size > 0
        before = path.stat().st_mtime_ns
        assert cached_engine(model, EngineSpec(most=2), folder, api=api, capability="8.7") == path
        assert path.stat().st_mtime_ns == before

    def test_the_builder_tells_how_far_it_is(self, api, model, tmp_path):
        notes = Notes()
        build_engine(model, EngineSpec(), api=api, timings=tmp_path / "timing.cache", progress=notes)
        assert all(text.endswith(" steps") for text in notes.texts)

    def test_a_graph_that_it_refuses_is_named(self, api, tmp_path):
        (tmp_path / "broken.onnx").write_bytes(b"no graph")
        with pytest.raises(UnsupportedError, match=r"refuses 'broken\.onnx'"):
            build_engine(tmp_path / "broken.onnx", EngineSpec(), api=api, timings=tmp_path / "t", progress=Silent())


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_tensorrt_builds_an_engine_for_this_gpu(model, tmp_path):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    cuda = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    path = cached_engine(model, EngineSpec(), tmp_path, api=load_tensorrt(), capability=compute_capability(cuda))
    assert path.stat().st_size > 0
    assert list(tmp_path.glob("*timing.cache"))
