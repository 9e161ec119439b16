"""The images that a model takes, as it says itself: an ONNX graph by its input, timm by `pretrained_cfg`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.core.inputs import InputSpec
from edgec.models.presets import Preset, input_fields
from edgec.models.recognise import require_onnx
from edgec.models.torchvision_weights import likely_weights

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["known_of_onnx", "onnx_preset", "timm_preset", "transformers_preset", "without_size"]

USUAL = 224
"""Pixels a side that most classifiers were trained with."""
_WRITTEN = "edgec."
"""How the names begin under which a bundle's graph says how it is fed (`export.metadata`)."""


def onnx_preset(path: Path) -> Preset | None:
    """What a graph says: in its metadata, where edgec wrote it, else by the shape of its one input.

    Raises:
        DataError: No ONNX file.
    """
    model = known_of_onnx(path)
    told = {entry.key.removeprefix(_WRITTEN): entry.value for entry in model.metadata_props}
    if "mean" in told and "height" in told:
        fields = {name: json.loads(told[name]) for name in InputSpec.model_fields if name in told}
        return Preset(source=f"{path}, its metadata", fields=fields)
    fields = _by_shape(model)
    return Preset(source=f"{path}, its input", fields=fields) if fields else None


def known_of_onnx(path: Path) -> ModelProto:
    """An ONNX file without the weights that lie in others.

    Raises:
        DataError: It is none.
    """
    import onnx
    from google.protobuf.message import DecodeError

    require_onnx(path)
    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise DataError(f"model '{path}': not a valid ONNX file", hint="copy or export it again") from error


def _by_shape(model: ModelProto) -> dict[str, Any]:
    """Height, width and channels; empty where they are open, or several inputs are there."""
    from onnx import TensorProto

    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value.type.tensor_type for value in model.graph.input if value.name not in held]
    plane = [dim.dim_value for dim in inputs[0].shape.dim][1:] if len(inputs) == 1 else []
    if len(plane) == 2:
        plane = [1, *plane]
    for channels, height, width in (plane, [*plane[2:], *plane[:2]]) if len(plane) == 3 else ():
        if channels in (1, 3) and height and width:
            floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
            as_they_are = {} if inputs[0].elem_type in floats else _numbers((0.0, 1.0), channels)
            return {"height": height, "width": width, "channels": channels, **as_they_are}
    return {}


def _numbers(pair: tuple[float, float], channels: int) -> dict[str, Any]:
    return {"mean": (pair[0],) * channels, "std": (pair[1],) * channels}


def timm_preset(name: str) -> Preset | None:
    """How timm's own weights of this architecture were trained; None where it has none.

    Raises:
        MissingDependencyError: timm is not installed.
    """
    try:
        library = importlib.import_module("timm.models")
    except ImportError as error:
        raise MissingDependencyError(
            f"the model needs the package 'timm': {error}", hint="pip install 'edgec[timm]'"
        ) from error
    found = library.get_pretrained_cfg(name)
    return Preset(source=f"timm's pretrained_cfg of {name}", fields=input_fields(found.to_dict())) if found else None


def transformers_preset(folder: Path) -> Preset | None:
    """The size in a model's `config.json`; how its images were normalised stands in a file of its own."""
    path = folder / "config.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # loading it will say so
    size = table.get("image_size") if isinstance(table, dict) else None
    sides = [size, size] if isinstance(size, int) else size
    if not isinstance(sides, list) or len(sides) != 2:
        return None
    fields = {"height": sides[0], "width": sides[1], "channels": table.get("num_channels", 3)}
    return Preset(source=str(path), fields=fields)


def without_size(name: str, fields: Mapping[str, Any]) -> ConfigError | None:
    """What to answer where neither the config nor the model says what `model.input` is; None where enough is known.

    Args:
        name: The model's.
        fields: What is known of `model.input`.
    """
    grey = fields.get("channels") == 1
    missing: Sequence[str] = [side for side in ("height", "width") if side not in fields]
    if grey and "mean" not in fields and "std" not in fields:
        missing = [*missing, "mean", "std"]
    if len(missing) < 2:
        return None
    sides = {side: fields.get(side, USUAL) for side in ("height", "width")}
    more = ",channels=1,mean=[0.5],std=[0.5]" if grey else ""
    line = f'--set "model.input={{height={sides["height"]},width={sides["width"]}{more}}}"'
    return ConfigError(
        f"model.input: nobody says the {' and '.join(missing)} of the images that '{name}' takes",
        hint=f"{line}, with the numbers that it was trained with{_or_preset(name)}",
    )


def _or_preset(name: str) -> str:
    """Of an architecture of torchvision, how its own weights were trained."""
    likely = likely_weights(name, None)
    return f"; where that was as torchvision's: --set model.preset={likely.name}" if likely else ""
