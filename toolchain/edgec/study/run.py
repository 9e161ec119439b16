"""Runs a few-sample study: draws samples, compresses, and evaluates on the test images what is not in the cache."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import BaseModel, TypeAdapter

from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.files import require_writable
from edgec.core.host import describe_host
from edgec.core.measurement import Stage
from edgec.core.progress import Progress
from edgec.evaluate.accuracy import accuracy_measurements
from edgec.pipeline.prepare import Prepared, prepare, read_prepared
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import Store
from edgec.study.findings import Findings, Inapplicable, Measured, Outcome, Score
from edgec.study.plan import Run, Study

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["format_duration", "run_study"]

T = TypeVar("T")


_RESULT: TypeAdapter[Measured | Inapplicable] = TypeAdapter(Measured | Inapplicable)


def run_study(study: Study, *, store: Store, progress: Progress) -> Findings:
    """Makes every run that the store does not hold; one that is killed leaves nothing, and is made again.

    Raises:
        EdgecError: Any expected failure but that of a method that does not apply, which is a result.
    """
    started = time.perf_counter()
    require_writable(store.folder / "any")
    todo = [run for run in study.runs if not store.holds(run.recipe)]
    cached = len(study.runs) - len(todo)
    if cached:
        progress.note(f"{cached} of {len(study.runs)} runs lie in the cache")
    sources = Sources(study.plan, _NotesOnce(progress))
    if todo:
        sources.require_bound()
        _ = sources.train, sources.test, sources.calibration  # opened here, they are shared by all runs
    teacher = store.get(study.teacher, lambda _: _teacher(sources))
    for number, (run, left) in enumerate(_timed(todo), 1):
        progress.stage(f"{run.title}{left}", number=number, total=len(todo), cached=False)
        _outcome(run, sources, store)
    return Findings(
        study=study,
        labels=tuple(teacher.facts["labels"]),
        teacher=Score.model_validate(teacher.facts["score"]),
        outcomes=tuple(_outcome(run, sources, store) for run in study.runs),
        cached=cached,
        seconds=time.perf_counter() - started,
    )


class _NotesOnce:
    """Passes every note on once: what is true of all draws of a study need not be said for each."""

    def __init__(self, progress: Progress) -> None:
        self.stage = progress.stage
        self.track = progress.track
        self._note = progress.note
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """A line that was not there yet."""
        if text not in self._said:
            self._said.add(text)
            self._note(text)


def _teacher(sources: Sources) -> dict[str, object]:
    score = Score.model_validate(_scores(sources.classifier, sources, None))
    return {"labels": list(sources.labels), "score": score.model_dump(mode="json")}


def _scores(classifier: Classifier, sources: Sources, counts: Int[np.ndarray, " class"] | None) -> dict[str, object]:
    """The fields of a `Score`."""
    from edgec.models.infer import logits_of

    logits = logits_of(classifier, sources.test, device=sources.fabric.device)
    rows = accuracy_measurements(
        logits, sources.test.labels, sources.labels, stage=Stage.COMPRESSED, where="", train_counts=counts
    )
    whole = {row.name: row.value for row in rows if row.label is None}
    return {**whole, "class_accuracy": {r.label: r.value for r in rows if r.label}, "images": len(sources.test)}


def _timed(items: Sequence[T]) -> Iterator[tuple[T, str]]:
    """Every item with a word on the time that is left, once there is one to judge by."""
    started = time.perf_counter()
    for done, item in enumerate(items):
        each = (time.perf_counter() - started) / max(done, 1)
        yield item, f" (about {format_duration(each * (len(items) - done))} left)" if done else ""


def format_duration(seconds: float) -> str:
    """`40 s`, `7 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _outcome(run: Run, sources: Sources, store: Store) -> Outcome:
    """The result of a run, made now if it is not there; images are drawn once for all methods that learn from them."""
    sources = sources.varied(run.plan)

    def make(_: object) -> dict[str, object]:
        data = store.get(run.plan.prepared, lambda to: prepare(sources, to))
        try:
            result: BaseModel = _measured(sources, read_prepared(data.folder))
        except UnsupportedError as error:
            result = Inapplicable(reason=str(error))
        return result.model_dump(mode="json")

    facts = store.get(run.recipe, make).facts
    return Outcome(cell=run.cell, seed=run.seed, result=_RESULT.validate_python(facts))


def _measured(sources: Sources, images: Prepared) -> Measured:
    from edgec.compress.flops import total_flops
    from edgec.models.infer import placed, to_tensor
    from edgec.pipeline.stages import compressed

    started = time.perf_counter()
    student = compressed(sources, images, rebalance=sources.plan.config.compress.rebalance)
    seconds = time.perf_counter() - started
    example = to_tensor(images.few.decoded()[:1], student.input)
    with placed(student.module, "cpu") as small:
        kept = total_flops(small, example) / total_flops(sources.classifier.module, example)
    counts = images.few.counts
    return Measured.model_validate(
        {
            **_scores(student, sources, counts),
            "counts": counts.tolist(),
            "kept_flops": kept,
            "seconds": seconds,
            "where": _machine(sources),
        }
    )


def _machine(sources: Sources) -> str:
    device = sources.fabric.device
    if device.type != "cuda":
        return describe_host()
    import torch

    return f"{torch.cuda.get_device_name(device)}, {describe_host()}"
