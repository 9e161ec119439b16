"""The embedded default: what is built when no model and no data are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgec.models
from edgec.models.config import ModelConfig

__all__ = ["EMBEDDED", "is_embedded"]

WEIGHTS = Path(edgec.models.__file__).with_name("digits.safetensors")

EMBEDDED: dict[str, Any] = {
    "name": "digits",
    "model": {
        "name": "edgec.models.digits:digits_net",
        "weights": str(WEIGHTS),
        "labels": [str(digit) for digit in range(10)],
        "input": {"height": 8, "width": 8, "channels": 1, "mean": [0.305], "std": [0.376]},
    },
    "data": {"few": {"total": 50, "imbalance": 100}},
    "compress": {"keep_flops": 0.2, "flip": False, "compare": ["plain", "few"]},
}
"""A config like any other; data without `train` and `test` are scikit-learn's handwritten digits."""


def is_embedded(model: ModelConfig) -> bool:
    """Whether the teacher is the one that ships with edgec."""
    return model.weights == WEIGHTS
