"""What a person says about the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from edgec.core.inputs import InputSpec

__all__ = ["ZOOS", "ModelConfig", "is_onnx_file"]

ZOOS = ("timm", "transformers")
"""Libraries of models, whose folders on disk can be named."""


class ModelConfig(BaseModel):
    """The teacher.

    Attributes:
        name: `torchvision:NAME` (or the bare name), `timm:NAME` or `timm:FOLDER`, `transformers:FOLDER`,
            `package.module:factory`, or the path of an `.onnx` file.
        weights: A `.safetensors` or `.pt` file; not for ONNX, which carries its own, nor for a folder that holds them.
        checkpoint: Which of several states in the weights file is meant, as in `state_dict_ema`.
        output: Which of several outputs holds the logits: keys and positions with dots between.
        arguments: Keyword arguments for the architecture's function.
        labels: Class names in the order of the outputs; the training data's classes where they are not given.
        input: Image size and normalisation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: Path | None = None
    checkpoint: str | None = None
    output: str | None = None
    arguments: dict[str, Any] = {}
    labels: tuple[str, ...] | None = None
    input: InputSpec

    @field_validator("output", mode="before")
    @classmethod
    def _position(cls, value: object) -> object:
        """A position may be given as a number."""
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    @property
    def is_onnx(self) -> bool:
        """Whether the teacher is an exported graph, which cannot be pruned or trained."""
        return is_onnx_file(self.name)

    @property
    def folder(self) -> Path | None:
        """The folder with the config of a model of timm or transformers, where the name is that of one."""
        zoo, _, place = self.name.partition(":")
        return Path(place) if zoo in ZOOS and Path(place).is_dir() else None

    @property
    def weights_file(self) -> Path | None:
        """The weights: those given, else those that lie in the model's folder."""
        if self.weights is not None or self.folder is None:
            return self.weights
        found = (self.folder / name for name in ("model.safetensors", "pytorch_model.bin"))
        return next((path for path in found if path.is_file()), None)


def is_onnx_file(name: str) -> bool:
    """Whether a model's name is that of an exported graph."""
    return name.endswith(".onnx")
