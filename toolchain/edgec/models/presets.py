"""How a model saw pictures in training, from what its makers wrote beside its weights: settings for `model.input`.

torchvision keeps it with each weights enum, timm in `pretrained_cfg`, transformers in `preprocessor_config.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.core.errors import ConfigError, DataError

__all__ = ["Preset", "find_preset", "input_fields", "is_weights_enum", "torchvision_fields"]

_FILES = ("preprocessor_config.json", "config.json")
"""Beside the weights; of the second, timm's `pretrained_cfg`."""
_ENUM = re.compile(r"(torchvision:)?\w+_Weights\.\w+")
_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters in the order of Pillow's numbers, which transformers writes."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TIMM_CROP = 0.875
_SQUASHED_FROM = 384
"""Side from which ConvNeXt's processor squashes instead of cropping."""
_SHORT_SIDE = ("Bit", "CLIP", "ConvNext", "Levit", "MobileNetV", "MobileViT", "PoolFormer")
"""Processors that take a size of one number for the shorter side."""
_NO_SETTING = "leave it out, and set resize, crop_share and interpolation in model.input"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Settings for `model.input`, and where they were found."""

    source: str
    fields: Mapping[str, Any]


def find_preset(given: str | None, places: Sequence[Path | None]) -> Preset | None:
    """The settings that a person names, or else those that lie beside a model.

    Args:
        given: A torchvision weights enum, as in `ResNet18_Weights.IMAGENET1K_V1`, or a JSON file of timm's or
            transformers'; None looks beside the weights.
        places: Weights files, folders of models, or weights enums, in the order in which they are asked.

    Raises:
        ConfigError: What is named is no such thing, or does what `model.input` has no setting for.
    """
    if given is not None:
        return _preset(Path(given))
    for place in places:
        if place is None:
            continue
        if is_weights_enum(place):
            return _preset(place)
        folder = place if place.is_dir() else place.parent
        for name in _FILES:
            if (folder / name).is_file() and _is_of_pictures(table := _read(folder / name)):
                return Preset(source=str(folder / name), fields=input_fields(table))
    return None


def is_weights_enum(name: str | Path) -> bool:
    """Whether this names weights of torchvision's own, as in `ResNet18_Weights.IMAGENET1K_V1`."""
    return _ENUM.fullmatch(str(name)) is not None


def _preset(given: Path) -> Preset:
    if is_weights_enum(given):
        return Preset(source=str(given), fields=torchvision_fields(str(given)))
    if not given.is_file():
        raise ConfigError(
            f"model.preset: '{given}' is neither a file nor a torchvision weights enum",
            hint="as in ResNet18_Weights.IMAGENET1K_V1, or the path of a preprocessor_config.json",
        )
    return Preset(source=str(given), fields=input_fields(_read(given)))


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is not valid JSON: {error}", hint="copy it again from where the model is") from error
    if not isinstance(table, dict):
        raise DataError(f"'{path}' is no table of settings", hint="copy it again from where the model is")
    return table


def _is_of_pictures(table: Mapping[str, Any]) -> bool:
    return any(name in table for name in ("pretrained_cfg", "input_size", "image_processor_type", "image_mean"))


def torchvision_fields(name: str) -> dict[str, Any]:
    """What a weights enum's transforms do.

    Raises:
        ConfigError: No such weights, or weights of something else than classification.
    """
    import torchvision
    from torchvision.transforms._presets import ImageClassification

    try:
        made = torchvision.models.get_weight(name.removeprefix("torchvision:")).transforms()
    except (KeyError, ValueError, AttributeError) as error:
        raise ConfigError(f"no torchvision weights '{name}'", hint="as in ResNet18_Weights.IMAGENET1K_V1") from error
    if not isinstance(made, ImageClassification):
        raise ConfigError(f"'{name}' are no weights of a classifier", hint="name weights of a classifier")
    return {
        **_cropped(made.crop_size * 2, made.resize_size * 2),
        "mean": tuple(made.mean),
        "std": tuple(made.std),
        "resize": "short-side",
        "interpolation": made.interpolation.value,
        "antialias": bool(made.antialias),
    }


def input_fields(table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for `model.input` that do what timm or transformers would do.

    Args:
        table: timm's `pretrained_cfg`, or a file that holds it under that name; or transformers'
            `preprocessor_config.json`.

    Raises:
        ConfigError: A step that `model.input` has no setting for.
    """
    timm = table.get("pretrained_cfg", table)
    return _timm(timm) if "input_size" in timm else _transformers(table)


def _timm(table: Mapping[str, Any]) -> dict[str, Any]:
    """As `timm.data.create_transform` evaluates."""
    channels, height, width = table["input_size"]
    mode = table.get("crop_mode") or "center"
    resize = {"center": "short-side", "squash": "squash", "border": "letterbox"}.get(mode)
    if resize is None:
        raise ConfigError(f"timm's crop_mode '{mode}' is not known", hint=_NO_SETTING)
    mean, std = (tuple(table.get(name) or usual) for name, usual in zip(("mean", "std"), _IMAGENET, strict=True))
    fields = {
        "height": height,
        "width": width,
        "channels": channels,
        "mean": mean,
        "std": std,
        "resize": resize,
        "crop_share": table.get("crop_pct") or _TIMM_CROP,
        "interpolation": table.get("interpolation") or "bicubic",
    }
    return {**fields, "fill": tuple(round(255 * level) for level in mean)} if resize == "letterbox" else fields


def _transformers(table: Mapping[str, Any]) -> dict[str, Any]:
    """As an image processor does it with its own settings."""
    kind = str(table.get("image_processor_type") or table.get("feature_extractor_type") or "")
    return {
        **_scaled_as(table, kind),
        **_normalised_as(table, kind),
        "interpolation": _filter(table.get("resample")),
        "channel_order": "bgr" if table.get("do_flip_channel_order") else "rgb",
        "crop_rounding": "down",
    }


def _filter(number: Any) -> str:
    """By Pillow's number; bilinear where none is given."""
    if number is None:
        return "bilinear"
    if number not in range(len(_PILLOW)):
        raise ConfigError(f"transformers' resample {number} is not known", hint=_NO_SETTING)
    return _PILLOW[number]


def _scaled_as(table: Mapping[str, Any], kind: str) -> dict[str, Any]:
    size = table.get("size")
    if isinstance(size, int):
        short = kind.startswith(_SHORT_SIDE)
        size = {"shortest_edge": size} if short else {"height": size, "width": size}
    crop = _height_and_width(table.get("crop_size")) if _does(table, "center_crop") else None
    size = {side: value for side, value in (size or {}).items() if value is not None} or None
    if table.get("do_pad"):
        raise ConfigError("transformers' do_pad has no setting", hint=_NO_SETTING)
    if not table.get("do_resize", True):
        size = None
    match size:
        case {"shortest_edge": int(side)} if "longest_edge" not in size:
            if kind.startswith("ConvNext"):
                return _convnext(side, table.get("crop_pct") or 224 / 256)
            side = int(side * 256 / 224) if kind.startswith("Levit") else side
            return {**_cropped(crop or (side, side), (side, side)), "resize": "short-side"}
        case {"height": int(height), "width": int(width)}:
            return {**_cropped(crop or (height, width), (height, width)), "resize": "squash"}
        case None if crop:
            return {"height": crop[0], "width": crop[1], "resize": "none"}
        case _:
            raise ConfigError(f"transformers' size {size} is not known", hint=_NO_SETTING)


def _height_and_width(size: Any) -> tuple[int, int] | None:
    match size:
        case None:
            return None
        case int(side) | {"shortest_edge": int(side)}:
            return side, side
        case {"height": int(height), "width": int(width)}:
            return height, width
        case _:
            raise ConfigError(f"transformers' crop_size {size} is not known", hint=_NO_SETTING)


def _convnext(side: int, crop_share: float) -> dict[str, Any]:
    if side >= _SQUASHED_FROM:
        return {**_cropped((side, side), (side, side)), "resize": "squash"}
    scaled = int(side / crop_share)
    return {**_cropped((side, side), (scaled, scaled)), "resize": "short-side"}


def _cropped(crop: Sequence[int], scaled: Sequence[int]) -> dict[str, Any]:
    """Height and width, and which share of the scaled sides that is."""
    share = crop[0] / scaled[0]
    if share > 1 or abs(crop[1] / scaled[1] - share) * scaled[1] >= 1:
        raise ConfigError(f"a crop of {tuple(crop)} from {tuple(scaled)} has no setting", hint=_NO_SETTING)
    return {"height": crop[0], "width": crop[1], "crop_share": share}


def _normalised_as(table: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Mean and deviation: (factor x - offset - mean) / std of pixels from 0 to 255."""
    normalises = _does(table, "normalize", by="image_mean") and not kind.startswith("MobileViT")  # its has no such step
    mean = tuple(table["image_mean"]) if normalises else (0.0, 0.0, 0.0)
    std = tuple(table["image_std"]) if normalises else (1.0, 1.0, 1.0)
    if not table.get("do_rescale", True):
        return {"mean": mean, "std": std, "value_range": "0-255"}
    largest = 255 * table.get("rescale_factor", 1 / 255)
    offset = float(bool(table.get("rescale_offset")))
    divided = std
    if kind.startswith("EfficientNet") and table.get("include_top", True) and "include_top" in table:
        divided = tuple(value * value for value in std)  # its processor divides twice
    exact = abs(largest - 1) < 1e-6 and not offset  # then the numbers stay as they are written
    return {
        "mean": mean if exact else tuple((value + offset) / largest for value in mean),
        "std": divided if exact else tuple(value / largest for value in divided),
    }


def _does(table: Mapping[str, Any], what: str, *, by: str = "crop_size") -> bool:
    """Whether a step is done; where the file does not say so, whether it has what the step needs."""
    said = table.get(f"do_{what}")
    return table.get(by) is not None if said is None and f"do_{what}" not in table else bool(said)
