"""How well a net does without a residual block, and what that saves (PRACTISE, Wang and Wu 2023, arXiv 2202.07861)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn

from edgec.compress.blocks import Block
from edgec.compress.config import PractiseConfig
from edgec.compress.job import CompressJob, weighed
from edgec.compress.price import Layers, layers_of
from edgec.core.progress import Progress
from edgec.learn.layerwise import Weighed
from edgec.learn.losses import class_groups
from edgec.learn.mimic import Seen, mimic_loss
from edgec.models.infer import placed
from edgec.models.taps import Tap, find_tap, tapped

__all__ = ["Judged", "finite", "judged_blocks", "recoverabilities", "score", "shares_saved"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is left of a block's loss when it alone is gone and only a 1x1 adaptor is trained: less is better.

    Attributes:
        loss: Of recovery: PRACTISE's recoverability.
        divergence: Of the outputs, in nat, as channels are judged (`importance.divergence_costs`).
    """

    loss: float
    divergence: float


def judged_blocks(
    job: CompressJob, blocks: Sequence[Block], config: PractiseConfig, *, progress: Progress
) -> dict[str, Judged]:
    """How well each block is made up for.

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
    images, shares = _sample(weighed(job, joint=config.joint), config, torch.Generator().manual_seed(job.seed))
    net = copy.deepcopy(job.cut).eval().requires_grad_(requires_grad=False)
    tap = find_tap(net, images[:2].cpu())
    found: dict[str, Judged] = {}
    groups = class_groups(job.trained_on, config.groups)
    groups = None if groups is None else groups.to(job.fabric.device)

    def loss() -> Tensor:
        return mimic_loss(_seen(net, tap, images), wanted, shares, config=config, groups=groups)

    with placed(net, job.fabric.device):
        wanted = _seen(net, tap, images)
        for block in progress.track(blocks, total=len(blocks), what="weighing blocks", unit="block"):
            original = net.get_submodule(block.name)
            adaptor = _identity_adaptor(block).to(job.fabric.device)
            net.set_submodule(block.name, adaptor)
            left = _trained(adaptor, loss, config)
            found[block.name] = Judged(loss=left, divergence=_divergence(net, wanted, images, shares))
            net.set_submodule(block.name, original)
    return found


def recoverabilities(
    job: CompressJob, blocks: Sequence[Block], config: PractiseConfig, *, progress: Progress
) -> dict[str, float]:
    """PRACTISE's measure alone (`Judged.loss`)."""
    judged = judged_blocks(job, blocks, config, progress=progress)
    return {name: one.loss for name, one in judged.items()}


def score(loss: float, saved: float) -> float:
    """What is lost for what is saved; without end where that is nothing."""
    return loss / saved if saved > 0 else inf


def finite(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as facts: JSON knows no infinity."""
    return {name: round(value, 4) for name, value in scores.items() if value < inf}


def _divergence(net: nn.Module, wanted: Seen, images: Tensor, shares: Tensor) -> float:
    with torch.no_grad():
        before, after = (logits.log_softmax(1) for logits in (wanted.logits, net(images)))
        return float(shares @ (before.exp() * (before - after)).sum(1))


def _sample(everything: Weighed, config: PractiseConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All images where there are few; else some, drawn by what they count for, and counting alike from then on."""
    n, device = config.adaptor_images, everything.shares.device
    if len(everything.images) <= n:
        return everything.images[:].to(device), everything.shares
    drawn = torch.multinomial(everything.shares.cpu(), n, replacement=True, generator=generator)
    return everything.images[drawn].to(device), torch.full((n,), 1 / n, device=device)


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


def shares_saved(job: CompressJob, blocks: Sequence[Block]) -> tuple[float, dict[str, float]]:
    """Of the teacher's price, what the net to cut still costs and what each of its blocks saves when it goes."""
    layers, price = layers_of(job.cut), job.price
    left = price.of_layers(layers)
    return left / price.whole, {
        block.name: (left - price.of_layers(_without_layers(layers, [block.name]))) / price.whole for block in blocks
    }


def _without_layers(layers: Layers, blocks: Sequence[str]) -> Layers:
    """The layers that are left without some blocks."""
    inside = tuple(f"{name}." for name in blocks)
    return {name: widths for name, widths in layers.items() if not name.startswith(inside)}
