"""Torch against the graph: a graph that computes something else is caught, and the class that suffers is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.digest import digest_image
from edgec.core.errors import ExportMismatchError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images
from edgec.pipeline.agreement import require_agreement
from edgec.runtime import Session

LABELS = ("cat", "dog", "eel")


class Means(nn.Module):
    """The mean of each channel through a linear layer: what the fixture `linear` is as ONNX."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.from_numpy(array.copy())) for array in (weight, bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3)) @ self.weight.T + self.bias


@pytest.fixture
def classifier(linear: Any, spec: InputSpec) -> Classifier:
    return Classifier(module=Means(linear.weight, linear.bias).eval(), input=spec, labels=LABELS)


@pytest.fixture
def images() -> Images:
    """300 of them, so that more than one batch is compared."""
    pixels = np.random.default_rng(5).integers(0, 256, (300, 4, 5, 3), dtype=np.uint8)
    pixels[:150] = pixels[:150] // 4  # dark ones, so that more than one class is found
    return Images(pixels=pixels, digests=tuple(map(digest_image, pixels)), source="noise")


@pytest.fixture
def session(tmp_path: Path, linear: Any, spec: InputSpec) -> Any:
    """Opens the graph as it is now."""

    def session() -> Session:
        (tmp_path / "model.onnx").write_bytes(linear.onnx())
        return Session(tmp_path / "model.onnx", spec)

    return session


def test_the_same_function_agrees_on_every_image(classifier: Classifier, session: Any, images: Images) -> None:
    facts = require_agreement(classifier, session(), (images, images.take(np.arange(7))))
    assert facts.images == 307
    assert facts.same_class == 1.0
    assert facts.max_difference < 1e-4  # float32 sums of 20 products of size 1


def test_a_graph_with_a_wrong_bias_is_caught_and_the_class_named(
    classifier: Classifier, session: Any, images: Images, linear: Any
) -> None:
    found = np.asarray(linear.logits(images.decoded())).argmax(axis=1)
    victim = int(np.bincount(found, minlength=3).argmax())
    linear.bias[victim] -= 3
    with pytest.raises(ExportMismatchError) as caught:
        require_agreement(classifier, session(), (images,))
    message = str(caught.value)
    assert "on 300 of 300 images" in message
    assert f"most of class '{LABELS[victim]}' ({(found == victim).sum()})" in message
    assert "logits differ by up to 3, expected at most " in message
    assert caught.value.hint


def test_a_graph_that_is_wrong_on_one_image_is_caught(classifier: Classifier, session: Any, images: Images) -> None:
    sound = session()

    class OnceWrong:
        def logits(self, pixels: np.ndarray) -> np.ndarray:
            logits = sound.logits(pixels).copy()
            if len(pixels) < 256:
                logits[3] = logits[3][::-1]
            return logits

    with pytest.raises(ExportMismatchError, match="on 1 of 300 images"):
        require_agreement(classifier, OnceWrong(), (images,))  # type: ignore[arg-type]


def test_a_graph_that_gives_nan_is_caught(classifier: Classifier, session: Any, images: Images, linear: Any) -> None:
    linear.bias[0] = np.nan
    with pytest.raises(ExportMismatchError, match="on 300 of 300 images"):
        require_agreement(classifier, session(), (images,))


def test_a_near_tie_may_fall_either_way(session: Any, spec: InputSpec, images: Images, linear: Any) -> None:
    """Two classes that differ by less than the tolerance: which one wins says nothing about the graph."""
    linear.weight[1] = linear.weight[0]
    linear.bias[:2] = 1.0
    module = Means(linear.weight, linear.bias + np.float32([0, 1e-5, 0]))
    classifier = Classifier(module=module.eval(), input=spec, labels=LABELS)
    facts = require_agreement(classifier, session(), (images,))
    assert facts.same_class < 1.0
