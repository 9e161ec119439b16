"""How far predicted latencies lie from published ones that the model was not fitted to, and from this machine's.

    python benchmarks/latency_model.py [--nets FOLDER] [--write] [--host [--threads N]] [--quick]

Fits the latency model to the rows of `published_latency.toml` that are not held out there, and predicts those that are.
Nets held out have siblings among those fitted to (ResNet-50 has four), so whole families of nets and whole devices are
left out too, one after the other, of all rows. The spread of a fit, from which predictions get their interval, comes
from the fitting rows alone: every family is left out once. `--write` puts the parameters into `targets/`. `--host`
instead runs `edgec targets fit` here, times the zoo at FP32 and int8 and compares. Nets have made-up weights;
FOLDER keeps them from one run to the next.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.compute import Compute, Fitted
from edgec.core.target import Target, load_target
from edgec.evaluate.intervals import wilson_interval
from edgec.latency.fit.sweep import toml_text
from edgec.latency.workload import read_workload
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
HIT = 0.1
"""What papers on predicted latency count as a hit."""
NORMAL_95 = 1.96
PROFILES = (*GROUPS, "jetson-nano", "raspberry-pi-4", "raspberry-pi-5")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published latency."""

    device: str
    runtime: str
    net: str
    precision: str
    held_out: bool
    observation: Observation

    @property
    def family(self) -> str:
        """Nets of one paper: `resnet` of `resnet50`."""
        return re.match("[a-z]+", self.net)[0]


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
    for runtime in ("tensorrt", "cpu"):
        mine = [row for row in everything if row.runtime == runtime]
        known = [row for row in mine if not row.held_out]
        fit = fit_parameters([row.observation for row in known])
        spread = float(np.sqrt(np.mean(np.square(_left_out(known, lambda row: row.family)))))
        print(f"{runtime}: fitted to {len(known)} rows, spread {spread:.3f}", file=sys.stderr)
        held_out = [row for row in mine if row.held_out]
        rows += _singles(runtime, held_out, fit)
        rows += _summary(f"{runtime}: nets held out", _residuals(held_out, fit), spread)
        rows += _summary(f"{runtime}: families left out", _left_out(mine, lambda row: row.family), spread)
        rows += _summary(f"{runtime}: devices left out", _left_out(mine, lambda row: row.observation.group), spread)
        rows += _summary(f"{runtime}: rows fitted to", fit.residuals, spread)
        if write:
            _write(fit, known, spread=spread)
    return rows


def _read(folder: Path) -> Iterator[Published]:
    document = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    for table in document["rows"]:
        device = table["device"]
        target, compute = _device(device, document["devices"].get(device))
        runtime = "tensorrt" if target.runtime.engine == "tensorrt" else "cpu"
        for precision in ("fp32", "fp16", "int8"):
            for net, ms in table.get(precision, {}).items():
                print(f"{device}: {net} {precision}", file=sys.stderr)
                kind = load_target("jetson-orin-nano-8gb-super" if runtime == "tensorrt" else "raspberry-pi-5")
                graph = (quantised if precision == "int8" else exported)(net, kind, folder)
                works = read_workload(outline(graph), batch=table["batch"], engine=target.runtime.engine)
                yield Published(
                    device=device,
                    runtime=runtime,
                    net=net,
                    precision=f"{precision} batch {table['batch']}",
                    held_out=net in document["held_out"][runtime],
                    observation=Observation(
                        works=works,
                        compute=compute,
                        group=GROUPS.get(device, device),
                        ms=ms,
                        half=_is_half(runtime, device, precision),
                    ),
                )


def _is_half(runtime: str, device: str, precision: str) -> bool:
    """Whether tensors that are not int8 have 16 bits: trtexec was told so, ncnn stores them so on Arm."""
    if runtime == "tensorrt":
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


def _left_out(rows: Sequence[Published], part_of: Callable[[Published], str]) -> np.ndarray:
    """ln(measured / predicted) of every row, by a fit to the rows of all other parts."""
    found: list[float] = []
    for part in sorted({part_of(row) for row in rows}):
        fit = fit_parameters([row.observation for row in rows if part_of(row) != part])
        found += _residuals([row for row in rows if part_of(row) == part], fit).tolist()
    return np.array(found)


def _residuals(rows: Sequence[Published], fit: Fit) -> np.ndarray:
    """ln(measured / predicted)."""
    observations = [row.observation for row in rows]
    return np.log([one.ms for one in observations] / predict_observations(observations, fit))


def _singles(runtime: str, rows: Sequence[Published], fit: Fit) -> Iterator[Row]:
    for row, value in zip(rows, predict_observations([row.observation for row in rows], fit), strict=True):
        yield Row(
            what=f"{runtime}: {row.device}, {row.net} {row.precision}: predicted",
            value=float(value),
            unit="ms",
            n=0,
            against=f"published {row.observation.ms:g}",
            ratio=float(value / row.observation.ms),
        )


def _summary(what: str, residuals: np.ndarray, spread: float) -> Iterator[Row]:
    """Errors in the median and at worst, and the shares of rows within 10 % and within the 95 % interval."""
    errors = np.abs(np.expm1(-residuals))
    yield Row(what=f"{what}: median error", value=float(np.median(errors)), unit="share", n=len(errors))
    yield Row(what=f"{what}: worst error", value=float(errors.max()), unit="share", n=len(errors))
    hits = {"within 10 %": errors <= HIT, "within the interval": np.abs(residuals) <= NORMAL_95 * spread}
    for name, hit in hits.items():
        low, high = wilson_interval(int(hit.sum()), len(hit))
        yield Row(what=f"{what}: {name}", value=float(hit.mean()), unit="share", n=len(hit), low=low, high=high)


def _write(fit: Fit, known: Sequence[Published], *, spread: float) -> None:
    """The fitted figures into the profiles of a runtime; comments and everything else there stay."""
    gmacs = [sum(work.macs for work in row.observation.works) / 1e9 for row in known]
    fitted = Fitted(least_gmacs=min(gmacs), most_gmacs=max(gmacs))
    for name in PROFILES:
        group = GROUPS.get(name, name)
        target = load_target(name)
        if group not in fit.parameters or target.compute is None:
            continue
        compute = fit.compute(group, target.compute, spread=spread).model_copy(update={"fitted": fitted})
        path = HERE.parent / "targets" / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        tables = toml_text("compute", compute)
        before, after = re.split(r"\[compute\]\n.*?(?=\n\[\[sources\]\])", text, maxsplit=1, flags=re.DOTALL)
        path.write_text(f"{before}{tables}\n{after}", encoding="utf-8")
        print(f"wrote {path.name}: {len(known)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
