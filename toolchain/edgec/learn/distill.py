"""Recovery by distillation: the student mimics the teacher's features and logits on few and OOD images.

The joint loss is OE-FSMC eq. 7, L = lambda L_few + (1 - lambda) L_OOD, with the features' mean squared error of
MiR (arXiv 2201.02620) and, where asked for, a loss of the logits.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgec.core.progress import Progress
from edgec.learn.batches import Pool, batches
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.inputs import Inputs
from edgec.learn.mimic import Seen, mimic_loss
from edgec.learn.teachers import Teachers
from edgec.learn.views import View, student_view
from edgec.models.infer import placed
from edgec.models.taps import common_inputs, find_tap, tapped

__all__ = ["distill", "distill_together"]

DIVERGED = 3.0
"""Training has diverged where the loss is this many times that of its start, and that of a net that shows nothing."""
HALVINGS = 6
"""How often the learning rate is halved before giving up."""
CHUNK = 64
"""Images run at once where nothing is learned."""


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
    groups: Int[Tensor, "class"] | None = None,
    view: View | None = None,
    teachers: Teachers | None = None,
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
        groups: LTKD's, from `class_groups`.
        view: What the student sees of each image; None for what the teacher sees.
        teachers: Further teachers, whose logits are put together with the teacher's; None for the teacher alone.
    """
    given = {"budget": budget, "fabric": fabric, "generator": generator, "progress": progress}
    given |= {"groups": groups, "view": view, "teachers": teachers}
    return distill_together((student,), teacher, pools, config, **given)[0]


def distill_together(
    students: Sequence[nn.Module],
    teacher: nn.Module,
    pools: tuple[Pool, Pool | None],
    config: DistillConfig,
    *,
    budget: Budget,
    fabric: Fabric,
    generator: torch.Generator,
    progress: Progress,
    groups: Int[Tensor, "class"] | None = None,
    view: View | None = None,
    teachers: Teachers | None = None,
) -> tuple[nn.Module, ...]:
    """As `distill`, with several students that share parameters and take turns, a step each; so do their copies."""
    begun = copy.deepcopy(tuple(students))
    for student in begun:
        _with_head(student, teacher, find_tap(teacher, pools[0].images[:2]).head)
    before = _agreements(begun, teacher, pools[0].images, fabric)
    draws = generator.get_state()
    rate = config.learning_rate
    for halving in range(HALVINGS + 1):
        lower = config.model_copy(update={"learning_rate": rate / 2**halving})
        given = {"budget": budget, "fabric": fabric, "progress": progress, "groups": groups, "view": view}
        given["teachers"] = teachers
        generator.set_state(draws)
        trained = _distilled(copy.deepcopy(tuple(students)), teacher, pools, lower, generator=generator, **given)
        if trained is not None and not _is_worse(_agreements(trained, teacher, pools[0].images, fabric), before):
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


def _agreements(
    students: Sequence[nn.Module], teacher: nn.Module, images: Inputs, fabric: Fabric
) -> Bool[Tensor, "student*n"]:
    return torch.cat([_agreement(student, teacher, images, fabric) for student in students])


def _agreement(student: nn.Module, teacher: nn.Module, images: Inputs, fabric: Fabric) -> Bool[Tensor, "n"]:
    """Which images get the teacher's class."""
    with placed(student, fabric.device), placed(teacher, fabric.device), torch.inference_mode():
        parts = [fabric.to_device(part) for part in images.split(CHUNK)]
        return torch.cat([(student(part).argmax(1) == teacher(part).argmax(1)).cpu() for part in parts])


def _is_worse(after: Bool[Tensor, "n"], before: Bool[Tensor, "n"]) -> bool:
    """Whether more agreement was lost than won by twice the deviation of a fair coin's, as in McNemar's test."""
    lost, won = int((before & ~after).sum()), int((after & ~before).sum())
    return lost - won > 2 * (lost + won) ** 0.5


def _distilled(
    students: Sequence[nn.Module],
    teacher: nn.Module,
    pools: tuple[Pool, Pool | None],
    config: DistillConfig,
    *,
    budget: Budget,
    fabric: Fabric,
    generator: torch.Generator,
    progress: Progress,
    groups: Int[Tensor, "class"] | None = None,
    view: View | None = None,
    teachers: Teachers | None = None,
) -> tuple[nn.Module, ...] | None:
    """The students themselves, trained; None as soon as training diverges."""
    tap = find_tap(teacher, pools[0].images[:2])
    for student in students:
        _with_head(student, teacher, tap.head)
    learning = nn.ModuleList(students)  # names what they share once
    trained = [p for name, p in learning.named_parameters() if not name.partition(".")[2].startswith(f"{tap.head}.")]
    optimiser = torch.optim.SGD(trained, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    schedule = _schedule(optimiser, config, steps=budget.steps)
    between = [
        common_inputs(student, teacher, tap, pools[0].images[:2]) if config.between_weight else ()
        for student in students
    ]
    first, optimiser = fabric.setup(_learning(students[0]), optimiser)
    models = [first, *(fabric.setup_module(_learning(student)) for student in students[1:])]
    how = {"config": config, "groups": None if groups is None else groups.to(fabric.device)}
    look, limits = student_view(view, generator), [0.0] * len(students)
    with ExitStack() as held:
        held.enter_context(placed(teacher, fabric.device))
        if teachers is not None:
            held.enter_context(teachers.placed(fabric.device))
        ours = [held.enter_context(tapped(net, tap, names)) for net, names in zip(students, between, strict=True)]
        theirs = [held.enter_context(tapped(teacher, tap, names)) for names in between]
        drawn = batches(pools, config, steps=budget.steps, shift=budget.shift, flip=budget.flip, generator=generator)
        for step, (images, share) in enumerate(
            progress.track(drawn, total=budget.steps, what="distilling", unit="step")
        ):
            turn = step % len(students)
            images, seen, share = fabric.to_device((images, look(images), share))
            with torch.no_grad(), fabric.autocast():
                wanted = _seen(teacher, images, theirs[turn])
                if teachers is not None:
                    joined = teachers.joined(wanted.logits, images, temperature=config.temperature)
                    wanted = replace(wanted, logits=joined)
            loss = mimic_loss(_seen(models[turn], seen, ours[turn]), wanted, share, **how)
            if step < len(students):
                nothing = mimic_loss(_silent(wanted), wanted, share, **how)
                limits[turn] = DIVERGED * max(loss.item(), nothing.item())
            if not loss.item() <= limits[turn]:
                return None
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if config.gradient_norm:
                fabric.clip_gradients(models[turn], optimiser, max_norm=config.gradient_norm)
            optimiser.step()
            schedule.step()
    return tuple(student.eval().to("cpu") for student in students) if all(map(_is_finite, students)) else None


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
