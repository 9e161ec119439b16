"""Checkpoints as training scripts write them: the state that is meant is found, or the choice is listed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from edgec.core.errors import ConfigError, DataError
from edgec.models.weights import load_weights_, names_of, read_weights


class Net(nn.Module):
    """A body and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)


class Wrapped(nn.Module):
    """A net whose own names begin as a wrapper's do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 2)


def trained(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {name: torch.rand_like(t.float()).to(t.dtype) for name, t in Net().state_dict().items()}


def put(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def loaded(path: Path, net: nn.Module | None = None, checkpoint: str | None = None) -> tuple[nn.Module, list[str]]:
    notes: list[str] = []
    net = net or Net()
    load_weights_(net, read_weights(path, names=names_of(net), checkpoint=checkpoint, note=notes.append), source="w")
    return net, notes


def require_equal(net: nn.Module, wanted: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "ema", "state_dict_ema", "params", "net", "weights", "anything"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "net.", "model.", "backbone.", "_orig_mod.module."])
def test_a_state_is_found_under_any_key_and_prefix_and_it_is_said(tmp_path: Path, key: str, prefix: str) -> None:
    torch.save({key: put(trained(), prefix), "epoch": 90, "optimizer": {"state": {0: {}}}}, tmp_path / "w.pt")
    net, notes = loaded(tmp_path / "w.pt")
    require_equal(net, trained())
    assert f"the state under '{key}'" in notes[0]
    assert (f"names without '{prefix}'" in notes[0]) == bool(prefix)


def test_a_bare_state_is_taken_without_a_word(tmp_path: Path) -> None:
    save_file(trained(), tmp_path / "w.safetensors")
    net, notes = loaded(tmp_path / "w.safetensors")
    require_equal(net, trained())
    assert not notes


@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_only_training_needs_is_left_out_and_said(tmp_path: Path, prefix: str) -> None:
    extra = {"criterion.weight": torch.ones(2), "val_acc.total": torch.tensor(1), "train_loss.sum": torch.tensor(0.0)}
    torch.save({"state_dict": {**put(trained(), prefix), **extra}}, tmp_path / "w.ckpt")
    net, notes = loaded(tmp_path / "w.ckpt")
    require_equal(net, trained())
    assert "'criterion.weight' and 2 more left out" in notes[0]


def test_the_counter_of_averaged_weights_is_left_out(tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(Net())
    averaged.module.load_state_dict(trained())
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    net, notes = loaded(tmp_path / "swa.pt")
    require_equal(net, trained())
    assert "names without 'module.', 'n_averaged' left out" in notes[0]


def test_arguments_paths_and_scalars_beside_the_weights_do_no_harm(tmp_path: Path) -> None:
    beside = {"args": argparse.Namespace(lr=0.1, output=Path("out")), "best": np.float64(93.2), "top": np.int64(3)}
    torch.save({"model": trained(), **beside}, tmp_path / "w.pth")
    require_equal(loaded(tmp_path / "w.pth")[0], trained())


def test_several_states_that_fit_are_listed_and_a_setting_names_one(tmp_path: Path) -> None:
    torch.save({"state_dict": trained(0), "state_dict_ema": put(trained(1), "module.")}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=re.escape("2 states fit the model: state_dict, state_dict_ema.module")) as e:
        loaded(tmp_path / "w.pt")
    assert e.value.hint == "name the one that is meant: --set model.checkpoint=state_dict_ema.module"
    for name, seed in (("state_dict", 0), ("state_dict_ema", 1), ("state_dict_ema.module", 1)):
        require_equal(loaded(tmp_path / "w.pt", checkpoint=name)[0], trained(seed))


def test_nets_side_by_side_in_one_state_are_told_apart_by_their_prefix(tmp_path: Path) -> None:
    torch.save({"state_dict": {**put(trained(0), "student."), **put(trained(1), "teacher.")}}, tmp_path / "w.ckpt")
    with pytest.raises(ConfigError, match=re.escape("state_dict.student, state_dict.teacher")):
        loaded(tmp_path / "w.ckpt")
    require_equal(loaded(tmp_path / "w.ckpt", checkpoint="teacher")[0], trained(1))


def test_a_state_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    torch.save({"state_dict": trained(0), "state_dict_ema": trained(1)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="no state 'state_dict_em'; known: state_dict, state_dict_ema") as caught:
        loaded(tmp_path / "w.pt", checkpoint="state_dict_em")
    assert caught.value.hint == "did you mean 'state_dict_ema'?"


def test_a_state_of_another_net_beside_the_models_is_no_choice(tmp_path: Path) -> None:
    torch.save({"generator": {"weight": torch.ones(3)}, "net": trained()}, tmp_path / "w.pt")
    require_equal(loaded(tmp_path / "w.pt")[0], trained())


def test_a_prefix_that_the_models_own_names_have_stays(tmp_path: Path) -> None:
    state = {"weight": torch.rand(2, 3), "bias": torch.rand(2)}
    for prefix in ("model.", "module.model."):
        torch.save(put(state, prefix), tmp_path / "w.pt")
        net, _ = loaded(tmp_path / "w.pt", Wrapped())
        assert torch.equal(net.get_parameter("model.bias"), state["bias"])


def test_a_deeper_net_of_the_same_family_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet34(num_classes=2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match="which the model has not"):
        loaded(tmp_path / "w.pt", torchvision.models.resnet18(num_classes=2))


def test_a_state_that_does_not_fit_is_told_by_its_names_without_wrappers(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in trained().items() if name != "head.bias"}
    torch.save({"state_dict": put(state, "module.")}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=re.escape("the file lacks 'head.bias'") + "$"):
        loaded(tmp_path / "w.pt")


def test_a_net_with_a_versioned_state_is_loaded(tmp_path: Path) -> None:
    whole = torchvision.models.mnasnet0_5(num_classes=2)
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    net, _ = loaded(tmp_path / "w.safetensors", torchvision.models.mnasnet0_5(num_classes=2))
    require_equal(net, whole.state_dict())


def test_a_head_for_other_classes_names_the_argument(tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=43).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match=re.escape("'fc.weight' is (43, 512), the model expects (10, 512)")) as caught:
        loaded(tmp_path / "w.pt", torchvision.models.resnet18(num_classes=10))
    assert "--set model.arguments.num_classes=43" in str(caught.value.hint)


def test_another_width_is_no_matter_of_classes(tmp_path: Path) -> None:
    torch.save(torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.5).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError) as caught:
        loaded(tmp_path / "w.pt", torchvision.models.mobilenet_v2(num_classes=5))
    assert caught.value.hint == "check the architecture and its arguments (model.arguments)"


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"model": {}, "epoch": 3}])
def test_a_checkpoint_without_tensors_is_refused_in_words(tmp_path: Path, content: dict[str, object]) -> None:
    torch.save(content, tmp_path / "empty.pt")
    with pytest.raises((ConfigError, DataError)):
        loaded(tmp_path / "empty.pt")
