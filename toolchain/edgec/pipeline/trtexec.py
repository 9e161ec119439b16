"""How `trtexec` builds a bundle's graph, for those who build the engine by hand."""

from __future__ import annotations

from edgec.core.target import Target
from edgec.package import BuildPlan, CheckEntry
from edgec.pipeline.stages import prove
from edgec.pipeline.stages.quantize import MODEL
from edgec.runtime import Session

__all__ = ["build_plan"]


def build_plan(session: Session, target: Target, check: prove.Facts) -> BuildPlan:
    """What `trtexec` is told of a graph.

    Precision stands in the graph: TensorRT 10 takes it from there alone, 8 wants to be told that it may. Shapes are
    given for open batches alone: `trtexec` refuses them for a graph that has its own.
    """
    shape = "x".join(map(str, session.spec.shape))
    modern = not (target.runtime.version or "").startswith("8.")
    batches = () if session.takes_one else (("min", 1), ("opt", 1), ("max", 8))
    return BuildPlan(
        tool="trtexec",
        arguments=(
            f"--onnx={MODEL}",
            "--saveEngine=../model.engine",
            *(("--stronglyTyped",) if modern else ("--int8", "--fp16")),
            *(f"--{which}Shapes={session.input}:{batch}x{shape}" for which, batch in batches),
        ),
        check=CheckEntry(tool=check.tool, proven=check.proven, note=check.note),
    )
