"""What cannot be exported is refused before recovery, with the line that is to blame."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec
from edgec.export.onnx import require_exportable

SPEC = InputSpec(height=4, width=4)


class Plain(nn.Module):
    """A head over the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.mean((2, 3)))


class Branching(Plain):
    """A way that depends on the images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            x = x * 2
        return super().forward(x)


def classifier(module: nn.Module) -> Classifier:
    return Classifier(module=module.eval(), input=SPEC, labels=("a", "b"))


def test_a_plain_net_can_be_exported() -> None:
    require_exportable(classifier(Plain()), opset=18)


def test_a_branch_on_the_images_values_is_named_with_its_line() -> None:
    with pytest.raises(UnsupportedError, match=r"test_exportable\.py:\d+ `if x\.sum\(\) > 0:`") as caught:
        require_exportable(classifier(Branching()), opset=18)
    assert "torch.where" in str(caught.value.hint)
