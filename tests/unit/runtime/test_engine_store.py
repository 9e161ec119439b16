"""Engines on a device of paper: TensorRT and CUDA are stand-ins at the boundary, the rest is edgec's."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgec.core.errors import MissingDependencyError, UnsupportedError
from edgec.package import BuildPlan, RuntimeEntry
from edgec.runtime import engine_store, load_model
from edgec.runtime.engine import Port

PLAN = BuildPlan(tool="trtexec", arguments=("--onnx=model.onnx", "--maxShapes=input:4x3x4x5"))


class PaperBuilder:
    """TensorRT's building half: an engine is the text of how often one was built."""

    def __init__(self) -> None:
        self.built: list[Any] = []
        self.works = True
        self.name, self.version = b"Orin\0", "10.3.0"

    @property
    def api(self) -> Any:
        config = SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: None,
            add_optimization_profile=self.built.append,
            create_timing_cache=lambda data: data,
            set_timing_cache=lambda cache, ignore_mismatch: True,
            get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"timings"),
        )
        profile = SimpleNamespace(shapes=None)
        profile.set_shape = lambda name, *shapes: setattr(profile, "shapes", shapes)
        network = SimpleNamespace(num_inputs=1, get_input=lambda i: SimpleNamespace(name="input", shape=(-1, 3, 4, 5)))
        builder = SimpleNamespace(
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: profile,
            create_network=lambda flags: network,
            build_serialized_network=lambda network, config: (
                f"engine {len(self.built)}".encode() if self.works else None
            ),
        )
        logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
        return SimpleNamespace(
            __name__="tensorrt",
            __version__=self.version,
            Logger=logger,
            Builder=lambda log: builder,
            OnnxParser=lambda network, log: SimpleNamespace(parse=lambda data: True),
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=3),
            MemoryPoolType=SimpleNamespace(WORKSPACE=0),
            IProgressMonitor=object,
        )

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:  # noqa: N802  # CUDA's name
        return 0, SimpleNamespace(name=self.name, major=8, minor=7)


class PaperRunner:
    """Loads what the builder built, unless it is broken; gives the channels' means."""

    devices, parallel, most = ("GPU",), False, 4
    inputs = (Port(name="input", kind="float", is_float=True, shape=(None, 3, 4, 5)),)
    outputs = (Port(name="logits", kind="float", is_float=True, shape=(None, 3)),)

    def __init__(self, model: bytes) -> None:
        from edgec.core.errors import DataError

        if not model.startswith(b"engine"):
            raise DataError("cannot load the engine")

    def run(self, tensor: np.ndarray) -> np.ndarray:
        return tensor.mean(axis=(2, 3))


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> PaperBuilder:
    builder = PaperBuilder()
    monkeypatch.setattr("edgec.runtime.engine_store.load_tensorrt", lambda: builder.api)
    monkeypatch.setattr("edgec.runtime.engine_store.cuda_bindings", lambda: builder)
    monkeypatch.setattr("edgec.runtime.tensorrt.TensorRt", PaperRunner)
    for module in ("edgec.runtime.engines", "edgec.runtime.model"):
        monkeypatch.setattr(f"{module}.is_installed", lambda name: True)
    return builder


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(runtime=RuntimeEntry(engine="tensorrt", build_plan=PLAN))


def test_an_engine_is_built_on_the_first_call_and_kept(paper: PaperBuilder, bundle: Path, tmp_path: Path) -> None:
    told: list[str] = []
    first = load_model(bundle, engines=tmp_path / "engines", tell=told.append)
    assert (first.session.engine, first.note) == ("tensorrt", None)
    assert told == ["building a TensorRT 10.3.0 engine for Orin, once: this takes minutes"]
    load_model(bundle, engines=tmp_path / "engines", tell=told.append)
    assert (len(told), len(paper.built)) == (1, 1)


def test_it_takes_the_plans_batches(paper: PaperBuilder, bundle: Path, tmp_path: Path) -> None:
    load_model(bundle, engines=tmp_path)
    assert paper.built[0].shapes == ((1, 3, 4, 5), (1, 3, 4, 5), (4, 3, 4, 5))


@pytest.mark.parametrize("change", [{"version": "10.4.0"}, {"name": b"Orin Nano"}])
def test_another_tensorrt_or_gpu_builds_its_own(
    paper: PaperBuilder, bundle: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    load_model(bundle, engines=tmp_path)
    vars(paper).update(change)
    load_model(bundle, engines=tmp_path)
    assert len(paper.built) == len(list(tmp_path.glob("*.engine"))) == 2


def test_the_same_graph_in_another_bundle_takes_the_engine(
    paper: PaperBuilder, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        entry = RuntimeEntry(engine="tensorrt", build_plan=PLAN)
        load_model(make_bundle(name, runtime=entry, tools={"python": name}), engines=tmp_path / "engines")
    assert len(paper.built) == 1


def test_an_engine_that_no_longer_loads_is_built_anew(paper: PaperBuilder, bundle: Path, tmp_path: Path) -> None:
    load_model(bundle, engines=tmp_path)
    (kept,) = tmp_path.glob("*.engine")
    kept.write_bytes(b"cut short")
    assert load_model(bundle, engines=tmp_path).session.engine == "tensorrt"
    assert kept.read_bytes() == b"engine 2"


def test_timings_are_kept_and_the_folder_is_the_users_alone(paper: PaperBuilder, bundle: Path, tmp_path: Path) -> None:
    load_model(bundle, engines=tmp_path / "engines")
    assert (tmp_path / "engines" / "10.3.0-8.7-timing.cache").read_bytes() == b"timings"
    assert stat.S_IMODE((tmp_path / "engines").stat().st_mode) == 0o700


def test_a_build_that_fails_leaves_it_to_onnxruntime_and_says_so(
    paper: PaperBuilder, bundle: Path, tmp_path: Path
) -> None:
    paper.works = False
    model = load_model(bundle, engines=tmp_path)
    assert model.session.engine == "onnxruntime"
    assert model.note == (
        "built for TensorRT, which does not run it here: onnxruntime does, on CPUExecutionProvider "
        "(TensorRT 10.3.0 cannot build the engine)"
    )
    model.smoke_test()


def test_who_asked_for_tensorrt_gets_the_error(paper: PaperBuilder, bundle: Path, tmp_path: Path) -> None:
    paper.works = False
    with pytest.raises(UnsupportedError, match="cannot build the engine"):
        load_model(bundle, engine="tensorrt", engines=tmp_path)


def test_a_folder_that_cannot_be_written_costs_the_engine_only_its_place(
    paper: PaperBuilder, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    told: list[str] = []
    assert load_model(bundle, engines=tmp_path / "file", tell=told.append).session.engine == "tensorrt"
    assert "cannot be kept in" in told[-1]
    assert "EDGEC_CACHE" in told[-1]


def test_without_tensorrt_an_explicit_wish_says_where_it_comes_from(bundle: Path) -> None:
    if "tensorrt" in sys.modules:
        pytest.skip("TensorRT is installed")
    with pytest.raises(MissingDependencyError, match="TensorRT is not installed"):
        load_model(bundle, engine="tensorrt")


def test_the_folder_is_the_environments_or_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEC_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert engine_store.engines_folder() == tmp_path / ".cache" / "edgec" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert engine_store.engines_folder() == tmp_path / "x" / "edgec" / "engines"
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "own"))
    assert engine_store.engines_folder() == tmp_path / "own" / "engines"
