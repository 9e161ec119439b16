"""int8 builds of small graphs that are hostile to it: each keeps its accuracy, or its build says what was lost.

    python benchmarks/hostile_graphs.py [--graphs concat huge-channel] [--target host] [--quick]

Each graph is a small ONNX classifier with random weights and one trait that eight bits do not like. Its head is fitted
so that images of random textures fall into three classes with some margin, and these classes are the labels: in FP32 it
is right on every image. A row is what int8 lost on the test images, in points; `against` is what the build's last lines
say, `silent` where they say nothing. `--quick` takes five graphs.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgec.cli import main as edgec
from rows import Row, arguments, record, show

__all__ = ["BOUND_PP", "GRAPHS", "Told", "built"]

SIDE = 12
WIDTH = 16
CLASSES = ("a", "b", "c")
COUNTS = {"train": 16, "test": 60}
"""Images of each class."""
BOUND_PP = 1.0
"""What a build may lose and say nothing."""
QUICK = ("concat", "huge-channel", "large-bias", "gating", "plain")


class Sketch:
    """A graph that grows operator by operator."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype == np.float64 else array
        return name

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        names = [f"{name or kind.lower()}_{len(self.nodes)}"] if outputs == 1 else []
        names = names or [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{names[0]}.node", **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, *shape: int, scale: Any = 1.0) -> np.ndarray:
        return self.rng.normal(0, np.prod(shape[1:]) ** -0.5, shape) * scale

    def conv(self, x: str, out: int, inside: int, *, kernel: int = 3, scale: Any = 1.0, **attributes: Any) -> str:
        weight = self.weight(out, inside // attributes.get("group", 1), kernel, kernel, scale=scale)
        bias = self.rng.normal(0, 0.1, out) * np.reshape(scale, -1)
        return self("Conv", x, self.constant(weight), self.constant(bias), pads=[kernel // 2] * 4, **attributes)

    def block(self, x: str, out: int, inside: int, **how: Any) -> str:
        return self("Relu", self.conv(x, out, inside, **how))


def _per_channel(values: Any) -> np.ndarray:
    return np.reshape(values, (-1, 1, 1, 1))


def _plain(g: Sketch) -> str:
    return g.block(g.block("input", WIDTH, 3), WIDTH, WIDTH)


def _concat(g: Sketch) -> str:
    narrow, wide = g.block("input", 8, 3), g.block("input", 8, 3, scale=1000.0)
    joined = g("Concat", narrow, wide, axis=1, name="joined")
    scale = np.r_[np.ones(8), np.zeros(8)].reshape(1, -1, 1, 1)
    return g("Relu", g("Conv", joined, g.constant(g.weight(WIDTH, 16, 1, 1) * scale)))


def _dense_chain(g: Sketch) -> str:
    x, inside = g.block("input", 8, 3), 8
    for scale in (30.0, 30.0):
        x = g("Concat", x, g.block(x, 8, inside, scale=scale), axis=1)
        inside += 8
    faded = 1 / np.repeat([1, 30, 900], 8).reshape(1, -1, 1, 1)
    return g("Relu", g("Conv", x, g.constant(g.weight(WIDTH, inside, 1, 1) * faded)))


def _huge_channel(g: Sketch) -> str:
    scale = np.r_[3000.0, np.ones(WIDTH - 1)]
    x = g.block("input", WIDTH, 3, scale=_per_channel(scale))
    return g("Relu", g("Conv", x, g.constant(g.weight(WIDTH, WIDTH, 1, 1) * (scale < 2).reshape(1, -1, 1, 1))))


def _dead_channels(g: Sketch) -> str:
    alive = np.arange(WIDTH) % 2
    return g.block(g.block("input", WIDTH, 3, scale=_per_channel(alive)), WIDTH, WIDTH)


def _large_bias(g: Sketch) -> str:
    x = g.block("input", WIDTH, 3)
    weight, bias = g.weight(WIDTH, WIDTH, 1, 1, scale=1e-4), g.constant(np.full(WIDTH, 5.0))
    shifted = g("Conv", x, g.constant(weight), bias)
    return g("Mul", g("Sub", shifted, g.constant(np.full((1, WIDTH, 1, 1), 5.0))), g.constant(np.float32(1e4)))


def _square(g: Sketch) -> str:
    x = g.conv("input", WIDTH, 3)
    return g.block(g("Mul", x, x), WIDTH, WIDTH)


def _shared_weight(g: Sketch) -> str:
    weight = g.constant(g.weight(WIDTH, WIDTH, 3, 3))
    x = g("Relu", g("Conv", g.block("input", WIDTH, 3), weight, pads=[1] * 4))
    return g("Relu", g("Conv", g("Mul", x, g.constant(np.float32(40))), weight, pads=[1] * 4))


def _shared_bias(g: Sketch) -> str:
    bias = g.constant(g.rng.normal(0, 1, WIDTH))
    first = g("Relu", g("Conv", "input", g.constant(g.weight(WIDTH, 3, 3, 3, scale=20)), bias, pads=[1] * 4))
    return g("Relu", g("Conv", first, g.constant(g.weight(WIDTH, WIDTH, 3, 3, scale=0.02)), bias, pads=[1] * 4))


def _pools(g: Sketch) -> str:
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    x = g("AveragePool", g.block("input", WIDTH, 3), count_include_pad=1, ceil_mode=1, **window)
    return g("MaxPool", g.block(x, WIDTH, WIDTH), ceil_mode=1, **window)


def _prelu(g: Sketch) -> str:
    slope = g.constant(g.rng.uniform(-1, 8, (WIDTH, 1, 1)))
    return g.block(g("PRelu", g.conv("input", WIDTH, 3), slope), WIDTH, WIDTH)


def _conv_transpose(g: Sketch) -> str:
    x = g.block("input", 8, 3, strides=[2, 2])
    weight = g.constant(g.weight(8, WIDTH, 2, 2) * np.geomspace(0.01, 10, WIDTH).reshape(1, -1, 1, 1))
    wide = g("ConvTranspose", x, weight, strides=[2, 2])
    return g("Mul", g("Relu", wide), g.constant(1 / np.geomspace(0.01, 10, WIDTH).reshape(1, -1, 1, 1)))


def _layer_norm(g: Sketch) -> str:
    x = g("Transpose", g.conv("input", WIDTH, 3, scale=50.0), perm=[0, 2, 3, 1])
    ones, zeros = g.constant(np.ones(WIDTH, np.float32)), g.constant(np.zeros(WIDTH, np.float32))
    x = g("LayerNormalization", x, ones, zeros, axis=-1)
    return g.block(g("Transpose", x, perm=[0, 3, 1, 2]), WIDTH, WIDTH)


def _group_norm(g: Sketch) -> str:
    x = g("Reshape", g.conv("input", WIDTH, 3, scale=50.0), g.constant(np.array([0, 4, -1])))
    ones, zeros = g.constant(np.ones(4, np.float32)), g.constant(np.zeros(4, np.float32))
    x = g("Reshape", g("InstanceNormalization", x, ones, zeros), g.constant(np.array([0, WIDTH, SIDE, SIDE])))
    scale, shift = (g.constant(g.rng.normal(1, 0.3, (1, WIDTH, 1, 1))) for _ in range(2))
    return g.block(g("Add", g("Mul", x, scale), shift), WIDTH, WIDTH)


def _gating(g: Sketch) -> str:
    x = g.block("input", WIDTH, 3, scale=_per_channel(np.geomspace(1, 200, WIDTH)))
    gate = g("Sigmoid", g.conv(g("GlobalAveragePool", x), WIDTH, WIDTH, kernel=1, scale=0.05))
    faded = 1 / np.geomspace(1, 200, WIDTH).reshape(1, -1, 1, 1)
    return g("Relu", g("Conv", g("Mul", x, gate), g.constant(g.weight(WIDTH, WIDTH, 1, 1) * faded)))


def _depthwise(g: Sketch) -> str:
    weight = g.weight(WIDTH, 1, 3, 3)
    weight[:, 0, 1, 1] *= np.geomspace(1, 300, WIDTH)
    x = g("Conv", g.block("input", WIDTH, 3), g.constant(weight), pads=[1] * 4, group=WIDTH)
    faded = 1 / np.geomspace(1, 300, WIDTH).reshape(1, -1, 1, 1)
    return g("Relu", g("Conv", x, g.constant(g.weight(WIDTH, WIDTH, 1, 1) * faded)))


def _unequal_sum(g: Sketch) -> str:
    large, small = g.conv("input", WIDTH, 3, scale=400.0), g.block("input", WIDTH, 3)
    total = g("Add", large, small)
    return g("Relu", g("Sub", total, large))


def _leaky(g: Sketch) -> str:
    return g.block(g("LeakyRelu", g.conv("input", WIDTH, 3, scale=30.0), alpha=0.001), WIDTH, WIDTH, scale=0.03)


def _swish(g: Sketch) -> str:
    x = g.conv("input", WIDTH, 3, scale=_per_channel(np.geomspace(0.3, 60, WIDTH)))
    faded = 1 / np.geomspace(0.3, 60, WIDTH).reshape(1, -1, 1, 1)
    return g("Relu", g("Conv", g("Mul", x, g("Sigmoid", x)), g.constant(g.weight(WIDTH, WIDTH, 1, 1) * faded)))


def _shuffle(g: Sketch) -> str:
    x = g.block("input", WIDTH, 3, scale=_per_channel(np.r_[np.ones(8), np.full(8, 500.0)]))
    first, second = g("Split", x, g.constant(np.array([8, 8])), outputs=2, axis=1)
    return g.block(g("Concat", g.block(second, 8, 8, scale=0.002), first, axis=1), WIDTH, WIDTH)


def _resized(g: Sketch) -> str:
    small = g.block("input", WIDTH, 3, strides=[2, 2], scale=100.0)
    large = g("Resize", small, "", g.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    return g.block(g("Add", large, g.block("input", WIDTH, 3)), WIDTH, WIDTH)


def _clipped(g: Sketch) -> str:
    ends = (g.constant(np.float32(0)), g.constant(np.float32(6)))
    return g.block(g("Clip", g.conv("input", WIDTH, 3, scale=5.0), *ends), WIDTH, WIDTH)


def _attention(g: Sketch) -> str:
    tokens = [g("Reshape", g.conv("input", WIDTH, 3), g.constant(np.array([0, WIDTH, -1]))) for _ in range(3)]
    scores = g("Softmax", g("MatMul", g("Transpose", tokens[0], perm=[0, 2, 1]), tokens[1]), axis=-1)
    mixed = g("MatMul", tokens[2], g("Transpose", scores, perm=[0, 2, 1]))
    return g("Reshape", mixed, g.constant(np.array([0, WIDTH, SIDE, SIDE])))


GRAPHS: dict[str, Callable[[Sketch], str]] = {
    "plain": _plain,
    "concat": _concat,
    "dense-chain": _dense_chain,
    "huge-channel": _huge_channel,
    "dead-channels": _dead_channels,
    "large-bias": _large_bias,
    "square": _square,
    "shared-weight": _shared_weight,
    "shared-bias": _shared_bias,
    "pools": _pools,
    "prelu": _prelu,
    "conv-transpose": _conv_transpose,
    "layer-norm": _layer_norm,
    "group-norm": _group_norm,
    "gating": _gating,
    "depthwise": _depthwise,
    "unequal-sum": _unequal_sum,
    "leaky": _leaky,
    "swish": _swish,
    "shuffle": _shuffle,
    "resized": _resized,
    "clipped": _clipped,
    "attention": _attention,
}
"""By trait; each adds its operators and gives the name of the last feature map."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a build measured, and what it says of it."""

    before: float
    after: float
    n: int
    loss: dict[str, Any] | None
    last_lines: str

    @property
    def lost_pp(self) -> float:
        """Points of accuracy that the file lost against its FP32 graph."""
        return 100 * (self.before - self.after)

    @property
    def is_silent(self) -> bool:
        """Whether neither the report nor the last lines say that something was lost."""
        return self.loss is None and "lost: " not in self.last_lines


def built(trait: str, folder: Path, *settings: str, target: str = "host") -> Told:
    """`edgec build` of a graph on its images."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"{trait}.onnx"
    _write(trait, model, folder)
    shape = f"height = {SIDE}\nwidth = {SIDE}\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]\n"
    data = "".join(f'{name} = "{folder / f"{name}.npz"}"\n' for name in (*COUNTS, "ood"))
    config = folder / "edgec.toml"
    config.write_text(
        f'name = "{trait}"\n[model]\nname = "{model}"\nlabels = {json.dumps(CLASSES)}\n[model.input]\n{shape}'
        f"[data]\n{data}",
        encoding="utf-8",
    )
    given = [word for setting in settings for word in ("--set", setting)]
    where = ["--output", str(folder / "bundle"), "--cache", str(folder / "cache")]
    out, log = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(log):
        try:
            edgec(["build", "--config", str(config), "--target", target, *where, *given])
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"{trait}: {log.getvalue().splitlines()[-2:]}") from None
    report = json.loads((folder / "bundle" / "report.json").read_bytes())
    rows = {row["stage"]: row for row in report["measurements"] if (row["name"], row["label"]) == ("accuracy", None)}
    return Told(
        before=rows["compressed"]["value"],
        after=rows["artifact"]["value"],
        n=rows["artifact"]["n"],
        loss=report["loss"],
        last_lines="\n".join(out.getvalue().splitlines()[-3:]),
    )


def _write(trait: str, model: Path, folder: Path) -> None:
    """The graph, its head fitted to the images, and the images."""
    sketch = Sketch()
    features = GRAPHS[trait](sketch)
    pixels = textures(3000, np.random.default_rng(1))
    bare = _graph(sketch, sketch("Flatten", sketch("GlobalAveragePool", features)), WIDTH)
    session = onnxruntime.InferenceSession(bare.SerializeToString(), providers=["CPUExecutionProvider"])
    fed = ((pixels.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).astype(np.float32)
    parts: list[Any] = [session.run(None, {"input": fed[i : i + 500]})[0] for i in range(0, len(fed), 500)]
    seen = np.concatenate(parts)
    head = np.random.default_rng(2).normal(size=(len(CLASSES), WIDTH))
    scores = (seen - seen.mean(axis=0)) @ head.T
    head, bias = head / scores.std(), -(seen.mean(axis=0) @ head.T) / scores.std()
    constants = [sketch.constant(head), sketch.constant(bias)]
    logits = sketch("Gemm", bare.graph.output[0].name, *constants, transB=1, name="logits")
    onnx.save(_graph(sketch, logits, len(CLASSES)), model)
    _save_images(pixels, scores, folder)


def _graph(sketch: Sketch, output: str, size: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        sketch.nodes,
        "hostile",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", size])],
        [numpy_helper.from_array(value, name) for name, value in sketch.constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def textures(count: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [count, SIDE, SIDE, 3]: a colour, waves of a direction and some noise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = rng.uniform(0.5, 4, (count, 1, 1, 3)), rng.uniform(0, np.pi, (count, 1, 1, 3))
    along = np.cos(waves[1]) * x[None, ..., None] + np.sin(waves[1]) * y[None, ..., None]
    shown = rng.uniform(60, 190, (count, 1, 1, 3)) + rng.uniform(10, 60, (count, 1, 1, 3)) * np.sin(
        2 * np.pi * waves[0] * along
    )
    return np.clip(shown + rng.normal(0, 6, shown.shape), 0, 255).astype(np.uint8)


def _save_images(pixels: np.ndarray, scores: np.ndarray, folder: Path) -> None:
    """Of each class those that are no near ties, and other textures as OOD images."""
    ordered = np.sort(scores, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 0.3 * scores.std()
    members = [np.flatnonzero(clear & (scores.argmax(axis=1) == label)) for label in range(len(CLASSES))]
    start = 0
    for name, count in COUNTS.items():
        chosen = [part[start : start + count] for part in members]
        labels = np.repeat(np.arange(len(CLASSES)), [len(part) for part in chosen])
        np.savez(folder / f"{name}.npz", images=pixels[np.concatenate(chosen)], labels=labels, names=CLASSES)
        start += count
    np.savez(folder / "ood.npz", images=textures(64, np.random.default_rng(3)))


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS)
    parser.add_argument("--target", default="host")
    given = parser.parse_args()
    rows: list[Row] = []
    for trait in given.graphs or (QUICK if given.quick else GRAPHS):
        with tempfile.TemporaryDirectory() as folder:
            told = built(trait, Path(folder), target=given.target)
        print(f"{trait}: {told.last_lines}", file=sys.stderr)
        said = "silent" if told.is_silent else "told" if told.loss and told.loss["places"] else "told, no place"
        rows.append(Row(what=f"{trait}: accuracy lost", value=told.lost_pp, unit="points", n=told.n, against=said))
        if given.output:  # at once: a build takes half a minute
            record(rows[-1:], given.output)
    show(rows, as_json=given.json)
    quiet = [row.what.partition(":")[0] for row in rows if row.value > BOUND_PP and row.against == "silent"]
    sys.exit(f"lost more than {BOUND_PP:g} points and said nothing: {', '.join(quiet)}" if quiet else 0)


if __name__ == "__main__":
    main()
