"""What a build will do, bound and digested before anything heavy is imported; the cache keys of stages."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec, PathFinder
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.calibrate import Recipe, load_recipe
from edgec.core.digest import digest_tree, digest_value
from edgec.core.errors import ConfigError, DataError, UnsupportedError
from edgec.core.target import Scheme, Target, load_target
from edgec.core.versions import source_digest, tool_versions
from edgec.models.config import ZOOS, ModelConfig, Opsets
from edgec.models.held import HeldModule, hold
from edgec.models.load import search_current_folder
from edgec.models.onnx.outline import data_file, outline_of
from edgec.models.presets import is_weights_enum
from edgec.models.recognise import require_onnx
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import BuildConfig, DataConfig
from edgec.pipeline.deck import config_of_member, first_member, require_deck
from edgec.pipeline.listening import require_heard
from edgec.pipeline.store import StageKey
from edgec.pipeline.student_view import require_learner
from edgec.quantize.config import QuantizeConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = ["IMAGES", "MODEL_SETTINGS", "Plan", "plan_build"]

FLOAT16_FROM = 18
"""The opset from which float16 beside int8 changes no operator but those that round."""
IMAGES = ("train", "test", "calibration", "validation", "unlabelled", "ood")
"""Sources of images, as `[data]` names them."""
MODEL_SETTINGS = (
    *("model.input", "model.labels", "model.output", "model.arguments", "model.checkpoint", "model.is_onnx"),
    *("as_given", "opsets"),
)
"""What is said of the model, beside its name and its weights, of which a key holds digests."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A bound build.

    Attributes:
        config: What was asked for.
        model: The teacher.
        data: The images.
        target: The device, with the scheme that is built.
        calibration: The calibration recipe.
        accelerator: Where training runs.
        digests: SHA-256 of all that comes from outside: weights, images, tools.
        as_given: Whether the model is a file that ships as it is: it is quantised already, or no net that could be.
        held: The teacher, where it is a module in memory.
    """

    config: BuildConfig
    model: ModelConfig
    data: DataConfig
    target: Target
    calibration: Recipe
    accelerator: Accelerator
    digests: Mapping[str, str]
    as_given: bool = False
    held: HeldModule | None = None

    @property
    def compresses(self) -> bool:
        """Whether the teacher is pruned."""
        return self.config.compress.method != "none" and not self.model.is_onnx

    @property
    def is_deck(self) -> bool:
        """Whether several students ship in one graph."""
        return len(self.config.deck.members) > 1

    @property
    def members(self) -> tuple[Plan, ...]:
        """The builds of a deck's members, which differ in what their students saw; of other builds, itself."""
        if not self.is_deck:
            return (self,)
        configs = [config_of_member(self.config, robust) for robust in self.config.deck.members]
        return tuple(replace(self, config=config) for config in configs)

    @property
    def opsets(self) -> Opsets:
        """What a graph that is given is brought into."""
        most = self.target.runtime.opset
        raised = min(FLOAT16_FROM, most) if self.target.quantization.computes_in_half else Opsets().least
        return Opsets(raised, most) if self.model.is_onnx else Opsets()

    def key(
        self,
        stage: str,
        reads: Iterable[str],
        *,
        opens: Iterable[str] = (),
        after: Iterable[StageKey | None] = (),
    ) -> StageKey:
        """The key of a stage.

        Args:
            stage: Its name.
            reads: Dotted names of the settings that it reads.
            opens: What it reads from outside, by names of `digests`.
            after: Stages that it builds on.
        """
        settings = {path: attrgetter(path)(self) for path in reads}
        opened = {name: self.digests.get(name, "none") for name in opens}
        before = {each.stage: each.key for each in after if each is not None}
        return StageKey(stage=stage, settings=settings, sources={**opened, **before, "tools": self.digests["tools"]})


def plan_build(config: BuildConfig, *, accelerator: Accelerator, module: nn.Module | None = None) -> Plan:
    """Binds names and reads digests; imports nothing heavy, but for a module in memory.

    Args:
        config: What is asked for.
        accelerator: Where to train.
        module: The teacher, where it is in memory: `model.name` is then for people alone.

    Raises:
        ConfigError: An unknown target, recipe or setting.
        DataError: A file or folder is not there.
        UnsupportedError: The module cannot be exported.
    """
    if module is not None and config.model.weights is not None:
        raise ConfigError(
            f"model.weights is '{config.model.weights}', but the module that is given has weights already",
            hint="leave model.weights out, or load them into the module",
        )
    config = first_member(config)
    require_learner(config)
    require_heard(config)
    target = load_target(config.target)
    target = _overridden(target, config.quantize)
    if config.compress.is_of_latency and config.compress.method != "none" and target.compute is None:
        raise UnsupportedError(
            f"{config.compress.asked[0]}: target '{target.name}' has no compute figures, so its latency cannot be "
            "predicted",
            hint="set compress.keep_flops instead, or write a profile with a [compute] table: edgec targets fit",
        )
    held = None if module is None else hold(module, config.model.input)
    digests = _digests(config.model, config.data, held)
    given = _given_scheme(config)
    if given is not None:
        formats = target.quantization.model_copy(update={"scheme": given, "float_type": "float32"})
        target = target.model_copy(update={"quantization": formats})
    if config.model.is_onnx and config.export.preprocess_in_graph:
        raise ConfigError(
            f"export.preprocess_in_graph: the model '{config.model.name}' is a finished graph",
            hint="export it with its preprocessing, or leave the option out",
        )
    plan = Plan(
        config=config,
        model=config.model,
        data=config.data,
        target=target,
        calibration=load_recipe(config.calibrate.recipe),
        accelerator=accelerator,
        digests=digests,
        as_given=given is not None,
        held=held,
    )
    require_deck(config, target, compresses=plan.compresses)
    return plan


def _given_scheme(config: BuildConfig) -> Scheme | None:
    """The number format of a file that ships as it is; None for a net in floating point."""
    scheme = outline_of(Path(config.model.name)).given_scheme if config.model.is_onnx else None
    if scheme is not None and config.quantize != QuantizeConfig():
        what = "quantised already" if scheme.is_int8 else "no net of matrix products"
        raise ConfigError(
            f"[quantize]: the model '{config.model.name}' is {what}, so it ships as it is",
            hint="leave [quantize] out, or give the model in float32 as it was before it was quantised",
        )
    return scheme


def _overridden(target: Target, given: QuantizeConfig) -> Target:
    """The target with the number formats that a config asks for instead of its own."""
    formats = {
        "scheme": None if given.scheme is None else Scheme(given.scheme),
        "weight_bits": given.weight_bits,
        "float_type": given.float_type,
    }
    wanted = {name: value for name, value in formats.items() if value is not None}
    target = target.model_copy(update={"quantization": target.quantization.model_copy(update=wanted)})
    if given.refines(target) and not target.quantization.scheme.is_int8:
        raise ConfigError(
            f"[quantize] refines integers, but the scheme of '{target.name}' is {target.quantization.scheme.value}",
            hint="set quantize.scheme to s8s8 or u8s8, or leave the other settings of [quantize] out",
        )
    return target


def _digests(model: ModelConfig, data: DataConfig, held: HeldModule | None) -> dict[str, str]:
    digests = {
        "model": _of_files(model) if held is None else held.digest,
        "prior": _prior(model),
        "tools": digest_value([tool_versions(), source_digest()]),
    }
    if model.also:
        digests["also"] = digest_value([_further(each) for each in model.further])
    paths: dict[str, Path | None] = {name: getattr(data, name) for name in IMAGES}
    given = {name: _images(path, name) for name, path in paths.items() if path is not None}
    return {"train": "digits", "test": "digits", **digests, **given}


def _of_files(model: ModelConfig) -> str:
    """Digest of a teacher that lies in files."""
    weights = _weights(model.weights) if model.weights else None
    return digest_value([None if model.is_onnx else model.name, _architecture(model), weights])


def _further(model: ModelConfig) -> list[object]:
    """Of a further teacher, all that its answers follow from."""
    said = (model.input, model.labels, model.output, model.arguments, model.checkpoint)
    return [_of_files(model), _prior(model), *said]


def _prior(model: ModelConfig) -> str:
    """Digest of the class frequencies; where a folder is to be counted, of that."""
    told = model.trained_on
    return _path(told, "model.trained_on") if isinstance(told, Path) else digest_value(told)


def _images(path: Path, what: str) -> str:
    """Digest of a source; where it is a table, of the pictures too that it names."""
    from edgec.data.loading import named_files

    own = _path(path, what)
    named = named_files(path)
    return digest_value([own, *map(digest_tree, named)]) if named else own


def _weights(given: Path) -> str:
    """Digest of a weights file; of torchvision's own, the name, since they never change."""
    return str(given) if is_weights_enum(given) else _path(given, "weights")


def _architecture(model: ModelConfig) -> str:
    """Digest of an ONNX file with its data, or of the file that a `module:factory` comes from; else the name itself."""
    if model.is_onnx:
        path = Path(model.name)
        digest = _path(path, "model")
        require_onnx(path)
        return digest_value([digest, *(_path(data_file(path, name), "model") for name in outline_of(path).locations)])
    if model.folder is not None:
        return _path(model.folder, "model")
    module = model.name.rpartition(":")[0]
    if module in ZOOS:
        return model.name
    if module in ("", "torchvision") or module.startswith("edgec."):
        return model.name
    search_current_folder()
    try:
        spec = _spec(module)
    except (ImportError, ValueError):
        return model.name  # loading it will say what is wrong with the name
    return digest_tree(Path(spec.origin)) if spec and spec.origin else model.name


def _spec(module: str) -> ModuleSpec | None:
    """Where a module lies. Nothing of it runs, nor of its packages, as `find_spec` of the whole name would let them."""
    outermost, *names = module.split(".")
    spec = importlib.util.find_spec(outermost)
    for name in names:
        if spec is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations or [])
    return spec


def _path(path: Path, what: str) -> str:
    if not path.exists():
        raise DataError(f"{what}: no such file or folder '{path}'", hint="check the path")
    try:
        return digest_tree(path)
    except OSError as error:
        raise DataError(
            f"{what}: cannot read '{path}': {error.strerror or error}", hint="check its permissions"
        ) from error
