"""What `rules.channel_multiple` does to the latency of a pruned ResNet-18 on a Jetson: predictions of the model."""

from __future__ import annotations

from pathlib import Path

import torch
import torchvision
from torch import nn

from edgec.calibrate import Ranges, place, prepare
from edgec.core.classifier import Classifier
from edgec.core.target import Target, load_target
from edgec.evaluate.roofline import predict_latency
from edgec.export.onnx import export_onnx
from edgec.quantize import quantize_model
from nets import INPUT, LABELS
from rows import Row

__all__ = ["channel_rows"]

KEEP = 0.7
"""Of the channels inside each block, about half of the FLOPs."""


def channel_rows(folder: Path) -> list[Row]:
    """Channels inside blocks kept at `KEEP`, rounded to each multiple, int8 for the target `jetson`."""
    target = load_target("jetson")
    predicted = {multiple: _predict(multiple, target, folder) for multiple in (1, 8, 16, 32)}
    return [
        Row(
            what=f"jetson, ResNet-18 int8, {KEEP:.0%} of the channels in blocks, multiples of {multiple}",
            value=ms,
            unit="ms, predicted",
            n=0,
            low=low,
            high=high,
            against="multiples of 1",
            ratio=ms / predicted[1][0],
        )
        for multiple, (ms, low, high) in predicted.items()
    ]


def _predict(multiple: int, target: Target, folder: Path) -> tuple[float, float | None, float | None]:
    path = folder / f"resnet18-by-{multiple}.onnx"
    quantised = folder / f"resnet18-by-{multiple}.int8.onnx"
    torch.manual_seed(0)
    module = torchvision.models.resnet18(weights=None).eval()
    for block in module.modules():
        if isinstance(block, torchvision.models.resnet.BasicBlock):
            _narrow_(block, multiple)
    export_onnx(Classifier(module=module, input=INPUT, labels=LABELS), path, opset=target.runtime.opset)
    placement = place(prepare(path), target)
    bounds = dict.fromkeys((*placement.tensors, *placement.shared), (-4.0, 4.0))
    quantize_model(path, Ranges(bounds=bounds), target, output=quantised)
    prediction = predict_latency(quantised, target)
    return prediction.latency_ms, prediction.low_ms, prediction.high_ms


def _narrow_(block: nn.Module, multiple: int) -> None:
    """A block with fewer channels between its two convolutions, whose number is a multiple."""
    first, second = block.conv1, block.conv2
    width = max(multiple, round(KEEP * first.out_channels / multiple) * multiple)
    block.conv1 = nn.Conv2d(first.in_channels, width, 3, first.stride, 1, bias=False)
    block.bn1 = nn.BatchNorm2d(width)
    block.conv2 = nn.Conv2d(width, second.out_channels, 3, second.stride, 1, bias=False)
    block.eval()
