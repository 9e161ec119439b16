"""What a plan knows of an ONNX file without onnx: operators, number formats, other files."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from edgec.core.target import Scheme
from edgec.models.onnx.outline import outline_of

sys.path.append(str(Path(__file__).parents[4] / "benchmarks"))
FILES = import_module("onnx_files").FILES


def test_a_plain_net_has_its_operators_and_no_other_files(tmp_path: Path) -> None:
    found = outline_of(FILES["opset 17"].make(tmp_path))
    assert found.operators == {"Conv", "BatchNormalization", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    assert (found.locations, found.given_scheme) == ((), None)


def test_files_of_weights_are_named_once_and_in_order(tmp_path: Path) -> None:
    assert outline_of(FILES["external data, one file"].make(tmp_path)).locations == ("model.onnx.data",)
    (tmp_path / "b").mkdir()
    several = outline_of(FILES["external data, a file a tensor"].make(tmp_path / "b")).locations
    assert several == ("w1", "w2", "b2", "gamma", "beta", "mean", "var", "w3", "b3")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("QDQ, uint8", Scheme.U8S8),
        ("QDQ, symmetric int8", Scheme.S8S8),
        ("QLinearConv", Scheme.U8S8),
        ("dynamically quantised", Scheme.U8S8),
        ("float16", None),
        ("Keras, pixels as uint8", None),
    ],
)
def test_a_file_that_is_quantised_already_is_known(name: str, scheme: Scheme | None, tmp_path: Path) -> None:
    assert outline_of(FILES[name].make(tmp_path)).given_scheme is scheme


@pytest.mark.parametrize("data", [b"", b"hello" * 50, b"\x08\x09", b"\xff" * 40])
def test_what_cannot_be_read_has_an_empty_outline(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    found = outline_of(tmp_path / "m.onnx")
    assert (found.locations, found.given_scheme) == ((), None)
