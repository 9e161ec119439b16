"""A number that says what it is: unit, how many, interval, measured or predicted, where."""

from __future__ import annotations

from enum import Enum

from edgec.core.frozen import Frozen

__all__ = ["Kind", "Machine", "Measurement", "Stage"]


class Stage(str, Enum):
    """What was measured: the model given, plain compression, our recipe on few samples alone, ours, what ships."""

    TEACHER = "teacher"
    BASELINE = "baseline"
    FEW = "few"
    COMPRESSED = "compressed"
    ARTIFACT = "artifact"


class Kind(str, Enum):
    """How a number came to be."""

    MEASURED = "measured"
    PREDICTED = "predicted"


class Machine(str, Enum):
    """Whose speed, memory or energy a number is."""

    TARGET = "target"
    """The device that the bundle is for."""
    OTHER = "other"
    """Another one, such as the one that built the bundle."""


class Measurement(Frozen):
    """One row of `report.json`.

    Attributes:
        name: `accuracy`, `worst_class_accuracy`, `macro_f1`, `latency_ms_p50`, …; shares run from 0 to 1.
        label: The class, or None for the whole.
        n: Images, runs or whatever was counted.
        low: Lower end of the 95 % interval, where there is one.
        high: Upper end.
        where: The machine or runtime that the number speaks of, for people.
        machine: Whose speed, memory or energy it is; None for what is not a machine's, such as accuracy and size.
    """

    stage: Stage
    name: str
    label: str | None = None
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    kind: Kind = Kind.MEASURED
    where: str
    machine: Machine | None = None
