"""A teacher from its name and its weights: torchvision, timm, transformers or `module:factory`."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError, DataError, unknown_name
from edgec.models.config import ZOOS, ModelConfig
from edgec.models.held import HeldModule
from edgec.models.recognise import refuse_file
from edgec.models.weights import load_weights_, names_of, read_weights
from edgec.models.zoos import timm_factory, transformers_factory, with_names_of

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["build_module", "load_classifier", "search_current_folder"]

SAME = 1e-5
"""Share of the largest logit by which two runs on the same images may differ; sums in another order give 1e-6."""


def load_classifier(
    config: ModelConfig,
    labels: tuple[str, ...],
    *,
    held: HeldModule | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Classifier:
    """The teacher with its weights, checked on two images.

    Args:
        config: What is said of it.
        labels: Class names in the order of the outputs.
        held: The module itself, where the program that calls has it; None to make it of its name and its weights.
        note: Told what was done to weights, outputs and numbers; the classifier's first step keeps it, too.

    Raises:
        ConfigError: No such architecture, it cannot be called that way, it does not give one logit per label, or not
            the same ones twice.
        DataError: The weights do not fit, or are no numbers; or the name is that of a file of another kind.
    """
    from edgec.models.outputs import chosen_output

    notes: list[str] = []
    module, state = _from_files(config, labels, notes) if held is None else (copy.deepcopy(held.module), {})
    module = _in_single_precision(module.eval(), state, notes)
    given = _first_answer(module, config)
    module = chosen_output(
        module, given, name=config.name, classes=len(labels), wanted=config.output, note=notes.append
    ).eval()
    module = _with_logits(module, config, labels, notes.append)
    for text in notes:
        note(text)
    step = Step(method="load", facts={"model": config.name, **({"notes": notes} if notes else {})})
    return Classifier(module=module, input=config.input, labels=labels, history=(step,))


def _from_files(
    config: ModelConfig, labels: tuple[str, ...], notes: list[str]
) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """The module that a name makes, with the weights of a file, and these weights as they lie there."""
    refuse_file(config.name)
    _refuse_elsewhere(config)
    if (weights := config.weights_file) is None:
        place = f": '{config.folder}' holds none" if config.folder else ""
        raise ConfigError(f"model '{config.name}' has no weights{place}", hint="give its weights file with --weights")
    module = build_module(config, labels)
    state = read_weights(weights, names=names_of(module), checkpoint=config.checkpoint, note=notes.append)
    load_weights_(module, with_names_of(module, state), source=str(weights))
    return module, state


def _refuse_elsewhere(config: ModelConfig) -> None:
    """Raises DataError for the name of a model on a hub: nothing is downloaded."""
    zoo, _, place = config.name.rpartition(":")
    on_a_hub = "/" in place and config.folder is None and zoo.partition(":")[0] in ("", *ZOOS)
    if on_a_hub:
        kind = zoo.partition(":")[0] or "transformers"
        raise DataError(
            f"model '{config.name}': '{place}' is no folder here, and edgec downloads nothing",
            hint=f"fetch it once, as with hf download {place} --local-dir FOLDER, and give --model {kind}:FOLDER",
        )


def _in_single_precision(module: nn.Module, state: Mapping[str, Tensor], notes: list[str]) -> nn.Module:
    """The module in float32, in which it is trained and measured."""
    import torch

    tensors = (*module.state_dict().values(), *state.values())
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in tensors if t.is_floating_point()} - {"float32"})
    if kinds:
        notes.append(f"{' and '.join(kinds)} weights: converted to float32")
    return module.to(torch.float32)


def _first_answer(module: nn.Module, config: ModelConfig) -> object:
    import torch

    from edgec.models.misfits import hint_for_failure

    try:
        with torch.inference_mode():
            return module(torch.zeros(2, *config.input.shape))
    except (RuntimeError, AssertionError, IndexError, TypeError, ValueError, KeyError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"model '{config.name}' does not take images of {config.input.shape}: {why}",
            hint=hint_for_failure(error),
        ) from error


def _with_logits(
    module: nn.Module, config: ModelConfig, labels: tuple[str, ...], note: Callable[[str], None]
) -> nn.Module:
    """The module, if images get one logit per label, the same ones in every run; without a softmax at its end."""
    import torch

    from edgec.models.misfits import as_logits, hint_for_output

    images = torch.randn(2, *config.input.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        first, again = module(images), module(images)
    if not isinstance(first, torch.Tensor) or first.shape != (2, len(labels)):
        got = tuple(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise ConfigError(
            f"model '{config.name}' gives {got} for two images, expected (2, {len(labels)}): a logit per label",
            hint=hint_for_output(first, len(labels)),
        )
    difference = float((first - again).abs().max())
    if difference > SAME * max(1.0, float(first.abs().max())):
        raise ConfigError(
            f"model '{config.name}' is not deterministic in evaluation mode: logits of one image differ by up to "
            f"{difference:.3g} between two runs",
            hint="let it draw in training alone, as in F.dropout(x, training=self.training)",
        )
    return as_logits(module, images, name=config.name, note=note)


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
            raise _unknown_architecture(name, known)
        factory = partial(torchvision.models.get_model, name, weights=None)
        arguments = {"num_classes": len(labels), **config.arguments}
    elif source == "timm" or config.name.startswith("timm:"):
        factory, arguments = timm_factory(config, labels)
    elif source == "transformers" or config.name.startswith("transformers:"):
        factory, arguments = transformers_factory(config)
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


def _unknown_architecture(name: str, known: list[str]) -> ConfigError:
    """Of a name that torchvision does not have: other libraries may."""
    error = unknown_name("torchvision model", name, known)
    if name.lower().startswith("yolo"):
        error.hint = f"export it: yolo export model={name}.pt format=onnx; then give --model {name}.onnx"
    elif find_spec("timm") is not None and importlib.import_module("timm").is_model(name):
        error.hint = f"timm has it: --model timm:{name}"
    return error


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
