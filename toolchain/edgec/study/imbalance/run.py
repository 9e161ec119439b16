"""Runs an imbalance study: trains nets from scratch, compresses them, and evaluates what is not in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import BaseModel, RootModel

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import UnsupportedError
from edgec.core.frozen import Frozen
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import StageKey, Store
from edgec.study.draw import draw_images, draw_positions
from edgec.study.held_out import held_out
from edgec.study.imbalance.findings import Findings, Measured, Outcome
from edgec.study.imbalance.plan import Run, Study
from edgec.study.running import NotesOnce, describe_place, run_all
from edgec.study.runs import Hands
from edgec.study.score import Inapplicable, score_fields
from edgec.study.scratch import lesson_of, untrained

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["run_study"]

FactsT = TypeVar("FactsT", bound=BaseModel)

_EXAMPLES = 64
"""Images that show in which order layers run, and what they read."""


class _Result(RootModel[Measured | Inapplicable]):
    """What a run comes to."""


class _Started(Frozen):
    """A net was trained from scratch; all that there is to know is in its folder."""


def run_study(study: Study, *, store: Store, progress: Progress, workers: int = 1) -> Findings:
    """Makes every run that the store does not hold (`study.running.run_all`).

    Raises:
        EdgecError: Any expected failure but that of a compression that does not apply, which is a result.
    """
    hands = _hands(study, store, progress)
    ran = run_all(study.runs, hands, store, progress, open_=partial(_hands, study), workers=workers)
    labels = next(tuple(o.result.class_accuracy) for o in ran.outcomes if isinstance(o.result, Measured))
    return Findings(study=study, labels=labels, **vars(ran))


def _hands(study: Study, store: Store, progress: Progress) -> Hands[Run, Outcome]:
    sources = Sources(study.plan, NotesOnce(progress))
    title = f"study imbalance of {study.plan.config.name}"
    return Hands(
        title=title, prepare=lambda: _require_bound(study, sources), make=lambda run: _outcome(run, sources, store)
    )


def _require_bound(study: Study, sources: Sources) -> None:
    """Fails before anything is trained where the device, the model, the images or a draw would not do."""
    from edgec.data import require_disjoint

    _ = sources.fabric
    require_disjoint(sources.train, sources.test)
    for draw in study.grid.draws:
        draw_positions(sources.train, draw, most=study.grid.samples, seed=0)
    untrained(study.plan, sources.labels, seed=0)


def _outcome(run: Run, sources: Sources, store: Store) -> Outcome:
    """The result of a run, made now if it is not there, and before it the nets that it is made from."""
    maker = _Maker(run=run, sources=sources, store=store)
    make = maker.uncompressed if run.compression.kind == "none" else maker.compressed
    return Outcome(cell=run.cell, seed=run.seed, result=store.get(run.key, _Result, make).facts.root)


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes what the recipes of one run are for."""

    run: Run
    sources: Sources
    store: Store

    def started(self, folder: Path) -> _Started:
        """Trains from scratch, and leaves the net in the folder."""
        from edgec.models.checkpoint import save_student

        fresh = self._fresh
        module, _ = self._trained(fresh.module)
        save_student(fresh.after(module, Step(method="train", facts={"draw": self.run.cell.draw.name})), folder)
        return _Started()

    def uncompressed(self, folder: Path) -> _Result:
        """Trains the net on as the compressed ones are, and leaves it in the folder."""
        from edgec.models.checkpoint import save_student
        from edgec.study.imbalance.pruning import weight_bits

        start = self._read(self.run.start, _Started, self.started)
        module, seconds = self._trained(start.module)
        net = start.after(module, Step(method="train"))
        save_student(net, folder)
        return self._measured(net, bits=weight_bits(module), seconds=seconds)

    def compressed(self, _: Path) -> _Result:
        """Compresses the net and trains it on."""
        start, how = self._read(self.run.start, _Started, self.started), self.run.compression
        try:
            small, bits = self._compressed(start.module, self._examples())
        except UnsupportedError as error:
            return _Result(Inapplicable(reason=str(error)))
        teacher = self._read(self.run.net, _Result, self.uncompressed).module if how.kind == "distilled" else None
        module, seconds = self._trained(small, teacher)
        return self._measured(start.after(module, Step(method=how.name)), bits=bits, seconds=seconds)

    def _read(self, key: StageKey, facts: type[FactsT], make: Callable[[Path], FactsT]) -> Classifier:
        """A net that one of these leaves in a folder, made now if it is not there."""
        from edgec.models.checkpoint import load_student

        return load_student(self._fresh, self.store.get(key, facts, make).folder)

    def _compressed(self, net: nn.Module, images: Tensor) -> tuple[nn.Module, int]:
        """The net to train on, and the bits of its weights."""
        from edgec.quantize.dorefa import dorefa, quantized_layers
        from edgec.study.imbalance.pruning import prune_filters, weight_bits

        how = self.run.compression
        if how.quantises:
            bits = weight_bits(net, quantized_layers(net, images), how.weight_bits)
            return dorefa(net, images, weight_bits=how.weight_bits, activation_bits=how.activation_bits), bits
        pruned = prune_filters(net, images, sparsity=how.sparsity)
        return pruned, weight_bits(pruned)

    def _trained(self, module: nn.Module, teacher: nn.Module | None = None) -> tuple[nn.Module, float]:
        """The net after training, and for how many seconds."""
        from edgec.study.imbalance.distillation import distilled
        from edgec.study.training import train

        run = self.run
        lesson = lesson_of(run.plan, self._samples, run.grid.training, seed=run.seed)
        how = {"fabric": self.sources.fabric, "progress": self.sources.progress}
        started = time.perf_counter()
        trained = train(module, lesson, objective=distilled, teacher=teacher, **how)
        return trained, time.perf_counter() - started

    @cached_property
    def _fresh(self) -> Classifier:
        return untrained(self.run.plan, self.sources.labels, seed=self.run.seed)

    def _examples(self) -> Tensor:
        from edgec.models.infer import to_tensor

        first = np.arange(min(_EXAMPLES, len(self._samples)))
        return to_tensor(self._samples.pixels[first], self.run.plan.model.input)

    @cached_property
    def _samples(self) -> Samples:
        return draw_images(self.sources.train, self.run.cell.draw, most=self.run.grid.samples, seed=self.run.seed)

    def _measured(self, net: Classifier, *, bits: int, seconds: float) -> _Result:
        from edgec.study.imbalance.pruning import weight_count

        device, counts = self.sources.fabric.device, self._samples.counts
        test = held_out(self.run.tested, self.sources, self._samples, self.store)
        found = Measured.model_validate(
            {
                **score_fields(net, test, counts=counts, device=device),
                "counts": counts.tolist(),
                "weights": weight_count(net.module),
                "size_mibit": bits / 2**20,
                "seconds": seconds,
                "where": describe_place(device),
            }
        )
        return _Result(found)
