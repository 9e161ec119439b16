"""What an ONNX file says of itself: labels, and what is done to pictures before the graph takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from edgec.core.inputs import InputSpec

__all__ = ["metadata_of"]


def metadata_of(spec: InputSpec, labels: Sequence[str], *, preprocessing_in_graph: bool) -> Mapping[str, str]:
    """Values by name, each as JSON, as a program reads them that has no manifest: `edgec.labels`, `edgec.mean`, ….

    Args:
        spec: Each of its settings is a name.
        labels: Class names in the order of the outputs.
        preprocessing_in_graph: Whether the graph scales and normalises by itself.
    """
    told = {
        **spec.model_dump(mode="json"),
        "labels": list(labels),
        "preprocessing_in_graph": preprocessing_in_graph,
    }
    return {f"edgec.{name}": json.dumps(value, ensure_ascii=False) for name, value in sorted(told.items())}
