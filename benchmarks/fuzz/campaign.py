"""Fuzzes readers of strangers' bytes, each in a process of its own, and counts what was tried and found.

    python benchmarks/fuzz [--only graph image] [--seconds 600] [--corpus FOLDER] [--quick]

Coverage-guided, by atheris and libFuzzer. Inputs that reach new code are kept in the corpus, a folder for each target,
where the next campaign continues. A target ends early at a finding, whose bytes stay in that folder as `crash-…`,
`timeout-…` or `oom-…`; an input may take 10 s and 1 GB. First: pip install 'edgec[build,deploy,serve]' atheris
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fuzz import TARGETS
from rows import ROOT, Row, arguments, show

CORPUS = ROOT / "benchmarks" / "data" / "fuzz"
ENGINE = Path(__file__).with_name("engine.py")
INPUT_S, INPUT_MB, INPUT_BYTES = 10, 1024, 8192
FINDINGS = ("crash-", "timeout-", "oom-", "leak-")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS, metavar="TARGET", help=str(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    given = parser.parse_args()
    rows = [
        row for name in given.only for row in campaign(name, given.corpus / name, 5 if given.quick else given.seconds)
    ]
    show(rows, as_json=given.json, output=given.output)


def campaign(name: str, corpus: Path, seconds: int) -> list[Row]:
    """One target: executions, seconds and findings of this run."""
    corpus.mkdir(parents=True, exist_ok=True)
    limits = (f"-timeout={INPUT_S}", f"-rss_limit_mb={INPUT_MB}", f"-max_len={INPUT_BYTES}")
    told = (f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={corpus}/")
    before = findings(corpus)
    ended = subprocess.run(
        [sys.executable, str(ENGINE), name, str(corpus), *limits, *told], stderr=subprocess.PIPE, text=True, check=False
    )
    tried = re.search(r"number_of_executed_units:\s*(\d+)", ended.stderr)
    took = re.search(r"Done \d+ runs in (\d+) second", ended.stderr)
    if tried is None:
        raise SystemExit(f"{name}: the fuzzer did not start:\n{ended.stderr}")
    found = findings(corpus) - before
    for path in sorted(found):
        print(f"{name}: {path}\n{ended.stderr[-3000:]}", file=sys.stderr)
    executions = int(tried[1])
    return [
        Row(what=f"{name}: inputs", value=executions, unit="inputs", n=1),
        Row(what=f"{name}: time", value=int(took[1]) if took else seconds, unit="s", n=1),
        Row(what=f"{name}: findings", value=len(found), unit="findings", n=executions),
    ]


def findings(corpus: Path) -> set[Path]:
    """Inputs that broke a promise."""
    return {path for path in corpus.iterdir() if path.name.startswith(FINDINGS)}
