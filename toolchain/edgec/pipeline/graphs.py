"""The graphs of a build, before anything is measured on them: the student in FP32 and the file that ships."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgec.pipeline.runner import Runner
from edgec.pipeline.stages import calibrate, compress, export, quantize
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.store import Output

__all__ = ["Graphs", "make_graphs"]


@dataclass(frozen=True, kw_only=True)
class Graphs:
    """What the stages from compression to quantisation made.

    Attributes:
        compress: The student; None where the model is quantised alone.
    """

    compress: Output[compress.Facts] | None
    export: Output[export.Facts]
    calibrate: Output[calibrate.Facts]
    quantize: Output[quantize.Facts]

    @property
    def fp32(self) -> Path:
        """The graph before quantisation."""
        return self.export.folder / export.FP32

    @property
    def ranges(self) -> Path:
        """What calibration found."""
        return self.calibrate.folder / calibrate.RANGES

    @property
    def model(self) -> Path:
        """The file that ships."""
        return self.quantize.folder / quantize.MODEL


def make_graphs(run: Runner, images: Prepared, *, few: Output[compress.Facts] | None = None) -> Graphs:
    """Compresses, exports, calibrates and quantises.

    Args:
        run: The build.
        images: The few samples and the OOD images.
        few: What our recipe made of the few samples alone, where that is known.
    """
    plan = run.sources.plan
    student = partial(compress.run, images=images, variant=plan.config.compress.variant, few=few and few.folder)
    ours = run.maybe(compress.key(plan), compress.Facts, student)
    graph = run(export.key(plan), export.Facts, partial(export.run, images=images, student=ours and ours.folder))
    fp32 = graph.folder / export.FP32
    read = partial(calibrate.run, images=images, model=fp32, cache=run.store.folder / "ranges")
    calibrated = run(calibrate.key(plan), calibrate.Facts, read)
    ranges = calibrated.folder / calibrate.RANGES
    int8 = run(quantize.key(plan), quantize.Facts, partial(quantize.run, images=images, model=fp32, ranges=ranges))
    return Graphs(compress=ours, export=graph, calibrate=calibrated, quantize=int8)
