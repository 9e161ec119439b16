"""Modules that a program holds: the digest of what they compute, and the teacher that is made of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.models.config import ModelConfig
from edgec.models.held import hold
from edgec.models.load import load_classifier
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build

SPEC = InputSpec(height=6, width=5, channels=3)
CONFIG = ModelConfig(name="memory:Net", input=SPEC)


class Net(nn.Module):
    """Its answer depends on a number and on a function that no tensor holds."""

    def __init__(self, factor: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head, self.drop, self.factor = nn.Linear(3, 4), nn.Dropout(), factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.head(self.drop(changed(images).mean((2, 3))))


def changed(images: Tensor) -> Tensor:
    return images.relu()


class Branching(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.sum() > 0 else super().forward(-images)


def test_what_computes_the_same_has_the_same_digest() -> None:
    assert hold(Net(), SPEC).digest == hold(Net().train(), SPEC).digest


def test_other_weights_numbers_or_functions_give_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [hold(Net(), SPEC).digest, hold(Net(seed=1), SPEC).digest, hold(Net(factor=2.0), SPEC).digest]
    monkeypatch.setitem(globals(), "changed", torch.tanh)
    digests.append(hold(Net(), SPEC).digest)
    assert len(set(digests)) == 4


def test_the_teacher_is_a_copy_in_evaluation_mode() -> None:
    net = Net().train()
    teacher = load_classifier(CONFIG, tuple("abcd"), held=hold(net, SPEC))
    images = torch.rand(2, *SPEC.shape)
    with torch.inference_mode():
        assert torch.equal(teacher.module(images), Net().eval()(images))
    assert net.training
    assert {id(each) for each in teacher.module.parameters()}.isdisjoint(map(id, net.parameters()))


def test_a_net_in_half_precision_is_taken_in_single_precision() -> None:
    net = Net().half()
    teacher = load_classifier(ModelConfig(name="memory:Net", input=SPEC), tuple("abcd"), held=hold(net, SPEC))
    assert {each.dtype for each in teacher.module.parameters()} == {torch.float32}


def test_what_cannot_be_exported_is_refused_in_a_line() -> None:
    with pytest.raises(UnsupportedError, match="the module Branching cannot be exported: ") as caught:
        hold(Branching(), SPEC)
    assert "\n" not in str(caught.value)
    assert "module:factory" in str(caught.value.hint)


def test_its_digest_is_in_the_keys_of_stages_and_a_weights_file_is_refused() -> None:
    table = {"model": {"name": "memory:Net", "input": SPEC.model_dump()}, "data": {}}
    plans = [
        plan_build(read_config(table), accelerator=Accelerator.CPU, module=net) for net in (Net(), Net(), Net(seed=1))
    ]
    first, equal, other = (plan.digests["model"] for plan in plans)
    assert first == equal != other
    with pytest.raises(ConfigError, match=r"model\.weights is 'w\.pt'"):
        plan_build(read_config(table, [("model.weights", "w.pt")]), accelerator=Accelerator.CPU, module=Net())
