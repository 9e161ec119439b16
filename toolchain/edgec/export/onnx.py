"""A classifier as an ONNX file: dynamic batch, the target's opset, nothing of the machine that wrote it."""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import torch
import torch.nn.attention
from torch import nn

from edgec.core.classifier import Classifier
from edgec.core.errors import UnsupportedError
from edgec.core.files import write_bytes
from edgec.core.inputs import InputSpec
from edgec.graph.opset import to_opset
from edgec.graph.view import WEIGHTED

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "export_onnx", "require_exportable"]

INPUT_NAME = "input"
OUTPUT_NAME = "logits"
DYNAMO_OPSET = 18
"""The lowest opset that the exporter writes by itself; lower ones are converted."""


def export_onnx(classifier: Classifier, output: Path, *, opset: int, preprocess_in_graph: bool = False) -> None:
    """Writes the classifier as `input` float32 [batch, channels, height, width] to `logits` [batch, classes].

    Args:
        classifier: Left as it is.
        output: The file, which appears whole or not at all.
        opset: ONNX operator set.
        preprocess_in_graph: The graph takes pixels from 0 to 255 and scales and normalises them itself; else it
            takes normalised pixels (`core.inputs.normalise`).

    Raises:
        UnsupportedError: The exporter or the conversion to the opset fails.
    """
    module = _for_export(classifier.module)
    if preprocess_in_graph:
        module = Preprocessed(module, classifier.input)
    example = torch.zeros(2, *classifier.input.shape)
    with _quiet(), _plain_attention():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=max(opset, DYNAMO_OPSET),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise UnsupportedError(
                f"the exporter cannot write this model: {_first_line(error.__cause__ or error)}",
                hint="see which operation torch.export refuses, or give the model as an .onnx file",
            ) from error
    model = program.model_proto if program is not None else onnx.ModelProto()
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UnsupportedError(
            "the exporter cannot write this model for batches of any size: its code depends on their size",
            hint="write the model without loops over the batch and without a batch size in its shapes",
        )
    _name_by_modules_(model.graph)
    _anonymise_(model)
    write_bytes(output, to_opset(model, opset).SerializeToString(deterministic=True))


def require_exportable(classifier: Classifier, *, opset: int) -> None:
    """Tries torch's export, which takes seconds; the whole of ours where that fails. Nothing is left on disk.

    Raises:
        UnsupportedError: The module cannot be exported; a branch on the images' values is named.
    """
    module = _for_export(classifier.module)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    try:
        with _quiet(), _plain_attention():
            torch.export.export(module, (torch.zeros(2, *classifier.input.shape),), dynamic_shapes=shapes)
    except (RuntimeError, ValueError, TypeError, AssertionError, LookupError, AttributeError) as error:
        with tempfile.TemporaryDirectory() as folder:
            try:
                export_onnx(classifier, Path(folder) / "tried.onnx", opset=opset)
            except UnsupportedError as refusal:
                raise _branch_named(error, refusal) from error


def _for_export(module: nn.Module) -> nn.Module:
    """A copy whose activations are written to new tensors: those are traced faster than what is done in place."""
    copied = copy.deepcopy(module).cpu().eval()
    for layer in copied.modules():
        if getattr(layer, "inplace", False) is True:
            layer.inplace = False  # pyright: ignore[reportArgumentType] - of a module, everything is a tensor to it
    return copied


def _plain_attention() -> AbstractContextManager[object]:
    """Attention as products and a softmax, which the graph has in any case.

    torch's fused kernel lays its output out otherwise: views of that which the model takes do not fit the graph's.
    """
    return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)


def _branch_named(error: BaseException, refusal: UnsupportedError) -> UnsupportedError:
    """The refusal, with the line of the model's code where its way depends on the images' values."""
    if "data-dependent" not in str(error):
        return refusal
    home = str(Path(torch.__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(home)]
    where = (
        f"{Path(frames[-1].filename).name}:{frames[-1].lineno} `{frames[-1].line}`" if len(frames) > 1 else "a branch"
    )
    return UnsupportedError(
        f"the model cannot be exported: what it computes depends on the values of the images, at {where}",
        hint="write the branch with torch.where, or give the model as an .onnx file",
    )


class Preprocessed(nn.Module):
    """A module behind the normalisation of pixels from 0 to 255."""

    def __init__(self, module: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("scale", torch.tensor(spec.scale, dtype=torch.float32)[:, None, None])
        self.register_buffer("shift", torch.tensor(spec.shift, dtype=torch.float32)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.module(pixels * self.get_buffer("scale") + self.get_buffer("shift"))


def _name_by_modules_(graph: onnx.GraphProto) -> None:
    """Gives a layer the name of its module, which its weight has too: people find in their code what reports name."""
    taken = {node.name for node in graph.node}
    for node in graph.node:
        weight = node.input[1] if node.op_type in WEIGHTED and len(node.input) > 1 else ""
        name = weight.removesuffix(".weight").removeprefix("module.")
        if weight.endswith(".weight") and name not in taken:
            node.name = name
            taken.add(name)


def _anonymise_(model: onnx.ModelProto) -> None:
    """Removes stack traces and paths that the exporter leaves in the graph."""
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    del model.functions[:]


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of its own inner workings in warnings, log lines and prints that no user can act on."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
