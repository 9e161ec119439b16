"""Activation ranges of a real graph, against the ONNX reference evaluator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgec.calibrate import Ranges, Recipe, load_recipe, observe_ranges, place, prepare
from edgec.core.errors import CalibrationError

MINMAX = Recipe(name="x", title="x", observer="minmax")
KINDS = ("minmax", "moving-average", "percentile", "mse", "entropy", "worst-class")


class Counting:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.total, self.seen = 0, 0

    def note(self, text):
        raise AssertionError(text)

    def track(self, items, *, total, what, unit="it"):
        self.total = total
        for item in items:
            self.seen += 1
            yield item


@pytest.mark.parametrize("engine", ["onnxruntime", "tensorrt"])
def test_minmax_ranges_are_those_of_the_reference_evaluator(net, target, feeds, calibration, engine):
    path = net()
    ranges = observe_ranges(path, calibration, MINMAX, target=target("s8s8", engine), feed=feeds[0])

    model = onnx.load(path)
    names = [output for node in model.graph.node for output in node.output]
    values = ReferenceEvaluator(model).run(None, {"input": feeds[0](calibration.pixels)}, intermediate=True)
    assert set(ranges.bounds) <= {"input", *names}
    for name, (low, high) in ranges.bounds.items():
        found = values[
            {"stem": "x", "a1": "a1_relu", "a_sum": "a_out", "b1": "b1_relu", "b_sum": "b_out", "flat": "pooled"}.get(
                name, name
            )
        ]
        # Convolutions summed in another order differ by a few float32 roundings.
        np.testing.assert_allclose((low, high), (min(found.min(), 0), max(found.max(), 0)), rtol=1e-4, atol=1e-5)


def test_every_activation_that_is_rounded_has_a_range(net, target, feeds, calibration):
    for scheme, engine in (("u8s8", "onnxruntime"), ("s8s8", "onnxruntime"), ("s8s8", "tensorrt")):
        chosen = target(scheme, engine)
        ranges = observe_ranges(net(), calibration, MINMAX, target=chosen, feed=feeds[0])
        placement = place(prepare(net()), chosen)
        assert set(ranges.bounds) == {*placement.tensors, *placement.shared}


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_images_changes_nothing(net, target, feeds, calibration, kind):
    recipe = Recipe(name="x", title="x", observer=kind)
    order = np.random.default_rng(0).permutation(len(calibration))
    shuffled = replace(
        calibration,
        pixels=calibration.pixels[order],
        labels=calibration.labels[order],
        weights=calibration.weights[order],
        digests=tuple(calibration.digests[i] for i in order),
    )
    one, other = (
        observe_ranges(net(), images, recipe, target=target("u8s8"), feed=feeds[0])
        for images in (calibration, shuffled)
    )
    for name, ends in one.bounds.items():
        np.testing.assert_allclose(other.bounds[name], ends, rtol=1e-5)


def test_fixed_batch_size_is_respected_and_gives_the_same_ranges(net, target, feeds, calibration):
    any_size = observe_ranges(net(), calibration, MINMAX, target=target("u8s8"), feed=feeds[0])
    fixed = observe_ranges(net(batch=4), calibration, MINMAX, target=target("u8s8"), feed=feeds[0])
    for name, ends in any_size.bounds.items():
        np.testing.assert_allclose(fixed.bounds[name], ends, rtol=1e-5, atol=1e-6)


def test_raw_pixels_are_fed_as_the_caller_says(net, target, feeds, calibration):
    ranges = observe_ranges(net(raw=True), calibration, MINMAX, target=target("u8s8"), feed=feeds[1])
    assert ranges.bounds["centred"][0] >= -2
    assert "input" not in ranges.bounds


def test_floating_point_scheme_needs_no_ranges(net, target, feeds, calibration):
    for scheme in ("float16", "float32"):
        assert observe_ranges(net(), calibration, MINMAX, target=target(scheme), feed=feeds[0]) == Ranges(bounds={})


def test_nan_activation_names_the_first_tensor(net, target, feeds, calibration):
    with pytest.raises(CalibrationError, match="tensor 'a1_relu': a value is NaN or infinite on the calibration"):
        observe_ranges(net(poison=True), calibration, MINMAX, target=target("u8s8"), feed=feeds[0])


def test_progress_is_told_every_batch(net, target, feeds, calibration):
    progress = Counting()
    observe_ranges(net(), calibration, MINMAX, target=target("u8s8"), feed=feeds[0], progress=progress)
    assert progress.seen == progress.total == 3


def test_ranges_survive_json(net, target, feeds, calibration):
    ranges = observe_ranges(net(), calibration, load_recipe("balanced"), target=target("u8s8"), feed=feeds[0])
    assert Ranges.from_json(ranges.to_json()) == ranges


def test_observing_leaves_the_model_and_its_folder_alone(net, target, feeds, calibration):
    path = net()
    before = path.read_bytes()
    observe_ranges(path, calibration, MINMAX, target=target("u8s8"), feed=feeds[0])
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
