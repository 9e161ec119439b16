"""Settings that hold paths, and the folder from which these count."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgec.core.declaration import is_file_name
from edgec.models.config import ZOOS, is_onnx_file
from edgec.models.presets import is_weights_enum

__all__ = ["count_paths_from_", "paths_from"]


def _is_path(value: str) -> bool:
    return bool(value) and not is_weights_enum(value)


_OF_MODELS: Mapping[str, Callable[[str], bool]] = {
    "name": is_onnx_file,
    "weights": _is_path,
    "preset": _is_path,
    "trained_on": lambda told: told not in ("balanced", "few", "estimate"),
}
"""Of the model, and of each further teacher."""
_PATHS: Mapping[str, Callable[[str], bool]] = {
    **{f"data.{name}": bool for name in ("train", "test", "calibration", "validation", "unlabelled", "ood")},
    "target": is_file_name,
    "calibrate.recipe": is_file_name,
    **{f"model.{name}": is_file for name, is_file in _OF_MODELS.items()},
}
"""Settings that hold a path, and which of their values are one."""


def count_paths_from_(table: dict[str, Any], folder: Path) -> None:
    """Lets the relative paths of a config's tables count from a folder."""
    for name, is_file in _PATHS.items():
        section, _, key = name.rpartition(".")
        _resolve(table.get(section) if section else table, key, folder, when=is_file)
    _resolve_zoo(model := table.get("model"), folder)
    also = model.get("also") if isinstance(model, dict) else None
    for further in also if isinstance(also, list) else ():
        for key, is_file in _OF_MODELS.items():
            _resolve(further, key, folder, when=is_file)
        _resolve_zoo(further, folder)
    if isinstance(family := table.get("family"), dict):
        table["family"] = {
            str(folder / Path(name).expanduser()) if is_file_name(name) else name: own for name, own in family.items()
        }
        for own in table["family"].values():
            if isinstance(own, dict):
                count_paths_from_(own, folder)


def _resolve(section: Any, key: str, folder: Path, *, when: Callable[[str], bool]) -> None:
    """Lets a path count from a folder; a value of another kind is left for the schema to refuse."""
    if isinstance(section, dict) and isinstance(section.get(key), str) and when(section[key]):
        section[key] = str(folder / Path(section[key]).expanduser())


def _resolve_zoo(model: Any, folder: Path) -> None:
    """Lets the folder of `timm:FOLDER` or `transformers:FOLDER` count from a folder, where there is one."""
    if isinstance(model, dict) and isinstance(name := model.get("name"), str):
        zoo, _, place = name.partition(":")
        if zoo in ZOOS and (found := folder / Path(place).expanduser()).is_dir():
            model["name"] = f"{zoo}:{found}"


def paths_from(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, whose relative paths count from the current folder, as a file in `folder` has them."""

    def moved(name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        zoo, _, place = value.partition(":")
        if name == "model.name" and zoo in ZOOS and Path(place).is_dir():
            return f"{zoo}:{_moved(place, folder)}"
        return _moved(value, folder) if name in _PATHS and _PATHS[name](value) else value

    return {name: moved(name, value) for name, value in settings.items()}


def _moved(path: str, folder: Path) -> str:
    given = Path(path).expanduser()
    return str(given) if given.is_absolute() else Path(os.path.relpath(given, folder)).as_posix()
