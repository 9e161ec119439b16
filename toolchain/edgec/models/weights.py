"""Weights in and out of files, without ever running code that lies in one."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.core.errors import DataError
from edgec.models.presets import is_weights_enum

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["load_weights_", "read_weights"]

PREFIXES = ("module.", "model.")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, of a `.pt` or `.pth` read with `weights_only=True`, or torchvision's own.

    A checkpoint that keeps its tensors under `state_dict` or `model` is unwrapped.

    Raises:
        DataError: No such file, not such a file, a pickle that holds more than tensors, or NaN in a tensor.
    """
    import torch

    if is_weights_enum(path):
        return _torchvision_weights(str(path))
    if not path.is_file():
        raise DataError(f"no weights file '{path}'", hint="give the path of a .safetensors or .pt file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_checkpoint(path)
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"weights '{path}': tensor '{name}' holds NaN or infinity", hint="train or save it again")
    return state


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


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pickle protocols and sparse tensors, which no user can act on
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"weights '{path}': holds more than tensors, and edgec runs no code from a file",
            hint="save the state alone: torch.save(model.state_dict(), path), or use safetensors",
        ) from error
    except (RuntimeError, OSError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise DataError(f"weights '{path}': not a torch checkpoint", hint="save it again") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise DataError(f"weights '{path}': expected names with tensors", hint="save model.state_dict()")
    return content


def load_weights_(module: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Copies tensors into a module, names without the `module.` that data-parallel training puts before them.

    Raises:
        DataError: A tensor is missing, unknown or of another shape.
    """
    expected = module.state_dict()
    for prefix in PREFIXES:
        if not expected.keys() & state.keys() and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    missing = sorted(set(expected) - set(state) - {n for n in expected if n.endswith("num_batches_tracked")})
    unknown = sorted(set(state) - set(expected))
    if missing or unknown:
        what = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which the model has not"
        more = len(missing) + len(unknown) - 1
        raise DataError(
            f"weights '{source}' do not fit the model: the file {what}" + (f" (and {more} more)" if more else ""),
            hint="check that --model names the architecture that these weights were trained with",
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise DataError(
                f"weights '{source}': '{name}' is {tuple(tensor.shape)}, the model expects "
                f"{tuple(expected[name].shape)}",
                hint="check the architecture and its number of classes",
            )
    module.load_state_dict({**expected, **state})
