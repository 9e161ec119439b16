"""ONNX files as exporters write them: one small classifier of 16x16 images, in the dialects that people hold.

`FILES` makes each in a folder, and says what must come of it. The net is the same throughout, so that whatever becomes
of a file can be held against it. Benchmarks (zoo.py) and tests build from these.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["CLASSES", "FILES", "REFUSED", "SIZE", "OnnxFile", "images", "input_setting", "net", "saved"]

SIZE, CLASSES = 16, ("ant", "bee", "cow")
NODE = helper.make_node
FLOAT = TensorProto.FLOAT
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A dialect.

    Attributes:
        make: Writes it into a folder; the path of the model.
        settings: What a build of it is told beside the usual.
        classes: How many it knows.
        refused: Targets that must refuse it in words.
        told: What the build must say that it did.
    """

    make: Callable[[Path], Path]
    settings: tuple[str, ...] = ()
    classes: int = 3
    refused: tuple[str, ...] = ()
    told: str = ""


def images(count: int, seed: int, *, classes: int = len(CLASSES), side: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, side, side, 3] of some classes, patterns under noise, and their labels; four divides the side.

    The noise of larger images is coarser: seen small, they must not look like copies of each other.
    """
    rng, labels = np.random.default_rng(seed), np.arange(count) % classes
    patterns = np.random.default_rng(9).integers(0, 256, (classes, 4, 4, 3))
    block = np.ones((1, side // 4, side // 4, 1))
    grain = max(1, side // 32)
    coarse = rng.normal(0, 60, (count, -(-side // grain), -(-side // grain), 3))
    noise = np.kron(coarse, np.ones((1, grain, grain, 1)))[:, :side, :side]
    noisy = np.kron(patterns[labels], block) + noise
    return noisy.clip(0, 255).astype(np.uint8), labels


def input_setting(*, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, side: int = SIZE) -> str:
    """What a build is told of the images."""
    return f"model.input={{height={side},width={side},channels=3,mean={list(mean)},std={list(std)}}}"


@cache
def weights() -> Mapping[str, np.ndarray]:
    """Of two convolutions, a normalisation and a layer whose logits differ from image to image."""
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)),
        "w2": rng.normal(0, 0.2, (16, 8, 3, 3)),
        "b2": rng.normal(0, 0.1, 16),
        "gamma": rng.uniform(0.5, 1.5, 8),
        "beta": rng.normal(0, 0.1, 8),
        "mean": rng.normal(0, 0.1, 8),
        "var": rng.uniform(0.5, 1.5, 8),
        "w3": np.eye(3, 16),
        "b3": np.zeros(3),
    }
    made = {name: value.astype(np.float32) for name, value in made.items()}
    from onnxruntime import InferenceSession

    pixels, labels = images(90, 3)
    taken = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    session = InferenceSession(model(body(made), made, outputs=["pooled"]).SerializeToString())
    pooled = session.run(["pooled"], {"x": taken})[0].reshape(len(taken), -1)
    wanted = 4 * np.eye(3)[labels] - 4 / 3
    solved = np.linalg.lstsq(np.column_stack([pooled, np.ones(len(pooled))]), wanted, rcond=None)[0]
    return made | {"w3": solved[:-1].T.astype(np.float32), "b3": solved[-1].astype(np.float32)}


def body(_: Mapping[str, np.ndarray] | None = None, *, source: str = "x", activation: str = "Relu") -> list[NodeProto]:
    """From the images to pooled features [n, 16, 1, 1]."""
    return [
        NODE("Conv", [source, "w1"], ["c1"], pads=[1] * 4, kernel_shape=[3, 3]),
        NODE("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"]),
        NODE(activation, ["n1"], ["r1"]),
        NODE("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2], pads=[1] * 4, kernel_shape=[3, 3]),
        NODE("Relu", ["c2"], ["r2"]),
        NODE("GlobalAveragePool", ["r2"], ["pooled"]),
    ]


def head(output: str = "y", **attributes: Any) -> list[NodeProto]:
    """From features to logits."""
    return [
        NODE("Flatten", ["pooled"], ["flat"]),
        NODE("Gemm", ["flat", "w3", "b3"], [output], **{"transB": 1, **attributes}),
    ]


def model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, np.ndarray],
    *,
    opset: int = 17,
    taken: Sequence[Any] = ("n", 3, SIZE, SIZE),
    kind: int = FLOAT,
    name: str = "x",
    outputs: Sequence[Any] = ("y",),
    more: Mapping[str, int] | None = None,
    ir: int | None = None,
    inputs: bool = False,
) -> ModelProto:
    """A model; outputs that are names alone have no type and shape."""
    used = {each for node in nodes for each in node.input}
    held = [numpy_helper.from_array(value, each) for each, value in constants.items() if each in used]
    given = [helper.make_tensor_value_info(name, kind, list(taken))]
    if inputs:
        given += [helper.make_tensor_value_info(each.name, each.data_type, list(each.dims)) for each in held]
    ends = [helper.make_empty_tensor_value_info(each) if isinstance(each, str) else each for each in outputs]
    sets = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **(more or {})}.items()]
    graph = helper.make_graph(list(nodes), "net", given, ends, held)
    made = helper.make_model(graph, opset_imports=sets, producer_name="zoo")
    made.ir_version = ir or helper.find_min_ir_version_for(sets, ignore_unknown=True)
    return made


def logits(kind: int = FLOAT, shape: Sequence[Any] = ("n", 3), name: str = "y") -> Any:
    """An output that says what it is."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def net(**fields: Any) -> ModelProto:
    """The plain one, or with other fields of `model`."""
    return model([*body(), *head()], weights(), **{"outputs": [logits()], **fields})


def saved(made: ModelProto, folder: Path, **how: Any) -> Path:
    """Writes it as `model.onnx`."""
    onnx.save(made, folder / "model.onnx", **how)
    return folder / "model.onnx"


def _of_opset(opset: int) -> OnnxFile:
    told = f"opset {opset} raised" if opset < 13 else "lowered" if opset > 20 else ""
    return OnnxFile(
        make=lambda folder: saved(net(opset=opset, inputs=opset < 9, ir=3 if opset < 9 else None), folder), told=told
    )


def _clipped(opset: int) -> ModelProto:
    """ReLU6 with its bounds as attributes or inputs, a softmax over axis 1 by default, a dropout."""
    bounds = {"min": 0.0, "max": 6.0} if opset < 11 else {}
    names = [] if opset < 11 else ["low", "high"]
    nodes = body()
    nodes[2] = NODE("Clip", ["n1", *names], ["r1"], **bounds)
    nodes += [
        NODE("Dropout", ["pooled"], ["kept"]),
        NODE("Flatten", ["kept"], ["flat"]),
        head("z")[1],
        NODE("Softmax", ["z"], ["y"]),
    ]
    constants = {**weights(), "low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    return model(nodes, constants, opset=opset, outputs=[logits()])


def _old_axes() -> ModelProto:
    """Axes, pads and slices as attributes, as they were before opsets 10 to 13."""
    nodes = [
        NODE("Pad", ["x"], ["padded"], pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="constant"),
        NODE("Slice", ["padded"], ["sliced"], axes=[2, 3], starts=[1, 1], ends=[17, 17]),
        *body(source="sliced")[:-1],
        NODE("ReduceMean", ["r2"], ["means"], axes=[2, 3], keepdims=0),
        NODE("Unsqueeze", ["means"], ["wide"], axes=[2]),
        NODE("Squeeze", ["wide"], ["flat"], axes=[2]),
        head()[1],
    ]
    return model(nodes, weights(), opset=9, outputs=[logits()], inputs=True, ir=3)


def _ending(*nodes: NodeProto, constants: Mapping[str, np.ndarray] | None = None, **fields: Any) -> ModelProto:
    return model([*body(), *head("z"), *nodes], {**weights(), **(constants or {})}, **{"outputs": [logits()], **fields})


def _written_softmax() -> ModelProto:
    return _ending(
        NODE("ReduceMax", ["z"], ["most"], axes=[1]),
        NODE("Sub", ["z", "most"], ["less"]),
        NODE("Exp", ["less"], ["power"]),
        NODE("ReduceSum", ["power", "axes"], ["sum"]),
        NODE("Div", ["power", "sum"], ["y"]),
        constants={"axes": np.array([1])},
    )


def _convolved_head() -> ModelProto:
    """Logits by a 1x1 convolution, [n, 3, 1, 1], with a softmax over them, as SqueezeNet has it."""
    held = {**weights(), "w4": weights()["w3"].reshape(3, 16, 1, 1)}
    nodes = [*body(), NODE("Conv", ["pooled", "w4", "b3"], ["z"]), NODE("Softmax", ["z"], ["y"], axis=1)]
    return model(nodes, held, outputs=[logits(shape=("n", 3, 1, 1))])


def _gemm(**fields: Any) -> ModelProto:
    """A bias with an axis too many; factors before weight and bias."""
    alpha, beta = fields.get("alpha", 1.0), fields.get("beta", 1.0)
    held = {
        **weights(),
        "w3": weights()["w3"] / np.float32(alpha),
        "b3": weights()["b3"].reshape(1, 3) / np.float32(beta),
    }
    return model([*body(), *head(**fields)], held, outputs=[logits()])


def _scalar_bias() -> ModelProto:
    """A bias of one number for all, and another behind."""
    held = {**weights(), "b3": np.float32(0.1), "more": weights()["b3"]}
    return model([*body(), *head("g"), NODE("Add", ["g", "more"], ["y"])], held, outputs=[logits()])


def _keras(opset: int = 15, *, pixels: bool = False, softmax: bool = True) -> ModelProto:
    """As tf2onnx writes a Keras model: channels last, names with colons, a dense layer in two operators."""
    held = {**weights(), "k": weights()["w3"].T.copy(), "axes": np.array([1, 2])}
    first = []
    if pixels:
        held |= {
            "scale": np.array(1 / 255, np.float32),
            "m": np.array(MEAN, np.float32),
            "s": np.array(STD, np.float32),
        }
        first = [
            NODE("Cast", ["input_1:0"], ["cast"], to=FLOAT),
            NODE("Mul", ["cast", "scale"], ["scaled"]),
            NODE("Sub", ["scaled", "m"], ["moved"]),
            NODE("Div", ["moved", "s"], ["ready"]),
        ]
    nodes = [
        *first,
        NODE(
            "Transpose", ["ready" if pixels else "input_1:0"], ["x"], perm=[0, 3, 1, 2], name="model/conv2d/Conv2D__6"
        ),
        *body()[:-1],
        NODE("Transpose", ["r2"], ["last"], perm=[0, 2, 3, 1]),
        NODE("ReduceMean", ["last"], ["flat"], axes=[1, 2], keepdims=0),
        NODE("MatMul", ["flat", "k"], ["product"]),
        NODE("Add", ["product", "b3"], ["z"]),
        NODE("Softmax" if softmax else "Identity", ["z"], ["dense"]),
    ]
    kind = TensorProto.UINT8 if pixels else FLOAT
    outputs = [logits(name="dense", shape=("unk__12", 3))]
    return model(
        nodes, held, opset=opset, name="input_1:0", kind=kind, taken=("unk__11", SIZE, SIZE, 3), outputs=outputs
    )


def _fixed(batch: int, *, view: bool) -> ModelProto:
    """A batch that the exporter fixed, in the input, and in a written shape as well."""
    shape = np.array([batch, 16 if batch > 1 else -1])
    flat = NODE("Reshape", ["pooled", "shape"], ["flat"]) if view else head()[0]
    nodes = [*body(), flat, head()[1]]
    return model(nodes, {**weights(), "shape": shape}, taken=(batch, 3, SIZE, SIZE), outputs=[logits(shape=(batch, 3))])


def _in_type(kind: int) -> ModelProto:
    """The same in another floating-point type, from input to output."""
    numbers = helper.tensor_dtype_to_np_dtype(kind)
    held = {name: value.astype(numbers) for name, value in weights().items()}
    return model([*body(), *head()], held, opset=17, kind=kind, outputs=[logits(kind)])


def _two_classes(*, sigmoid: bool) -> ModelProto:
    """One number for two classes."""
    held = {
        **weights(),
        "w3": weights()["w3"][1:2] - weights()["w3"][:1],
        "b3": weights()["b3"][1:2] - weights()["b3"][:1],
    }
    nodes = [*body(), *head("z" if sigmoid else "y"), *([NODE("Sigmoid", ["z"], ["y"])] if sigmoid else [])]
    return model(nodes, held, outputs=[logits(shape=("n", 1))])


def _function() -> ModelProto:
    """With a function of its own, as older exporters of torch write modules."""
    made = net(more={"pkg": 1}, opset=18)
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("pkg", "Act", ["a"], ["b"], [NODE("Relu", ["a"], ["b"])], opsets)
    made.functions.append(function)
    for node in made.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Act", "pkg"
    return made


def _later(operator: str, opset: int, **attributes: Any) -> ModelProto:
    """With an activation that came with a late opset."""
    nodes = body(activation=operator)
    nodes[2].attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return model([*nodes, *head()], weights(), opset=opset, outputs=[logits()])


def _quantized(folder: Path, *, how: str) -> Path:
    """By onnxruntime's own quantiser: `qdq` as for CPUs, `symmetric` as TensorRT wants it, `operators`, `dynamic`."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            pixels, _ = images(16, 4)
            taken = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
            self.left = iter({"x": taken[i : i + 1]} for i in range(len(taken)))

        def get_next(self) -> Any:
            return next(self.left, None)

    plain = saved(net(opset=17), folder)
    ready, output = folder / "ready.onnx", folder / "quantized.onnx"
    quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
    if how == "dynamic":
        quantize_dynamic(ready, output, op_types_to_quantize=["Gemm", "MatMul"])
        return output
    symmetric = how == "symmetric"
    quantize_static(
        ready,
        output,
        Reader(),
        quant_format=QuantFormat.QOperator if how == "operators" else QuantFormat.QDQ,
        per_channel=symmetric,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Gemm"],
        extra_options={
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"],
        }
        if symmetric
        else {},
    )
    return output


def _sklearn(kind: str) -> Callable[[Path], Path]:
    """A classifier of scikit-learn on the images' pixels, by skl2onnx."""

    def make(folder: Path) -> Path:
        from skl2onnx import to_onnx
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        pixels, labels = images(90, 3)
        flat = ((pixels / 255 - MEAN) / STD).reshape(len(pixels), -1).astype(np.float32)
        made: Any = {
            "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
            "mlp": lambda: MLPClassifier((16,), max_iter=60),
            "forest": lambda: RandomForestClassifier(8),
        }[kind]()
        made.fit(flat, np.array(CLASSES)[labels])
        (folder / "model.onnx").write_bytes(to_onnx(made, flat[:1], target_opset=17).SerializeToString())
        return folder / "model.onnx"

    return make


def _torch(*, dynamo: bool, **how: Any) -> Callable[[Path], Path]:
    """By torch's exporter."""

    def make(folder: Path) -> Path:
        import warnings

        import torch
        from torch import nn

        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 16, 3, 2, 1, groups=8),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.LayerNorm(16),
            nn.GELU(),
            nn.Linear(16, 3),
        ).eval()
        pixels, _ = images(60, 3)
        taken = torch.tensor((pixels / 255 - MEAN) / STD, dtype=torch.float32).permute(0, 3, 1, 2)
        with torch.inference_mode():
            made[-1].bias -= made(taken).mean(dim=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                made, (torch.zeros(1, 3, SIZE, SIZE),), folder / "model.onnx", dynamo=dynamo, verbose=False, **how
            )
        return folder / "model.onnx"

    return make


def _plain(make: Callable[[], ModelProto], **fields: Any) -> OnnxFile:
    return OnnxFile(make=lambda folder: saved(make(), folder), **fields)


def _outside(**how: Any) -> OnnxFile:
    def make(folder: Path) -> Path:
        return saved(net(), folder, save_as_external_data=True, size_threshold=0, **how)

    return OnnxFile(make=make, told="weights read from")


def _bytes(data: bytes, name: str = "model.onnx") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _cut_short(folder: Path) -> Path:
    path = saved(net(), folder)
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _archive(*names: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "model.onnx", "w") as archive:
            for name in names:
                archive.writestr(name, b"1")
        return folder / "model.onnx"

    return make


def _moved(where: str) -> Callable[[Path], Path]:
    """Weights in another file, which is gone or where no file of a model may point."""

    def make(folder: Path) -> Path:
        (folder / "in").mkdir()
        path = saved(net(), folder / "in", save_as_external_data=True, size_threshold=0, location="weights.bin")
        (folder / "in" / "weights.bin").rename(folder / "weights.bin")
        if where != "weights.bin":
            made = onnx.load(path, load_external_data=False)
            for tensor in made.graph.initializer:
                tensor.external_data[0].value = where
            path.write_bytes(made.SerializeToString())
        return path

    return make


def _own_operator() -> ModelProto:
    nodes = body()
    nodes[2] = NODE("Swirl", ["n1"], ["r1"], domain="my.own")
    return model([*nodes, *head()], weights(), more={"my.own": 1}, outputs=[logits()])


def _two_inputs() -> ModelProto:
    made = _ending(NODE("Mul", ["z", "factor"], ["y"]))
    made.graph.input.append(helper.make_tensor_value_info("factor", FLOAT, [1]))
    return made


def _of_later_opset() -> ModelProto:
    made = net()
    made.opset_import[0].version = 99
    return made


REFUSED: Mapping[str, tuple[Callable[[Path], Path], str]] = {
    "Git LFS pointer": (
        _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "Git LFS pointer",
    ),
    "TorchScript": (_archive("m/constants.pkl", "m/code/__torch__.py", "m/data.pkl"), "TorchScript archive"),
    "torch.export": (_archive("m/archive_format", "m/models/model.json"), r"\.pt2"),
    "torch checkpoint": (_archive("m/data.pkl", "m/data/0"), "torch checkpoint"),
    "TensorFlow Lite": (_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "TensorFlow Lite"),
    "Keras, HDF5": (_bytes(b"\x89HDF\r\n" + bytes(99)), "HDF5"),
    "safetensors": (_bytes((64).to_bytes(8, "little") + b'{"a":1}' + bytes(99)), "safetensors"),
    "web page": (_bytes(b"<!DOCTYPE html><html>sign in</html>"), "web page"),
    "empty": (_bytes(b""), "empty"),
    "garbage": (_bytes(b"hello" * 100), "not a valid ONNX file"),
    "cut short": (_cut_short, "cut short"),
    "weights that are gone": (_moved("weights.bin"), "is not beside it"),
    "weights outside of the folder": (_moved("../weights.bin"), "outside of its folder"),
    "operator of its own": (lambda folder: saved(_own_operator(), folder), "Swirl"),
    "opset 99": (lambda folder: saved(_of_later_opset(), folder), "opset 99"),
    "two inputs": (lambda folder: saved(_two_inputs(), folder), "2 inputs"),
    "other images": (lambda folder: saved(net(taken=("n", 3, 32, 32)), folder), r"takes float \[3, 32, 32\]"),
    "four channels": (lambda folder: saved(net(taken=("n", 4, 16, 16)), folder), r"takes float \[4, 16, 16\]"),
    "other classes": (
        lambda folder: saved(_ending(NODE("Concat", ["z", "z"], ["y"], axis=1), outputs=["y"]), folder),
        "expected 3",
    ),
}
"""What no target can take: how to make it, and words that its refusal must have."""

_PIXELS = (input_setting(mean=(0, 0, 0), std=(1, 1, 1)),)
FILES: Mapping[str, OnnxFile] = {
    **{f"opset {opset}": _of_opset(opset) for opset in (7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 20, 21, 22, 23, 24)},
    "opset 10, Clip with attributes, Softmax": _plain(lambda: _clipped(10), told="opset 10 raised"),
    "opset 12, Clip with inputs, Softmax": _plain(lambda: _clipped(12), told="opset 12 raised"),
    "opset 9, axes as attributes": _plain(_old_axes, told="opset 9 raised"),
    "opset 20, Gelu": _plain(lambda: _later("Gelu", 20)),
    "opset 22, Mish": _plain(lambda: _later("Mish", 22), told="lowered"),
    "opset 24, Swish": _plain(lambda: _later("Swish", 24), told="lowered"),
    "external data, one file": _outside(location="model.onnx.data"),
    "external data, a file a tensor": _outside(all_tensors_to_one_file=False),
    "functions of the model": _plain(_function),
    "Gemm, bias [1, K]": _plain(_gemm),
    "Gemm, alpha and beta": _plain(lambda: _gemm(alpha=0.5, beta=2.0)),
    "Gemm, scalar bias": _plain(_scalar_bias),
    "float16": _plain(lambda: _in_type(TensorProto.FLOAT16), told="float16 to float32"),
    "bfloat16": _plain(lambda: _in_type(TensorProto.BFLOAT16), told="bfloat16 to float32"),
    "float64": _plain(lambda: _in_type(TensorProto.DOUBLE), told="float64 to float32"),
    "Keras, channels last": _plain(_keras, told="channels last"),
    "Keras, opset 12, channels last, logits": _plain(lambda: _keras(11, softmax=False), told="channels last"),
    "Keras, pixels as uint8": _plain(lambda: _keras(pixels=True), settings=_PIXELS, told="pixels in uint8"),
    "open height and width": _plain(lambda: net(taken=("n", 3, "h", "w")), told="open image sizes set to 16x16"),
    "every size open": _plain(lambda: net(taken=(None,) * 4), told="open image sizes set to 16x16"),
    "fixed batch of 1": _plain(lambda: _fixed(1, view=False), told="a batch fixed to 1 opened"),
    "fixed batch of 1, in a written shape": _plain(lambda: _fixed(1, view=True), told="a batch fixed to 1 opened"),
    "fixed batch of 4, in a written shape": _plain(lambda: _fixed(4, view=True), told="a batch fixed to 4 opened"),
    "output without type and shape": _plain(lambda: net(outputs=["y"])),
    "features beside logits": _plain(lambda: net(outputs=["flat", logits()]), told="output 'y' taken of 2"),
    "logits beside probabilities": _plain(
        lambda: _ending(NODE("Softmax", ["z"], ["y"]), outputs=[logits(), logits(name="z")]),
        settings=('model.output="z"',),
        told="output 'z' taken of 2",
    ),
    "classes alone, by ArgMax": _plain(lambda: _ending(NODE("ArgMax", ["z"], ["y"], axis=1), outputs=["y"])),
    "Softmax": _plain(lambda: _ending(NODE("Softmax", ["z"], ["y"])), told="softmax cut off"),
    "LogSoftmax": _plain(lambda: _ending(NODE("LogSoftmax", ["z"], ["y"])), told="log-softmax cut off"),
    "Sigmoid": _plain(lambda: _ending(NODE("Sigmoid", ["z"], ["y"])), told="sigmoid cut off"),
    "Softmax written out": _plain(_written_softmax, told="softmax, written out in operators, cut off"),
    "Softmax over [n, K, 1, 1]": _plain(_convolved_head, told="softmax cut off"),
    "two classes, one Sigmoid": _plain(lambda: _two_classes(sigmoid=True), classes=2, told="two"),
    "two classes, one logit": _plain(lambda: _two_classes(sigmoid=False), classes=2, told="two"),
    "QDQ, uint8": OnnxFile(make=lambda folder: _quantized(folder, how="qdq"), refused=("jetson",)),
    "QDQ, symmetric int8": OnnxFile(make=lambda folder: _quantized(folder, how="symmetric")),
    "QLinearConv": OnnxFile(make=lambda folder: _quantized(folder, how="operators"), refused=("jetson",)),
    "dynamically quantised": OnnxFile(make=lambda folder: _quantized(folder, how="dynamic"), refused=("jetson",)),
    "torch, dynamo": OnnxFile(make=_torch(dynamo=True)),
    "torch, TorchScript exporter": OnnxFile(make=_torch(dynamo=False)),
    "scikit-learn, logistic regression": OnnxFile(make=_sklearn("logistic")),
    "scikit-learn, multi-layer perceptron": OnnxFile(make=_sklearn("mlp")),
    "scikit-learn, random forest": OnnxFile(make=_sklearn("forest"), refused=("jetson",)),
}
