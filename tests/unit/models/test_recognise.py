"""Files that are no checkpoints are named for what they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from edgec.core.errors import DataError
from edgec.models.weights import read_weights


def onnx_bytes() -> bytes:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    return helper.make_model(graph, producer_name="torch").SerializeToString()


def npz_bytes() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weight=np.ones(2))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "a Git LFS pointer",
            "git lfs pull",
        ),
        (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model", "tf2onnx"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file, as Keras writes them", "tf2onnx"),
        (b"<!DOCTYPE html><html></html>", "a web page", "download the file itself"),
        (b"\x1f\x8b\x08" + bytes(40), "a gzip archive", "unpack it"),
        (b"", "empty", "copy or export it again"),
        (b"ftrt" + bytes(40), "a TensorRT engine", "the .onnx file that it was made from"),
        (npz_bytes(), "a file of NumPy arrays", "state_dict"),
        (onnx_bytes(), "an ONNX model, which carries its weights", "--model"),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, what: str, hint: str, suffix: str) -> None:
    (tmp_path / f"w.{suffix}").write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        read_weights(tmp_path / f"w.{suffix}")
    assert hint in str(caught.value.hint)


def test_torchscript_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:  # as torch.jit.save writes it, which warns that it will go
        for member in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            file.writestr(f"w/{member}", b"")
    with pytest.raises(DataError, match="a TorchScript archive") as caught:
        read_weights(tmp_path / "w.pt")
    assert "torch.jit.load(path).state_dict()" in str(caught.value.hint)


def test_an_exported_program_is_named_with_the_way_to_its_tensors(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),))
    torch.export.save(program, tmp_path / "w.pt2")
    with pytest.raises(DataError, match=r"a program of torch\.export") as caught:
        read_weights(tmp_path / "w.pt2")
    assert "torch.export.load(path).state_dict" in str(caught.value.hint)


def test_content_says_what_a_file_is_not_its_name(tmp_path: Path) -> None:
    state = {"weight": torch.rand(2, 3)}
    torch.save(state, tmp_path / "w.safetensors")
    save_file(state, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        assert torch.equal(read_weights(tmp_path / name)["weight"], state["weight"])
