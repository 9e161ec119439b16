"""A study with results made up by a formula, so that tables, pages and plots can be looked at without compressing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.study.few_sample.findings import Findings, Measured, Outcome
from edgec.study.few_sample.grid import Grid
from edgec.study.few_sample.plan import Run, Study
from edgec.study.score import Inapplicable, Score

LABELS = tuple("0123456789")


def score(accuracy: float, worst: float, *, classes: tuple[str, ...] = LABELS) -> dict[str, object]:
    return {
        "accuracy": accuracy,
        "worst_class_accuracy": worst,
        "macro_f1": accuracy - 0.01,
        "class_accuracy": dict.fromkeys(classes, accuracy),
        "images": 790,
    }


@pytest.fixture
def find() -> Callable[..., Findings]:
    """Findings of a grid; its methods need not be registered. `inapplicable` names methods that are refused."""

    def find(*, labels: tuple[str, ...] = LABELS, inapplicable: tuple[str, ...] = (), **grid: object) -> Findings:
        asked = Grid.model_validate({"methods": ("cd", "mir"), **grid})
        plan = plan_build(read_config(None, [("data.few.at_least", 0)]), accelerator=Accelerator.CPU)
        runs = tuple(Run(cell=cell, seed=seed, plan=plan) for cell, seed in asked.runs)
        rng = np.random.default_rng(0)
        outcomes = []
        for run in runs:
            level = {"plain": 0.6, "paper": 0.65, "few": 0.75, "ours": 0.8}[run.cell.variant.kind] + rng.uniform(
                -0.05, 0.05
            )
            groups = {} if run.cell.imbalance == 1 else {"head_accuracy": level, "medium_accuracy": level - 0.01}
            result = Measured.model_validate(
                {
                    **score(level, level - 0.2, classes=labels),
                    **groups,
                    **({"tail_accuracy": level - 0.1} if groups else {}),
                    "counts": [run.cell.samples // 2] + [1] * (len(labels) - 1),
                    "kept_flops": 0.48,
                    "seconds": 61.25,
                    "where": "a machine",
                }
            )
            refused = Inapplicable(reason="needs blocks | or so")
            shown = refused if run.cell.method in inapplicable else result
            outcomes.append(Outcome(cell=run.cell, seed=run.seed, result=shown))
        return Findings(
            study=Study(grid=asked, plan=plan, runs=runs),
            labels=labels,
            teacher=Score.model_validate(score(0.917, 0.832, classes=labels)),
            outcomes=tuple(outcomes),
            cached=0,
            seconds=1.0,
        )

    return find
