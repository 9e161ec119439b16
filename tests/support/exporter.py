"""torch's ONNX exporter, whose list of operators is made once a process: it takes half of the time of a small export.

Imported for that alone, also by processes that others are forked from.
"""

from __future__ import annotations

import functools
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own packages, as edgec does where it exports
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    ONNXRegistry.from_torchlib(opset_version=18)
