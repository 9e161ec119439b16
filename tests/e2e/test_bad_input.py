"""Bad input, as a table: each is one error line and one hint, the right exit code, and an output left as it was."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import load_file, save_file

from edgec.core.digest import digest_tree
from edgec.pipeline.embedded import WEIGHTS

INPUT = "model.input={height=8,width=8,channels=1,mean=[0.305],std=[0.376]}"
NET = "edgec.models.digits:digits_net"


@dataclass(frozen=True)
class Place:
    """A folder of one's own in which to do damage."""

    folder: Path
    originals: Path
    sound: Path

    @cached_property
    def images(self) -> Path:
        """A copy of the digits as PNG files."""
        return shutil.copytree(self.originals, self.folder / "images")

    @cached_property
    def bundle(self) -> Path:
        """A copy of a sound bundle; its archive stands beside it."""
        shutil.copyfile(self.sound.with_name(f"{self.sound.name}.edgec"), self.folder / "mine.edgec")
        return shutil.copytree(self.sound, self.folder / "mine")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def build(self, *more: object, **replaced: object) -> list[object]:
        """A build of the images, without training; a keyword replaces a flag, None leaves it out."""
        flags: dict[str, object] = {
            "model": NET,
            "weights": WEIGHTS,
            "train": self.images / "train",
            "test": self.images / "test",
            "ood": self.images / "ood",
            "device": "cpu",
        }
        given = [part for name, value in (flags | replaced).items() if value for part in (f"--{name}", value)]
        return ["build", *given, *settings("compress.method=none", INPUT, *more)]

    def embedded(self, *more: object) -> list[object]:
        """A build of the embedded default, without training."""
        return ["build", *settings("compress.method=none", "data.ood_count=40", *more)]

    def npz(self, **arrays: Any) -> list[object]:
        """A build with an `.npz` for training, sound but for these arrays; None leaves one out."""
        sound = {
            "images": np.random.default_rng(1).integers(0, 256, (20, 8, 8), np.uint8),
            "labels": np.arange(20) % 10,
        }
        kept = {name: array for name, array in (sound | arrays).items() if array is not None}
        np.savez(self.folder / "train.npz", **kept)
        return self.build(train=self.folder / "train.npz")

    def weights(self, change: Callable[[dict[str, torch.Tensor]], object]) -> list[object]:
        """A build with changed weights."""
        state = load_file(WEIGHTS)
        change(state)
        save_file(state, self.folder / "w.safetensors")
        return self.build(weights=self.folder / "w.safetensors")


def settings(*names: object) -> list[object]:
    return [part for name in names for part in ("--set", name)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to do the damage, and what is to be said of it."""

    arrange: Callable[[Place], list[object]]
    message: str
    hint: str
    code: int


CASES: list[Case] = []


def case(message: str, hint: str, code: int = 2) -> Callable[[Callable[[Place], list[object]]], None]:
    def add(arrange: Callable[[Place], list[object]]) -> None:
        CASES.append(Case(arrange=arrange, message=message, hint=hint, code=code))

    return add


class Harm:
    """A pickle that would run code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


# ----- images ---------------------------------------------------------------------------------------------------------


@case("train: no such file or folder", "check the path")
def images_are_missing(place: Place) -> list[object]:
    return place.build(train=place.folder / "gone")


@case("train' has no class folders", "into a folder of its name")
def the_folder_is_empty(place: Place) -> list[object]:
    shutil.rmtree(place.images / "train")
    (place.images / "train").mkdir()
    return place.build()


@case("train' has no readable image", "JPEG, PNG, WebP, BMP, TIFF")
def the_class_folders_are_empty(place: Place) -> list[object]:
    for path in (place.images / "train").rglob("*.png"):
        path.unlink()
    return place.build()


@case("is empty (0 bytes)", "take them out")
def some_images_are_empty(place: Place) -> list[object]:
    for number in range(5):
        (place.images / "train" / "3" / f"empty{number}.png").touch()
    return place.build()


@case("is truncated or damaged", "take them out")
def some_images_are_truncated(place: Place) -> list[object]:
    for path in sorted((place.images / "test" / "3").iterdir())[:5]:
        path.write_bytes(path.read_bytes()[:60])
    return place.build()


@case("is not a readable JPEG, PNG, WebP, BMP, TIFF", "take them out")
def some_images_are_text(place: Place) -> list[object]:
    for number in range(5):
        (place.images / "train" / "3" / f"text{number}.jpg").write_text("no image")
    return place.build()


@case("' has no readable image", "JPEG, PNG, WebP, BMP, TIFF")
def all_unlabelled_images_are_text(place: Place) -> list[object]:
    for path in (place.images / "ood").iterdir():
        path.write_text("no image")
    return place.build()


@case("is a file of another kind", "give a folder of images or one of .csv")
def the_images_are_a_text_file(place: Place) -> list[object]:
    return place.build(test=place.write("notes.txt", "no images"))


@case("images of one class only ('3'), expected two classes or more", "add to the train images")
def there_is_one_class(place: Place) -> list[object]:
    for path in (place.images / "train").iterdir():
        if path.name != "3":
            shutil.rmtree(path)
    return place.build("model.labels=" + str(list("0123456789")).replace("'", '"'))


@case("class 'three' is not one of the model's labels", "name the classes as the model's labels are named")
def a_class_has_another_name_in_the_test_images(place: Place) -> list[object]:
    (place.images / "test" / "3").rename(place.images / "test" / "three")
    return place.build()


@case("1 images are in both train images of '", "take them out of one of the two")
def an_image_is_for_training_and_for_testing(place: Place) -> list[object]:
    original = min((place.images / "train" / "3").iterdir())
    Image.open(original).save(place.images / "test" / "3" / "other-name-and-format.bmp")
    return place.build()


@case("are needed for 500 samples at imbalance 100", "ask for fewer samples")
def fewer_images_than_are_to_be_drawn(place: Place) -> list[object]:
    return place.build("data.few={total=500}")


@case("ood: no such file or folder", "check the path")
def unlabelled_images_are_missing(place: Place) -> list[object]:
    return place.build(ood=place.folder / "gone")


@case("'test' is missing: training and test images are given together", "correct the values")
def test_images_are_not_given(place: Place) -> list[object]:
    return place.build(test=None)


@case("model.labels: got 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, the embedded digits are 0, 1, 2", "--train and --test")
def labels_that_the_digits_do_not_have(place: Place) -> list[object]:
    return place.embedded("model.labels=" + str(list("9876543210")).replace("'", '"'))


# ----- arrays ---------------------------------------------------------------------------------------------------------


@case("has no array 'labels'", "save it with np.savez")
def labels_are_missing(place: Place) -> list[object]:
    return place.npz(labels=None)


@case("images are float64, expected uint8", "astype('uint8')")
def images_are_floats(place: Place) -> list[object]:
    return place.npz(images=np.zeros((20, 8, 8)))


@case("images have shape (20, 3, 8, 8), expected", "channels come last")
def channels_come_first(place: Place) -> list[object]:
    return place.npz(images=np.zeros((20, 3, 8, 8), np.uint8))


@case("labels have shape (19,), expected one for each of 20 images", "save it with np.savez")
def a_label_is_missing(place: Place) -> list[object]:
    return place.npz(labels=np.arange(19) % 10)


@case("label 10 of image 10 is out of range, expected 0 to 9", "labels count from 0")
def a_label_is_out_of_range(place: Place) -> list[object]:
    return place.npz(labels=np.arange(20) % 11, names=np.array(list("0123456789")))


@case("holds an array that cannot be read: Object arrays cannot be loaded", "save it with np.savez")
def an_array_holds_code(place: Place) -> list[object]:
    return place.npz(images=np.array([Harm(place.folder / "marker")], dtype=object))


@case("is not an npz archive, or is truncated", "save it with np.savez")
def a_pickle_is_called_npz(place: Place) -> list[object]:
    return place.build(train=place.write("train.npz", pickle.dumps(Harm(place.folder / "marker"))))


@case("is not an npz archive, or is truncated", "save it with np.savez")
def an_archive_is_truncated(place: Place) -> list[object]:
    arguments = place.npz()
    path = place.folder / "train.npz"
    path.write_bytes(path.read_bytes()[:700])
    return arguments


# ----- weights and models ---------------------------------------------------------------------------------------------


@case("weights: no such file or folder", "check the path")
def weights_are_missing(place: Place) -> list[object]:
    return place.build(weights=place.folder / "gone.safetensors")


@case(f"model '{NET}' has no weights", "--weights")
def weights_are_not_given(place: Place) -> list[object]:
    return place.build(weights=None)


@case("empty (0 bytes)", "copy or export it again")
def weights_are_empty(place: Place) -> list[object]:
    return place.build(weights=place.write("w.safetensors", b""))


@case("not a safetensors file", "save it again")
def weights_are_text(place: Place) -> list[object]:
    return place.build(weights=place.write("w.safetensors", "no weights at all, just text"))


@case("a zip archive that is damaged", "copy it again")
def a_checkpoint_is_truncated(place: Place) -> list[object]:
    torch.save(load_file(WEIGHTS), place.folder / "w.pt")
    return place.build(weights=place.write("w.pt", (place.folder / "w.pt").read_bytes()[:2000]))


@case("holds more than tensors (getattr), and edgec runs no code from a file", "torch.save(model.state_dict(), path)")
def a_checkpoint_holds_code(place: Place) -> list[object]:
    torch.save({"weight": Harm(place.folder / "marker")}, place.folder / "w.pt")
    return place.build(weights=place.folder / "w.pt")


@case("tensor 'head.weight' holds NaN or infinity", "train or save it again")
def a_weight_is_nan(place: Place) -> list[object]:
    return place.weights(lambda state: state["head.weight"].view(-1)[5:6].fill_(float("nan")))


@case("'head.weight' is (11, 64), the model expects (10, 64)", "number of classes")
def weights_are_of_another_shape(place: Place) -> list[object]:
    return place.weights(lambda state: state.update({"head.weight": torch.zeros(11, 64)}))


@case("the file lacks 'head.bias'", "check that --model names the architecture")
def a_tensor_is_missing(place: Place) -> list[object]:
    return place.weights(lambda state: state.pop("head.bias"))


@case("does not take images of (3, 8, 8)", "set model.input")
def the_model_takes_other_images(place: Place) -> list[object]:
    return place.build("model.input={height=8,width=8,channels=3}")


@case("gives (2, 10) for two images, expected (2, 11): a logit per label", "check model.labels")
def the_model_has_other_classes(place: Place) -> list[object]:
    for split in ("train", "test"):
        shutil.copytree(place.images / split / "3", place.images / split / "eleventh")
    return place.build()


@case("unknown torchvision model 'resnet81'", "did you mean 'resnet18'?")
def the_architecture_is_unknown(place: Place) -> list[object]:
    return place.build(model="torchvision:resnet81")


@case("no module 'gone'", "run edgec in the folder of the module")
def the_module_is_missing(place: Place) -> list[object]:
    return place.build(model="gone:net")


@case("module 'edgec.models.digits' has no 'gone'", "name a function that makes the module")
def the_factory_is_missing(place: Place) -> list[object]:
    return place.build(model="edgec.models.digits:gone")


@case("cannot import '.relative'", "python -c")
def the_module_is_relative(place: Place) -> list[object]:
    return place.build(model=".relative:net")


@case("unexpected keyword argument 'depth'", "set model.arguments")
def the_factory_takes_other_arguments(place: Place) -> list[object]:
    return place.build("model.arguments={depth=3}")


@case("not a valid ONNX file", "export it again")
def the_graph_is_garbage(place: Place) -> list[object]:
    return place.build(model=place.write("m.onnx", b"garbage" * 9), weights=None)


@case("is empty (0 bytes), expected an ONNX file", "export it again")
def the_graph_is_empty(place: Place) -> list[object]:
    return place.build(model=place.write("m.onnx", b""), weights=None)


@case("takes float [3, 4, 5] an image, expected [1, 8, 8] as model.input says", "model.input={height=4,width=5")
def the_graph_takes_other_images(place: Place) -> list[object]:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["input"], ["logits"], axes=[2, 3], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), place.folder / "m.onnx")
    return place.build(model=place.folder / "m.onnx", weights=None)


# ----- names and settings ---------------------------------------------------------------------------------------------


@case("unknown target 'jetsn'; known: ", "did you mean 'jetson'?")
def the_target_is_unknown(place: Place) -> list[object]:
    return [*place.embedded(), "--target", "jetsn"]


@case("target profile '", "correct the line")
def the_target_is_no_toml(place: Place) -> list[object]:
    return [*place.embedded(), "--target", place.write("t.toml", "name = = 3")]


@case("unknown compression method 'mri'; known: ", "did you mean 'mir'?")
def the_method_is_unknown(place: Place) -> list[object]:
    return place.embedded("compress.method=mri")


@case("[compress.mir]: unknown key 'learning'", "did you mean 'learning_rate'?")
def a_setting_of_the_method_is_unknown(place: Place) -> list[object]:
    return place.embedded("compress.method=mir", "compress.mir.learning=0.1")


@case("unknown key 'compress.step'; known: ", "did you mean 'steps'?")
def a_key_is_unknown(place: Place) -> list[object]:
    return place.embedded("compress.step=3")


@case("field 'compress.steps': got 'many', expected a valid integer", "correct the value")
def a_value_is_of_another_type(place: Place) -> list[object]:
    return place.embedded("compress.steps=many")


@case("unknown calibration recipe 'balancd'; known: ", "did you mean 'balanced'?")
def the_recipe_is_unknown(place: Place) -> list[object]:
    return place.embedded("calibrate.recipe=balancd")


@case("field 'quantize.scheme': got 'int4', expected 'float32'", "correct the value")
def the_scheme_is_unknown(place: Place) -> list[object]:
    return place.embedded("quantize.scheme=int4")


@case("--set steps: expected KEY=VALUE", "as in --set compress.keep_flops=0.4")
def a_setting_has_no_value(place: Place) -> list[object]:
    return place.embedded("steps")


@case("Invalid value for '--device': 'tpu' is not one of", "edgec build --help")
def a_flag_has_another_value(place: Place) -> list[object]:
    return [*place.embedded(), "--device", "tpu"]


@case("Invalid value for '--seed'", "edgec build --help")
def a_flag_is_no_number(place: Place) -> list[object]:
    return [*place.embedded(), "--seed", "one"]


@case("No such option '--taget'.", "edgec build --help")
def a_flag_is_unknown(place: Place) -> list[object]:
    return [*place.embedded(), "--taget", "jetson"]


@case("unknown command 'biuld'; known: agent, bench, build, ", "did you mean 'build'?")
def the_command_is_unknown(place: Place) -> list[object]:
    del place
    return ["biuld"]


@case("is not valid TOML: ", "correct the line")
def the_config_is_corrupt(place: Place) -> list[object]:
    return [*place.embedded(), "--config", place.write("edgec.toml", "[data\ntrain = 3")]


@case("cannot read config '", "edgec init")
def the_config_is_missing(place: Place) -> list[object]:
    return [*place.embedded(), "--config", place.folder / "gone.toml"]


@case("cannot read config '", "edgec init")
def the_config_is_no_text(place: Place) -> list[object]:
    return [*place.embedded(), "--config", place.write("edgec.toml", b"\xff\xfe\x00\x01")]


# ----- where it is to be written --------------------------------------------------------------------------------------


@case("cannot write to '", "choose another folder with --output or --cache")
def the_output_is_below_a_file(place: Place) -> list[object]:
    return [*place.embedded(), "--output", place.write("file", "x") / "below" / "bundle"]


@case("cannot write to '/dev/null'", "choose another folder with --output or --cache")
def the_output_is_below_a_device(place: Place) -> list[object]:
    return [*place.embedded(), "--output", "/dev/null/bundle"]


@case("cannot write to '", "choose another folder with --output or --cache")
def the_cache_is_below_a_file(place: Place) -> list[object]:
    return [*place.embedded(), "--cache", place.write("file", "x") / "cache"]


@case("photos' exists and is not a bundle", "name another --output")
def the_output_is_somebody_s_folder(place: Place) -> list[object]:
    return [*place.embedded(), "--output", place.write("photos/holiday.jpg", "x").parent]


@case("site' exists and is not a bundle", "name another --output")
def the_output_is_a_folder_with_a_manifest_of_another_kind(place: Place) -> list[object]:
    return [*place.embedded(), "--output", place.write("site/manifest.json", '{"name": "a web app"}').parent]


@case("notes.txt' exists and is not a bundle", "name another --output")
def the_output_is_a_file(place: Place) -> list[object]:
    return [*place.embedded(), "--output", place.write("notes.txt", "x")]


@case("--output . does not name a folder of its own", "as in --output build/digits")
def the_output_is_the_current_folder(place: Place) -> list[object]:
    return [*place.embedded(), "--output", "."]


@case("report.html lies in the bundle", "choose a place outside")
def the_report_is_to_go_into_the_bundle(place: Place) -> list[object]:
    return ["report", place.bundle, "--output", place.bundle / "report.html"]


@case("cannot write to '", "choose another folder")
def the_report_is_to_go_below_a_file(place: Place) -> list[object]:
    return ["report", place.bundle, "--output", place.write("file", "x") / "page.html"]


@case("edgec.toml' exists already", "--force")
def a_config_is_there_already(place: Place) -> list[object]:
    return ["init", "--output", place.write("edgec.toml", "mine = true")]


# ----- bundles --------------------------------------------------------------------------------------------------------


@case("no bundle at '", "make one with: edgec build")
def the_bundle_to_check_is_missing(place: Place) -> list[object]:
    return ["check", place.folder / "gone"]


@case("is not a bundle: it holds no manifest.json", "that edgec build made")
def the_bundle_to_report_is_another_folder(place: Place) -> list[object]:
    return ["report", place.images]


@case("is not a bundle: neither a folder nor an archive", "that edgec build made")
def the_bundle_to_predict_with_is_a_text_file(place: Place) -> list[object]:
    return ["predict", place.write("x.edgec", "no archive"), place.folder / "any.png"]


@case("'report.json' was changed", "build or copy the bundle again", code=4)
def the_numbers_of_the_bundle_to_check_were_edited(place: Place) -> list[object]:
    path = place.bundle / "report.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"9", 1))
    return ["check", place.bundle]


@case("'report.json' has ", "build or copy the bundle again", code=4)
def the_report_of_the_bundle_to_show_is_cut_short(place: Place) -> list[object]:
    path = place.bundle / "report.json"
    path.write_bytes(path.read_bytes()[:-10])
    return ["report", place.bundle]


@case("'model.onnx' was changed", "build or copy the bundle again", code=4)
def a_bit_of_the_model_is_flipped(place: Place) -> list[object]:
    path = place.bundle / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return ["predict", place.bundle, place.images / "test" / "3"]


@case("the archive is cut short", "build or copy it again", code=4)
def the_archive_is_cut_short(place: Place) -> list[object]:
    whole = place.bundle.with_name("mine.edgec")
    return ["check", place.write("short.edgec", whole.read_bytes()[:-100])]


@case("manifest.json': not valid JSON", "build or copy it again", code=4)
def the_manifest_is_no_json(place: Place) -> list[object]:
    (place.bundle / "manifest.json").write_text("{")
    return ["predict", place.bundle, place.images / "test" / "3"]


@case("'extra.txt' is not in the manifest", "build or copy the bundle again", code=4)
def a_file_more_lies_in_the_bundle(place: Place) -> list[object]:
    (place.bundle / "extra.txt").touch()
    return ["predict", place.bundle, place.images / "test" / "3"]


@case("1 of 1 gates not passed, first: min_accuracy fail", "edgec report", code=3)
def a_gate_is_missed(place: Place) -> list[object]:
    return ["check", place.bundle, "--min-accuracy", 1]


@case("--min-accuracy: got 90, expected a share from 0 to 1", "write 0.9 for 90 %")
def a_gate_is_a_percentage(place: Place) -> list[object]:
    return ["check", place.bundle, "--min-accuracy", 90]


@case("gone.png' does not exist", "a JPEG, PNG, WebP, BMP, TIFF")
def the_image_to_predict_is_missing(place: Place) -> list[object]:
    return ["predict", place.bundle, place.folder / "gone.png"]


@case("empty.png' is empty (0 bytes)", "replace the file")
def the_image_to_predict_is_empty(place: Place) -> list[object]:
    return ["predict", place.bundle, place.write("empty.png", b"")]


@case("2 of the inputs could not be predicted", "each is named in a line above")
def some_images_to_predict_are_no_images(place: Place) -> list[object]:
    return ["predict", place.bundle, place.write("a.png", "x"), place.write("b.png", "x"), place.images / "test" / "3"]


@case("unknown target 'jetsn'; known: ", "did you mean 'jetson'?")
def the_target_to_show_is_unknown(place: Place) -> list[object]:
    del place
    return ["targets", "show", "jetsn"]


# ----- the test -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, images: Path, digits: Any) -> Place:
    return Place(folder=tmp_path, originals=images, sound=digits.bundle)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.arrange.__name__)
def test_bad_input(case: Case, place: Place, edgec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = case.arrange(place)
    (place.folder / "work").mkdir()
    monkeypatch.chdir(place.folder / "work")
    before = digest_tree(place.folder)
    if arguments[0] == "build":
        # Of two the last one counts, which is what the case itself says.
        arguments[1:1] = ["--output", place.bundle, "--cache", place.folder / "work" / "cache"]
        before = digest_tree(place.folder)
    outcome = edgec(*arguments)
    message, hint = outcome.failure
    assert case.message in message
    assert case.hint in hint
    assert outcome.exit_code == case.code
    shutil.rmtree(place.folder / "work" / "cache", ignore_errors=True)
    assert digest_tree(place.folder) == before
    assert not (place.folder / "marker").exists(), "code in a file was run"


def test_cuda_that_is_not_there(place: Place, edgec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    outcome = edgec(*place.build(), "--device", "cuda", "--cache", place.folder / "c", "--output", place.folder / "o")
    assert outcome.failure == ("--device cuda: there is no CUDA GPU here", "use --device auto, or check the driver")
    assert outcome.exit_code == 2


def test_a_package_that_is_not_installed(place: Place, edgec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that only runs bundles has none of the build's packages."""
    monkeypatch.setattr("edgec.pipeline.build.BUILD_EXTRA", ("torch", "gone_package"))
    outcome = edgec(*place.build(), "--cache", place.folder / "c", "--output", place.folder / "o")
    message, hint = outcome.failure
    assert message == "building needs the package 'gone_package', which is not installed"
    assert hint == "pip install 'edgec[build]'"
    assert outcome.exit_code == 2
