"""Fits the roofline's parameters to latencies of whole nets: ln(measured / predicted), squared, towards priors.

Rows come in groups, one a device. A family of devices shares priors, and a device leaves those of its family only as
far as its rows say so: where there are few, the family decides. `edgec.latency.roofline` computes the same operator
by operator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgec.core.compute import RELATED, Compute, Efficiency, Waste
from edgec.latency.roofline import Precision, moving_ms, padded, peak_of, precision_of
from edgec.latency.workload import Work

__all__ = ["Fit", "Observation", "Priors", "fit_parameters", "predict_observations"]

_CLASSES = ("dense", "winograd", "pointwise", "grouped", "depthwise", "elementwise")
"""Classes of operator of which enough is published."""
_OWN = (*_CLASSES, *(f"int8_{kind}" for kind in _CLASSES), "share", "floor_us")
_WASTE = ("per_output", "per_input", "per_weight")
_COMMON = (*_WASTE, "per_depthwise_output")
_MOST = 8.0
"""Times the peak; a profile takes no more."""
_CENTER = (
    {"dense": 0.5, "winograd": 0.6, "pointwise": 0.5, "grouped": 0.5, "depthwise": 0.2, "elementwise": 0.2}
    | {f"int8_{kind}": 0.9 for kind in _CLASSES}
    | {"share": 0.7, "floor_us": 6.0}
    | {"per_output": 20.0, "per_input": 8.0, "per_weight": 20.0, "per_depthwise_output": 2.0}
)
_WIDTH = (
    {"dense": 0.4, "winograd": 0.4, "pointwise": 0.4, "grouped": 0.4, "depthwise": 1.0, "elementwise": 1.0}
    | {f"int8_{kind}": 0.5 for kind in ("dense", "winograd", "pointwise", "grouped")}
    | {"int8_depthwise": 0.3, "int8_elementwise": 0.3}
    | {"share": 0.3, "floor_us": 1.0}
    | dict.fromkeys(_COMMON, 1.0)
)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A latency, of a net or of one operator.

    Attributes:
        works: What was run.
        compute: Peaks and bandwidth of the device; its other parameters do not matter.
        group: The device, or devices that share parameters.
        ms: What it took.
        half: Whether float32 tensors were computed in 16 bits.
    """

    works: tuple[Work, ...]
    compute: Compute
    group: str
    ms: float
    half: bool = False


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Where parameters are sought.

    Attributes:
        center: Typical values; `int8_*` are factors on the value in floating point, `share` that on the bandwidth.
        width: How far, as a standard deviation of the logarithm, a family may lie from them.
        between: How far a device may lie from its family.
        noise: How far a latency may lie from a perfect model.
    """

    center: Mapping[str, float] = field(default_factory=lambda: dict(_CENTER))
    width: Mapping[str, float] = field(default_factory=lambda: dict(_WIDTH))
    between: float = 0.3
    noise: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found.

    Attributes:
        parameters: Of each group.
        family: Of a device that was not seen.
        residuals: ln(measured / predicted) of every observation.
        seen: Classes of operator that the observations hold.
    """

    parameters: Mapping[str, Mapping[str, float]]
    family: Mapping[str, float]
    residuals: np.ndarray
    seen: frozenset[str]

    def compute(self, group: str, nominal: Compute, *, spread: float | None = None) -> Compute:
        """A device's figures with the parameters of a group; steps of the channels stay."""
        found = self.parameters[group]
        known = [kind for kind in _CLASSES if kind in self.seen or Efficiency.model_fields[kind].is_required()]
        whole = {kind: min(found[kind], _MOST) for kind in known}
        int8 = {kind: min(found[kind] * found[f"int8_{kind}"], _MOST) for kind in known}
        return nominal.model_copy(
            update={
                "floor_us": found["floor_us"],
                "bandwidth_share": min(found["share"], _MOST),
                "efficiency": Efficiency(**whole),
                "int8_efficiency": Efficiency(**int8) if nominal.int8_tops else None,
                "fill": nominal.fill.model_copy(
                    update={
                        **{name: found[name] for name in _WASTE},
                        "classes": {"depthwise": Waste(per_output=found["per_depthwise_output"])},
                    }
                ),
                "spread": spread,
            }
        )


def fit_parameters(observations: Sequence[Observation], priors: Priors | None = None) -> Fit:
    """The parameters of every group, by Levenberg and Marquardt's method on their logarithms.

    Args:
        observations: At least one.
        priors: None takes those of a device of which nothing is known.
    """
    from scipy.optimize import least_squares

    priors = priors or Priors()
    table = _Table.of(observations)
    space = _Space(tuple(sorted({observation.group for observation in observations})), priors)
    measured = np.log([observation.ms for observation in observations])

    def distance(point: np.ndarray) -> np.ndarray:
        predicted = table.predict(space.values(point, table.groups))
        return np.concatenate([(measured - np.log(predicted)) / priors.noise, space.penalty(point)])

    found = least_squares(distance, space.start, loss="linear", x_scale=0.3, max_nfev=60).x
    predicted = table.predict(space.values(found, table.groups))
    seen = frozenset(_fitted(work.kind.value) for observation in observations for work in observation.works)
    return Fit(
        parameters=space.parameters(found),
        family=space.family(found),
        residuals=measured - np.log(predicted),
        seen=seen,
    )


def predict_observations(observations: Sequence[Observation], fit: Fit) -> np.ndarray:
    """What a fit says of other observations, in ms; a group that it has not seen has the family's parameters."""
    table = _Table.of(observations)
    found = [fit.parameters.get(group, fit.family) for group in table.groups]
    return table.predict({name: np.array([own[name] for own in found]) for name in (*_OWN, *_COMMON)})


@dataclass(frozen=True)
class _Space:
    """Points: a family's parameters, the common ones, then how far each group leaves its family."""

    groups: tuple[str, ...]
    priors: Priors

    @property
    def names(self) -> tuple[str, ...]:
        return (*_OWN, *_COMMON)

    @property
    def start(self) -> np.ndarray:
        center = np.log([self.priors.center[name] for name in self.names])
        return np.concatenate([center, np.zeros(len(self.groups) * len(_OWN))])

    def penalty(self, point: np.ndarray) -> np.ndarray:
        """What leaving the priors costs."""
        count = len(self.names)
        width = np.array([self.priors.width[name] for name in self.names])
        own = point[count:] / self.priors.between
        # A single group is its own family.
        own = point[count:] * 100 if len(self.groups) == 1 else own
        return np.concatenate([(point[:count] - self.start[:count]) / width, own])

    def family(self, point: np.ndarray) -> dict[str, float]:
        """The family's parameters."""
        return dict(zip(self.names, np.exp(point[: len(self.names)]).tolist(), strict=True))

    def parameters(self, point: np.ndarray) -> dict[str, dict[str, float]]:
        """Each group's parameters."""
        family, apart = self.family(point), np.exp(point[len(self.names) :]).reshape(len(self.groups), len(_OWN))
        found = {}
        for group, row in zip(self.groups, apart.tolist(), strict=True):
            own = dict(zip(_OWN, row, strict=True))
            found[group] = {name: value * own.get(name, 1.0) for name, value in family.items()}
        return found

    def values(self, point: np.ndarray, groups: Sequence[str]) -> dict[str, np.ndarray]:
        """Each parameter for a list of groups."""
        count = len(self.names)
        position = {group: i for i, group in enumerate(self.groups)}
        apart = point[count:].reshape(len(self.groups), len(_OWN))[[position[group] for group in groups]]
        own = {name: np.exp(point[i] + apart[:, i]) for i, name in enumerate(_OWN)}
        common = {name: np.full(len(groups), math.exp(point[len(_OWN) + i])) for i, name in enumerate(_COMMON)}
        return own | common


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The operators of all observations as arrays, equal ones of an observation together."""

    groups: tuple[str, ...]
    row: np.ndarray
    count: np.ndarray
    kind: np.ndarray
    int8: np.ndarray
    sizes: np.ndarray
    """Rows, outputs and depth, padded; zero for what is no matrix product, where `work` stands for all."""
    work: np.ndarray
    channelwise: np.ndarray
    """Values that a depthwise convolution makes."""
    peak: np.ndarray
    memory_ms: np.ndarray
    """What moving takes at full bandwidth."""
    launched: np.ndarray

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> _Table:
        columns: list[tuple] = []
        for row, observation in enumerate(observations):
            operators = Counter(
                _operator(work, observation.compute, half=observation.half) for work in observation.works
            )
            columns += [(row, count, *operator) for operator, count in operators.items()]
        row, count, kind, int8, rows, outputs, depth, work, channelwise, peak, memory_ms, launched = map(
            np.array, zip(*columns, strict=True)
        )
        return cls(
            groups=tuple(observation.group for observation in observations),
            row=row,
            count=count,
            kind=kind,
            int8=int8,
            sizes=np.stack([rows, outputs, depth]).astype(float),
            work=work,
            channelwise=channelwise,
            peak=peak,
            memory_ms=memory_ms,
            launched=launched,
        )

    def predict(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Milliseconds of each observation; `values` hold each parameter for each observation."""
        efficiency = np.stack([values[kind] for kind in _CLASSES])[self.kind, self.row]
        factor = np.stack([values[f"int8_{kind}"] for kind in _CLASSES])[self.kind, self.row]
        per_output, per_input, per_weight, per_depthwise_output = (values[name][self.row] for name in _COMMON)
        m, n, k = self.sizes
        products = m * n * k + m * n * per_output + m * k * per_input + n * k * per_weight * (m > 1)
        others = self.work + 2 * self.channelwise * per_depthwise_output
        operations = np.where(m > 0, 2 * products, others)
        compute_ms = operations / (self.peak * 1e9 * efficiency * np.where(self.int8, factor, 1.0))
        time_ms = np.maximum(compute_ms, self.memory_ms / values["share"][self.row])
        time_ms += self.launched * values["floor_us"][self.row] / 1e3
        return np.bincount(self.row, weights=self.count * time_ms, minlength=len(self.groups))


def _fitted(kind: str) -> str:
    """The class whose parameters stand for one of which too little is published."""
    return kind if kind in _CLASSES else _fitted(RELATED[kind])


def _operator(work: Work, compute: Compute, *, half: bool) -> tuple:
    """The columns of `_Table` but for the first two."""
    precision = precision_of(work, compute, half=half)
    step = getattr(compute.fill, f"{precision.value}_step")
    depthwise = work.kind.is_depthwise
    plain = depthwise or not work.macs
    sizes = (0, 0, 0) if plain else (work.rows, padded(work.outputs, step), padded(work.channels, step) * work.window)
    return (
        _CLASSES.index(_fitted(work.kind.value)),
        precision is Precision.INT8,
        *sizes,
        2 * work.macs or work.effort * (not work.fused),
        work.rows * work.outputs if depthwise else 0,
        peak_of(work, compute, precision),
        sum(moving_ms(work, compute, half=half)),
        not work.fused,
    )
