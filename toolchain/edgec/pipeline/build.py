"""The main job: from a trained classifier to a bundle."""

from __future__ import annotations

import importlib.util
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import ConfigError, DataError, IntegrityError, MissingDependencyError
from edgec.core.files import new_folder, require_writable
from edgec.core.measurement import Stage
from edgec.core.progress import Progress
from edgec.package import Manifest, open_bundle, require_replaceable, write_archive
from edgec.pipeline.plan import Plan
from edgec.pipeline.store import Output, Store

__all__ = ["Built", "build", "require_build_extra"]

BUILD_EXTRA = ("torch", "torchvision", "torch_pruning", "lightning_fabric", "onnx", "onnxscript", "sklearn", "jinja2")
"""A device that runs bundles has none of these."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished build.

    Attributes:
        bundle: The folder; the archive stands beside it as `NAME.edgec`.
        seconds: How long it took.
        cached: Stages whose results lay there already.
    """

    bundle: Path
    seconds: float
    cached: tuple[str, ...]


def build(plan: Plan, *, store: Store, output: Path, progress: Progress) -> Built:
    """Runs every stage that the store does not hold, and puts the bundle where it was asked for.

    Args:
        plan: A bound build.
        store: The stage cache.
        output: The bundle's folder; a bundle that stands there is replaced.
        progress: Told of stages, steps and facts.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    started = time.perf_counter()
    _require_name(output)
    require_replaceable(output)
    require_writable(output)
    require_writable(store.folder / "any")
    if store.holds(plan.packaged):
        made = [store.get(plan.packaged, _never)]
        stages = [recipe.stage for recipe in plan.stages]
    else:
        made = _run(plan, store, progress)
        stages = [done.recipe.stage for done in made if done.cached]
    _publish(made[-1].folder / "bundle", output)
    return Built(bundle=output, seconds=time.perf_counter() - started, cached=tuple(stages))


def _require_name(output: Path) -> None:
    if output.name in ("", ".."):
        raise ConfigError(
            f"--output {output} does not name a folder of its own",
            hint="name the folder that is to be made, as in --output build/digits",
        )


def _run(plan: Plan, store: Store, progress: Progress) -> list[Output]:
    """The flow: images → teacher → compression and its controls → graph → ranges → int8 → proof → measures → bundle."""
    require_build_extra()
    from edgec.pipeline import stages
    from edgec.pipeline.measure import evaluate
    from edgec.pipeline.package import package
    from edgec.pipeline.prepare import prepare, read_prepared
    from edgec.pipeline.runner import Runner
    from edgec.pipeline.sources import Sources
    from edgec.pipeline.teacher import measure_teacher

    sources = Sources(plan, progress)
    sources.require_bound()
    run = Runner(plan, store, progress)

    data = run(plan.prepared, lambda to: prepare(sources, to))
    images, sources = read_prepared(data.folder), sources.tested_on(data.facts["tested"])
    run(plan.checked, lambda _: measure_teacher(sources))
    plain = run.maybe(plan.baseline, lambda to: stages.compress(sources, images, to, variant="plain"))
    few = run.maybe(plan.from_few, lambda to: stages.compress(sources, images, to, variant="few"))
    variant, known = plan.config.compress.variant, few and few.folder
    ours = run.maybe(plan.compressed, lambda to: stages.compress(sources, images, to, variant=variant, few=known))
    graph = run(plan.exported, lambda to: stages.export(sources, images, ours and ours.folder, to))
    fp32 = graph.folder / stages.FP32
    read = store.folder / "ranges"
    ranges = run(plan.calibrated, lambda to: stages.calibrate(sources, images, fp32, to, cache=read))
    int8 = run(plan.quantized, lambda to: stages.quantize(sources, images, fp32, ranges.folder / stages.RANGES, to))
    run.maybe(plan.proven, lambda to: stages.prove(sources, int8.folder, ranges.folder, to))
    models = {Stage.COMPRESSED: fp32, Stage.ARTIFACT: int8.folder / stages.MODEL}
    compared = {Stage.BASELINE: plain, Stage.FEW: few}
    given = {
        "students": {stage: done.folder for stage, done in compared.items() if done is not None},
        "ranges": ranges.folder / stages.RANGES,
        "temperature": graph.facts.get("temperature"),
    }
    run(plan.evaluated, lambda to: evaluate(sources, images, models, **given, folder=to))
    run(plan.packaged, lambda to: package(sources, run.made, to))
    return run.made


def require_build_extra() -> None:
    """Says what is missing before anything runs.

    Raises:
        MissingDependencyError: A package that compressing and building need is not installed.
    """
    for package in BUILD_EXTRA:
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"building needs the package '{package}', which is not installed", hint="pip install 'edgec[build]'"
            )


def _never(_: Path) -> dict[str, str]:
    raise IntegrityError("a finished stage is gone from the cache", hint="build again")


def _publish(bundle: Path, output: Path) -> None:
    """Copies a bundle to its place, and writes the archive beside it, where they are not there already."""
    archive = output.with_name(f"{output.name}.edgec")
    wanted = open_bundle(bundle).manifest
    if not _stands_at(output, wanted):
        with new_folder(output) as draft:
            shutil.copytree(bundle, draft, dirs_exist_ok=True)
    if not _stands_at(archive, wanted):
        write_archive(output, archive)


def _stands_at(place: Path, wanted: Manifest) -> bool:
    """Whether this very bundle is there, whole."""
    try:
        found = open_bundle(place)
        found.verify()
    except (DataError, IntegrityError, MissingDependencyError):
        return False
    return found.manifest == wanted
