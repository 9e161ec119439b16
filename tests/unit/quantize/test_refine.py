"""Refining whole graphs: what steps and layers are told to cost, and nets in which attention moves the images' axis."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import load_recipe, observe_ranges, prepare
from edgec.core.progress import Silent
from edgec.learn.batches import Pool
from edgec.learn.layerwise import Weighed
from edgec.quantize import quantize_model
from edgec.quantize.config import QuantizeConfig, TrainConfig
from edgec.quantize.refine import RefineJob, refine
from edgec.quantize.sensitivity import changed_by_class, divergence_by_class, operators_of


def logits(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": images})[0]


SHORT = TrainConfig(steps=3, shift=0.0, flip=False)


@pytest.fixture
def job(net, target, feeds, calibration, images, tmp_path):
    """A job on a graph, the small residual net where none is given, with int4 weights."""

    def make(source=None, *, formats=("s8s8", "tensorrt"), weight_bits=4, **settings):
        source, chosen = source or net(), target(*formats, weight_bits=weight_bits)

        def observe(path):
            return observe_ranges(path, calibration, load_recipe("balanced"), target=chosen, feed=feeds[0])

        def shipped(model, ranges):
            onnx.save(model, tmp_path / "refined.onnx")
            quantize_model(tmp_path / "refined.onnx", ranges, chosen, output=tmp_path / "shipped.onnx")
            return logits(tmp_path / "shipped.onnx", np.concatenate([images, images]))

        pool = Pool(images=images, chances=torch.full((len(images),), 1 / len(images)))
        return RefineJob(
            model=source,
            ranges=observe(source),
            target=chosen,
            config=QuantizeConfig(**settings),
            calibration=Weighed(images=images, shares=torch.full((len(images),), 1 / len(images))),
            pools=(pool, pool),
            images=torch.cat([images, images]),
            teacher=lambda batch: torch.zeros(len(batch), 5),
            observe=observe,
            shipped=shipped,
            device=torch.device("cpu"),
            seed=0,
        )

    return make


def test_a_layer_costs_what_its_weight_and_its_input_cost_also_once_it_is_refined(job):
    nearest = {"rounding": "nearest", "correct_biases": False, "sensitivity": True}
    before, after = (refine(job(**settings), progress=Silent()).costs for settings in (nearest, {"sensitivity": True}))
    given = job(**nearest)
    wide = given.target.quantization.model_copy(update={"weight_bits": 8})
    given = replace(given, target=given.target.model_copy(update={"quantization": wide}))
    activations = refine(given, progress=Silent()).costs
    layers = [[cost for cost in costs if cost.part.is_layer] for costs in (before, after, activations)]
    for of_nearest, of_refined, of_eight in zip(*layers, strict=True):
        assert of_nearest.worst > 2 * of_eight.worst
        assert of_refined.worst > of_eight.worst


def test_effects_follow_each_other(job):
    effects = refine(job(equalize=True, train=True, training=SHORT), progress=Silent()).effects
    assert [effect.what.split(" of ")[0] for effect in effects] == [
        "cross-layer equalisation",
        "compensated rounding",
        "bias correction",
        "3 steps",
    ]
    for one, other in pairwise(effects):
        assert one.worst_class_divergence_after == other.worst_class_divergence_before


def tokens_net(path):
    """Patches as tokens, tokens before images as in torch's attention, a matrix product there, the mean, a Gemm."""
    rng = np.random.default_rng(3)
    constants = {
        "patch.weight": rng.normal(0, 0.3, (6, 3, 2, 2)).astype(np.float32),
        "patch.bias": rng.normal(size=6).astype(np.float32),
        "flat_shape": np.array([0, 6, 16], np.int64),
        "mix.weight": rng.normal(0, 0.4, (6, 6)).astype(np.float32),
        "axes": np.array([1], np.int64),
        "head.weight": rng.normal(size=(5, 6)).astype(np.float32),
        "head.bias": rng.normal(size=5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "patch.weight", "patch.bias"], ["patches"], strides=[2, 2]),
        helper.make_node("Reshape", ["patches", "flat_shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["tokens"], perm=[2, 0, 1]),
        helper.make_node("MatMul", ["tokens", "mix.weight"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["active"]),
        helper.make_node("Transpose", ["active"], ["by_image"], perm=[1, 0, 2]),
        helper.make_node("ReduceMean", ["by_image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tokens",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_a_net_that_puts_tokens_before_images_is_refined(job, tmp_path):
    given = job(tokens_net(tmp_path / "tokens.onnx"), train=True, training=SHORT, mixed_precision=0.0)
    result = refine(given, progress=Silent())
    assert [effect.what for effect in result.effects][:3] == [
        "compensated rounding",
        "bias correction",
        "3 steps of training",
    ]
    assert [cost.part.is_layer for cost in result.costs] == [True] * 3
    onnx.save(result.model, tmp_path / "refined.onnx")
    facts = quantize_model(tmp_path / "refined.onnx", result.ranges, given.target, output=tmp_path / "q.onnx")
    assert sum(facts.int8_operators.values()) + sum(facts.float_operators.values()) == 3
    wanted, found = (logits(path, given.images.numpy()) for path in (given.model, tmp_path / "q.onnx"))
    assert (found.argmax(1) == wanted.argmax(1)).all()  # no class was to change


def joined_net(path):
    """Two convolutions of an image, one a thousand times as wide, joined; what tells the classes is in the narrow one."""
    rng = np.random.default_rng(4)
    constants = {
        "narrow.weight": rng.normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32),
        "wide.weight": rng.normal(0, 200, (8, 3, 3, 3)).astype(np.float32),
        "mix.weight": np.concatenate([rng.normal(0, 0.3, (8, 8, 1, 1)), np.zeros((8, 8, 1, 1))], axis=1),
        "head.weight": rng.normal(size=(5, 8)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "narrow.weight"], ["narrow"], pads=[1] * 4),
        helper.make_node("Conv", ["input", "wide.weight"], ["wide"], pads=[1] * 4),
        helper.make_node("Concat", ["narrow", "wide"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "mix.weight"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "head.weight"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("formats", [("u8s8", "onnxruntime"), ("s8s8", "tensorrt")], ids="/".join)
def test_an_activation_that_no_layer_makes_is_kept_until_the_bound_holds_in_the_file(job, tmp_path, formats):
    given = job(joined_net(tmp_path / "joined.onnx"), formats=formats, weight_bits=8, mixed_precision=0.05)
    wanted = logits(given.model, given.images.numpy())
    rounded = given.shipped(prepare(given.model), given.ranges)
    result = refine(given, progress=Silent())
    mixed = given.shipped(result.model, result.ranges)
    assert np.nanmax(changed_by_class(wanted, rounded)) > 0.5
    assert np.nanmax(changed_by_class(wanted, mixed)) <= 0.05
    assert divergence_by_class(wanted, mixed).max() < 0.1 * divergence_by_class(wanted, rounded).max()
    graph = onnx.load(tmp_path / "shipped.onnx").graph
    assert "joined" not in {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    assert 0 < len(result.ranges.floats) < 4  # the join and what reads it, not the whole net


@pytest.mark.parametrize("formats", [("u8s8", "onnxruntime"), ("s8s8", "tensorrt")], ids="/".join)
def test_a_net_of_which_every_part_is_kept_rounds_nothing(job, tmp_path, formats):
    given = job(formats=formats, mixed_precision=0.0)
    result = refine(given, progress=Silent())
    every = operators_of([cost.part for cost in result.costs])
    found = given.shipped(prepare(given.model), replace(given.ranges, floats=every))
    assert not [node for node in onnx.load(tmp_path / "shipped.onnx").graph.node if node.op_type == "QuantizeLinear"]
    # The same sums by other kernels.
    np.testing.assert_allclose(found, logits(given.model, given.images.numpy()), rtol=1e-4, atol=1e-5)
