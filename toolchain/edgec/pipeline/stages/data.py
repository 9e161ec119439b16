"""Stage `data`: the few samples, the purified OOD pool, the calibration images, and the proof that none overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import DataError
from edgec.core.facts import DataFacts, Overlap, Split
from edgec.core.frozen import Frozen
from edgec.core.samples import Images, Samples
from edgec.pipeline.leaking import leaking
from edgec.pipeline.plan import IMAGES, Plan
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import StageKey

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
    _save(folder / "few.npz", images.few)
    _save(folder / "ood.npz", images.ood)
    if images.unlabelled is not None:
        _save(folder / "unlabelled.npz", images.unlabelled)
    if images.calibration is not images.few:
        _save(folder / "calibration.npz", images.calibration)
    if images.validation is not None:
        _save(folder / "validation.npz", images.validation)
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


def read(folder: Path) -> Prepared:
    """Reads the images back."""
    few = _load_samples(folder / "few.npz")
    own, validation, unlabelled = (folder / f"{name}.npz" for name in ("calibration", "validation", "unlabelled"))
    return Prepared(
        few=few,
        unlabelled=_load_images(unlabelled) if unlabelled.exists() else None,
        ood=_load_images(folder / "ood.npz"),
        calibration=_load_samples(own) if own.exists() else few,
        validation=_load_samples(validation) if validation.exists() else None,
    )


def _save(path: Path, images: Images) -> None:
    arrays: dict[str, Any] = {"images": images.decoded(), "digests": images.digests, "source": images.source}
    if isinstance(images, Samples):
        arrays |= {"labels": images.labels, "classes": images.classes}
    np.savez(path, **arrays)


def _load_images(path: Path) -> Images:
    with np.load(path) as file:
        return Images(pixels=file["images"], digests=tuple(file["digests"].tolist()), source=str(file["source"]))


def _load_samples(path: Path) -> Samples:
    with np.load(path) as file:
        return Samples(
            pixels=file["images"],
            digests=tuple(file["digests"].tolist()),
            source=str(file["source"]),
            labels=file["labels"],
            classes=tuple(file["classes"].tolist()),
        )


def _split(name: str, images: Images) -> Split:
    counts = tuple(images.counts.tolist()) if isinstance(images, Samples) else None
    return Split(name=name, n=len(images), counts=counts, digest=images.digest, source=images.source)


def _overlaps(images: Mapping[str, Images]) -> list[Overlap]:
    names = list(images)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return [Overlap(first=a, second=b, shared=len(set(images[a].digests) & set(images[b].digests))) for a, b in pairs]
