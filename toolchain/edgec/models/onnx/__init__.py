"""Teachers that come as ONNX files: read whole, brought to the one form that the pipeline knows, held against the file.

`load` has the flow, a module each has a step. The form: one input, float32 [batch, channels, height, width]; one
output, logits, float32 [batch, classes]; nothing outside of the file; an opset that the target reads.
"""

from __future__ import annotations

__all__: list[str] = []
