"""Stage `data`: the few samples, the purified OOD pool, the calibration images, and the proof that none overlap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.core.errors import DataError
from edgec.core.facts import DataFacts, Overlap, Split
from edgec.core.frozen import Frozen
from edgec.core.samples import Images, Samples
from edgec.pipeline.leaking import leaking
from edgec.pipeline.plan import IMAGES, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import StageKey

if TYPE_CHECKING:
    from edgec.data import Room

__all__ = ["Facts", "Prepared", "key", "prepare", "read", "run"]

READS = (
    *(f"data.{name}" for name in ("embedded", "ood_count", "unlabelled_count", "few", "max_unreadable")),
    *("data.leaks", "data.group", "model.input", "model.labels", "config.seed"),
)


class Facts(Frozen):
    """What the images are.

    Attributes:
        labels: Class names.
        data: Splits, overlaps and leaks, as the report has them.
        tested: Positions of the test images that are used; None where all are.
        notes: What the reader should know.
    """

    labels: tuple[str, ...]
    data: DataFacts
    tested: tuple[int, ...] | None
    notes: tuple[str, ...]


def key(plan: Plan) -> StageKey:
    """Splits: the few samples, the OOD pool, the calibration images, and the proof that they are disjoint."""
    return plan.key("data", READS, opens=IMAGES)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The images that `run` left in a folder.

    Attributes:
        few: Labelled training samples.
        unlabelled: Unlabelled images of the classes, purified; None where none were given.
        ood: Purified unlabelled images of anything.
        calibration: Labelled images for the ranges: the training samples, where no others were given.
        validation: Labelled images to choose by; None where none were given.
    """

    few: Samples
    unlabelled: Images | None
    ood: Images
    calibration: Samples
    validation: Samples | None = None


def run(sources: Sources, folder: Path) -> Facts:
    """Draws, purifies, checks and stores the images that stages learn from.

    Raises:
        DataError: As `prepare`.
    """
    images, facts = prepare(sources)
    given = sources.plan.data
    _save(folder, "few", images.few, given.train)
    _save(folder, "ood", images.ood, given.ood)
    if images.unlabelled is not None:
        _save(folder, "unlabelled", images.unlabelled, given.unlabelled)
    if images.calibration is not images.few:
        _save(folder, "calibration", images.calibration, given.calibration)
    if images.validation is not None:
        _save(folder, "validation", images.validation, given.validation)
    return facts


def prepare(sources: Sources) -> tuple[Prepared, Facts]:
    """Draws, purifies and checks; nothing is written.

    Raises:
        DataError: Images are missing, unreadable or in two splits.
    """
    from edgec.data import purify, require_disjoint

    plan = sources.plan
    few, drawn = _drawn(sources)
    for line in drawn:
        sources.progress.note(line)
    given = {"train": few, "test": sources.test}
    given |= {"calibration": sources.calibration, "validation": sources.validation}
    splits = {name: samples for name, samples in given.items() if samples is not None}
    require_disjoint(*splits.values())
    leaks = leaking(splits, plan.data.leaks)
    for line in leaks.notes:
        sources.progress.note(line)
    unlabelled = None
    if sources.unlabelled is not None:
        unlabelled, _ = purify(sources.unlabelled, against=list(splits.values()))
    others = {} if unlabelled is None else {"unlabelled": unlabelled}
    ood, purity = purify(sources.ood, against=[*splits.values(), *others.values()])
    if not len(ood) and len(sources.ood):
        raise DataError(
            f"none of {len(sources.ood)} {sources.ood.source} is left: all of them are images of the splits, or nearly",
            hint="give other images with --ood, or leave it out: then built-in ones are taken",
        )
    present = {**splits, "test": leaks.test, **others, "ood": ood}
    found = DataFacts(
        splits=tuple(_split(name, images) for name, images in present.items()),
        overlaps=tuple(_overlaps(present)),
        purity=asdict(purity),
        leaks=leaks.shared,
        left_out=leaks.left_out,
        contradictions=leaks.named_contradictions,
    )
    tested = None if leaks.tested is None else tuple(leaks.tested)
    images = Prepared(
        few=few,
        unlabelled=unlabelled,
        ood=ood,
        calibration=sources.calibration or few,
        validation=sources.validation,
    )
    return images, Facts(labels=few.classes, data=found, tested=tested, notes=(*drawn, *leaks.notes))


def _drawn(sources: Sources) -> tuple[Samples, tuple[str, ...]]:
    """The training images that are used, and how many that is where some are drawn."""
    from edgec.data import describe_draw, draw_few

    draw = sources.plan.data.few
    if draw is None:
        return sources.train, ()
    few = draw_few(sources.train, **draw.model_dump(), seed=sources.plan.config.seed)
    return few, (describe_draw(few, of=len(sources.train), imbalance=draw.imbalance),)


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What is kept of images beside their pixels.

    Attributes:
        source: For people.
        digests: One per image.
        labels: Where they are labelled, as are `classes`.
        files: Where images lie, seen from their source; None for images of no files, whose pixels are kept.
    """

    source: str
    digests: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None


def read(folder: Path, plan: Plan) -> Prepared:
    """The images again, decoded on demand; what was decoded is kept within `data.cache_bytes`.

    Args:
        folder: Where `run` left them.
        plan: Says where the files lie now: they hold what they held, but may have moved.
    """
    from edgec.data import Room

    room = Room(plan.data.cache_bytes)

    def load(name: str, given: Path | None) -> Any:
        return _load(folder, name, given, plan, room)

    few = load("few", plan.data.train)
    return Prepared(
        few=few,
        unlabelled=load("unlabelled", plan.data.unlabelled),
        ood=load("ood", plan.data.ood),
        calibration=load("calibration", plan.data.calibration) or few,
        validation=load("validation", plan.data.validation),
    )


def _save(folder: Path, name: str, images: Images, given: Path | None) -> None:
    """Keeps the names of the files, or pixels where there are no files."""
    from edgec.data import files_of

    files = files_of(images)
    if files is None:
        np.save(folder / f"{name}.npy", images.decoded())
    labelled = {"labels": images.labels.tolist(), "classes": images.classes} if isinstance(images, Samples) else {}
    held = _Held(
        source=images.source,
        digests=images.digests,
        files=None if files is None else tuple(str(_seen_from(path.absolute(), given)) for path in files),
        **labelled,
    )
    (folder / f"{name}.json").write_text(json.dumps(asdict(held)))  # in ASCII: a name may be no UTF-8


def _load(folder: Path, name: str, given: Path | None, plan: Plan, room: Room) -> Images | None:
    """What `_save` kept; None where it kept nothing of this name."""
    from edgec.data import Cached, FolderPixels

    path = folder / f"{name}.json"
    if not path.exists():
        return None
    held = _Held(**json.loads(path.read_text()))
    if held.files is None:
        pixels = np.load(folder / f"{name}.npy", mmap_mode="r")
    else:
        paths = tuple(_root(given) / file for file in held.files)
        pixels = Cached(FolderPixels(paths=paths, spec=plan.model.input, digests=tuple(held.digests)), room)
    if held.labels is None:
        return Images(pixels=pixels, digests=tuple(held.digests), source=held.source)
    labels = np.array(held.labels, dtype=np.int64)
    return Samples(
        pixels=pixels,
        digests=tuple(held.digests),
        source=held.source,
        labels=labels,
        classes=tuple(held.classes),
    )


def _root(given: Path | None) -> Path:
    """The folder from which the files of a source are named: itself, or that of the table."""
    folder = Path() if given is None else given.expanduser().absolute()
    return folder.parent if folder.is_file() else folder


def _seen_from(file: Path, given: Path | None) -> Path:
    """The name of a file that moves with its source; of another one, where it lies."""
    root = _root(given)
    return file.relative_to(root) if given is not None and file.is_relative_to(root) else file


def _split(name: str, images: Images) -> Split:
    counts = tuple(images.counts.tolist()) if isinstance(images, Samples) else None
    return Split(name=name, n=len(images), counts=counts, digest=images.digest, source=images.source)


def _overlaps(images: Mapping[str, Images]) -> list[Overlap]:
    names = list(images)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [Overlap(first=a, second=b, shared=len(set(images[a].digests) & set(images[b].digests))) for a, b in pairs]
