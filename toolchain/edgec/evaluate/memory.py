"""A process that loads a model, runs one image and prints the most memory it ever held, in bytes.

Run by `footprint.memory_measurement` as `python -m edgec.evaluate.memory MODEL SPEC [--raw] [--threads N]`.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
from pathlib import Path

import numpy as np

from edgec.core.inputs import InputSpec
from edgec.runtime import Session

__all__: list[str] = []

_STATUS = Path("/proc/self/status")


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
    sys.stdout.write(f"{_peak_bytes()}\n")


def _peak_bytes() -> int:
    """The process's high-water mark.

    Linux' `ru_maxrss` keeps the mark of the process that forked this one across exec; `VmHWM` starts anew.
    """
    if _STATUS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
