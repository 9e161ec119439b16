"""What a unit of each kind of work costs on a machine: least squares over graphs that were timed there.

The roofline's terms are linear in what a product, a value, an element, a byte and a launch cost, so the fit takes a
second, and there is little that it could get caught in. What comes out is `core.compute.Compute`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgec.core.compute import Compute, Efficiency, Fill, Waste
from edgec.latency.roofline import Precision, net_costs, padded, precision_of
from edgec.latency.workload import Work

__all__ = ["Timed", "cross_validated", "fit_costs", "predicted_ms", "weight_bytes"]

_MOST = 8.0
"""Times the peak; a profile takes no more."""
_LEAST = 1e-4
"""Of what a unit would cost if it alone took the time of the graphs that it is in."""
_NOISE = 0.1
"""Errors beyond count by their size, not by its square: a graph that was disturbed does not bend the rest."""
_FOLDS = 5
_NET_WEIGHT = 5.0
"""Of a piece of a net beside a single step."""
_FP32_STEPS = (1, 4, 8, 16)
"""A single value, and as many as a register of 128, 256 or 512 bits holds."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A graph that ran.

    Attributes:
        works: Its operators.
        ms: What it took, without what running any graph takes.
        is_net: Whether it is a piece of a net, which predictions are about; it counts `_NET_WEIGHT` times.
    """

    works: tuple[Work, ...]
    ms: float
    is_net: bool = False


class _Unit(NamedTuple):
    """What has a cost; `kind` is a class of products, or the ONNX name of an operator that is none."""

    what: str
    kind: str = ""
    precision: Precision = Precision.FP32


_WEIGHT, _LAUNCH = _Unit("weight"), _Unit("launch")


def fit_costs(timed: Sequence[Timed], *, fp32_steps: Sequence[int] = _FP32_STEPS) -> Compute:
    """The figures of a machine on which these graphs took what they took.

    Minimises the sum of weight * rho(ln(measured / predicted)) over costs that are not negative, rho being square near
    zero and linear beyond `_NOISE`. Peaks are those of the fastest graph of each number format, so that efficiencies
    are shares of what this machine was seen to do: a nominal peak would have to be known.

    Args:
        timed: At least one graph.
        fp32_steps: Numbers of channels that convolutions may compute at once in float32; the one that fits best counts.
    """
    nominal = _peaks(timed)
    fills = (Fill(fp32_step=step) for step in fp32_steps)
    solved = [_solved(timed, nominal.model_copy(update={"fill": fill})) for fill in fills]
    return min(solved, key=lambda each: each[0])[1]


def _solved(timed: Sequence[Timed], nominal: Compute) -> tuple[float, Compute]:
    """What is left of the errors, and the figures, for steps to which channels are padded."""
    counts = [_units(each.works, nominal) for each in timed]
    units = sorted(set().union(*counts))
    amounts = np.array([[each[unit] for unit in units] for each in counts])
    weights = [_NET_WEIGHT if each.is_net else 1.0 for each in timed]
    left, costs = _solve(amounts, np.array([each.ms for each in timed]), weights)
    return left, _figures(dict(zip(units, costs.tolist(), strict=True)), nominal)


def cross_validated(timed: Sequence[Timed], compute: Compute) -> np.ndarray:
    """ln(predicted / measured) of the pieces of nets, each by a fit that did not see it.

    Args:
        timed: Where too few of them are pieces of nets, all are predicted, by the fit to all.
        compute: What was fitted to all; its steps are kept.
    """

    def error(each: Timed, found: Compute) -> float:
        return math.log(predicted_ms(each.works, found) / each.ms)

    nets = [i for i, each in enumerate(timed) if each.is_net]
    if len(nets) < _FOLDS:
        return np.array([error(each, compute) for each in timed])
    errors = []
    for fold in range(_FOLDS):
        held_out = set(nets[fold::_FOLDS])
        rest = [each for i, each in enumerate(timed) if i not in held_out]
        found = fit_costs(rest, fp32_steps=(compute.fill.fp32_step,))
        errors += [error(timed[i], found) for i in sorted(held_out)]
    return np.array(errors)


def weight_bytes(works: Sequence[Work]) -> int:
    """What the weights of these operators hold."""
    return sum(work.weights.stored_bytes for work in works)


def predicted_ms(works: Sequence[Work], compute: Compute) -> float:
    """What these operators take by a machine's figures, in floating point or int8 as they are."""
    return sum(cost.latency_ms for cost in net_costs(works, compute, half=False))


def _units(works: Sequence[Work], compute: Compute) -> Counter[_Unit]:
    """How much of each unit there is in a graph."""
    found: Counter[_Unit] = Counter()
    for work in works:
        precision = precision_of(work, compute, half=False)
        if work.macs:
            step = 1 if work.kind.is_depthwise else getattr(compute.fill, f"{precision.value}_step")
            outputs, depth = padded(work.outputs, step), padded(work.channels, step) * work.window
            found[_Unit("product", work.kind.value, precision)] += 2 * work.rows * outputs * depth
            found[_Unit("output", work.kind.value, precision)] += 2 * work.rows * outputs
            if not work.kind.is_depthwise:
                found[_Unit("input", work.kind.value, precision)] += 2 * work.rows * depth
                found[_Unit("row", work.kind.value, precision)] += 2 * work.rows
        elif not work.fused:
            found[_Unit("element", work.op_type, precision)] += work.effort
        found[_WEIGHT] += work.weights.stored_bytes
        found[_LAUNCH] += not work.fused
    return found


def _solve(amounts: np.ndarray, measured_ms: np.ndarray, weights: Sequence[float]) -> tuple[float, np.ndarray]:
    """What is left of the errors, and milliseconds of each unit, from how much of it is in each graph."""
    from scipy.optimize import least_squares, nnls

    rates = np.where(amounts > 0, measured_ms[:, None] / np.maximum(amounts, 1e-30), np.nan)
    scale = np.nanmedian(rates, axis=0)
    table, root = amounts * scale, np.sqrt(weights)
    start, _ = nnls(table / measured_ms[:, None] * root[:, None], root)

    def errors(point: np.ndarray) -> np.ndarray:
        return root * np.log(table @ point / measured_ms) / _NOISE

    def slopes(point: np.ndarray) -> np.ndarray:
        return (root / (table @ point))[:, None] * table / _NOISE

    found = least_squares(
        errors,
        np.maximum(start, 2 * _LEAST),
        jac=slopes,  # pyright: ignore[reportArgumentType]  # scipy's stub knows the names of methods only
        bounds=(_LEAST, np.inf),
        loss="soft_l1",
        max_nfev=300,
    )
    return float(found.cost), found.x * scale


def _figures(costs: Mapping[_Unit, float], nominal: Compute) -> Compute:
    """A profile's figures for what units cost, in ms."""
    efficiency, fill, effort = _shares(costs, Precision.FP32, nominal.fp32_tflops, nominal.fill)
    figures = {"efficiency": efficiency, "fill": fill, "effort": effort}
    if nominal.int8_tops:
        efficiency, fill, effort = _shares(costs, Precision.INT8, nominal.int8_tops, nominal.fill)
        figures |= {"int8_efficiency": efficiency, "int8_fill": fill, "int8_effort": effort}
    rest = {"bandwidth_gb_per_s": 1e-6 / costs[_WEIGHT], "floor_us": costs[_LAUNCH] * 1e3}
    return nominal.model_copy(update=figures | rest)


def _shares(
    costs: Mapping[_Unit, float], precision: Precision, peak_tflops: float, fill: Fill
) -> tuple[Efficiency, Fill, dict[str, float]]:
    """What a number format's units cost against an operation at its peak."""
    own = {
        (unit.what, unit.kind): cost * peak_tflops * 1e9 for unit, cost in costs.items() if unit.precision is precision
    }
    products = {kind: max(cost, 1 / _MOST) for (what, kind), cost in own.items() if what == "product"}
    elements = {kind: cost for (what, kind), cost in own.items() if what == "element"}
    typical = max(float(np.median(list(elements.values()))), 1 / _MOST) if elements else 1.0
    missing = {kind: 1.0 for kind, field in Efficiency.model_fields.items() if field.is_required()}
    efficiency = Efficiency(
        **{**missing, "elementwise": 1 / typical, **{kind: 1 / cost for kind, cost in products.items()}}
    )
    waste = {
        kind: Waste(**{f"per_{what}": own.get((what, kind), 0.0) / cost for what in ("output", "input", "row")})
        for kind, cost in products.items()
    }
    effort = {kind: cost / typical for kind, cost in elements.items()}
    return efficiency, fill.model_copy(update={"classes": waste}), effort


def _peaks(timed: Sequence[Timed]) -> Compute:
    """The fastest of each number format, and the most bytes a second, before anything is known of efficiencies."""

    def fastest(*, int8: bool) -> float:
        speeds = [
            2 * sum(work.macs for work in each.works) / each.ms / 1e9
            for each in timed
            if any(work.macs for work in each.works) and any(work.runs_on_bytes for work in each.works) is int8
        ]
        return max(speeds, default=0.0)

    moved = max(
        sum(work.traffic.stored_bytes - work.weights.stored_bytes for work in each.works) / each.ms for each in timed
    )
    return Compute(
        fp32_tflops=fastest(int8=False),
        int8_tops=fastest(int8=True) or None,
        bandwidth_gb_per_s=1,
        cache_gb_per_s=moved / 1e6,
        floor_us=1,
        efficiency=Efficiency(dense=1, pointwise=1, depthwise=1, elementwise=1),
    )
