"""Recovery by distillation: the student mimics the teacher's features and logits on few and OOD images.

The joint loss is OE-FSMC eq. 7, L = lambda L_few + (1 - lambda) L_OOD, with the features' mean squared error of
MiR (arXiv 2201.02620) and, where asked for, the logits' divergence of Hinton et al. 2015.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from lightning_fabric import Fabric
from torch import Tensor, nn
from typing_extensions import assert_never

from edgec.core.progress import Progress
from edgec.learn.config import Budget, DistillConfig, Error, MimicConfig, Mix
from edgec.models.infer import placed
from edgec.models.taps import common_inputs, find_tap, tapped

__all__ = ["Pool", "Seen", "augment", "batches", "distill", "mimic_loss", "mixed"]


TINY = 1e-12
"""Keeps the error of a teacher with silent features finite."""
DIVERGED = 3.0
"""Training has diverged where the loss is this many times that of its start, and that of a net that shows nothing."""
HALVINGS = 6
"""How often the learning rate is halved before giving up."""
CHUNK = 64
"""Images run at once where nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Images to draw from, float32 [n, channel, height, width], and each one's chance, summing to 1."""

    images: Tensor
    chances: Float[Tensor, "n"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a net shows of itself for a batch.

    Attributes:
        features: Before global pooling, [batch, ...].
        logits: [batch, class].
        between: Maps on the way, each [batch, ...], that student and teacher have in the same shape.
    """

    features: Tensor
    logits: Float[Tensor, "batch class"]
    between: Sequence[Tensor] = ()


def distill(
    student: nn.Module,
    teacher: nn.Module,
    pools: tuple[Pool, Pool | None],
    config: DistillConfig,
    *,
    budget: Budget,
    fabric: Fabric,
    generator: torch.Generator,
    progress: Progress,
) -> nn.Module:
    """A copy of the student, trained to do what the teacher does.

    The teacher's head takes the place of the student's and is not trained (MiR's replacing step). Where training
    diverges, or ends with fewer of the few samples classified as the teacher does than chance explains, it begins
    again with the same draws at half the learning rate. Where no rate helps, the student is left as it began.

    Args:
        student: Pruned, with the teacher's feature size.
        teacher: In evaluation mode.
        pools: Few samples and OOD images; None in the second place is the plain method.
        config: How.
        budget: Steps and augmentation.
        fabric: Device and precision.
        generator: Draws batches, blends and augmentations.
        progress: Shown per step, and told of a lower rate.
    """
    begun = _with_head(copy.deepcopy(student), teacher, find_tap(teacher, pools[0].images[:2]).head)
    before = _agreement(begun, teacher, pools[0].images, fabric)
    draws = generator.get_state()
    rate = config.learning_rate
    for halving in range(HALVINGS + 1):
        lower = config.model_copy(update={"learning_rate": rate / 2**halving})
        given = {"budget": budget, "fabric": fabric, "generator": generator.set_state(draws), "progress": progress}
        trained = _distilled(copy.deepcopy(student), teacher, pools, lower, **given)
        if trained is not None and not _is_worse(_agreement(trained, teacher, pools[0].images, fabric), before):
            if halving:
                progress.note(f"recovery diverged at learning_rate = {rate}: it went well at {lower.learning_rate:g}")
            return trained
    progress.note(
        f"recovery diverges at learning_rate = {rate}, and still at {rate / 2**HALVINGS:g}: the pruned net is left as "
        "it was before recovery"
    )
    return begun


def _with_head(student: nn.Module, teacher: nn.Module, head: str) -> nn.Module:
    student.get_submodule(head).load_state_dict(teacher.get_submodule(head).state_dict())
    return student


def _agreement(student: nn.Module, teacher: nn.Module, images: Tensor, fabric: Fabric) -> Bool[Tensor, "n"]:
    """Which images get the teacher's class."""
    with placed(student, fabric.device), placed(teacher, fabric.device), torch.inference_mode():
        parts = [fabric.to_device(part) for part in images.split(CHUNK)]
        return torch.cat([(student(part).argmax(1) == teacher(part).argmax(1)).cpu() for part in parts])


def _is_worse(after: Bool[Tensor, "n"], before: Bool[Tensor, "n"]) -> bool:
    """Whether more agreement was lost than won by twice the deviation of a fair coin's, as in McNemar's test."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    return lost - won > 2 * (lost + won) ** 0.5


def _distilled(
    student: nn.Module,
    teacher: nn.Module,
    pools: tuple[Pool, Pool | None],
    config: DistillConfig,
    *,
    budget: Budget,
    fabric: Fabric,
    generator: torch.Generator,
    progress: Progress,
) -> nn.Module | None:
    """The student itself, trained; None as soon as training diverges."""
    tap = find_tap(teacher, pools[0].images[:2])
    _with_head(student, teacher, tap.head)
    trained = [p for name, p in student.named_parameters() if not name.startswith(f"{tap.head}.")]
    optimiser = torch.optim.SGD(trained, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    schedule = _schedule(optimiser, config, steps=budget.steps)
    model, optimiser = fabric.setup(_learning(student), optimiser)
    between = common_inputs(student, teacher, tap, pools[0].images[:2]) if config.between_weight else ()
    limit = None
    with (
        placed(teacher, fabric.device),
        tapped(student, tap, between) as ours,
        tapped(teacher, tap, between) as theirs,
    ):
        drawn = batches(pools, config, steps=budget.steps, shift=budget.shift, flip=budget.flip, generator=generator)
        for images, share in progress.track(drawn, total=budget.steps, what="distilling", unit="step"):
            images, share = fabric.to_device((images, share))
            with torch.no_grad(), fabric.autocast():
                wanted = _seen(teacher, images, theirs)
            loss = mimic_loss(_seen(model, images, ours), wanted, share, config=config)
            if limit is None:
                nothing = mimic_loss(_silent(wanted), wanted, share, config=config)
                limit = DIVERGED * max(loss.item(), nothing.item())
            if not loss.item() <= limit:
                return None
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if config.gradient_norm:
                fabric.clip_gradients(model, optimiser, max_norm=config.gradient_norm)
            optimiser.step()
            schedule.step()
    return student.eval().to("cpu") if _is_finite(student) else None


def _silent(teacher: Seen) -> Seen:
    """What a net would show that gives zeros."""
    return Seen(
        features=torch.zeros_like(teacher.features),
        logits=torch.zeros_like(teacher.logits),
        between=[torch.zeros_like(part) for part in teacher.between],
    )


def _is_finite(student: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in student.state_dict().values())


def _seen(net: nn.Module, images: Tensor, caught: list[Tensor]) -> Seen:
    logits = net(images)
    return Seen(features=caught[0], logits=logits, between=caught[1:])


def mimic_loss(student: Seen, teacher: Seen, share: Float[Tensor, "batch"], *, config: MimicConfig) -> Tensor:
    """Eq. 7 over features, maps between and logits: the sum over images of `share` times their error.

    Where `config.error` is `relative`, squared errors are divided by the mean square of the teacher's map over the
    batch: then one learning rate and one weight of each part serve every net, whatever the scale of its features.
    MiR has them bare (`squared`).

    Args:
        student: What it shows.
        teacher: What the teacher shows, for the same batch.
        share: What each image counts for, summing to 1 over the batch: lambda over the few samples, 1 - lambda
            over the OOD images.
        config: Weights and temperature.

    Returns:
        The loss, a scalar.
    """
    error_of = _ERRORS[config.error]
    error = error_of(student.features, teacher.features)
    if teacher.between:
        errors = [error_of(*pair) for pair in zip(student.between, teacher.between, strict=True)]
        error = error + config.between_weight * torch.stack(errors).mean(0)
    heat = config.temperature
    divergence = F.kl_div(
        F.log_softmax(student.logits.float() / heat, dim=1),
        F.log_softmax(teacher.logits.float() / heat, dim=1),
        reduction="none",
        log_target=True,
    ).sum(1)
    return (share * (error + config.logit_weight * heat**2 * divergence)).sum()


def _relative_error(got: Float[Tensor, "batch ..."], wanted: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    return _squared_error(got, wanted) / wanted.square().mean().float().clamp(min=TINY)


def _squared_error(got: Float[Tensor, "batch ..."], wanted: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch"]:
    return F.mse_loss(got, wanted, reduction="none").sum(tuple(range(1, got.ndim))).float() / got[0].numel()


_ERRORS: Mapping[Error, Callable[[Tensor, Tensor], Tensor]] = {"relative": _relative_error, "squared": _squared_error}


def _learning(student: nn.Module) -> nn.Module:
    """Batch norm in training mode, the rest in evaluation mode.

    Dropout and stochastic depth would blur the features that are compared, and draw from torch's global generator.
    """
    student.eval()
    for layer in student.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  the common base has no public name
            layer.train()
    return student


def _schedule(
    optimiser: torch.optim.Optimizer, config: DistillConfig, *, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=steps, cycle_momentum=False
        )
    milestones = [int(steps * 0.4), int(steps * 0.8)]
    return torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)


def batches(
    pools: tuple[Pool, Pool | None],
    config: MimicConfig,
    *,
    steps: int,
    shift: float,
    flip: bool,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """A batch a step: images [batch, ...] and what each counts for [batch]."""
    few, ood = pools
    size = config.few_per_step + config.ood_per_step
    for step in range(steps):
        left = _ood_left(config, step, steps=steps) if ood else 0.0
        n = round(left * config.ood_per_step)
        weight = left * (1 - config.joint) if n else 0.0
        parts = [_draw(few, size - n, generator)]
        shares = [torch.full((size - n,), (1 - weight) / (size - n))]
        if ood is not None and n:
            parts.append(_draw(ood, n, generator))
            shares.append(torch.full((n,), weight / n))
        images = augment(torch.cat(parts), shift=shift, flip=flip, generator=generator)
        yield _blended(images, [len(part) for part in parts], config.mix, generator), torch.cat(shares)


def _ood_left(config: MimicConfig, step: int, *, steps: int) -> float:
    """How much of the OOD images' part is left in a step, from 1 to 0."""
    return 1 - step / max(1, steps - 1) if config.ood_share == "falls" else 1.0


def _blended(images: Tensor, sizes: list[int], mix: Mix, generator: torch.Generator) -> Tensor:
    match mix:
        case "across":
            return mixed(images, generator)
        case "within":
            return torch.cat([mixed(part, generator) for part in images.split(sizes)])
        case "off":
            return images
        case _:
            assert_never(mix)


def _draw(pool: Pool, n: int, generator: torch.Generator) -> Tensor:
    return pool.images[torch.multinomial(pool.chances, n, replacement=True, generator=generator)]


def augment(
    images: Float[Tensor, "batch channel height width"], *, shift: float, flip: bool, generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Each image moved by up to a share of its size, the gap filled with its edge's reflection, and maybe mirrored."""
    n, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    pad = int(shift * min(height, width))
    if pad == 0:
        return images
    padded = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    tops, lefts = torch.randint(0, 2 * pad + 1, (2, n), generator=generator)
    rows = (tops[:, None] + torch.arange(height))[:, None, :, None]
    columns = (lefts[:, None] + torch.arange(width))[:, None, None, :]
    return padded[torch.arange(n)[:, None, None, None], torch.arange(images.shape[1])[:, None, None], rows, columns]


def mixed(
    images: Float[Tensor, "batch channel height width"], generator: torch.Generator
) -> Float[Tensor, "batch channel height width"]:
    """Each image blended with another of the batch, by a share drawn uniformly from [0.5, 1] for itself."""
    own = 0.5 + 0.5 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return own * images + (1 - own) * images[torch.randperm(len(images), generator=generator)]
