"""Whole compressions on digits, a few steps each: MiR, plain and under OE-FSMC."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from pydantic import BaseModel
from torch import nn

from edgec.compress import mir, oefsmc
from edgec.compress.config import FinetuneConfig, MirConfig, OefsmcConfig
from edgec.compress.flops import total_flops
from edgec.compress.importance import class_taylor, class_weights, importance
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError, DataError, UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress, Silent
from edgec.core.registry import Registered
from edgec.core.samples import Images, Samples
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.inputs import Inputs
from edgec.models.infer import logits_of, to_tensor
from edgec.models.taps import Tap, find_tap

STILL = 1e-30
"""A learning rate that moves no weight: what is left is pruning."""
IMAGE = torch.zeros(1, 1, 8, 8)
SMALL = {"few_per_step": 8, "ood_per_step": 8}


def plain(job: CompressJob, **fields: Any) -> Classifier:
    return mir.compress(job, MirConfig(**{**SMALL, **fields}), progress=Silent())


def ours(job: CompressJob, ood: Images, **fields: Any) -> Classifier:
    recovery = DistillConfig(**{**SMALL, **fields.pop("recovery", {})})
    finetune = FinetuneConfig(**{"steps": 2, "check_every": 1, "batch_size": 8, **fields.pop("finetune", {})})
    config = OefsmcConfig(
        **{"parts": ("compression", "finetuning"), "ood": "always", **fields}, recovery=recovery, finetune=finetune
    )
    return oefsmc.compress(job, ood, methods["mir"], MirConfig(), config, progress=Silent())


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def kept_filters(student: Classifier, teacher: Classifier, layer: str) -> list[int]:
    """Which of the teacher's filters a student has that was not trained; the layer's inputs are not pruned."""
    whole = teacher.module.get_submodule(layer).weight.flatten(1)
    return [
        int((whole - row).abs().sum(1).argmin())
        for row in student.module.get_submodule(layer).weight.detach().flatten(1)
    ]


def test_mir_is_found_by_its_name() -> None:
    entry = methods["mir"]
    assert (entry.function, entry.config) == (mir.compress, MirConfig)


@pytest.mark.parametrize("compress", [plain, ours])
def test_a_compression_keeps_to_its_budget_and_tells_what_it_did(compress, job: CompressJob, ood: Images) -> None:
    student = compress(job) if compress is plain else compress(job, ood)
    facts = next(step.facts for step in student.history if step.method == "mir")
    share = total_flops(student.module, IMAGE) / total_flops(job.teacher.module, IMAGE)
    assert share <= 0.4
    assert facts["kept_flops"] == pytest.approx(share, abs=5e-5)
    assert facts["steps"] == 4
    for name, width in facts["kept_channels"].items():
        assert student.module.get_submodule(name).weight.shape[0] == width
        assert width % 4 == 0
    assert (student.input, student.labels) == (job.teacher.input, job.teacher.labels)
    assert logits_of(student, job.few).shape == (30, 10)
    assert not student.module.training


@pytest.mark.parametrize("compress", [plain, ours])
def test_the_teacher_is_left_as_it_was(compress, job: CompressJob, ood: Images, snapshot: Callable) -> None:
    before = snapshot(job.teacher.module)
    compress(job) if compress is plain else compress(job, ood, importance="taylor")
    assert snapshot(job.teacher.module) == before
    assert job.teacher.history == ()


@pytest.mark.parametrize("compress", [plain, ours])
def test_the_same_seed_gives_the_same_bytes_and_another_others(compress, job: CompressJob, ood: Images) -> None:
    def run(seed: int) -> list[bytes]:
        torch.manual_seed(seed + torch.seed() % 1000)  # the global generator must not count
        seeded = dataclasses.replace(job, seed=seed)
        return bytes_of((compress(seeded) if compress is plain else compress(seeded, ood)).module)

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_the_plain_method_keeps_the_filters_of_the_largest_norm_in_their_order(job: CompressJob) -> None:
    student = plain(job, learning_rate=STILL)
    weight = job.teacher.module.get_submodule("features.0").weight.detach().numpy()
    norms = [float(np.abs(filter_).sum()) for filter_ in weight]
    kept = kept_filters(student, job.teacher, "features.0")
    assert len(kept) < 32
    assert kept == sorted(np.argsort(norms)[-len(kept) :].tolist())


def test_ours_can_rank_channels_by_class_aware_taylor_terms(job: CompressJob, ood: Images) -> None:
    """Eq. 5 over the few samples and the auxiliary set, judged behind the batch norm."""
    student = ours(
        job, ood, importance="taylor", style="own", recovery={"learning_rate": STILL}, parts=("compression",)
    )
    auxiliary = captured(job, ood, importance="taylor")
    images = torch.cat([to_tensor(part.decoded(), job.teacher.input) for part in (job.few, auxiliary.labelled)])
    labels = torch.as_tensor(np.concatenate([job.few.labels, auxiliary.labels]))
    terms = class_taylor(job.teacher.module, ["features.1"], [(images, labels)], classes=10)["features.1"]
    scores = importance(terms, auxiliary.class_weights)
    kept = kept_filters(student, job.teacher, "features.0")
    assert kept == scores.topk(len(kept)).indices.sort().values.tolist()


def test_ours_ranks_channels_by_norm_unless_told_otherwise(job: CompressJob, ood: Images) -> None:
    still = ours(job, ood, recovery={"learning_rate": STILL}, parts=("compression",), widths="even")
    wanted = kept_filters(plain(job, learning_rate=STILL), job.teacher, "features.0")
    assert kept_filters(still, job.teacher, "features.0") == wanted


def test_ours_trades_layers_for_each_other_by_cost_and_keeps_the_largest_norms(job: CompressJob, ood: Images) -> None:
    student = ours(job, ood, recovery={"learning_rate": STILL}, parts=("compression",))
    widths = student.history[0].facts["kept_channels"]
    assert widths != plain(job).history[0].facts["kept_channels"]
    assert student.history[0].facts["kept_flops"] <= job.budget.keep_flops
    norms = job.teacher.module.get_submodule("features.0").weight.detach().abs().flatten(1).sum(1)
    largest = norms.topk(widths["features.0"]).indices.sort().values.tolist()
    assert kept_filters(student, job.teacher, "features.0") == largest


# ---- what OE-FSMC hands to the method


class Options(BaseModel):
    pass


def captured(job: CompressJob, ood: Images, **fields: Any) -> Any:
    """The auxiliary set that a wrapped method is given."""
    jobs: list[CompressJob] = []

    def method(given: CompressJob, _: Options, *, progress: Silent) -> Classifier:
        jobs.append(given)
        return given.teacher

    config = OefsmcConfig(**{"ood": "always", "style": "own", **fields})
    wrapped = Registered(name="theirs", function=method, config=Options)
    oefsmc.compress(job, ood, wrapped, Options(), config, progress=Silent())
    return jobs[0].auxiliary


def test_any_registered_method_is_wrapped_and_told_what_is_added(job: CompressJob, ood: Images) -> None:
    auxiliary = captured(job, ood)
    assert sorted(auxiliary.pool.digests) == sorted(ood.digests)
    assert len(auxiliary.labelled) == len(auxiliary.labels) == len(job.few)
    assert set(auxiliary.labelled.digests) <= set(auxiliary.pool.digests)
    assert auxiliary.class_weights is None


def test_as_many_images_are_labelled_as_asked_for_and_at_most_the_pool(job: CompressJob, ood: Images) -> None:
    assert len(captured(job, ood, auxiliary=7).labels) == 7
    assert len(captured(job, ood, auxiliary=500).labels) == 40


def test_labels_make_the_classes_of_few_and_auxiliary_images_more_even(job: CompressJob, ood: Images) -> None:
    auxiliary = captured(job, ood)
    together = job.few.counts + np.bincount(auxiliary.labels, minlength=10)
    assert together.max() / together.min() < 0.6 * job.few.counts.max() / job.few.counts.min()


def test_balanced_draws_flatten_both_pools_and_natural_ones_neither(job: CompressJob, ood: Images) -> None:
    flat, natural = captured(job, ood), captured(job, ood, draws="natural")
    by_class = np.bincount(job.few.labels, weights=flat.near_chances, minlength=10)
    np.testing.assert_allclose(by_class, 0.1)
    np.testing.assert_allclose(natural.near_chances, 1 / 30)
    np.testing.assert_allclose(natural.chances, 1 / 40)
    logits = logits_of(job.teacher, flat.pool).astype(float)
    predicted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (flat.chances @ predicted).min() > 2 * (natural.chances @ predicted).min()
    assert flat.chances.sum() == pytest.approx(1)


@pytest.mark.parametrize("reading", ["frequency", "mixed", "inverse", "complementary"])
def test_each_reading_of_equation_6_reaches_the_method(job: CompressJob, ood: Images, reading: str) -> None:
    auxiliary = captured(job, ood, importance="taylor", class_weights=reading)
    wanted = class_weights(
        OefsmcConfig(class_weights=reading).class_weights,  # pyright: ignore[reportArgumentType]
        job.few.counts,
        np.bincount(auxiliary.labels, minlength=10),
    )
    np.testing.assert_allclose(auxiliary.class_weights, wanted)


def test_nothing_is_trained_on_the_images_that_the_guard_looks_at(
    job: CompressJob, ood: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Inputs] = []
    true = oefsmc.finetune

    def finetune(student: nn.Module, teacher: nn.Module, data: tuple, held_out: Inputs, *rest, **named) -> object:
        looked.append(held_out)
        return true(student, teacher, data, held_out, *rest, **named)

    monkeypatch.setattr(oefsmc, "finetune", finetune)
    ours(job, ood)
    pool = to_tensor(captured(job, ood, parts=("compression", "finetuning")).pool.decoded(), job.teacher.input)
    assert len(looked[0]) == 8
    trained = {image.numpy().tobytes() for image in pool}
    assert not trained & {image.numpy().tobytes() for image in looked[0][:]}


@pytest.mark.parametrize(
    ("n", "share", "guard"), [(2, 0.2, 1), (3, 0.9, 2), (10, 0.2, 2), (10, 0.01, 1), (10, 0.99, 9)]
)
def test_guard_and_pool_both_have_an_image(job: CompressJob, ood: Images, n: int, share: float, guard: int) -> None:
    auxiliary = captured(job, ood.take(np.arange(n)), parts=("compression", "finetuning"), held_out=share)
    assert len(auxiliary.pool) == n - guard


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_ood_images_are_refused(job: CompressJob, ood: Images, n: int) -> None:
    with pytest.raises(DataError, match=f"{n} OOD images, expected two or more") as caught:
        ours(job, ood.take(np.arange(n)))
    assert caught.value.hint == "add images with --ood"


def test_history_tells_of_the_guard(job: CompressJob, ood: Images) -> None:
    student = ours(job, ood)
    assert [step.method for step in student.history] == ["mir", "finetune", "oefsmc"]
    facts: Mapping[str, Any] = student.history[1].facts
    assert facts["guard_after"] <= facts["guard_before"]
    assert facts["kept_steps"] in (0, 1, 2)


def test_fine_tuning_is_left_out_unless_asked_for(job: CompressJob, ood: Images) -> None:
    student = oefsmc.compress(job, ood, methods["mir"], MirConfig(), OefsmcConfig(ood="always"), progress=Silent())
    assert [step.method for step in student.history] == ["mir", "oefsmc"]


# ---- as in the paper, and without its parts


def test_as_in_the_paper_the_method_recovers_its_own_way_on_the_auxiliary_set_alone(
    job: CompressJob, ood: Images
) -> None:
    paper = captured(job, ood, like="paper", auxiliary=12)
    assert paper.recovery is None
    assert paper.pool.digests == paper.labelled.digests
    assert len(paper.labels) == 12
    np.testing.assert_allclose(paper.chances, 1 / 12)
    assert (paper.class_weights, paper.widths) == (None, "even")
    assert captured(job, ood).recovery == DistillConfig()


def test_a_setting_that_is_given_beats_the_papers() -> None:
    mixed = OefsmcConfig.model_validate({"like": "paper", "draws": "balanced"})
    assert (mixed.draws, mixed.distill_on, mixed.recover) == ("balanced", "auxiliary", "method")


def test_the_method_itself_mimics_on_both_kinds_of_image_where_it_recovers(job: CompressJob, ood: Images) -> None:
    config = OefsmcConfig(recover="method", ood="always")
    mimicked = oefsmc.compress(job, ood, methods["mir"], MirConfig(**SMALL), config, progress=Silent())
    same = ours(job, ood, recovery=MirConfig(**SMALL).model_dump(), parts=("compression",))
    assert bytes_of(mimicked.module) == bytes_of(same.module)


def test_without_all_the_plain_method_is_left(job: CompressJob, ood: Images) -> None:
    config = OefsmcConfig(parts=())
    left = oefsmc.compress(job, ood, methods["mir"], MirConfig(**SMALL), config, progress=Silent())
    assert bytes_of(left.module) == bytes_of(plain(job).module)
    assert [step.method for step in left.history] == ["mir"]


def test_without_compression_the_plain_student_is_fine_tuned(job: CompressJob, ood: Images) -> None:
    config = OefsmcConfig(parts=("finetuning",), finetune=FinetuneConfig(steps=1, learning_rate=STILL))
    left = oefsmc.compress(job, ood, methods["mir"], MirConfig(**SMALL), config, progress=Silent())
    assert bytes_of(left.module) == bytes_of(plain(job).module)
    assert [step.method for step in left.history] == ["mir", "finetune"]


# ---- what cannot be done


def test_a_budget_that_cannot_be_reached_is_refused_before_anything_is_trained(job: CompressJob) -> None:
    tight = dataclasses.replace(job, budget=Budget(keep_flops=0.001))
    with pytest.raises(
        ConfigError, match=r"keep_flops = 0.001: .* leaves at least 0.0\d of the multiply-adds"
    ) as caught:
        plain(tight)
    assert "compress.keep_flops" in str(caught.value.hint)


def test_a_model_without_a_linear_head_is_refused(job: CompressJob) -> None:
    net = nn.Sequential(nn.Conv2d(1, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    odd = dataclasses.replace(job, teacher=dataclasses.replace(job.teacher, module=net))
    with pytest.raises(UnsupportedError, match="no linear layer that gives its logits"):
        plain(odd)


class Gated(nn.Module):
    """A net of depthwise layers, in-place ReLU6 and dropout, with no map of its head's width."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            *(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        )
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.body(x)))


def test_other_nets_go_through_too(job: CompressJob, few, ood: Images) -> None:
    """Colour images, depthwise layers, no map to mimic: then the head's input serves."""
    net = Gated().eval()
    colour = InputSpec(height=8, width=8)
    few, ood = (dataclasses.replace(part, pixels=np.repeat(part.decoded(), 3, axis=3)) for part in (few, ood))
    teacher = Classifier(module=net, input=colour, labels=job.teacher.labels)
    loose = dataclasses.replace(job, teacher=teacher, few=few, budget=Budget(keep_flops=0.8, steps=4))
    student = ours(loose, ood, importance="taylor")
    depthwise = student.module.get_submodule("body.3")
    assert depthwise.groups == depthwise.out_channels == depthwise.in_channels < 8
    assert find_tap(net, torch.zeros(2, 3, 8, 8)) == Tap(head="head", features=None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_compresses_to_what_the_cpu_does(job: CompressJob, ood: Images, digits, snapshot: Callable) -> None:
    before = snapshot(job.teacher.module)
    gpu = dataclasses.replace(job, fabric=Fabric(accelerator="cuda", devices=1, precision="32-true"))
    here, there = (logits_of(ours(one, ood, importance="taylor"), digits[1]) for one in (job, gpu))
    assert snapshot(job.teacher.module) == before
    # Four steps in TF32: logits within a hundredth of their spread, and nearly every class the same.
    assert np.abs(here - there).mean() < 0.01 * np.ptp(here)
    assert (here.argmax(1) == there.argmax(1)).mean() >= 0.99


class TestUnlabelledImages:
    """Images of the classes without labels: recovery sees them as it does the few samples."""

    def test_they_join_the_few_samples(self, job: CompressJob, digits: tuple[Samples, Samples], ood: Images) -> None:
        unlabelled = digits[0].take(np.arange(200, 260))
        given = dataclasses.replace(job, unlabelled=unlabelled)
        auxiliary = oefsmc._auxiliary(given, ood, OefsmcConfig(), np.random.default_rng(0))
        assert auxiliary.near.digests == job.few.digests + unlabelled.digests
        assert auxiliary.near_chances.sum() == pytest.approx(1)
        seen = auxiliary.near_chances @ oefsmc._predicted(given, auxiliary.near)
        # Twenty rounds bring the teacher's class mass to within a few points of flat.
        np.testing.assert_allclose(seen, 0.1, atol=0.03)

    def test_without_ood_images_they_stay(self, job: CompressJob, digits: tuple[Samples, Samples]) -> None:
        seen: list[CompressJob] = []
        unlabelled = digits[0].take(np.arange(200, 260))

        def method(given: CompressJob, config: MirConfig, *, progress: Progress) -> Classifier:
            seen.append(given)
            return given.teacher

        registered = Registered(name="watch", function=method, config=MirConfig)
        given = dataclasses.replace(job, unlabelled=unlabelled)
        oefsmc.compress(given, None, registered, MirConfig(), OefsmcConfig(), progress=Silent())
        assert seen[0].auxiliary is not None
        assert seen[0].auxiliary.pool.digests == job.few.digests
        assert len(seen[0].auxiliary.near) == len(job.few) + 60


class TestWhetherOodImagesTakePart:
    """By the gap that the teacher sees, as they are and restyled; the answer is part of the student's history."""

    def made(self, job: CompressJob, images: Images | None, **fields: Any) -> Classifier:
        config = OefsmcConfig(recovery=DistillConfig(**SMALL), **fields)
        return oefsmc.compress(job, images, methods["mir"], MirConfig(), config, progress=Silent())

    @pytest.mark.parametrize(
        ("gaps", "facts", "alike"),
        [
            ([0.09], {"ood_gap": 0.09, "ood_used": True}, {"ood": "always", "style": "own"}),
            (
                [0.11, 0.09],
                {"ood_gap": 0.11, "ood_gap_restyled": 0.09, "ood_used": True},
                {"ood": "always", "style": "few"},
            ),
            ([0.7, 0.11], {"ood_gap": 0.7, "ood_gap_restyled": 0.11, "ood_used": False}, {"ood": "never"}),
        ],
        ids=["near", "brought near", "far"],
    )
    def test_near_ones_do_far_ones_are_restyled_and_what_stays_far_does_not(
        self,
        job: CompressJob,
        ood: Images,
        monkeypatch: pytest.MonkeyPatch,
        gaps: list[float],
        facts: dict[str, Any],
        alike: dict[str, Any],
    ) -> None:
        measured = iter(gaps)
        monkeypatch.setattr(oefsmc, "domain_gap", lambda *_, **__: next(measured, 1.0))
        student = self.made(job, ood)
        assert dict(student.history[-1].facts) == facts
        assert bytes_of(student.module) == bytes_of(self.made(job, ood, **alike).module)

    def test_what_the_few_samples_alone_gave_is_taken_where_they_stay_out(self, job: CompressJob, ood: Images) -> None:
        alone = self.made(job, None)
        given = {"alone": alone, "progress": Silent()}
        config = OefsmcConfig(ood="never")
        assert oefsmc.compress(job, ood, methods["mir"], MirConfig(), config, **given) is alone

    def test_never_is_the_control(self, job: CompressJob, ood: Images) -> None:
        assert bytes_of(self.made(job, ood, ood="never").module) == bytes_of(self.made(job, None).module)

    def test_the_paper_always_takes_them(self) -> None:
        paper, ours = OefsmcConfig(like="paper"), OefsmcConfig()
        assert (paper.ood, paper.style) == ("always", "own")
        assert (ours.ood, ours.style) == ("auto", "auto")
