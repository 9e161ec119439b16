"""What `edgec tune` finds, and whether what it judges by orders candidates as test images would.

    python benchmarks/tuning.py cifar10-resnet20 --target jetson --trials 20 --set compress.steps=200
        --output benchmarks/results/tuning.json

Every candidate of the search meets the test images here, afterwards: Spearman's rank correlation of the worst class's
agreement on changed few samples with the largest drop of a class on test images; latency and largest drop of what was
chosen and of the config's own build; and the least latency that the test images themselves would have allowed at the
own build's largest drop. First: python benchmarks/unpack_mosaics.py, and what trains the config's teacher.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgec.cli.build import parse_setting
from edgec.core.progress import Lines, Silent
from edgec.models.infer import logits_of
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.budget import on_top
from edgec.pipeline.config import read_config
from edgec.pipeline.graphs import make_graphs
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.runner import Runner
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data
from edgec.pipeline.store import Store
from edgec.tuning.candidate import Found, Tuned, hypervolume, winner
from edgec.tuning.search import Limits, Search, stage_keys
from edgec.tuning.space import parse_space
from rows import Row, arguments, show

CONFIGS = Path(__file__).parent / "configs"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs, or digits")
    parser.add_argument("--target", default="jetson")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vary", action="append", default=[], metavar="KEY=VALUES")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of all candidates")
    parser.add_argument("--work", type=Path, default=Path("tuning"), help="keeps the search: it is resumed from there")
    given = parser.parse_args()
    config = None if given.config == "digits" else CONFIGS / f"{given.config}.toml"
    own = [("target", given.target), ("seed", given.seed), *map(parse_setting, given.set)]

    def plan_of(more: Mapping[str, Any]) -> Plan:
        return plan_build(read_config(config, on_top(own, more)), accelerator=Accelerator.CPU)

    space = parse_space(given.vary) if given.vary else None
    search = Search.of(plan_of, space=space, store=Store(given.work / "cache"), progress=Silent())
    folder = given.work / f"{given.config}-{search.plan.target.name}-{given.seed}"
    told = Lines(lambda line: print(line, file=sys.stderr, flush=True))
    tuned = search.run(folder, Limits(trials=4 if given.quick else given.trials), progress=told)
    drops = dict(_drops(search, tuned))
    what = f"{given.config}: {search.plan.target.name}: seed {given.seed}"
    show(list(_rows(what, tuned, drops)), as_json=given.json, output=given.output)


def _drops(search: Search, tuned: Tuned) -> Iterator[tuple[int, float]]:
    """The largest drop of a class against the teacher, on test images, of every candidate that was built."""
    sources = Sources(search.plan, Silent())
    run = Runner(sources, stage_keys(search.plan), search.store)
    drawn = run(data.key(search.plan), data.Facts, data.run)
    images, sources = data.read(drawn.folder, sources.plan), sources.tested_on(drawn.facts.tested)
    teacher = _class_accuracies(sources, logits_of(sources.classifier, sources.test))
    for candidate, _ in tuned.built:
        own = sources.varied(search.plan_of(candidate.settings))
        graphs = make_graphs(Runner(own, stage_keys(own.plan), search.store), images)
        session = own.shipped_session(graphs.model)
        logits = np.concatenate([session.logits(batch) for batch in own.test.batches(256)])
        yield candidate.number, float((teacher - _class_accuracies(own, logits)).max())


def _class_accuracies(sources: Sources, logits: np.ndarray) -> np.ndarray:
    labels, right = sources.test.labels, logits.argmax(axis=1) == sources.test.labels
    return np.array([right[labels == label].mean() for label in range(len(sources.labels))])


def _rows(what: str, tuned: Tuned, drops: Mapping[int, float]) -> Iterator[Row]:
    """The figures; of the choice only where the config's own build is among the candidates."""
    from scipy.stats import spearmanr

    built = tuned.built
    judged, true = [found.quality for _, found in built], [-drops[each.number] for each, _ in built]
    correlation = float(spearmanr(judged, true).statistic)
    yield Row(what=f"{what}: rank correlation", value=correlation, unit="Spearman", n=len(built))
    yield Row(
        what=f"{what}: seconds a candidate",
        value=sum(each.seconds for each in tuned.candidates) / len(tuned.candidates),
        unit="s",
        n=len(tuned.candidates),
    )
    area = hypervolume([found for _, found in built])
    yield Row(
        what=f"{what}: hypervolume", value=area, unit="share of the teacher's latency times agreement", n=len(built)
    )
    own, chosen = tuned.candidates[0], winner(tuned)
    if own.found is None or chosen is None or chosen.found is None:
        return
    best = min((found for each, found in built if drops[each.number] <= drops[0]), key=_latency)
    for name, found in (("chosen", chosen.found), ("best by test images", best)):
        share = found.latency_ms / own.found.latency_ms
        yield Row(
            what=f"{what}: {name}, latency",
            value=found.latency_ms,
            unit=f"ms, {tuned.timed}",
            n=len(built),
            against="the config's own build",
            ratio=share,
        )
    for name, number in (("own", 0), ("chosen", chosen.number)):
        yield Row(what=f"{what}: {name}, largest drop of a class", value=drops[number], unit="share", n=1)


def _latency(found: Found) -> float:
    return found.latency_ms


if __name__ == "__main__":
    main()
