"""What an ONNX file says of itself."""

from __future__ import annotations

import json

from edgec.core.inputs import InputSpec
from edgec.export.metadata import metadata_of


def test_every_setting_of_the_input_and_the_labels_can_be_read_back() -> None:
    spec = InputSpec(height=4, width=5, resize="squash", channel_order="bgr")
    told = metadata_of(spec, ["Käse", "cat"], preprocessing_in_graph=True)
    read = {name.removeprefix("edgec."): json.loads(value) for name, value in told.items()}
    assert read.pop("labels") == ["Käse", "cat"]
    assert read.pop("preprocessing_in_graph") is True
    assert InputSpec.model_validate(read) == spec
