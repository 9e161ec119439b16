"""Time to `edgec --help` and to an unchanged rebuild's answer, against a bare interpreter in the same run.

python benchmarks/startup.py [--quick]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from rows import Row, arguments, show

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "edgec --help": ["-m", "edgec", "--help"],
    "edgec targets list": ["-m", "edgec", "targets", "list"],
}


def main() -> None:
    given = arguments(__doc__).parse_args()
    runs = 5 if given.quick else 20
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - started)
    bare = statistics.median(times["python -c pass"])
    rows = [
        Row(
            what=name,
            value=statistics.median(values),
            unit="s, median",
            n=runs,
            low=min(values),
            high=max(values),
            against="python -c pass",
            ratio=statistics.median(values) / bare,
        )
        for name, values in times.items()
    ]
    show(rows, as_json=given.json)


if __name__ == "__main__":
    main()
