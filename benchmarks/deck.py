"""Decks: clean and corrupted accuracy of several students behind a gate, beside the teacher and each student alone.

    python benchmarks/deck.py cifar10-resnet20 fashion-resnet8 [--members none mixed] [--shares 0.3] [--seeds 0 1 2]

Each member is recovered, calibrated and quantised as the config and the target say; only `compress.robust` differs. The
gate is fitted anew for every share of changed views. Test images, of every class alike, are run clean and under 15
kinds of corruption at five severities; `unseen` are the kinds of families that no member was recovered on. Latency is
that of single images, in turns with the slowest member. With `--output`, rows are kept as soon as they are there; what
the file has of this commit is not measured again. First: python benchmarks/unpack_mosaics.py, and train_fashion.py or
train_trashnet.py for those.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from edgec.bench.latency import measure_in_turns
from edgec.cli.build import parse_setting
from edgec.core.measurement import Stage
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.evaluate.corruptions import corruption_measurements
from edgec.learn.config import Robust
from edgec.models.infer import to_logits
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.graphs import make_graphs
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.robustness import kinds_by_training
from edgec.pipeline.runner import Runner
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.store import Store
from edgec.pipeline.student_view import operations_of
from edgec.runtime import Session
from robust import WAYS
from rows import arguments, kept, over_seeds, record, show
from tailed import config_of

QUICK = {"steps": 20, "images": 20}
_SECONDS = 4.0


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("configs", nargs="+", help="names in benchmarks/configs")
    parser.add_argument("--target", default="x86-avx2")
    parser.add_argument("--members", nargs="+", choices=WAYS, default=["none", "mixed"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.3], help="deck.share")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=500, help="test images, of every class alike")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the build")
    given = parser.parse_args()
    steps, images = QUICK.values() if given.quick else (given.steps, given.images)
    for name in given.configs:
        title = ": ".join((name, *given.set, f"{steps} steps, {images} images", " and ".join(given.members)))
        for seed in given.seeds[: 1 if given.quick else None]:
            held = kept(given.output) if given.output else {}
            if all(seed in held.get(f"{title}: deck, share {share:g}: clean", {}) for share in given.shares):
                continue
            settings = [
                *map(parse_setting, given.set),
                *(("compress.steps", steps), ("seed", seed), ("compress.compare", [])),
                *(("target", given.target), ("deck.members", given.members)),
            ]
            rows = [
                over_seeds(f"{title}: {what}", unit, {seed: value})
                for what, unit, value in _measured(name, settings, given.shares, images)
            ]
            for row in rows:
                print(f"{row.what}, seed {seed}: {row.value:.4f}", file=sys.stderr, flush=True)
            if given.output:
                record(rows, given.output)
            show(rows, as_json=given.json)


def _measured(
    name: str, settings: list[tuple[str, object]], shares: list[float], count: int
) -> Iterator[tuple[str, str, float]]:
    """What, in which unit, how much: of the teacher, each member, and a deck for each share."""
    config = read_config(config_of(name), settings)
    with tempfile.TemporaryDirectory() as folder:
        for number, share in enumerate(shares):
            deck = config.deck.model_copy(update={"share": share})
            plan = plan_build(config.model_copy(update={"deck": deck}), accelerator=Accelerator.CPU)
            sources = Sources(plan, Silent())
            run = Runner(sources, stage_keys(plan), Store(Path(folder)))
            images = data.read(run(data.key(plan), data.Facts, data.run).folder, plan)
            graphs = make_graphs(run, images)
            test, session = sources.test.evenly(count), sources.shipped_session(graphs.model)
            alone = {robust: _member(run, plan, images, robust) for robust in plan.config.deck.members}
            if number == 0:
                yield from _judged("teacher", partial(to_logits, sources.classifier), test, plan)
                for robust, member in alone.items():
                    yield from _judged(f"{robust} alone", member.logits, test, plan)
            told = f"deck, share {share:g}"
            yield from _judged(told, session.logits, test, plan)
            yield f"{told}: latency over a member's", "×", _ratio(session, [*alone.values()], test)


def _member(run: Runner, plan: Plan, images: data.Prepared, robust: Robust) -> Session:
    """A member's graph as it would ship alone; it is in the cache."""
    deck = plan.config.deck.model_copy(update={"members": ()})
    compress = plan.config.compress.model_copy(update={"robust": robust})
    other = replace(plan, config=plan.config.model_copy(update={"deck": deck, "compress": compress}))
    return run.sources.shipped_session(make_graphs(run.varied(other), images).model)


def _judged(who: str, run: object, test: Samples, plan: Plan) -> Iterator[tuple[str, str, float]]:
    """Accuracies: clean, corrupted, on kinds of families that nothing was recovered on, of the worst class."""
    logits = np.concatenate([run(batch) for batch in test.batches(100)])  # pyright: ignore[reportCallIssue]
    right = logits.argmax(axis=1) == test.labels
    yield f"{who}: clean", "share", float(right.mean())
    yield f"{who}: worst class, clean", "share", float(min(right[test.labels == c].mean() for c in set(test.labels)))
    groups = kinds_by_training(operations_of(plan.config, compresses=True))
    how = {"groups": groups, "stage": Stage.ARTIFACT, "where": "here", "progress": Silent()}
    named = {
        "corrupted_accuracy": "corrupted",
        "corrupted_worst_class_accuracy": "worst class, corrupted",
        "accuracy_under_unseen_kinds": "unseen kinds",
    }
    for row in corruption_measurements(run, test, test.labels, test.classes, **how):  # pyright: ignore[reportArgumentType]
        if row.label is None and row.name in named:
            yield f"{who}: {named[row.name]}", "share", row.value


def _ratio(deck: Session, members: list[Session], test: Samples) -> float:
    """The deck's median over the slowest member's."""
    tensor = deck.feed(test.pixels[np.arange(1)])
    runs = [(lambda session=session: session.logits(tensor)) for session in (deck, *members)]
    first, *others = (turns.latency.p50.value_ms for turns in measure_in_turns(runs, max_seconds=_SECONDS))
    return first / max(others)


if __name__ == "__main__":
    main()
