"""Weights files: what is read, what is refused, and that no code in one ever runs."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from edgec.core.errors import DataError
from edgec.models.weights import load_weights_, read_weights


class Harm:
    """Pickles to a call that makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.marker,)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.rand(2, 3, generator=generator), "bias": torch.rand(2, generator=generator)}


def require_equal(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)


def test_safetensors_are_read(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "w.safetensors")
    require_equal(read_weights(tmp_path / "w.safetensors"), state)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_torch_checkpoints_are_read_old_and_new(tmp_path: Path, state, zipped, suffix: str) -> None:
    torch.save(state, tmp_path / f"w.{suffix}", _use_new_zipfile_serialization=zipped)
    require_equal(read_weights(tmp_path / f"w.{suffix}"), state)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_of_a_training_run_is_unwrapped(tmp_path: Path, state, key: str) -> None:
    torch.save({key: state, "epoch": 90, "arch": "resnet18"}, tmp_path / "w.pt")
    require_equal(read_weights(tmp_path / "w.pt"), state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path: Path, zipped) -> None:
    torch.save({"weight": Harm(tmp_path / "marker")}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"w\.pt': holds more than tensors, and edgec runs no code") as caught:
        read_weights(tmp_path / "w.pt")
    assert "torch.save(model.state_dict(), path)" in str(caught.value.hint)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_with_code_in_it_is_refused_too(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Harm(tmp_path / "marker"), protocol=protocol))
    with pytest.raises(DataError, match=r"w\.pt'"):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "marker").exists()


def test_a_whole_model_is_refused_with_what_to_save_instead(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "w.pt")
    with pytest.raises(DataError, match="holds more than tensors"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("length", [4, 8, 20, 60, -1])
def test_a_cut_safetensors_file_is_named(tmp_path: Path, state, length: int) -> None:
    (tmp_path / "w.safetensors").write_bytes(save(state)[:length])
    with pytest.raises(DataError, match=r"weights '.*w\.safetensors': not a safetensors file") as caught:
        read_weights(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_any_cut_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"weight": torch.rand(1000)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for length in (*range(0, len(whole) - 64, len(whole) // 20), *range(len(whole) - 64, len(whole), 9)):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"weights '.*cut\.pt'"):
            read_weights(tmp_path / "cut.pt")


def test_text_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("hello\n")
    with pytest.raises(DataError, match="not a torch checkpoint"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("content", [[1.0], torch.ones(2), {"weight": 3.0}, {0: torch.ones(2)}])
def test_other_content_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match="expected names with tensors") as caught:
        read_weights(tmp_path / "w.pt")
    assert caught.value.hint == "save model.state_dict()"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_tensor_that_holds_no_numbers_is_named(tmp_path: Path, state, bad: float, suffix: str) -> None:
    state["bias"][1] = bad
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    with pytest.raises(DataError, match="tensor 'bias' holds NaN or infinity"):
        read_weights(path)


@pytest.mark.parametrize("name", ["missing.pt", "missing.safetensors", "folder.pt"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(DataError, match=f"no weights file '.*{re.escape(name)}'") as caught:
        read_weights(tmp_path / name)
    assert caught.value.hint == "give the path of a .safetensors or .pt file"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "weights 'w.pt' do not fit the model: the file lacks 'bias'"),
        ({"bias": None, "weight": None, "gain": torch.ones(1)}, "the file lacks 'bias' (and 2 more)"),
        ({"gain": torch.ones(1)}, "the file holds 'gain', which the model has not"),
        ({"module.gain": torch.ones(1)}, "the file holds 'module.gain', which the model has not"),
        ({"weight": torch.ones(5, 3)}, "weights 'w.pt': 'weight' is (5, 3), the model expects (2, 3)"),
    ],
)
def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(state, change: dict, message: str) -> None:
    layer = nn.Linear(3, 2)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    given = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load_weights_(layer, given, source="w.pt")
    assert caught.value.hint
    require_equal(layer.state_dict(), before)


def test_an_empty_file_of_weights_lacks_everything() -> None:
    with pytest.raises(DataError, match=re.escape("the file lacks 'bias' (and 1 more)")):
        load_weights_(nn.Linear(3, 2), {}, source="w.pt")


def test_the_counter_of_batch_norm_may_be_missing_as_in_old_checkpoints() -> None:
    norm = nn.BatchNorm2d(2)
    state = {name: torch.full((2,), 3.0) for name in ("weight", "bias", "running_mean", "running_var")}
    load_weights_(norm, state, source="w.pt")
    assert norm.running_var is not None
    assert norm.running_var.tolist() == [3, 3]


def test_half_precision_weights_become_what_the_model_computes_in(state) -> None:
    layer = nn.Linear(3, 2)
    load_weights_(layer, {name: tensor.half() for name, tensor in state.items()}, source="w.pt")
    assert layer.weight.dtype == torch.float32
    torch.testing.assert_close(layer.weight.detach(), state["weight"], atol=1e-3, rtol=0)
