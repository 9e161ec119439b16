"""Which tensors of a quantised graph are named as too coarse."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.calibrate import load_recipe, observe_ranges
from edgec.quantize import quantize_model
from edgec.quantize.coarse import coarse_places


@pytest.fixture
def places(net, target, feeds, calibration, images, tmp_path):
    """Of the residual net with some of its constants multiplied."""

    def find(formats=("u8s8", "onnxruntime"), **factors):
        model = onnx.load(net())
        for tensor in model.graph.initializer:
            if (factor := factors.get(tensor.name.replace(".", "_"))) is not None:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))
        onnx.save(model, tmp_path / "hostile.onnx")
        chosen = target(*formats)
        ranges = observe_ranges(
            tmp_path / "hostile.onnx", calibration, load_recipe("minmax"), target=chosen, feed=feeds[0]
        )
        quantize_model(tmp_path / "hostile.onnx", ranges, chosen, output=tmp_path / "q.onnx")
        shown = (image[None] for image in images.numpy()[:8])
        return coarse_places(tmp_path / "hostile.onnx", tmp_path / "q.onnx", ranges, chosen, shown)

    return find


HUGE = np.float32([1000, *[1] * 7])


def test_in_a_net_of_even_channels_the_activation_that_comes_nearest_is_named(places):
    (place,) = places()
    assert place.endswith("of a channel's variance, the most of all")
    assert "of its 8 channels vary by" not in place


@pytest.mark.parametrize("formats", [("u8s8", "onnxruntime"), ("s8s8", "tensorrt")], ids="/".join)
def test_a_channel_that_dwarfs_the_others_is_named_where_it_arises(places, formats):
    first, *_ = places(formats, stem_weight=HUGE.reshape(-1, 1, 1, 1), stem_bias=HUGE)
    assert first.startswith("'x' (Relu) spans ")
    assert "of its 8 channels vary by" in first


def test_a_weight_that_its_bias_widens_is_named(places):
    found = places(a2_weight=np.float32(1e-9), a2_bias=np.float32(10))
    assert any(place.startswith("weight 'a2.weight' loses 100% of its size") for place in found)
