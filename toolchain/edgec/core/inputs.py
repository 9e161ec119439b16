"""What a model takes: image size, channels, and how pixels become numbers."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from typing_extensions import Self

__all__ = ["InputSpec", "normalise"]


class InputSpec(BaseModel):
    """The images that a classifier takes. `mean` and `std` are of pixels scaled to [0, 1], a value per channel."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"image size {self.height}x{self.width}: expected positive numbers")
        if self.channels not in (1, 3):
            raise ValueError(f"{self.channels} channels: expected 1 (grey) or 3 (RGB)")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values, got {len(self.mean)} and {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std}: expected positive numbers")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width


def normalise(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """uint8 [n, height, width, channels] to float32 [n, channels, height, width]: (x / 255 - mean) / std."""
    scale = np.asarray([1 / (255 * s) for s in spec.std], dtype=np.float32)
    shift = np.asarray([-m / s for m, s in zip(spec.mean, spec.std, strict=True)], dtype=np.float32)
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return planes * scale[:, None, None] + shift[:, None, None]
