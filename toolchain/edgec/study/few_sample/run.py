"""Runs a few-sample study: draws samples, compresses, and evaluates on the test images what is not in the cache."""

from __future__ import annotations

import time
from functools import partial

from pydantic import RootModel

from edgec.core.errors import UnsupportedError
from edgec.core.frozen import Frozen
from edgec.core.progress import Progress
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import Store
from edgec.study.few_sample.findings import Findings, Measured, Outcome
from edgec.study.few_sample.plan import Run, Study
from edgec.study.running import NotesOnce, describe_place, run_all
from edgec.study.runs import Hands
from edgec.study.score import Inapplicable, Score, score_fields

__all__ = ["run_study"]


class _Teacher(Frozen):
    """What the teacher reaches, and its classes."""

    labels: tuple[str, ...]
    score: Score


class _Result(RootModel[Measured | Inapplicable]):
    """What a run comes to."""


def run_study(study: Study, *, store: Store, progress: Progress, workers: int = 1) -> Findings:
    """Makes every run that the store does not hold (`study.running.run_all`).

    Raises:
        EdgecError: Any expected failure but that of a method that does not apply, which is a result.
    """
    sources = Sources(study.plan, NotesOnce(progress))
    hands = _hands(study, sources, store)
    ran = run_all(study.runs, hands, store, progress, open_=partial(_opened, study), workers=workers)
    teacher = store.get(study.teacher, _Teacher, lambda _: _teacher(sources)).facts
    return Findings(study=study, labels=teacher.labels, teacher=teacher.score, **vars(ran))


def _opened(study: Study, store: Store, progress: Progress) -> Hands[Run, Outcome]:
    return _hands(study, Sources(study.plan, NotesOnce(progress)), store)


def _hands(study: Study, sources: Sources, store: Store) -> Hands[Run, Outcome]:
    title = f"study few-sample of {study.plan.config.name}"
    return Hands(title=title, prepare=lambda: _open(sources), make=lambda run: _outcome(run, sources, store))


def _open(sources: Sources) -> None:
    """Binds what runs need, and opens what they share."""
    sources.require_bound()
    _ = sources.train, sources.test, sources.calibration


def _teacher(sources: Sources) -> _Teacher:
    fields = score_fields(sources.classifier, sources.test, counts=None, device=sources.fabric.device)
    return _Teacher(labels=sources.labels, score=Score.model_validate(fields))


def _outcome(run: Run, sources: Sources, store: Store) -> Outcome:
    """The result of a run, made now if it is not there; images are drawn once for all methods that learn from them."""
    sources = sources.varied(run.plan)

    def make(_: object) -> _Result:
        drawn = store.get(data.key(run.plan), data.Facts, lambda to: data.run(sources, to))
        tested = sources.tested_on(drawn.facts.tested)
        try:
            return _Result(_measured(tested, data.read(drawn.folder, run.plan)))
        except UnsupportedError as error:
            return _Result(Inapplicable(reason=str(error)))

    return Outcome(cell=run.cell, seed=run.seed, result=store.get(run.key, _Result, make).facts.root)


def _measured(sources: Sources, images: Prepared) -> Measured:
    from edgec.compress.flops import total_flops
    from edgec.models.infer import placed, to_tensor

    started = time.perf_counter()
    student = compress.compressed(sources, images, variant=sources.plan.config.compress.variant)
    seconds = time.perf_counter() - started
    example = to_tensor(images.few.first(1), student.input)
    with placed(student.module, "cpu") as small:
        kept = total_flops(small, example) / total_flops(sources.classifier.module, example)
    counts = images.few.counts
    return Measured.model_validate(
        {
            **score_fields(student, sources.test, counts=counts, device=sources.fabric.device),
            "counts": counts.tolist(),
            "kept_flops": kept,
            "seconds": seconds,
            "where": describe_place(sources.fabric.device),
        }
    )
