"""What the ONNX parser of each TensorRT takes, and what the accelerator beside the GPU takes, by NVIDIA's documents."""

from __future__ import annotations

__all__ = ["DLA_OPERATORS", "LAST_DLA", "builds_for_dla", "newest_opset", "refused_operators", "version_of"]

LAST_DLA = (10, 7)
"""The last TensorRT of its line that builds for the accelerator, on every device that has one; the next that does is
11.4.1, on Jetson AGX Orin alone (TensorRT 11.4.1's page 'Working with DLA'): a profile has it as `gpu.dla_restored`."""

_NEWEST_OPSETS = {(8, 2): 13, (8, 5): 17, (9, 2): 19, (10, 0): 20, (10, 15): 24}
"""By the first version whose page says so: onnx-tensorrt, docs/operators.md of releases 8.2, 8.5, 9.2, 10.0 and 10.15.
A version between two of them is taken for the older."""

_REFUSED = frozenset(
    {
        *("AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        *("CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "Det"),
        *("DynamicQuantizeLinear", "ImageDecoder", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"),
        *("Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement", "OptionalHasElement"),
        *("QLinearConv", "QLinearMatMul", "RegexFullMatch", "SequenceAt", "SequenceConstruct", "SequenceEmpty"),
        *("SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss"),
        *("SplitToSequence", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer", "Unique"),
    }
)
"""Marked N in docs/operators.md of release 10.15."""

_REFUSED_BEFORE_9 = frozenset(
    {"BlackmanWindow", "HammingWindow", "HannWindow", "Hardmax", "IsInf", "LayerNormalization"}
)
"""Marked N as well in that of release 8.5."""

DLA_OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv", "ConvTranspose"),
        *("DequantizeLinear", "Div", "Flatten", "Gemm", "GlobalAveragePool", "LRN", "LeakyRelu", "MatMul", "Max"),
        *("MaxPool", "Min", "Mul", "PRelu", "Pow", "QuantizeLinear", "ReduceMax", "Relu", "Reshape", "Resize"),
        *("Sigmoid", "Slice", "Softmax", "Sub", "Tanh", "Transpose"),
    }
)
"""ONNX operators behind the layers of NVIDIA's page 'DLA Supported Layers and Restrictions'; types are not layers."""


def version_of(text: str | None) -> tuple[int, int]:
    """Major and minor version; the newest that is known where a profile fixes none."""
    if text is None:
        return max(_NEWEST_OPSETS)
    major, _, rest = text.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def builds_for_dla(version: str | None, restored: str | None) -> bool:
    """Whether a TensorRT builds for the accelerator of a device.

    Args:
        version: TensorRT's; the newest whose parser is known where it is None.
        restored: The first after `LAST_DLA` that does so on this device; None where none is known.
    """
    if version_of(version) <= LAST_DLA:
        return True
    return version is not None and restored is not None and _numbers(version) >= _numbers(restored)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def newest_opset(version: tuple[int, int]) -> int:
    """The newest operator set that this TensorRT parses."""
    return max((opset for first, opset in _NEWEST_OPSETS.items() if first <= version), default=13)


def refused_operators(version: tuple[int, int]) -> frozenset[str]:
    """Operators that the parser of this TensorRT does not know."""
    return _REFUSED | _REFUSED_BEFORE_9 if version < (9, 0) else _REFUSED
