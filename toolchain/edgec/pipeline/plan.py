"""What a build will do, and the cache key of every stage, known before anything heavy is imported."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Literal

from edgec.calibrate import Recipe as CalibrationRecipe
from edgec.calibrate import load_recipe
from edgec.compress.config import Variant
from edgec.core.digest import digest_tree, digest_value
from edgec.core.errors import ConfigError, DataError
from edgec.core.target import Scheme, Target, load_target
from edgec.core.versions import source_digest, tool_versions
from edgec.export.ahead import rtx_version
from edgec.models.config import ModelConfig
from edgec.models.load import search_current_folder
from edgec.models.presets import is_weights_enum
from edgec.pipeline.config import BuildConfig, DataConfig
from edgec.pipeline.device import Device
from edgec.pipeline.store import Recipe
from edgec.quantize.config import QuantizeConfig

__all__ = ["Plan", "plan_build"]

IMAGES = ("train", "test", "calibration", "unlabelled", "ood")
"""Sources of images, as `[data]` names them."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A bound build.

    Attributes:
        config: What was asked for.
        model: The teacher.
        data: The images.
        target: The device, with the scheme that is built.
        calibration: The calibration recipe.
        device: Where training runs.
        sources: Digests of all that comes from outside: weights, images, tools.
    """

    config: BuildConfig
    model: ModelConfig
    data: DataConfig
    target: Target
    calibration: CalibrationRecipe
    device: Device
    sources: Mapping[str, str]

    @cached_property
    def prepared(self) -> Recipe:
        """Splits: the few samples, the OOD pool, the calibration images, and the proof that they are disjoint."""
        images = {name: digest for name, digest in self.sources.items() if name in IMAGES}
        model = self.model.model_dump(mode="json", include={"input", "labels"})
        settings = {"data": self._data_settings, "model": model, "seed": self.config.seed}
        return self._recipe("data", settings, images)

    @cached_property
    def checked(self) -> Recipe:
        """The teacher on labelled images, as it was given."""
        sources = {**self._after(self.prepared), "train": self.sources["train"], "test": self.sources["test"]}
        return self._recipe("teacher", [self._model_settings, self.device], sources)

    @cached_property
    def baseline(self) -> Recipe | None:
        """Plain compression, to show beside what ships; None where it was not asked for."""
        return self._compared("baseline", "plain")

    @cached_property
    def from_few(self) -> Recipe | None:
        """Our recipe on the few samples alone, to show beside what ships; None where it was not asked for."""
        return self._compared("few", "few")

    @cached_property
    def compressed(self) -> Recipe | None:
        """Compression; None where the model is quantised alone."""
        return self._compression("compress", self.config.compress.variant) if self.compresses else None

    @cached_property
    def exported(self) -> Recipe:
        """The FP32 graph."""
        settings = [self.config.export, self.target.runtime.opset, self._model_settings, self.config.seed]
        return self._recipe("export", settings, self._after(self.prepared, self.compressed))

    @cached_property
    def calibrated(self) -> Recipe:
        """Activation ranges."""
        settings = [self.calibration, self.target.quantization, self.target.runtime.engine, self.config.seed]
        return self._recipe("calibrate", settings, self._after(self.prepared, self.exported))

    @cached_property
    def quantized(self) -> Recipe:
        """The graph that ships."""
        how = [self.config.quantize, self.calibration, self.device, self.config.seed]
        refining = how if self.config.quantize.refines(self.target) else []
        settings = [self.target.quantization, self.target.runtime, *refining]
        return self._recipe("quantize", settings, self._after(self.prepared, self.exported, self.calibrated))

    @cached_property
    def proven(self) -> Recipe | None:
        """What is known of a graph for TensorRT without the device; None for other engines."""
        if self.target.runtime.engine != "tensorrt":
            return None
        settings = [self.target.quantization, self.target.runtime, self.target.rules, rtx_version()]
        return self._recipe("prove", settings, self._after(self.calibrated, self.quantized))

    @cached_property
    def evaluated(self) -> Recipe:
        """Measurements."""
        students = (self.baseline, self.from_few, self.compressed)
        sources = self._after(self.prepared, *students, self.exported, self.quantized)
        settings = [self.target, self._model_settings, self.config.evaluate, self.config.seed]
        return self._recipe("evaluate", settings, {**sources, "test": self.sources["test"]})

    @cached_property
    def packaged(self) -> Recipe:
        """The bundle."""
        settings = [self.config.name, self.config.gates, self.config.package, self.config.report, self.target]
        before = self._after(self.quantized, self.proven, self.calibrated, self.evaluated)
        return self._recipe("package", settings, before)

    @property
    def compresses(self) -> bool:
        """Whether the teacher is pruned."""
        return self.config.compress.method != "none" and not self.model.is_onnx

    @property
    def stages(self) -> tuple[Recipe, ...]:
        """Every stage, in order."""
        all_stages = (
            *(self.prepared, self.checked, self.baseline, self.from_few, self.compressed, self.exported),
            *(self.calibrated, self.quantized, self.proven, self.evaluated, self.packaged),
        )
        return tuple(stage for stage in all_stages if stage is not None)

    @property
    def _data_settings(self) -> dict[str, Any]:
        """Settings but not paths: the digests stand for what is there."""
        names = {"ood_count", "unlabelled_count", "few", "max_unreadable", "leaks", "group"}
        return self.data.model_dump(mode="json", include=names)

    @property
    def _model_settings(self) -> dict[str, Any]:
        """Settings but not paths, likewise."""
        return self.model.model_dump(
            mode="json", exclude={"weights", "preset", *({"name"} if self.model.is_onnx else ())}
        )

    def _compared(self, stage: str, variant: Literal["plain", "few"]) -> Recipe | None:
        asked = self.compresses and variant in self.config.compress.compare
        return self._compression(stage, variant) if asked else None

    def _compression(self, stage: str, variant: Variant) -> Recipe:
        compress = self.config.compress.model_dump(mode="json", exclude={"compare", "oefsmc", "variant"})
        settings = {
            "compress": compress,
            "variant": variant,
            "oefsmc": None if variant == "plain" else self.config.compress.oefsmc.model_dump(mode="json"),
            "model": self._model_settings,
            "rules": self.target.rules.model_dump(include={"channel_multiple", "depthwise_multiple"}),
            "device": self.device.value,
            "seed": self.config.seed,
        }
        return self._recipe(stage, settings, self._after(self.prepared))

    def _after(self, *stages: Recipe | None) -> dict[str, str]:
        return {stage.stage: stage.key for stage in stages if stage is not None} | {"model": self.sources["model"]}

    def _recipe(self, stage: str, settings: Any, sources: Mapping[str, str]) -> Recipe:
        return Recipe(stage=stage, settings=settings, sources={**sources, "tools": self.sources["tools"]})


def plan_build(config: BuildConfig, *, device: Device) -> Plan:
    """Binds names and reads digests; imports nothing heavy.

    Raises:
        ConfigError: An unknown target, recipe or setting.
        DataError: A file or folder is not there.
    """
    target = load_target(config.target)
    target = _overridden(target, config.quantize)
    if config.model.is_onnx and config.export.preprocess_in_graph:
        raise ConfigError(
            f"export.preprocess_in_graph: the model '{config.model.name}' is a finished graph",
            hint="export it with its preprocessing, or leave the option out",
        )
    return Plan(
        config=config,
        model=config.model,
        data=config.data,
        target=target,
        calibration=load_recipe(config.calibrate.recipe),
        device=device,
        sources=_source_digests(config.model, config.data),
    )


def _overridden(target: Target, given: QuantizeConfig) -> Target:
    """The target with the number formats that a config asks for instead of its own."""
    formats = {
        "scheme": None if given.scheme is None else Scheme(given.scheme),
        "weight_bits": given.weight_bits,
        "rest": given.rest,
    }
    wanted = {name: value for name, value in formats.items() if value is not None}
    target = target.model_copy(update={"quantization": target.quantization.model_copy(update=wanted)})
    if given.refines(target) and not target.quantization.scheme.is_int8:
        raise ConfigError(
            f"[quantize] refines integers, but the scheme of '{target.name}' is {target.quantization.scheme.value}",
            hint="set quantize.scheme to s8s8 or u8s8, or leave the other settings of [quantize] out",
        )
    return target


def _source_digests(model: ModelConfig, data: DataConfig) -> dict[str, str]:
    digests = {
        "model": digest_value([_architecture(model), _weights(model.weights) if model.weights else None]),
        "tools": digest_value([tool_versions(), source_digest()]),
    }
    paths: dict[str, Path | None] = {name: getattr(data, name) for name in IMAGES}
    given = {name: _images(path, name) for name, path in paths.items() if path is not None}
    return {"train": "digits", "test": "digits", **digests, **given}


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
    """Digest of an ONNX file, or of the source file that a `module:factory` comes from; else the name itself."""
    if model.is_onnx:
        return _path(Path(model.name), "model")
    module = model.name.rpartition(":")[0]
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
