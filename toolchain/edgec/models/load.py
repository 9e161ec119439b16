"""A teacher from its name and its weights: torchvision, `module:factory`, or an ONNX file."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError, DataError, unknown_name
from edgec.core.inputs import InputSpec
from edgec.models.config import ModelConfig
from edgec.models.weights import load_weights_, read_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["OnnxModel", "build_module", "load_classifier", "load_onnx", "search_current_folder"]


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """An exported teacher: float32 [n, channels, height, width], normalised, to logits [n, classes]."""

    path: Path
    input: InputSpec
    labels: tuple[str, ...]


def load_classifier(config: ModelConfig, labels: tuple[str, ...]) -> Classifier:
    """The teacher with its weights, checked on one blank image.

    Raises:
        ConfigError: No such architecture, it cannot be called that way, or it does not give one logit per label.
        DataError: The weights do not fit, or are no numbers.
    """
    import torch

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


def load_onnx(config: ModelConfig, labels: tuple[str, ...]) -> OnnxModel:
    """The exported teacher, checked: one float32 image batch in, a logit per label out.

    Raises:
        DataError: No such file, or not an ONNX model.
        ConfigError: Other inputs or outputs than expected.
    """
    import onnx
    from google.protobuf.message import DecodeError

    path = Path(config.name)
    if not path.is_file():
        raise DataError(f"no model file '{path}'", hint="give the path of an .onnx file")
    try:
        graph = onnx.load(path).graph
        onnx.checker.check_model(path)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise DataError(f"model '{path}': not a valid ONNX file", hint="export it again") from error
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ConfigError(
            f"model '{path}': {len(inputs)} inputs and {len(graph.output)} outputs, expected one each",
            hint="export it with one batch of images in and their logits out",
        )
    taken, given = inputs[0].type.tensor_type, graph.output[0].type.tensor_type
    shape, logits = ([d.dim_value for d in value.shape.dim] for value in (taken, given))
    kind = onnx.TensorProto.DataType.Name(taken.elem_type).lower()
    fits = tuple(shape[1:]) == config.input.shape and len(logits) == 2 and logits[1] in (0, len(labels))
    if kind != "float" or not fits:
        raise ConfigError(
            f"model '{path}': takes {kind} {shape[1:]} and gives {logits[1:]} an image, "
            f"expected float {list(config.input.shape)} and [{len(labels)}]",
            hint="set model.input and model.labels to what it was exported with",
        )
    return OnnxModel(path=path, input=config.input, labels=labels)
