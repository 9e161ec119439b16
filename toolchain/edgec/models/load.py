"""A teacher from its name and its weights: torchvision or `module:factory`; ONNX files are `models.onnx`'s."""

from __future__ import annotations

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError, unknown_name
from edgec.models.config import ModelConfig
from edgec.models.onnx.kinds import refuse_file
from edgec.models.weights import load_weights_, read_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_module", "load_classifier", "search_current_folder"]


def load_classifier(config: ModelConfig, labels: tuple[str, ...]) -> Classifier:
    """The teacher with its weights, checked on one blank image.

    Raises:
        ConfigError: No such architecture, it cannot be called that way, or it does not give one logit per label.
        DataError: The weights do not fit, or are no numbers; or the name is that of a file of another kind.
    """
    import torch

    refuse_file(config.name)
    if config.weights is None:
        raise ConfigError(f"model '{config.name}' has no weights", hint="give its weights file with --weights")
    module = build_module(config, labels)
    load_weights_(module, read_weights(config.weights), source=str(config.weights))
    module.eval()
    try:
        with torch.inference_mode():
            logits = module(torch.zeros(2, *config.input.shape))
    except (RuntimeError, AssertionError, IndexError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"model '{config.name}' does not take images of {config.input.shape}: {why}",
            hint="set model.input to the size and channels that it was trained with",
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, len(labels)):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ConfigError(
            f"model '{config.name}' gives {got} for two images, expected (2, {len(labels)}): a logit per label",
            hint="check model.labels, or the number of classes in model.arguments",
        )
    step = Step(method="load", facts={"model": config.name})
    return Classifier(module=module, input=config.input, labels=labels, history=(step,))


def build_module(config: ModelConfig, labels: tuple[str, ...]) -> nn.Module:
    """The architecture with whatever weights its function draws.

    Raises:
        ConfigError: No such architecture, or its function does not take these arguments.
    """
    from torch import nn

    source, _, name = config.name.rpartition(":")
    if source in ("", "torchvision"):
        import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            raise unknown_name("torchvision model", name, known)
        factory = partial(torchvision.models.get_model, name, weights=None)
        arguments = {"num_classes": len(labels), **config.arguments}
    else:
        factory, arguments = _factory(source, name), config.arguments
    try:
        module = factory(**arguments)
    except TypeError as error:
        raise ConfigError(f"model '{config.name}': {error}", hint="set model.arguments") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"model '{config.name}' gives a {type(module).__name__}, expected a torch.nn.Module",
            hint="name a function that makes the module",
        )
    return module


def _factory(source: str, name: str) -> Any:
    search_current_folder()
    try:
        return getattr(importlib.import_module(source), name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model '{source}:{name}': no module '{error.name}'",
            hint="run edgec in the folder of the module, or install it",
        ) from error
    except AttributeError as error:
        raise ConfigError(
            f"model '{source}:{name}': module '{source}' has no '{name}'", hint="name a function that makes the module"
        ) from error
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model '{source}:{name}': cannot import '{source}': {error}", hint="try it with: python -c 'import …'"
        ) from error


def search_current_folder() -> None:
    """Lets a `module:factory` lie in the current folder, also where a console script runs."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
