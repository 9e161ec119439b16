"""Teachers by name: torchvision, `module:factory`; and what is said where it does not work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from edgec.core.errors import ConfigError, DataError
from edgec.core.inputs import InputSpec
from edgec.models.config import ModelConfig
from edgec.models.digits import digits_net
from edgec.models.load import build_module, load_classifier
from support.refusal import refusal

DIGITS = InputSpec(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
LABELS = tuple("0123456789")
SMALL = InputSpec(height=4, width=5)

USER_MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, size=8, kind='logits'):
        super().__init__()
        self.head, self.size, self.kind = nn.Linear(1, classes), size, kind

    def forward(self, x):
        torch._assert(x.shape[2] == self.size, f'wrong height, expected {self.size}\\nand more lines')
        logits = self.head(x.mean((2, 3)))
        return {'logits': logits, 'tuple': (logits, logits), 'map': logits[:, :, None],
                'noise': logits + torch.rand(()) }[self.kind]

def net(**arguments):
    return Net(**arguments)

def list_of_one():
    return [Net()]
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, which is not on the search path."""
    (tmp_path / "their_net.py").write_text(USER_MODULE)
    (tmp_path / "broken_net.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in ("their_net", "broken_net"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "their_net"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "user.safetensors"
    save_file({"head.weight": torch.ones(10, 1), "head.bias": torch.arange(10.0)}, path)
    return path


@pytest.fixture
def digits_weights(tmp_path: Path) -> Path:
    path = tmp_path / "digits.safetensors"
    save_file(digits_net().state_dict(), path)
    return path


def config(name: str, **fields: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": name, "input": DIGITS, **fields})


def test_a_factory_of_an_installed_module_is_loaded_with_its_weights(digits_weights: Path) -> None:
    teacher = load_classifier(config("edgec.models.digits:digits_net", weights=digits_weights), LABELS)
    net = digits_net()
    net.load_state_dict(teacher.module.state_dict())
    assert not teacher.module.training
    assert (teacher.labels, teacher.input) == (LABELS, DIGITS)
    assert [(step.method, step.facts["model"]) for step in teacher.history] == [
        ("load", "edgec.models.digits:digits_net")
    ]


def test_a_factory_in_the_current_folder_is_found_and_given_its_arguments(user_module: str, weights: Path) -> None:
    teacher = load_classifier(config(f"{user_module}:net", weights=weights, arguments={"classes": 10}), LABELS)
    with torch.no_grad():
        logits = teacher.module(torch.zeros(1, 1, 8, 8))
    assert logits.tolist() == [list(range(10))]


@pytest.mark.parametrize("name", ["squeezenet1_1", "torchvision:squeezenet1_1"])
def test_a_torchvision_model_has_a_logit_per_label(tmp_path: Path, name: str) -> None:
    net = torchvision.models.squeezenet1_1(num_classes=3)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    spec = InputSpec(height=32, width=32)
    teacher = load_classifier(config(name, weights=tmp_path / "w.pt", input=spec), ("cat", "dog", "eel"))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(teacher.module(images), net.eval()(images))


@pytest.mark.parametrize(
    ("name", "arguments", "message", "hint"),
    [
        ("resnet19", {}, "unknown torchvision model 'resnet19'; known: alexnet, ", "did you mean 'resnet1"),
        # Would fetch weights of its backbone, and classifies no images.
        ("fasterrcnn_resnet50_fpn", {}, "unknown torchvision model 'fasterrcnn_resnet50_fpn'", ""),
        ("squeezenet1_1", {"depth": 3}, "model 'squeezenet1_1': ", "set model.arguments"),
        ("no_such_module:net", {}, "model 'no_such_module:net': no module 'no_such_module'", "run edgec in the folder"),
        ("their_net:nett", {}, "model 'their_net:nett': module 'their_net' has no 'nett'", "name a function"),
        ("their_net:", {}, "model 'their_net:': module 'their_net' has no ''", "name a function"),
        ("their_net:net", {"depth": 3}, "got an unexpected keyword argument 'depth'", "set model.arguments"),
        ("their_net:list_of_one", {}, "gives a list, expected a torch.nn.Module", "name a function"),
        ("their_net:USER", {}, "module 'their_net' has no 'USER'", "name a function"),
        ("math:pi", {}, "model 'math:pi': ", "set model.arguments"),
        ("broken_net:net", {}, "no module 'a_module_that_is_not_there'", ""),
    ],
)
def test_a_model_that_cannot_be_made_is_a_line_with_a_hint(
    user_module: str, name: str, arguments: dict, message: str, hint: str
) -> None:
    error = refusal(lambda: build_module(config(name, arguments=arguments), LABELS), ConfigError)
    assert message in str(error)
    assert hint in str(error.hint)


def test_a_model_needs_weights() -> None:
    error = refusal(lambda: load_classifier(config("resnet18"), LABELS), ConfigError)
    assert (str(error), error.hint) == ("model 'resnet18' has no weights", "give its weights file with --weights")


def test_weights_of_another_number_of_classes_are_told_by_their_shape(user_module: str, weights: Path) -> None:
    settings = config(f"{user_module}:net", weights=weights, arguments={"classes": 7})
    error = refusal(lambda: load_classifier(settings, tuple("0123456")), DataError)
    assert "'head.bias' is (10,), the model expects (7,)" in str(error) or "'head.weight' is (10, 1)" in str(error)


def test_another_number_of_labels_than_logits_is_told(user_module: str, weights: Path) -> None:
    error = refusal(lambda: load_classifier(config(f"{user_module}:net", weights=weights), ("a", "b")), ConfigError)
    assert "gives (2, 10) for two images, expected (2, 2): a logit per label" in str(error)


@pytest.mark.parametrize(
    ("kind", "got"), [("tuple", "has 2 outputs with 10 columns"), ("map", "gives (2, 10, 1) for two images")]
)
def test_a_model_that_gives_something_else_than_logits_is_refused(user_module: str, weights: Path, kind, got) -> None:
    settings = config(f"{user_module}:net", weights=weights, arguments={"kind": kind})
    assert got in str(refusal(lambda: load_classifier(settings, LABELS), ConfigError))


def test_an_input_of_other_channels_is_told_in_one_line(digits_weights: Path) -> None:
    settings = config("edgec.models.digits:digits_net", weights=digits_weights, input=InputSpec(height=8, width=8))
    error = refusal(lambda: load_classifier(settings, LABELS), ConfigError)
    assert "does not take images of (3, 8, 8): " in str(error)
    assert error.hint == "set model.input to the size and channels that it was trained with"


def test_an_input_that_the_models_own_check_refuses_is_told_in_one_line(user_module: str, weights: Path) -> None:
    settings = config(f"{user_module}:net", weights=weights, arguments={"size": 16})
    error = refusal(lambda: load_classifier(settings, LABELS), ConfigError)
    assert "does not take images of (1, 8, 8): AssertionError: wrong height, expected 16" in str(error)


def test_only_a_name_that_ends_so_is_an_exported_teacher() -> None:
    assert config("some/model.onnx").is_onnx
    assert config("some/MODEL.ONNX").is_onnx
    assert not config("onnx:model").is_onnx


def test_a_model_file_of_another_kind_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(99))
    error = refusal(lambda: load_classifier(config(str(tmp_path / "m.tflite")), LABELS), DataError)
    assert "is a TensorFlow Lite model, expected an ONNX file" in str(error)
    assert "tf2onnx" in str(error.hint)


def test_a_net_that_draws_in_evaluation_mode_is_named(user_module: str, weights: Path) -> None:
    settings = config(f"{user_module}:net", weights=weights, arguments={"kind": "noise"})
    error = refusal(lambda: load_classifier(settings, LABELS), ConfigError)
    assert "is not deterministic in evaluation mode: logits of one image differ by up to" in str(error)


def test_weights_in_half_precision_become_float32_and_it_is_said(user_module: str, tmp_path: Path) -> None:
    save_file({"head.weight": torch.ones(10, 1).half(), "head.bias": torch.arange(10.0).half()}, tmp_path / "h.pt")
    notes: list[str] = []
    teacher = load_classifier(config(f"{user_module}:net", weights=tmp_path / "h.pt"), LABELS, note=notes.append)
    assert notes == ["float16 weights: converted to float32"] == teacher.history[0].facts["notes"]
    assert all(tensor.dtype == torch.float32 for tensor in teacher.module.state_dict().values())
