"""Fits the latency parameters of the profiles in `targets/` to latencies that others published, and writes them there.

    python tools/fit_profiles.py [--nets FOLDER]

It fits to the rows of `published_latency.toml` that are not held out there, for TensorRT and for CPUs. The spread,
which gives predictions their interval, is that of fits that leave out one family of nets after the other. The nets are
exported with made-up weights, which takes minutes; FOLDER keeps them. `benchmarks/latency_model.py` measures how good
the fit is on rows that it did not see.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgec.core.compute import Compute, Fitted
from edgec.core.target import Target, load_target
from edgec.latency.fit.sweep import toml_text
from edgec.latency.workload import read_workload
from latency_fit import Fit, Observation, fit_parameters, predict_observations

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from nets import exported, outline, quantised  # noqa: E402

__all__ = ["RUNTIMES", "Published", "fit_to", "left_out", "read_published", "residuals_of"]

PUBLISHED = Path(__file__).with_name("published_latency.toml")
RUNTIMES = ("tensorrt", "cpu")
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
"""Devices that share parameters: the same generation of GPU. Each other device is a group of its own."""
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


@click.command()
@click.option("--nets", type=click.Path(path_type=Path, file_okay=False), help="Keeps the exported nets.")
def main(nets: Path | None) -> None:
    """Fit the profiles that ship with edgec, and write them."""
    with tempfile.TemporaryDirectory() as temporary:
        rows = read_published(nets or Path(temporary))
    for runtime in RUNTIMES:
        known = [row for row in rows if row.runtime == runtime and not row.held_out]
        fit, spread = fit_to(known)
        click.echo(f"{runtime}: fitted to {len(known)} rows, spread {spread:.3f}")
        for path in _write(fit, known, spread=spread):
            click.echo(f"wrote {path.relative_to(ROOT)}")


def read_published(folder: Path) -> list[Published]:
    """All rows, with the work of their nets.

    Args:
        folder: Keeps the exported nets; made where it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return list(_read(folder))


def fit_to(rows: Sequence[Published]) -> tuple[Fit, float]:
    """The fit to rows of one runtime, and its spread: how far nets of other families lie from a fit without them."""
    fit = fit_parameters([row.observation for row in rows])
    return fit, float(np.sqrt(np.mean(np.square(left_out(rows, lambda row: row.family)))))


def left_out(rows: Sequence[Published], part_of: Callable[[Published], str]) -> np.ndarray:
    """ln(measured / predicted) of every row, by a fit to the rows of all other parts."""
    found: list[float] = []
    for part in sorted({part_of(row) for row in rows}):
        fit = fit_parameters([row.observation for row in rows if part_of(row) != part])
        found += residuals_of([row for row in rows if part_of(row) == part], fit).tolist()
    return np.array(found)


def residuals_of(rows: Sequence[Published], fit: Fit) -> np.ndarray:
    """ln(measured / predicted)."""
    observations = [row.observation for row in rows]
    return np.log([one.ms for one in observations] / predict_observations(observations, fit))


def _read(folder: Path) -> Iterator[Published]:
    document = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    for table in document["rows"]:
        device = table["device"]
        target, compute = _device(device, document["devices"].get(device))
        runtime = "tensorrt" if target.runtime.engine == "tensorrt" else "cpu"
        for precision in ("fp32", "fp16", "int8"):
            for net, ms in table.get(precision, {}).items():
                click.echo(f"{device}: {net} {precision}", err=True)
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


def _write(fit: Fit, known: Sequence[Published], *, spread: float) -> Iterator[Path]:
    """The fitted figures into the profiles of a runtime; comments and everything else there stay."""
    gmacs = [sum(work.macs for work in row.observation.works) / 1e9 for row in known]
    fitted = Fitted(least_gmacs=min(gmacs), most_gmacs=max(gmacs))
    for name in PROFILES:
        group = GROUPS.get(name, name)
        target = load_target(name)
        if group not in fit.parameters or target.compute is None:
            continue
        compute = fit.compute(group, target.compute, spread=spread).model_copy(update={"fitted": fitted})
        path = ROOT / "targets" / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
        tables = toml_text("compute", compute)
        before, after = re.split(r"\[compute\]\n.*?(?=\n\[\[sources\]\])", text, maxsplit=1, flags=re.DOTALL)
        path.write_text(f"{before}{tables}\n{after}", encoding="utf-8")
        yield path


if __name__ == "__main__":
    main()
