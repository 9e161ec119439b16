"""torch's ONNX exporter, whose lists of operators are made once a process: they take half of the time of a small export.

Imported for that alone, also by processes that others are forked from.
"""

from __future__ import annotations

import functools
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own packages, as edgec does where it exports
    import torch._export.utils
    import torchvision  # noqa: F401 - its operators are among those that are listed
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
    ONNXRegistry.from_torchlib(opset_version=18)
    torch._export.utils._materialize_cpp_cia_ops = functools.cache(torch._export.utils._materialize_cpp_cia_ops)
