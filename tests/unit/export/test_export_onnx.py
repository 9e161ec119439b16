"""The ONNX file: it computes what torch does, in every opset, and tells nothing of who wrote it."""

from __future__ import annotations

import getpass
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torch import Tensor, nn

import edgec
from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.inputs import InputSpec, normalise
from edgec.core.samples import Samples
from edgec.data import load_digits_splits
from edgec.export.onnx import INPUT_NAME, OUTPUT_NAME, export_onnx
from edgec.graph.opset import to_opset
from edgec.models.cifar_resnet import resnet20
from edgec.models.digits import digits_net
from edgec.models.infer import logits_of
from edgec.models.weights import load_weights_, read_weights
from edgec.pipeline.embedded import WEIGHTS

SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.305,), std=(0.376,))
LABELS = tuple("0123456789")
OPSETS = (13, 17, 18, 20)


@pytest.fixture(scope="module")
def digits() -> Samples:
    return load_digits_splits()[1]


@pytest.fixture(scope="module")
def teacher() -> Classifier:
    module = digits_net()
    load_weights_(module, read_weights(WEIGHTS), source="digits")
    return Classifier(module=module.eval(), input=SPEC, labels=LABELS)


@pytest.fixture(scope="module")
def exported(teacher: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports the digits net, once for each way."""
    folder, done = tmp_path_factory.mktemp("exported"), {}

    def export(opset: int = 18, *, raw: bool = False) -> Path:
        if (opset, raw) not in done:
            done[opset, raw] = folder / f"{opset}-{raw}.onnx"
            export_onnx(teacher, done[opset, raw], opset=opset, preprocess_in_graph=raw)
        return done[opset, raw]

    return export


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_valid_and_agrees_with_torch_on_real_images(exported, teacher, digits, opset: int) -> None:
    path = exported(opset)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    wanted = logits_of(teacher, digits)
    got = run(path, normalise(digits.decoded(), SPEC))
    # Logits of order 10, from sums of 576 products in another order.
    np.testing.assert_allclose(got, wanted, atol=1e-4)
    assert (got.argmax(1) == wanted.argmax(1)).mean() >= 0.999


def test_the_batch_is_free_and_all_else_is_fixed(exported, teacher, digits) -> None:
    (image,), (logits,) = (getattr(onnx.load(exported()).graph, side) for side in ("input", "output"))
    assert (image.name, logits.name) == ("input", "logits")
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (image, logits)]
    assert shapes == [["batch", 1, 8, 8], ["batch", 10]]
    images = normalise(digits.decoded()[:7], SPEC)
    whole = run(exported(), images)
    for size in (1, 2, 3):
        np.testing.assert_allclose(run(exported(), images[:size]), whole[:size], atol=1e-5)


def test_preprocessing_in_the_graph_is_preprocessing_outside(exported, digits) -> None:
    planes = np.ascontiguousarray(digits.decoded().transpose(0, 3, 1, 2)).astype(np.float32)
    inside, outside = run(exported(raw=True), planes), run(exported(), normalise(digits.decoded(), SPEC))
    np.testing.assert_allclose(inside, outside, atol=1e-4)


def test_each_channel_is_preprocessed_by_its_own_mean_and_deviation(tmp_path: Path) -> None:
    spec = InputSpec(height=3, width=4)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    export_onnx(
        Classifier(module=net, input=spec, labels=("a", "b", "c")),
        tmp_path / "m.onnx",
        opset=18,
        preprocess_in_graph=True,
    )
    means = ((pixels / 255 - spec.mean) / spec.std).mean(axis=(1, 2))
    weight, bias = (parameter.detach().double().numpy() for parameter in net[2].parameters())
    got = run(tmp_path / "m.onnx", np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32))
    np.testing.assert_allclose(got, means @ weight.T + bias, atol=1e-5)


def test_the_same_classifier_gives_the_same_bytes_and_is_left_as_it_was(exported, teacher, tmp_path: Path) -> None:
    before = [tensor.numpy().tobytes() for tensor in teacher.module.state_dict().values()]
    export_onnx(teacher, tmp_path / "again.onnx", opset=18)
    assert (tmp_path / "again.onnx").read_bytes() == exported().read_bytes()
    assert [tensor.numpy().tobytes() for tensor in teacher.module.state_dict().values()] == before
    assert not any(layer._forward_hooks or layer.training for layer in teacher.module.modules())


@pytest.mark.slow
def test_another_process_in_another_folder_gives_the_same_bytes(exported, tmp_path: Path) -> None:
    code = """
from pathlib import Path
from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.export.onnx import export_onnx
from edgec.models.digits import digits_net
from edgec.models.weights import load_weights_, read_weights
from edgec.pipeline.embedded import WEIGHTS
net = digits_net()
load_weights_(net, read_weights(WEIGHTS), source="digits")
spec = InputSpec(height=8, width=8, channels=1, mean=(0.305,), std=(0.376,))
export_onnx(Classifier(module=net.eval(), input=spec, labels=tuple("0123456789")), Path("other.onnx"), opset=18)
"""
    source = str(Path(edgec.__file__).parents[1])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": source}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert (tmp_path / "other.onnx").read_bytes() == exported().read_bytes()


@pytest.mark.parametrize("raw", [False, True])
def test_the_file_tells_nothing_of_the_machine_or_of_the_code(exported, raw) -> None:
    data = exported(raw=raw).read_bytes()
    secrets = [str(Path(edgec.__file__).parent), str(Path(sys.prefix)), str(Path.home()), str(Path.cwd()), __file__]
    secrets += ["site-packages", 'File "', "Traceback", "digits.py", "/torch/", "stack_trace", "namespace"]
    secrets += [name for name in (getpass.getuser(), socket.gethostname()) if len(name) > 4]
    assert [secret for secret in secrets if len(secret) > 1 and secret.encode() in data] == []
    model = onnx.load(exported(raw=raw))
    assert (list(model.metadata_props), list(model.functions), model.doc_string, model.graph.doc_string) == (
        [],
        [],
        "",
        "",
    )
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


# ---- older opsets


def small(net: nn.Module, *, side: int = 16, labels: int = 10) -> Classifier:
    torch.manual_seed(0)
    return Classifier(module=net.eval(), input=InputSpec(height=side, width=side), labels=tuple("0123456789"[:labels]))


def require_agreement(classifier: Classifier, path: Path) -> None:
    images = torch.rand(3, *classifier.input.shape)
    with torch.no_grad():
        np.testing.assert_allclose(run(path, images.numpy()), classifier.module(images).numpy(), atol=1e-4)


def test_nets_that_pad_stride_and_reduce_are_written_in_opset_13(tmp_path: Path) -> None:
    classifier = small(resnet20())
    export_onnx(classifier, tmp_path / "m.onnx", opset=13)
    require_agreement(classifier, tmp_path / "m.onnx")


def test_nets_that_flatten_are_written_in_opset_13(tmp_path: Path) -> None:
    """As torchvision's do; the exporter's Reshape has an attribute that opset 13 does not know."""
    classifier = small(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10)))
    export_onnx(classifier, tmp_path / "m.onnx", opset=13)
    require_agreement(classifier, tmp_path / "m.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "opset"), [("resnet18", 13), ("mobilenet_v2", 13), ("mobilenet_v3_small", 17)])
def test_torchvision_nets_go_through(tmp_path: Path, name: str, opset: int) -> None:
    classifier = small(torchvision.models.get_model(name, num_classes=10), side=64)
    export_onnx(classifier, tmp_path / "m.onnx", opset=opset)
    require_agreement(classifier, tmp_path / "m.onnx")


class Sampling(nn.Module):
    """Means of an image that a grid samples, for which onnx has no definition in older operators."""

    def __init__(self, side: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)
        self.register_buffer("grid", torch.zeros(1, side, side, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = self.get_buffer("grid") + 0 * x[:, :1, :1, :1]
        return self.head(nn.functional.grid_sample(x, grid, align_corners=False).mean(dim=(2, 3)))


class Windows(nn.Module):
    """Attention in four windows of an image under a mask for each, as transformers' Swin has it."""

    def __init__(self) -> None:
        super().__init__()
        self.keys, self.head = nn.Linear(3, 24), nn.Linear(24, 3)
        self.bias, self.mask = nn.Parameter(torch.rand(1, 2, 16, 16)), torch.rand(4, 1, 16, 16)

    def forward(self, images: Tensor) -> Tensor:
        n = images.shape[0]
        windows = images.permute(0, 2, 3, 1).reshape(-1, 16, 3)
        keys = self.keys(windows).view(-1, 16, 2, 12).transpose(1, 2)
        mask = self.bias + self.mask[None].expand(n, -1, -1, -1, -1).reshape(-1, 1, 16, 16)
        seen = nn.functional.scaled_dot_product_attention(keys, keys, keys, attn_mask=mask)
        seen = seen.reshape(seen.shape[0], -1, 16, 12).transpose(1, 2).contiguous()
        return self.head(seen.reshape(*windows.shape[:2], -1).reshape(n, -1, 24).mean(1))


def test_attention_in_windows_under_a_mask_goes_through(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = Classifier(module=Windows().eval(), input=InputSpec(height=8, width=8), labels=("a", "b", "c"))
    export_onnx(classifier, tmp_path / "m.onnx", opset=18)
    images = torch.rand(3, 3, 8, 8)
    with torch.inference_mode():
        wanted = classifier.module(images).numpy()
    np.testing.assert_allclose(run(tmp_path / "m.onnx", images.numpy()), wanted, atol=1e-5)  # sums in another order


def test_an_operator_that_the_opset_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"the model cannot be written in opset 13: .*GridSample") as caught:
        export_onnx(small(Sampling(4, 10)), tmp_path / "m.onnx", opset=13)
    assert "\n" not in str(caught.value)
    assert "runtime.opset" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def graph(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray], rank: int = 4) -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    made = onnx.helper.make_graph(
        nodes,
        "graph",
        [value("x", onnx.TensorProto.FLOAT, ["n", 2, 3, 4])],
        [value("y", onnx.TensorProto.FLOAT, [None] * rank)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def evaluate(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


X = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
NODE = onnx.helper.make_node


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_reduction_keeps_its_axes(operator: str, keepdims: int) -> None:
    node = NODE(operator, ["x", "axes"], ["y"], keepdims=keepdims, noop_with_empty_axes=0)
    model = graph(node, constants={"axes": np.array([2, -1])}, rank=4 if keepdims else 2)
    lowered = to_opset(model, 13)
    assert lowered.graph.initializer == []
    np.testing.assert_array_equal(evaluate(lowered, X), evaluate(model, X))


def test_axes_that_two_reductions_share_serve_both() -> None:
    nodes = [
        NODE("ReduceMean", ["x", "axes"], ["a"]),
        NODE("ReduceMax", ["x", "axes"], ["b"]),
        NODE("Add", ["a", "b"], ["y"]),
    ]
    model = graph(*nodes, constants={"axes": np.array([2, 3])})
    np.testing.assert_array_equal(evaluate(to_opset(model, 13), X), evaluate(model, X))


def test_axes_that_another_operator_needs_stay() -> None:
    nodes = [NODE("ReduceMean", ["x", "axes"], ["a"], keepdims=0), NODE("Unsqueeze", ["a", "axes"], ["y"])]
    model = graph(*nodes, constants={"axes": np.array([2, 3])})
    np.testing.assert_array_equal(evaluate(to_opset(model, 13), X), evaluate(model, X))


@pytest.mark.parametrize(("operator", "came_with"), [("HardSwish", 14), ("Mish", 18), ("Gelu", 20), ("Swish", 24)])
def test_an_operator_that_came_later_is_written_out_in_older_ones(operator: str, came_with: int) -> None:
    model = graph(NODE(operator, ["x"], ["y"]), constants={})
    model.opset_import[0].version = came_with
    lowered = to_opset(model, 13)
    assert operator not in {node.op_type for node in lowered.graph.node}
    np.testing.assert_allclose(evaluate(lowered, X), evaluate(model, X), atol=1e-6)  # of other roundings


def test_an_attribute_at_its_default_is_no_hindrance() -> None:
    model = graph(NODE("Cast", ["x"], ["i"], to=7, saturate=1), NODE("Cast", ["i"], ["y"], to=1), constants={})
    model.opset_import[0].version = 19
    np.testing.assert_array_equal(evaluate(to_opset(model, 13), X), evaluate(model, X))


def test_axes_that_are_computed_cannot_be_lowered() -> None:
    nodes = [NODE("Identity", ["given"], ["axes"]), NODE("ReduceMean", ["x", "axes"], ["y"], name="mean")]
    with pytest.raises(UnsupportedError, match="node 'mean': its axes are computed at run time") as caught:
        to_opset(graph(*nodes, constants={"given": np.array([2, 3])}), 17)
    assert caught.value.hint == "use opset 18 or newer"


@pytest.mark.parametrize("allowzero", [0, 1])
def test_a_reshape_to_a_shape_without_zeros_is_lowered(allowzero: int) -> None:
    node = NODE("Reshape", ["x", "shape"], ["y"], allowzero=allowzero)
    model = graph(node, constants={"shape": np.array([-1, 24])}, rank=2)
    np.testing.assert_array_equal(evaluate(to_opset(model, 13), X), evaluate(model, X))


def test_a_reshape_whose_zero_means_empty_is_refused() -> None:
    node = NODE("Reshape", ["x", "shape"], ["y"], allowzero=1)
    with pytest.raises(UnsupportedError, match=r"opset 13: .*allowzero"):
        to_opset(graph(node, constants={"shape": np.array([0, 24])}, rank=2), 13)


def test_a_model_that_has_the_opset_is_returned_as_it_is() -> None:
    model = graph(NODE("Relu", ["x"], ["y"]), constants={})
    assert to_opset(model, 18) is model


def test_lowering_leaves_the_model_given_as_it_was() -> None:
    model = graph(NODE("ReduceMean", ["x", "axes"], ["y"]), constants={"axes": np.array([2, 3])})
    before = model.SerializeToString()
    to_opset(model, 13)
    assert model.SerializeToString() == before


# ---- what cannot be exported


class Branching(nn.Linear):
    """Takes another way for bright images, which no graph can."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        means = input.mean((2, 3)) if input.mean() > 0 else input.amax((2, 3))
        return super().forward(means)


class Unknown(nn.Linear):
    """Uses an operation that ONNX does not have."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return torch.linalg.svd(super().forward(input.mean((2, 3))))[0]


class Looping(nn.Linear):
    """Goes through the batch image by image, which fixes its size."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(torch.stack([image.mean((1, 2)) for image in input]))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Branching(3, 10), "the exporter cannot write this model: "),
        (Unknown(3, 10), "the exporter cannot write this model: .*svd"),
        (Looping(3, 10), "for batches of any size: its code depends on their size"),
    ],
)
def test_a_model_that_cannot_be_exported_is_one_line_with_a_hint(
    tmp_path: Path, net: nn.Module, message: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnsupportedError, match=message) as caught:
        export_onnx(small(net), tmp_path / "m.onnx", opset=18)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("raw", [False, True])
def test_layers_have_the_names_of_their_modules(exported: Callable[..., Path], teacher: Classifier, raw: bool) -> None:
    graph = onnx.load(exported(18, raw=raw)).graph
    layers = [node.name for node in graph.node if node.op_type in ("Conv", "Gemm")]
    modules = [name for name, module in teacher.module.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers == modules


def test_a_module_that_runs_twice_names_one_layer(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Linear(4, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.same(self.same(images.mean((1, 2))))

    spec = InputSpec(height=4, width=4, channels=1, mean=(0.0,), std=(1.0,))
    export_onnx(Classifier(module=Twice().eval(), input=spec, labels=tuple("abcd")), tmp_path / "twice.onnx", opset=18)
    names = [node.name for node in onnx.load(tmp_path / "twice.onnx").graph.node if node.op_type == "Gemm"]
    assert len(set(names)) == 2
    assert names[0] == "same"
