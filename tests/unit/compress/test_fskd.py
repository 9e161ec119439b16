"""FSKD: 1x1 convolutions by least squares, absorbed, and whole compressions by them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from edgec.compress import fskd, oefsmc
from edgec.compress.channels import slim
from edgec.compress.config import FskdConfig, OefsmcConfig
from edgec.compress.fskd import absorb_, pointwise
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.core.target import Rules
from edgec.learn.config import Budget, DistillConfig
from edgec.models.infer import logits_of, to_tensor


def compressed(job: CompressJob, **fields: Any) -> Classifier:
    return fskd.compress(job, FskdConfig(**fields), progress=Silent())


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def accuracy(student: Classifier, samples: Samples) -> float:
    return float((logits_of(student, samples).argmax(1) == samples.labels).mean())


def moments_of(y: np.ndarray, lacking: np.ndarray, shares: np.ndarray) -> Tensor:
    rows = np.concatenate([np.ones((len(y), 1)), y, lacking], axis=1)
    return torch.as_tensor((rows * shares[:, None]).T @ rows)


def slowly_pointwise(
    y: np.ndarray, lacking: np.ndarray, shares: np.ndarray, *, ridge: float, shift: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares on weighed rows, the ridge as rows of its own, no moments taken."""
    mean, centre = (shares @ y, shares @ lacking) if shift else (0, 0)
    weight = np.sqrt(shares)[:, None]
    own, wanted = weight * (y - mean), weight * (lacking - centre)
    pull = np.diag(np.sqrt(ridge * np.square(own).sum(0)))
    mixing = np.linalg.lstsq(np.vstack([own, pull]), np.vstack([wanted, np.zeros_like(pull)]), rcond=None)[0].T
    return mixing, centre - mixing @ np.broadcast_to(mean, len(mixing))


# ---- the 1x1 convolution


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("ridge", [1e-6, 0.3])
def test_the_1x1_convolution_is_that_of_slow_least_squares(ridge: float, shift: bool) -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)) + 2
    lacking, shares = rng.normal(size=(40, 5)) + 1, rng.dirichlet(np.ones(40))
    found = pointwise(moments_of(y, lacking, shares), ridge=ridge, shift=shift)
    for got, wanted in zip(found, slowly_pointwise(y, lacking, shares, ridge=ridge, shift=shift), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-8)


@given(st.integers(0, 10**6), st.floats(1e-4, 10))
def test_the_solution_is_the_same_before_a_batch_norm_as_behind_it(seed: int, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    y, lacking, shares = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)), rng.dirichlet(np.ones(30))
    scale, offset = rng.uniform(0.2, 5, 4) * rng.choice([-1, 1], 4), rng.normal(size=4)
    before, q_before = pointwise(moments_of(y, lacking, shares), ridge=ridge, shift=True)
    behind, q_behind = pointwise(moments_of(y * scale + offset, lacking * scale, shares), ridge=ridge, shift=True)
    added_before = (y @ before.numpy().T + q_before.numpy()) * scale
    added_behind = (y * scale + offset) @ behind.numpy().T + q_behind.numpy()
    np.testing.assert_allclose(added_before, added_behind, rtol=1e-6, atol=1e-8)


def test_where_nothing_lacks_nothing_is_added_and_silent_channels_do_no_harm() -> None:
    y = np.random.default_rng(0).normal(size=(20, 3))
    y[:, 1] = 0
    for lacking in (np.zeros_like(y), y.copy()):
        mixing, shift = pointwise(moments_of(y, lacking, np.full(20, 0.05)), ridge=1e-3, shift=True)
        assert torch.isfinite(mixing).all()
        assert not mixing[:, 1].any()
        assert mixing.any() == shift.any() == lacking.any()
    mixing, _ = pointwise(torch.zeros(7, 7, dtype=torch.float64), ridge=1, shift=False)
    assert not mixing.any()


def test_a_strong_ridge_leaves_the_shift_alone() -> None:
    rng = np.random.default_rng(0)
    y, lacking = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)) + 3
    mixing, shift = pointwise(moments_of(y, lacking, np.full(30, 1 / 30)), ridge=1e9, shift=True)
    assert mixing.abs().max() < 1e-6
    np.testing.assert_allclose(shift, lacking.mean(0), rtol=1e-6)


LAYERS = {
    "convolution before a batch norm": (lambda: nn.Conv2d(3, 4, 3, bias=False), lambda: nn.BatchNorm2d(4)),
    "convolution with a bias before a batch norm": (lambda: nn.Conv2d(3, 4, 3), lambda: nn.BatchNorm2d(4)),
    "convolution with a bias": (lambda: nn.Conv2d(3, 4, 3), lambda: None),
    "convolution without": (lambda: nn.Conv2d(3, 4, 3, bias=False), lambda: None),
    "linear layer": (lambda: nn.Linear(6, 4), lambda: None),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_absorbed_does_what_a_1x1_convolution_would(name: str) -> None:
    make_layer, make_norm = LAYERS[name]
    layer, norm = make_layer(), make_norm()
    x = torch.randn(2, 6) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 6, 6)
    if norm:
        norm.train()(layer(x))
        norm.eval()
    mixing, shift = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    shift = shift if norm or layer.bias is not None else torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        y = layer(x)
        across = y.movedim(1, -1) @ (torch.eye(4) + mixing.float()).T + shift.float()
        wanted = (norm or nn.Identity())(across.movedim(-1, 1))
        absorb_(layer, norm, (mixing, shift))
        torch.testing.assert_close((norm or nn.Identity())(layer(x)), wanted, atol=1e-4, rtol=1e-4)


# ---- whole compressions


def test_fskd_is_found_by_its_name() -> None:
    entry = methods["fskd"]
    assert (entry.function, entry.config) == (fskd.compress, FskdConfig)


def test_the_student_is_far_better_than_the_merely_pruned_one(
    job: CompressJob, digits: tuple[Samples, Samples]
) -> None:
    pruned = dataclasses.replace(job.teacher, module=slim(job)[0])
    was, now = (accuracy(student, digits[1]) for student in (pruned, compressed(job)))
    assert was < 0.2
    assert now > 0.75  # 0.78 to 0.87 over three draws of the samples


def test_it_tells_what_it_did_within_the_budget(job: CompressJob) -> None:
    facts = compressed(job).history[-1].facts
    assert facts["kept_flops"] <= 0.4
    assert (facts["layers"], facts["steps"]) == (4, 0)
    assert facts["kept_channels"] == slim(job)[1].widths


def test_every_layer_is_aligned_on_what_the_layers_before_it_have_become(job: CompressJob) -> None:
    """The second layer by hand: its inputs are aligned already, its targets the teacher's kept channels."""
    student, (pruned, cut) = compressed(job, ridge=2.0).module, slim(job)
    images = to_tensor(job.few.decoded(), job.teacher.input)
    with torch.no_grad():
        x = student.features[:3](images)
        y = pruned.features[3](x).movedim(1, -1).flatten(0, 2).double().numpy()
        wanted = job.teacher.module.features[:4](images)[:, cut.kept["features.3"]]
        wanted = wanted.movedim(1, -1).flatten(0, 2).double().numpy()
        got = student.features[3:5](x)
    shares = np.full(len(y), 1 / len(y))
    ridge = 2.0 * y.shape[1] / len(y)  # channels per position
    mixing, shift = slowly_pointwise(y, wanted - y, shares, ridge=ridge, shift=True)
    aligned = torch.as_tensor(y + y @ mixing.T + shift, dtype=torch.float32)
    aligned = aligned.view(len(images), 8, 8, -1).movedim(-1, 1)
    torch.testing.assert_close(got, pruned.features[4](aligned), atol=1e-3, rtol=1e-3)


def test_keeping_everything_changes_nothing(job: CompressJob) -> None:
    whole = compressed(dataclasses.replace(job, budget=Budget(keep_flops=1)))
    assert bytes_of(whole.module) == bytes_of(job.teacher.module)


def test_the_teacher_is_left_as_it_was(job: CompressJob, snapshot: Callable) -> None:
    before = snapshot(job.teacher.module)
    compressed(job)
    assert snapshot(job.teacher.module) == before


def test_labels_do_not_matter_and_nothing_is_drawn(job: CompressJob) -> None:
    other = dataclasses.replace(job.few, labels=job.few.labels[::-1].copy())
    twice = dataclasses.replace(job, few=other, seed=job.seed + 1)
    assert bytes_of(compressed(job).module) == bytes_of(compressed(twice).module)


def ours(job: CompressJob, ood: Images, config: FskdConfig = FskdConfig(), **fields: Any) -> Classifier:  # noqa: B008
    wrapped = OefsmcConfig(parts=("compression",), ood="always", **fields)
    return oefsmc.compress(job, ood, methods["fskd"], config, wrapped, progress=Silent())


def test_ood_images_take_part_as_far_as_lambda_says(job: CompressJob, ood: Images) -> None:
    plain, half, none = (
        bytes_of(student.module)
        for student in (
            compressed(job),
            ours(job, ood, recover="method", draws="natural", widths="even"),
            ours(job, ood, FskdConfig(joint=1), recover="method", draws="natural", widths="even"),
        )
    )
    assert half != plain
    for one, other in zip(none, plain, strict=True):  # the same images in other batches
        np.testing.assert_allclose(np.frombuffer(one, np.float32), np.frombuffer(other, np.float32), atol=1e-3)


def test_joint_distillation_follows_where_it_is_asked_for(job: CompressJob, ood: Images) -> None:
    recovery = DistillConfig(few_per_step=8, ood_per_step=8)
    alone, joint = ours(job, ood, recover="method"), ours(job, ood, recovery=recovery)
    assert (alone.history[0].facts["steps"], joint.history[0].facts["steps"]) == (0, 4)
    assert bytes_of(alone.module) != bytes_of(joint.module)


# ---- other nets


class Residual(nn.Module):
    """A residual block with a gate and a depthwise layer inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner, self.inner_norm = nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.outer, self.outer_norm = nn.Conv2d(12, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.depthwise(F.relu(self.inner_norm(self.inner(x))))
        y = y * torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = F.relu(x + self.outer_norm(self.outer(y)))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def residual(job: CompressJob, few: Samples) -> CompressJob:
    """A job for that net, its batch norms in the units of the images."""
    few = dataclasses.replace(few, pixels=np.repeat(few.decoded(), 3, axis=3))
    spec, net = InputSpec(height=8, width=8), Residual()
    for norm in (net.inner_norm, net.outer_norm):
        norm.momentum = None
    with torch.no_grad():
        net(to_tensor(few.decoded(), spec))
    teacher = Classifier(module=net.eval(), input=spec, labels=job.teacher.labels)
    budget = Budget(keep_flops=0.7, steps=4, flip=False)
    return dataclasses.replace(job, teacher=teacher, few=few, budget=budget, rules=Rules())


def test_a_net_with_a_gate_and_a_depthwise_layer_is_aligned_up_to_the_sum(residual: CompressJob) -> None:
    images = to_tensor(residual.few.decoded(), residual.teacher.input)
    (pruned, cut), aligned = slim(residual), compressed(residual).module
    assert set(cut.kept) == {"inner", "squeeze"}
    assert aligned.depthwise.weight.equal(pruned.depthwise.weight)
    caught: list[Tensor] = []
    for net in (residual.teacher.module, pruned.eval(), aligned):
        net.head.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        with torch.no_grad():
            net(images)
    errors = [(stream - caught[0]).square().mean() for stream in caught[1:]]
    assert errors[1] < 0.3 * errors[0]


def test_a_batch_norm_that_lets_a_channel_through_no_more_does_no_harm(residual: CompressJob) -> None:
    with torch.no_grad():
        residual.teacher.module.outer_norm.weight[2] = 0
        residual.teacher.module.inner_norm.weight[1] = 0
    assert np.isfinite(logits_of(compressed(residual), residual.few)).all()


def test_a_model_with_nothing_to_prune_is_refused(job: CompressJob) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    odd = dataclasses.replace(job, teacher=dataclasses.replace(job.teacher, module=net))
    with pytest.raises(UnsupportedError, match="no channels that can be pruned on their own"):
        compressed(odd)


@pytest.mark.parametrize(("field", "value"), [("ridge", 0), ("ridge", -1), ("joint", 1.1), ("joint", -0.1)])
def test_settings_out_of_bounds_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        FskdConfig.model_validate({field: value})
