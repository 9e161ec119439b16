"""Which output of a file is the classes': the one that is named, or the only one with a number for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, TensorProto, helper

from edgec.core.errors import ConfigError
from edgec.graph.view import producers

__all__ = ["choose_output", "show_scores_"]

_PASSES = {"Identity", "Cast", "Squeeze", "Reshape", "ArrayFeatureExtractor"}


def show_scores_(graph: GraphProto) -> None:
    """Lets an output that tells only the best class tell the scores that it was chosen from instead."""
    makers = producers(graph)
    for value in graph.output:
        name = value.name
        while name in makers and makers[name].op_type in _PASSES:
            name = makers[name].input[-1 if makers[name].op_type == "ArrayFeatureExtractor" else 0]
        if name in makers and makers[name].op_type == "ArgMax":
            scores = makers[name].input[0]
            if all(other.name != scores for other in graph.output):
                value.CopyFrom(helper.make_tensor_value_info(scores, TensorProto.FLOAT, None))


def choose_output(
    found: Mapping[str, np.ndarray], images: int, labels: Sequence[str], *, wanted: str | None, where: str
) -> str:
    """The output with the scores.

    Args:
        found: What the outputs gave for some images.
        images: How many.
        labels: Names of the classes.
        wanted: The output's name, where the config has it.
        where: The model, for messages.

    Raises:
        ConfigError: None fits, or several do.
    """
    if wanted is not None and wanted not in found:
        raise ConfigError(
            f"{where} has no output '{wanted}', it has {_listed(found)}", hint="set model.output to one of these"
        )
    fits = [name for name, value in found.items() if _fits(value, images, len(labels)) and wanted in (None, name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise ConfigError(
            f"{where} has {len(fits)} outputs with {len(labels)} numbers an image: {_listed(found)}",
            hint=f'name the one of the classes: --set model.output="{fits[0]}"',
        )
    shown = _listed(found if wanted is None else {wanted: found[wanted]})
    raise ConfigError(
        f"{where} gives {shown}, expected {len(labels)} numbers an image, one for each of: {_shortened(labels)}",
        hint=_hint(found, images, len(labels)),
    )


def _fits(value: np.ndarray, images: int, classes: int) -> bool:
    """Whether there is a number for each class, or one for two classes."""
    size = value.size // images if images else 0
    plain = value.ndim >= 1 and value.size == images * size and value.dtype.kind in ("f" if size == 1 else "fiu")
    flat = value.ndim == 1 or sum(side != 1 for side in value.shape[1:]) <= 1
    return plain and flat and (size == classes or (size == 1 and classes == 2))


def _listed(found: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"'{name}' {value.dtype} {list(value.shape[1:])}" for name, value in found.items())


def _shortened(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")


def _hint(found: Mapping[str, np.ndarray], images: int, classes: int) -> str:
    rows = [value for value in found.values() if value.dtype.kind == "f"]
    sizes = {value.size // images for value in rows if sum(side != 1 for side in value.shape[1:]) <= 1}
    if rows and not sizes:
        return "edgec takes classifiers of whole images: these are boxes, maps or features, as of a detector"
    if classes + 1 in sizes:
        return "one number more than classes: put the class that comes with it, such as 'background', into model.labels"
    if not sizes:
        return "it tells classes and no scores: export it with the scores as an output"
    return "set model.labels to the names of its outputs, in their order, and give images of these classes"
