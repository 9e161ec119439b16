"""Weights in and out of files, without ever running code that lies in one."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.errors import DataError
from edgec.models.presets import is_weights_enum
from edgec.models.recognise import is_safetensors, require_weights
from edgec.models.unwrap import find_state, states_in

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["load_weights_", "names_of", "read_weights"]


def read_weights(
    path: Path,
    *,
    names: Collection[str] = (),
    checkpoint: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, of a torch checkpoint read with `weights_only=True`, or torchvision's own.

    Args:
        path: The file; its content says what it is, whatever its name ends with.
        names: What the model's tensors are called: `names_of`. With them, a state is found under any key and prefix.
        checkpoint: Which state is meant, where several fit.
        note: Told what was unwrapped.

    Raises:
        ConfigError: Several states fit, or none is named `checkpoint`.
        DataError: No such file, not such a file, a pickle that holds more than tensors, or NaN in a tensor.
    """
    import torch

    if is_weights_enum(path):
        return _torchvision_weights(str(path))
    if not path.is_file():
        raise DataError(f"no weights file '{path}'", hint="give the path of a .safetensors or .pt file")
    require_weights(path)
    by_name = path.suffix == ".safetensors" and not zipfile.is_zipfile(path)
    content = _read_safetensors(path) if by_name or is_safetensors(path) else _read_checkpoint(path)
    states = states_in(content) or ({"": {}} if by_name else {})
    state = find_state(states, names, source=str(path), checkpoint=checkpoint, note=note)
    for name, tensor in state.items():
        if tensor.is_quantized:
            raise DataError(f"weights '{path}': '{name}' is {tensor.dtype}", hint="give the weights before quantising")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"weights '{path}': tensor '{name}' holds NaN or infinity", hint="train or save it again")
    return state


def names_of(module: nn.Module) -> frozenset[str]:
    """Names of the tensors that a module does not work without; old checkpoints have no counters of batches."""
    return frozenset(name for name in module.state_dict() if not name.endswith("num_batches_tracked"))


def _torchvision_weights(name: str) -> dict[str, Tensor]:
    """From torch's cache, or from where torchvision keeps them; their file's name ends in its digest."""
    import torchvision

    try:
        weights = torchvision.models.get_weight(name.removeprefix("torchvision:"))
        return dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"torchvision weights '{name}' cannot be fetched: {error}",
            hint="connect to the network once, or save them elsewhere and give their file with --weights",
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"weights '{path}': not a safetensors file ({error})", hint="save it again") from error


def _read_checkpoint(path: Path) -> object:
    import torch

    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(_plain_values()),
            path.open("rb") as file,  # from its path torch would tell the kind by the name's ending
        ):
            warnings.simplefilter("ignore")  # pickle protocols and sparse tensors, which no user can act on
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        held = f" ({found[1]})" if found else ""
        hint = "save the state alone: torch.save(model.state_dict(), path), or use safetensors"
        raise DataError(
            f"weights '{path}': holds more than tensors{held}, and edgec runs no code from a file", hint=hint
        ) from error
    except (RuntimeError, OSError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise DataError(f"weights '{path}': not a torch checkpoint", hint="save it again") from error


def _plain_values() -> list[Any]:
    """Classes that training scripts leave beside the weights, and that hold values alone: arguments, paths, scalars."""
    import numpy as np

    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")}
    return [argparse.Namespace, pathlib.PosixPath, np.float64(0).__reduce__()[0], np.dtype, *kinds]


def load_weights_(module: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Copies tensors into a module.

    Raises:
        DataError: A tensor is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    missing = sorted(names_of(module) - set(state))
    unknown = sorted(set(state) - set(expected))
    if missing or unknown:
        what = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which the model has not"
        more = len(missing) + len(unknown) - 1
        raise DataError(
            f"weights '{source}' do not fit the model: the file {what}" + (f" (and {more} more)" if more else ""),
            hint="check that --model names the architecture that these weights were trained with",
        )
    _require_shapes(state, expected, source)
    full = OrderedDict({**expected, **state})
    vars(full).update(vars(expected))  # the versions of layers, which some of them ask for
    module.load_state_dict(full)


def _require_shapes(state: dict[str, Tensor], expected: dict[str, Tensor], source: str) -> None:
    """Raises DataError where a tensor has another shape; one in the first size of the head alone is about classes."""
    others = [name for name, tensor in state.items() if tensor.shape != expected[name].shape]
    if not others:
        return
    got, wanted = ([tuple(of[name].shape) for name in others] for of in (state, expected))
    outputs = {(g[:1], w[:1]) for g, w in zip(got, wanted, strict=True) if g[1:] == w[1:]}
    hint = "check the architecture and its arguments (model.arguments)"
    if len(outputs) == 1 and all(g[1:] == w[1:] for g, w in zip(got, wanted, strict=True)):
        ((have,), (need,)) = outputs.pop()
        hint = (
            f"the file's head has {have} outputs, the model's {need}: set the number of classes that it was trained "
            f"with, as in --set model.arguments.num_classes={have}, and name them all in model.labels"
        )
    raise DataError(f"weights '{source}': '{others[0]}' is {got[0]}, the model expects {wanted[0]}", hint=hint)
