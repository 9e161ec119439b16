"""A further teacher beside the one that is compressed: it takes the same images, and answers in the same classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from edgec.core.errors import ConfigError
from edgec.core.inputs import InputSpec
from edgec.models.config import ModelConfig
from edgec.models.load import load_classifier
from edgec.models.onnx.load import OnnxModel, load_onnx
from edgec.models.own_labels import own_labels

__all__ = ["Further", "Translated", "load_further"]


@dataclass(frozen=True, kw_only=True)
class Further:
    """A further teacher.

    Attributes:
        name: As the config has it.
        module: From the images of the model that is compressed to logits of its classes, in its order.
        labels: The classes that the teacher itself knows, in the order of its outputs.
    """

    name: str
    module: nn.Module
    labels: tuple[str, ...]


def load_further(
    config: ModelConfig, spec: InputSpec, labels: tuple[str, ...], *, note: Callable[[str], None]
) -> Further:
    """A further teacher with its weights.

    Args:
        config: What is said of it.
        spec: The images of the model that is compressed.
        labels: Its classes.
        note: Told what was done to weights, outputs and numbers, and which classes are left out.

    Raises:
        ConfigError: As `load_classifier`, or a class is missing.
        DataError: As `load_classifier`.
        UnsupportedError: As `load_onnx`.
    """
    known = config.labels or own_labels(config) or labels
    positions = _positions(known, labels, config.name)

    def say(text: str) -> None:
        note(f"further teacher '{config.name}': {text}")

    if config.is_onnx:
        graph = load_onnx(config, known)
        for text in graph.told:
            say(text)
        module: nn.Module = _Graph(graph)
    else:
        module = load_classifier(config, known, note=say).module
    if others := [name for name in known if name not in labels]:
        say(f"its outputs for {', '.join(others)} are left out, since the model has no such class")
    return Further(name=config.name, module=Translated(module, config.input, spec, positions).eval(), labels=known)


def _positions(known: Sequence[str], labels: Sequence[str], name: str) -> list[int]:
    """Of the model's classes, in order, among a further teacher's outputs."""
    wrong = next((label for label in labels if list(known).count(label) != 1), None)
    if wrong is not None:
        what = "several outputs" if wrong in known else "no output"
        raise ConfigError(
            f"model.also: '{name}' has {what} for class '{wrong}'; it knows {', '.join(known)}",
            hint=f"set its labels, in the order of its outputs; the model's classes are {', '.join(labels)}",
        )
    return [list(known).index(label) for label in labels]


class Translated(nn.Module):
    """A classifier that is shown another one's images, and answers in the other one's classes.

    Channels are put in its order and normalised as it wants them; images of another size are scaled, bilinearly and
    filtered.

    Args:
        module: From its own images to logits of its own classes.
        own: The images that it takes.
        given: The images that it is given.
        positions: Of the other one's classes among its outputs.
    """

    _factor: Tensor
    _offset: Tensor
    _positions: Tensor

    def __init__(self, module: nn.Module, own: InputSpec, given: InputSpec, positions: Sequence[int]) -> None:
        super().__init__()
        self.module = module
        self._flips = own.channel_order != given.channel_order
        self._size = None if own.shape == given.shape else (own.height, own.width)
        order = -1 if self._flips else 1
        pairs = [(spec.scale[::step], spec.shift[::step]) for spec, step in ((own, 1), (given, order))]
        (scale, shift), (before, moved) = (map(torch.tensor, pair) for pair in pairs)
        self.register_buffer("_factor", (scale / before)[:, None, None], persistent=False)
        self.register_buffer("_offset", (shift - moved * (scale / before))[:, None, None], persistent=False)
        self.register_buffer("_positions", torch.tensor(positions), persistent=False)

    def forward(self, images: Float[Tensor, "n channel height width"]) -> Float[Tensor, "n class"]:
        """Logits of the other one's classes."""
        own = (images.flip(1) if self._flips else images) * self._factor + self._offset
        if self._size is not None:
            own = F.interpolate(own, size=self._size, mode="bilinear", antialias=True, align_corners=False)
        return self.module(own)[:, self._positions]


class _Graph(nn.Module):
    """A classifier that was given as a graph, run by onnxruntime: nothing is learned through it."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        from edgec.runtime import Session

        spec = model.input
        self._raw = model.raw
        self._scale, self._shift = (torch.tensor(values)[:, None, None] for values in (spec.scale, spec.shift))
        self._session = Session(model.proto.SerializeToString(), spec, preprocessing_in_graph=model.raw)

    def forward(self, images: Tensor) -> Tensor:
        inputs = images.detach().float().cpu()
        if self._raw:
            inputs = (inputs - self._shift) / self._scale
        return torch.from_numpy(self._session.logits(inputs.numpy())).to(images.device)
