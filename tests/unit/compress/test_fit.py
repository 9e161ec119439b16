"""A latency budget: blocks and channels traded for each other, on devices where launches or products take the time."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import nn

from edgec.compress.channels import slim
from edgec.compress.fit import fitted
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.compress.price import Layers, MultiplyAdds, layers_of
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.core.target import Rules
from edgec.learn.config import Budget
from edgec.models.cifar_resnet import Block

METHODS = ["mir", "fskd", "practise"]


class Device:
    """A millisecond a layer, some for the products, and more than planned where `beside` says so."""

    def __init__(self, job: CompressJob, *, products_ms: float, beside: float = 1.0) -> None:
        self._products = MultiplyAdds(job.teacher.module, job.example)
        self._products_ms, self._beside = products_ms, beside
        self.whole = self.of_net(job.teacher.module)
        self.measured = 0

    def of_layers(self, layers: Layers) -> float:
        return len(layers) + self._products_ms * self._products.of_layers(layers) / self._products.whole

    def of_net(self, module: nn.Module) -> float:
        self.measured = getattr(self, "measured", 0) + 1
        return self._beside * self.of_layers(layers_of(module))

    def told(self, amount: float) -> str:
        return f"{amount:.3g} ms"


@pytest.fixture
def job(job: CompressJob) -> CompressJob:
    """Eleven layers; of four blocks three can go."""
    torch.manual_seed(0)
    stem = [nn.Conv2d(1, 6, 3, padding=1), nn.ReLU()]
    blocks = [Block(6, 6, 1), Block(6, 6, 1), Block(6, 8, 2), Block(8, 8, 1)]
    net = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    return dataclasses.replace(job, teacher=dataclasses.replace(job.teacher, module=net), rules=Rules())


def asked(job: CompressJob, device: Device, **budget: float) -> CompressJob:
    return dataclasses.replace(job, latency=device, budget=Budget(steps=2, flip=False, **budget))


def fit(job: CompressJob, method: str = "mir") -> CompressJob:
    return fitted(job, method, progress=Silent())


def dropped(job: CompressJob) -> list[str]:
    return [] if job.base is None else job.base.history[-1].facts["dropped_blocks"]


def run(job: CompressJob, method: str) -> Classifier:
    found = methods[method]
    return found.function(fit(job, method), found.config(), progress=Silent())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [{"keep_latency": 0.7}, {"max_latency_ms": 8.0}])
@pytest.mark.parametrize("products_ms", [0.1, 50.0])
def test_what_is_left_keeps_within_the_budget(
    job: CompressJob, method: str, budget: dict[str, float], products_ms: float
) -> None:
    device = Device(job, products_ms=products_ms)
    if products_ms > 1:
        budget = {name: value * (1 if value < 1 else 5) for name, value in budget.items()}
    student = run(asked(job, device, **budget), method)
    most = budget.get("max_latency_ms", budget.get("keep_latency", 1) * device.whole)
    facts = student.history[-1].facts
    assert facts["latency_ms"] == device.of_net(student.module) <= most
    assert facts["teacher_latency_ms"] == device.whole


def test_where_launches_take_the_time_layers_go_and_channels_stay(job: CompressJob) -> None:
    found = fit(asked(job, Device(job, products_ms=0.01), keep_latency=0.85))
    assert len(dropped(found)) == 1
    assert found.widths is not None
    whole = {name: int(outputs) for name, (outputs, _) in layers_of(job.teacher.module).items()}
    assert all(width == whole[name] for name, width in found.widths.items())


def test_where_products_take_the_time_a_little_is_taken_from_channels(job: CompressJob) -> None:
    found = fit(asked(job, Device(job, products_ms=200.0), keep_latency=0.9))
    assert dropped(found) == []
    net, cut = slim(found)
    assert cut.widths == found.widths
    assert sum(outputs for outputs, _ in layers_of(net).values()) < sum(
        outputs for outputs, _ in layers_of(job.teacher.module).values()
    )


@pytest.mark.parametrize("count", [0, 2])
def test_a_number_of_blocks_that_is_given_is_kept(job: CompressJob, count: int) -> None:
    found = fit(asked(job, Device(job, products_ms=200.0), keep_latency=0.5, drop_blocks=count))
    assert len(dropped(found)) == count


@pytest.mark.parametrize("method", ["mir", "practise"])
def test_a_net_that_takes_longer_than_planned_is_cut_again(job: CompressJob, method: str) -> None:
    device = Device(job, products_ms=50.0)
    device._beside = 1.3  # of any net but the teacher
    student = run(asked(job, device, keep_latency=0.6), method)
    assert device.of_net(student.module) <= 0.6 * device.whole
    assert device.measured >= 3


@pytest.mark.parametrize("budget", [{"keep_latency": 0.2}, {"max_latency_ms": 4.0}])
@pytest.mark.parametrize("method", ["mir", "practise"])
def test_a_budget_out_of_reach_says_the_least_and_its_hint_works(
    job: CompressJob, method: str, budget: dict[str, float]
) -> None:
    device = Device(job, products_ms=1.0)
    with pytest.raises(ConfigError) as caught:
        run(asked(job, device, **budget), method)
    ((setting, value),) = budget.items()
    # Stem, the block that halves the map with its shortcut's layers, and head.
    assert re.fullmatch(rf"{setting} = {value:g}: .*leaves.* \d\.?\d* ms", str(caught.value))
    hint = re.fullmatch(rf"set compress\.{setting} to ([\d.]+) or more", str(caught.value.hint))
    assert hint
    student = run(asked(job, device, **{setting: float(hint[1])}), method)
    assert len(layers_of(student.module)) == len(layers_of(job.teacher.module)) - 6


def test_more_blocks_than_there_are_are_refused(job: CompressJob) -> None:
    with pytest.raises(ConfigError, match=r"drop_blocks = 4: the model has 3 residual blocks that can go"):
        fit(asked(job, Device(job, products_ms=1.0), keep_latency=0.5, drop_blocks=4))
