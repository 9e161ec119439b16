"""Fits the roofline's parameters to measured latencies: ln(measured / predicted), squared, towards priors.

Rows come in groups, one a device. A family of devices shares priors, and a device leaves those of its family only as
far as its rows say so: where there are few, the family decides. `roofline` computes the same operator by operator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgec.core.target import Compute, Efficiency
from edgec.evaluate.roofline import Precision, moving_ms, padded, peak_of, precision_of
from edgec.evaluate.workload import OperatorClass, Work

__all__ = ["Fit", "Observation", "Priors", "fit_parameters", "predict_observations"]

_CLASSES = tuple(kind.value for kind in OperatorClass)
_OWN = (*_CLASSES, *(f"int8_{kind}" for kind in _CLASSES), "share", "cache", "floor_us")
_FILL = ("rows", "outputs", "depth", "window")
_COMMON = (*_FILL, *(f"int8_{name}" for name in _FILL))
_MOST = 8.0
"""Times the peak; a profile takes no more. Only times full of noise ask for it."""
_CENTER = (
    {"dense": 0.5, "winograd": 0.6, "pointwise": 0.5, "grouped": 0.5, "depthwise": 0.2, "elementwise": 0.2}
    | {f"int8_{kind}": 0.9 for kind in _CLASSES}
    | {"share": 0.7, "cache": 0.7, "floor_us": 6.0, "rows": 20.0, "outputs": 8.0, "depth": 20.0, "window": 2.0}
    | {f"int8_{name}": 1.0 for name in _FILL}
)
_WIDTH = (
    {"dense": 0.4, "winograd": 0.4, "pointwise": 0.4, "grouped": 0.4, "depthwise": 1.0, "elementwise": 1.0}
    | {f"int8_{kind}": 0.5 for kind in ("dense", "winograd", "pointwise", "grouped")}
    | {"int8_depthwise": 0.3, "int8_elementwise": 0.3}
    | {"share": 0.3, "cache": 0.3, "floor_us": 1.0, "rows": 1.0, "outputs": 1.0, "depth": 1.0, "window": 1.0}
    | {f"int8_{name}": 1.0 for name in _FILL}
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
        weight: How much it counts beside the others.
    """

    works: tuple[Work, ...]
    compute: Compute
    group: str
    ms: float
    half: bool = False
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Where parameters are sought.

    Attributes:
        center: Typical values; `int8_*` are factors on the value in floating point, `share` and `cache` those on
            the bandwidths.
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
        residuals: ln(measured / predicted) of every observation.
        seen: Classes of operator that the observations hold.
    """

    parameters: Mapping[str, Mapping[str, float]]
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
                "cache_gb_per_s": nominal.cache_gb_per_s and nominal.cache_gb_per_s * found["cache"] / found["share"],
                "efficiency": Efficiency(**whole),
                "int8_efficiency": Efficiency(**int8) if nominal.int8_tops else None,
                "fill": nominal.fill.model_copy(update={name: found[name] for name in _FILL}),
                "int8_fill": nominal.int8_fill
                and nominal.int8_fill.model_copy(update={name: found[name] * found[f"int8_{name}"] for name in _FILL}),
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
    scale = np.sqrt([observation.weight for observation in observations]) / priors.noise

    def distance(point: np.ndarray) -> np.ndarray:
        predicted = table.predict(space.values(point, table.groups))
        return np.concatenate([(measured - np.log(predicted)) * scale, space.penalty(point)])

    found = least_squares(distance, space.start, loss="linear", x_scale=0.3, max_nfev=60).x
    predicted = table.predict(space.values(found, table.groups))
    seen = frozenset(work.kind.value for observation in observations for work in observation.works)
    return Fit(parameters=space.parameters(found), residuals=measured - np.log(predicted), seen=seen)


def predict_observations(observations: Sequence[Observation], fit: Fit) -> np.ndarray:
    """What a fit says of other observations of the same groups, in ms."""
    table = _Table.of(observations)
    columns = {name: np.array([fit.parameters[group][name] for group in table.groups]) for name in (*_OWN, *_COMMON)}
    return table.predict(columns)


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

    def parameters(self, point: np.ndarray) -> dict[str, dict[str, float]]:
        count = len(self.names)
        family = dict(zip(self.names, point[:count], strict=True))
        apart = point[count:].reshape(len(self.groups), len(_OWN))
        found = {}
        for group, row in zip(self.groups, apart, strict=True):
            own = dict(zip(_OWN, row, strict=True))
            found[group] = {name: math.exp(value + own.get(name, 0.0)) for name, value in family.items()}
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
    loading_ms: np.ndarray
    memory_ms: np.ndarray
    """What moving takes at full bandwidth, before an operator computes and meanwhile."""
    cached: np.ndarray
    filled: np.ndarray
    """Whether there is a cache, and whether what is wasted in int8 has parameters of its own."""
    launched: np.ndarray

    @classmethod
    def of(cls, observations: Sequence[Observation]) -> _Table:
        columns: list[tuple] = []
        for row, observation in enumerate(observations):
            operators = Counter(
                _operator(work, observation.compute, half=observation.half) for work in observation.works
            )
            columns += [(row, count, *operator) for operator, count in operators.items()]
        row, count, kind, int8, rows, outputs, depth, work, channelwise, peak, *others = map(
            np.array, zip(*columns, strict=True)
        )
        loading_ms, memory_ms, cached, filled, launched = others
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
            loading_ms=loading_ms,
            memory_ms=memory_ms,
            cached=cached,
            filled=filled,
            launched=launched,
        )

    def predict(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Milliseconds of each observation; `values` hold each parameter for each observation."""
        efficiency = np.stack([values[kind] for kind in _CLASSES])[self.kind, self.row]
        factor = np.stack([values[f"int8_{kind}"] for kind in _CLASSES])[self.kind, self.row]
        rows, outputs, depth, window = (
            values[name][self.row] * np.where(self.filled, values[f"int8_{name}"][self.row], 1.0) for name in _FILL
        )
        is_product = self.sizes[0] > 0
        wasted = np.stack([rows * (self.sizes[0] > 1), outputs, depth])
        others = self.work + 2 * self.channelwise * window
        operations = np.where(is_product, 2 * np.prod(self.sizes + wasted, axis=0), others)
        compute_ms = operations / (self.peak * 1e9 * efficiency * np.where(self.int8, factor, 1.0))
        share, cache = values["share"][self.row], values["cache"][self.row]
        memory_ms = self.memory_ms / np.where(self.cached, cache, share)
        time_ms = (
            self.loading_ms / share
            + np.maximum(compute_ms, memory_ms)
            + self.launched * values["floor_us"][self.row] / 1e3
        )
        return np.bincount(self.row, weights=self.count * time_ms, minlength=len(self.groups))


def _operator(work: Work, compute: Compute, *, half: bool) -> tuple:
    """The columns of `_Table` but for the first two."""
    precision = precision_of(work, compute, half=half)
    step = getattr(compute.fill, f"{precision.value}_step")
    depthwise = work.kind is OperatorClass.DEPTHWISE
    plain = depthwise or not work.macs
    sizes = (0, 0, 0) if plain else (work.rows, padded(work.outputs, step), padded(work.channels, step) * work.window)
    return (
        _CLASSES.index(work.kind.value),
        precision is Precision.INT8,
        *sizes,
        2 * work.macs or work.effort,
        work.rows * work.outputs if depthwise else 0,
        peak_of(work, compute, precision),
        *moving_ms(work, compute, half=half),
        compute.cache_gb_per_s is not None,
        precision is Precision.INT8 and compute.int8_fill is not None,
        not work.fused,
    )
