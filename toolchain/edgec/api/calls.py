"""The functions of `import edgec`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.api.values import Bundle, Family, Model, Place, Report, Tuning, Verdict
from edgec.core.errors import ConfigError
from edgec.core.progress import Lines, Progress, Silent
from edgec.core.target import Target, known_targets

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build", "build_family", "check", "load", "report", "targets", "tune"]


def build(
    config: Place | Mapping[str, Any] | None = None,
    *,
    model: nn.Module | None = None,
    target: Place | None = None,
    output: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    cache: Place | None = None,
    cache_limit_bytes: int | None = 10_000_000_000,
    device: str = "auto",
    progress: Progress | Callable[[str], object] | None = None,
) -> Bundle:
    """Compresses, exports, calibrates, quantises, evaluates and packages a classifier, as `edgec build` does.

    Args:
        config: An `edgec.toml`, or a mapping with its tables; None builds the demonstration on handwritten digits.
        model: A trained classifier, in place of the config's `model.name` and `model.weights`; it is left as it is.
        target: Device profile, by name or file; None takes the config's.
        output: The bundle's folder; None is `build/NAME-TARGET`. The archive is written beside it.
        settings: Single settings by dotted name, as in `{"compress.steps": 500}`; they override the config.
        cache: Stage cache; None is `.edgec/cache`.
        cache_limit_bytes: Size to which the build cuts the cache back, the least recently used entries first; what
            it used itself stays. None is no limit.
        device: Where to train: `auto`, `cpu` or `cuda`.
        progress: Told of stages, steps and facts. A function, such as `print`, gets a line for each stage and fact.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    from edgec.pipeline import build as pipeline
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.config import read_config
    from edgec.pipeline.family import require_no_family
    from edgec.pipeline.plan import plan_build
    from edgec.pipeline.store import CACHE, Store

    source, overrides = _source(config), _overrides(settings, model)
    require_no_family(source, target, "edgec.build_family builds all of them; or name one with target=")
    if target is not None:
        overrides.append(("target", fspath(target)))
    plan = plan_build(read_config(source, overrides), accelerator=Accelerator.named(device), module=model)
    place = None if output is None else Path(output)
    store = Store(Path(cache or CACHE))
    built = pipeline.build(
        plan, store=store, output=place, cache_limit_bytes=cache_limit_bytes, progress=_told(progress)
    )
    return Bundle(built.bundle)


def build_family(
    config: Place | Mapping[str, Any] | None = None,
    *,
    targets: Sequence[Place] | None = None,
    model: nn.Module | None = None,
    output: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    cache: Place | None = None,
    cache_limit_bytes: int | None = 10_000_000_000,
    device: str = "auto",
    progress: Progress | Callable[[str], object] | None = None,
) -> Family:
    """Builds a bundle for each of several devices from one teacher, as `edgec build --target A,B,C` does.

    Args:
        config: As of `build`.
        targets: Device profiles, by name or file; None takes those of the config's `[family]`.
        model: As of `build`.
        output: The family's folder; None is `build/NAME`.
        settings: Of all members, by dotted name; `family.TARGET.compress.steps` is of one.
        cache: Stage cache; None is `.edgec/cache`.
        cache_limit_bytes: As of `build`.
        device: Where to train: `auto`, `cpu` or `cuda`.
        progress: As of `build`.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    from edgec.pipeline import family
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.config import family_targets
    from edgec.pipeline.store import CACHE, Store

    source = _source(config)
    given = [targets] if isinstance(targets, (str, PathLike)) else targets
    named = family_targets(source) if given is None else [fspath(target) for target in given]
    if "target" in (settings or {}):
        raise ConfigError("settings name a target, and a family has several", hint="name them in targets=[...]")
    if not named:
        raise ConfigError("no device is named", hint="give targets=[...], or a table [family] in the config")
    configs = family.family_configs(source, _overrides(settings, model), named)
    plans = family.plan_family(configs, accelerator=Accelerator.named(device), module=model)
    built = family.build_family(
        plans,
        store=Store(Path(cache or CACHE)),
        output=None if output is None else Path(output),
        cache_limit_bytes=cache_limit_bytes,
        progress=_told(progress),
    )
    return Family(path=built.folder)


def tune(
    config: Place | Mapping[str, Any] | None = None,
    *,
    target: Place | None = None,
    trials: int = 20,
    agreement: float | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    output: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    cache: Place | None = None,
    device: str = "auto",
    progress: Progress | Callable[[str], object] | None = None,
) -> Tuning:
    """Searches for the fastest model on a device at which every class agrees with the teacher, as `edgec tune` does.

    Args:
        config: As of `build`; its own settings are candidate 0.
        target: Device profile, by name or file; None takes the config's.
        trials: Candidates in all, those of an earlier call for the same folder among them.
        agreement: On what share of its images every class is to agree, 0 to 1; None for as often as in candidate 0.
        vary: Settings and what to try of each, as in `{"compress.keep_flops": [0.2, 0.3]}`; None for the usual ones.
        output: Folder of the results; None is `tune/NAME-TARGET`.
        settings: Of all candidates, by dotted name.
        cache: Stage cache; None is `.edgec/cache`.
        device: Where to train: `auto`, `cpu` or `cuda`.
        progress: As of `build`.

    Raises:
        EdgecError: Any expected failure; the candidates that are finished stay.
    """
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.budget import on_top
    from edgec.pipeline.config import read_config
    from edgec.pipeline.family import require_no_family
    from edgec.pipeline.plan import Plan, plan_build
    from edgec.pipeline.store import CACHE, Store
    from edgec.tuning import run
    from edgec.tuning.search import Limits, Search
    from edgec.tuning.space import space_of

    source, given = _source(config), _overrides(settings, None)
    require_no_family(source, target, "name one of them with target=")
    if target is not None:
        given.append(("target", fspath(target)))

    def plan_of(more: Mapping[str, Any]) -> Plan:
        return plan_build(read_config(source, on_top(given, more)), accelerator=Accelerator.named(device))

    told = _told(progress)
    search = Search.of(
        plan_of,
        space=None if vary is None else space_of(vary),
        agreement=agreement,
        store=Store(Path(cache or CACHE)),
        progress=told,
    )
    folder = Path(output) if output is not None else search.folder
    finished = run.tune(search, folder, Limits(trials=trials), progress=told)
    bundle = None if finished.built is None else Bundle(finished.built.bundle)
    return Tuning(folder=folder, bundle=bundle, values=finished.tuned)


def check(
    bundle: Place, gates: Mapping[str, Any] | None = None, *, baseline: Place | None = None, test: Place | None = None
) -> Verdict:
    """Compares a bundle with gates, as `edgec check` does; nothing is raised where one is not met.

    Args:
        bundle: Folder or archive.
        gates: Limits by name, as in `[gates]`: `{"min_worst_class_accuracy": 0.7}`; None takes the bundle's own.
        baseline: The bundle that is deployed now: no class may be worse than in it.
        test: Labelled images to run the bundles on first; None takes what was measured when they were built.

    Raises:
        ConfigError: An unknown gate, or none at all.
        DataError: There is no bundle.
        IntegrityError: A bundle is damaged or was edited.
    """
    from edgec.core.declaration import bind
    from edgec.evaluate.gate_settings import Gates
    from edgec.pipeline.check import check_bundle

    asked = bind(dict(gates or {}), Gates, where="gates")
    results = check_bundle(
        Path(bundle),
        asked,
        baseline=None if baseline is None else Path(baseline),
        test=None if test is None else Path(test),
        progress=Silent(),
    )
    return Verdict(bundle=Path(bundle), gates=tuple(results))


def load(bundle: Place, *, key: Place | None = None) -> Model:
    """The model of a bundle, after every file of it was compared with the manifest; needs no extra.

    Args:
        bundle: Folder or archive.
        key: Public key, PEM: the bundle must have a signature made with it.

    Raises:
        DataError: There is no bundle.
        IntegrityError: It is damaged, was edited, or is not signed as asked.
    """
    from edgec.package import Trust
    from edgec.runtime import load_model

    return Model(load_model(Path(bundle), trust=None if key is None else Trust.read(key=Path(key))))


def report(bundle: Place) -> Report:
    """Every number about a bundle, after it was verified.

    Raises:
        DataError: There is no bundle.
        IntegrityError: It is damaged or was edited.
    """
    from edgec.pipeline.check import read_evidence

    return Report(bundle=Path(bundle), values=read_evidence(Path(bundle)).report)


def targets() -> dict[str, Target]:
    """The device profiles that ship with edgec, by name."""
    return dict(sorted(known_targets().items()))


def _source(config: Place | Mapping[str, Any] | None) -> Path | Mapping[str, Any] | None:
    return config if config is None or isinstance(config, Mapping) else Path(config)


def _overrides(settings: Mapping[str, Any] | None, model: nn.Module | None) -> list[tuple[str, Any]]:
    """Single settings, and the name of a module in memory."""
    return [*(settings or {}).items(), *([] if model is None else [("model.name", f"memory:{type(model).__name__}")])]


def _told(progress: Progress | Callable[[str], object] | None) -> Progress:
    """Who is told; a function gets lines."""
    return Silent() if progress is None else progress if isinstance(progress, Progress) else Lines(progress)
