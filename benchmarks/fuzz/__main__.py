"""Fuzzes what reads strangers' bytes: `python benchmarks/fuzz`."""

import sys
from pathlib import Path


def main() -> None:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # Python puts this folder there, and the package lies in it
    from fuzz import campaign

    campaign.main()


main()
