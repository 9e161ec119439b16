"""A study with results made up by a formula, so that tables, pages and plots can be looked at without training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.pipeline.accelerator import Accelerator
from edgec.study.imbalance.findings import Findings, Measured, Outcome
from edgec.study.imbalance.grid import Grid
from edgec.study.imbalance.plan import Run, plan_study
from edgec.study.score import Inapplicable

LABELS = tuple("0123456789")
LEVELS = {"none": 0.95, "pruned-severe": 0.8, "a3w3": 0.93, "distilled-a3w3": 0.9}
"""Macro F1 after training on balanced classes."""


@pytest.fixture
def find() -> Callable[..., Findings]:
    """Findings of a grid of the compressions in `LEVELS`.

    `harm` is what imbalance takes of the score, by compression; `inapplicable` names compressions that are refused.
    """

    def find(*, harm: dict[str, float] | None = None, inapplicable: tuple[str, ...] = (), **fields: object) -> Findings:
        asked = {"compressions": tuple(LEVELS), "imbalance": (10, 100), **fields}
        study = plan_study(None, (), Grid.model_validate(asked), accelerator=Accelerator.CPU)
        rng = np.random.default_rng(0)

        def result(run: Run) -> Measured | Inapplicable:
            name = run.cell.compression
            if name in inapplicable:
                return Inapplicable(reason="needs blocks | or so")
            lost = 0.0 if run.cell.draw.profile is None else (harm or {}).get(name, 0.2)
            level = LEVELS[name] * (1 - lost) + rng.uniform(-0.01, 0.01)
            fields = {
                "accuracy": level,
                "worst_class_accuracy": level - 0.1,
                "macro_f1": level,
                "tail_accuracy": None if run.cell.draw.profile is None else level - 0.05,
                "class_accuracy": dict.fromkeys(LABELS, level),
                "images": 790,
                "counts": [98] * 5 + [1] * 5,
                "weights": 65_440,
                "size_mibit": 1.997,
                "seconds": 3.25,
                "where": "a machine",
            }
            return Measured.model_validate(fields)

        outcomes = tuple(Outcome(cell=run.cell, seed=run.seed, result=result(run)) for run in study.runs)
        return Findings(study=study, labels=LABELS, outcomes=outcomes, cached=0, seconds=1.0)

    return find
