"""`edgec.toml`: everything that a build is told, bound and checked before anything runs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgec.compress.config import OefsmcConfig, Variant
from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.core.frozen import Frozen
from edgec.data.groups import Grouping
from edgec.evaluate.gate_settings import Gates
from edgec.learn.config import Budget, DeckConfig
from edgec.models.config import ModelConfig
from edgec.pipeline.budget import beside_budget, settle_budget_
from edgec.pipeline.embedded import EMBEDDED
from edgec.pipeline.members import own_settings, require_member, take_family_
from edgec.pipeline.paths import count_paths_from_
from edgec.quantize.config import QuantizeConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BuildConfig", "CompressConfig", "DataConfig", "FewConfig", "family_targets", "parse_value", "read_config"]


class FewConfig(Frozen):
    """A few-sample draw from a larger training set, to try the tool on data that is not scarce.

    Attributes:
        total: Samples in all.
        imbalance: The most frequent class's count over the rarest's.
        profile: How counts fall from class to class.
        at_least: Samples that every class gets: 1, or 0 to let rare classes stay empty, as OE-FSMC's authors do.
    """

    total: int = Field(ge=2)
    imbalance: float = Field(default=100, ge=1)
    profile: Literal["exponential", "step", "linear"] = "exponential"
    at_least: Literal[0, 1] = 1


class DataConfig(Frozen):
    """Where the images are.

    Attributes:
        train: Labelled samples: a folder of class folders, an `.npz`, a table of paths and labels, or another of the
            sources in docs/pictures.md. Where neither train nor test is given, scikit-learn's handwritten digits.
        test: Labelled images that nothing else has seen.
        calibration: Labelled images for the ranges alone; the training samples serve where there are none.
        validation: Labelled images of every class by which `edgec tune` chooses; nothing learns from them.
        unlabelled: Unlabelled images of the classes, from the device's own camera for instance, a folder or an `.npz`:
            recovery treats them as it does the labelled ones.
        unlabelled_count: How many of them are drawn.
        ood: Unlabelled images of anything, a folder or an `.npz`; built-in ones where there are none.
        ood_count: How many of them are drawn.
        few: Draw few, imbalanced samples from `train`; all of it where this is not given.
        cache_bytes: Memory for images that were decoded from files, so that they are decoded once; what goes beyond is
            decoded again when a step draws it.
        max_unreadable: Share of unreadable files that is passed over; one always is, unless this is 0.
        leaks: What becomes of test images that are nearly one of the training or calibration images, or of a group with
            one: `leave-out` takes them out of the test set, `refuse` ends the build, `keep` only names them. Equal
            images are refused in any case.
        group: Which images belong together, such as frames of one video: `{ folder = 2 }`, `{ pattern = "(.*)_" }` or
            `{ array = "video" }`. A group in two splits is a leak, and what leaks takes its group along.
    """

    train: Path | None = None
    test: Path | None = None
    calibration: Path | None = None
    validation: Path | None = None
    unlabelled: Path | None = None
    unlabelled_count: int = Field(default=500, ge=2)
    ood: Path | None = None
    ood_count: int = Field(default=500, ge=2)
    few: FewConfig | None = None
    cache_bytes: int = Field(default=512 * 2**20, ge=0)
    max_unreadable: float = Field(default=0.01, ge=0, le=1)
    leaks: Literal["leave-out", "refuse", "keep"] = "leave-out"
    group: Grouping | None = None

    @model_validator(mode="after")
    def _train_and_test_together(self) -> Self:
        if (self.train is None) != (self.test is None):
            missing = "train" if self.train is None else "test"
            raise ValueError(f"'{missing}' is missing: training and test images are given together")
        return self

    @field_validator("train", "test", "calibration", "validation", "unlabelled", "ood", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("got no path: an empty text would stand for the current folder")
        return value

    @property
    def embedded(self) -> bool:
        """Whether the images are the embedded digits."""
        return self.train is None


class CompressConfig(Budget):
    """What compression may do.

    Attributes:
        method: A registered method, or `none` to quantise alone.
        variant: What ships: `ours`, the method under OE-FSMC with OOD images; `few`, the same recipe on the few samples
            alone; `plain`, the method as its paper has it.
        compare: Variants that are run and shown beside it.
        options: The method's own settings, from the table `[compress.METHOD]`.
        oefsmc: OE-FSMC's settings.
    """

    method: str = "mir"
    variant: Variant = "ours"
    compare: tuple[Literal["plain", "few"], ...] = ()
    options: dict[str, Any] = {}
    oefsmc: OefsmcConfig = OefsmcConfig()

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, values: Any) -> Any:
        """`[compress.mir]` names the method it is for; a table for another method is an unknown key."""
        if isinstance(values, dict):
            method = values.get("method", "mir")
            if isinstance(method, str) and isinstance(values.get(method), dict):
                values = {**values, "options": values[method]}
                del values[method]
        return values

    @model_validator(mode="after")
    def _is_cut_once(self) -> Self:
        if self.is_of_latency and self.oefsmc.stages > 1:
            stages = f"oefsmc.stages = {self.oefsmc.stages} with {self.asked[0]}"
            raise ValueError(f"{stages}: a budget of latency is met in one cut; expected 1")
        return self


class CalibrateConfig(Frozen):
    """Which recipe: a name from `calibration/`, or a file of your own."""

    recipe: str = "balanced"


class ExportConfig(Frozen):
    """The graph.

    Attributes:
        preprocess_in_graph: Puts scaling and normalisation into the graph, which then takes pixels from 0 to 255.
        match_confidence: Divides a student's logits by one temperature, fitted without labels, so that it is as sure as
            the teacher finds it right. No class changes.
        adjust_logits: τ of logit adjustment: how much of the frequencies of `model.trained_on` is taken out of the
            logits, 1 for all, 0 for nothing.
    """

    preprocess_in_graph: bool = False
    match_confidence: bool = True
    adjust_logits: float = Field(default=1.0, ge=0)


class EvaluateConfig(Frozen):
    """What is measured besides accuracy, size and speed; of the teacher and of the file that ships.

    Attributes:
        corrupted: Test images to corrupt, of every class alike; each is run 75 times: 15 kinds at five severities.
        unseen_ood: Out-of-distribution images that nothing learned from, drawn from `data.ood`: how well confidence
            tells test images from them.
        unknown: Largest share of any class's images that may be called unknown: it sets the confidence below which
            `edgec predict --unknown` and `edgec serve --unknown` answer so.
    """

    corrupted: int = Field(default=0, ge=0)
    unseen_ood: int = Field(default=0, ge=0)
    unknown: float = Field(default=0.05, ge=0, lt=1)


class PackageConfig(Frozen):
    """What the bundle says of itself.

    Attributes:
        release: Counts up from release to release of one model; a device refuses a lower one than it has.
        expires: The last day, in UTC, on which a device may switch to this bundle. An agent whose running bundle has
            expired says so: its registry may be frozen, or nobody builds any more.
    """

    release: int = Field(default=0, ge=0, le=2**53 - 1)
    expires: date | None = None


class ReportConfig(Frozen):
    """What the report shows besides numbers.

    Attributes:
        images: Whether the report shows small pictures of test images that broke, and the bundle's golden images are
            test images; false where test images must not travel: golden images are drawn then. The names of files
            stay in the report.
        chosen_from: Candidates that this build was chosen from, which `edgec tune` sets; the report says it.
    """

    images: bool = True
    chosen_from: int | None = Field(default=None, ge=1)


class BuildConfig(Frozen):
    """A build, whole.

    Attributes:
        name: Of the bundle.
        target: A profile's name or file.
        seed: Seeds every draw.
        model: The teacher.
        data: The images.
        compress: Pruning and recovery.
        calibrate: Ranges.
        quantize: Number formats, and how near they come.
        export: The graph.
        evaluate: What is measured besides.
        gates: What `edgec check` demands of the bundle.
        package: What the bundle says of itself.
        deck: Several students in one bundle.
        report: What the report shows.
    """

    name: str = Field(default="classifier", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    target: str = "host"
    seed: int = Field(default=0, ge=0)
    model: ModelConfig
    data: DataConfig
    compress: CompressConfig = CompressConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gates: Gates = Gates()
    package: PackageConfig = PackageConfig()
    deck: DeckConfig = DeckConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _frequencies_are_known(self) -> Self:
        losses = {
            "compress.oefsmc.recovery": self.compress.oefsmc.recovery.logit_loss,
            f"compress.{self.compress.method}": self.compress.options.get("logit_loss"),
            "quantize.training": self.quantize.training.logit_loss,
        }
        for section, loss in losses.items():
            if loss == "ltkd" and self.model.trained_on in ("balanced", "estimate"):
                raise ValueError(
                    f"{section}.logit_loss = 'ltkd' goes by how often the teacher saw each class: set model.trained_on "
                    "to counts, to its training folder, or to 'few'"
                )
        return self


def read_config(
    source: Path | Mapping[str, Any] | None,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    unused_methods: Collection[str] = (),
) -> BuildConfig:
    """The config of a file, with overrides by dotted name on top; the embedded default where no model is named.

    What `[family]` sets for the target alone stands over the file and under the overrides.

    Relative paths in the file count from the file's folder, in overrides and environment variables from the current
    one. `${NAME}` and `${NAME:-default}` in the file stand for environment variables.

    Args:
        source: The file, or a mapping like one, whose paths count from the current folder; None for overrides alone.
        overrides: Dotted names and values.
        unused_methods: Compression methods whose tables `[compress.NAME]` may be there, for other configs.

    Raises:
        ConfigError: The file is missing or not TOML, or a key or value is wrong.
    """
    where = f"config '{source}'" if isinstance(source, Path) else "config"
    table = _read(source) if isinstance(source, Path) else _as_table(source or {})
    _set_all(table, ((name, value) for name, value in overrides if name.startswith("family.")))
    family = take_family_(table, where=where)
    own = own_settings(family, dict(overrides).get("target", table.get("target")))
    settle_budget_(table.get("compress"), [f"compress.{name}" for name in own.get("compress", ())])
    table = _merged(table, own)
    _set_all(table, ((name, value) for name, value in overrides if not name.startswith("family.")))
    settle_budget_(table.get("compress"), [name for name, _ in overrides])
    if isinstance(compress := table.get("compress"), dict):
        table["compress"] = {name: value for name, value in compress.items() if name not in unused_methods}
    if not _names(table, "model", "name") and not _names(table, "data", "train"):
        table = _merged(beside_budget(EMBEDDED, table.get("compress")), table)
    return bind(table, BuildConfig, where=where)


def family_targets(source: Path | Mapping[str, Any] | None) -> tuple[str, ...]:
    """The targets that a config's `[family]` names, in its order; none where it has no such table.

    Raises:
        ConfigError: As `read_config`, of the file and of `[family]`; or its `target` is none of the family.
    """
    where = f"config '{source}'" if isinstance(source, Path) else "config"
    table = _read(source) if isinstance(source, Path) else _as_table(source or {})
    family = take_family_(table, where=where)
    if family and "target" in table:
        require_member(family, table["target"], f"{where}: target = '{table['target']}'")
    return tuple(family)


def _as_table(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that may be changed, tables included."""
    return {name: _as_table(value) if isinstance(value, Mapping) else value for name, value in given.items()}


def _names(table: dict[str, Any], section: str, key: str) -> bool:
    """Whether a section of the table has this key."""
    inner = table.get(section, {})
    return isinstance(inner, dict) and key in inner


def parse_value(text: str) -> Any:
    """A value of the command line as TOML would read it; text that is no TOML value stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merged(defaults: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """A table over defaults, section by section."""
    merged = {**defaults, **table}
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(table.get(key), dict):
            merged[key] = _merged(value, table[key])
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(_expanded(text, path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config '{path}': {error}", hint="write one with: edgec init") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config '{path}' is not valid TOML: {error}", hint="correct the line") from error
    count_paths_from_(table, path.parent)
    return table


def _expanded(text: str, path: Path) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name in os.environ:
            found = os.environ[name]
            return str(Path(found).absolute()) if Path(found).exists() else found
        if default is None:
            raise ConfigError(f"config '{path}': environment variable '{name}' is not set", hint=f"export {name}=…")
        return default

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def _set_all(table: dict[str, Any], overrides: Iterable[tuple[str, Any]]) -> None:
    for name, value in overrides:
        _set(table, name, deepcopy(value))


def _set(table: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting '{name}': '{section}' is a value, not a section", hint="check the dotted name")
        table = inner
    table[key] = value
