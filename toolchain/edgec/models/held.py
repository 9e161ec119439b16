"""A module that a program holds, and a digest of what it computes: no file tells the cache what it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.core.digest import digest_bytes, digest_value
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

__all__ = ["HeldModule", "hold"]


@dataclass(frozen=True, kw_only=True)
class HeldModule:
    """A module in memory.

    Attributes:
        module: A copy of it, in evaluation mode on the CPU.
        digest: SHA-256 of what it computes.
    """

    module: nn.Module
    digest: str


def hold(module: nn.Module, spec: InputSpec) -> HeldModule:
    """A copy of a module, with the digest of the program that torch exports of it and of every tensor in that.

    Classes and functions that a module calls may lie anywhere, so their source would not tell all that it depends on.

    Args:
        module: Left as it is.
        spec: What it takes.

    Raises:
        UnsupportedError: torch cannot export it.
    """
    import torch

    held = copy.deepcopy(module).cpu().eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        program = torch.export.export(
            copy.deepcopy(held).float(), (torch.zeros(2, *spec.shape),), dynamic_shapes=shapes
        )
    except (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UnsupportedError(
            f"the module {type(module).__name__} cannot be exported: {why}",
            hint="check model.input, or name a function that makes the module: model.name = 'module:factory'",
        ) from error
    return HeldModule(module=held, digest=_digest(program))


def _digest(program: ExportedProgram) -> str:
    import torch

    code = [part.code for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    tensors = {**program.state_dict, **program.constants}
    values = {name: _of_tensor(value) for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    return digest_value([code, str(program.graph_signature), values])


def _of_tensor(tensor: Tensor) -> list[str]:
    import torch

    plain = tensor.detach().cpu().contiguous()
    return [str(plain.dtype), str(tuple(plain.shape)), digest_bytes(plain.reshape(-1).view(torch.uint8).numpy().data)]
