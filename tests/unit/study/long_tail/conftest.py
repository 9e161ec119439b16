"""A study with results made up by a formula, so that tables, pages and plots can be looked at without training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.pipeline.accelerator import Accelerator
from edgec.study.long_tail.findings import Findings, Measured, Outcome
from edgec.study.long_tail.grid import Grid
from edgec.study.long_tail.plan import Run, plan_study
from edgec.study.score import Inapplicable

LABELS = tuple("0123456789")
TAIL = {"teacher": 0.4, "labels": 0.2, "kd": 0.25, "dkd": 0.3, "dist": 0.35, "ltkd": 0.5, "ltkd-alone": 0.55}
"""Accuracy in the tail, nothing adjusted."""


@pytest.fixture
def find() -> Callable[..., Findings]:
    """Findings of a grid; `inapplicable` names losses that are refused."""

    def find(*, inapplicable: tuple[str, ...] = (), **fields: object) -> Findings:
        study = plan_study(None, (), Grid.model_validate(fields), accelerator=Accelerator.CPU)
        rng = np.random.default_rng(0)

        def result(run: Run) -> Measured | Inapplicable:
            if run.cell.loss in inapplicable:
                return Inapplicable(reason="needs a head | or so")
            tail = TAIL.get(run.cell.loss, 0.3) + 0.1 * (run.cell.adjusted != "nothing") + rng.uniform(-0.01, 0.01)
            fields = {
                "accuracy": tail + 0.3,
                "worst_class_accuracy": tail - 0.1,
                "macro_f1": tail + 0.2,
                "head_accuracy": 0.9,
                "medium_accuracy": 0.7,
                "tail_accuracy": tail,
                "class_accuracy": dict.fromkeys(LABELS, tail),
                "images": 790,
                "counts": [98, 63, 41, 27, 17, 11, 7, 5, 3, 2],
                "seconds": 3.25,
                "where": "a machine",
            }
            return Measured.model_validate(fields)

        outcomes = tuple(
            Outcome(cell=run.cell, group=run.group, seed=run.seed, result=result(run)) for run in study.runs
        )
        return Findings(study=study, labels=LABELS, outcomes=outcomes, cached=0, seconds=1.0)

    return find
