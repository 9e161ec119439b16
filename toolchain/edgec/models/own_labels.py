"""Class names that a model carries itself: in its folder's `config.json`, or in an ONNX file's metadata."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.models.config import ModelConfig
from edgec.models.own_input import known_of_onnx

__all__ = ["own_labels"]

_NUMBERED = re.compile(r"LABEL_\d+")
"""How transformers calls classes that nobody named."""


def own_labels(model: ModelConfig) -> tuple[str, ...] | None:
    """Names in the order of the outputs; None where the model has none.

    `id2label` of transformers, `label_names` of timm, what edgec writes into a graph, `names` of Ultralytics.
    """
    if model.is_onnx:
        return _of_onnx(Path(model.name))
    return None if model.folder is None else _of_folder(model.folder / "config.json")


def _of_onnx(path: Path) -> tuple[str, ...] | None:
    told = {entry.key: entry.value for entry in known_of_onnx(path).metadata_props}
    try:
        if "edgec.labels" in told:
            return _names(json.loads(told["edgec.labels"]))
        return _names(ast.literal_eval(told.get("names", "None")))
    except (ValueError, SyntaxError):
        return None


def _of_folder(path: Path) -> tuple[str, ...] | None:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # loading the model says what is wrong with it
    if not isinstance(table, dict):
        return None
    inner = table.get("pretrained_cfg")
    timm = table.get("label_names") or (inner.get("label_names") if isinstance(inner, dict) else None)
    return _names(timm or table.get("id2label"))


def _names(found: Any) -> tuple[str, ...] | None:
    """A list, or a mapping of every position to a name."""
    if isinstance(found, Mapping):
        by_position = {int(key): value for key, value in found.items() if str(key).isdecimal()}
        found = [by_position[position] for position in range(len(found))] if len(by_position) == len(found) else None
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        return None
    named = len(set(found)) == len(found) > 1 and not all(map(_NUMBERED.fullmatch, found))
    return tuple(found) if named else None
