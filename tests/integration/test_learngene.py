"""`edgec.build` of a vision transformer by learngenes, from end to end; nets that cannot be recomposed are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import edgec
from edgec.core.errors import UnsupportedError
from edgec.models.digits import digits_net
from edgec.pipeline.embedded import EMBEDDED
from support.brief import brief_measuring


def built(model: nn.Module, folder: Path) -> edgec.Bundle:
    """A bundle from the digits, with 0.6 of the multiply-adds."""
    config: dict[str, Any] = {
        "name": "thin",
        "target": "x86-vnni",
        "model": {"input": EMBEDDED["model"]["input"]},
        "data": {"few": {"total": 30}, "ood_count": 40},
        "compress": {"method": "learngene", "steps": 4, "keep_flops": 0.6},
    }
    with brief_measuring():
        return edgec.build(config, model=model, output=folder / "thin", cache=folder / "cache", device="cpu")


def transformer() -> nn.Module:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(8, 4, 4, 2, 16, 32, num_classes=10)
    net.conv_proj = nn.Conv2d(1, 16, 4, 4)
    net.heads = nn.Sequential(nn.Linear(16, 10))  # torchvision's own starts at zero
    return net.eval()


@pytest.mark.slow
def test_a_transformer_of_fewer_layers_becomes_a_bundle(tmp_path: Path) -> None:
    bundle = built(transformer(), tmp_path)
    costs: dict[str, float] = {row.stage: row.value for row in edgec.report(bundle).rows if row.name == "multiply_adds"}
    assert 0.5 < costs["artifact"] / costs["teacher"] <= 0.6
    (answer,) = edgec.load(bundle).predict(np.zeros((8, 8, 1), np.uint8))
    assert answer.label in bundle.labels


def test_a_net_of_convolutions_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="method 'learngene' recomposes the layers of a transformer"):
        built(digits_net().eval(), tmp_path)
    assert not (tmp_path / "thin").exists()
