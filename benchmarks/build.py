"""What a build reaches and costs: a config of benchmarks/configs, or the embedded default, built cold, seed by seed.

    python benchmarks/build.py                         the embedded default: cold build, unchanged rebuild, accuracies
    python benchmarks/build.py cifar10-resnet20        a config (first: benchmarks/unpack_mosaics.py)

Each seed is built by the `edgec` command with an empty cache, then again unchanged. Rows are means over seeds, from
the lowest to the highest; test images take no part in any choice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from edgec.core.measurement import Stage
from edgec.evaluate.report import Report, parse_report
from rows import Row, arguments, over_seeds, show

CONFIGS = Path(__file__).parent / "configs"
Figures = dict[tuple[str, str], dict[int, float]]
"""By what and unit, then by seed."""
ACCURACIES = ("accuracy", "worst_class_accuracy", "macro_f1")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", nargs="?", help="a name in benchmarks/configs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to edgec build")
    given = parser.parse_args()
    seeds = range(1 if given.quick else given.seeds)
    figures: Figures = defaultdict(dict)
    images = 0
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            cold, report = _build(given.config, given.set, seed, Path(folder))
            again, _ = _build(given.config, given.set, seed, Path(folder))
        figures["cold build", "s"][seed] = cold
        figures["unchanged rebuild", "s"][seed] = again
        images = _collect(report, seed, figures)
        print(f"seed {seed}: {cold:.1f} s", file=sys.stderr)
    rows = [over_seeds(f"{given.config or 'digits'}: {what}", unit, values) for (what, unit), values in figures.items()]
    rows.append(Row(what=f"{given.config or 'digits'}: test images", value=images, unit="images", n=1))
    show(rows, as_json=given.json, output=given.output)


def _build(config: str | None, settings: list[str], seed: int, folder: Path) -> tuple[float, Report]:
    """Seconds of the whole command, and the report of the bundle."""
    command = [sys.executable, "-m", "edgec", "build", "--seed", str(seed), "--json"]
    command += ["--cache", str(folder / "cache"), "--output", str(folder / "bundle")]
    command += ["--config", str(CONFIGS / f"{config}.toml")] if config else ["--target", "jetson"]
    command += [part for setting in settings for part in ("--set", setting)]
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    seconds = time.perf_counter() - started
    report = Path(json.loads(done.stdout.splitlines()[-1])["report"])
    return seconds, parse_report(report.read_bytes())


def _collect(report: Report, seed: int, figures: Figures) -> int:
    for stage in Stage:
        for name in ACCURACIES:
            if found := report.find(stage, name):
                figures[f"{stage.value}: {name}", "share"][seed] = found.value
    fp32, int8 = (report.by_class(stage, "accuracy") for stage in (Stage.COMPRESSED, Stage.ARTIFACT))
    drop = max(fp32[label].value - int8[label].value for label in fp32)
    figures["largest class drop, int8 against its FP32", "share"][seed] = drop
    whole = report.find(Stage.ARTIFACT, "accuracy")
    return whole.n if whole else 0


if __name__ == "__main__":
    main()
