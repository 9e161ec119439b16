"""Costs of a machine from graphs that ran there: known ones are found, whatever was timed, figures are valid."""

import numpy as np
import pytest

from edgec.core.compute import Compute, Efficiency, Fill, Waste
from edgec.latency.fit.costs import Timed, cross_validated, fit_costs, predicted_ms, weight_bytes
from edgec.latency.workload import OperatorClass, Traffic, Work

MACHINE = Compute(
    fp32_tflops=0.1,
    int8_tops=0.4,
    bandwidth_gb_per_s=8,
    cache_gb_per_s=400,
    floor_us=3,
    efficiency=Efficiency(dense=0.7, pointwise=0.9, depthwise=0.2, elementwise=0.05),
    int8_efficiency=Efficiency(dense=0.5, pointwise=0.8, depthwise=0.1, elementwise=0.1),
    fill=Fill(fp32_step=8, classes={"dense": Waste(per_output=20, per_input=4), "pointwise": Waste(per_row=300)}),
    int8_fill=Fill(per_output=60),
)
KINDS = (OperatorClass.DENSE, OperatorClass.POINTWISE, OperatorClass.DEPTHWISE)


def product(kind, rows, outputs, channels, *, quantized):
    window = 1 if kind is OperatorClass.POINTWISE else 9
    outputs, channels = (1, 1) if kind is OperatorClass.DEPTHWISE else (outputs, channels)
    weights = outputs * channels * window
    size = rows * (outputs + channels) + weights
    return Work(
        name="product",
        op_type="Conv",
        kind=kind,
        rows=rows,
        outputs=outputs,
        channels=channels,
        window=window,
        traffic=Traffic(byte=size) if quantized else Traffic(single=size),
        weights=Traffic(byte=weights) if quantized else Traffic(single=weights),
        quantized=quantized,
        half=False,
        fused=False,
    )


def addition(elements):
    return Work(
        name="addition",
        op_type="Add",
        kind=OperatorClass.ELEMENTWISE,
        effort=elements,
        traffic=Traffic(single=3 * elements),
        quantized=False,
        half=False,
        fused=False,
    )


def graphs(seed, count=200):
    """Made-up graphs of one to four operators."""
    rng = np.random.default_rng(seed)

    def operator(quantized):
        if rng.random() < 0.2:
            return addition(int(rng.integers(1_000, 200_000)))
        rows, outputs, channels = (int(rng.choice([8, 20, 49, 100, 256, 800])) for _ in range(3))
        return product(KINDS[rng.integers(len(KINDS))], 10 * rows, outputs, channels, quantized=quantized)

    return [tuple(operator(i % 2 == 1) for _ in range(rng.integers(1, 5))) for i in range(count)]


def timed(seed, *, noise=0.0, nets=0, count=200):
    """The same as the machine times them, off by a spread of ln(time); the first of them pieces of nets."""
    rng = np.random.default_rng(seed + 1)
    return [
        Timed(works=works, ms=predicted_ms(works, MACHINE) * float(np.exp(rng.normal(0, noise))), is_net=i < nets)
        for i, works in enumerate(graphs(seed, count))
    ]


def errors(compute, seed=7):
    return np.array([predicted_ms(works, compute) / predicted_ms(works, MACHINE) - 1 for works in graphs(seed)])


def test_a_known_machine_predicts_graphs_that_were_not_timed():
    found = fit_costs(timed(0))
    # Where all comes from caches, the larger of two times is counted, which a sum of costs does not know.
    assert np.median(np.abs(errors(found))) < 0.01
    assert found.floor_us == pytest.approx(MACHINE.floor_us, rel=0.1)
    assert found.fill.fp32_step == MACHINE.fill.fp32_step


def test_noise_is_averaged_out():
    sizes = np.abs(errors(fit_costs(timed(0, noise=0.1))))
    assert np.median(sizes) < 0.05


def test_a_disturbed_graph_does_not_bend_the_rest():
    known = timed(0)
    disturbed = [Timed(works=each.works, ms=each.ms * 10, is_net=False) for each in known[:10]]
    assert np.median(np.abs(errors(fit_costs([*disturbed, *known[10:]])))) < 0.03


def test_figures_are_those_of_a_valid_profile_even_if_times_make_no_sense():
    rng = np.random.default_rng(3)
    nonsense = [Timed(works=works, ms=float(rng.uniform(0.01, 10))) for works in graphs(3, count=40)]
    found = fit_costs(nonsense)
    assert Compute.model_validate(found.model_dump()) == found


def test_a_machine_without_int8_graphs_has_no_int8_figures():
    found = fit_costs(timed(0)[::2])
    assert (found.int8_tops, found.int8_efficiency, found.int8_fill) == (None, None, None)


def test_pieces_of_nets_are_predicted_by_fits_that_did_not_see_them():
    known = timed(0, nets=40, noise=0.1)
    found = fit_costs(known)
    left_out = cross_validated(known, found)
    seen = [np.log(predicted_ms(each.works, found) / each.ms) for each in known[:40]]
    assert len(left_out) == 40
    assert np.sqrt(np.mean(np.square(seen))) < np.sqrt(np.mean(np.square(left_out))) < 0.2


def test_without_pieces_of_nets_every_graph_is_judged_by_the_fit_to_all():
    known = timed(0, noise=0.1)
    found = fit_costs(known)
    expected = [np.log(predicted_ms(each.works, found) / each.ms) for each in known]
    assert cross_validated(known, found) == pytest.approx(expected)


def test_weights_are_counted_as_they_are_stored():
    works = [product(OperatorClass.POINTWISE, 10, 6, 5, quantized=quantized) for quantized in (False, True)]
    assert weight_bytes([*works, addition(100)]) == 6 * 5 * (4 + 1)
