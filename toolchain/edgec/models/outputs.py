"""One tensor of logits out of what a module gives: tuples, dicts, lists, the `ModelOutput` of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from edgec.core.errors import ConfigError
from edgec.models.misfits import hint_for_output

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OneOutput", "chosen_output"]

Path = tuple[str | int, ...]


class OneOutput(nn.Module):
    """A module of which one output is wanted.

    Args:
        net: The module.
        path: Keys and positions, from the outermost on.
    """

    def __init__(self, net: nn.Module, path: Path) -> None:
        super().__init__()
        self.net, self.path = net, path

    def forward(self, images: Tensor) -> Tensor:
        """The one output."""
        found: Any = self.net(images)
        for key in self.path:
            found = found[key]
        return found


def chosen_output(
    module: nn.Module, given: object, *, name: str, classes: int, wanted: str | None, note: Callable[[str], None]
) -> nn.Module:
    """The module itself where it gives one tensor; else one that gives the tensor that is named or has K columns.

    Args:
        module: The net.
        given: What it gives for some images.
        name: The model's, for errors.
        classes: K.
        wanted: `model.output`: keys and positions with dots between, as in `logits` or `1.0`.
        note: Told which of several was taken.

    Raises:
        ConfigError: Several have K columns, none of many has, or none is called `wanted`.
    """
    if isinstance(given, torch.Tensor) and wanted is None:
        return module
    outputs = dict(_tensors(given, ()))
    names = {".".join(map(str, path)): path for path in outputs}
    listed = ", ".join(f"{each or 'the whole'} {list(outputs[path].shape)}" for each, path in names.items())
    if wanted is not None:
        if wanted not in names:
            raise ConfigError(
                f"model '{name}' has no output '{wanted}'; for two images it gives {listed}", hint="set model.output"
            )
        return OneOutput(module, names[wanted]) if names[wanted] else module
    fits = [each for each, path in names.items() if tuple(outputs[path].shape[1:]) == (classes,)]
    if len(fits) > 1:
        raise ConfigError(
            f"model '{name}' has {len(fits)} outputs with {classes} columns: for two images it gives {listed}",
            hint=f"name the one with the logits: --set model.output={fits[0]}",
        )
    if not fits and isinstance(given, torch.Tensor):
        return module
    if not fits:
        raise ConfigError(
            f"model '{name}' has no output for {classes} labels; for two images it gives {listed}",
            hint=hint_for_output(given, classes),
        )
    note(f"model '{name}' gives {listed}: the logits are taken from '{fits[0]}'")
    return OneOutput(module, names[fits[0]])


def _tensors(given: object, path: Path) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(given, torch.Tensor):
        yield path, given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from _tensors(value, (*path, key))
    elif isinstance(given, tuple | list):
        for position, value in enumerate(given):
            yield from _tensors(value, (*path, position))
