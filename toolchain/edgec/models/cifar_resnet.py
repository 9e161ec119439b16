"""The CIFAR ResNets of He et al. 2015, section 4.2, with parameter-free (option A) shortcuts."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CifarResNet", "resnet8", "resnet20", "resnet32", "resnet56"]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes, the shortcut strides and pads with zeros."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.pad = (channels - in_channels) // 2

    def forward(self, x: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch out height2 width2"]:
        """Features after both convolutions and the shortcut."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """Depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels.

    Parameter names are those of github.com/akamaster/pytorch_resnet_cifar10, whose weights load unchanged.
    """

    def __init__(self, depth: int, classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, classes)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch class"]:
        """Logits of normalised RGB images."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    first = Block(in_channels, channels, stride)
    return nn.Sequential(first, *(Block(channels, channels, 1) for _ in range(blocks - 1)))


def resnet8(classes: int = 10) -> CifarResNet:
    """ResNet-8, one block a stage: 78,042 parameters at ten classes."""
    return CifarResNet(8, classes)


def resnet20(classes: int = 10) -> CifarResNet:
    """ResNet-20: 269,722 parameters at ten classes."""
    return CifarResNet(20, classes)


def resnet32(classes: int = 10) -> CifarResNet:
    """ResNet-32: 464,154 parameters at ten classes."""
    return CifarResNet(32, classes)


def resnet56(classes: int = 10) -> CifarResNet:
    """ResNet-56: 853,018 parameters at ten classes."""
    return CifarResNet(56, classes)
