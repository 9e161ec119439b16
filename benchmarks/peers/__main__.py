"""Runs the contest: `python benchmarks/peers`."""

import sys
from pathlib import Path


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python puts this folder there, and the package lies in it
    from peers import contest

    contest.main()


main()
