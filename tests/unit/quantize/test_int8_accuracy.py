"""Integers do no harm on real images: a ResNet-20 against its own FP32 on the CIFAR-10 test set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from edgec.calibrate import calibration_set, load_recipe, observe_ranges, prepare
from edgec.core.digest import digest_image
from edgec.core.host import this_host
from edgec.core.inputs import InputSpec, normalise
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.learn.layerwise import Weighed
from edgec.quantize import quantize_model
from edgec.quantize.network import Network
from edgec.quantize.rounding import correct_biases_, round_weights_
from edgec.runtime import Session

ROOT = Path(os.environ.get("EDGEC_DATA", Path(__file__).parents[4] / "shared" / "data"))
SPEC = InputSpec(height=32, width=32)
TESTED = 2000
"""Of the test images, the first ones: onnxruntime takes its time with graphs that are made for TensorRT."""
COMPARED = 1000
"""Of these, the first ones, which torch computes with rounding."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "labels.npz").exists(), reason=f"no real data at {ROOT}; set EDGEC_DATA"),
]


def tiles(name, n):
    mosaic = np.asarray(Image.open(ROOT / name).convert("RGB"))
    rows, columns = mosaic.shape[0] // 32, mosaic.shape[1] // 32
    return mosaic.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)[:n]


def feed(pixels):
    return normalise(pixels, SPEC)


@pytest.fixture(scope="module")
def labels():
    found = dict(np.load(ROOT / "labels.npz"))
    return found | {"test_y": found["test_y"][:TESTED]}


@pytest.fixture(scope="module")
def test_images():
    return tiles("cifar10_test.webp", TESTED)


@pytest.fixture(scope="module")
def resnet20(tmp_path_factory):
    from safetensors.torch import load_file

    from edgec.core.classifier import Classifier
    from edgec.export.onnx import export_onnx
    from edgec.models.cifar_resnet import resnet20 as make

    module = make()
    module.load_state_dict(load_file(ROOT / "resnet20_cifar10.safetensors"))
    path = tmp_path_factory.mktemp("resnet20") / "fp32.onnx"
    names = tuple(np.load(ROOT / "labels.npz")["cifar10_names"])
    export_onnx(Classifier(module=module.eval(), input=SPEC, labels=names), path, opset=18)
    return path


@pytest.fixture(scope="module")
def images(labels):
    """50 training images at imbalance 100, 500 OOD images, and the classes that eq. 4 assigns to these."""
    rng = np.random.default_rng(0)
    counts = np.array([20, 12, 7, 4, 2, 1, 1, 1, 1, 1])
    train, y = tiles("cifar10_train10k.webp", 10_000), labels["train_y"]
    chosen = np.concatenate([rng.choice(np.flatnonzero(y == c), n, replace=False) for c, n in enumerate(counts)])
    ood = tiles("cifar100_ood2500.webp", 2500)[:500]
    share = counts / counts.sum()
    reach = share.max() + share.min()
    few = Samples(
        pixels=train[chosen],
        digests=tuple(map(digest_image, train[chosen])),
        source="CIFAR-10",
        labels=y[chosen].astype(np.int64),
        classes=tuple(labels["cifar10_names"]),
    )
    assigned = rng.choice(10, 500, p=(reach - share) / (10 * reach - 1))
    return few, Images(pixels=ood, digests=tuple(map(digest_image, ood)), source="CIFAR-100"), assigned


def right_of(path, images, labels):
    """Which images are right."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"input": feed(images[i : i + 250])})[0] for i in range(0, len(images), 250)]
    return np.concatenate(parts).argmax(axis=1) == labels


def accuracy(right, labels):
    """Percent right: overall, and per class."""
    return 100 * right.mean(), np.array([100 * right[labels == c].mean() for c in range(10)])


@pytest.fixture(scope="module")
def fp32(resnet20, test_images, labels):
    """Which test images FP32 gets right."""
    return right_of(resnet20, test_images, labels["test_y"])


def test_int8_costs_less_than_the_bar(resnet20, images, test_images, labels, fp32, target, tmp_path):
    recipe = load_recipe("balanced")
    chosen = calibration_set(*images, recipe, seed=0)
    truth = labels["test_y"]
    before, classes_before = accuracy(fp32, truth)
    exact = () if this_host().saturates else (("u8s8", "onnxruntime"),)
    for scheme, engine in (*exact, ("s8s8", "onnxruntime"), ("s8s8", "tensorrt")):
        aim, output = target(scheme, engine), tmp_path / f"{scheme}-{engine}.onnx"
        ranges = observe_ranges(resnet20, chosen, recipe, target=aim, feed=feed)
        quantize_model(resnet20, ranges, aim, output=output)
        after, classes_after = accuracy(right_of(output, test_images, truth), truth)
        # The bar of the issue; measured over three seeds on all images: 0.1 overall, 0.9 in a class.
        assert before - after <= 1
        assert np.max(classes_before - classes_after) <= 2.5


def test_int4_weights_cost_less_than_the_bar_and_the_file_is_the_net_in_torch(
    resnet20, images, test_images, labels, fp32, target, tmp_path
):
    recipe, aim = load_recipe("balanced"), target("s8s8", "tensorrt", weight_bits=4)
    chosen = calibration_set(*images, recipe, seed=0)
    seen = Weighed(images=torch.from_numpy(feed(chosen.pixels)), shares=torch.from_numpy(chosen.weights).float())
    network = Network(prepare(resnet20), observe_ranges(resnet20, chosen, recipe, target=aim, feed=feed), aim)
    original = {layer.name: network.constant(layer.weight).clone() for layer in network.layers}
    truth, shown = labels["test_y"], feed(test_images)

    def shipped(name):
        model, ranges = network.quantizable()
        onnx.save(model, tmp_path / "refined.onnx")
        quantize_model(tmp_path / "refined.onnx", ranges, aim, output=tmp_path / name)
        return Session(tmp_path / name, SPEC).logits(shown).argmax(1)

    before = 100 * fp32.mean()
    nearest = shipped("nearest.onnx")
    round_weights_(network, seen, generator=torch.Generator().manual_seed(0), progress=Silent())
    correct_biases_(network, original, seen, generator=torch.Generator().manual_seed(0), progress=Silent())
    ours = shipped("ours.onnx")
    assert 100 * (nearest == truth).mean() < before - 2  # without compensation it fails
    assert before - 100 * (ours == truth).mean() <= 2  # the limit
    with torch.inference_mode():
        in_torch = torch.cat([network(batch) for batch in torch.from_numpy(shown[:COMPARED]).split(250)]).argmax(1)
    assert (ours[:COMPARED] == in_torch.numpy()).mean() >= 0.995  # the limit; 0.9995 found on 2,000
