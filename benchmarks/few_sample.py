"""A few-sample study of a config of benchmarks/configs, its cells kept as rows.

    python benchmarks/few_sample.py cifar10-resnet20 --seeds 0,1,2 --cache FOLDER --output benchmarks/results/FILE.json

Options other than those of every benchmark go to `edgec study few-sample` as they are. A run in the cache is not run
again. First: python benchmarks/unpack_mosaics.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rows import Row, arguments, over_seeds, show

CONFIGS = Path(__file__).parent / "configs"
MEASURES = {
    "accuracy": "share",
    "worst_class_accuracy": "share",
    "macro_f1": "share",
    "tail_accuracy": "share",
    "kept_flops": "share",
    "seconds": "s",
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("config", help="a name in benchmarks/configs")
    given, passed_on = parser.parse_known_args()
    options = [*passed_on, *(["--set", "compress.steps=20"] if given.quick else [])]
    with tempfile.TemporaryDirectory() as folder:
        command = ["study", "few-sample", "--config", str(CONFIGS / f"{given.config}.toml"), "--output", folder]
        subprocess.run([sys.executable, "-m", "edgec", *command, *options], check=True, stdout=sys.stderr)
        found = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
    show(list(_rows(given.config, found)), as_json=given.json, output=given.output)


def _rows(config: str, found: Mapping[str, Any]) -> Iterator[Row]:
    """The teacher, then every cell; parts of a name are config, draw, method, variant and quantity."""
    for name in ("accuracy", "worst_class_accuracy", "macro_f1"):
        value = found["teacher"][name]
        yield Row(what=f"{config}: teacher: {name}", value=value, unit="share", n=found["teacher"]["images"])
    cells: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for run in found["runs"]:
        variant = (
            run["variant"] if run["without"] in (None, "nothing") else f"{run['variant']} without {run['without']}"
        )
        cell = f"{config}: {run['samples']} at {run['imbalance']:g}: {run['method']}: {variant}"
        for name, unit in MEASURES.items():
            if run.get(name) is not None:
                cells[f"{cell}: {name}", unit][run["seed"]] = run[name]
    yield from (over_seeds(what, unit, values) for (what, unit), values in cells.items())


if __name__ == "__main__":
    main()
