"""Architectures of timm and of transformers, by name or from a folder with their config: nothing is downloaded."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.models.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["timm_factory", "transformers_factory", "with_names_of"]


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


def with_names_of(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state by the names of a module: transformers renames layers, and knows the names under which it saves them.

    Tensors that are missing stay so, those that the module does not know and those of other shapes too: loading them
    says what is wrong. The state of any other module is as it was.
    """
    import torch

    own = module.state_dict()
    if not hasattr(module, "from_pretrained") or own.keys() <= state.keys():
        return dict(state)
    with _quiet_transformers():
        loaded, found = type(module).from_pretrained(  # pyright: ignore[reportAttributeAccessIssue]
            None,
            config=module.config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    renamed = {name: tensor for name, tensor in loaded.state_dict().items() if name not in found["missing_keys"]}
    unknown = {name: state.get(name, torch.empty(0)) for name in found["unexpected_keys"]}
    others = {name: torch.empty(tuple(shape)) for name, shape, _ in found["mismatched_keys"]}
    return {**renamed, **unknown, **others}


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Its report on loading and its bars are for people who call it themselves."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


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
