"""A study in several processes against the same study in one: wall time from an empty cache to the finished files.

    python benchmarks/pool.py [--workers 1 2] [--seeds 6] [--steps 400] [--repeats 3]

The study trains a net on the digits, balanced and imbalanced, and compresses each (`edgec study imbalance`). Every run
of it is a process of its own, begun anew, so that the time that processes take to start counts; all of them may use
all cores. Repeats alternate.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from rows import Row, arguments, show


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    seeds, steps, repeats = (2, 20, 1) if given.quick else (given.seeds, given.steps, given.repeats)
    seconds: dict[int, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for workers in given.workers:
            seconds[workers].append(study(workers, seeds=seeds, steps=steps))
            print(f"{workers} processes: {seconds[workers][-1]:.1f} s", file=sys.stderr)
    first = given.workers[0]
    rows = [
        Row(
            what=f"digits, imbalance study of {seeds} seeds, {steps} steps: {named(workers)}: seconds",
            value=median(taken),
            unit="s",
            n=len(taken),
            low=min(taken),
            high=max(taken),
            against=None if workers == first else named(first),
            ratio=None if workers == first else median(taken) / median(seconds[first]),
        )
        for workers, taken in seconds.items()
    ]
    show(rows, as_json=given.json, output=given.output)


def named(workers: int) -> str:
    """`1 process`, `2 processes`."""
    return f"{workers} process{'' if workers == 1 else 'es'}"


def study(workers: int, *, seeds: int, steps: int) -> float:
    """Seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        command = (
            *(sys.executable, "-m", "edgec", "study", "imbalance", "--profiles", "linear", "--device", "cpu"),
            *("--compressions", "pruned-moderate,a8w4", "--steps", str(steps), "--workers", str(workers)),
            *("--seeds", ",".join(map(str, range(seeds)))),
            *("--cache", str(place / "cache"), "--output", str(place / "out")),
        )
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
