"""PRACTISE, practical network acceleration with tiny sets (Wang and Wu 2023, arXiv 2202.07861).

Whole residual blocks are dropped, those first whose loss is the easiest to make up for and that save the most; then
the whole net mimics the teacher's features, as in MiR.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from edgec.compress.blocks import Block, residual_blocks, without_blocks
from edgec.compress.config import PractiseConfig
from edgec.compress.flops import layer_flops, total_flops
from edgec.compress.job import CompressJob, methods, weighed
from edgec.compress.recovery import finished, recover
from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.progress import Progress
from edgec.learn.layerwise import Weighed
from edgec.learn.losses import class_groups
from edgec.learn.mimic import Seen, mimic_loss
from edgec.models.infer import placed, to_tensor
from edgec.models.taps import Tap, find_tap, tapped

__all__ = ["blocks_to_drop", "compress", "recoverabilities"]


@methods.register("practise", PractiseConfig)
def compress(job: CompressJob, config: PractiseConfig, *, progress: Progress) -> Classifier:
    """Drops blocks by their scores, then recovers; OE-FSMC brings OOD images to both, weighed by eq. 7.

    The score is recoverability / latency reduction. For the latter stands the share of the multiply-adds that goes
    with the block: a measured latency would make the student depend on the machine and its load.

    Raises:
        UnsupportedError: The model has no residual blocks that can be dropped.
        ConfigError: Dropping them all leaves too much.
    """
    blocks = residual_blocks(job.cut, to_tensor(job.few.decoded()[:2], job.teacher.input))
    if not blocks and job.begun is None:
        raise UnsupportedError(
            "method 'practise' drops residual blocks, and the model has none",
            hint="use compress.method = 'cd', 'fskd' or 'mir'",
        )
    left, savings = _shares(job, blocks)
    _require_enough(left, savings, keep_flops=job.goal or job.budget.keep_flops)
    losses = recoverabilities(job, blocks, config, progress=progress)
    scores = {name: loss / savings[name] for name, loss in losses.items()}
    dropped = blocks_to_drop(scores, savings, keep_flops=job.budget.keep_flops, left=left)
    student = recover(without_blocks(job.cut, dropped), job, config, progress=progress)
    earlier = job.begun.history[-1].facts["dropped_blocks"] if job.begun else []
    facts = {
        "dropped_blocks": [*earlier, *sorted(dropped, key=list(savings).index)],
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "steps": job.budget.steps,
    }
    return finished(student, job, Step(method="practise", facts=facts))


def _shares(job: CompressJob, blocks: list[Block]) -> tuple[float, dict[str, float]]:
    """Of the teacher's multiply-adds, what the net to cut still makes and what each of its blocks makes."""
    example = to_tensor(job.few.decoded()[:1], job.teacher.input)
    flops, whole = layer_flops(job.cut, example), total_flops(job.teacher.module, example)
    return sum(flops.values()) / whole, {
        block.name: sum(n for name, n in flops.items() if name.startswith(f"{block.name}.")) / whole for block in blocks
    }


def _require_enough(left: float, savings: Mapping[str, float], *, keep_flops: float) -> None:
    least = left - sum(savings.values())
    if least > keep_flops:
        raise ConfigError(
            f"keep_flops = {keep_flops}: dropping every residual block that can go leaves {least:.2f} of the "
            "multiply-adds",
            hint=f"set compress.keep_flops to {least + 0.005:.2f} or more",
        )


def blocks_to_drop(
    scores: Mapping[str, float], savings: Mapping[str, float], *, keep_flops: float, left: float = 1.0
) -> list[str]:
    """Blocks by rising score until the budget is met; then those are put back that the budget has room for after all.

    Whole blocks seldom meet the budget exactly: what is left is less.

    Args:
        scores: Of each block that can go.
        savings: Share of the multiply-adds of each; together they are enough.
        keep_flops: Share of the multiply-adds that may stay.
        left: Share of them that there is before.
    """
    dropped: list[str] = []
    for name in sorted(scores, key=scores.__getitem__):
        if left <= keep_flops:
            break
        dropped.append(name)
        left -= savings[name]
    for name in reversed(dropped.copy()):
        if left + savings[name] <= keep_flops:
            dropped.remove(name)
            left += savings[name]
    return dropped


def recoverabilities(
    job: CompressJob, blocks: list[Block], config: PractiseConfig, *, progress: Progress
) -> dict[str, float]:
    """What is left of each block's loss when it alone is gone and only a 1x1 adaptor is trained: less is better.

    The loss is that of recovery, eq. 7 over the features before global pooling, relative to their mean square. The
    paper trains an adaptor before and behind each block of the same stage and absorbs or removes them; ours is one,
    in the block's place, so that it needs no knowledge of the architecture. It has no bias, starts as the identity,
    and is gone from the student. Batch norm stays frozen.

    Args:
        job: The compression.
        blocks: Those that can go.
        config: Images and steps.
        progress: Shown per block.
    """
    sample = _sample(weighed(job, joint=config.joint), config, torch.Generator().manual_seed(job.seed))
    net = copy.deepcopy(job.cut).eval().requires_grad_(requires_grad=False)
    tap = find_tap(net, sample.images[:2].cpu())
    losses: dict[str, float] = {}
    groups = class_groups(job.trained_on, config.groups)
    groups = None if groups is None else groups.to(job.fabric.device)

    def loss() -> Tensor:
        return mimic_loss(_seen(net, tap, sample.images), wanted, sample.shares, config=config, groups=groups)

    with placed(net, job.fabric.device):
        wanted = _seen(net, tap, sample.images)
        for block in progress.track(blocks, total=len(blocks), what="weighing blocks", unit="block"):
            original = net.get_submodule(block.name)
            adaptor = _identity_adaptor(block).to(job.fabric.device)
            net.set_submodule(block.name, adaptor)
            losses[block.name] = _trained(adaptor, loss, config)
            net.set_submodule(block.name, original)
    return losses


def _sample(everything: Weighed, config: PractiseConfig, generator: torch.Generator) -> Weighed:
    """All images where there are few; else some, drawn by what they count for, and counting alike from then on."""
    n = config.adaptor_images
    if len(everything.images) <= n:
        return everything
    drawn = torch.multinomial(everything.shares.cpu(), n, replacement=True, generator=generator)
    drawn = drawn.to(everything.images.device)
    return Weighed(images=everything.images[drawn], shares=torch.full_like(everything.shares[drawn], 1 / n))


def _identity_adaptor(block: Block) -> nn.Module:
    """A 1x1 convolution without a bias that changes nothing yet."""
    n, eye = block.channels, torch.eye(block.channels)
    if block.channels_last:
        layer = nn.Linear(n, n, bias=False, device="meta")
        layer.weight = nn.Parameter(eye)
    else:
        layer = nn.Conv2d(n, n, 1, bias=False, device="meta")
        layer.weight = nn.Parameter(eye[:, :, None, None])
    return layer


def _seen(net: nn.Module, tap: Tap, images: Tensor) -> Seen:
    with tapped(net, tap) as caught:
        logits = net(images)
    return Seen(features=caught[0], logits=logits)


def _trained(adaptor: nn.Module, loss: Callable[[], Tensor], config: PractiseConfig) -> float:
    """The loss after some steps of L-BFGS on the adaptor alone, all images in each.

    Ten get as low as twenty of Adam, and adaptors of any width need no learning rate of their own.
    """
    optimiser = torch.optim.LBFGS(adaptor.parameters(), max_iter=config.adaptor_steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value

    if config.adaptor_steps:
        optimiser.step(closure)  # pyright: ignore[reportArgumentType]  torch's stub wants a float, its code a tensor
    with torch.no_grad():
        return loss().item()
