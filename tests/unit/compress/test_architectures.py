"""The architectures that people bring: each can be pruned, recovered, stored, read back and exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from lightning_fabric import Fabric
from torch import nn

from edgec.compress import mir, oefsmc, practise
from edgec.compress.blocks import residual_blocks
from edgec.compress.chain import in_stages
from edgec.compress.channels import slim
from edgec.compress.config import MirConfig, OefsmcConfig, PractiseConfig
from edgec.compress.coupling import coupled_channels
from edgec.compress.flops import total_flops
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.core.classifier import Classifier
from edgec.core.digest import digest_image
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.core.target import Rules
from edgec.learn.config import Budget
from edgec.models.attention import FewerHeads
from edgec.models.checkpoint import load_student, save_student
from edgec.models.infer import logits_of, to_tensor
from edgec.models.taps import find_tap, tapped

SIDE = 64
SPEC = InputSpec(height=SIDE, width=SIDE, channels=3, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def vision_transformer(*, layers: int = 3, heads: int = 4, width: int = 64) -> nn.Module:
    """ViT-B/16's parts, narrow; few, unless told otherwise."""
    return torchvision.models.VisionTransformer(SIDE, 16, layers, heads, width, mlp_dim=2 * width, num_classes=10)


def vgg(*, normed: bool) -> nn.Module:
    """VGG-16's parts, two layers of each width at most and an eighth as wide: it is its dense layers that are large."""
    widths = [8, 8, "M", 16, 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    net = torchvision.models.VGG(torchvision.models.vgg.make_layers(widths, batch_norm=normed), num_classes=10)
    net.classifier = nn.Sequential(
        *(nn.Linear(64 * 49, 64), nn.ReLU(True), nn.Dropout()),
        *(nn.Linear(64, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 10)),
    )
    return net


def densenet() -> nn.Module:
    """DenseNet's parts, fewer of them: every layer reads all before it."""
    return torchvision.models.DenseNet(12, (3, 6, 6, 4), num_init_features=24, num_classes=10)


def convnext() -> nn.Module:
    """ConvNeXt-T, a quarter as wide."""
    parts = torchvision.models.convnext
    blocks = ((24, 48, 3), (48, 96, 3), (96, 192, 9), (192, None, 3))
    return parts.ConvNeXt([parts.CNBlockConfig(*block) for block in blocks], num_classes=10)


def two_groups() -> nn.Module:
    """Of each grouped convolution one group is left after the first cut."""
    layers = [nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 1), nn.ReLU()]
    grouped = [nn.Conv2d(32, 32, 3, groups=2), nn.ReLU(), nn.Conv2d(32, 24, 1), nn.ReLU()]
    return nn.Sequential(*layers, *grouped, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))


def named(name: str) -> Callable[[], nn.Module]:
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=10)


@pytest.fixture(scope="module")
def few() -> Samples:
    pixels = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    return Samples(
        pixels=pixels,
        digests=tuple(digest_image(image) for image in pixels),
        source="noise",
        labels=np.arange(6),
        classes=tuple("0123456789"),
    )


@pytest.fixture
def job_of(few: Samples, fabric: Fabric) -> Callable[..., CompressJob]:
    def make(factory: Callable[[], nn.Module], keep_flops: float) -> CompressJob:
        torch.manual_seed(0)
        teacher = Classifier(module=seeing(factory(), few), input=SPEC, labels=few.classes)
        budget = Budget(keep_flops=keep_flops, steps=1)
        return CompressJob(
            teacher=teacher, few=few, budget=budget, rules=Rules(channel_multiple=4), seed=0, fabric=fabric
        )

    return make


def seeing(module: nn.Module, few: Samples) -> nn.Module:
    """Batch norm knows these images, without which the signal of an untrained net dies on its way."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.usual, norm.momentum = norm.momentum, 1.0
    if norms:
        with torch.no_grad():
            module.train()(to_tensor(few.decoded(), SPEC))
    for norm in norms:
        norm.momentum = norm.usual
    return module.eval()


def require_whole(student: Classifier, job: CompressJob, folder: Path) -> None:
    """It keeps to its budget, its features are the teacher's in shape, and it comes back from disk as it was."""
    images = to_tensor(job.few.decoded(), SPEC)
    share = total_flops(student.module, images) / total_flops(job.teacher.module, images)
    assert share <= job.budget.keep_flops
    tap = find_tap(job.teacher.module, images)
    with torch.no_grad(), tapped(student.module, tap) as ours, tapped(job.teacher.module, tap) as theirs:
        assert student.module(images).shape == job.teacher.module(images).shape
        assert ours[0].shape == theirs[0].shape
    save_student(student, folder)
    back = load_student(job.teacher, folder)
    assert np.array_equal(logits_of(back, job.few), logits_of(student, job.few))


@pytest.mark.parametrize(
    ("factory", "keep_flops"),
    [
        pytest.param(named("resnet18"), 0.3, id="resnet18"),
        pytest.param(named("resnet50"), 0.3, id="resnet50"),
        pytest.param(named("resnext50_32x4d"), 0.3, id="resnext50"),
        pytest.param(partial(vgg, normed=True), 0.2, id="vgg_bn"),
        pytest.param(partial(vgg, normed=False), 0.2, id="vgg"),
        pytest.param(named("mobilenet_v2"), 0.3, id="mobilenet_v2"),
        pytest.param(named("mobilenet_v3_small"), 0.3, id="mobilenet_v3_small"),
        pytest.param(named("efficientnet_b0"), 0.3, id="efficientnet_b0"),
        pytest.param(convnext, 0.3, id="convnext"),
        pytest.param(densenet, 0.3, id="densenet"),
        pytest.param(named("regnet_y_400mf"), 0.3, id="regnet_y_400mf"),
        pytest.param(named("shufflenet_v2_x1_0"), 0.4, id="shufflenet_v2"),
        pytest.param(vision_transformer, 0.5, id="vision_transformer"),
        pytest.param(partial(vision_transformer, layers=12, heads=12, width=96), 0.3, id="deep_vision_transformer"),
    ],
)
def test_an_architecture_goes_through_mir(
    job_of: Callable, factory: Callable, keep_flops: float, tmp_path: Path
) -> None:
    job = job_of(factory, keep_flops)
    config = MirConfig(few_per_step=3, ood_per_step=1, learning_rate=1e-4)
    require_whole(mir.compress(job, config, progress=Silent()), job, tmp_path)


@pytest.mark.parametrize(
    ("factory", "blocks", "keep_flops"),
    [
        pytest.param(named("resnet18"), 5, 0.7, id="resnet18"),
        pytest.param(named("mobilenet_v2"), 10, 0.8, id="mobilenet_v2"),
        pytest.param(named("efficientnet_b0"), 9, 0.7, id="efficientnet_b0"),
        pytest.param(named("regnet_y_400mf"), 12, 0.7, id="regnet_y_400mf"),
        pytest.param(named("resnet50"), 12, 0.7, id="resnet50"),
        pytest.param(convnext, 18, 0.7, id="convnext"),
        pytest.param(vision_transformer, 3, 0.7, id="vision_transformer"),
    ],
)
def test_an_architecture_with_residual_blocks_goes_through_practise(
    job_of: Callable, factory: Callable, blocks: int, keep_flops: float, tmp_path: Path
) -> None:
    job = job_of(factory, keep_flops)
    config = PractiseConfig(few_per_step=3, ood_per_step=1, learning_rate=1e-4, adaptor_images=2, adaptor_steps=1)
    student = practise.compress(job, config, progress=Silent())
    require_whole(student, job, tmp_path)
    scores = student.history[-1].facts["scores"]
    assert len(scores) == blocks
    assert all(np.isfinite(score) and score >= 0 for score in scores.values())


@pytest.mark.parametrize(
    "factory",
    [
        pytest.param(named("resnet18"), id="resnet18"),
        pytest.param(named("mobilenet_v3_small"), id="mobilenet_v3_small"),
        pytest.param(convnext, id="convnext"),
        pytest.param(named("regnet_y_400mf"), id="regnet_y_400mf"),
        pytest.param(named("shufflenet_v2_x0_5"), id="shufflenet_v2"),
        pytest.param(vision_transformer, id="vit"),
    ],
)
def test_layers_can_be_traded_for_each_other(
    job_of: Callable[..., CompressJob], few: Samples, tmp_path: Path, factory: Callable[[], nn.Module]
) -> None:
    job = job_of(factory, 0.5)
    student = oefsmc.compress(job, few, methods["mir"], MirConfig(), OefsmcConfig(), progress=Silent())
    require_whole(student, job, tmp_path)
    assert student.history[0].facts["kept_channels"] != slim(job)[1].widths


@pytest.mark.parametrize(
    ("factory", "keep_flops"),
    [
        pytest.param(named("mobilenet_v3_small"), 0.4, id="mobilenet_v3_small"),
        pytest.param(named("regnet_y_400mf"), 0.4, id="regnet_y_400mf"),
        pytest.param(densenet, 0.4, id="densenet"),
        pytest.param(two_groups, 0.46, id="two_groups"),
        pytest.param(partial(vision_transformer, layers=2, heads=12, width=96), 0.4, id="vision_transformer"),
    ],
)
def test_what_a_cut_left_can_be_cut_again(
    job_of: Callable[..., CompressJob], tmp_path: Path, factory: Callable[[], nn.Module], keep_flops: float
) -> None:
    job = replace(job_of(factory, keep_flops), budget=Budget(keep_flops=keep_flops, steps=2))
    config = MirConfig(few_per_step=3, ood_per_step=1, learning_rate=1e-4)
    cuts: list[Classifier] = []

    def cut(part: CompressJob) -> Classifier:
        cuts.append(mir.compress(part, config, progress=Silent()))
        return cuts[-1]

    student = in_stages(job, cut, 2)
    require_whole(student, job, tmp_path)
    wide, narrow = (each.history[0].facts["kept_channels"] for each in cuts)
    assert wide.keys() == narrow.keys()
    assert all(narrow[name] <= wide[name] for name in wide)
    assert narrow != wide


@pytest.mark.parametrize("factory", [partial(vgg, normed=True), named("shufflenet_v2_x0_5"), densenet])
def test_architectures_without_residual_blocks_have_none(factory: Callable[[], nn.Module]) -> None:
    assert residual_blocks(factory().eval(), torch.rand(2, 3, SIDE, SIDE)) == []


def test_a_vision_transformer_loses_heads_and_width_of_its_mlps(job_of: Callable) -> None:
    student, cut = slim(job_of(vision_transformer, 0.5))
    layers = [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    assert list(cut.kept) == [name for layer in layers for name in (f"{layer}.self_attention", f"{layer}.mlp.0")]
    for layer in layers:
        attention = student.get_submodule(f"{layer}.self_attention")
        assert isinstance(attention, FewerHeads)
        assert 1 <= attention.num_heads < 4
        assert attention.head_dim == 16
        assert student.get_submodule(f"{layer}.mlp.0").out_features < 128


def test_the_heads_with_the_largest_norms_stay(job_of: Callable) -> None:
    job = job_of(vision_transformer, 0.7)
    layer = job.teacher.module.encoder.layers.encoder_layer_1.self_attention
    with torch.no_grad():
        for head, scale in enumerate((1.0, 4.0, 0.5, 3.0)):
            layer.in_proj_weight.unflatten(0, (3, 4, 16))[:, head] *= scale
    _, cut = slim(job)
    kept = cut.kept["encoder.layers.encoder_layer_1.self_attention"].tolist()
    assert kept == [*range(16, 32), *range(48, 64)]  # two of four


def test_a_student_with_fewer_heads_runs_in_onnx(job_of: Callable, tmp_path: Path) -> None:
    import onnxruntime

    from edgec.export.onnx import export_onnx

    job = job_of(vision_transformer, 0.5)
    student = mir.compress(job, MirConfig(few_per_step=3, ood_per_step=1), progress=Silent())
    nn.init.normal_(student.module.heads.head.weight)  # torchvision starts it at zero
    export_onnx(student, tmp_path / "model.onnx", opset=17)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = to_tensor(job.few.decoded(), SPEC).numpy()
    # Single precision in another order of sums.
    np.testing.assert_allclose(session.run(None, {"input": images})[0], logits_of(student, job.few), atol=1e-4)


def test_a_regnet_loses_whole_groups(job_of: Callable) -> None:
    student, cut = slim(job_of(named("regnet_y_400mf"), 0.5))
    widest = "trunk_output.block4.block4-1.f"
    kept = cut.kept[f"{widest}.a.0"].unflatten(0, (-1, 8))
    assert torch.equal(kept[:, 0] % 8, torch.zeros(len(kept), dtype=torch.int64))
    assert torch.equal(kept - kept[:, :1], torch.arange(8).expand_as(kept))
    middle = student.get_submodule(f"{widest}.b.0")
    assert (middle.groups, middle.weight.shape) == (len(kept), (8 * len(kept), 8, 3, 3))


def test_shufflenets_halves_stay_whole_and_the_insides_of_its_units_do_not(job_of: Callable) -> None:
    net = job_of(named("shufflenet_v2_x0_5"), 0.5).teacher.module
    found = coupled_channels(net, "fc", torch.zeros(1, 3, SIDE, SIDE))
    units = [f"stage{stage}.{unit}" for stage, n in ((2, 4), (3, 8), (4, 4)) for unit in range(n)]
    assert [group.producer for group in found] == ["conv1.0", *(f"{unit}.branch2.0" for unit in units)]


def test_an_architecture_without_a_linear_head_is_refused(job_of: Callable) -> None:
    with pytest.raises(UnsupportedError, match="no linear layer that gives its logits"):
        slim(job_of(named("squeezenet1_1"), 0.5))
