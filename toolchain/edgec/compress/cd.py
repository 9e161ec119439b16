"""CD, cross distillation (Bai et al. 2020, arXiv 1911.09450).

Layer after layer, a proximal schedule chooses channels while the layer that takes them learns to do without the rest,
on the teacher's inputs (correction) and on the student's own (imitation); then the net is fine-tuned on the labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from edgec.compress.channels import Cut, channels_to_keep
from edgec.compress.config import CdConfig
from edgec.compress.consumers import outlets
from edgec.compress.coupling import Coupled
from edgec.compress.job import CompressJob, methods, weighed
from edgec.compress.prune import prune
from edgec.compress.recovery import finished, recover
from edgec.core.classifier import Classifier, Step
from edgec.core.progress import Progress
from edgec.learn.batches import augment
from edgec.learn.inputs import streamed
from edgec.learn.layerwise import Reached, Weighed, run_hooked, second_moments
from edgec.models.infer import placed

__all__ = ["compress", "regressed"]

WIDEST = 8192
"""Inputs of a layer whose second moments are taken, 0.5 GB of them. VGG's first linear layer would need 5 GB."""
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's constants (Kingma and Ba 2015)."""


@methods.register("cd", CdConfig)
def compress(job: CompressJob, config: CdConfig, *, progress: Progress) -> Classifier:
    """Prunes and regresses layer after layer, then fine-tunes on the few labelled samples.

    OE-FSMC brings OOD images, weighed by eq. 7; which channels stay is CD's own choice, whatever OE-FSMC says of their
    importance. Where it recovers jointly, its distillation takes the place of fine-tuning.
    """
    cut = channels_to_keep(job, progress=progress)
    takers = _takers(job.cut, cut, job.example)
    student = _cross_distilled(job, cut, takers, config, progress=progress)
    recovery = job.auxiliary.recovery if job.auxiliary else None
    if recovery is not None:
        student = recover(student, job, recovery, progress=progress)
    else:
        _finetune_(student, job, config, progress=progress)
    steps = job.budget.steps if recovery else config.finetune_steps
    facts = {"kept_channels": cut.widths, "layers": len(takers), "steps": steps}
    return finished(student, job, Step(method="cd", facts=facts))


def _takers(module: nn.Module, cut: Cut, example: Tensor) -> dict[str, Coupled]:
    """The layers to regress, in the order in which they run, each with the channels that it takes and that shrink.

    A layer that takes other channels beside these (DenseNet) is left as it is, and so are all others that take them.
    The paper leaves 1x1 convolutions out: its nets have them in shortcuts alone, which are left whole here too, while
    one that takes a block's inner channels is a layer like any other.
    """
    takers: dict[str, Coupled] = {}
    for group in cut.coupled:
        layers = [(module.get_submodule(name), count) for name, count in group.inputs.items()]
        mixed = any(isinstance(module.get_submodule(name), nn.LayerNorm) for name in group.outputs)
        if cut.widths[group.producer] < group.channels and not mixed and all(_is_regressable(*one) for one in layers):
            takers |= dict.fromkeys(group.inputs, group)
    return {outlet.layer: takers[outlet.layer] for outlet in outlets(module, takers, example)}


def _is_regressable(layer: nn.Module, count: int) -> bool:
    """Whether its outputs are a matrix times windows of just these inputs, and not too many of them."""
    if isinstance(layer, nn.Conv2d):
        windows = layer.groups == 1 and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
        alone = windows and layer.in_channels == count
    else:
        alone = isinstance(layer, nn.Linear) and layer.in_features == count
    return alone and layer.get_parameter("weight")[0].numel() <= WIDEST


def _cross_distilled(
    job: CompressJob, cut: Cut, takers: dict[str, Coupled], config: CdConfig, *, progress: Progress
) -> nn.Module:
    """The student. Each layer is regressed on what those before it have become.

    Where one layer alone takes the channels, it chooses among them; others stay with the largest norms.
    """
    images, kept = weighed(job, joint=config.joint), dict(cut.kept)
    example, regressing = job.example, {group.producer for group in takers.values()}
    student = prune(job.cut, {name: kept[name] for name in kept.keys() - regressing}, example)
    with placed(student, job.fabric.device), placed(job.cut, job.fabric.device) as whole:
        for name, group in progress.track(takers.items(), total=len(takers), what="regressing", unit="layer"):
            correction, imitation = (_input_moments(net, name, images) for net in (whole, student))
            moments = imitation.lerp(correction, config.correction)
            choice = torch.full((group.channels,), len(group.inputs) == 1)
            choice[kept[group.producer]] = True
            weight = student.get_submodule(name).get_parameter("weight").detach()
            units = weight.reshape(len(weight), group.channels // group.unit, -1)  # a flattened map is by channel too
            keep = cut.widths[group.producer] // group.unit
            found, stay = regressed(units, moments.float(), choice[:: group.unit], keep=keep, config=config)
            weight.copy_(found.view_as(weight))
            kept[group.producer] = stay.repeat_interleave(group.unit).nonzero()[:, 0]
    return prune(student, {name: kept[name] for name in regressing}, example)


def _input_moments(module: nn.Module, name: str, images: Weighed) -> Float[Tensor, "column column"]:
    """Second moments of what each output position of a layer is a linear map of."""
    layer = module.get_submodule(name)

    def rows(batch: Tensor) -> Float[Tensor, "batch position column"]:
        caught: list[Tensor] = []

        def catch(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            caught.append(inputs[0])
            raise Reached

        run_hooked(module, batch, {name: catch})
        if isinstance(layer, nn.Conv2d):
            window = {key: getattr(layer, key) for key in ("kernel_size", "dilation", "padding", "stride")}
            return F.unfold(caught[0], **window).transpose(1, 2)
        return caught[0].reshape(len(batch), -1, caught[0].shape[-1])

    return second_moments(rows, images)


def regressed(
    weight: Float[Tensor, "out unit column"],
    moments: Float[Tensor, "input input"],
    choice: Bool[Tensor, "unit"],
    *,
    keep: int,
    config: CdConfig,
) -> tuple[Float[Tensor, "out unit column"], Bool[Tensor, "unit"]]:
    """The weight that does best with fewer inputs, zero where they are gone, and which ones stay.

    The layer is linear, so its error on an input x is D x with D what the weight has changed, and the losses of
    correction and imitation, which the paper takes batch by batch, are both quadratic forms of D. Their weighed sum
    per output element is tr(D M D^T) / out with M the moments weighed alike: each Adam step costs one product of
    matrices, however many images there are, and takes the exact gradient over all of them.

    Over the first third of the steps the number of units falls linearly to `keep`, those of the smallest L2 norm
    being set to zero for good; then the rate falls to a tenth.

    Args:
        weight: The teacher's, with each unit's inputs side by side.
        moments: Second moments of the inputs, unit by unit.
        choice: Units to choose from; the others are gone from the start.
        keep: Units that stay.
        config: Steps and rate.
    """
    columns, pruning = weight.flatten(1).clone(), config.layer_steps // 3
    target, units = columns @ moments, columns.view_as(weight)
    stay, surplus = choice.to(weight.device), int(choice.sum()) - keep
    units[:, ~stay] = 0
    for step in _descending(columns, moments, target, steps=pruning, rate=config.learning_rate):
        norms = units.square().sum((0, 2)).where(stay, -1)
        best = norms.topk(keep + int(surplus * (1 - (step + 1) / pruning))).indices
        stay = torch.zeros_like(stay).index_fill(0, best, value=True)
        units[:, ~stay] = 0
    own = stay.repeat_interleave(weight.shape[2])
    rest, part = columns[:, own], (moments[own][:, own], target[:, own])
    for _ in _descending(rest, *part, steps=config.layer_steps - pruning, rate=config.learning_rate / 10):
        pass
    columns[:, own] = rest
    return units, stay.cpu()


def _descending(
    weight: Float[Tensor, "out column"],
    moments: Float[Tensor, "column column"],
    target: Float[Tensor, "out column"],
    *,
    steps: int,
    rate: float,
) -> Iterator[int]:
    """Adam's steps down the loss, changing the weight; yields the number of each.

    Written out: torch's optimiser spends more on its books than so small a step takes.
    """
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for step in range(steps):
        gradient = (weight @ moments - target) * (2 / len(weight))
        mean.lerp_(gradient, 1 - BETAS[0])
        square.lerp_(gradient.square(), 1 - BETAS[1])
        unbiased, spread = mean / (1 - BETAS[0] ** (step + 1)), (square / (1 - BETAS[1] ** (step + 1))).sqrt()
        weight.sub_(rate * unbiased / (spread + EPSILON))
        yield step


def _finetune_(student: nn.Module, job: CompressJob, config: CdConfig, *, progress: Progress) -> None:
    """Cross-entropy on the few samples, with batch-norm statistics frozen."""
    few, labels = streamed(job.few, job.teacher.input), torch.as_tensor(job.few.labels)
    chances = torch.as_tensor(job.auxiliary.near_chances[: len(few)]) if job.auxiliary else torch.ones(len(few))
    generator = torch.Generator().manual_seed(job.seed)
    optimiser = torch.optim.SGD(student.parameters(), lr=config.finetune_rate, momentum=0.9)
    model, optimiser = job.fabric.setup(student.eval(), optimiser)
    for _ in progress.track(range(config.finetune_steps), total=config.finetune_steps, what="fine-tuning", unit="step"):
        drawn = torch.multinomial(chances, config.batch_size, replacement=True, generator=generator)
        images = augment(few[drawn], shift=job.budget.shift, flip=job.budget.flip, generator=generator)
        images, wanted = job.fabric.to_device((images, labels[drawn]))
        optimiser.zero_grad(set_to_none=True)
        job.fabric.backward(F.cross_entropy(model(images), wanted))
        optimiser.step()
    student.cpu()
