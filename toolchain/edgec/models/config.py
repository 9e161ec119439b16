"""What a person says about the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from edgec.core.inputs import InputSpec

__all__ = ["ModelConfig", "is_onnx_file"]


class ModelConfig(BaseModel):
    """The teacher.

    Attributes:
        name: `torchvision:NAME` (or the bare name), `package.module:factory`, or the path of an `.onnx` file.
        weights: A `.safetensors` or `.pt` file; not for ONNX, which carries its own.
        arguments: Keyword arguments for the architecture's function.
        labels: Class names in the order of the outputs; the training data's classes where they are not given.
        input: Image size and normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: Path | None = None
    arguments: dict[str, Any] = {}
    labels: tuple[str, ...] | None = None
    input: InputSpec

    @property
    def is_onnx(self) -> bool:
        """Whether the teacher is an exported graph, which cannot be pruned or trained."""
        return is_onnx_file(self.name)


def is_onnx_file(name: str) -> bool:
    """Whether a model's name is that of an exported graph."""
    return name.endswith(".onnx")
