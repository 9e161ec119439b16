"""What a device does with a bundle: verify it, run it, prove that it still answers as where it was built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgec.core.errors import DataError, EdgecError, IntegrityError, MissingDependencyError
from edgec.core.host import usable_cores
from edgec.core.target import EngineName, Scheme
from edgec.package import Bundle, Trust, open_bundle, read_golden, verify_signature
from edgec.package.manifest import RuntimeEntry
from edgec.runtime.engine_build import Tell
from edgec.runtime.engines import INSTALL, NAMES, is_installed
from edgec.runtime.session import Session, softmax

__all__ = ["UNKNOWN", "Model", "load_model", "tolerance"]

UNKNOWN = "unknown"
"""What stands in place of a label for an image of none of the classes, where that is asked for."""

_SHARE_OF_LARGEST = {
    Scheme.FLOAT32: 1e-4,
    Scheme.FLOAT16: 2e-2,
    Scheme.S8S8: 2 / 127,
    Scheme.U8S8: 2 / 127,
}
_OTHER_ENGINE = 4
"""Times the tolerance where another engine runs the graph than recorded the logits. Each leaves out other roundings
between fused operators, and those add up over the layers: a logit of ResNet-56 in int8 moved by up to 3.3 times the
tolerance over 10,000 images, 0.052 of the largest logit (benchmarks/engines.py --only classes)."""


def load_model(
    path: Path | str,
    *,
    trust: Trust | None = None,
    engine: EngineName | None = None,
    engine_file: Path | None = None,
    engines: Path | None = None,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    batch: int = 32,
    tell: Tell | None = None,
) -> Model:
    """The model of a bundle, folder or archive, after every file of it was compared with the manifest.

    A bundle for TensorRT gets its engine built on the first call on a device that has TensorRT and a GPU, which takes
    minutes; later calls load it. Where that fails, onnxruntime runs the bundle, and the model's note says why.

    Args:
        path: The bundle.
        trust: Whose signature it must have, before anything of it is loaded; None asks for none.
        engine: What runs it; None takes the manifest's where it is here, else onnxruntime.
        engine_file: A TensorRT engine that was built from the bundle's graph on this very device.
        engines: Where engines that are built here are kept; None takes `edgec.runtime.engine_store.engines_folder`.
        providers: onnxruntime execution providers, best first; None takes the manifest's.
        threads: Threads within an operator; None takes the manifest's, but no more than the machine has cores.
        batch: Most images run at once.
        tell: Told how far the building of an engine is.

    Raises:
        MissingDependencyError: The engine that was asked for is not installed.
        DataError: Nothing is there, it is no bundle, or the engine cannot load the model.
        IntegrityError: The bundle is damaged, was edited, or is not signed as asked.
        UnsupportedError: The graph's input or output is not a classifier's, or the engine that was asked for cannot be
            built.
    """
    path = Path(path)
    bundle = open_bundle(path)
    if trust is not None:
        verify_signature(bundle, trust)
    bundle.verify()
    manifest = bundle.manifest
    runtime = manifest.runtime
    planned = None if runtime.threads is None else min(runtime.threads, usable_cores())

    def session(name: EngineName, model: bytes | Path) -> Session:
        return Session(
            model,
            manifest.input,
            preprocessing_in_graph=manifest.preprocessing_in_graph,
            engine=name,
            providers=runtime.providers if providers is None else providers,
            device=runtime.device,
            threads=threads or planned,
            batch=batch,
        )

    chosen = engine or (runtime.engine if is_installed(runtime.engine) else "onnxruntime")
    trouble = None
    ready = None
    if chosen == "tensorrt":
        try:
            ready = session(chosen, engine_file) if engine_file else _built(bundle, session, engines, tell)
        except EdgecError as error:
            if engine or engine_file:
                raise
            chosen, trouble = "onnxruntime", str(error)
    ready = ready or session(chosen, bundle.read_bytes(manifest.model.file))
    if ready.classes != len(manifest.labels):
        raise IntegrityError(f"'{path}': the model has {ready.classes} classes, the manifest {len(manifest.labels)}")
    return Model(bundle, ready, trouble=trouble)


def _built(
    bundle: Bundle, session: Callable[[EngineName, bytes], Session], engines: Path | None, tell: Tell | None
) -> Session:
    """A session on the engine that is kept for this device; one that no longer loads is built anew."""
    if not is_installed("tensorrt"):
        raise MissingDependencyError("TensorRT is not installed", hint=INSTALL["tensorrt"])
    from edgec.runtime.engine_store import device_engine

    say = tell or _silent
    try:
        return session("tensorrt", device_engine(bundle, folder=engines, tell=say))
    except DataError:
        return session("tensorrt", device_engine(bundle, folder=engines, tell=say, anew=True))


def _silent(line: str) -> None:
    del line


class Model:
    """A bundle's model, ready to run.

    Attributes:
        bundle: The bundle that it came from.
        session: The session that runs it.
        labels: Class names, in the order of the scores.
        note: What the person should know about how it runs here, where that is not as the manifest asks; else None.
    """

    def __init__(self, bundle: Bundle, session: Session, *, trouble: str | None = None) -> None:
        self.bundle = bundle
        self.session = session
        self.labels = bundle.manifest.labels
        self.note = _note(bundle.manifest.runtime, session, trouble)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Scores, float32 [n, classes], that sum to 1 for each image.

        Args:
            images: uint8 [n, height, width, channels], or what `session.feed` made of them.

        Raises:
            DataError: Another shape or type.
        """
        return softmax(self.session.logits(images))

    def is_unknown(self, scores: np.ndarray) -> np.ndarray:
        """Which images are of none of the classes, as far as the model can tell, bool [n].

        Args:
            scores: What `predict` gave, [n, classes].

        Raises:
            DataError: The bundle has no threshold for it.
        """
        rule = self.bundle.manifest.unknown
        if rule is None:
            raise DataError(
                f"'{self.bundle.path}' does not say when an image is unknown",
                hint="build it again with this edgec, or leave the option out",
            )
        return scores.max(axis=1) < rule.below

    def smoke_test(self) -> None:
        """Runs the golden images and compares with the logits that were recorded at the build.

        No logit may differ by more than `tolerance`, or four times that where another engine recorded them. A class
        may change only where the two best recorded logits are no further apart than that.

        Raises:
            DataError: The bundle has no golden images.
            IntegrityError: The model answers differently here.
        """
        manifest, where = self.bundle.manifest, str(self.bundle.path)
        data = self.bundle.read_bytes("golden.npz")
        golden = read_golden(data, manifest.input, classes=len(self.labels), where=where)
        logits = self.session.logits(golden.inputs)
        recorded_by = manifest.runtime.recorded_by
        allowed = tolerance(golden.logits, manifest.model.scheme) * (
            1 if self.session.engine == recorded_by else _OTHER_ENGINE
        )
        second, best = np.partition(golden.logits, -2, axis=1)[:, -2:].T
        moved = (logits.argmax(axis=1) != golden.logits.argmax(axis=1)) & (best - second > allowed)
        largest = float(np.abs(logits - golden.logits).max())
        if moved.any() or not largest <= allowed:
            raise IntegrityError(
                f"'{where}': smoke test: {int(moved.sum())} of {len(moved)} golden images change class, "
                f"logits differ by up to {largest:.3g}, expected at most {allowed:.3g}",
                hint=f"{self.session.providers[0]} computes another result here than at the build: do not deploy it",
            )


def tolerance(logits: np.ndarray, scheme: Scheme) -> float:
    """How far logits may lie from recorded ones, [n, classes], on another processor: a share of the largest, M.

    - float32: M / 10,000. Sums in another order differ by about sqrt(terms) units of 6e-8 each, 2e-6 of M
      between x86 and Arm on a ResNet-18; this leaves a factor of 50.
    - float16: M / 50. A unit of 5e-4 in place of 6e-8, over tens of layers.
    - int8: M * 2 / 127. Rounding falls the other way between processors and moves a logit by up to one output
      step (seen between x86 and Arm). A step is range / 127 when symmetric and at most that when not, and golden
      images that reach half of the calibrated range put it at no more than 2 M / 127.
    """
    return float(np.abs(logits).max()) * _SHARE_OF_LARGEST[scheme]


def _note(runtime: RuntimeEntry, session: Session, trouble: str | None) -> str | None:
    here = session.providers[0]
    if session.engine != runtime.engine and here != "TensorrtExecutionProvider":
        name, by = NAMES[runtime.engine], NAMES[session.engine]
        missing = runtime.engine != "tensorrt" and not is_installed(runtime.engine)
        more = f"; for {name}: {INSTALL[runtime.engine]}" if missing else f" ({trouble})" if trouble else ""
        return f"built for {name}, which does not run it here: {by} does, on {here}{more}"
    if session.engine == "openvino":
        return (
            None
            if here == runtime.device
            else f"built for OpenVINO's {runtime.device}, which is not here: runs on {here}"
        )
    wanted = runtime.providers[0] if session.engine == "onnxruntime" and runtime.providers else here
    return None if here == wanted else f"built for {wanted}, which is not here: runs on {here}"
