"""Quantisation: the formats that targets run fast."""

from __future__ import annotations

from edgec.quantize.facts import QuantizationFacts
from edgec.quantize.quantize import keep_model, quantize_model

__all__ = ["QuantizationFacts", "keep_model", "quantize_model"]
