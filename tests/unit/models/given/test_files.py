"""ONNX files in the dialects of exporters: each is brought into one form that gives the file's own classes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.core.errors import ConfigError, EdgecError, UnsupportedError
from edgec.core.inputs import InputSpec, normalise
from edgec.graph.preparing import prepare
from edgec.models.config import ModelConfig, Opsets
from edgec.models.onnx.given import run_all
from edgec.models.onnx.load import OnnxModel, load_onnx
from edgec.runtime.session import softmax

sys.path.append(str(Path(__file__).parents[4] / "benchmarks"))
onnx_files = import_module("onnx_files")
FILES, REFUSED, NODE = onnx_files.FILES, onnx_files.REFUSED, onnx_files.NODE
PIXELS, LABELS = onnx_files.images(24, 6)
SPEC = InputSpec(height=onnx_files.SIZE, width=onnx_files.SIZE, mean=onnx_files.MEAN, std=onnx_files.STD)
CPU, JETSON = Opsets(13, 20), Opsets(18, 18)
Load = Callable[..., OnnxModel]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a model, or a path of one, for a target's opsets."""

    def loaded(
        given: onnx.ModelProto | Path,
        *,
        classes: int = 3,
        output: str | None = None,
        opsets: Opsets = CPU,
        spec: InputSpec = SPEC,
    ) -> OnnxModel:
        path = given if isinstance(given, Path) else onnx_files.saved(given, tmp_path)
        config = ModelConfig(name=str(path), input=spec, output=output)
        return load_onnx(config, onnx_files.CLASSES[:classes], opsets=opsets)

    return loaded


def logits_of(model: OnnxModel, pixels: np.ndarray) -> np.ndarray:
    """What the normalised graph gives, one image after the other where its batch is fixed."""
    taken = pixels.transpose(0, 3, 1, 2).astype(np.float32) if model.raw else normalise(pixels, model.input)
    batch = model.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
    return run_all(model.proto, taken, batch=batch)["logits"]


def files() -> list:
    """Every dialect; scikit-learn's where skl2onnx is installed."""
    absent = pytest.mark.skipif(find_spec("skl2onnx") is None, reason="skl2onnx is not installed")
    return [pytest.param(name, marks=[absent] if "scikit-learn" in name else []) for name in FILES]


def spec_of(name: str) -> InputSpec:
    pixels = FILES[name].settings[:1] == onnx_files._PIXELS
    return InputSpec(height=16, width=16, mean=(0, 0, 0), std=(1, 1, 1)) if pixels else SPEC


@pytest.mark.parametrize("opsets", [CPU, JETSON], ids=["cpu", "jetson"])
@pytest.mark.parametrize("name", files())
def test_a_dialect_gives_its_own_classes_in_the_form_of_the_pipeline(
    name: str, opsets: Opsets, load: Load, tmp_path: Path
) -> None:
    file = FILES[name]
    output = "z" if any("model.output" in setting for setting in file.settings) else None
    model = load(file.make(tmp_path), classes=file.classes, output=output, opsets=opsets, spec=spec_of(name))
    taken, given = model.proto.graph.input[0], model.proto.graph.output[0]
    assert (taken.name, given.name) == ("input", "logits")
    assert [dim.dim_value for dim in taken.type.tensor_type.shape.dim][1:] == [3, 16, 16]
    assert taken.type.tensor_type.elem_type == given.type.tensor_type.elem_type == TensorProto.FLOAT
    assert opsets.least <= model.proto.opset_import[0].version <= (opsets.most or 99)
    assert len({node.name for node in model.proto.graph.node}) == len(model.proto.graph.node)
    found = logits_of(model, PIXELS)
    assert found.shape == (len(PIXELS), file.classes)
    run = model.given.classes_by_reference if "float" in name else model.given.classes
    wrong = (found.argmax(axis=1) != run(PIXELS)).sum()
    assert wrong <= (1 if name == "bfloat16" else 0)  # with 8 bits of mantissa one image is as good as undecided
    if file.classes == 3 and "torch" not in name:
        assert (found.argmax(axis=1) == LABELS).mean() > 0.9  # the net knows these images: no step may lose that
    if "lowered" not in file.told or opsets is JETSON:
        assert file.told in "; ".join(model.told) or (opsets is CPU and "raised" in file.told)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_model_is_refused_in_words_with_a_way_out(name: str, load: Load, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    with pytest.raises(EdgecError) as caught:
        load(make(tmp_path))
    assert re.search(words, str(caught.value))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "newer onnxruntime" not in caught.value.hint


@pytest.mark.parametrize("name", ["Softmax", "Softmax written out", "LogSoftmax", "Softmax over [n, K, 1, 1]"])
def test_probabilities_are_those_of_the_file(name: str, load: Load, tmp_path: Path) -> None:
    model = load(FILES[name].make(tmp_path))
    plain = logits_of(load(onnx_files.net()), PIXELS)
    np.testing.assert_allclose(softmax(logits_of(model, PIXELS)), softmax(plain), atol=1e-5)
    assert not {"Softmax", "LogSoftmax", "Exp"} & {node.op_type for node in model.proto.graph.node}


def test_the_log_of_probabilities_of_unknown_making_gives_these_again(load: Load) -> None:
    """An end that no rule knows, of which the rows sum to 1: half a softmax and half a constant."""
    tail = [NODE("Softmax", ["z"], ["p"]), NODE("Mul", ["p", "half"], ["h"]), NODE("Add", ["h", "sixth"], ["y"])]
    constants = {"half": np.array(0.5, np.float32), "sixth": np.full(3, 1 / 6, np.float32)}
    model = load(onnx_files._ending(*tail, constants=constants))
    wanted = softmax(logits_of(load(onnx_files.net()), PIXELS)) / 2 + 1 / 6
    assert "logs of its probabilities" in "; ".join(model.told)
    np.testing.assert_allclose(softmax(logits_of(model, PIXELS)), wanted, atol=1e-5)


def test_one_sigmoid_is_the_second_of_two_classes(load: Load, tmp_path: Path) -> None:
    model = load(FILES["two classes, one Sigmoid"].make(tmp_path), classes=2)
    scores = softmax(logits_of(model, PIXELS))
    raw = logits_of(load(onnx_files._two_classes(sigmoid=False), classes=2), PIXELS)
    np.testing.assert_allclose(scores[:, 1], 1 / (1 + np.exp(raw[:, 0] - raw[:, 1])), atol=1e-6)


@pytest.mark.parametrize("name", ["Keras, channels last", "Keras, pixels as uint8"])
def test_transpositions_of_channels_last_are_gone_when_it_is_quantised(name: str, load: Load, tmp_path: Path) -> None:
    model = load(FILES[name].make(tmp_path), spec=spec_of(name))
    prepared = prepare(onnx_files.saved(model.proto, tmp_path))
    assert [node.op_type for node in prepared.graph.node].count("Transpose") == 0


def test_a_gemm_has_a_flat_bias_and_no_factors(load: Load, tmp_path: Path) -> None:
    model = load(FILES["Gemm, alpha and beta"].make(tmp_path))
    (gemm,) = (node for node in model.proto.graph.node if node.op_type == "Gemm")
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.proto.graph.initializer}
    assert held[gemm.input[2]].shape == (3,)
    assert {attribute.name for attribute in gemm.attribute} == {"transB"}


@pytest.mark.parametrize("names", [{"r1": "input", "flat": "logits"}, {"x": "input", "y": "logits"}, {"y": "input"}])
def test_names_of_the_pipelines_own_may_be_taken_in_the_file(names: dict[str, str], load: Load) -> None:
    given = onnx_files.net()
    for node in given.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*given.graph.input, *given.graph.output):
        value.name = names.get(value.name, value.name)
    model = load(given)
    np.testing.assert_array_equal(logits_of(model, PIXELS).argmax(axis=1), model.given.classes(PIXELS))


def test_outputs_of_which_several_fit_are_listed(load: Load) -> None:
    outputs = [onnx_files.logits(), onnx_files.logits(name="z")]
    given = onnx_files._ending(NODE("Softmax", ["z"], ["y"]), outputs=outputs)
    with pytest.raises(ConfigError, match="has 2 outputs with 3 numbers an image: 'y' float32") as caught:
        load(given)
    assert caught.value.hint == 'name the one of the classes: --set model.output="y"'
    with pytest.raises(ConfigError, match="has no output 'logit', it has 'y' float32"):
        load(given, output="logit")


def test_a_batch_that_cannot_be_opened_is_refused_and_of_one_image_kept(load: Load) -> None:
    """A constant with a row for each image of the batch."""

    def fixed(batch: int) -> onnx.ModelProto:
        constants = {**onnx_files.weights(), "rows": np.arange(3 * batch, dtype=np.float32).reshape(batch, 3)}
        nodes = [*onnx_files.body(), *onnx_files.head("z"), NODE("Concat", ["z", "rows"], ["both"], axis=0)]
        nodes += [NODE("Slice", ["both", "from", "to"], ["y"])]
        constants |= {"from": np.array([0]), "to": np.array([batch])}
        return onnx_files.model(nodes, constants, taken=(batch, 3, 16, 16), outputs=["y"])

    with pytest.raises(UnsupportedError, match="made for batches of 4 images alone, expected 1 or any number"):
        load(fixed(4))
    kept = load(fixed(1))
    assert "its batch stays fixed to 1" in kept.told
    assert kept.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1


def test_a_size_that_does_not_fit_an_open_one_says_where_to_set_it(load: Load) -> None:
    """Its last layer was made for features of images of 16x16."""
    nodes = [*onnx_files.body()[:-1], NODE("Flatten", ["r2"], ["flat"]), NODE("MatMul", ["flat", "w"], ["y"])]
    held = {**onnx_files.weights(), "w": np.ones((16 * 64, 3), np.float32)}
    given = onnx_files.model(nodes, held, taken=("n", 3, None, None), outputs=["y"])
    assert load(given).told[0] == "open image sizes set to 16x16"
    with pytest.raises(UnsupportedError) as caught:
        load(given, spec=InputSpec(height=24, width=24))
    assert caught.value.hint == "set model.input to the size that it was trained with, if that is not 24x24"


def test_another_size_is_answered_with_the_setting(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load(onnx_files.net(taken=("n", 32, 32, 3)))
    assert str(caught.value.hint).startswith('--set "model.input={height=32,width=32,channels=3}"')


def test_a_grey_image_may_come_without_an_axis_for_its_channel(load: Load) -> None:
    held = {"w": np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)}
    given = onnx_files.model(
        [NODE("Flatten", ["x"], ["flat"]), NODE("MatMul", ["flat", "w"], ["y"])], held, taken=("n", 16, 16)
    )
    model = load(given, spec=InputSpec(height=16, width=16, channels=1, mean=(0,), std=(1,)))
    grey = PIXELS[..., :1]
    np.testing.assert_allclose(logits_of(model, grey), (grey / 255).reshape(len(grey), -1) @ held["w"], rtol=1e-4)


def test_weights_behind_a_link_of_a_model_store_are_read(load: Load, tmp_path: Path) -> None:
    """As Hugging Face's cache has them: both names are links into one folder of blobs."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    made = FILES["external data, one file"].make(tmp_path / "blobs")
    for path in (made, made.with_name("model.onnx.data")):
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert load(tmp_path / "snapshot" / "model.onnx").told[0] == "weights read from model.onnx.data"


def test_weights_behind_a_link_to_elsewhere_are_refused(load: Load, tmp_path: Path) -> None:
    made = FILES["external data, one file"].make(tmp_path)
    (tmp_path.parent / "secret").write_bytes(bytes(1 << 16))
    made.with_name("model.onnx.data").unlink()
    made.with_name("model.onnx.data").symlink_to(tmp_path.parent / "secret")
    with pytest.raises(EdgecError, match=r"'model\.onnx\.data', outside of its folder"):
        load(made)


def test_data_that_is_a_pointer_or_cut_short_is_told(load: Load, tmp_path: Path) -> None:
    made = FILES["external data, one file"].make(tmp_path)
    data = made.with_name("model.onnx.data")
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(EdgecError, match="with its weights is cut short"):
        load(made)
    data.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(EdgecError, match="Git LFS pointer") as caught:
        load(made)
    assert caught.value.hint == "fetch it: git lfs pull"


def test_inputs_of_constants_alone_are_named(load: Load) -> None:
    with pytest.raises(ConfigError, match="takes string"):
        load(onnx_files.net(kind=TensorProto.STRING))
    made = onnx_files.net()
    made.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ConfigError, match=r"2 inputs \('x', 'mask'\), expected one, of images"):
        load(made)
