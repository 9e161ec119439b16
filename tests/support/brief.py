"""Builds that measure what they measure of this machine, but not for long."""

from __future__ import annotations

import faulthandler
import functools
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgec.core.classifier import Classifier

__all__ = ["UNSEEN", "brief_measuring", "export_once", "main"]

VIEWS = 500
"""Changed few samples that temperature and threshold are fitted to, as of large images."""
UNSEEN = 60
"""Out-of-distribution images that the threshold is measured on."""


@contextmanager
def brief_measuring() -> Iterator[None]:
    """Builds of this process time each model for some milliseconds and look at memory and energy once.

    They look at fewer changed images, and try and write the graph of a teacher once that is nothing but timed.
    """
    from edgec.export import onnx
    from edgec.learn import temperature
    from edgec.pipeline import confidence, speed
    from edgec.pipeline.stages import evaluate
    from support import exporter  # noqa: F401 - what exports a small net does it in half of the time

    brief = functools.partial(speed.measure_in_turns, warmup_s=0.01, min_runs=20, min_turns=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure_in_turns", brief)
        patch.setattr(speed, "FEWEST", 1)
        patch.setattr(temperature, "VIEWS", VIEWS)
        patch.setattr(confidence, "_UNSEEN", UNSEEN)
        patch.setattr(onnx, "require_exportable", _tried_once(onnx.require_exportable))
        patch.setattr(evaluate, "with_teacher", _written_once(speed.with_teacher))
        yield


_tried: set[tuple[str, int]] = set()
_written: dict[tuple[str, int, bool], bytes] = {}


def _tried_once(require: Callable[..., None]) -> Callable[..., None]:
    """`require_exportable`, which passes over a teacher that it has found exportable before."""

    def require_exportable(classifier: Classifier, *, opset: int) -> None:
        if (of := (_digest(classifier), opset)) not in _tried:
            require(classifier, opset=opset)
            _tried.add(of)

    return require_exportable


def export_once(
    export: Callable[..., None], classifier: Classifier, output: Path, *, opset: int, preprocess_in_graph: bool
) -> None:
    """`export_onnx`, from memory where it has been called for the same before."""
    of = (_digest(classifier), opset, preprocess_in_graph)
    if of in _written:
        output.write_bytes(_written[of])
        return
    export(classifier, output, opset=opset, preprocess_in_graph=preprocess_in_graph)
    _written[of] = output.read_bytes()


def _written_once(opened: Callable[..., AbstractContextManager[Any]]) -> Callable[..., AbstractContextManager[Any]]:
    """`with_teacher`, which exports each teacher once."""
    from edgec.export import onnx

    @contextmanager
    def with_teacher(*of: Any) -> Iterator[Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx, "export_onnx", functools.partial(export_once, onnx.export_onnx))
            with opened(*of) as graphs:
                yield graphs

    return with_teacher


def _digest(classifier: Classifier) -> str:
    """Of a module and its weights."""
    digest = hashlib.sha256(f"{classifier.module}{classifier.input}".encode())
    for name, values in classifier.module.state_dict().items():
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main(arguments: list[str], faults: Path) -> None:
    """The command line of such builds, for a process of its own; `faults` tells where a signal like SIGABRT met it."""
    from edgec.cli import main

    with faults.open("w") as stream, brief_measuring():
        faulthandler.enable(stream)
        main(arguments)
