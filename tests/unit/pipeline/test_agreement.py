"""Torch against the graph: a graph that computes something else is caught, and the class that suffers is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.digest import digest_image
from edgec.core.errors import DataError, ExportMismatchError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images
from edgec.pipeline.agreement import Agreement, require_agreement, require_same_classes
from edgec.runtime import Session

if TYPE_CHECKING:
    from edgec.models.onnx.given import Given

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


@dataclass(frozen=True)
class File:
    """Stands for an ONNX file: classes by the reference, of which some images get another one."""

    linear: Any
    wrong: int = 0
    kernels: bool = True
    tie: float = 1e-3

    def classes(self, pixels: np.ndarray) -> np.ndarray:
        if not self.kernels:
            raise DataError("onnxruntime cannot load the model")
        return self.classes_by_reference(pixels)

    def classes_by_reference(self, pixels: np.ndarray) -> np.ndarray:
        found = self.linear.logits(pixels).argmax(axis=1)
        found[: self.wrong] = (found[: self.wrong] + 1) % 3
        return found


def compared(file: File, session: Session, images: Images) -> Agreement:
    return require_same_classes(cast("Given", file), session, (images,))


def test_a_graph_made_of_a_file_agrees_with_it(linear: Any, session: Any, images: Images) -> None:
    assert compared(File(linear), session(), images) == Agreement(images=300, same_class=1.0)


def test_a_graph_that_gives_other_classes_than_its_file_ends_the_build(
    linear: Any, session: Any, images: Images
) -> None:
    with pytest.raises(ExportMismatchError, match="gives 4 of 300 images another class") as caught:
        compared(File(linear, wrong=2), session(), images)  # two in each of two batches
    assert "report it with the file" in str(caught.value.hint)


def test_a_near_tie_is_no_other_class(linear: Any, session: Any, images: Images) -> None:
    assert compared(File(linear, wrong=2, tie=10.0), session(), images).same_class == 1


def test_a_file_that_onnxruntime_has_no_kernels_for_is_compared_on_a_few_images(
    linear: Any, session: Any, images: Images
) -> None:
    assert compared(File(linear, kernels=False), session(), images).images == 6
