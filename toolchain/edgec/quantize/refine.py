"""What brings a quantised net nearer to what it was: step after step, each with its effect on the worst class."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import Tensor

from edgec.calibrate import Ranges, prepare
from edgec.compress.distill import Pool
from edgec.core.files import write_bytes
from edgec.core.progress import Progress
from edgec.quantize.config import QuantizeConfig
from edgec.quantize.equalize import equalized
from edgec.quantize.network import Network
from edgec.quantize.rounding import Weighed, correct_biases_, round_weights_
from edgec.quantize.sensitivity import (
    LayerCost,
    changed_by_class,
    divergence_by_class,
    layer_costs,
    layers_to_spare,
    logits_of,
)
from edgec.quantize.training import train_

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.core.target import Target

__all__ = ["Effect", "Material", "Refined", "refine"]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What refining learns from; none of it is a test image. Images are what the graph takes.

    Attributes:
        calibration: The calibration set with its weights.
        pools: Few samples and OOD images, each with the chances under which every class has the same say.
        teacher: From images to logits.
    """

    calibration: Weighed
    pools: tuple[Pool, Pool | None]
    teacher: Callable[[Tensor], Tensor]

    @property
    def images(self) -> Tensor:
        """All few samples and OOD images: what effects and costs are judged on."""
        return torch.cat([pool.images for pool in self.pools if pool is not None])


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a step did: the divergence from the floating-point graph, in nat, of the class that suffers most."""

    what: str
    worst_class_divergence_before: float
    worst_class_divergence_after: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Refined:
    """A graph to quantise, and how.

    Attributes:
        model: Floating-point graph whose weights lie on their grids.
        ranges: Of activations and weights, and which layers stay in floating point.
        effects: Step by step.
        costs: Layer by layer, where they were asked for.
        logits: float64 [n, class], what the refined net says of all images that it was judged on.
    """

    model: ModelProto
    ranges: Ranges
    effects: tuple[Effect, ...]
    costs: tuple[LayerCost, ...]
    logits: np.ndarray


class _Watch:
    """Takes down what every step does to the worst class."""

    def __init__(self, reference: np.ndarray, images: Tensor) -> None:
        self._reference, self._images = reference, images
        self.effects: list[Effect] = []
        self._last = float("nan")

    def start(self, network: Network) -> None:
        self._last = self._worst(network)

    def note(self, what: str, network: Network, started: float) -> None:
        before, self._last = self._last, self._worst(network)
        self.effects.append(
            Effect(
                what=what,
                worst_class_divergence_before=before,
                worst_class_divergence_after=self._last,
                seconds=time.perf_counter() - started,
            )
        )

    def _worst(self, network: Network) -> float:
        return float(divergence_by_class(self._reference, logits_of(network, self._images)).max())


def refine(
    model: Path,
    ranges: Ranges,
    target: Target,
    material: Material,
    config: QuantizeConfig,
    *,
    observe: Callable[[Path], Ranges],
    work: Path,
    device: torch.device,
    generator: torch.Generator,
    progress: Progress,
) -> Refined:
    """Equalises, rounds, corrects biases, trains and spares layers, as far as the settings ask for it.

    Args:
        model: FP32 ONNX.
        ranges: As they were calibrated.
        target: Its scheme is an int8 one.
        material: Images.
        config: Which steps.
        observe: Calibrates another graph in the same way.
        work: An empty folder.
        device: Where training runs.
        generator: Of training.
        progress: Told about every step.

    Raises:
        UnsupportedError: The graph has an operator that torch cannot run here.
        ConfigError: Training diverged.
    """
    graph = prepare(model)
    network = Network(graph, ranges, target)
    reference = logits_of(lambda batch: network.run(batch, only=())[network.output], material.images)
    watch = _Watch(reference, material.images)
    watch.start(network)
    if config.equalize:
        started = time.perf_counter()
        graph, pairs = equalized(graph)
        write_bytes(work / "equalized.onnx", graph.SerializeToString(deterministic=True))
        ranges = observe(work / "equalized.onnx")
        network = Network(graph, ranges, target)
        watch.note(f"cross-layer equalisation of {pairs} pairs", network, started)
    for what, step in _steps(network, material, config, target, device=device, generator=generator, progress=progress):
        started = time.perf_counter()
        step()
        watch.note(what, network, started)
    refined, ranges = network.quantizable()
    costs: tuple[LayerCost, ...] = ()
    if config.sensitivity or config.mixed_precision is not None:
        costs = tuple(layer_costs(network, material.images, progress=progress))
    if config.mixed_precision is not None:
        started = time.perf_counter()

        def mixed(floats: tuple[str, ...]) -> Network:
            return Network(_with_floats(refined, graph, floats), replace(ranges, floats=floats), target)

        def changed(floats: tuple[str, ...]) -> np.ndarray:
            return changed_by_class(reference, logits_of(mixed(floats), material.images))

        floats = layers_to_spare(costs, changed, allowed=config.mixed_precision)
        network = mixed(floats)
        watch.note(f"{len(floats)} of {len(costs)} layers kept in floating point", network, started)
        refined, ranges = _with_floats(refined, graph, floats), replace(ranges, floats=floats)
    return Refined(
        model=refined,
        ranges=ranges,
        effects=tuple(watch.effects),
        costs=costs,
        logits=logits_of(network, material.images),
    )


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


def _steps(
    network: Network,
    material: Material,
    config: QuantizeConfig,
    target: Target,
    *,
    device: torch.device,
    generator: torch.Generator,
    progress: Progress,
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The steps that change weights, biases and ranges, in the order in which they build on each other."""
    original = {layer.name: network.constant(layer.weight).clone() for layer in network.layers}
    if config.compensates(target):
        yield "compensated rounding", lambda: round_weights_(network, material.calibration, progress=progress)
    if config.corrects_biases(target):
        yield "bias correction", lambda: correct_biases_(network, original, material.calibration, progress=progress)
    if config.train:
        yield (
            f"{config.training.steps} steps of training",
            lambda: train_(
                network,
                material.teacher,
                material.pools,
                config.training,
                device=device,
                generator=generator,
                progress=progress,
            ),
        )
