"""FSKD, few-sample knowledge distillation (Li et al. 2020, arXiv 1812.01839).

Channels are pruned; then, layer after layer, a 1x1 convolution behind each layer that pruning touched brings its
output back to the teacher's by least squares, and is absorbed into that layer. No labels, no gradient steps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from edgec.compress.channels import Cut, slim
from edgec.compress.config import FskdConfig
from edgec.compress.consumers import Norm, Outlet, outlets, read
from edgec.compress.job import CompressJob, methods, weighed
from edgec.compress.recovery import finished, recover
from edgec.core.classifier import Classifier, Step
from edgec.core.progress import Progress
from edgec.learn.layerwise import Weighed, second_moments
from edgec.models.infer import placed

__all__ = ["absorb_", "compress", "pointwise"]

SILENT = 1e-3
"""Share of the largest scale of a batch norm below which a channel counts as switched off."""
TINY = 1e-9
"""Share of the largest variance that every channel's ridge is at least: a silent channel then stays as it is."""


@methods.register("fskd", FskdConfig)
def compress(job: CompressJob, config: FskdConfig, *, progress: Progress) -> Classifier:
    """Prunes, then aligns layer after layer; OE-FSMC brings class-aware importance and OOD images, weighed by eq. 7.

    Where OE-FSMC recovers jointly, its distillation follows.
    """
    student, cut = slim(job, progress=progress)
    layers = _align_(student, cut, job, config, progress=progress)
    recovery = job.auxiliary.recovery if job.auxiliary else None
    if recovery is not None:
        student = recover(student, job, recovery, progress=progress)
    facts = {"kept_channels": cut.widths, "layers": layers, "steps": job.budget.steps if recovery else 0}
    return finished(student, job, Step(method="fskd", facts=facts))


def _align_(student: nn.Module, cut: Cut, job: CompressJob, config: FskdConfig, *, progress: Progress) -> int:
    """Aligns the layers that make pruned channels and those that take them with what was cut; returns how many.

    Each sees what the layers before it, aligned already, make of the images, so that errors do not pile up. Grouped
    convolutions and attention cannot absorb what mixes channels, and are left as they are.
    """
    images, outputs = weighed(job, joint=config.joint), _kept_outputs(student, cut)
    with placed(student, job.fabric.device), placed(job.cut, job.fabric.device) as whole:
        order = outlets(student, outputs, job.example.to(job.fabric.device))
        for outlet in progress.track(order, total=len(order), what="aligning", unit="layer"):
            layer = student.get_submodule(outlet.layer)
            norm = student.get_submodule(outlet.norm) if outlet.norm else None
            moments = _moments((student, whole), outlet, outputs[outlet.layer], images)
            ridge = config.ridge * (len(moments) // 2) / (outlet.positions * images.effective)
            absorb_(layer, norm, pointwise(moments, ridge=ridge, shift=_shifted(layer, norm) is not None))
    return len(order)


def _kept_outputs(student: nn.Module, cut: Cut) -> dict[str, Int[Tensor, "kept"] | slice]:
    """Of each layer to align, which of the teacher's outputs it still has."""
    takers = {name: slice(None) for group in cut.coupled for name in group.inputs}
    makers = {name: cut.kept[group.producer] for group in cut.coupled for name in group.outputs}
    dense = {
        name
        for name, layer in student.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
    }
    return {name: kept for name, kept in (takers | makers).items() if name in dense}


def _moments(
    nets: tuple[nn.Module, nn.Module], outlet: Outlet, kept: Int[Tensor, "kept"] | slice, images: Weighed
) -> Float[Tensor, "column column"]:
    """Second moments of one, the student's outputs of a layer and what these lack of the teacher's.

    At the end of a residual block it is what the block's sum lacks: the 1x1 convolution ends the block, before its
    activation, and so takes back the error of the other branch too.
    """
    student, teacher = nets
    layer = student.get_submodule(outlet.layer)
    norm = student.get_submodule(outlet.norm) if outlet.norm else None
    per_scale = _per_scale(norm) if isinstance(norm, Norm) else 1.0

    def rows(batch: Tensor) -> Float[Tensor, "batch position column"]:
        got, beside = (_by_position(layer, part) for part in read(student, outlet, batch))
        wanted, stream = (_by_position(layer, part)[..., kept] for part in read(teacher, outlet, batch))
        lacking = wanted - got + (stream - beside) * per_scale
        return torch.cat([torch.ones_like(got[..., :1]), got, lacking], dim=-1).double()

    return second_moments(rows, images)


def _per_scale(norm: Norm) -> Float[Tensor, "channel"]:
    """What a batch norm's output is multiplied by to be in units of its input; zero where it lets nothing through."""
    scale = norm.get_parameter("weight").detach()
    spread = (norm.get_buffer("running_var") + norm.eps).sqrt()
    return torch.where(scale.abs() > SILENT * scale.abs().max(), spread / scale, 0)


def _by_position(layer: nn.Module, output: Tensor) -> Float[Tensor, "batch position channel"]:
    """Positions of an image in one row each: a convolution has its channels second, a linear layer last."""
    last = output if isinstance(layer, nn.Linear) else output.movedim(1, -1)
    return last.reshape(len(last), -1, last.shape[-1])


def pointwise(
    moments: Float[Tensor, "column column"], *, ridge: float, shift: bool
) -> tuple[Float[Tensor, "channel channel"], Float[Tensor, "channel"]]:
    """R and q of the 1x1 convolution y -> y + R y + q that brings a layer's outputs closest to what they should be.

    Least squares, with a ridge towards changing nothing, which the paper does not have: with few positions for many
    channels R would be noise. A channel's ridge is a share of its own variance, so that the solution is the same
    before a batch norm as behind it.

    Args:
        moments: Second moments of [1, y, e], with e what the outputs y lack.
        ridge: Share of a channel's variance.
        shift: Whether there is a place for q, which is zero otherwise.
    """
    n = len(moments) // 2
    mean = moments[0, 1:] * shift
    covariance = moments[1:, 1:] - mean.outer(mean)
    own, lacking = covariance[:n, :n], covariance[:n, n:]
    variance = own.diagonal()
    penalty = (ridge * variance).clamp(min=TINY * variance.max().item() + TINY**2).diag()
    mixing = torch.linalg.solve(own + penalty, lacking).T
    return mixing, mean[n:] - mixing @ mean[:n]


def absorb_(layer: nn.Module, norm: nn.Module | None, added: tuple[Tensor, Tensor]) -> None:
    """Lets a layer do what it and the 1x1 convolution y + R y + q behind it would do: its weight W becomes W + R W.

    Student and teacher have the same batch norm behind the layer, an affine map of each channel, so aligning what
    goes into it aligns what comes out. It keeps the teacher's statistics, which fit again, but for q, which goes to
    its mean; without a batch norm q goes to the layer's bias.
    """
    mixing, shift = (tensor.float() for tensor in added)
    target = _shifted(layer, norm)
    with torch.no_grad():
        for parameter in layer.parameters():  # weight [out, ...] and bias [out]
            parameter.add_(torch.tensordot(mixing, parameter, dims=1))
        if target is not None:
            target.add_(-shift if norm else shift)


def _shifted(layer: nn.Module, norm: nn.Module | None) -> Float[Tensor, "channel"] | None:
    """What takes a shift of the layer's outputs: the mean of the batch norm behind it, else its bias, else nothing."""
    return norm.get_buffer("running_mean") if norm else dict(layer.named_parameters()).get("bias")
