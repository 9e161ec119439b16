"""Which engine runs a bundle: the manifest's where it is installed, else onnxruntime, and what is said of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from edgec.core.errors import MissingDependencyError
from edgec.core.inputs import InputSpec
from edgec.core.target import EngineName
from edgec.package import RuntimeEntry
from edgec.runtime import Session, engines, is_installed, load_model


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without OpenVINO."""
    real = engines.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else real(name))


def test_every_engine_has_a_name_and_a_way_to_install_it() -> None:
    assert set(engines.NAMES) == set(engines.INSTALL) == set(get_args(EngineName))


def test_asking_whether_an_engine_is_here_imports_nothing() -> None:
    before = set(sys.modules)
    for name in get_args(EngineName):
        is_installed(name)
    assert not {"openvino", "tensorrt"} & (set(sys.modules) - before)


def test_a_session_in_an_engine_that_is_not_here_names_the_extra(
    linear: Any, spec: InputSpec, no_openvino: None
) -> None:
    with pytest.raises(MissingDependencyError, match="OpenVINO is not installed") as caught:
        Session(linear.onnx(), spec, engine="openvino")
    assert caught.value.hint == "pip install 'edgec[openvino]'"


def test_a_bundle_runs_in_onnxruntime_where_its_engine_is_not_and_says_so(
    make_bundle: Callable[..., Path], linear: Any, pixels: np.ndarray, no_openvino: None
) -> None:
    model = load_model(make_bundle(runtime=RuntimeEntry(engine="openvino")))
    assert model.session.engine == "onnxruntime"
    assert model.note == (
        "built for OpenVINO, which does not run it here: onnxruntime does, on CPUExecutionProvider; "
        "for OpenVINO: pip install 'edgec[openvino]'"
    )
    model.smoke_test()
    np.testing.assert_allclose(model.session.logits(pixels), linear.logits(pixels), rtol=1e-5, atol=1e-5)


def test_a_bundle_for_tensorrt_without_an_engine_file_runs_in_onnxruntime(make_bundle: Callable[..., Path]) -> None:
    assert load_model(make_bundle(runtime=RuntimeEntry(engine="tensorrt"))).session.engine == "onnxruntime"


def test_the_engine_that_was_asked_for_is_taken(make_bundle: Callable[..., Path]) -> None:
    model = load_model(make_bundle(runtime=RuntimeEntry(engine="openvino")), engine="onnxruntime")
    assert model.session.engine == "onnxruntime"
