"""Time to `edgec --help`, and what a device installs: its size, and its time to the first prediction.

    python benchmarks/startup.py [--install BUNDLE IMAGE] [--quick]

Times are of whole processes, against a bare interpreter in the same run. With `--install` a fresh virtual environment
gets the checkout without extras, as a device does (a package registry is needed), and predicts an image with a bundle.
Sizes are of the files on disk, pip and compiled Python files included.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from rows import Row, arguments, show

ROOT = Path(__file__).resolve().parents[1]
BARE = "python -c pass"
COMMANDS = {
    BARE: ["-c", "pass"],
    "edgec --help": ["-m", "edgec", "--help"],
    "edgec targets list": ["-m", "edgec", "targets", "list"],
}
ABSENT = ("torch", "onnx", "sklearn")
_MB = 10**6


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--install", nargs=2, type=Path, metavar=("BUNDLE", "IMAGE"), help="measure a fresh install")
    given = parser.parse_args()
    rows = _times(sys.executable, COMMANDS, runs=5 if given.quick else 20)
    if given.install:
        with tempfile.TemporaryDirectory() as folder:
            rows += _install(Path(folder), *map(Path.resolve, given.install), runs=3 if given.quick else 10)
    show(rows, as_json=given.json, output=given.output)


def _times(
    python: str | Path, commands: Mapping[str, Sequence[str]], *, runs: int, env: Mapping[str, str] | None = None
) -> list[Row]:
    """Seconds of each command, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([python, *command], check=True, stdout=subprocess.DEVNULL, env=env)
            times[name].append(time.perf_counter() - started)
    bare = statistics.median(times[BARE])
    return [
        Row(
            what=name,
            value=statistics.median(values),
            unit="s, median",
            n=runs,
            low=min(values),
            high=max(values),
            against=BARE,
            ratio=statistics.median(values) / bare,
        )
        for name, values in times.items()
    ]


def _install(folder: Path, bundle: Path, image: Path, *, runs: int) -> list[Row]:
    """Size and start of the base installation."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    empty = _size_mb(folder)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT], check=True, env=env, stdout=sys.stderr)
    whole = _size_mb(folder)
    here = f"import importlib.util as u; print(sum(u.find_spec(name) is not None for name in {ABSENT}))"
    found = subprocess.run([python, "-c", here], check=True, env=env, capture_output=True, text=True)
    predict = {BARE: ["-c", "pass"], "edgec predict": ["-m", "edgec", "predict", str(bundle), str(image)]}
    return [
        Row(what="base install, with Python's own packages", value=whole, unit="MB", n=1),
        Row(what="base install, what edgec brings", value=whole - empty, unit="MB", n=1),
        Row(what=f"of {', '.join(ABSENT)}: installed", value=float(found.stdout), unit="packages", n=len(ABSENT)),
        *_times(python, predict, runs=runs, env=env)[1:],
    ]


def _size_mb(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / _MB


if __name__ == "__main__":
    main()
