"""Models as people hold them, built for a Jetson and for x86: which build, which agree with the model as it was given.

    python benchmarks/zoo.py [--only "Keras" "opset 7"] [--targets jetson x86-vnni] [--quick]

A row per model and target: the share of 60 images to which the graph gives the class that the model as given has,
before anything is quantised, each run as its own runtime runs it. What a target must refuse has the seconds of
processor time that this takes, by a command of its own. The whole zoo adds how many there are of each. scikit-learn's
models need skl2onnx, and are left out without it.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edgec.cli.build import parse_setting
from edgec.core.errors import EdgecError
from edgec.core.inputs import normalise
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import build
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import export
from edgec.pipeline.store import Store
from onnx_files import CLASSES, FILES, REFUSED, OnnxFile, images, input_setting
from rows import Row, arguments, show

IMAGES = 60
LEAST_SAME = 0.999
LONGEST_S = 5.0
QUICK = ("opset 7", "Keras, channels last", "float16", "Softmax", "QDQ, symmetric int8", "TorchScript")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="models whose names hold one of these")
    parser.add_argument("--targets", nargs="+", default=["jetson", "x86-vnni"])
    given = parser.parse_args()
    parts = QUICK if given.quick else given.only
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        zoo = Zoo(Path(folder))
        for target in given.targets:
            built = [zoo.of(name, FILES[name], target) for name in chosen(FILES, parts)]
            refused = [zoo.refusal(name, target) for name in chosen(REFUSED, parts)]
            rows += [*built, *refused, *([] if parts else totals(target, [*built, *refused]))]
    show(rows, as_json=given.json, output=given.output)


def chosen(names: Iterable[str], parts: Sequence[str]) -> list[str]:
    """Names that hold one of the parts, all where there are none; without what is not installed."""
    found = [name for name in names if not parts or any(part in name for part in parts)]
    return [name for name in found if "scikit-learn" not in name or find_spec("skl2onnx")]


def totals(target: str, rows: list[Row]) -> list[Row]:
    """How many are as they must be: built and equal, or refused in words and in time."""
    built = [row for row in rows if row.unit == "share"]
    same = sum(row.value >= LEAST_SAME for row in built)
    refused = [row for row in rows if row.unit == "s"]
    in_time = sum(0 < row.value <= LONGEST_S for row in refused)
    return [
        Row(what=f"ONNX: {target}: built, same class on 99.9 %", value=same, unit="models", n=len(built)),
        Row(what=f"ONNX: {target}: refused in words within 5 s", value=in_time, unit="models", n=len(refused)),
    ]


class Zoo:
    """Builds in one folder, with one cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, _ = images(IMAGES, 6)
        for name, count, seed in (("train", 30, 5), ("test", IMAGES, 6)):
            for classes in (3, 2):
                pixels, labels = images(count, seed)
                kept = labels < classes
                held = {"images": pixels[kept], "labels": labels[kept], "names": np.array(CLASSES[:classes])}
                np.savez(folder / f"{name}{classes}.npz", **held)
        self.store = Store(folder / "cache")

    def of(self, name: str, file: OnnxFile, target: str) -> Row:
        """One model built for one target, or refused by it."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            path = file.make(Path(place))
            if target in file.refused:
                return self._refused(name, target, self.settings(path, target, file), "")
            try:
                same = self._same(path, target, file)
            except EdgecError as error:
                print(f"{name}: {target}: {error}", file=sys.stderr)
                same = 0.0
        print(f"{name}: {target}: {same:.3f}", file=sys.stderr, flush=True)
        return Row(what=f"ONNX: {name}: {target}: same class", value=same, unit="share", n=IMAGES, against="as given")

    def refusal(self, name: str, target: str) -> Row:
        """The seconds of refusing what no target takes."""
        make, words = REFUSED[name]
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            path = make(Path(place))
            return self._refused(name, target, self.settings(path, target, OnnxFile(make=make)), words)

    def settings(self, path: Path, target: str, file: OnnxFile) -> tuple[str, ...]:
        """What the builds of a model are told."""
        data = (f'data.{split}="{self.folder / f"{split}{file.classes}.npz"}"' for split in ("train", "test"))
        model = (f'target="{target}"', f'model.name="{path}"', *(file.settings or (input_setting(),)))
        taken = () if any("model.input" in setting for setting in file.settings) else (input_setting(),)
        return (*model, *taken, *data, "data.ood_count=60")

    def _same(self, path: Path, target: str, file: OnnxFile) -> float:
        config = bound(self.settings(path, target, file))
        plan = plan_build(config, accelerator=Accelerator.CPU)
        build(plan, store=self.store, output=self.folder / "bundle", progress=Silent())
        graph = self.store.path(export.key(plan)) / export.FP32
        logits = Sources(plan, Silent()).session(graph).logits(self.images)
        wanted = as_given(path, config, self.images)
        return float((logits.argmax(axis=1) == wanted).mean())

    def _refused(self, name: str, target: str, settings: tuple[str, ...], words: str) -> Row:
        command = [sys.executable, "-m", "edgec", "build", *(part for each in settings for part in ("--set", each))]
        before = processor_s()
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        seconds = processor_s() - before
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if done.returncode == 0 or len(said) != 1 or not re.search(words, said[0]) or "Traceback" in done.stderr:
            print(f"{name}: {target}: not refused in words: {done.stderr[-500:]}", file=sys.stderr)
            seconds = -1.0
        print(f"{name}: {target}: refused in {seconds:.1f} s", file=sys.stderr, flush=True)
        return Row(what=f"ONNX: {name}: {target}: refused, processor time", value=seconds, unit="s", n=1)


def processor_s() -> float:
    """Processor time of the commands so far, to which other processes of a busy machine add nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bound(settings: tuple[str, ...]) -> BuildConfig:
    """A config of these settings."""
    return read_config(None, [parse_setting(each) for each in settings])


def as_given(path: Path, config: BuildConfig, pixels: np.ndarray) -> np.ndarray:
    """The classes that a file gives, run as it is: by onnxruntime, by onnx's evaluator where that has no kernel."""
    from onnxruntime import InferenceSession

    model = onnx.load(path)
    known = {tensor.name for tensor in model.graph.initializer}
    taken = next(value for value in model.graph.input if value.name not in known)
    shape = [dim.dim_value for dim in taken.type.tensor_type.shape.dim]
    kind = onnx.helper.tensor_dtype_to_np_dtype(taken.type.tensor_type.elem_type)
    planes = pixels.transpose(0, 3, 1, 2) if kind == np.uint8 else normalise(pixels, config.model.input)
    tensor = planes if len(shape) == 4 and shape[3] != 3 else planes.transpose(0, 2, 3, 1)
    tensor = np.ascontiguousarray(tensor if len(shape) == 4 else tensor.reshape(len(tensor), -1)).astype(kind)
    try:
        session = InferenceSession(path)
        names = [config.model.output or scores_of(session)]
        run = lambda part: session.run(names, {taken.name: part})[0]  # noqa: E731
    except Exception as error:  # noqa: BLE001 - onnxruntime's own errors share no base
        print(f"{path.name}: by onnx's evaluator: {error}".splitlines()[0][:120], file=sys.stderr)
        evaluator = ReferenceEvaluator(model)
        run = lambda part: evaluator.run(None, {taken.name: part})[0]  # noqa: E731
    size = shape[0] or len(tensor)
    found = [run(tensor[start : start + size]) for start in range(0, len(tensor), size)]
    return np.concatenate([classes_of(part, config.model.labels) for part in found])


def scores_of(session: object) -> str:
    """The output that people read: probabilities where scikit-learn's models have them, else the last."""
    names = [output.name for output in session.get_outputs()]  # pyright: ignore[reportAttributeAccessIssue]
    return next((name for name in names if "probabilit" in name), names[-1])


def classes_of(found: object, _: object) -> np.ndarray:
    """Positions of the classes: of the largest score, of one number against its middle, or as they stand."""
    if isinstance(found, list):
        return np.array([sorted(each).index(max(each, key=each.get)) for each in found])
    rows = np.asarray(found)
    if rows.dtype.kind == "i":
        return rows.reshape(-1)
    rows = rows.astype(np.float32).reshape(len(rows), -1)
    if rows.shape[1] == 1:
        return (rows[:, 0] > (0.5 if rows.min() >= 0 and rows.max() <= 1 else 0)).astype(int)
    return rows.argmax(axis=1)


if __name__ == "__main__":
    main()
