"""What a build reaches and costs: a config of benchmarks/configs, or the embedded default, built cold, seed by seed.

    python benchmarks/build.py                         the embedded default: cold build, unchanged rebuild, accuracies
    python benchmarks/build.py cifar10-resnet20        a config (first: benchmarks/unpack_mosaics.py)

Each seed is built by the `edgec` command with an empty cache, then again unchanged. Rows are means over seeds, from
the lowest to the highest; test images take no part in any choice. With `--output NAME.json`, NAME.txt holds what the
command printed for seed 0.
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
from rows import Row, arguments, over_seeds, record, show

CONFIGS = Path(__file__).parent / "configs"
Figures = dict[tuple[str, str], dict[int, float]]
"""By what and unit, then by seed."""
ACCURACIES = (
    *("accuracy", "worst_class_accuracy", "macro_f1"),
    *("calibration_error", "calibration_error_without_temperature"),
)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", nargs="?", help="a name in benchmarks/configs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed on to edgec build")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + (1 if given.quick else given.seeds))
    name = given.config or "digits"
    figures: Figures = defaultdict(dict)
    rows: list[Row] = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            command = _command(given.config, given.set, seed, Path(folder))
            cold, answer = _timed([*command, "--json"])
            again, text = _timed(command)
            report = parse_report(Path(json.loads(answer)["report"]).read_bytes())
        figures["cold build", "s"][seed] = cold
        figures["unchanged rebuild", "s"][seed] = again
        images = _collect(report, seed, figures)
        rows = [over_seeds(f"{name}: {what}", unit, values) for (what, unit), values in figures.items()]
        rows.append(Row(what=f"{name}: test images", value=images, unit="images", n=1))
        if given.output:  # at once: a seed takes minutes on a busy machine
            record(rows, given.output)
            if seed == 0:
                given.output.with_suffix(".txt").write_text(_summary(text), encoding="utf-8")
        print(f"seed {seed}: {cold:.1f} s", file=sys.stderr)
    show(rows, as_json=given.json)


def _summary(printed: str) -> str:
    """What the command printed, without its last line, the bundle's path."""
    return f"{printed.rstrip().rpartition(chr(10))[0].rstrip()}\n"


def _command(config: str | None, settings: list[str], seed: int, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "edgec", "build", "--seed", str(seed)]
    command += ["--cache", str(folder / "cache"), "--output", str(folder / "bundle")]
    command += ["--config", str(CONFIGS / f"{config}.toml")] if config else ["--target", "jetson"]
    return command + [part for setting in settings for part in ("--set", setting)]


def _timed(command: list[str]) -> tuple[float, str]:
    """Seconds of the whole command, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return time.perf_counter() - started, done.stdout


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
