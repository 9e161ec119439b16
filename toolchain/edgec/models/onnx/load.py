"""From an ONNX file as exporters write it to the one form that the pipeline knows; what was done is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from edgec.core.errors import EdgecError, UnsupportedError
from edgec.core.inputs import InputSpec, normalise
from edgec.graph.opset import opset_of, raised, to_opset
from edgec.models.config import ModelConfig, Opsets
from edgec.models.onnx.batch import with_free_batch
from edgec.models.onnx.classic import plain_operators_
from edgec.models.onnx.floats import to_float32_
from edgec.models.onnx.given import Given, run_all
from edgec.models.onnx.heads import OUTPUT, give_logits_
from edgec.models.onnx.layout import ANOTHER_INPUT, INPUT, Layout, layout_of, take_images_
from edgec.models.onnx.outputs import choose_output, show_scores_
from edgec.models.onnx.read import read_model
from edgec.models.onnx.tidy import name_nodes_, prune_, spell_out_products_, tidied

__all__ = ["OnnxModel", "load_onnx"]

ANY = Opsets()
_OF_SIZES = ("imension", "hape")
"""In what onnxruntime says of images of another size than a graph was made for."""
_IMAGES = 3
"""Made-up images that show what the outputs are, where the file takes any number."""


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """An exported teacher: float32 [n, channels, height, width] to logits [n, classes].

    Attributes:
        path: The file.
        proto: The graph in the pipeline's form, which needs no other file.
        input: The images that it takes.
        labels: Class names in the order of the logits.
        raw: Whether it takes pixels from 0 to 255 and normalises them itself.
        told: What was done to the file, a part of a sentence each.
        given: The file as it was.
    """

    path: Path
    proto: ModelProto
    input: InputSpec
    labels: tuple[str, ...]
    raw: bool
    told: tuple[str, ...]
    given: Given


def load_onnx(config: ModelConfig, labels: tuple[str, ...], *, opsets: Opsets = ANY) -> OnnxModel:
    """The exported teacher in the pipeline's form, checked on made-up images.

    Raises:
        DataError: No such file, not an ONNX model, or weights that are not beside it.
        ConfigError: Other inputs or outputs than a classifier of these images and labels has.
        UnsupportedError: It cannot be brought into that form.
    """
    path, told = Path(config.name), list[str]()
    where = f"model '{path}'"
    read, files = read_model(path)
    if files:
        told.append(f"weights read from {', '.join(files)}")
    _require_known(read, where)
    model = ModelProto()
    model.CopyFrom(read)
    model = tidied(model)
    layout = layout_of(model.graph, config.input, where=where)
    told += filter(None, [layout.told])
    model = _in_float32(model, opsets, told)
    take_images_(model, layout)
    prune_(model.graph)
    name_nodes_(model.graph)
    found, images, batch = _tried(model, layout, where)
    output = choose_output(found, len(images), labels, wanted=config.output, where=where)
    if len(found) > 1:
        told.append(f"output '{output}' taken of {len(found)}")
    head = give_logits_(model.graph, output, found[output], len(labels))
    told += filter(None, [head.told])
    model = _for_batches(model, images, batch, told, where)
    model = _finished(model, opsets, told)
    return OnnxModel(
        path=path,
        proto=model,
        input=config.input,
        labels=labels,
        raw=layout.raw,
        told=tuple(told),
        given=Given(read, layout, INPUT if output == ANOTHER_INPUT else output, head.threshold),
    )


def _require_known(model: ModelProto, where: str) -> None:
    newest, opset = onnx.defs.onnx_opset_version(), opset_of(model)
    if opset > newest:
        raise UnsupportedError(
            f"{where}: opset {opset}, the installed onnx {onnx.__version__} knows up to {newest}",
            hint=f"export it with opset_version={newest} or older, or install a newer onnx",
        )


def _in_float32(model: ModelProto, opsets: Opsets, told: list[str]) -> ModelProto:
    """The model in an opset and in types that the pipeline works on."""
    show_scores_(model.graph)
    if plain_operators_(model.graph):
        told.append("scikit-learn's linear operators written as matrix products")
    before = opset_of(model)
    if before < opsets.least:
        # The converter asks for ranks, of which many exporters write none.
        model = raised(onnx.shape_inference.infer_shapes(model), opsets.least)
        told.append(f"opset {before} raised to {opset_of(model)}")
    types = to_float32_(model)
    if types:
        told.append(f"{' and '.join(types)} to float32")
    return model


def _tried(model: ModelProto, layout: Layout, where: str) -> tuple[dict[str, np.ndarray], np.ndarray, int | None]:
    """What all outputs gave for made-up images, these, and the batch that the graph takes."""
    fixed = layout.batch or 1
    count = 2 * fixed if fixed > 1 else _IMAGES
    images = _made_up(layout, count)
    failure: EdgecError | None = None
    for batch in (layout.batch,) if layout.batch else (None, 1):
        try:
            return run_all(model, images, batch=batch), images, batch
        except EdgecError as error:
            failure = error
    spec, opened = layout.spec, None in layout.shape and any(sign in str(failure) for sign in _OF_SIZES)
    size = f"set model.input to the size that it was trained with, if that is not {spec.height}x{spec.width}"
    raise UnsupportedError(f"{where}: {failure}", hint=size if opened else failure and failure.hint) from failure


def _made_up(layout: Layout, count: int) -> np.ndarray:
    """Images of noise, as the graph takes them."""
    spec = layout.spec
    pixels = np.random.default_rng(0).integers(0, 256, (count, spec.height, spec.width, spec.channels), dtype=np.uint8)
    return pixels.transpose(0, 3, 1, 2).astype(np.float32) if layout.raw else normalise(pixels, spec)


def _for_batches(model: ModelProto, images: np.ndarray, batch: int | None, told: list[str], where: str) -> ModelProto:
    """The model for batches of any size, or of one image where it cannot be had otherwise."""
    if batch is None:
        return model
    fixed = _with_batch(model, batch)

    def run(candidate: ModelProto) -> np.ndarray:
        return np.concatenate([run_all(candidate, part)[OUTPUT] for part in (images[:1], images[1:])])

    opened = with_free_batch(_with_batch(model, None), fixed, run_all(fixed, images, batch=batch)[OUTPUT], run)
    if opened is not None:
        told.append(f"a batch fixed to {batch} opened")
        return opened
    if batch > 1:
        raise UnsupportedError(
            f"{where}: made for batches of {batch} images alone, expected 1 or any number",
            hint="export it with a dynamic batch axis, or for one image",
        )
    told.append("its batch stays fixed to 1")
    return fixed


def _with_batch(model: ModelProto, batch: int | None) -> ModelProto:
    sized = ModelProto()
    sized.CopyFrom(model)
    for value in (*sized.graph.input, *sized.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        first.Clear()
        if batch is None:
            first.dim_param = "batch"
        else:
            first.dim_value = batch
    return sized


def _finished(model: ModelProto, opsets: Opsets, told: list[str]) -> ModelProto:
    """The model in an opset that the target reads, its products in one form, its shapes known."""
    spell_out_products_(model)
    opset = opset_of(model)
    if opsets.most is not None and opset > opsets.most:
        model = to_opset(model, opsets.most)
        told.append(f"opset {opset} lowered to {opset_of(model)}")
    prune_(model.graph)
    name_nodes_(model.graph)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)
