"""What brings a quantised net nearer to what it was: step after step, each with its effect on the worst class."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from jaxtyping import Int
from torch import Tensor

from edgec.calibrate import Ranges, prepare
from edgec.core.facts import Effect
from edgec.core.progress import Progress
from edgec.learn.batches import Pool
from edgec.learn.inputs import Inputs
from edgec.learn.layerwise import Weighed
from edgec.learn.views import View
from edgec.quantize.config import QuantizeConfig
from edgec.quantize.equalize import equalized
from edgec.quantize.network import Network, Part
from edgec.quantize.rounding import correct_biases_, round_weights_
from edgec.quantize.sensitivity import (
    PartCost,
    changed_by_class,
    divergence_by_class,
    logits_of,
    operators_of,
    part_costs,
    parts_to_spare,
)
from edgec.quantize.training import train_

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.core.target import Target

__all__ = ["RefineJob", "Refined", "refine"]


@dataclass(frozen=True, kw_only=True)
class RefineJob:
    """A graph to refine, and what that takes; none of it is a test image. Images are what the graph takes.

    Attributes:
        model: FP32 ONNX.
        ranges: As they were calibrated.
        target: Its scheme is an int8 one.
        config: Which steps.
        calibration: The calibration set with its weights.
        pools: Few samples and OOD images, each with the chances under which classes are balanced.
        images: All few samples and OOD images: what effects and costs are judged on.
        teacher: From images to logits.
        observe: Calibrates another graph in the same way.
        shipped: From a graph to quantise and its ranges to what the file that comes of them says of `images`.
        groups: Of classes, where training's loss is `ltkd`.
        view: What the rounded net sees in training; None for what the teacher sees.
        device: Where training runs.
        seed: Of training, and of the places of feature maps that rounding looks at.
    """

    model: Path
    ranges: Ranges
    target: Target
    config: QuantizeConfig
    calibration: Weighed
    pools: tuple[Pool, Pool]
    images: Inputs
    teacher: Callable[[Tensor], Tensor]
    observe: Callable[[Path], Ranges]
    shipped: Callable[[ModelProto, Ranges], np.ndarray]
    groups: Int[Tensor, "class"] | None = None
    view: View | None = None
    device: torch.device
    seed: int


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A graph to quantise, and how.

    Attributes:
        model: Floating-point graph whose weights lie on their grids.
        ranges: Of activations and weights, and which operators stay in floating point.
        effects: Step by step.
        costs: Part by part, where they were asked for.
        reference: float64 [n, class], what the net says in floating point of all images that it was judged on.
        logits: float64 [n, class], what the refined net says of them.
    """

    model: ModelProto
    ranges: Ranges
    effects: tuple[Effect, ...]
    costs: tuple[PartCost, ...]
    reference: np.ndarray
    logits: np.ndarray


Step = Callable[[], tuple[str, Network]]
"""Does something, and tells what it was and the net that came of it."""


def refine(job: RefineJob, *, progress: Progress) -> Refined:
    """Equalises, rounds, corrects biases, trains and spares parts, as far as the settings ask for it.

    Raises:
        UnsupportedError: The graph has an operator that torch cannot run here, or a fixed batch size.
        ConfigError: Training diverged.
    """
    network = Network(prepare(job.model), job.ranges, job.target)
    reference = logits_of(network.in_floating_point, job.images)
    watch = _Watch(reference, job.images, network)
    if job.config.equalize:
        network = watch.take(lambda: _equalize(network, job))
    for step in _steps(network, job, progress=progress):
        watch.take(step)
    costs: tuple[PartCost, ...] = ()
    if job.config.sensitivity or job.config.mixed_precision is not None:
        costs = _costs(network, reference, job, progress=progress)
    if (allowed := job.config.mixed_precision) is not None:
        network = watch.take(lambda: _spare(network, costs, reference, job, allowed=allowed))
    model, ranges = network.quantizable()
    return Refined(
        model=model,
        ranges=ranges,
        effects=tuple(watch.effects),
        costs=costs,
        reference=reference,
        logits=logits_of(network, job.images),
    )


class _Watch:
    """Takes down what every step does to the worst class."""

    def __init__(self, reference: np.ndarray, images: Inputs, network: Network) -> None:
        self._reference, self._images = reference, images
        self._last = self._worst(network)
        self.effects: list[Effect] = []

    def take(self, step: Step) -> Network:
        """The net that a step made."""
        started = time.perf_counter()
        what, network = step()
        seconds = time.perf_counter() - started
        before, self._last = self._last, self._worst(network)
        effect = {"worst_class_divergence_before": before, "worst_class_divergence_after": self._last}
        self.effects.append(Effect(what=what, seconds=seconds, **effect))
        return network

    def _worst(self, network: Network) -> float:
        return float(divergence_by_class(self._reference, logits_of(network, self._images)).max())


def _equalize(network: Network, job: RefineJob) -> tuple[str, Network]:
    graph, pairs = equalized(network.model)
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "equalized.onnx"
        onnx.save(graph, path)
        ranges = job.observe(path)
    return f"cross-layer equalisation of {pairs} pairs", Network(graph, ranges, job.target)


def _steps(network: Network, job: RefineJob, *, progress: Progress) -> Iterator[Step]:
    """The steps that change weights, biases and ranges, in the order in which they build on each other."""
    config, original = job.config, {layer.name: network.constant(layer.weight).clone() for layer in network.layers}

    def compensate() -> tuple[str, Network]:
        round_weights_(network, job.calibration, generator=_seeded(job), progress=progress)
        return "compensated rounding", network

    def correct() -> tuple[str, Network]:
        correct_biases_(network, original, job.calibration, generator=_seeded(job), progress=progress)
        return "bias correction", network

    def train() -> tuple[str, Network]:
        train_(
            network,
            job.teacher,
            job.pools,
            config.training,
            device=job.device,
            generator=_seeded(job),
            progress=progress,
            groups=job.groups,
            view=job.view,
        )
        return f"{config.training.steps} steps of training", network

    if config.compensates(job.target):
        yield compensate
    if config.corrects_biases(job.target):
        yield correct
    if config.train:
        yield train


def _seeded(job: RefineJob) -> torch.Generator:
    return torch.Generator().manual_seed(job.seed)


def _costs(network: Network, reference: np.ndarray, job: RefineJob, *, progress: Progress) -> tuple[PartCost, ...]:
    """What each part costs, a layer with its refined weight, the others as they were before anything was rounded."""
    refined, ranges = network.quantizable()

    def alone(part: Part) -> Network:
        others = tuple(layer.name for layer in network.layers if layer.name != part.name or not part.is_layer)
        return Network(_with_floats(refined, network.model, others), ranges, job.target)

    return part_costs(network.parts, alone, reference, job.images, progress=progress)


def _spare(
    network: Network, costs: tuple[PartCost, ...], reference: np.ndarray, job: RefineJob, *, allowed: float
) -> tuple[str, Network]:
    """Judged on the file: the bound is a promise about what ships."""
    refined, ranges = network.quantizable()

    def mixed(floats: tuple[str, ...]) -> Network:
        return Network(_with_floats(refined, network.model, floats), replace(ranges, floats=floats), job.target)

    def changed(floats: tuple[str, ...]) -> np.ndarray:
        return changed_by_class(reference, job.shipped(*mixed(floats).quantizable()))

    spared = parts_to_spare(costs, changed, allowed=allowed)
    what = f"{len(spared)} of {len(costs)} layers and activations kept in floating point"
    return what, mixed(operators_of(spared))


def _with_floats(refined: ModelProto, graph: ModelProto, floats: tuple[str, ...]) -> ModelProto:
    """The refined graph, in which the layers that stay in floating point have their own weights and biases again."""
    own = {name for node in graph.graph.node for name in node.input if node.name in floats}
    values = {tensor.name: tensor for tensor in graph.graph.initializer if tensor.name in own}
    result = onnx.ModelProto()
    result.CopyFrom(refined)
    for tensor in result.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(values[tensor.name])
    return result
