"""Learngenes: which nets are sequences of layers, their components, nets of other depths, and the students."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgec.compress import learngene, oefsmc
from edgec.compress.chain import in_stages
from edgec.compress.config import Basis, LearngeneConfig, OefsmcConfig
from edgec.compress.fit import fitted
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.learngenes import Learngenes, coefficients, fit
from edgec.compress.methods import methods
from edgec.compress.price import MultiplyAdds
from edgec.compress.recovery import recover_together
from edgec.compress.sequence import layer_sequence, layers_of_depth
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.learn.config import Budget
from edgec.models.checkpoint import load_student, save_student
from edgec.models.infer import logits_of, to_tensor

DEPTH = 4
LAYERS = tuple(f"encoder.layers.encoder_layer_{i}" for i in range(DEPTH))
QUICK: dict[str, Any] = {"components": 3, "few_per_step": 6, "ood_per_step": 6}


def tiny_vit(depth: int = DEPTH) -> nn.Module:
    """A ViT of 8x8 grey images whose tokens, layers and logits all differ."""
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(8, 4, depth, 2, 16, 32, num_classes=10)
    net.conv_proj = nn.Conv2d(1, 16, 4, 4)
    for parameter in net.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return net.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def job(job: CompressJob) -> CompressJob:
    teacher = dataclasses.replace(job.teacher, module=tiny_vit())
    return dataclasses.replace(job, teacher=teacher, budget=Budget(keep_flops=0.6, steps=4, flip=False))


def run(job: CompressJob, **fields: Any) -> Classifier:
    return learngene.compress(job, LearngeneConfig(**{**QUICK, **fields}), progress=Silent())


def learngenes_of(net: nn.Module, components: int, basis: Basis = "chebyshev") -> Learngenes:
    return Learngenes.of(net, LAYERS, LearngeneConfig(components=components, basis=basis))


# ---- coefficients


@given(st.integers(1, 12), st.integers(1, 12))
def test_chebyshev_coefficients_are_numpys_at_chebyshevs_nodes(depth: int, count: int) -> None:
    nodes = np.polynomial.chebyshev.chebpts1(depth)[::-1]
    wanted = np.polynomial.chebyshev.chebvander(nodes, count - 1)
    np.testing.assert_allclose(coefficients(depth, count, "chebyshev"), wanted, atol=1e-12)  # double precision


@given(st.integers(2, 12), st.integers(1, 12))
def test_powers_are_numpys_at_equidistant_positions(depth: int, count: int) -> None:
    wanted = np.polynomial.polynomial.polyvander(np.linspace(-1, 1, depth), count - 1)
    np.testing.assert_allclose(coefficients(depth, count, "powers"), wanted, atol=1e-12)  # double precision


@pytest.mark.parametrize("basis", ["chebyshev", "powers"])
def test_a_net_of_one_layer_is_at_the_middle(basis: Basis) -> None:
    np.testing.assert_allclose(coefficients(1, 5, basis)[0], coefficients(9, 5, basis)[4], atol=1e-12)


def test_chebyshev_coefficients_have_orthogonal_columns() -> None:
    matrix = coefficients(12, 12, "chebyshev")
    np.testing.assert_allclose(matrix.T @ matrix, np.diag([12] + [6] * 11), atol=1e-12)


# ---- the fit


@pytest.mark.parametrize("basis", ["chebyshev", "powers"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_components_are_numpys_least_squares(basis: Basis, count: int) -> None:
    rng = np.random.default_rng(0)
    layers = [{"weight": rng.normal(size=(2, 3)), "bias": rng.normal(size=2)} for _ in range(5)]
    found, missed = fit([{k: torch.as_tensor(v) for k, v in layer.items()} for layer in layers], count, basis)
    matrix = coefficients(5, count, basis).numpy()
    lost, whole = 0.0, 0.0
    for name in ("weight", "bias"):
        wanted = np.stack([layer[name].ravel() for layer in layers])
        solved = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        np.testing.assert_allclose(found[name].flatten(1), solved, atol=1e-10)
        lost, whole = lost + np.sum((matrix @ solved - wanted) ** 2), whole + np.sum(wanted**2)
    assert missed == pytest.approx(lost / whole)


@pytest.mark.parametrize("basis", ["chebyshev", "powers"])
def test_as_many_components_as_layers_give_the_teacher_back(basis: Basis, images: Tensor) -> None:
    net = tiny_vit()
    found = learngenes_of(net, DEPTH, basis)
    assert found.missed == pytest.approx(0, abs=1e-20)
    with torch.no_grad():
        np.testing.assert_allclose(found.recomposed(DEPTH)(images), net(images), atol=1e-4)  # single precision


def test_more_components_miss_less() -> None:
    missed = [learngenes_of(tiny_vit(), count).missed for count in (1, 2, 3, 4)]
    assert missed == sorted(missed, reverse=True)
    assert missed[0] > 0.01


def test_there_are_no_more_components_than_layers() -> None:
    assert [learngenes_of(tiny_vit(), count).count for count in (3, 4, 9)] == [3, 4, 4]


# ---- nets of other depths


@pytest.mark.parametrize("basis", ["chebyshev", "powers"])
@pytest.mark.parametrize("depth", range(1, DEPTH + 1))
def test_every_layer_of_a_recomposed_net_is_the_sum_of_components(depth: int, basis: Basis) -> None:
    found = learngenes_of(tiny_vit(), 3, basis)
    net, rows = found.recomposed(depth), coefficients(depth, 3, basis).numpy()
    places = layers_of_depth(LAYERS, depth)
    assert len(set(places)) == depth
    for name in LAYERS:
        layer = net.get_submodule(name)
        assert isinstance(layer, nn.Identity) == (name not in places)
        for key, parameter in layer.named_parameters():
            parts = found.components[key].detach().double().numpy()
            wanted = sum(rows[places.index(name), k] * parts[k] for k in range(3))
            np.testing.assert_allclose(parameter.detach(), wanted, atol=1e-5)  # single precision


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert layers_of_depth("01234567", 4) == ["0", "2", "5", "7"]
    assert layers_of_depth("01234567", 2) == ["0", "7"]
    assert layers_of_depth("01234567", 1) == ["4"]
    assert layers_of_depth("0123", 4) == ["0", "1", "2", "3"]


def test_a_net_that_learns_computes_what_its_recomposition_does(images: Tensor) -> None:
    found = learngenes_of(tiny_vit(), 3)
    for depth, net in enumerate(found.learning(range(1, DEPTH + 1)), start=1):
        with torch.no_grad():
            np.testing.assert_allclose(net(images), found.recomposed(depth)(images), atol=1e-5)  # single precision


def test_what_one_depth_learns_all_know(job: CompressJob, images: Tensor) -> None:
    found = learngenes_of(job.teacher.module, 3)
    before = {key: tensor.detach().clone() for key, tensor in found.components.items()}
    nets = recover_together(found.learning([1, 3]), job, LearngeneConfig(**QUICK), progress=Silent())
    after = found.learned(nets[0])
    assert any(not torch.equal(tensor, before[key]) for key, tensor in after.components.items())
    with torch.no_grad():
        for depth, net in zip((1, 3), nets, strict=True):
            np.testing.assert_allclose(net(images), after.recomposed(depth)(images), atol=1e-5)  # single precision
        assert all(torch.equal(tensor, before[key]) for key, tensor in found.components.items())


def test_learning_brings_every_depth_nearer_to_the_teacher(job: CompressJob) -> None:
    images = to_tensor(job.few.decoded(), job.teacher.input)
    config = LearngeneConfig(**{**QUICK, "learning_rate": 0.2})
    fitted = learngenes_of(job.teacher.module, 3)
    learned = learngene.decomposed(job, LAYERS, config, steps=40, progress=Silent())
    with torch.no_grad():
        wanted = job.teacher.module(images).softmax(1)
        for depth in range(1, DEPTH):
            errors = [(one.recomposed(depth)(images).softmax(1) - wanted).square().sum() for one in (fitted, learned)]
            assert errors[1] < errors[0]


def test_components_learn_at_a_share_of_the_rate_of_recovery(job: CompressJob) -> None:
    def learned(**fields: float) -> Learngenes:
        return learngene.decomposed(job, LAYERS, LearngeneConfig(**QUICK, **fields), steps=2, progress=Silent())

    by_share, whole = learned(decompose_rate=0.1, learning_rate=0.4), learned(decompose_rate=1.0, learning_rate=0.04)
    for key, tensor in whole.components.items():
        np.testing.assert_allclose(by_share.components[key].detach(), tensor.detach(), atol=1e-6)  # 0.1 * 0.4


# ---- which nets are sequences


def test_a_transformers_layers_are_found_in_the_order_in_which_they_run(images: Tensor) -> None:
    assert layer_sequence(tiny_vit(), images) == LAYERS


class TestTimm:
    """Small nets of timm, with random weights."""

    @pytest.fixture
    def net_of(self) -> Callable[[str], nn.Module]:
        timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'edgec[timm]'")
        return lambda name: timm.create_model(name, img_size=56, depth=3, num_classes=10).eval()

    @pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
    def test_its_transformers_are_sequences(self, net_of: Callable[[str], nn.Module], name: str) -> None:
        net, images = net_of(name), torch.rand(2, 3, 56, 56)
        layers = layer_sequence(net, images)
        assert layers == tuple(f"blocks.{i}" for i in range(3))
        assert Learngenes.of(net, layers, LearngeneConfig()).recomposed(2)(images).shape == (2, 10)

    def test_layers_that_are_given_more_than_tokens_are_refused(self, net_of: Callable[[str], nn.Module]) -> None:
        with pytest.raises(UnsupportedError, match=re.escape("'blocks.0' is given 'rope' beside its input")):
            layer_sequence(net_of("eva02_tiny_patch14_224"), torch.rand(2, 3, 56, 56))


class Layer(nn.Module):
    """A residual layer over tokens that mixes so many places further."""

    def __init__(self, shift: int = 1) -> None:
        super().__init__()
        self.inner, self.shift = nn.Linear(4, 4), shift

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x.roll(self.shift, 1)).relu()


def of_tokens(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(2), nn.Linear(4, 4), *layers, nn.Flatten(), nn.Linear(8, 2)).eval()


@pytest.mark.parametrize(
    ("net", "size", "why"),
    [
        pytest.param(torchvision.models.resnet18, (3, 32), "'layer1.0' is a block of convolutions", id="resnet"),
        pytest.param(torchvision.models.vgg11, (3, 32), "the model has no residual blocks", id="vgg"),
        pytest.param(
            lambda: torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=10),
            (3, 32),
            "'features.1.0.norm1.weight' is 8 and 'features.3.0.norm1.weight' is 16",
            id="swin",
        ),
        pytest.param(lambda: of_tokens(Layer()), (2, 2), "the model has 1 residual block", id="one"),
        pytest.param(
            lambda: of_tokens(Layer(), nn.LayerNorm(4), Layer()),
            (2, 2),
            "there is something between '2' and '4'",
            id="norm",
        ),
        pytest.param(
            lambda: of_tokens(Layer(), Layer(shift=0)),
            (2, 2),
            "'3' gives something else than '2' with the same weights",
            id="shifted",
        ),
    ],
)
def test_other_nets_are_refused_by_what_differs(net: Callable[[], nn.Module], size: tuple[int, int], why: str) -> None:
    channels, side = size
    with pytest.raises(UnsupportedError) as caught:
        layer_sequence(net().eval(), torch.rand(2, channels, side, side))
    assert str(caught.value) == (
        f"method 'learngene' recomposes the layers of a transformer, which must be alike and follow one another: {why}"
    )
    assert caught.value.hint == (
        "use compress.method = 'mir', 'cd' or 'fskd' for channels and heads, or 'practise' for whole blocks"
    )


# ---- students


def test_learngene_is_found_by_its_name() -> None:
    entry = methods["learngene"]
    assert (entry.function, entry.config, entry.requires) == (learngene.compress, LearngeneConfig, layer_sequence)


def test_the_student_is_as_deep_as_the_budget_lets_it_be(job: CompressJob, tmp_path: Path) -> None:
    student = run(job)
    facts = student.history[-1].facts
    assert facts["layers"] == [LAYERS[0], LAYERS[3]]
    assert [isinstance(student.module.get_submodule(name), nn.Identity) for name in LAYERS] == [
        False,
        True,
        True,
        False,
    ]
    share = total_flops(student.module, job.example) / total_flops(job.teacher.module, job.example)
    assert facts["kept_flops"] == pytest.approx(share, abs=5e-5)
    assert 0.5 < share <= 0.6
    assert (facts["steps"], facts["decomposition_steps"]) == (4, 2)
    save_student(student, tmp_path)
    assert np.array_equal(logits_of(load_student(job.teacher, tmp_path), job.few), logits_of(student, job.few))


def test_a_budget_of_latency_is_met_by_depth_alone(job: CompressJob) -> None:
    price = MultiplyAdds(job.teacher.module, job.example)  # as good a price as milliseconds
    job = dataclasses.replace(job, latency=price, budget=Budget(keep_latency=0.6, steps=2, flip=False))
    job = fitted(job, "learngene", progress=Silent())
    assert (job.base, job.widths) == (None, None)
    facts = run(job).history[-1].facts
    assert facts["layers"] == [LAYERS[0], LAYERS[3]]
    assert facts["latency_ms"] <= 0.6 * facts["teacher_latency_ms"]


def test_a_depth_that_is_given_counts(job: CompressJob) -> None:
    assert run(job, depth=1).history[-1].facts["layers"] == [LAYERS[2]]


def test_a_depth_beyond_the_budget_is_refused(job: CompressJob) -> None:
    with pytest.raises(ConfigError, match=re.escape("keep_flops = 0.6: 3 of 4 layers leave 0.76 of the multiply-adds")):
        run(job, depth=3)


@pytest.mark.parametrize(("setting", "value"), [("depth", 9), ("depths", (2, 9))])
def test_a_depth_beyond_the_models_is_refused(job: CompressJob, setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{setting} = 9: the net has 4 layers")) as caught:
        run(job, **{setting: value})
    assert caught.value.hint == f"set compress.learngene.{setting} to 4 or less, or leave it out"


def test_a_budget_below_one_layer_is_refused(job: CompressJob) -> None:
    small = dataclasses.replace(job, budget=Budget(keep_flops=0.1, steps=2))
    with pytest.raises(ConfigError, match=re.escape("keep_flops = 0.1: one layer leaves 0.2")):
        run(small)


def test_where_every_layer_may_stay_each_stays_as_it_is(job: CompressJob) -> None:
    whole = dataclasses.replace(job, budget=Budget(keep_flops=1.0, steps=1, flip=False))
    student = run(whole, learning_rate=1e-9)
    np.testing.assert_allclose(logits_of(student, job.few), logits_of(job.teacher, job.few), atol=1e-4)  # a tiny step


def test_what_is_left_can_be_cut_again(job: CompressJob) -> None:
    job = dataclasses.replace(job, budget=Budget(keep_flops=0.35, steps=4, flip=False))
    student = in_stages(job, run, 2)
    assert len([name for name in LAYERS if not isinstance(student.module.get_submodule(name), nn.Identity)]) == 1


def test_with_ood_images_the_seed_decides_the_student_and_the_teacher_stays(
    job: CompressJob, ood: Images, snapshot: Callable
) -> None:
    before = snapshot(job.teacher.module)
    config = OefsmcConfig(ood="always", recovery={"few_per_step": 6, "ood_per_step": 6})  # pyright: ignore[reportArgumentType]
    given = (methods["learngene"], LearngeneConfig(**QUICK), config)
    first, again = (oefsmc.compress(job, ood, *given, progress=Silent()) for _ in range(2))
    assert np.array_equal(logits_of(first, job.few), logits_of(again, job.few))
    assert snapshot(job.teacher.module) == before
    alone = run(job)
    assert not np.array_equal(logits_of(first, job.few), logits_of(alone, job.few))
