"""What a runner is told, and what it tells: `RUNNER MODEL IMAGES OUTPUT METHOD`, then one line of JSON.

A runner runs in its peer's own environment, where edgec is not installed; NumPy is all that this needs.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["INPUT", "Job", "run"]

INPUT = "input"
"""Name of the model's input, as edgec exports it."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One quantisation.

    Attributes:
        model: FP32 ONNX, `input` float32 [batch, channels, height, width] to logits.
        images: `.npz` with `images`, float32 [n, channels, height, width], normalised.
        output: Where the Q/DQ ONNX goes.
        method: One of the runner's.
    """

    model: Path
    images: Path
    output: Path
    method: str

    def pixels(self) -> np.ndarray:
        """The images, float32 [n, channels, height, width]."""
        with np.load(self.images) as stored:
            return stored["images"]

    def feeds(self) -> Iterator[dict[str, np.ndarray]]:
        """The images one by one, as a session takes them."""
        return ({INPUT: image[None]} for image in self.pixels())


def run(quantise: Callable[[Job], None], *, version: str) -> None:
    """Does what the command line asks for; prints its seconds, the most memory ever held, and who did it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("method")
    given = parser.parse_args()
    job = Job(model=given.model, images=given.images, output=given.output, method=given.method)
    started = time.perf_counter()
    quantise(job)
    told = {"seconds": time.perf_counter() - started, "peak_bytes": peak_bytes(), "version": version}
    sys.stdout.write(f"\n{json.dumps(told)}\n")


def peak_bytes() -> int:
    """The process's high-water mark.

    Linux' `ru_maxrss` keeps the mark of the process that forked this one across exec; `VmHWM` starts anew.
    """
    if _STATUS.is_file() and (found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), flags=re.MULTILINE)):
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
