"""What becomes of a picture before the model sees it, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from typing_extensions import assert_never

from edgec.core.inputs import InputSpec

__all__ = ["preprocessing_steps"]


def preprocessing_steps(spec: InputSpec) -> tuple[str, ...]:
    """One sentence for each step, in order."""
    steps = (_opened(spec), _resized(spec), _normalised(spec))
    return tuple(step for step in steps if step)


def _opened(spec: InputSpec) -> str:
    colours = "colour" if spec.channels == 3 else "grey"
    turned = "turned upright as its EXIF data say" if spec.exif else "not turned, whatever its EXIF data say"
    bits = f"; of 16-bit files the lowest {spec.bits} bits are used" if spec.bits not in (None, 16) else ""
    return f"The picture is read in {colours} and {turned}{bits}."


def _resized(spec: InputSpec) -> str:
    size = f"{spec.width} × {spec.height}"
    wide, high = (math.floor(side / spec.crop_share + 0.02) for side in (spec.width, spec.height))
    scaled = f"by {spec.interpolation} interpolation{'' if spec.antialias else ' without antialiasing'}"
    crop = f", then {size} pixels are cropped around the centre" if spec.crop_share != 1 else ""
    match spec.resize:
        case "fit":
            return f"The largest centred part with the proportions {size} is scaled to {size} pixels {scaled}."
        case "short-side":
            shorter = f"its shorter side has {wide} pixels" if wide == high else f"it covers {wide} × {high} pixels"
            return f"It is scaled until {shorter}, {scaled}, then {size} pixels are cropped around the centre."
        case "squash":
            return f"It is scaled to {wide} × {high} pixels whatever its proportions, {scaled}{crop}."
        case "letterbox":
            return f"It is scaled to fit into {wide} × {high} pixels {scaled}, and padded with {_fill(spec)}{crop}."
        case "none":
            return f"It is not scaled: {size} pixels are cropped around the centre, or it is padded with {_fill(spec)}."
        case _:
            assert_never(spec.resize)


def _fill(spec: InputSpec) -> str:
    levels = sorted(set(spec.fill_levels)) if len(set(spec.fill_levels)) == 1 else spec.fill_levels
    return f"level {_listed(levels)}"


def _normalised(spec: InputSpec) -> str:
    scaled = "divided by 255" if spec.value_range == "0-1" else "from 0 to 255"
    order = (
        ""
        if spec.channels == 1
        else f", in the order {'red, green, blue' if spec.channel_order == 'rgb' else 'blue, green, red'}"
    )
    by = f"less {_listed(spec.mean)}, divided by {_listed(spec.std)}"
    return f"The levels, {scaled}, are normalised{order}: {by}."


def _listed(values: Sequence[float]) -> str:
    """One number, or several in brackets."""
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
