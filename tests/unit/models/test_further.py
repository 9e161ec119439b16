"""A further teacher: shown the same images as it wants them, and answering in the model's classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgec.core.errors import ConfigError
from edgec.core.inputs import InputSpec
from edgec.models.config import FurtherTeacher, ModelConfig
from edgec.models.further import Translated, load_further
from edgec.models.infer import to_tensor
from edgec.pipeline.embedded import WEIGHTS

COLOUR = InputSpec(height=8, width=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
LABELS = ("cat", "dog", "eel")
DIGITS = tuple("0123456789")
GREY = {"height": 8, "width": 8, "channels": 1, "mean": [0.305], "std": [0.376]}


class Seeing(nn.Module):
    """Keeps what it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return torch.arange(4.0).expand(len(images), 4)


def digits_beside(**settings: object) -> tuple[ModelConfig, ModelConfig]:
    """The digits' net, and the same once more as a further teacher."""
    named = {"name": "edgec.models.digits:digits_net", "weights": str(WEIGHTS)}
    also = [{**named, **settings}]
    model = ModelConfig.model_validate({**named, "labels": DIGITS, "input": GREY, "also": also})
    return model, model.further[0]


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"mean": (0.0, 0.1, 0.2), "std": (1.0, 0.9, 0.8)},
        {"value_range": "0-255", "mean": (104.0, 117.0, 124.0), "std": (1.0, 1.0, 2.0)},
        {"channel_order": "bgr"},
        {"channel_order": "bgr", "mean": (0.0, 0.1, 0.2), "std": (1.0, 0.9, 0.8)},
    ],
)
def test_it_sees_the_pictures_as_if_they_were_its_own(own: dict[str, object]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    spec, module = InputSpec.model_validate({**COLOUR.model_dump(), **own}), Seeing()
    Translated(module, spec, COLOUR, [0, 1, 2])(to_tensor(pixels, COLOUR))
    torch.testing.assert_close(module.seen, to_tensor(pixels, spec), rtol=1e-5, atol=1e-4)


def test_images_of_another_size_are_scaled() -> None:
    module, flat = Seeing(), torch.full((2, 3, 8, 8), 0.25)
    wide = InputSpec.model_validate({**COLOUR.model_dump(), "height": 12, "width": 12})
    Translated(module, wide, COLOUR, [0])(flat)
    torch.testing.assert_close(module.seen, torch.full((2, 3, 12, 12), 0.25))


def test_outputs_are_put_in_the_order_of_the_model_s_classes() -> None:
    found = Translated(Seeing(), COLOUR, COLOUR, [2, 0, 3])(torch.zeros(2, 3, 8, 8))
    assert found.tolist() == [[2, 0, 3]] * 2


def test_what_is_not_said_of_its_input_is_the_model_s() -> None:
    model = ModelConfig.model_validate(
        {
            "name": "resnet18",
            "input": {"height": 8, "width": 8, "crop_share": 0.5, "mean": [0.1, 0.2, 0.3]},
            "also": [{"name": "resnet18", "input": {"std": [1, 1, 1]}}],
        }
    )
    assert model.further[0].input == model.input.model_copy(update={"std": (1.0, 1.0, 1.0)})


def test_other_proportions_are_refused() -> None:
    model = ModelConfig(
        name="resnet18", input=COLOUR, also=(FurtherTeacher.model_validate({"name": "b", "input": {"height": 16}}),)
    )
    with pytest.raises(ConfigError, match="'b' takes 16x8 pixels, the model 8x8: they cannot see the same pictures"):
        _ = model.further


@pytest.mark.parametrize("labels", [DIGITS, DIGITS[::-1]])
def test_the_same_net_says_the_same_under_the_names_of_its_outputs(labels: tuple[str, ...]) -> None:
    model, config = digits_beside(labels=labels)
    notes: list[str] = []
    found = load_further(config, model.input, DIGITS, note=notes.append)
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        logits, inner = found.module(images), found.module.module(images)  # pyright: ignore[reportCallIssue]
    torch.testing.assert_close(logits, inner[:, [labels.index(label) for label in DIGITS]])
    assert notes == []


def test_a_class_that_the_model_does_not_have_is_left_out_and_told() -> None:
    model, config = digits_beside(labels=DIGITS)
    notes: list[str] = []
    found = load_further(config, model.input, DIGITS[:8], note=notes.append)
    assert found.module(torch.zeros(2, 1, 8, 8)).shape == (2, 8)
    (note,) = notes
    assert note.endswith("digits_net': its outputs for 8, 9 are left out, since the model has no such class")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("x", *DIGITS[1:]), "has no output for class '0'"), (("1", *DIGITS[1:]), "has no output for class '0'")],
)
def test_a_class_that_it_does_not_know_is_refused(labels: tuple[str, ...], message: str) -> None:
    model, config = digits_beside(labels=labels)
    with pytest.raises(ConfigError, match=message) as caught:
        load_further(config, model.input, DIGITS, note=lambda _: None)
    assert "set its labels, in the order of its outputs" in str(caught.value.hint)


@pytest.mark.parametrize("raw", [False, True])
def test_a_graph_says_what_the_same_net_says_as_a_module(tmp_path: Path, raw: bool) -> None:
    """One that takes pixels and normalises them itself, and one that takes them normalised."""
    weight = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    scaled = (
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "most"], ["pixels"]),
        helper.make_node("Sub", ["pixels", "half"], ["x"]),
    )
    nodes = [
        *(scaled if raw else [helper.make_node("Identity", ["input"], ["x"])]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    constants = {"weight": weight, "most": np.float32(255), "half": np.float32(0.5)}
    kind = TensorProto.UINT8 if raw else TensorProto.FLOAT
    shape = helper.make_tensor_value_info("input", kind, ["n", 1, 8, 8])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", [shape], [output], held)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    main = InputSpec(height=8, width=8, channels=1, mean=(0.2,), std=(0.7,))
    config = ModelConfig(name=str(path), input=main.model_copy(update={"mean": (0.5,), "std": (1.0,)}))
    found = load_further(config, main, LABELS, note=lambda _: None)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    wanted = (pixels.reshape(3, 64) / 255 - 0.5) @ weight
    given = found.module(to_tensor(pixels, main)).numpy()
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-4)
