"""The main job: from a trained classifier to a bundle."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from edgec.core.errors import ConfigError, DataError, IntegrityError, MissingDependencyError
from edgec.core.files import new_folder, require_writable
from edgec.core.measurement import Stage
from edgec.core.progress import Progress
from edgec.core.wording import format_amount
from edgec.package import Manifest, open_bundle, require_replaceable, write_archive
from edgec.pipeline.embedded import is_embedded
from edgec.pipeline.eviction import evict
from edgec.pipeline.graphs import make_graphs
from edgec.pipeline.plan import Plan
from edgec.pipeline.runner import Runner
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import calibrate, compress, data, evaluate, export, package, prove, quantize, teacher
from edgec.pipeline.store import LIMIT_BYTES, Output, StageKey, Store

__all__ = ["Built", "build", "require_build_extra", "require_name", "require_trainable", "stage_keys"]

BUILD_EXTRA = ("torch", "torchvision", "torch_pruning", "lightning_fabric", "onnx", "onnxscript", "sklearn", "jinja2")
"""A device that runs bundles has none of these."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished build.

    Attributes:
        bundle: The folder; the archive stands beside it as `NAME.edgec`.
        seconds: How long it took.
        cached: Stages whose results lay there already, here or in a shared cache.
        fetched: Those that came from a shared cache, and from which.
    """

    bundle: Path
    seconds: float
    cached: tuple[str, ...]
    fetched: Mapping[str, str] = field(default_factory=dict)


def build(
    plan: Plan,
    *,
    store: Store,
    output: Path | None = None,
    cache_limit_bytes: int | None = LIMIT_BYTES,
    progress: Progress,
) -> Built:
    """Runs every stage that the store does not hold, and puts the bundle where it was asked for.

    Args:
        plan: A bound build.
        store: The stage cache.
        output: The bundle's folder, where a bundle is replaced; None is `build/NAME-TARGET`.
        cache_limit_bytes: Size to which the stage cache is cut back at the end, the least recently used stages first;
            those of this build stay. None is no limit.
        progress: Told of stages, steps and facts.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    started = time.perf_counter()
    output = output or Path("build") / f"{plan.config.name}-{plan.target.name}"
    require_name(output)
    require_replaceable(output)
    require_writable(output)
    require_writable(store.folder / "any")
    for line in _announcements(plan):
        progress.note(line)
    whole, keys = package.key(plan), stage_keys(plan)
    with store.used_by(f"{plan.config.name} for {plan.target.name}", keys):
        if store.brings(whole):
            stages = [key.stage for key in keys]
        else:
            stages = [made.key.stage for made in _run(plan, store, progress) if made.cached]
        _publish(store.path(whole) / "bundle", output)
        store.share(keys)
        fetched = {key.stage: origin for key in keys if (origin := store.origin(key))}
        if cache_limit_bytes is not None:
            _limit(store, cache_limit_bytes, progress)
    seconds = time.perf_counter() - started
    return Built(bundle=output, seconds=seconds, cached=tuple(stages), fetched=fetched)


def _limit(store: Store, most_bytes: int, progress: Progress) -> None:
    """Cuts the stage cache back, and says so."""
    with suppress(OSError):  # a file system without locks: there, nobody knows what others use
        gone = evict(store.folder, most_bytes=most_bytes)
        if gone:
            size, limit = (format_amount("size_bytes", n) for n in (sum(each.size_bytes for each in gone), most_bytes))
            progress.note(
                f"{size} of least recently used stages left the cache, whose limit is {limit} (--cache-limit)"
            )


def _announcements(plan: Plan) -> Iterator[str]:
    """What a person should know before anything runs."""
    few = plan.data.few
    if plan.data.embedded:
        given = "no model and no data given" if is_embedded(plan.model) else "no data given"
        drawn = f", {few.total} samples at imbalance {few.imbalance:g}" if few else ""
        yield f"{given}: building the embedded default, handwritten digits{drawn}"
    yield f"target: {plan.target.title}, {plan.target.quantization.scheme.value}"


def require_name(output: Path) -> None:
    """Refuses an output without a name of its own: it is replaced by renaming.

    Raises:
        ConfigError: It is the current folder or one above.
    """
    if output.name in ("", ".."):
        raise ConfigError(
            f"--output {output} does not name a folder of its own",
            hint="name the folder that is to be made, as in --output build/digits",
        )


def stage_keys(plan: Plan) -> tuple[StageKey, ...]:
    """The key of every stage, in order."""
    students = (compress.plain_key(plan), compress.few_key(plan), compress.key(plan))
    keys = (
        *(data.key(plan), teacher.key(plan), *students, export.key(plan), calibrate.key(plan), quantize.key(plan)),
        *(prove.key(plan), evaluate.key(plan), package.key(plan)),
    )
    return tuple(key for key in keys if key is not None)


def _run(plan: Plan, store: Store, progress: Progress) -> tuple[Output[BaseModel], ...]:
    """The flow: images → teacher → compression and its controls → graph → ranges → int8 → proof → measures → bundle."""
    require_build_extra()
    sources = Sources(plan, progress)
    sources.require_bound()
    run = Runner(sources, stage_keys(plan), store)

    require_trainable(sources, store)
    drawn = run(data.key(plan), data.Facts, data.run)
    images = data.read(drawn.folder, plan)
    run.sources = sources.tested_on(drawn.facts.tested)
    checked = run(teacher.key(plan), teacher.Facts, teacher.run)
    student = partial(compress.run, images=images)
    plain = run.maybe(compress.plain_key(plan), compress.Facts, partial(student, variant="plain"))
    few = run.maybe(compress.few_key(plan), compress.Facts, partial(student, variant="few"))
    graphs = make_graphs(run, images, few=few)
    proof = partial(prove.run, quantized=graphs.quantize.folder, calibrated=graphs.calibrate.folder)
    proven = run.maybe(prove.key(plan), prove.Facts, proof)
    students = {Stage.BASELINE: plain, Stage.FEW: few}
    measure = partial(
        evaluate.run,
        images=images,
        models={Stage.COMPRESSED: graphs.fp32, Stage.ARTIFACT: graphs.model},
        ranges=graphs.ranges,
        students={stage: made.folder for stage, made in students.items() if made is not None},
        trained_on=graphs.export.facts.trained_on,
        temperature=graphs.export.facts.temperature,
    )
    measured = run(evaluate.key(plan), evaluate.Facts, measure)
    made = package.Made(
        data=drawn,
        teacher=checked,
        baseline=plain,
        few=few,
        compress=graphs.compress,
        export=graphs.export,
        calibrate=graphs.calibrate,
        quantize=graphs.quantize,
        prove=proven,
        evaluate=measured,
    )
    bundle = run(package.key(plan), package.Facts, partial(package.run, made=made))
    return (*made.outputs, bundle)


def require_trainable(sources: Sources, store: Store) -> None:
    """Tries whether the method can cut the teacher, and whether that can be exported, before recovery takes long.

    Raises:
        UnsupportedError: It cannot.
    """
    if sources.plan.compresses and not store.brings(export.key(sources.plan)):
        from edgec.export.onnx import require_exportable

        sources.require_fitting_method()
        require_exportable(sources.classifier, opset=sources.plan.target.runtime.opset)


def require_build_extra() -> None:
    """Says what is missing before anything runs.

    Raises:
        MissingDependencyError: A package that compressing and building need is not installed.
    """
    for needed in BUILD_EXTRA:
        if importlib.util.find_spec(needed) is None:
            raise MissingDependencyError(
                f"building needs the package '{needed}', which is not installed", hint="pip install 'edgec[build]'"
            )


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
