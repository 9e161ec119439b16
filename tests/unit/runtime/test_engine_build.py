"""Building engines: what they depend on, for which shapes, and the whole path where a TensorRT is installed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from onnx import TensorProto, helper

from edgec.core.errors import MissingDependencyError, UnsupportedError
from edgec.core.target import load_target
from edgec.package import BuildPlan
from edgec.runtime import engine_build
from edgec.runtime.engine_build import EngineSpec, Gpu, build_engine, engine_key, load_tensorrt, read_gpu

ORIN = Gpu(name="Orin", capability="8.7")


@pytest.fixture
def model():
    """A ReLU for batches of any size."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 4, 4]) for name in ("input", "logits")
    ]
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["logits"])], "relu", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def test_an_engine_takes_one_image_to_the_largest_batch():
    assert EngineSpec(most=4).shapes((-1, 3, 8, 8)) == ((1, 3, 8, 8), (1, 3, 8, 8), (4, 3, 8, 8))


def test_a_fixed_batch_stays_what_it_is():
    assert EngineSpec(most=4).shapes((1, 3, 8, 8)) == ((1, 3, 8, 8),) * 3


def test_scratch_space_is_a_quarter_of_the_devices_memory():
    assert EngineSpec.of(load_target("jetson")).workspace_mb == 2048


def test_the_largest_batch_is_the_plans():
    plan = BuildPlan(tool="trtexec", arguments=("--stronglyTyped", "--maxShapes=input:16x1x8x8"))
    assert EngineSpec.planned(plan) == EngineSpec(most=16)
    assert EngineSpec.planned(None) == EngineSpec()


def test_whatever_an_engine_depends_on_changes_its_key(model):
    same = {"version": "10.3.0", "gpu": ORIN}
    keys = [
        engine_key(model, EngineSpec(), **same),
        engine_key(model + b"\n", EngineSpec(), **same),
        engine_key(model, EngineSpec(most=4), **same),
        engine_key(model, EngineSpec(workspace_mb=1), **same),
        engine_key(model, EngineSpec(), **same | {"version": "10.16.0"}),
        engine_key(model, EngineSpec(), **same | {"gpu": Gpu(name="Orin", capability="11.0")}),
        engine_key(model, EngineSpec(), **same | {"gpu": Gpu(name="Orin Nano", capability="8.7")}),
    ]
    assert len(set(keys)) == len(keys)
    assert engine_key(model, EngineSpec(), **same) == keys[0]


def test_without_tensorrt_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setattr(engine_build, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="needs TensorRT, which is not installed") as raised:
        load_tensorrt()
    assert "trtexec" in (raised.value.hint or "")


def test_an_older_tensorrt_is_refused(monkeypatch):
    monkeypatch.setattr(engine_build, "find_spec", lambda _: object())
    monkeypatch.setattr(engine_build.importlib, "import_module", lambda _: SimpleNamespace(__version__="8.5.2"))
    with pytest.raises(UnsupportedError, match=r"TensorRT 8\.5\.2 is installed, expected 10 or newer"):
        load_tensorrt()


def test_the_gpu_is_read_from_the_driver():
    """A stand-in for cuda-python: its functions give an error code and a value."""
    found = SimpleNamespace(name=b"Orin\0", major=8, minor=7)
    assert read_gpu(SimpleNamespace(cudaGetDeviceProperties=lambda _: (0, found))) == ORIN


def test_without_a_gpu_the_drivers_error_is_told():
    """Likewise."""
    with pytest.raises(UnsupportedError, match="CUDA: 100"):
        read_gpu(SimpleNamespace(cudaGetDeviceProperties=lambda _: (100, None)))


@pytest.mark.tensorrt
class TestWithRtx:
    """tensorrt-rtx has the same API, and builds without a GPU."""

    @pytest.fixture
    def api(self):
        return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

    def test_the_builder_tells_how_far_it_is(self, api, model, tmp_path):
        told = []
        assert build_engine(model, EngineSpec(), api=api, timings=tmp_path / "timing.cache", tell=told.append)
        assert all(line.endswith(" steps") for line in told)

    def test_a_graph_that_it_refuses_is_told(self, api, tmp_path):
        with pytest.raises(UnsupportedError, match="refuses the graph"):
            build_engine(b"no graph", EngineSpec(), api=api, timings=tmp_path / "t", tell=print)


@pytest.mark.gpu
@pytest.mark.tensorrt
def test_tensorrt_builds_an_engine_for_this_gpu(model, tmp_path):
    api = pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    assert build_engine(model, EngineSpec(), api=api, timings=tmp_path / "timing.cache", tell=print)
    assert (tmp_path / "timing.cache").stat().st_size > 0
