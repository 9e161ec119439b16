"""From pixels to logits, whatever engine computes the graph: checks of input and output, batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.gate import MEMBER
from edgec.core.inputs import InputSpec, normalise
from edgec.core.samples import Images
from edgec.core.target import EngineName
from edgec.runtime.engine import Engine, Settings
from edgec.runtime.engines import load_engine

__all__ = ["Session", "softmax"]

_DECODED = 128
"""Images at a time, of which engines take as many as they can."""


class Session:
    """A classifier's graph, ready to run.

    Args:
        model: The ONNX file, or its contents; for TensorRT a serialised engine. The graph takes float32 [n, channels,
            height, width] and its first output is logits, float32 [n, classes].
        spec: The images that it takes.
        preprocessing_in_graph: True when the graph wants raw values 0 to 255, channels in the order of the spec, and
            normalises by itself.
        engine: What runs it.
        providers: onnxruntime's execution providers, best first; those that are not installed are passed over, the CPU
            comes last.
        device: What OpenVINO computes on, `CPU` or `GPU`; the CPU where there is no such device.
        threads: Threads within an operator; None leaves it to the engine.
        batch: Most images run at once; an engine may be built for fewer.

    Attributes:
        engine: What runs it.
        classes: Number of logits.
        providers: The execution providers or devices in use, best first.
        parallel: Whether several threads may run it at the same time.
        answers: Of a deck, how many images each member answered, by its position; of one net, nothing.

    Raises:
        MissingDependencyError: The engine is not installed.
        DataError: The engine cannot load the model.
        UnsupportedError: The model's input or output is not as described above.
    """

    def __init__(
        self,
        model: bytes | Path,
        spec: InputSpec,
        *,
        preprocessing_in_graph: bool = False,
        engine: EngineName = "onnxruntime",
        providers: Sequence[str] = ("CPUExecutionProvider",),
        device: str = "CPU",
        threads: int | None = None,
        batch: int = 32,
    ) -> None:
        self.spec = spec
        self.engine: EngineName = engine
        self._raw = preprocessing_in_graph
        loaded = load_engine(engine, model, Settings(providers=tuple(providers), threads=threads, device=device))
        self._input, self._fixed_batch = _input(loaded, spec)
        self._output, self.classes = _output(loaded)
        self._batch = self._fixed_batch or min(batch, loaded.most or batch)
        self.providers = loaded.devices
        self.parallel = loaded.parallel
        self.answers: Counter[int] = Counter()
        run_all = getattr(loaded, "run_all", None) if _is_deck(loaded) else None
        self._run = loaded.run if run_all is None else self._counted(run_all)

    def _counted(self, run_all: Callable[[np.ndarray], dict[str, np.ndarray]]) -> Callable[[np.ndarray], np.ndarray]:
        """Runs a deck, and counts which member answers."""
        lock = Lock()

        def run(tensor: np.ndarray) -> np.ndarray:
            found = run_all(tensor)
            with lock:
                self.answers[int(found[MEMBER][0])] += 1
            return found[self._output]

        return run

    @property
    def input(self) -> str:
        """Name of the graph's input."""
        return self._input

    @property
    def output(self) -> str:
        """Name of the graph's output that holds the logits."""
        return self._output

    @property
    def takes_one(self) -> bool:
        """Whether the graph's batch is fixed to one image."""
        return self._fixed_batch == 1

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 [n, classes] for uint8 pixels [n, height, width, channels] or what `feed` made of them.

        Raises:
            DataError: Another shape or type.
            UnsupportedError: The engine fails on the graph.
        """
        tensor = self.feed(images) if images.dtype == np.uint8 else images
        if 0 < len(tensor) <= self._batch:
            return self._run(tensor)
        if len(tensor) == 0:
            return np.empty((0, self.classes), np.float32)
        starts = range(0, len(tensor), self._batch)
        return np.concatenate([self._run(tensor[start : start + self._batch]) for start in starts])

    def logits_of(self, images: Images) -> np.ndarray:
        """float32 [n, classes] of all images, decoded a batch at a time."""
        found = [self.logits(batch) for batch in images.batches(_DECODED)]
        return np.concatenate([np.empty((0, self.classes), np.float32), *found])

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """The graph's input, float32 [n, channels, height, width], for uint8 [n, height, width, channels].

        Raises:
            DataError: Another shape.
        """
        expected = (self.spec.height, self.spec.width, self.spec.channels)
        if pixels.shape[1:] != expected:
            raise DataError(
                f"images {pixels.shape}: expected (n, {', '.join(map(str, expected))})",
                hint="decode them with edgec.core.images.decode_image",
            )
        if self._raw:
            return np.ascontiguousarray(self.spec.planes(pixels), dtype=np.float32)
        return normalise(pixels, self.spec)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 in each row, [n, classes]; the row's maximum is taken off first, so none overflows."""
    # The ufuncs' own reductions: the methods' wrappers take longer than the arithmetic on one image's logits.
    powers = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers, axis=1, keepdims=True)
    return powers


def _is_deck(engine: Engine) -> bool:
    return [port.name for port in engine.outputs[1:]] == [MEMBER]


def _input(engine: Engine, spec: InputSpec) -> tuple[str, int | None]:
    """Name and fixed batch (None when dynamic) of the only input."""
    expected = f"float32 (n, {', '.join(map(str, spec.shape))})"
    if len(engine.inputs) != 1:
        raise UnsupportedError(f"the model has {len(engine.inputs)} inputs, expected one of {expected}")
    port = engine.inputs[0]
    batch, *plane = port.shape or (None,)
    fits = len(plane) == len(spec.shape) and all(
        size == want for size, want in zip(plane, spec.shape, strict=True) if isinstance(size, int)
    )
    if not port.is_float or not fits:
        raise UnsupportedError(
            f"the model's input '{port.name}' is {port.kind} {list(port.shape)}, expected {expected}"
        )
    if isinstance(batch, int) and batch != 1:
        raise UnsupportedError(f"the model's input '{port.name}' has a fixed batch of {batch}, expected 1 or dynamic")
    return port.name, 1 if batch == 1 else None


def _output(engine: Engine) -> tuple[str, int]:
    """Name and classes of the first output."""
    port = engine.outputs[0]
    match port.shape:
        case [_, int(classes)] if port.is_float:
            return port.name, classes
        case shape:
            expected = "logits, float32 (n, classes)"
            raise UnsupportedError(
                f"the model's output '{port.name}' is {port.kind} {list(shape)}, expected {expected}"
            )
