"""Quantisation: the formats that targets run fast."""

from __future__ import annotations

from edgec.quantize.facts import QuantizationFacts
from edgec.quantize.quantize import quantize_model

__all__ = ["QuantizationFacts", "quantize_model"]
