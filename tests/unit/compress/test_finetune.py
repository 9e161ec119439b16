"""Fine-tuning: the loss of OE-FSMC eq. 9, the guard's measure, and that the guard holds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.compress import finetune as module
from edgec.compress.config import FinetuneConfig
from edgec.compress.finetune import Labelled, Tuned, disagreement, finetune, open_sampling_loss
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.learn.labels import complementary_rates
from edgec.learn.views import View, view_of
from edgec.models.infer import to_tensor

SOUND = {"learning_rate": 1e-4, "eta": 0.3, "steps": 16}
"""Settings under which training repairs the damage that is done here."""


def cross_entropy(logits: np.ndarray, label: int) -> float:
    return float(np.log(np.exp(logits - logits.max()).sum()) - (logits[label] - logits.max()))


@pytest.fixture
def parts() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
    """Logits and labels of 4 few and 6 auxiliary images, and gamma of 3 classes."""
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(4, 3, generator=generator) * 3, torch.tensor([0, 0, 0, 1])
    auxiliary = torch.randn(6, 3, generator=generator) * 3, torch.tensor([1, 1, 2, 2, 2, 0])
    return few, auxiliary, torch.tensor([0.5, 1.0, 1.5])


@pytest.mark.parametrize("eta", [0.0, 0.1, 2.5])
def test_the_loss_agrees_with_a_loop(parts, eta: float) -> None:
    few, auxiliary, gamma = parts
    first = sum(cross_entropy(row.numpy(), int(label)) for row, label in zip(*few, strict=True)) / 4
    second = sum(
        float(gamma[label]) * cross_entropy(row.numpy(), int(label)) for row, label in zip(*auxiliary, strict=True)
    )
    got = open_sampling_loss(few, auxiliary, gamma=gamma, eta=eta)
    assert float(got) == pytest.approx(first + eta * second / 6, rel=1e-5)


def test_the_expectation_is_the_batchs_mean_and_not_pytorchs_weighted_one(parts) -> None:
    few, auxiliary, gamma = parts
    term = float(open_sampling_loss(few, auxiliary, gamma=gamma, eta=1) - F.cross_entropy(*few))
    weighted = float(F.cross_entropy(*auxiliary, weight=gamma))
    assert term == pytest.approx(weighted * float(gamma[auxiliary[1]].sum()) / 6, rel=1e-5)
    assert term != pytest.approx(weighted, rel=1e-2)


def total(*given: Any, **named: Any) -> float:
    return float(disagreement(*given, **named).sum())


def wrong_on(wrong: Iterable[int], n: int = 100) -> torch.Tensor:
    """The disagreement of a student that is wrong on some of n images."""
    parts = torch.zeros(n, dtype=torch.float64)
    parts[list(wrong)] = 1 / n
    return parts


def slow_disagreement(student: np.ndarray, teacher: np.ndarray) -> float:
    by_class: dict[int, list[float]] = {}
    for got, wanted in zip(student, teacher, strict=True):
        by_class.setdefault(int(np.argmax(wanted)), []).append(float(np.argmax(wanted) != np.argmax(got)))
    return float(np.mean([np.mean(errors) for errors in by_class.values()]))


def test_disagreement_agrees_with_a_loop_and_every_class_has_the_same_say(fabric: Fabric) -> None:
    student, teacher = nn.Linear(4, 5).eval(), nn.Linear(4, 5).eval()
    images = torch.randn(600, 4) * 3
    with torch.no_grad():
        teacher.bias[0] += 4  # most images
        wanted = slow_disagreement(student(images).double().numpy(), teacher(images).double().numpy())
        classes = teacher(images).argmax(1).bincount(minlength=5)
    assert classes.max() > 3 * classes[classes > 0].min()
    assert total(student, teacher, images, fabric=fabric) == pytest.approx(wanted, rel=1e-4)


def test_a_net_agrees_with_itself(teacher: Classifier, fabric: Fabric) -> None:
    other = copy.deepcopy(teacher.module)
    assert total(other, teacher.module, torch.rand(20, 1, 8, 8), fabric=fabric) == 0


def test_a_student_that_lost_its_numbers_agrees_with_nobody(fabric: Fabric) -> None:
    """Also where the first class, which `argmax` gives for NaN, is the teacher's only one."""
    student, teacher = nn.Linear(4, 5).eval(), nn.Linear(4, 5).eval()
    with torch.no_grad():
        student.weight.fill_(torch.nan)
        teacher.bias[0] += 1000
    assert total(student, teacher, torch.randn(7, 4), fabric=fabric) == pytest.approx(1)


def test_less_confidence_is_no_disagreement(fabric: Fabric) -> None:
    teacher = nn.Linear(4, 5).eval()
    shy = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in shy.parameters():
            parameter.mul_(0.1)
    assert total(shy, teacher, torch.randn(50, 4), fabric=fabric) == 0


@pytest.fixture
def student(teacher: Classifier) -> nn.Module:
    """The teacher with a damaged head, which training can repair."""
    student = copy.deepcopy(teacher.module)
    with torch.no_grad():
        student.head.weight.add_(0.5 * torch.randn(student.head.weight.shape))
    return student


@pytest.fixture
def held_out(teacher: Classifier, digits: tuple[Samples, Samples]) -> torch.Tensor:
    return to_tensor(digits[0].take(np.arange(300)).decoded(), teacher.input)


@pytest.fixture
def tune(
    teacher: Classifier, few: Samples, ood: Images, held_out: torch.Tensor, fabric: Fabric
) -> Callable[..., Tuned]:
    """Labels are the teacher's, so that training helps where its rate is sound."""
    images = to_tensor(ood.decoded(), teacher.input)
    with torch.no_grad():
        labels = teacher.module(images).argmax(1)

    def run(student: nn.Module, *, view: View | None = None, **fields: Any) -> Tuned:
        return finetune(
            student,
            teacher.module,
            (
                Labelled(images=to_tensor(few.decoded(), teacher.input), labels=torch.as_tensor(few.labels)),
                Labelled(images=images, labels=labels),
            ),
            held_out,
            FinetuneConfig(**{"steps": 6, "check_every": 2, "batch_size": 16, **fields}),
            rates=torch.bincount(labels, minlength=10) / len(labels),
            fabric=fabric,
            generator=torch.Generator().manual_seed(0),
            progress=Silent(),
            view=view,
        )

    return run


def test_training_that_helps_is_let_through(student, teacher, held_out, tune, fabric) -> None:
    tuned = tune(student, **SOUND)
    assert tuned.steps > 0
    assert tuned.after < tuned.before
    assert tuned.before == pytest.approx(total(student, teacher.module, held_out, fabric=fabric))
    assert tuned.after == pytest.approx(total(tuned.module, teacher.module, held_out, fabric=fabric))


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 1.0, 1e6, 1e30])
def test_what_comes_back_never_disagrees_more_than_what_was_given(
    student, teacher, held_out, tune, fabric, rate: float
) -> None:
    """Also where training ends in NaN."""
    tuned = tune(student, learning_rate=rate)
    before, after = (total(net, teacher.module, held_out, fabric=fabric) for net in (student, tuned.module))
    assert after <= before
    assert (tuned.before, tuned.after) == pytest.approx((before, after))


def test_training_that_harms_gives_back_what_was_given(student, tune) -> None:
    tuned = tune(student, learning_rate=1e6)
    assert (tuned.steps, tuned.after) == (0, tuned.before)
    assert tuned.module is student


def test_the_best_look_counts_and_not_the_last(student, tune, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([wrong_on(range(n)) for n in (90, 50, 20, 40)])
    monkeypatch.setattr(module, "disagreement", lambda *_, **__: next(looks))
    tuned = tune(student, steps=6, check_every=2)
    assert (tuned.before, tuned.after, tuned.steps) == (pytest.approx(0.9), pytest.approx(0.2), 4)


@pytest.mark.parametrize(
    ("after", "steps"),
    [
        pytest.param(range(50, 97), 0, id="3 fewer, of 97 that changed"),
        pytest.param(range(49), 0, id="1 fewer, of 1 that changed"),
        pytest.param(range(40), 1, id="10 fewer, of 10 that changed"),
    ],
)
def test_what_may_be_chance_is_not_let_through(
    student, tune, monkeypatch: pytest.MonkeyPatch, after: Iterable[int], steps: int
) -> None:
    looks = iter([wrong_on(range(50)), wrong_on(after)])
    monkeypatch.setattr(module, "disagreement", lambda *_, **__: next(looks))
    assert tune(student, steps=1, check_every=1).steps == steps


def test_the_guard_looks_at_the_end_too(student, tune, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([wrong_on(range(n)) for n in (90, 50, 20)])
    monkeypatch.setattr(module, "disagreement", lambda *_, **__: next(looks))
    assert tune(student, steps=5, check_every=3).steps == 5


def test_teacher_and_student_given_are_left_as_they_were(student, teacher, tune, snapshot) -> None:
    before = snapshot(teacher.module), snapshot(student)
    tune(student, learning_rate=1e-2)
    assert (snapshot(teacher.module), snapshot(student)) == before


def test_a_view_changes_what_the_student_learns_from_and_not_what_the_guard_sees(
    student, teacher, tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded: list[Tensor] = []
    monkeypatch.setattr(
        module, "disagreement", lambda *given, **named: guarded.append(given[2]) or disagreement(*given, **named)
    )
    plain = tune(student, **SOUND)
    before, guarded = guarded, []
    view = view_of("noise", 1.0, teacher.input)
    after = tune(student, view=view, **SOUND)
    assert before
    assert all(torch.equal(first, second) for first, second in zip(before, guarded, strict=True))
    states = [tuned.module.state_dict()["features.0.weight"] for tuned in (plain, after)]
    assert plain.steps
    assert after.steps
    assert not torch.equal(*states)


def test_batch_norm_statistics_stay_frozen(student, tune) -> None:
    tuned = tune(student, **SOUND).module
    for name, buffer in tuned.named_buffers():
        assert torch.equal(buffer, student.get_buffer(name))


def test_the_same_seed_gives_the_same_bytes(student, tune) -> None:
    one, two = (tune(student, **SOUND).module.state_dict() for _ in range(2))
    assert [tensor.numpy().tobytes() for tensor in one.values()] == [
        tensor.numpy().tobytes() for tensor in two.values()
    ]


def test_gamma_is_k_times_the_rate_of_eq_4_whatever_was_drawn(
    student, teacher, fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn frequencies would weigh a class twice: 1.89 in the mean instead of 1 at ten samples."""
    seen: list[Tensor] = []

    def remember(few: tuple, auxiliary: tuple, *, gamma: Tensor, eta: float) -> Tensor:
        seen.append(gamma)
        return open_sampling_loss(few, auxiliary, gamma=gamma, eta=eta)

    monkeypatch.setattr(module, "open_sampling_loss", remember)
    part = Labelled(images=torch.rand(4, 1, 8, 8), labels=torch.tensor([0, 0, 0, 1]))
    rates = torch.as_tensor(complementary_rates(np.array([3, 1, *[0] * 8])))
    finetune(
        student,
        teacher.module,
        (part, part),
        torch.rand(2, 1, 8, 8),
        FinetuneConfig(steps=1, batch_size=2),
        rates=rates,
        fabric=fabric,
        generator=torch.Generator().manual_seed(0),
        progress=Silent(),
    )
    assert seen[0].tolist() == pytest.approx((10 * rates).tolist())
    assert seen[0].mean().item() == pytest.approx(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_measures_what_the_cpu_does_and_gives_the_nets_back(student, teacher, ood, fabric, snapshot) -> None:
    images = to_tensor(ood.decoded(), teacher.input)
    before = snapshot(teacher.module), snapshot(student)
    there = total(student, teacher.module, images, fabric=Fabric(accelerator="cuda", devices=1))
    # Convolutions take TF32 on the GPU: 10 bits of mantissa.
    assert there == pytest.approx(total(student, teacher.module, images, fabric=fabric), rel=2e-2)
    assert (snapshot(teacher.module), snapshot(student)) == before
