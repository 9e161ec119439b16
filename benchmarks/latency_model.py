"""How far predicted latencies lie from published ones that the model was not fitted to, and from this machine's.

    python benchmarks/latency_model.py [--nets FOLDER] [--host [--threads N]] [--quick]

Fits the latency model as `tools/fit_profiles.py` does, to the published rows that are not held out, and predicts those
that are. Nets held out have siblings among those fitted to (ResNet-50 has four), so whole families of nets and whole
devices are left out too, one after the other, of all rows. `--host` instead runs `edgec targets fit` here, times the
zoo at FP32 and int8 and compares. Nets have made-up weights; FOLDER keeps them from one run to the next.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgec.evaluate.intervals import wilson_interval
from rows import Row, arguments, show

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from fit_profiles import RUNTIMES, Published, fit_to, left_out, read_published, residuals_of
from latency_fit import Fit, predict_observations

HIT = 0.1
"""What papers on predicted latency count as a hit."""
NORMAL_95 = 1.96


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--nets", type=Path, help="where exported nets are kept")
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
            rows = _published(folder)
    show(rows, as_json=given.json, output=given.output)


def _published(folder: Path) -> list[Row]:
    rows: list[Row] = []
    everything = read_published(folder)
    for runtime in RUNTIMES:
        mine = [row for row in everything if row.runtime == runtime]
        fit, spread = fit_to([row for row in mine if not row.held_out])
        held_out = [row for row in mine if row.held_out]
        rows += _singles(runtime, held_out, fit)
        rows += _summary(f"{runtime}: nets held out", residuals_of(held_out, fit), spread)
        rows += _summary(f"{runtime}: families left out", left_out(mine, lambda row: row.family), spread)
        rows += _summary(f"{runtime}: devices left out", left_out(mine, lambda row: row.observation.group), spread)
        rows += _summary(f"{runtime}: rows fitted to", fit.residuals, spread)
    return rows


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


if __name__ == "__main__":
    main()
