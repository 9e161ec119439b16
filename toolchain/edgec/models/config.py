"""What a person says about the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from edgec.core.inputs import InputSpec

__all__ = ["ModelConfig", "Opsets", "is_onnx_file"]


class Opsets(NamedTuple):
    """Operator sets of ONNX: the oldest that a build works on, and the newest that its target reads; None for any."""

    least: int = 13
    most: int | None = None


class ModelConfig(BaseModel):
    """The teacher.

    Attributes:
        name: `torchvision:NAME` (or the bare name), `package.module:factory`, or the path of an `.onnx` file.
        weights: A `.safetensors` or `.pt` file; not for ONNX, which carries its own.
        arguments: Keyword arguments for the architecture's function.
        output: Of an ONNX file with several outputs, the name of the classes'; where it is not given, the only one with
            a number for each class.
        labels: Class names in the order of the outputs; the training data's classes where they are not given.
        input: Image size and normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: Path | None = None
    arguments: dict[str, Any] = {}
    output: str | None = None
    labels: tuple[str, ...] | None = None
    input: InputSpec

    @property
    def is_onnx(self) -> bool:
        """Whether the teacher is an exported graph, which cannot be pruned or trained."""
        return is_onnx_file(self.name)


def is_onnx_file(name: str) -> bool:
    """Whether a model's name is that of an exported graph."""
    return name.lower().endswith(".onnx")
