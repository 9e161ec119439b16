"""Runs an imbalance study: trains nets from scratch, compresses them, and evaluates what is not in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import BaseModel, RootModel

from edgec.core.classifier import Classifier, Step
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.frozen import Frozen
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.pipeline.leaking import leaking
from edgec.pipeline.sources import Sources
from edgec.pipeline.store import StageKey, Store
from edgec.study.imbalance.draw import draw_images, draw_positions
from edgec.study.imbalance.findings import Findings, Measured, Outcome
from edgec.study.imbalance.plan import Run, Study
from edgec.study.running import NotesOnce, announced, describe_place, missing
from edgec.study.score import Inapplicable, score_fields

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


class _Tested(Frozen):
    """Positions of the test images that the training set does not give away; None where that is all of them."""

    tested: tuple[int, ...] | None


def run_study(study: Study, *, store: Store, progress: Progress) -> Findings:
    """Makes every run that the store does not hold; one that is killed leaves nothing, and is made again.

    Raises:
        EdgecError: Any expected failure but that of a compression that does not apply, which is a result.
    """
    started = time.perf_counter()
    todo = missing(study.runs, store, progress)
    sources = Sources(study.plan, NotesOnce(progress))
    if todo:
        _require_bound(study, sources)
    with store.used_by(f"study imbalance of {study.plan.config.name}", (run.key for run in study.runs)):
        for run in announced(todo, progress):
            _outcome(run, sources, store)
        outcomes = tuple(_outcome(run, sources, store) for run in study.runs)
    labels = next(tuple(o.result.class_accuracy) for o in outcomes if isinstance(o.result, Measured))
    return Findings(
        study=study,
        labels=labels,
        outcomes=outcomes,
        cached=len(study.runs) - len(todo),
        seconds=time.perf_counter() - started,
    )


def _require_bound(study: Study, sources: Sources) -> None:
    """Fails before anything is trained where the device, the model, the images or a draw would not do."""
    from edgec.data import require_disjoint

    _ = sources.fabric
    require_disjoint(sources.train, sources.test)
    for draw in study.grid.draws:
        draw_positions(sources.train, draw, most=study.grid.samples, seed=0)
    _untrained(sources, seed=0)


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

        fresh = _untrained(self.sources, seed=self.run.seed)
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

    def tested(self, _: Path) -> _Tested:
        """Finds the test images that the training set does not give away; None where that is all of them."""
        found = leaking({"train": self._samples, "test": self.sources.test}, self.run.plan.data.leaks)
        for note in found.notes:
            self.sources.progress.note(note)
        return _Tested(tested=None if found.tested is None else tuple(found.tested))

    def _read(self, key: StageKey, facts: type[FactsT], make: Callable[[Path], FactsT]) -> Classifier:
        """A net that one of these leaves in a folder, made now if it is not there."""
        from edgec.models.checkpoint import load_student

        return load_student(_untrained(self.sources, seed=self.run.seed), self.store.get(key, facts, make).folder)

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
        from edgec.study.imbalance.training import Lesson, train

        run, budget = self.run, self.run.plan.config.compress
        lesson = Lesson(
            samples=self._samples,
            input=run.plan.model.input,
            training=run.grid.training,
            shift=budget.shift,
            flip=budget.flip,
            seed=run.seed,
        )
        started = time.perf_counter()
        trained = train(module, lesson, teacher=teacher, fabric=self.sources.fabric, progress=self.sources.progress)
        return trained, time.perf_counter() - started

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
        tested = self.store.get(self.run.tested, _Tested, self.tested).facts.tested
        found = Measured.model_validate(
            {
                **score_fields(net, self.sources.tested_on(tested).test, counts=counts, device=device),
                "counts": counts.tolist(),
                "weights": weight_count(net.module),
                "size_mibit": bits / 2**20,
                "seconds": seconds,
                "where": describe_place(device),
            }
        )
        return _Result(found)


def _untrained(sources: Sources, *, seed: int) -> Classifier:
    """The architecture with the weights that a seed gives it.

    Raises:
        ConfigError: It does not give a logit per class of an image.
    """
    import torch

    from edgec.models.load import build_module

    model, labels = sources.plan.model, sources.labels
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = build_module(model, labels).eval()
    try:
        with torch.inference_mode():
            shape = tuple(module(torch.zeros(2, *model.input.shape)).shape)
    except (AttributeError, RuntimeError, AssertionError, IndexError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"model '{model.name}' does not take images of {model.input.shape}: {why}",
            hint="set model.input to the size and channels that it is made for",
        ) from error
    if shape != (2, len(labels)):
        raise ConfigError(
            f"model '{model.name}' gives {shape} for two images, expected (2, {len(labels)}): a logit per label",
            hint="check model.labels, or the number of classes in model.arguments",
        )
    return Classifier(module=module, input=model.input, labels=labels)
