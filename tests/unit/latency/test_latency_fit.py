"""The fit to published latencies: it finds what made the latencies, and says of an operator what the roofline says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.compute import Compute, Efficiency, Fill
from edgec.latency.roofline import cost_of
from edgec.latency.workload import OperatorClass, Traffic, Work
from latency_fit import Fit, Observation, Priors, fit_parameters, predict_observations

PUBLISHED = ("dense", "winograd", "pointwise", "grouped", "depthwise", "elementwise")
TRUE = (
    {"dense": 0.6, "winograd": 0.8, "pointwise": 0.4, "depthwise": 0.3, "grouped": 0.2, "elementwise": 0.1}
    | {f"int8_{kind}": 0.7 for kind in PUBLISHED}
    | {"share": 0.6, "floor_us": 9.0}
    | {"per_output": 12.0, "per_input": 5.0, "per_weight": 30.0, "per_depthwise_output": 3.0}
)
NOMINAL = Compute(
    fp32_tflops=1,
    fp16_tflops=2,
    int8_tops=4,
    bandwidth_gb_per_s=50,
    floor_us=1,
    efficiency=Efficiency(dense=1, pointwise=1, depthwise=1, elementwise=1),
    fill=Fill(int8_step=32, fp16_step=8),
)
EVERY = frozenset(PUBLISHED)


def product(kind, rows, outputs, channels, *, window=1, quantized=False):
    size = rows * (outputs + channels)
    return Work(
        name="a",
        op_type="Conv",
        kind=kind,
        rows=rows,
        outputs=outputs,
        channels=channels,
        window=window,
        traffic=Traffic(byte=size) if quantized else Traffic(single=size),
        weights=Traffic(byte=outputs) if quantized else Traffic(single=outputs),
        quantized=quantized,
        half=False,
        fused=False,
    )


def elementwise(elements, *, fused=False):
    return Work(
        name="b",
        op_type="Add",
        kind=OperatorClass.ELEMENTWISE,
        effort=elements,
        traffic=Traffic(single=2 * elements),
        quantized=False,
        half=False,
        fused=fused,
    )


works = st.one_of(
    st.builds(
        product,
        st.sampled_from([kind for kind in OperatorClass if kind is not OperatorClass.ELEMENTWISE]),
        st.integers(1, 4000),
        st.integers(1, 600),
        st.integers(1, 600),
        window=st.sampled_from([1, 9, 25]),
        quantized=st.booleans(),
    ),
    st.builds(elementwise, st.integers(1, 10**6), fused=st.booleans()),
)


def observed(*run, ms=1.0, group="one", half=False):
    return Observation(works=tuple(run), compute=NOMINAL, group=group, ms=ms, half=half)


@settings(deadline=None, max_examples=40)
@given(run=st.lists(works, min_size=1, max_size=5), half=st.booleans())
def test_a_fit_predicts_what_the_roofline_adds_up(run, half):
    fit = Fit(parameters={"one": TRUE}, family=TRUE, residuals=np.zeros(1), seen=EVERY)
    (together,) = predict_observations([observed(*run, half=half)], fit)
    compute = fit.compute("one", NOMINAL)
    one_by_one = sum(cost_of(work, compute, half=half).latency_ms for work in run)
    # Sums and products of a few floats in another order.
    assert together == pytest.approx(one_by_one, rel=1e-9)


def test_the_parameters_that_made_the_latencies_are_found():
    rng = np.random.default_rng(0)
    probes = [
        observed(product(kind, int(rng.integers(1, 4000)), int(rng.integers(8, 600)), int(rng.integers(8, 600))))
        for kind in (OperatorClass.DENSE, OperatorClass.POINTWISE)
        for _ in range(40)
    ]
    probes += [observed(elementwise(int(size))) for size in np.geomspace(10, 10**7, 20)]
    truth = predict_observations(probes, Fit(parameters={"one": TRUE}, family=TRUE, residuals=np.zeros(1), seen=EVERY))
    probes = [observed(*probe.works, ms=float(ms)) for probe, ms in zip(probes, truth, strict=True)]
    fit = fit_parameters(probes, Priors(noise=0.01))
    found = fit.parameters["one"]
    # Latencies are exact: what is left is the pull of the priors, a hundredth of their width.
    for name in ("dense", "pointwise", "share", "floor_us", "per_output", "per_weight"):
        assert found[name] == pytest.approx(TRUE[name], rel=0.1), name
    assert np.abs(fit.residuals).max() < 0.02


def test_a_device_of_few_rows_takes_after_its_family():
    sizes = [(100, 64, 64), (1000, 128, 128), (3000, 256, 256), (50, 512, 512)]
    many = [observed(product(OperatorClass.POINTWISE, *size), group="known") for size in sizes]
    fast = {**TRUE, "pointwise": 0.9}
    truth = predict_observations(many, Fit(parameters={"known": fast}, family=TRUE, residuals=np.zeros(1), seen=EVERY))
    rows = [observed(*probe.works, ms=float(ms), group="known") for probe, ms in zip(many, truth, strict=True)]
    other = observed(elementwise(1000), ms=0.01, group="unknown")
    fit = fit_parameters([*rows, other])
    assert fit.parameters["unknown"]["pointwise"] == pytest.approx(fit.parameters["known"]["pointwise"], rel=0.2)


def test_a_device_that_was_not_seen_is_predicted_with_the_family_s_parameters():
    sizes = [(100, 64, 64), (1000, 128, 128), (3000, 256, 256), (50, 512, 512)]
    rows = [
        observed(product(OperatorClass.POINTWISE, *size), ms=size[0] / 1e4, group=g) for size in sizes for g in "ab"
    ]
    fit = fit_parameters(rows)
    unseen = [observed(*row.works, group="c") for row in rows[::2]]
    of_family = Fit(parameters={"c": fit.family}, family={}, residuals=fit.residuals, seen=EVERY)
    assert predict_observations(unseen, fit) == pytest.approx(predict_observations(unseen, of_family))


def test_permuting_the_rows_changes_nothing():
    rows = [observed(product(OperatorClass.DENSE, size, 64, 64), ms=size / 1000) for size in (100, 500, 2000)]
    first, second = (fit_parameters(order).parameters["one"] for order in (rows, rows[::-1]))
    assert first == pytest.approx(second, rel=1e-4)


def test_a_device_without_int8_gets_no_int8_efficiencies():
    fit = Fit(parameters={"one": TRUE}, family=TRUE, residuals=np.zeros(1), seen=EVERY)
    plain = NOMINAL.model_copy(update={"int8_tops": None})
    assert fit.compute("one", plain).int8_efficiency is None
    own = fit.compute("one", NOMINAL, spread=0.2)
    assert own.int8_efficiency.dense == pytest.approx(0.6 * 0.7)
    assert (own.spread, own.fill.int8_step, own.fill.per_weight) == (0.2, 32, 30.0)
    assert own.fill.of("ragged").per_output == 3


def test_a_class_that_nobody_timed_is_left_open():
    fit = fit_parameters([observed(product(OperatorClass.DENSE, 100, 64, 64), ms=0.1)])
    efficiency = fit.compute("one", NOMINAL).efficiency
    assert (efficiency.grouped, efficiency.winograd) == (None, None)
    assert efficiency.of("grouped") == efficiency.dense
