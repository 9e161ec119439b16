"""Memory and seconds of a build by the number of training images: MobileNetV2 at 224x224, JPEG files in class folders.

    python benchmarks/data_size.py [--images 500 2000] [--large] [--quick]

Pictures are drawn: every class has its own colours and waves, with noise. The teacher is torchvision's MobileNetV2
with random weights, batch norms of which are fitted to some of the pictures; recovery takes five steps, so what is
seen is what grows with the images. Each build is a process of its own with an empty cache, whose largest resident set
the system tells. `--large` adds 20,000 images, whose peak is to be 3 GB at most, and 1.1 times that of 2,000.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from rows import Row, arguments, show

CLASSES, SIDE, STORED = 10, 224, 256
"""Classes, the net's pixels a side, and those of the files."""
TESTED, OTHERS = 200, 200
"""Test images, and OOD images."""
FITTED = 64
"""Images, at least, that batch norms are fitted to."""
LARGE = 20_000
MOST_BYTES = 3e9
STEPS = 5
CONFIG = """\
name = "size"
target = "host"

[model]
name = "torchvision.models:mobilenet_v2"
arguments = {{ num_classes = {classes} }}
weights = "{folder}/teacher.safetensors"
input = {{ height = {side}, width = {side} }}

[data]
train = "{folder}/train"
test = "{folder}/test"
ood = "{folder}/ood"
ood_count = {others}

[compress]
steps = {steps}
compare = []
oefsmc.recovery = {{ few_per_step = 8, ood_per_step = 8 }}
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A build: bytes of its largest resident set, seconds in all, and of each stage."""

    peak_bytes: int
    seconds: float
    stages: dict[str, float]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", nargs="+", type=int, default=[500, 2000], metavar="N")
    parser.add_argument("--large", action="store_true", help=f"{LARGE} images too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    counts = [200] if given.quick else [*given.images, *([LARGE] if given.large else [])]
    found: dict[int, Measured] = {}
    for count in counts:
        found[count] = _measured(count, given.set)
        print(f"{count} images: {found[count]}", file=sys.stderr)
    show([row for count in counts for row in _rows(count, found)], as_json=given.json, output=given.output)


def _rows(count: int, found: dict[int, Measured]) -> Iterator[Row]:
    what, one = f"{count} images at {SIDE}x{SIDE}", found[count]
    if count == LARGE and 2000 in found:
        before = found[2000].peak_bytes
        against, ratio = "peak of 2000 images", one.peak_bytes / before
    else:
        against, ratio = f"{MOST_BYTES / 1e9:g} GB", one.peak_bytes / MOST_BYTES
    yield Row(what=f"{what}: peak memory", value=one.peak_bytes / 1e9, unit="GB", n=1, against=against, ratio=ratio)
    yield Row(what=f"{what}: whole build", value=one.seconds, unit="s", n=1)
    for stage, seconds in one.stages.items():
        yield Row(what=f"{what}: stage {stage}", value=seconds, unit="s", n=1)


def _measured(count: int, settings: list[str]) -> Measured:
    with tempfile.TemporaryDirectory(prefix="edgec-size-") as made:
        folder = Path(made)
        for name, images in (("train", count), ("test", TESTED), ("ood", OTHERS)):
            _draw(folder / name, images, seed=len(name))
        _save_teacher(folder)
        config = CONFIG.format(folder=folder, classes=CLASSES, side=SIDE, others=OTHERS, steps=STEPS)
        (folder / "size.toml").write_text(config, encoding="utf-8")
        command = [sys.executable, "-m", "edgec", "build", "--config", str(folder / "size.toml")]
        command += ["--cache", str(folder / "cache"), "--output", str(folder / "bundle")]
        return _watched([*command, *(part for setting in settings for part in ("--set", setting))], folder / "err")


def _watched(command: list[str], errors: Path) -> Measured:
    """Runs a build; a stage lasts from its line to that of the next."""
    started = time.perf_counter()
    begun: dict[str, float] = {}
    with errors.open("w", encoding="utf-8") as kept:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in process.stderr or ():
            print(line, end="", file=kept, flush=True)
            if line.startswith("["):
                begun[line.partition("] ")[2].split()[0]] = time.perf_counter()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = time.perf_counter()
    if process.returncode:
        raise SystemExit(f"the build failed:\n{errors.read_text(encoding='utf-8')}")
    ends = [*list(begun.values())[1:], ended]
    stages = {name: end - start for (name, start), end in zip(begun.items(), ends, strict=True)}
    return Measured(peak_bytes=usage.ru_maxrss * 1024, seconds=ended - started, stages=stages)


def _draw(folder: Path, count: int, *, seed: int) -> None:
    """JPEG files, in class folders by turns."""
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)

    def write(position: int) -> None:
        label = position % CLASSES
        pixels = _picture(label, np.random.default_rng((seed, position)))
        Image.fromarray(pixels).save(folder / f"class{label}" / f"{position:06}.jpg", quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(write, range(count)))


def _picture(label: int, generator: np.random.Generator) -> np.ndarray:
    """uint8 [side, side, 3]: coarse noise between two colours, over waves as long as the class has them."""
    coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    base = np.asarray(coarse.resize((STORED, STORED), Image.Resampling.BICUBIC), dtype=np.float32)
    rows, columns = np.mgrid[:STORED, :STORED] / STORED
    turn = generator.uniform(0, np.pi)
    waves = np.sin(2 * np.pi * (2 + 3 * label) * (rows * np.sin(turn) + columns * np.cos(turn)))
    grain = generator.normal(0, 8, base.shape)
    return (0.6 * base + 50 * waves[..., None] + grain + 40).clip(0, 255).astype(np.uint8)


def _save_teacher(folder: Path) -> None:
    """Random weights; batch norms have the statistics of some training images, so that no map dies out."""
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v2(num_classes=CLASSES)
    every = sorted((folder / "train").rglob("*.jpg"))
    some = (Image.open(file).resize((SIDE, SIDE)) for file in every[:: len(every) // FITTED])
    pixels = np.stack([np.asarray(picture, dtype=np.float32) for picture in some])
    images = torch.from_numpy(pixels).movedim(-1, 1) / 127.5 - 1
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the mean over what is seen
    with torch.no_grad():
        net.train()(images)
    save_file(net.state_dict(), folder / "teacher.safetensors")


if __name__ == "__main__":
    main()
