"""The stage `calibrate`: OOD labels by eq. 4 or by the graph itself, and ranges that another build has read."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.calibrate import Ranges, Recipe
from edgec.core.digest import digest_image
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.core.target import load_target
from edgec.pipeline.stages.calibrate import RANGES
from edgec.pipeline.stages.calibrate import run as calibrate
from edgec.pipeline.stages.data import Prepared
from edgec.pipeline.stages.export import FP32
from edgec.runtime import Session

SPEC = InputSpec(height=4, width=4, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
CLASSES = ("red", "green", "blue")


@pytest.fixture
def graph(tmp_path):
    """A classifier that names the strongest colour: a 1x1 convolution, and the mean of each channel."""
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32)[:, :, None, None], "w")
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], name="conv"),
        helper.make_node("GlobalAveragePool", ["conv"], ["pooled"], name="pooled"),
        helper.make_node("Flatten", ["pooled"], ["logits"], name="flat"),
    ]
    inputs = [value("input", TensorProto.FLOAT, ["batch", 3, 4, 4])]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", 3])]
    model = helper.make_graph(nodes, "colours", inputs, outputs, [weight])
    path = tmp_path / FP32
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def coloured(colours, seed):
    pixels = np.random.default_rng(seed).integers(0, 100, (len(colours), 4, 4, 3), dtype=np.uint8)
    pixels[np.arange(len(colours)), ..., colours] += 150
    return pixels


def prepared():
    labels, seen = np.repeat([0, 1, 2], [4, 2, 1]), np.repeat([0, 2], [9, 3])
    few, ood = coloured(labels, 0), coloured(seen, 1)
    samples = Samples(pixels=few, digests=tuple(map(digest_image, few)), source="few", labels=labels, classes=CLASSES)
    images = Images(pixels=ood, digests=tuple(map(digest_image, ood)), source="ood")
    return Prepared(few=samples, unlabelled=None, ood=images, calibration=samples)


class Counting(Silent):
    """Counts the batches that are observed."""

    def __init__(self):
        self.seen = 0

    def track(self, items, *, total, what, unit="it"):
        for item in items:
            self.seen += 1
            yield item


def sources(*, target="x86-vnni", **fields):
    recipe = Recipe(**{"name": "x", "title": "X", "observer": "minmax", "ood_share": 1.0} | fields)
    config = SimpleNamespace(seed=0, export=SimpleNamespace(preprocess_in_graph=False))
    plan = SimpleNamespace(
        as_given=False, calibration=recipe, target=load_target(target), config=config, model=SimpleNamespace(input=SPEC)
    )
    return SimpleNamespace(plan=plan, raw=False, session=lambda path: Session(path, SPEC), progress=Counting())


def test_teacher_labels_are_what_the_graph_sees(graph, tmp_path):
    facts = calibrate(sources(ood_labels="teacher"), tmp_path, images=prepared(), model=graph)
    assert facts.ood_per_class == {"red": 9, "green": 0, "blue": 3}
    assert facts.ood_labels == "teacher"


def test_eq4_labels_favour_the_rare_classes(graph, tmp_path):
    facts = calibrate(sources(), tmp_path, images=prepared(), model=graph)
    assert facts.ood_per_class["red"] < facts.ood_per_class["blue"]


def test_ranges_are_read_once_for_targets_of_one_scheme(graph, tmp_path):
    written = []
    builds = [sources(target=target) for target in ("jetson-orin-nano-8gb", "jetson-agx-orin-64gb", "x86-vnni")]
    for number, build in enumerate(builds):
        folder = tmp_path / str(number)
        folder.mkdir()
        calibrate(build, folder, images=prepared(), model=graph, cache=tmp_path / "ranges")
        written.append(Ranges.from_json((folder / RANGES).read_text()))
    assert [build.progress.seen for build in builds] == [2, 0, 2]
    assert written[0] == written[1]


def test_facts_do_not_tell_whether_ranges_were_there(graph, tmp_path):
    first, second = (
        calibrate(sources(), tmp_path, images=prepared(), model=graph, cache=tmp_path / "ranges") for _ in range(2)
    )
    assert first == second
