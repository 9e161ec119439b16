"""`edgec.build` with a module that the program holds, from end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import edgec
from edgec.models.digits import digits_net
from edgec.models.weights import read_weights
from edgec.pipeline.embedded import EMBEDDED
from support.brief import brief_measuring


@pytest.fixture
def net() -> nn.Module:
    module = digits_net()
    module.load_state_dict(read_weights(Path(EMBEDDED["model"]["weights"])))
    return module


def test_a_module_becomes_a_bundle_and_other_weights_another_one(net: nn.Module, tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "name": "held",
        "target": "x86-vnni",
        "model": {"input": EMBEDDED["model"]["input"]},
        "data": {"few": {"total": 30}, "ood_count": 40},
        "compress": {"method": "mir", "steps": 2, "variant": "plain"},
    }
    told: list[str] = []

    def built(model: nn.Module) -> edgec.Bundle:
        told.clear()
        places = {"output": tmp_path / "held", "cache": tmp_path / "cache"}
        with brief_measuring():
            return edgec.build(config, model=model, **places, device="cpu", progress=told.append)

    accuracy = {row["class"]: row["teacher"] for row in edgec.report(built(net)).classes}
    assert sum(accuracy.values()) / len(accuracy) > 0.9
    built(net)
    assert all("cached" in line for line in told if line.startswith("["))
    list(net.modules())[-1].bias.data.add_(1)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    built(net)
    assert any(line.startswith("[") and "compress" in line and "cached" not in line for line in told)
