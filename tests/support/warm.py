"""torch's exporter, warm: the digits' teacher is tried and written at import, for processes that others are forked from.

What the exporter makes at its first calls takes as long as all that a small build does else.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.target import load_target
from edgec.export import onnx
from edgec.models.digits import digits_net
from edgec.models.weights import read_weights
from edgec.pipeline.embedded import EMBEDDED
from support.brief import brief_measuring, export_once

_threads = torch.get_num_threads()
torch.set_num_threads(1)  # no process may be forked from one whose threads have run
_opset = load_target("jetson").runtime.opset
_module = digits_net().eval()
_module.load_state_dict(read_weights(Path(EMBEDDED["model"]["weights"])))
_teacher = Classifier(module=_module, input=InputSpec(**EMBEDDED["model"]["input"]), labels=tuple(map(str, range(10))))
with tempfile.TemporaryDirectory() as _folder, brief_measuring():
    onnx.require_exportable(_teacher, opset=_opset)
    export_once(onnx.export_onnx, _teacher, Path(_folder) / "teacher.onnx", opset=_opset, preprocess_in_graph=False)
torch.set_num_threads(_threads)
