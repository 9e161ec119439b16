"""Faults that TensorRT refuses, or takes and computes wrongly or slowly, found in the graph that ships."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from edgec.core.errors import UnsupportedError
from edgec.core.facts import Finding
from edgec.export.rules import RULES, Case
from edgec.graph.quantized import QuantizedGraph
from edgec.graph.view import WEIGHTED

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.core.target import Target

__all__ = ["lint", "require_clean", "weighted_names"]


def lint(model: ModelProto, target: Target, *, kept: Collection[str] = ()) -> tuple[Finding, ...]:
    """What TensorRT on the target will not take as it is meant, errors first.

    An error is what its parser refuses, what it computes wrongly, or int8 that was promised and is not there. A warning
    is what costs time.

    Args:
        model: The graph that ships.
        target: Its scheme, the version of its TensorRT, and whether its accelerator is to be used.
        kept: Names of operators that stay in floating point on purpose.
    """
    case = Case(graph=QuantizedGraph(model), target=target, kept=frozenset(kept))
    found = [finding for rule in RULES for finding in rule(case)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def require_clean(findings: Sequence[Finding]) -> None:
    """Stops where a finding is an error.

    Raises:
        UnsupportedError: The first error, with its fix, and how many others there are.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        first, others = errors[0], len(errors) - 1
        more = f" (and {others} more)" if others else ""
        raise UnsupportedError(
            f"TensorRT cannot take this graph: {first.node}: {first.what} [{first.rule}]{more}", hint=first.fix
        )


def weighted_names(model: ModelProto) -> frozenset[str]:
    """Names of all operators with weights: what is kept as it is where a graph is not quantised, or was before."""
    return frozenset(node.name for node in model.graph.node if node.op_type in WEIGHTED)
