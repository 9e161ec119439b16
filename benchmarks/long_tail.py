"""LTKD against KD, DKD and DIST: students of teachers that saw a long tail, in pairs of the same seed.

    python benchmarks/long_tail.py fashion-resnet8 --pairs resnet20/resnet8 --samples 1000 --teacher-steps 400

Runs `edgec study long-tail` seed by seed. Finished runs lie in the cache; with --output, figures are kept as soon as an
imbalance of a seed is finished. All losses of a seed have the same teacher, images and weights to begin with.

Accuracies are of the test images that the long tail does not give away; they take part in no choice. The tail is the
third of the classes with the fewest training images, which are others for each seed. First: python
benchmarks/unpack_mosaics.py, and train_fashion.py for its images.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

from edgec.core.progress import Lines
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.store import CACHE, Store
from edgec.study.config import Training
from edgec.study.long_tail.findings import Findings, Measured
from edgec.study.long_tail.grid import Grid
from edgec.study.long_tail.plan import plan_study
from edgec.study.long_tail.run import run_study
from rows import Row, arguments, over_seeds, record, show

CONFIGS = Path(__file__).parent / "configs"
MEASURES = {"accuracy": "accuracy", "tail_accuracy": "tail", "worst_class_accuracy": "worst class"}
CONTROLS = ("kd", "dkd", "dist")
"""What LTKD is held against."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs, or digits")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="TEACHER/STUDENT")
    parser.add_argument("--imbalance", nargs="+", type=float, default=[50.0, 100.0])
    parser.add_argument("--losses", nargs="+", default=["labels", *CONTROLS, "ltkd", "ltkd-alone"])
    parser.add_argument("--adjusted", nargs="+", default=["nothing"])
    parser.add_argument("--data", nargs="+", default=["whole"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int)
    parser.add_argument("--steps", type=int, default=Training().steps)
    parser.add_argument("--teacher-steps", type=int)
    given = parser.parse_args()
    config = None if given.config == "digits" else CONFIGS / f"{given.config}.toml"
    asked = {name: getattr(given, name) for name in ("pairs", "losses", "adjusted", "data", "samples", "teacher_steps")}
    figures: dict[str, dict[int, float]] = {}
    for seed, imbalance in product(given.seeds[: 1 if given.quick else None], given.imbalance):
        one = {"seeds": [seed], "imbalance": [imbalance], "training": {"steps": given.steps}}
        study = plan_study(config, (), Grid.model_validate({**asked, **one}), accelerator=Accelerator.AUTO)
        findings = run_study(study, store=Store(CACHE), progress=Lines(_tell))
        for what, value in _figures(findings).items():
            figures.setdefault(f"{given.config}: {what}", {})[seed] = value
        if given.output:
            record(_rows(figures), given.output)
    show(_rows(figures), as_json=given.json)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _figures(findings: Findings) -> dict[str, float]:
    """Every measure of every cell, by the name of its row."""
    found: dict[str, float] = {}
    for outcome in findings.outcomes:
        if isinstance(outcome.result, Measured):
            for field, measure in MEASURES.items():
                found[f"{outcome.group}: {outcome.cell.name}: {measure}"] = getattr(outcome.result, field)
    return found


def _rows(figures: dict[str, dict[int, float]]) -> list[Row]:
    """Every figure, and LTKD's differences to the other losses in pairs of the same seed."""
    rows = [over_seeds(what, "share", values) for what, values in figures.items()]
    for what, values in figures.items():
        title, cell, measure = what.rsplit(": ", 2)
        loss, _, adjusted = cell.partition(",")
        for control in CONTROLS if loss in ("ltkd", "ltkd-alone") else ():
            other = figures.get(f"{title}: {control}{',' * bool(adjusted)}{adjusted}: {measure}", {})
            paired = {seed: value - other[seed] for seed, value in values.items() if seed in other}
            if paired:
                rows.append(over_seeds(f"{title}: {cell} over {control}: {measure}", "share", paired))
    return rows


if __name__ == "__main__":
    main()
