"""Architectures of timm and of transformers, by name or from a folder with their config: nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.models.config import ModelConfig

__all__ = ["timm_factory", "transformers_factory"]


def timm_factory(config: ModelConfig, labels: tuple[str, ...]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """How to make `timm:NAME`, or what the `config.json` of a folder names, and with which arguments.

    Raises:
        ConfigError: timm has no such model.
        DataError: The folder's config names no architecture.
        MissingDependencyError: timm is not installed.
    """
    timm = _installed("timm")
    name, given = config.name.partition(":")[2], {"num_classes": len(labels)}
    if (folder := config.folder) is not None:
        settings = _settings(folder)
        name = str(settings.get("architecture", ""))
        kept = {key: settings[key] for key in ("num_classes", "global_pool") if key in settings}
        given = {**given, **kept, **settings.get("model_args", {})}
    bare = name.partition(".")[0]  # NAME.TAG: the tag names weights, which come from a file here
    if not timm.is_model(bare):
        nearest = difflib.get_close_matches(bare, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "see timm.list_models()"
        raise ConfigError(f"unknown timm model '{bare}'", hint=hint)
    return (lambda **arguments: timm.create_model(bare, pretrained=False, **arguments)), {**given, **config.arguments}


def transformers_factory(config: ModelConfig) -> tuple[Callable[..., Any], dict[str, Any]]:
    """How to make the image classifier that the `config.json` of a folder describes; its code comes from transformers.

    Raises:
        DataError: No such folder, or it describes no image classifier of transformers.
        MissingDependencyError: transformers is not installed.
    """
    transformers = _installed("transformers")
    folder = config.folder
    if folder is None:
        raise DataError(
            f"model '{config.name}': no such folder with a config.json",
            hint="save it there with model.save_pretrained(FOLDER): edgec downloads nothing",
        )
    _settings(folder)

    def make(**arguments: Any) -> Any:
        try:
            settings = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **arguments
            )
            return transformers.AutoModelForImageClassification.from_config(settings)
        except (ValueError, KeyError, OSError) as error:
            why = str(error).strip().splitlines()[0]
            raise DataError(
                f"model '{config.name}': {why}", hint="give the folder of an image classifier that transformers knows"
            ) from error

    return make, config.arguments


def _installed(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f"the model needs the package '{package}': {error}", hint=f"pip install 'edgec[{package}]'"
        ) from error


def _settings(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"model folder '{folder}': cannot read config.json: {error}", hint="save it again") from error
    if not isinstance(found, dict):
        raise DataError(f"model folder '{folder}': config.json holds no settings", hint="save it again")
    return found
