"""What to change in a network so that a device runs it faster, read off a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgec.core.compute import Compute
from edgec.latency.roofline import OperatorCost, Precision, Prediction, cost_of, padded, peak_of
from edgec.latency.workload import LANES, OperatorClass

__all__ = ["advice_of", "advise"]

_TELLING = 0.15
"""Share of the time from which a cause is worth a word."""
_MOST = 3
_PADDED = 1.1
_SMALL = 1.5


def advise(prediction: Prediction, compute: Compute) -> tuple[str, ...]:
    """How far to trust the prediction, then the causes that take most of the time, each with what would help."""
    causes = sorted(_causes(prediction, compute), reverse=True)
    return (*_distrust(prediction, compute), *[text for share, text in causes if share >= _TELLING][:_MOST])


def _distrust(prediction: Prediction, compute: Compute) -> Iterator[str]:
    """A word where the net lies outside of those that the profile's figures were fitted to."""
    macs, fitted = sum(cost.macs for cost in prediction.operators), compute.fitted
    if fitted and fitted.widths_outside(macs):
        than = "smaller" if macs < fitted.least_gmacs * 1e9 else "larger"
        millions = (macs / 1e6, fitted.least_gmacs * 1e3, fitted.most_gmacs * 1e3)
        size, least, most = (f"{count:,.0f}" if count >= 1 else f"{count:.2g}" for count in millions)
        yield (
            f"the net is {than} than any that the prediction was fitted to, with {size} million multiply-adds beside "
            f"{least} to {most}: its interval is wider, measure it on the device"
        )


def _causes(prediction: Prediction, compute: Compute) -> Iterator[tuple[float, str]]:
    """Shares of the time, each with what would shorten it."""
    whole_ms, costs = prediction.latency_ms, prediction.operators
    launched = [cost for cost in costs if cost.floor_ms]
    share = sum(cost.floor_ms for cost in launched) / whole_ms
    each = f"{len(launched)} operators, {compute.floor_us:.3g} µs each"
    yield share, f"{share:.0%} of the time is the floor of {each}: fewer, wider layers"

    depthwise = [cost for cost in costs if cost.kind.is_depthwise]
    share = sum(cost.latency_ms for cost in depthwise) / whole_ms
    reached = sum(2e-9 * cost.macs for cost in depthwise) / (share * whole_ms * _peak(compute)) if depthwise else 0.0
    what = f"{len(depthwise)} depthwise convolutions take {share:.0%} of the time at {reached:.1%} of the device's peak"
    yield share, f"{what}: dense convolutions of fewer channels may be as fast"

    share = sum(_ragged_ms(cost, compute) for cost in costs) / whole_ms
    what = f"{share:.0%} of the time is lost by depthwise convolutions of channels that do not fill registers"
    yield share, f"{what}: choose widths that are multiples of {LANES}, or set rules.depthwise_multiple = {LANES}"

    share = sum(map(_padding_ms, costs)) / whole_ms
    step = max((_step(cost, compute) for cost in costs if cost.padded > 1), default=1)
    what = f"{share:.0%} of the time goes into padded channels"
    yield share, f"{what}: choose widths that are multiples of {step}, or set rules.channel_multiple = {step}"

    floats = [cost for cost in costs if cost.macs and cost.precision is not Precision.INT8]
    if len(floats) < sum(cost.macs > 0 for cost in costs):
        share = sum(cost.latency_ms for cost in floats) / whole_ms
        what = f"{len(floats)} products that stay in floating point take {share:.0%} of the time"
        yield share, f"{what}: the report's table of layers says which classes need them"


def _padding_ms(cost: OperatorCost) -> float:
    compute_ms = cost.latency_ms - cost.floor_ms if cost.bound_by == "compute" else 0.0
    return compute_ms * (1 - 1 / cost.padded)


def _ragged_ms(cost: OperatorCost, compute: Compute) -> float:
    """What a depthwise convolution would save if its channels were a multiple of `LANES`."""
    if cost.kind is not OperatorClass.RAGGED:
        return 0.0
    even = replace(cost.work, kind=OperatorClass.DEPTHWISE)
    return cost.latency_ms - cost_of(even, compute, half=cost.precision is Precision.FP16).latency_ms


def _step(cost: OperatorCost, compute: Compute) -> int:
    return getattr(compute.fill, f"{cost.precision.value}_step")


def advice_of(cost: OperatorCost, compute: Compute) -> str | None:
    """Why an operator takes its time and what would help; None where it runs near what the device can do."""
    if cost.bound_by == "floor":
        return f"mostly launch, {1e3 * cost.floor_ms:.3g} of {1e3 * cost.latency_ms:.3g} µs: fewer, wider layers"
    if cost.bound_by == "memory":
        return f"waits for memory, {cost.moved_bytes / 1e6:.3g} MB: fewer channels or pixels, or fewer bits"
    if cost.kind.is_depthwise:
        share = 2e-9 * cost.macs / (cost.latency_ms * _peak(compute))
        return f"depthwise at {share:.1%} of the device's peak: fewer channels here"
    return _advice_on_size(cost, compute) if cost.macs else None


def _advice_on_size(cost: OperatorCost, compute: Compute) -> str | None:
    """For a product that computes most of its time."""
    work, step = cost.work, _step(cost, compute)
    if cost.padded > _PADDED:
        width = next(channels for channels in (work.outputs, work.channels) if padded(channels, step) != channels)
        return f"{width} channels computed as {padded(width, step)}: multiples of {step} fill the units"
    if cost.wasted > _SMALL:
        return (
            f"too small to fill the device, {cost.wasted:.1f} times the time per product: wider layers, fewer of them"
        )
    if cost.precision is not Precision.INT8 and compute.int8_tops:
        gain = compute.int8_tops / peak_of(work, compute, cost.precision)
        return f"computes in {cost.precision.value}: int8 has {gain:.3g} times the peak" if gain > 1 else None
    return None


def _peak(compute: Compute) -> float:
    return compute.int8_tops or compute.fp16_tflops or compute.fp32_tflops
