"""Times a graph; for a deployer on another machine, who sends graphs over a connection, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgec.core.errors import TransportError
from edgec.core.host import describe_host
from edgec.core.target import Target, load_target

__all__ = ["Machine", "Timing", "median_ms", "serve_timings"]

_LEAST_RUNS = 7
_CACHES_BYTES = 64 << 20
"""More than the caches of what edgec runs on hold."""
_GRAPH_BYTES = 1 << 30
"""More than a graph of the sweep has."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer edgec may say more


class Machine(_Line):
    """The first line: who times.

    Attributes:
        where: The machine, for people.
        target: Its profile, `host` as it is completed there.
    """

    where: str
    target: Target


class Timing(_Line):
    """The answer to a graph."""

    ms: float = Field(gt=0)


def median_ms(model: bytes, *, providers: Sequence[str], threads: int, seconds: float) -> float:
    """The median of runs that find nothing in the caches, in ms.

    Args:
        model: An ONNX graph with one float32 input of fixed shape.
        providers: onnxruntime's execution providers, best first.
        threads: Threads within an operator.
        seconds: How long to go on; it runs at least seven times.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=list(providers))
    given = session.get_inputs()[0]
    tensor = np.random.default_rng(0).normal(size=given.shape).astype(np.float32)
    others = np.zeros(_CACHES_BYTES, np.uint8)
    times_ms: list[float] = []
    start = time.perf_counter()
    while len(times_ms) < _LEAST_RUNS or time.perf_counter() - start < seconds:
        others += 1
        before = time.perf_counter()
        session.run(None, {given.name: tensor})
        times_ms.append((time.perf_counter() - before) * 1e3)
    return float(np.median(times_ms))


def serve_timings(reader: BinaryIO, writer: BinaryIO, *, threads: int, seconds: float) -> None:
    """Tells what this machine is, then times graphs until there are no more; nothing is written to the disk.

    A graph is a line with the number of its bytes, and then the bytes. Each is answered before the next one is read, so
    that no transfer disturbs a measurement.

    Raises:
        TransportError: What comes is no graph.
    """
    target = load_target("host")
    _tell(writer, Machine(where=describe_host(), target=target))
    while line := reader.readline(32):
        if not line.strip().isdigit() or int(line) > _GRAPH_BYTES:
            raise TransportError(f"expected the size of a graph, got {line!r}", hint="same edgec on both sides?")
        model = reader.read(int(line))
        if len(model) < int(line):
            return
        ms = median_ms(model, providers=target.runtime.providers, threads=threads, seconds=seconds)
        _tell(writer, Timing(ms=ms))


def _tell(writer: BinaryIO, line: BaseModel) -> None:
    writer.write(line.model_dump_json().encode() + b"\n")
    writer.flush()
