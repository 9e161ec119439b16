"""Post-training quantisation side by side: other toolkits and ours, on the same compressed network and the same images.

    python benchmarks/peers                                   every contender on ResNet-20, three seeds
    python benchmarks/peers cifar10-resnet56 --seeds 1 --set compress.steps=100 --only ours "onnxruntime min-max"

Each seed's network is compressed and exported by edgec. Every contender quantises that FP32 graph in a process of its
own: the peers with the few labelled samples, as a user would give them, and once more with all the images that ours
calibrates on (few + OOD). onnxruntime then runs every graph on the test images. All are asked for uint8 activations
with a zero-point and int8 weights per channel; ModelOpt knows int8 without a zero-point only, as TensorRT does, so ours
is shown in that as well. Each tool rounds where it thinks best: the last column says what. Seconds are those of the
whole command, imports included. A class has 1,000 test images: 0.1 pp is one image.
First: python benchmarks/unpack_mosaics.py. The peers install themselves (benchmarks/peers/environments.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgec.cli.build import parse_setting
from edgec.core.inputs import normalise
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data, export
from edgec.pipeline.stages.calibrate import calibrating
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import Store
from edgec.runtime import Session
from peers.environments import DEFAULT, NotInstalledError, interpreter
from peers.formats import formats_of
from peers.scores import Outcome, markdown, rows_of, score
from rows import arguments, show

RUNNERS = Path(__file__).resolve().parent
CONFIGS = RUNNERS.parent / "configs"
LIMIT_S = 3600
FEW, BOTH = "few", "few + OOD"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A toolkit: its environment, which names its runner as well, and one of the runner's methods."""

    environment: str
    method: str


PEERS = {
    "onnxruntime min-max": Peer(environment="onnxruntime", method="minmax"),
    "onnxruntime percentile": Peer(environment="onnxruntime", method="percentile"),
    "onnxruntime entropy": Peer(environment="onnxruntime", method="entropy"),
    "NNCF": Peer(environment="nncf", method="fast"),
    "NNCF accurate bias correction": Peer(environment="nncf", method="accurate"),
    "NNCF no bias correction": Peer(environment="nncf", method="uncorrected"),
    "ModelOpt max": Peer(environment="modelopt", method="max"),
    "ModelOpt entropy": Peer(environment="modelopt", method="entropy"),
    "AIMET min-max": Peer(environment="aimet", method="minmax"),
    "AIMET SQNR": Peer(environment="aimet", method="sqnr"),
    "AIMET AdaRound": Peer(environment="aimet", method="adaround"),
    "AIMET SQNR, int4 weights": Peer(environment="aimet", method="sqnr int4"),
    "AIMET sequential MSE, int4 weights": Peer(environment="aimet", method="seqmse int4"),
}
SLOW = ("AIMET AdaRound",)
"""Only on demand: ten thousand iterations for each layer, hours on a few cores."""
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, the few samples alone": {"calibrate.recipe": str(RUNNERS / "few.toml")},
    "ours, min-max": {"calibrate.recipe": "minmax"},
    "ours, S8S8": {"quantize.scheme": "s8s8"},
    "ours, trained": {"quantize.train": True},
    "ours, int4 weights to the nearest": {
        "quantize.weight_bits": 4,
        "quantize.rounding": "nearest",
        "quantize.correct_biases": False,
    },
    "ours, int4 weights": {"quantize.weight_bits": 4},
    "ours, int4 weights, trained": {"quantize.weight_bits": 4, "quantize.train": True},
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One seed's network and images.

    Attributes:
        config: The build's config file.
        settings: On top of it.
        model: FP32 ONNX.
        data: What the stage `data` left.
        images: What peers calibrate with, by `FEW` and `BOTH`.
        sources: Test images, and sessions.
        fp32: Logits of the test images.
        folder: Gets the contenders' graphs and logits.
    """

    config: Path
    settings: dict[str, Any]
    model: Path
    data: Path
    images: dict[str, Path]
    sources: Sources
    fp32: np.ndarray
    folder: Path


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", nargs="?", default="cifar10-resnet20", help="a name in benchmarks/configs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[*PEERS, *OURS], metavar="CONTENDER", help="instead of all")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every build")
    parser.add_argument("--environments", type=Path, default=DEFAULT, metavar="FOLDER", help=f"default: {DEFAULT}")
    parser.add_argument("--work", type=Path, default=Path(".edgec/peers"), metavar="FOLDER", help="cache, and graphs")
    given = parser.parse_args()
    settings = dict(parse_setting(text) for text in given.set)
    if given.quick:
        settings = {"compress.steps": 20, **settings}
    names = given.only or [name for name in (*PEERS, *OURS) if name not in SLOW]
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for seed in range(given.first_seed, given.first_seed + (1 if given.quick else given.seeds)):
        case = _case(given.config, {**settings, "seed": seed}, given.work)
        outcomes["FP32"].append(Outcome(scores=score(case.fp32, case.fp32, case.sources.test.labels)))
        for name, outcome in _tried(names, case, given.environments):
            figures = asdict(outcome.scores) if outcome.scores else {}
            told = ", ".join(f"{what} {value:.4f}" for what, value in figures.items())
            print(f"seed {seed}, {name}: {told or outcome.reason}", file=sys.stderr)
            outcomes[name].append(outcome)
    versions = {outcome.version for tried in outcomes.values() for outcome in tried} - {""}
    print(f"{markdown(outcomes)}\n\n{', '.join(sorted(versions))}\n")
    show(rows_of(outcomes), as_json=given.json, output=given.output)


def _case(name: str, settings: dict[str, Any], work: Path) -> Case:
    """Compresses and exports, or takes what the cache holds, and writes the images as the peers read them."""
    config = CONFIGS / f"{name}.toml"
    plan = plan_build(read_config(config, list(settings.items())), accelerator=Accelerator.CPU)
    if plan.target.quantization.reduce_range:
        sys.exit("this CPU has no VNNI: its int8 products saturate, and ours would round to 7 bits where peers do not")
    sources, store = Sources(plan, Silent()), Store(work / "cache")
    drawn = store.get(data.key(plan), data.Facts, lambda to: data.run(sources, to)).folder
    images, variant, student = data.read(drawn, plan), plan.config.compress.variant, compress.key(plan)
    made = student and store.get(
        student, compress.Facts, lambda to: compress.run(sources, to, images=images, variant=variant)
    )
    graph = store.get(
        export.key(plan),
        export.Facts,
        lambda to: export.run(sources, to, images=images, student=made and made.folder),
    )
    folder = work.absolute() / name / graph.key.key[:12]
    folder.mkdir(parents=True, exist_ok=True)
    model = graph.folder.absolute() / export.FP32
    return Case(
        config=config,
        settings=settings,
        model=model,
        data=drawn.absolute(),
        images=_calibration_images(sources, images, model, folder),
        sources=sources,
        fp32=sources.session(model).logits(sources.test.decoded()),
        folder=folder,
    )


def _calibration_images(sources: Sources, images: Prepared, model: Path, folder: Path) -> dict[str, Path]:
    """Writes the few samples, and all that ours calibrates on."""
    ours = calibrating(sources, images, sources.session(model))
    files = {}
    for what, pixels in {FEW: images.few.decoded(), BOTH: ours.pixels}.items():
        files[what] = folder / f"{what.replace(' ', '')}.npz"
        np.savez(files[what], images=normalise(pixels, sources.plan.model.input))
    return files


def _tried(names: list[str], case: Case, environments: Path) -> Iterator[tuple[str, Outcome]]:
    """Every contender that was asked for, in order; peers once with each set of images."""
    for name in names:
        if name in OURS:
            method = json.dumps({"config": str(case.config), "settings": {**case.settings, **OURS[name]}})
            yield name, _outcome(name, [sys.executable, RUNNERS / "run_ours.py", case.model, case.data], method, case)
            continue
        peer = PEERS[name]
        for what, images in case.images.items():
            label = f"{name}, {what}"
            try:
                python = interpreter(peer.environment, environments)
            except NotInstalledError as error:
                yield label, Outcome(reason=f"does not install: {error}")
            else:
                command = [python, RUNNERS / f"run_{peer.environment}.py", case.model, images]
                yield label, _outcome(label, command, peer.method, case)


def _outcome(name: str, command: list[Any], method: str, case: Case) -> Outcome:
    """Runs a contender, and its graph on the test images; the graph and its logits stay in the case's folder."""
    output = case.folder / f"{name.replace(' ', '-').replace(',', '')}.onnx"
    # NNCF sends telemetry unless it believes to be tested.
    environment = {**os.environ, "NNCF_CI": "1"}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [*map(str, command), str(output), method],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=environment,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return Outcome(reason=f"takes longer than {LIMIT_S} s")
    except subprocess.CalledProcessError as error:
        return Outcome(reason=(error.stderr.strip().splitlines() or [f"ended with {error.returncode}"])[-1])
    seconds = time.perf_counter() - started
    told = json.loads(done.stdout.splitlines()[-1])
    logits = Session(output, case.sources.plan.model.input).logits(case.sources.test.decoded())
    np.save(output.with_suffix(".npy"), logits)
    return Outcome(
        scores=score(logits, case.fp32, case.sources.test.labels),
        seconds=seconds,
        quantising_seconds=told["seconds"],
        peak_mb=told["peak_bytes"] / 1e6,
        formats=formats_of(onnx.load(output)),
        version=told["version"],
    )


if __name__ == "__main__":
    main()
