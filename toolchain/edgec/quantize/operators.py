"""ONNX operators in torch: those of classifiers that onnxruntime has folded, so that a graph can be differentiated.

Each function takes an operator's inputs in order and its attributes by name.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgec.core.errors import UnsupportedError

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto

__all__ = ["operator_of", "torch_pads"]

_DTYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
"""onnx.TensorProto's numbers."""


def operator_of(node: NodeProto) -> Callable[..., Any]:
    """What a node computes, from its inputs in order; None stands for one that is left out.

    Raises:
        UnsupportedError: An operator, or an attribute of one, that is not here.
    """
    import onnx

    compute = _OPERATORS.get(node.op_type)
    known = inspect.signature(compute).parameters if compute else {}
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if not _says_nothing(node, a)}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in given.items()}
    strange = [name for name in attributes if name not in known]
    if compute is None or strange:
        form = f" with {strange[0]} = {attributes[strange[0]]}" if compute else ""
        raise UnsupportedError(
            f"node '{node.name}': {node.op_type}{form} cannot be run in torch, expected an operator among "
            f"{', '.join(_OPERATORS)}",
            hint="leave out what refines the quantised model: keep [quantize] as it is by default",
        )
    return partial(compute, **attributes)


def _says_nothing(node: NodeProto, attribute: AttributeProto) -> bool:
    """Whether an attribute has the value that it has where it is not given, or repeats a weight's shape."""
    import onnx

    value = onnx.helper.get_attribute_value(attribute)
    known = onnx.defs.get_schema(node.op_type).attributes.get(attribute.name)
    if node.op_type == "Conv" and attribute.name == "kernel_shape":
        return True
    if known is None or known.default_value.type == onnx.AttributeProto.UNDEFINED:
        return False
    return onnx.helper.get_attribute_value(known.default_value) == value


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    strides: list[int] | None = None,
    pads: list[int] | None = None,
    dilations: list[int] | None = None,
    group: int = 1,
) -> Tensor:
    dims = weight.ndim - 2
    x, padding = _padded(x, pads, dims)
    ones = [1] * dims
    convolve = F.conv2d if dims == 2 else F.conv1d
    return convolve(x, weight, bias, strides or ones, padding, dilations or ones, group)


def _padded(x: Tensor, pads: list[int] | None, dims: int, *, value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The input, padded where its two ends differ, and the padding that is left for the operator."""
    pads = pads or [0] * 2 * dims
    begins, ends = list(pads[:dims]), list(pads[dims:])
    if begins == ends:
        return x, begins
    return F.pad(x, torch_pads(begins, ends), value=value), [0] * dims


def torch_pads(begins: list[int], ends: list[int]) -> list[int]:
    """ONNX counts from the first axis and has all beginnings first, torch from the last one, in pairs."""
    return [pad for pair in zip(reversed(begins), reversed(ends), strict=True) for pad in pair]


def _gemm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803  ONNX' names
    transB: int = 0,  # noqa: N803
) -> Tensor:
    product = alpha * ((x.T if transA else x) @ (weight.T if transB else weight))
    return product if bias is None else product + beta * bias


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def _max_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    strides: list[int] | int = 1,
    pads: list[int] | None = None,
    dilations: list[int] | int = 1,
    ceil_mode: int = 0,
) -> Tensor:
    x, padding = _padded(x, pads, 2, value=-math.inf)
    return F.max_pool2d(x, kernel_shape, strides, padding, dilations, bool(ceil_mode))


def _average_pool(
    x: Tensor,
    *,
    kernel_shape: list[int],
    strides: list[int] | int = 1,
    pads: list[int] | None = None,
    ceil_mode: int = 0,
    count_include_pad: int = 0,
) -> Tensor:
    x, padding = _padded(x, pads, 2)
    return F.avg_pool2d(x, kernel_shape, strides, padding, bool(ceil_mode), bool(count_include_pad))


def _global_average_pool(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _reduce_mean(x: Tensor, axes: Tensor | list[int] | None = None, *, keepdims: int = 1) -> Tensor:
    return x.mean(_numbers(axes) or tuple(range(x.ndim)), keepdim=bool(keepdims))


def _numbers(values: Tensor | list[int] | None) -> list[int]:
    """Sizes or axes, which are an attribute in old operator sets and an input in new ones."""
    return values.tolist() if isinstance(values, Tensor) else list(values or ())


def _reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(shape.tolist())])


def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    return x.permute(perm or list(range(x.ndim))[::-1])


def _squeeze(x: Tensor, axes: Tensor | list[int] | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(_numbers(axes))


def _unsqueeze(x: Tensor, axes: Tensor | list[int]) -> Tensor:
    numbers = _numbers(axes)
    for axis in sorted(number % (x.ndim + len(numbers)) for number in numbers):
        x = x.unsqueeze(axis)
    return x


def _split(
    x: Tensor, split: Tensor | list[int] | None = None, *, axis: int = 0, num_outputs: int = 1
) -> tuple[Tensor, ...]:
    return x.split(_numbers(split) or math.ceil(x.shape[axis] / num_outputs), axis)


def _slice(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    numbers = _numbers(axes) or range(len(starts))
    for start, end, axis, step in zip(
        starts.tolist(), ends.tolist(), numbers, _numbers(steps) or [1] * len(starts), strict=True
    ):
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
    return x


def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis = axis % x.ndim
    picked = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return picked.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _pad(x: Tensor, pads: Tensor, value: Tensor | None = None, *, mode: str = "constant") -> Tensor:
    numbers = torch_pads(pads.tolist()[: x.ndim], pads.tolist()[x.ndim :])
    if mode == "constant":
        return F.pad(x, numbers, value=0.0 if value is None else value.item())
    # Batch and channels are never padded with what is beside them.
    return F.pad(x, numbers[: 2 * (x.ndim - 2)], mode="replicate" if mode == "edge" else mode)


def _layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1, epsilon: float = 1e-5
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def _batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _range(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


def _cast(x: Tensor, *, to: int) -> Tensor:
    return x.to(_DTYPES[to])


def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], device=x.device)


def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return x.softmax(axis)


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def _hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def _leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


def _bare(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator without attributes."""

    def operator(*inputs: Tensor) -> Tensor:
        return compute(*inputs)

    return operator


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Abs": _bare(torch.abs),
    "Add": _bare(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": _bare(torch.div),
    "Erf": _bare(torch.erf),
    "Exp": _bare(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _bare(F.hardswish),
    "Identity": _bare(torch.clone),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "LeakyRelu": _leaky_relu,
    "MatMul": _bare(torch.matmul),
    "Max": _bare(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _bare(torch.minimum),
    "Mul": _bare(torch.mul),
    "Neg": _bare(torch.neg),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _bare(torch.pow),
    "Range": _range,
    "Reciprocal": _bare(torch.reciprocal),
    "ReduceMean": _reduce_mean,
    "Relu": _bare(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _bare(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _bare(F.softplus),
    "Split": _split,
    "Sqrt": _bare(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _bare(torch.sub),
    "Tanh": _bare(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _bare(torch.where),
}
