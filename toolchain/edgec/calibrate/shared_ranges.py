"""Ranges kept under what they follow from, so that builds, and machines that share the folder, read them once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.calibrate.ranges import Ranges
from edgec.core.digest import digest_file, digest_value
from edgec.core.files import read_json, write_json
from edgec.core.versions import tool_versions

if TYPE_CHECKING:
    from edgec.calibrate.recipe import Recipe
    from edgec.calibrate.sets import CalibrationSet
    from edgec.core.target import Target

__all__ = ["cached_ranges", "ranges_key"]


def cached_ranges(folder: Path, key: Mapping[str, Any], make: Callable[[], Ranges]) -> Ranges:
    """The ranges that lie in a folder under a key; made and put there where there are none.

    A file holds its key and a digest of its ranges; one that is damaged, or of another key, is written anew. Files
    appear whole or not at all, so that any number of builds may share the folder.

    Args:
        folder: Made where it is not there.
        key: JSON values, all that the ranges depend on.
        make: Observes them.
    """
    path = folder / f"{digest_value(key)[:32]}.json"
    found = _read(path, key)
    if found is not None:
        with suppress(OSError):  # another user's
            os.utime(path)  # the least recently used files go first
        return found
    made = make()
    ranges = json.loads(made.to_json())
    write_json(path, {"key": dict(key), "digest": digest_value([key, ranges]), "ranges": ranges})
    return made


def ranges_key(
    model: Path, calibration: CalibrationSet, recipe: Recipe, *, target: Target, fed: Mapping[str, Any]
) -> dict[str, Any]:
    """All that observed ranges depend on, as JSON values: whatever else two builds differ in, they share ranges.

    Args:
        model: FP32 ONNX.
        calibration: Images, classes and weights.
        recipe: Its name and title change nothing.
        target: Scheme and engine alone count.
        fed: JSON values that decide what the model is fed for an image.
    """
    code = [(path.name, digest_file(path)) for path in sorted(Path(__file__).parent.glob("*.py"))]
    tools = tool_versions()
    return {
        "model": digest_file(model),
        "images": calibration.digest,
        "recipe": recipe.model_dump(mode="json", exclude={"name", "title"}),
        "scheme": target.quantization.scheme.value,
        "engine": target.runtime.engine,
        "fed": dict(fed),
        "code": digest_value(code),
        "tools": {name: tools[name] for name in ("onnx", "onnxruntime")},
    }


def _read(path: Path, key: Mapping[str, Any]) -> Ranges | None:
    """What a file holds under this very key; None where it is missing, damaged or of another."""
    try:
        held = read_json(path)
        if held["digest"] != digest_value([key, held["ranges"]]):
            return None
        return Ranges.from_json(json.dumps(held["ranges"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
