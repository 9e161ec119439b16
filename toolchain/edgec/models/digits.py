"""The embedded default: a small convolutional teacher for scikit-learn's handwritten digits.

Its weights, `digits.safetensors`, are made by `benchmarks/train_digits.py`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["DigitsNet", "digits_net"]


class DigitsNet(nn.Module):
    """Four 3x3 convolutions with batch norm, 32, 32, 64 and 64 channels, average pooling, a linear head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_layer(1, 32, stride=1), *_layer(32, 32, stride=1), *_layer(32, 64, stride=2), *_layer(64, 64, stride=1)
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch class"]:
        """Logits of normalised grey images."""
        return self.head(self.features(x).mean(dim=(2, 3)))


def _layer(in_channels: int, channels: int, *, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
    return convolution, nn.BatchNorm2d(channels), nn.ReLU()


def digits_net() -> DigitsNet:
    """The teacher's architecture, ten classes."""
    return DigitsNet()
