"""Where training and evaluation run: a GPU when there is one, else the CPU, through Lightning Fabric."""

from __future__ import annotations

import logging
import warnings
from enum import Enum
from typing import TYPE_CHECKING

from edgec.core.errors import ConfigError, unknown_name
from edgec.core.host import this_host

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Accelerator", "open_fabric"]


class Accelerator(str, Enum):
    """What a person may ask for."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    @classmethod
    def named(cls, name: str) -> Accelerator:
        """The accelerator of this name.

        Raises:
            ConfigError: There is none.
        """
        known = {accelerator.value: accelerator for accelerator in cls}
        if name not in known:
            raise unknown_name("device", name, known)
        return known[name]


def open_fabric(accelerator: Accelerator) -> Fabric:
    """Accelerator and precision for the training loops.

    Training mixes in bfloat16 on a GPU or CPU that computes in it; evaluation is in full precision everywhere.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Fabric's import warns of its own deprecations
        from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    if accelerator is Accelerator.CUDA and not torch.cuda.is_available():
        raise ConfigError("--device cuda: there is no CUDA GPU here", hint="use --device auto, or check the driver")
    cuda = accelerator is not Accelerator.CPU and torch.cuda.is_available()
    native = torch.cuda.is_bf16_supported() if cuda else this_host().has_bfloat16
    precision = "bf16-mixed" if native else "32-true"
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=1, precision=precision)
