"""How far predicted latencies lie from published ones that the model was not fitted to, and from this machine's.

    python benchmarks/latency_model.py [--nets FOLDER] [--write] [--host [--threads N]] [--quick]

Fits the latency model to the rows of `published_latency.toml` that are not held out there, and predicts those that are.
The spread of a fit, from which predictions get their interval, comes from the fitting rows alone: every net is left out
once. `--write` puts the parameters into `targets/`. `--host` instead runs `edgec targets calibrate` here, times the zoo
at FP32 and int8 and compares. Nets have made-up weights; FOLDER keeps them from one run to the next.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.target import Compute, Target, load_target
from edgec.evaluate.sweep import toml_text
from edgec.evaluate.workload import read_workload
from latency_fit import Fit, Observation, fit_parameters, predict_observations
from nets import exported, outline, quantised
from rows import Row, arguments, show

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent
PUBLISHED = HERE / "published_latency.toml"
AMPERE = "Orin"
GROUPS = {
    "jetson-orin-nano-8gb-super": AMPERE,
    "jetson-orin-nano-8gb": AMPERE,
    "jetson-orin-nx-16gb": AMPERE,
    "jetson-orin-nx-8gb": AMPERE,
    "jetson-agx-orin-64gb": AMPERE,
    "jetson-agx-orin-32gb": AMPERE,
    "jetson-xavier-nx": "jetson-agx-xavier",
}
"""Devices that share parameters: the same generation of GPU. The others are groups of their own."""
PROFILES = (*GROUPS, "jetson-nano", "raspberry-pi-4", "raspberry-pi-5")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published latency."""

    device: str
    family: str
    net: str
    precision: str
    held_out: bool
    observation: Observation


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", type=Path, help="where exported nets are kept")
    parser.add_argument("--write", action="store_true", help="put what is fitted into targets/")
    parser.add_argument("--host", action="store_true", help="calibrate and test on this machine instead")
    parser.add_argument("--threads", type=int, default=1, help="for --host")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.nets or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.host:
            from latency_host import compare

            rows = compare(folder, threads=given.threads, quick=given.quick)
        else:
            rows = _published(folder, write=given.write)
    show(rows, as_json=given.json, output=given.output)


def _published(folder: Path, *, write: bool) -> list[Row]:
    rows: list[Row] = []
    everything = list(_read(folder))
    for family in ("tensorrt", "cpu"):
        known = [row for row in everything if row.family == family and not row.held_out]
        held_out = [row for row in everything if row.family == family and row.held_out]
        fit = fit_parameters([row.observation for row in known])
        spread = _spread(known)
        print(f"{family}: fitted to {len(known)} rows, spread {spread:.3f}", file=sys.stderr)
        rows += _judge(family, held_out, fit)
        rows.append(_summary(f"{family}, fitted rows", np.expm1(-fit.residuals)))
        if write:
            _write(fit, family, spread=spread, rows=len(known))
    return rows


def _read(folder: Path) -> Iterator[Published]:
    document = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    for table in document["rows"]:
        device = table["device"]
        target, compute = _device(device, document["devices"].get(device))
        family = "tensorrt" if target.runtime.engine == "tensorrt" else "cpu"
        for precision in ("fp32", "fp16", "int8"):
            for net, ms in table.get(precision, {}).items():
                print(f"{device}: {net} {precision}", file=sys.stderr)
                kind = load_target("jetson-orin-nano-8gb-super" if family == "tensorrt" else "raspberry-pi-5")
                graph = (quantised if precision == "int8" else exported)(net, kind, folder)
                works = read_workload(outline(graph), batch=table["batch"], engine=target.runtime.engine)
                yield Published(
                    device=device,
                    family=family,
                    net=net,
                    precision=f"{precision} batch {table['batch']}",
                    held_out=net in document["held_out"][family],
                    observation=Observation(
                        works=works,
                        compute=compute,
                        group=GROUPS.get(device, device),
                        ms=ms,
                        half=_is_half(family, device, precision),
                    ),
                )


def _is_half(family: str, device: str, precision: str) -> bool:
    """Whether tensors that are not int8 have 16 bits: trtexec was told so, ncnn stores them so on Arm."""
    if family == "tensorrt":
        return precision != "fp32"
    return precision == "fp16" or (precision == "fp32" and device == "raspberry-pi-4")


def _device(device: str, own: dict[str, Any] | None) -> tuple[Target, Compute]:
    """The profile, and the figures of the device, which may be another one of the kind."""
    target = load_target(own["profile"] if own else device)
    compute = target.compute
    if compute is None:
        raise SystemExit(f"{target.name} has no compute figures")
    if own:
        none = {"fp16_tflops": None, "int8_tops": None, "vector_tflops": None}
        compute = compute.model_copy(update=none | own["compute"])
    return target, compute


def _spread(rows: Sequence[Published]) -> float:
    """Root mean square of ln(measured / predicted) where each net is left out once."""
    residuals: list[float] = []
    for net in sorted({row.net for row in rows}):
        rest = [row.observation for row in rows if row.net != net]
        left_out = [row.observation for row in rows if row.net == net]
        predicted = predict_observations(left_out, fit_parameters(rest))
        residuals += np.log(np.array([observation.ms for observation in left_out]) / predicted).tolist()
    return float(np.sqrt(np.mean(np.square(residuals))))


def _judge(family: str, rows: Sequence[Published], fit: Fit) -> list[Row]:
    predicted = predict_observations([row.observation for row in rows], fit)
    measured = np.array([row.observation.ms for row in rows])
    single = [
        Row(
            what=f"{row.device}: {row.net} {row.precision}",
            value=float(value),
            unit="ms, predicted",
            n=0,
            against=f"published {row.observation.ms:g}",
            ratio=float(value / row.observation.ms),
        )
        for row, value in zip(rows, predicted, strict=True)
    ]
    return [*single, _summary(f"{family}, held-out rows", predicted / measured - 1)]


def _summary(what: str, errors: np.ndarray) -> Row:
    sizes = np.abs(errors)
    return Row(what=what, value=float(np.median(sizes)), unit="median error", n=len(sizes), high=float(sizes.max()))


def _write(fit: Fit, family: str, *, spread: float, rows: int) -> None:
    """The fitted figures into the profiles of a family; comments and everything else there stay."""
    for name in PROFILES:
        group = GROUPS.get(name, name)
        target = load_target(name)
        if group not in fit.parameters or target.compute is None:
            continue
        compute = fit.compute(group, target.compute, spread=spread)
        path = HERE.parent / "targets" / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        tables = toml_text("compute", compute)
        before, after = re.split(r"\[compute\]\n.*?(?=\n\[\[sources\]\])", text, maxsplit=1, flags=re.DOTALL)
        path.write_text(f"{before}{tables}\n{after}", encoding="utf-8")
        print(f"wrote {path.name}: {family}, {rows} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
