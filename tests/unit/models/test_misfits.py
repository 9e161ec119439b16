"""Models that give no logits: each kind of cause has its own way out."""

from __future__ import annotations

import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgec.core.errors import ConfigError, DataError, EdgecError
from edgec.models.config import ModelConfig
from edgec.models.load import load_classifier
from edgec.models.misfits import as_logits
from edgec.models.onnx.load import load_onnx

LABELS = ("ant", "bee", "cow")
INPUT = {"height": 16, "width": 16}


class Net(nn.Module):
    """A small net, and what becomes of its numbers."""

    def __init__(self, then: Callable[[Tensor], Any], outputs: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))
        self.then = then

    def forward(self, images: Tensor) -> Any:
        return self.then(self.body(images))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Loads a net by `module:factory`."""
    module = types.ModuleType("nets_of_misfits")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def load(made: nn.Module, labels: tuple[str, ...] = LABELS) -> Any:
        monkeypatch.setattr(module, "net", lambda: made, raising=False)
        torch.save(made.state_dict(), tmp_path / "w.pt")
        given = {"name": "nets_of_misfits:net", "weights": tmp_path / "w.pt", "input": INPUT}
        return load_classifier(ModelConfig.model_validate(given), labels)

    return load


def refusal(load: Callable[..., Any], *arguments: Any) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        load(*arguments)
    return caught.value


class FinalLayer(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.net = Net(lambda logits: logits)
        self.end = layer

    def forward(self, images: Tensor) -> Tensor:
        return self.end(self.net(images))


@pytest.mark.parametrize(("layer", "name"), [(nn.Softmax(dim=1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_a_layer_that_makes_probabilities_is_left_out(load: Any, layer: nn.Module, name: str) -> None:
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = FinalLayer(layer).eval()
    with torch.inference_mode():
        given, logits = made(images), made.net(images)
    found = load(made)
    assert torch.equal(found.module(images), logits)
    assert not torch.equal(given, logits)
    assert found.history[0].facts["notes"] == [
        f"model 'nets_of_misfits:net': its final {name} 'end' is left out, to have logits"
    ]


def test_a_softmax_inside_of_a_net_stays(load: Any) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.net = nn.Softmax(dim=1), Net(lambda logits: logits)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.net(images)
            return logits * self.gate(logits)

    made = Gated()
    assert "notes" not in load(made).history[0].facts
    assert isinstance(made.gate, nn.Softmax)


def test_probabilities_of_a_function_are_refused(load: Any) -> None:
    error = refusal(load, Net(lambda logits: logits.softmax(1)))
    assert isinstance(error, ConfigError)
    assert "gives probabilities, rows that sum to 1, expected logits" in str(error)
    assert error.hint == "leave the softmax out of its forward: return what the softmax takes"


def test_a_sigmoid_that_is_a_function_is_told_of(load: Any) -> None:
    torch.manual_seed(0)
    assert "all from 0 to 1" in load(Net(torch.sigmoid)).history[0].facts["notes"][0]
    assert "notes" not in load(Net(lambda logits: logits)).history[0].facts


def test_log_probabilities_are_logits_as_good_as_any() -> None:
    made = Net(lambda logits: logits.log_softmax(1)).eval()
    assert as_logits(made, torch.zeros(2, 3, 16, 16), name="x", note=print) is made


@pytest.mark.parametrize(
    ("then", "outputs", "got", "hint"),
    [
        (lambda x: x.reshape(len(x), 3, 4), 12, "(2, 3, 4)", "boxes, maps or features, as of a detector"),
        (lambda x: x[:, :, None, None], 3, "(2, 3, 1, 1)", "return logits.flatten(1)"),
        (lambda x: x, 5, "(2, 5)", "check model.labels, which name 3 classes"),
        (
            lambda x: {"last_hidden_state": x[:, None], "pooler_output": x},
            4,
            "last_hidden_state [2, 1, 4], pooler_output [2, 4]",
            "save an AutoModelForImageClassification, not an AutoModel",
        ),
        (lambda x: (x, x), 4, "0 [2, 4], 1 [2, 4]", "its forward return the logits"),
    ],
)
def test_other_outputs_are_told_apart(load: Any, then: Any, outputs: int, got: str, hint: str) -> None:
    error = refusal(load, Net(then, outputs))
    assert f"gives {got}" in str(error)
    assert hint in str(error.hint)


def test_one_output_for_two_classes(load: Any) -> None:
    assert "torch.zeros_like(logit)" in str(refusal(load, Net(lambda x: x, 1), ("a", "b")).hint)


class Casts(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.body(images.half())


class AsksForMore(Net):
    def forward(self, images: Tensor, labels: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.body(images) + labels


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        (Casts, "let its forward cast nothing: edgec runs it in float32"),
        (AsksForMore, "let its forward take the images alone, with defaults for what else it takes"),
    ],
)
def test_a_forward_that_fails_has_the_hint_of_its_cause(load: Any, kind: type[Net], hint: str) -> None:
    assert refusal(load, kind(lambda x: x)).hint == hint


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("google/vit-base-patch16-224", "transformers"),
        ("transformers:google/vit-base-patch16-224", "transformers"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm"),
    ],
)
def test_a_model_on_a_hub_is_fetched_first(name: str, kind: str) -> None:
    with pytest.raises(DataError, match="is no folder here, and edgec downloads nothing") as caught:
        load_classifier(ModelConfig.model_validate({"name": name, "input": INPUT}), LABELS)
    assert str(caught.value.hint).endswith(f"--local-dir FOLDER, and give --model {kind}:FOLDER")


def test_ultralytics_models_come_as_onnx() -> None:
    with pytest.raises(ConfigError, match="unknown torchvision model 'yolov8n-cls'") as caught:
        load_classifier(ModelConfig.model_validate({"name": "yolov8n-cls", "weights": "w.pt", "input": INPUT}), LABELS)
    assert (
        caught.value.hint
        == "export it: yolo export model=yolov8n-cls.pt format=onnx; then give --model yolov8n-cls.onnx"
    )


def test_their_checkpoints_say_the_same_wherever_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = types.ModuleType("ultralytics.nn.tasks")
    kind = type("ClassificationModel", (), {"__module__": tasks.__name__})
    monkeypatch.setattr(tasks, "ClassificationModel", kind, raising=False)
    for name in ("ultralytics", "ultralytics.nn", tasks.__name__):
        monkeypatch.setitem(sys.modules, name, tasks)
    torch.save({"model": kind()}, tmp_path / "best.pt")
    as_weights = {"name": "torchvision:resnet18", "weights": tmp_path / "best.pt", "input": INPUT}
    for given in (as_weights, {"name": str(tmp_path / "best.pt"), "input": INPUT}):
        with pytest.raises(DataError, match="an Ultralytics checkpoint, which holds code") as caught:
            load_classifier(ModelConfig.model_validate(given), LABELS)
        assert str(caught.value.hint).startswith("export it: yolo export model=FILE format=onnx")


def test_their_torchscript_is_a_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "best.torchscript", "w") as archive:
        archive.writestr("best/data.pkl", b"__torch__.ultralytics.nn.tasks.ClassificationModel")
        archive.writestr("best/constants.pkl", b"")
    with pytest.raises(DataError, match="a TorchScript archive"):
        ModelConfig.model_validate({"name": str(tmp_path / "best.torchscript")})


def test_a_checkpoint_as_the_model_is_named_before_its_size_is_asked_for(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "best.pt")
    with pytest.raises(DataError, match="is a torch checkpoint, weights without an architecture"):
        ModelConfig.model_validate({"name": str(tmp_path / "best.pt")})


def test_a_detector_in_onnx_is_no_matter_of_labels(tmp_path: Path) -> None:
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 16, 16])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [taken], [given])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "d.onnx")
    with pytest.raises(ConfigError) as caught:
        load_onnx(ModelConfig.model_validate({"name": str(tmp_path / "d.onnx"), "input": INPUT}), LABELS)
    assert "edgec takes classifiers of whole images" in str(caught.value.hint)
