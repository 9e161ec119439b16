"""Recovery's step loop against a bare PyTorch loop over the same nets, batch and number of steps.

    python benchmarks/step_loop.py [--nets resnet20 resnet56] [--quick]

The bare loop runs one fixed batch of 64 images through the teacher without gradients and through the pruned student
forward and backward, with the features' squared error and SGD. Ours also draws, shifts, mirrors and blends images,
weighs features and logits, and steps its schedule. The two take turns; a ratio of 1 says that all this is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from edgec.compress.coupling import coupled_channels
from edgec.compress.price import kept_flops
from edgec.compress.prune import prune
from edgec.compress.widths import even_widths
from edgec.core.progress import Silent
from edgec.core.target import Rules
from edgec.learn.batches import Pool
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.distill import distill
from edgec.models import cifar_resnet
from edgec.models.taps import find_tap, tapped
from edgec.pipeline.accelerator import Accelerator, open_fabric
from rows import Row, arguments, show

BATCH = 64


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", nargs="+", default=["resnet20", "resnet56"])
    parser.add_argument("--steps", type=int, default=20, help="per turn")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    turns, steps = (2, 5) if given.quick else (given.turns, given.steps)
    fabric = open_fabric(Accelerator.AUTO)
    rows = [row for name in given.nets for row in _compare(name, fabric, steps=steps, turns=turns)]
    show(rows, as_json=given.json, output=given.output)


def _compare(name: str, fabric: Fabric, *, steps: int, turns: int) -> list[Row]:
    torch.manual_seed(0)
    teacher = getattr(cifar_resnet, name)().eval()
    images = torch.randn(512, 3, 32, 32)
    head = find_tap(teacher, images[:2]).head
    coupled = coupled_channels(teacher, head, images[:1])
    widths = even_widths(teacher, coupled, kept_flops(teacher, images[:1], 0.5), rules=Rules())
    student = prune(teacher, {layer: torch.arange(width) for layer, width in widths.items()}, images[:1])
    loops = {
        "bare": lambda: _bare(student, teacher, images[:BATCH], fabric, steps=steps),
        "ours": lambda: _ours(student, teacher, images, fabric, steps=steps),
    }
    seconds = {what: [] for what in loops}
    for loop in loops.values():
        loop()
    for _ in range(turns):
        for what, loop in loops.items():
            seconds[what].append(_timed(loop, fabric) / steps)
    bare = float(np.median(seconds["bare"]))
    return [
        Row(
            what=f"{name}: {what}, seconds a step of {BATCH} images",
            value=float(np.median(found)),
            unit="s",
            n=turns,
            low=min(found),
            high=max(found),
            against="the bare loop's speed",
            ratio=bare / float(np.median(found)),
        )
        for what, found in seconds.items()
    ]


def _timed(loop: Callable[[], object], fabric: Fabric) -> float:
    started = time.perf_counter()
    loop()
    if fabric.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _ours(student: nn.Module, teacher: nn.Module, images: torch.Tensor, fabric: Fabric, *, steps: int) -> nn.Module:
    few, ood = (Pool(images=part, chances=torch.full((len(part),), 1 / len(part))) for part in images.split(256))
    generator = torch.Generator().manual_seed(0)
    return distill(
        student,
        teacher,
        (few, ood),
        DistillConfig(),
        budget=Budget(steps=steps),
        fabric=fabric,
        generator=generator,
        progress=Silent(),
    )


def _bare(student: nn.Module, teacher: nn.Module, batch: torch.Tensor, fabric: Fabric, *, steps: int) -> None:
    student, teacher = (net.to(fabric.device) for net in (student.train(), teacher))
    batch = batch.to(fabric.device)
    optimiser = torch.optim.SGD(student.parameters(), lr=1e-4, momentum=0.9)
    tap = find_tap(teacher, batch[:2])
    with tapped(student, tap) as got, tapped(teacher, tap) as wanted:
        for _ in range(steps):
            with torch.no_grad(), fabric.autocast():
                teacher(batch)
            with fabric.autocast():
                student(batch)
                loss = (got[0].float() - wanted[0].float()).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


if __name__ == "__main__":
    main()
