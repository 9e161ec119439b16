"""Corrupted test images: noise, blur, weather and faulty digital copies at five severities, and the accuracy on them.

The 15 kinds are those of CIFAR-10-C and ImageNet-C. The images are **our drawings of the kinds, not the published
files**: accuracies are comparable between models that were measured here, not with published tables. NumPy and Pillow
draw them, so a device can as well.

Reference: D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
ICLR 2019.
"""

from __future__ import annotations

from edgec.evaluate.corruptions.corrupt import FAMILIES, KINDS, SEVERITIES, corrupt
from edgec.evaluate.corruptions.measure import corruption_measurements

__all__ = ["FAMILIES", "KINDS", "SEVERITIES", "corrupt", "corruption_measurements"]
