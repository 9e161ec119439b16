"""Times graphs; for a deployer on another machine, too, who sends graphs over a connection, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from edgec.core.errors import EdgecError, TransportError
from edgec.core.host import describe_host
from edgec.core.target import Target, load_target

__all__ = ["Clock", "Machine", "Order", "Timed", "Timing", "median_ms", "serve_timings"]

Clock: TypeAlias = Callable[[bytes, int], float]
"""Times a serialised graph, in ms, here or elsewhere; the number is `spill_mb` of `median_ms`."""
_LEAST_RUNS = 5
_WARM_UP_RUNS = 2
_GRAPH_BYTES = 1 << 30
"""More than a graph of the sweep has."""
_LINE_BYTES = 256
_ERROR_CHARACTERS = 500


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


class Timed(NamedTuple):
    """Graphs that were timed in turns on a machine, and the median of each, in ms."""

    machine: Machine
    times_ms: tuple[float, ...]


class Order(_Line):
    """What is to be timed next.

    Attributes:
        number: Of the graph, from 0 on in the order in which they come.
        size: Bytes of the graph, which follow; 0 where it has come before.
        spill_mb: As for `median_ms`.
    """

    number: int = Field(ge=0)
    size: int = Field(ge=0, le=_GRAPH_BYTES)
    spill_mb: int = Field(ge=0, le=1024)


class Timing(_Line):
    """The answer to an order.

    Attributes:
        ms: What the graph takes; None where it does not run.
        error: Why it does not run.
    """

    ms: float | None = Field(default=None, gt=0)
    error: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ms is None) == (self.error is None):
            raise ValueError("expected either ms or error")
        return self


def median_ms(model: bytes, *, providers: Sequence[str], threads: int, seconds: float, spill_mb: int) -> float:
    """The median of some runs, in ms.

    Args:
        model: An ONNX graph with one float32 input; of dimensions that are not fixed it is given one.
        providers: onnxruntime's execution providers, best first.
        threads: Threads within an operator; 0 leaves it to the runtime.
        seconds: How long to go on; it runs at least five times.
        spill_mb: Megabytes that are written between two runs, as the rest of a net would: they drive out of the caches
            what the graph has left there.

    Raises:
        DataError: The graph cannot be loaded.
        UnsupportedError: It does not run.
    """
    from edgec.runtime.engine import Settings
    from edgec.runtime.onnx import OnnxRuntime

    engine = OnnxRuntime(model, Settings(providers=tuple(providers), threads=threads or None, device="CPU"))
    shape = [size if isinstance(size, int) else 1 for size in engine.inputs[0].shape]
    tensor = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    spilled = np.zeros(spill_mb * 1_000_000, np.uint8)

    def run_ms() -> float:
        np.add(spilled, 1, out=spilled)
        before = time.perf_counter()
        engine.run(tensor)
        return (time.perf_counter() - before) * 1e3

    for _ in range(_WARM_UP_RUNS):
        run_ms()
    start = time.perf_counter()
    times_ms = [run_ms() for _ in range(_LEAST_RUNS)]
    while time.perf_counter() - start < seconds:
        times_ms.append(run_ms())
    return float(np.median(times_ms))


def serve_timings(reader: BinaryIO, writer: BinaryIO, *, threads: int, seconds: float) -> None:
    """Tells what this machine is, then times graphs until there are no more orders; nothing is written to the disk.

    An order is a line of JSON, and behind it the graph, where it is new. Each is answered before the next one is read,
    so that no transfer disturbs a measurement. Graphs stay in memory, to be timed again.

    Raises:
        TransportError: What comes is no order.
    """
    target = load_target("host")
    _tell(writer, Machine(where=describe_host(), target=target))
    graphs: list[bytes] = []
    while line := reader.readline(_LINE_BYTES):
        order = _order(line, known=len(graphs))
        if order.size:
            graphs.append(reader.read(order.size))
            if len(graphs[-1]) < order.size:
                return
        try:
            ms = median_ms(
                graphs[order.number],
                providers=target.runtime.providers,
                threads=threads,
                seconds=seconds,
                spill_mb=order.spill_mb,
            )
        except (EdgecError, MemoryError) as error:
            _tell(writer, Timing(error=str(error)[:_ERROR_CHARACTERS] or type(error).__name__))
        else:
            _tell(writer, Timing(ms=ms))


def _order(line: bytes, *, known: int) -> Order:
    try:
        order = Order.model_validate_json(line)
    except ValidationError as error:
        raise TransportError(
            f"expected the order to time a graph, got {line!r}", hint="same edgec on both sides?"
        ) from error
    if order.number != known if order.size else order.number >= known:
        raise TransportError(f"order for graph {order.number}, where {known} have come", hint="start again")
    return order


def _tell(writer: BinaryIO, line: BaseModel) -> None:
    writer.write(line.model_dump_json(exclude_none=True).encode() + b"\n")
    writer.flush()
