"""Models as people hold them, built for a Jetson and for x86: which build, which agree with the model as it was given.

    python benchmarks/zoo.py [--only "Keras" "opset 7"] [--targets jetson x86-vnni] [--quick] [--again]

A row per model and target: the share of images to which the FP32 graph of the build gives the very class that the model
has as its own library runs it; the build went on to a whole bundle, or the row is 0. Nets of libraries (zoo_nets.py)
see 63 images of seven classes, ONNX files in the dialects of exporters (onnx_files.py) 60 of three; a model that gives
nearly all of them one class would agree with anything, and counts as 0. What must be refused has the seconds of
processor time that this takes, by a command of its own.

Each row is kept as soon as it is there: with --output, a later run goes on where the last one ended. Of another commit
than the last one, --again measures all. timm, transformers, skl2onnx, tf2onnx with tensorflow, and ultralytics are left
out where they are not installed.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

import zoo_nets
from edgec.cli.build import parse_setting
from edgec.core.errors import EdgecError
from edgec.core.inputs import normalise
from edgec.core.progress import Silent
from edgec.learn import temperature
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import build
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import export
from edgec.pipeline.store import Store
from onnx_files import CLASSES, FILES, REFUSED, SIZE, OnnxFile, images, input_setting
from rows import Row, arguments, read_runs, record, show
from zoo_nets import NETS, Held

LEAST_SAME = 0.999
MOST_OF_ONE = 0.6
"""Share of the images that may get one class, of two classes and of seven."""
LONGEST_S = 5.0
VIEWS = 100
"""To which the threshold of `--unknown` is fitted, in place of 3,000: no row depends on it."""
_NO_DATA = ('data.train="none"', 'data.test="none"')
QUICK = ("opset 7", "Keras, channels last", "float16", "Softmax", "QDQ, symmetric int8", "TorchScript")


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is built.

    Attributes:
        name: Its group and its own name.
        make: Writes it into a folder.
        side: Of its images.
        classes: Which it knows.
        images: To compare classes on.
        refused: Targets that must refuse it in words.
    """

    name: str
    make: Callable[[Path], Held]
    side: int
    classes: tuple[str, ...]
    images: int
    refused: tuple[str, ...] = ()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="models whose names hold one of these")
    parser.add_argument("--targets", nargs="+", default=["jetson", "x86-vnni"])
    parser.add_argument("--again", action="store_true", help="measure what the output holds already as well")
    given = parser.parse_args()
    parts = QUICK if given.quick else given.only
    known = set() if given.again or not given.output or not given.output.exists() else held(given.output)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for row in Zoo(Path(folder)).rows(given.targets, parts, known):
            rows.append(row)
            if given.output:
                record([row], given.output)
    show(rows, as_json=given.json)


def held(path: Path) -> set[str]:
    """What was measured already."""
    return {row.what for run in read_runs(path) for row in run.rows}


def models() -> Iterator[Model]:
    """The whole zoo, as far as its libraries are installed."""
    for name, net in NETS.items():
        if net.is_there:
            yield Model(name=name, make=net.make, side=net.size, classes=zoo_nets.CLASSES, images=63)
    for name, file in FILES.items():
        if not name.startswith("scikit-learn") or find_spec("skl2onnx"):
            group, own = (
                ("scikit-learn", name.partition(", ")[2]) if name.startswith("scikit-learn") else ("ONNX", name)
            )
            classes = CLASSES[: file.classes]
            yield Model(
                name=f"{group}: {own}", make=_dialect(file), side=SIZE, classes=classes, images=60, refused=file.refused
            )


def _dialect(file: OnnxFile) -> Callable[[Path], Held]:
    def make(folder: Path) -> Held:
        path = file.make(folder)
        taken = () if any("model.input" in setting for setting in file.settings) else (input_setting(),)
        settings = (f'model.name="{path}"', *file.settings, *taken)
        return Held(settings=settings, classes=lambda pixels: as_given(path, bound((*settings, *_NO_DATA)), pixels))

    return make


class Zoo:
    """Builds in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        temperature.VIEWS = VIEWS

    def rows(self, targets: Sequence[str], parts: Sequence[str], known: set[str]) -> Iterator[Row]:
        """A model and a target after the other, but for rows that are known."""
        for model in models():
            left = [target for target in targets if f"{model.name}: {target}" not in known]
            if left and (not parts or any(part in model.name for part in parts)):
                yield from self._of(model, left)
        for name, (make, words) in REFUSED.items():
            if f"refused: {name}" not in known and (not parts or any(part in name for part in parts)):
                yield self._refusal(name, make, words, targets[0])

    def _of(self, model: Model, targets: Sequence[str]) -> Iterator[Row]:
        """One model for some targets; builds share what no target changes."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            folder = Path(place)
            made = model.make(folder)
            for target in targets:
                settings = (f'target="{target}"', *made.settings, *self._data(model, made))
                if target in model.refused:
                    yield self._refused(f"{model.name}: {target}", settings, "", folder)
                    continue
                same = self._same(model, made, settings, folder)
                print(f"{model.name}: {target}: {same:.3f}", file=sys.stderr, flush=True)
                yield Row(
                    what=f"{model.name}: {target}", value=same, unit="same class", n=model.images, against="as given"
                )

    def _data(self, model: Model, made: Held) -> tuple[str, ...]:
        """Images, made once for each size, and what else all builds are told."""
        place, classes = self.folder / f"images{model.side}-{len(model.classes)}", len(model.classes)
        if not place.exists():
            place.mkdir()
            of = CLASSES if classes <= len(CLASSES) else model.classes
            for name, count, seed in (("train", 5 * len(of), 5), ("test", model.images, 6), ("ood", 60, 7)):
                pixels, labels = images(count, seed, classes=len(of), side=model.side)
                pixels = 255 - pixels.transpose(0, 2, 1, 3) if name == "ood" else pixels
                kept = labels < classes
                arrays = {"images": pixels[kept], "labels": labels[kept], "names": np.array(of[:classes])}
                np.savez(place / f"{name}.npz", **({"images": pixels} if name == "ood" else arrays))
        size = (
            () if any(each.startswith("model.input") for each in made.settings) else (input_setting(side=model.side),)
        )
        data = (f'data.{name}="{place / name}.npz"' for name in ("train", "test", "ood"))
        return (*size, *data, "data.ood_count=40", 'compress.method="none"')

    def _same(self, model: Model, made: Held, settings: tuple[str, ...], folder: Path) -> float:
        """The share of images with the class of the model as given; 0 where there is no bundle, which is said."""
        pixels, _ = images(model.images, 6, classes=max(len(model.classes), len(CLASSES)), side=model.side)
        store, here = Store(folder / "cache"), Path.cwd()
        os.chdir(folder)  # where a module of the user's own is looked for
        try:
            plan = plan_build(bound(settings), accelerator=Accelerator.CPU)
            build(plan, store=store, output=folder / "bundle", progress=Silent())
            graph = store.path(export.key(plan)) / export.FP32
            got = Sources(plan, Silent()).session(graph).logits(pixels).argmax(axis=1)
        except EdgecError as error:
            print(f"{model.name}: {error} | {error.hint}", file=sys.stderr)
            return 0.0
        except Exception:  # noqa: BLE001 - a crash is a result here, and the next model is built
            traceback.print_exc()
            return 0.0
        finally:
            os.chdir(here)
        wanted = made.classes(pixels)
        most = np.bincount(wanted).max() / len(wanted)
        if most > MOST_OF_ONE:
            print(f"{model.name}: gives one class to {most:.0%} of the images", file=sys.stderr)
            return 0.0
        return float((got == wanted).mean())

    def _refusal(self, name: str, make: Callable[[Path], Path], words: str, target: str) -> Row:
        """The seconds of refusing what no target takes."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            file = OnnxFile(make=make)
            model = Model(name=name, make=_dialect(file), side=SIZE, classes=CLASSES, images=60)
            held = model.make(Path(place))
            settings = (f'target="{target}"', *held.settings, *self._data(model, held))
            return self._refused(f"refused: {name}", settings, words, Path(place))

    def _refused(self, what: str, settings: tuple[str, ...], words: str, folder: Path) -> Row:
        command = [sys.executable, "-m", "edgec", "build", *(part for each in settings for part in ("--set", each))]
        before = processor_s()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = processor_s() - before
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if done.returncode == 0 or len(said) != 1 or not re.search(words, said[0]) or "Traceback" in done.stderr:
            print(f"{what}: not refused in words: {done.stderr[-500:]}", file=sys.stderr)
            seconds = -1.0
        print(f"{what}: refused in {seconds:.1f} s", file=sys.stderr, flush=True)
        return Row(what=what, value=seconds, unit="s, processor", n=1)


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
    return np.concatenate([classes_of(part) for part in found])


def scores_of(session: object) -> str:
    """The output that people read: probabilities where scikit-learn's models have them, else the last."""
    names = [output.name for output in session.get_outputs()]  # pyright: ignore[reportAttributeAccessIssue]
    return next((name for name in names if "probabilit" in name), names[-1])


def classes_of(found: object) -> np.ndarray:
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
