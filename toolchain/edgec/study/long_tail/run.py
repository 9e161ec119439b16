"""Runs a long-tail study: trains teachers and students, compresses, and evaluates what is not in the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from pydantic import RootModel

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import UnsupportedError
from edgec.core.frozen import Frozen
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data
from edgec.pipeline.store import Store
from edgec.study.draw import draw_images, draw_positions
from edgec.study.held_out import held_out
from edgec.study.long_tail.findings import Findings, Measured, Outcome
from edgec.study.long_tail.plan import Run, Study, few_plan
from edgec.study.running import NotesOnce, describe_place, run_all
from edgec.study.runs import Hands
from edgec.study.score import Inapplicable, score_fields
from edgec.study.scratch import lesson_of, untrained

__all__ = ["run_study"]


APART = 10_000
"""Between the seeds of a teacher and its student: two nets of one architecture must not begin alike."""


class _Result(RootModel[Measured | Inapplicable]):
    """What a run comes to."""


class _Taught(Frozen):
    """A teacher was trained, in so many seconds, on a machine."""

    seconds: float
    where: str


def run_study(study: Study, *, store: Store, progress: Progress, workers: int = 1) -> Findings:
    """Makes every run that the store does not hold (`study.running.run_all`).

    Raises:
        EdgecError: Any expected failure but that of a way that does not apply, which is a result.
    """
    hands = _hands(study, store, progress)
    ran = run_all(study.runs, hands, store, progress, open_=partial(_hands, study), workers=workers)
    labels = next(tuple(o.result.class_accuracy) for o in ran.outcomes if isinstance(o.result, Measured))
    return Findings(study=study, labels=labels, **vars(ran))


def _hands(study: Study, store: Store, progress: Progress) -> Hands[Run, Outcome]:
    sources = Sources(study.plan, NotesOnce(progress))
    title = f"study long-tail of {study.plan.config.name}"
    return Hands(
        title=title, prepare=lambda: _require_bound(study, sources), make=lambda run: _outcome(run, sources, store)
    )


def _require_bound(study: Study, sources: Sources) -> None:
    """Fails before anything is trained where the device, a model, the images or a draw would not do."""
    from edgec.data import require_disjoint

    _ = sources.fabric
    require_disjoint(sources.train, sources.test)
    plans = {run.teacher.model.name: run.teacher for run in study.runs}
    for plan in {**plans, **{run.student.model.name: run.student for run in study.runs}}.values():
        untrained(plan, sources.labels, seed=0)
    for cell, run in {run.cell: run for run in study.runs if run.seed == study.grid.seeds[0]}.items():
        if cell.loss == "teacher":
            draw_positions(sources.train, cell.draw, most=study.grid.samples, seed=run.seed)
        if cell.loss == "teacher" and cell.data == "few":
            _few(run, draw_images(sources.train, cell.draw, most=study.grid.samples, seed=run.seed))
            _ = sources.varied(few_plan(run)).method


def _outcome(run: Run, sources: Sources, store: Store) -> Outcome:
    """The result of a run, made now if it is not there, and before it the teacher."""
    maker = _Maker(run=run, sources=sources, store=store)
    result = store.get(run.key, _Result, maker.result).facts.root
    return Outcome(cell=run.cell, group=run.group, seed=run.seed, result=result)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes what the recipes of one run are for."""

    run: Run
    sources: Sources
    store: Store

    def result(self, _: Path) -> _Result:
        """The scores of the net that the cell asks for."""
        try:
            return _Result(self._measured())
        except UnsupportedError as error:
            return _Result(Inapplicable(reason=str(error)))

    def taught(self, folder: Path) -> _Taught:
        """Trains the teacher on labels, and leaves it in the folder."""
        from edgec.models.checkpoint import save_student
        from edgec.study.training import train

        run = self.run
        lesson = lesson_of(run.teacher, self._samples, run.grid.taught, seed=run.seed)
        fresh = untrained(run.teacher, self.sources.labels, seed=run.seed)
        started = time.perf_counter()
        module = train(fresh.module, lesson, fabric=self.sources.fabric, progress=self.sources.progress)
        seconds = time.perf_counter() - started
        save_student(fresh.after(module, Step(method="train", facts={"draw": run.cell.draw.name})), folder)
        return _Taught(seconds=seconds, where=describe_place(self.sources.fabric.device))

    def _measured(self) -> Measured:
        cell = self.run.cell
        if cell.loss == "teacher":
            net, seconds, learned = self._teacher, self._taught.seconds, self._samples
        elif cell.data == "few":
            net, seconds, learned = self._recovered()
        else:
            net, seconds, learned = *self._student(), self._samples
        test = held_out(self.run.tested, self.sources, self._samples, self.store)
        return Measured.model_validate(
            {
                **score_fields(net, test, counts=self._samples.counts, device=self.sources.fabric.device),
                "counts": learned.counts.tolist(),
                "seconds": seconds,
                "where": self._taught.where if cell.loss == "teacher" else describe_place(self.sources.fabric.device),
            }
        )

    def _student(self) -> tuple[Classifier, float]:
        """The student, trained on the whole long tail, and in how many seconds."""
        from edgec.study.long_tail.teaching import objective_of
        from edgec.study.training import train

        run = self.run
        fresh = untrained(run.student, self.sources.labels, seed=run.seed + APART)
        lesson = lesson_of(run.student, self._samples, run.grid.training, seed=run.seed + APART)
        objective = objective_of(run.cell, self._samples.counts, temperature=run.grid.temperature)
        teacher = self._teacher.module if run.cell.distillation else None
        how = {"fabric": self.sources.fabric, "progress": self.sources.progress}
        started = time.perf_counter()
        module = train(fresh.module, lesson, objective=objective, teacher=teacher, **how)
        return fresh.after(module, Step(method=run.cell.loss)), time.perf_counter() - started

    def _recovered(self) -> tuple[Classifier, float, Samples]:
        """The teacher, pruned and recovered with few samples; in how many seconds, and those samples."""
        plan, few = few_plan(self.run), _few(self.run, self._samples)
        model = plan.model.model_copy(update={"trained_on": tuple(self._samples.counts.tolist())})
        images = plan.data.model_copy(update={"few": None})
        config = plan.config.model_copy(update={"model": model, "data": images})
        sources = self.sources.varied(replace(plan, config=config, model=model, data=images))
        sources = sources.holding(train=few, classifier=self._teacher)
        prepared, _ = data.prepare(sources)
        started = time.perf_counter()
        student = compress.compressed(sources, prepared, variant=config.compress.variant)
        return student, time.perf_counter() - started, few

    @cached_property
    def _taught(self) -> _Taught:
        return self.store.get(self.run.taught, _Taught, self.taught).facts

    @cached_property
    def _teacher(self) -> Classifier:
        """The teacher; adjusted, where the cell has it so."""
        from edgec.models.checkpoint import load_student
        from edgec.study.long_tail.teaching import adjusted_teacher

        folder = self.store.get(self.run.taught, _Taught, self.taught).folder
        net = load_student(untrained(self.run.teacher, self.sources.labels, seed=self.run.seed), folder)
        return adjusted_teacher(net, self._samples.counts) if self.run.cell.adjusts("teacher") else net

    @cached_property
    def _samples(self) -> Samples:
        """The long tail."""
        run = self.run
        return draw_images(self.sources.train, run.cell.draw, most=run.grid.samples, seed=run.seed)


def _few(run: Run, tail: Samples) -> Samples:
    """Few samples of a long tail, with its imbalance and its order of classes.

    Raises:
        DataError: The tail has fewer images of a class than the few samples should.
    """
    from edgec.data import draw_few

    few = few_plan(run).data.few
    order = [tail.classes[label] for label in np.argsort(-tail.counts, kind="stable")]
    if few is None:
        raise TypeError("a plan of few samples says how many")
    return draw_few(
        tail,
        total=few.total,
        imbalance=few.imbalance,
        profile=few.profile,
        at_least=few.at_least,
        seed=run.seed,
        order=order,
    )
