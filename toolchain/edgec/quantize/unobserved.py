"""A graph in a target's number formats before any range is known: what it answers is wrong, what it takes is not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgec.calibrate import Ranges, place, prepare
from edgec.quantize.quantize import quantize_model

if TYPE_CHECKING:
    from edgec.core.target import Target

__all__ = ["quantize_unobserved"]


def quantize_unobserved(model: Path, target: Target, *, output: Path) -> None:
    """Writes the model in the target's scheme with every range from -1 to 1, so that its latency can be predicted.

    Args:
        model: FP32 ONNX.
        target: Decides scheme, placement and granularity.
        output: The file to write.

    Raises:
        UnsupportedError: As `quantize_model`.
    """
    tensors: tuple[str, ...] = ()
    if target.quantization.scheme.is_int8:
        placement = place(prepare(model), target)
        tensors = (*placement.tensors, *placement.shared)
    quantize_model(model, Ranges(bounds=dict.fromkeys(tensors, (-1.0, 1.0))), target, output=output)
