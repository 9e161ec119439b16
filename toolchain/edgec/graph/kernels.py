"""Operators by what onnxruntime's CPU provider does with them: which ones it computes in integers.

As its QDQ rewriter has them (onnxruntime/core/optimizer/qdq_transformer, QDQSelectorActionTransformer).
"""

from __future__ import annotations

__all__ = ["CLAMPS", "ELEMENTWISE", "INTEGER", "MOVERS", "POOLS"]

CLAMPS = frozenset({"Clip", "Relu"})
"""Become part of the rounding behind them."""
ELEMENTWISE = frozenset({"Add", "Mul"})
POOLS = frozenset({"AveragePool", "MaxPool"})
_MOVERS_OF_BYTES = frozenset({"Pad", "Slice", "Split", "Transpose"})
_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
MOVERS = POOLS | _MOVERS_OF_BYTES | _VIEWS
"""Their outputs hold no value outside the range of their input, and onnxruntime gives both the same scale."""
INTEGER = (
    frozenset({"Concat", "Conv", "Gemm", "GlobalAveragePool", "LeakyRelu", "MatMul", "Resize", "Sigmoid", "Softmax"})
    | ELEMENTWISE
    | POOLS
    | _MOVERS_OF_BYTES
)
"""Have kernels for integers. There is none of ConvTranspose."""
