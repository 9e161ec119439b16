"""What a model takes: image size, how pictures are brought to it, and how pixels become numbers."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = ["InputSpec", "Interpolation", "Resize", "normalise"]

Resize = Literal["fit", "short-side", "squash", "letterbox", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Level = Annotated[int, Field(ge=0, le=255)]


class InputSpec(BaseModel):
    """The images that a classifier takes, as it saw them in training.

    Attributes:
        height: Of the input, in pixels.
        width: Likewise.
        channels: 3 for colour, 1 for grey.
        mean: Taken off the values, one per channel in the order of `channel_order`.
        std: What they are divided by then, likewise.
        value_range: What `mean` and `std` are of: pixels scaled to `0-1`, or as they are, `0-255`.
        channel_order: In which order the model takes the channels; `bgr` for models of OpenCV or Caffe.
        resize: How a picture of another size is brought to height and width: `fit` cuts out the largest centred part of
            the model's proportions and scales it; `short-side` scales until the shorter side fits, then crops around
            the centre (Resize and CenterCrop); `squash` scales both sides to fit; `letterbox` scales until the longer
            side fits, then pads; `none` crops and pads alone. `short-side` where `crop_share` is given, else `fit`.
        crop_share: Scaled is to this share more than what is cropped: 0.875 for Resize(256) and CenterCrop(224). The
            sides that are scaled to are rounded down.
        crop_rounding: Where a crop begins that cannot be centred: at the `nearest` pixel, even of two, as torchvision
            and timm have it, or rounded `down`, as transformers does.
        interpolation: Of the scaling; filters as Pillow has them.
        antialias: Whether a picture that is made smaller is filtered; false for OpenCV's and TensorFlow's `bilinear`
            and `bicubic`, which read two or four pixels a side whatever lies between.
        bits: Used of the 16 in grey files, 10 or 12 for many cameras; where it is not given all 16, which a set's
            brightest image must need.
        exif: Whether the camera's orientation is respected.
        fill: Level from 0 to 255 of what is padded, in red, green and blue, or one for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: int
    width: int
    channels: int = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    value_range: Literal["0-1", "0-255"] = "0-1"
    channel_order: Literal["rgb", "bgr"] = "rgb"
    resize: Resize = "fit"
    crop_share: float = Field(default=1.0, gt=0, le=1)
    crop_rounding: Literal["nearest", "down"] = "nearest"
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    bits: int | None = Field(default=None, ge=8, le=16)
    exif: bool = True
    fill: Level | tuple[Level, ...] = 0

    @model_validator(mode="after")
    def _cropped_from_the_short_side(self) -> Self:
        """Set afterwards: what looks at the values before would cost a manifest the strict reading of its JSON."""
        if "crop_share" in self.model_fields_set and "resize" not in self.model_fields_set:
            object.__setattr__(self, "resize", "short-side")
            self.model_fields_set.add("resize")
        return self

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

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.resize in ("fit", "none") and self.crop_share != 1:
            raise ValueError(f"crop_share {self.crop_share:g} with resize '{self.resize}': expected 'short-side'")
        if not self.antialias and self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise ValueError(f"antialias false with '{self.interpolation}': expected 'bilinear' or 'bicubic'")
        if not isinstance(self.fill, int) and len(self.fill) not in (1, self.channels):
            raise ValueError(f"fill needs 1 or {self.channels} values, got {len(self.fill)}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self.channels, self.height, self.width

    @property
    def fill_levels(self) -> tuple[int, ...]:
        """`fill`, one level per channel."""
        levels = (self.fill,) if isinstance(self.fill, int) else self.fill
        return levels if len(levels) == self.channels else levels * self.channels

    @property
    def scale(self) -> tuple[float, ...]:
        """What a pixel from 0 to 255 is multiplied by, per channel."""
        most = 255 if self.value_range == "0-1" else 1
        return tuple(1 / (most * std) for std in self.std)

    @property
    def shift(self) -> tuple[float, ...]:
        """What is added then."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))

    def keeps(self, height: int, width: int, channels: int) -> bool:
        """Whether pixels of this shape are taken as they are."""
        scaled_first = self.crop_share != 1
        return (channels, height, width) == self.shape and not scaled_first

    def planes(self, pixels: np.ndarray) -> np.ndarray:
        """[n, height, width, channels] as [n, channels, height, width], channels in the order of the model."""
        ordered = pixels[..., ::-1] if self.channel_order == "bgr" else pixels
        return ordered.transpose(0, 3, 1, 2)


def normalise(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """uint8 [n, height, width, channels] to float32 [n, channels, height, width]: (x / 255 - mean) / std."""
    scale, shift = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (spec.scale, spec.shift))
    return np.ascontiguousarray(spec.planes(pixels)) * scale + shift
