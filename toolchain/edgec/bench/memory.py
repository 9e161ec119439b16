"""A process that loads a model, runs one image and prints the most memory it ever held, in bytes.

Run by `footprint.memory_measurement` as `python -m edgec.bench.memory MODEL SPEC [--raw] [--threads N]`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from edgec.core.host import peak_bytes
from edgec.core.inputs import InputSpec
from edgec.runtime import Session

__all__: list[str] = []


def main() -> None:
    """Reads the arguments, runs the model, writes one number."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("spec", type=InputSpec.model_validate_json)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    session = Session(given.model, given.spec, preprocessing_in_graph=given.raw, threads=given.threads)
    session.logits(np.zeros((1, given.spec.height, given.spec.width, given.spec.channels), np.uint8))
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main()
