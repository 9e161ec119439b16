"""What a session needs of whatever computes the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Engine", "Port", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a graph.

    Attributes:
        kind: Its type, as the engine calls it.
        is_float: Whether that is float32.
        shape: An axis of any length is no integer.
    """

    name: str
    kind: str
    is_float: bool
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a graph is run. An engine passes over what it does not know.

    Attributes:
        providers: onnxruntime's execution providers, best first.
        threads: Threads within an operator; None leaves it to the engine.
        device: What OpenVINO computes on, `CPU` or `GPU`.
    """

    providers: tuple[str, ...]
    threads: int | None
    device: str


class Engine(Protocol):
    """A graph, loaded.

    Attributes:
        devices: What computes it, best first: execution providers, or the names of devices.
        inputs: All that it takes.
        outputs: All that it gives; the first holds the logits.
        most: Images that it runs at once; None sets no limit.
        parallel: Whether several threads may run it at the same time.
    """

    devices: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    most: int | None
    parallel: bool

    def run(self, tensor: np.ndarray) -> np.ndarray:
        """The first output for the first input, a fresh array.

        Raises:
            DataError: Another shape or type than the graph takes.
            UnsupportedError: The engine fails on the graph.
        """
        ...
