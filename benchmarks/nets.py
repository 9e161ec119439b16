"""Nets with made-up weights as edgec exports and quantises them: time does not depend on what they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from torch import nn

from edgec.calibrate import Ranges, calibration_set, load_recipe, observe_ranges, place, prepare
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.core.target import Scheme, Target
from edgec.export.onnx import export_onnx
from edgec.quantize import quantize_model
from edgec.runtime import Session

__all__ = ["INPUT", "LABELS", "SMALL", "ZOO", "calibrated", "exported", "outline", "quantised", "rounded"]

SMALL = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0")
ZOO = (
    *(*SMALL, "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "regnet_y_400mf"),
    *("densenet121", "convnext_tiny", "vgg16", "vit_b_16", "swin_t"),
)
"""torchvision's, one or two of each kind."""

INPUT = InputSpec(height=224, width=224)
LABELS = tuple(map(str, range(1000)))
LARGE = 4096
"""Elements from which a constant is a weight, whose values nobody needs who only counts."""


def exported(net: str, target: Target, folder: Path) -> Path:
    """`NET.OPSET.onnx` as the target wants it, in the folder, made where it is not there yet."""
    path = folder / f"{net}.{target.runtime.opset}.onnx"
    if not path.exists():
        torch.manual_seed(0)
        module = mobilenet_v1() if net == "mobilenet_v1" else getattr(torchvision.models, net)(weights=None)
        export_onnx(Classifier(module=module.eval(), input=INPUT, labels=LABELS), path, opset=target.runtime.opset)
    return path


def quantised(net: str, target: Target, folder: Path) -> Path:
    """The same with Q/DQ."""
    return rounded(exported(net, target, folder), target)


def rounded(model: Path, target: Target) -> Path:
    """A graph with Q/DQ, with ranges that nobody observed, beside it, made where it is not there yet."""
    path = model.with_suffix(f".{target.runtime.engine}-{target.quantization.scheme.value}.onnx")
    if not path.exists():
        placement = place(prepare(model), target)
        low = 0.0 if target.quantization.scheme is Scheme.U8S8 else -4.0
        bounds = dict.fromkeys((*placement.tensors, *placement.shared), (low, 4.0))
        quantize_model(model, Ranges(bounds=bounds), target, output=path)
    return path


def calibrated(model: Path, target: Target, output: Path, *, images: int) -> Path:
    """A graph with Q/DQ as a build makes it, with ranges that were observed on images of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (images, INPUT.height, INPUT.width, 3), dtype=np.uint8)
    names = tuple(map(str, range(images)))
    noise = Samples(pixels=pixels, digests=names, source="noise", labels=np.arange(images), classes=LABELS)
    none = noise.take(np.arange(0))
    recipe = load_recipe("balanced")
    chosen = calibration_set(noise, none, none.labels, recipe, seed=0)
    ranges = observe_ranges(model, chosen, recipe, target=target, feed=Session(model, INPUT).feed)
    quantize_model(model, ranges, target, output=output)
    return output


def outline(path: Path) -> Path:
    """The same graph without the values of its weights, beside it: what has to be read to count work."""
    thin = path.with_suffix(".outline.onnx")
    if not thin.exists():
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            size = 1
            for dimension in tensor.dims:
                size *= dimension
            if size > LARGE:
                for field in ("raw_data", "float_data", "int32_data"):
                    tensor.ClearField(field)
        thin.write_bytes(model.SerializeToString())
    return thin


def mobilenet_v1() -> nn.Module:
    """MobileNet (Howard et al., arXiv 1704.04861, table 1), which torchvision does not have."""
    layers, channels = _convolution(3, 32, stride=2), 32
    strides = {128: 2, 256: 2, 512: 2, 1024: 2}
    for wider in (64, 128, 128, 256, 256, *[512] * 6, 1024, 1024):
        stride = strides.get(wider, 1) if wider > channels else 1
        layers += _convolution(channels, channels, stride=stride, groups=channels)
        layers += _convolution(channels, wider, kernel=1)
        channels = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, len(LABELS)))


def _convolution(inward: int, outward: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inward, outward, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outward), nn.ReLU()]
