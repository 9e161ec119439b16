"""Nets that give more than one tensor: the logits are found, or the choice is listed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgec.core.errors import ConfigError
from edgec.models.outputs import chosen_output


class Several(nn.Module):
    """Gives what it is told to, from the mean of the images."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.head, self.kind = nn.Linear(3, 5), kind

    def forward(self, x: torch.Tensor) -> object:
        features = x.mean((2, 3))
        logits = self.head(features)
        return {
            "tensor": logits,
            "tuple": (logits, features),
            "dict": {"features": features, "logits": logits, "nothing": None},
            "nested": (features, [{"out": logits}]),
            "two": {"logits": logits, "aux": logits + 1},
        }[self.kind]


IMAGES = torch.rand(2, 3, 4, 4)


def chosen(kind: str, wanted: str | None = None) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    net, notes = Several(kind).eval(), []
    module = chosen_output(net, net(IMAGES), name="net", classes=5, wanted=wanted, note=notes.append)
    return module(IMAGES), net.head(IMAGES.mean((2, 3))), notes


@pytest.mark.parametrize(("kind", "path"), [("tuple", "0"), ("dict", "logits"), ("nested", "1.0.out")])
def test_the_one_output_with_a_column_a_class_is_taken_and_said(kind: str, path: str) -> None:
    got, wanted, notes = chosen(kind)
    assert torch.equal(got, wanted)
    assert f"the logits are taken from '{path}'" in notes[0]


def test_a_single_tensor_is_taken_without_a_word() -> None:
    got, wanted, notes = chosen("tensor")
    assert torch.equal(got, wanted)
    assert not notes


def test_several_with_a_column_a_class_are_listed_and_a_setting_names_one() -> None:
    with pytest.raises(ConfigError, match=r"2 outputs with 5 columns: .*logits \[2, 5\], aux \[2, 5\]") as caught:
        chosen("two")
    assert caught.value.hint == "name the one with the logits: --set model.output=logits"
    got, wanted, _ = chosen("two", "aux")
    assert torch.equal(got, wanted + 1)


def test_an_output_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"no output 'out'; for two images it gives 0 \[2, 5\], 1 \[2, 3\]"):
        chosen("tuple", "out")


def test_where_none_of_several_has_a_column_a_class_all_are_listed() -> None:
    net = Several("tuple").eval()
    with pytest.raises(ConfigError, match=r"no output for 7 labels; for two images it gives 0 \[2, 5\], 1 \[2, 3\]"):
        chosen_output(net, net(IMAGES), name="net", classes=7, wanted=None, note=lambda _: None)
