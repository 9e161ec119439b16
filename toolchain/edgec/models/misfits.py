"""What to do about a module that does not answer images with logits, by kind of cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from edgec.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["as_logits", "hint_for_failure", "hint_for_output"]

_ENDINGS: tuple[tuple[type[nn.Module], Callable[[Tensor], Tensor]], ...] = (
    (nn.Softmax, lambda logits: logits.softmax(dim=-1)),
    (nn.Sigmoid, torch.sigmoid),
)
"""Layers that turn logits into probabilities, and what they do."""
_SUMS_TO_1 = 1e-3
_STRETCH = 100
"""Images that much stronger drive logits out of any bounds."""


def as_logits(module: nn.Module, images: Tensor, *, name: str, note: Callable[[str], None]) -> nn.Module:
    """The module without a softmax or a sigmoid at its end, which would be taken twice.

    Args:
        module: Gives one tensor; a layer that is left out is replaced in it.
        images: Two or more, to see what it gives.
        name: The model's, for errors.
        note: Told which layer was left out, or that there seems to be a sigmoid that is none.

    Raises:
        ConfigError: It gives probabilities, and not by a layer that could be left out.
    """
    with torch.inference_mode():
        given = module(images)
        if not _are_shares(given):
            return module
        for path, layer in reversed(list(module.named_modules())):
            undone = next((does for kind, does in _ENDINGS if path and isinstance(layer, kind)), None)
            if undone is None:
                continue
            module.set_submodule(path, nn.Identity())
            bare = module(images)
            if not torch.equal(bare, given) and torch.allclose(undone(bare), given, atol=1e-5):
                note(f"model '{name}': its final {type(layer).__name__.lower()} '{path}' is left out, to have logits")
                return module
            module.set_submodule(path, layer)
    sums = given.sum(dim=1)
    if bool(((sums - 1).abs() < _SUMS_TO_1).all()):
        raise ConfigError(
            f"model '{name}' gives probabilities, rows that sum to 1, expected logits",
            hint="leave the softmax out of its forward: return what the softmax takes",
        )
    with torch.inference_mode():
        bounded = _are_shares(module(_STRETCH * images))
    if bounded:
        note(
            f"model '{name}': its outputs are all from 0 to 1, for images a hundred times as strong too: if its "
            "forward ends in a sigmoid, return what the sigmoid takes, since recovery and confidences need logits"
        )
    return module


def _are_shares(given: Tensor) -> bool:
    return bool(((given >= 0) & (given <= 1)).all())


def hint_for_output(given: object, classes: int) -> str:
    """What to do where two images do not give [2, classes]."""
    if not isinstance(given, torch.Tensor):
        if isinstance(given, Mapping) and {"last_hidden_state", "pooler_output"} & given.keys():
            return "it has no head for classes: save an AutoModelForImageClassification, not an AutoModel"
        return (
            f"check model.labels, which name {classes} classes, or the number of classes in model.arguments; or let "
            "its forward return the logits"
        )
    shape = tuple(given.shape[1:])
    if shape == (1,) and classes == 2:
        return "let its forward give two logits: torch.cat([torch.zeros_like(logit), logit], dim=1)"
    if len(shape) > 1 and shape.count(1) == len(shape) - 1:
        return "let its forward flatten them: return logits.flatten(1)"
    if len(shape) > 1:
        return "edgec takes classifiers of whole images: these are boxes, maps or features, as of a detector"
    return (
        f"check model.labels, which name {classes} classes, or the number of classes in model.arguments"
        if shape
        else "let its forward return a row of logits for each image"
    )


def hint_for_failure(error: Exception) -> str:
    """What to do where a module fails on images of the size that the config says."""
    text = str(error)
    if isinstance(error, TypeError) and "argument" in text:
        return "let its forward take the images alone, with defaults for what else it takes"
    if any(word in text for word in ("Half", "BFloat16", "Double", "dtype")):
        return "let its forward cast nothing: edgec runs it in float32"
    if "cuda" in text.lower():
        return "let its forward move nothing to a GPU: edgec places it"
    return "set model.input to the size and channels that it was trained with"
