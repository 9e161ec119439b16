"""Settings for `model.input` from what a model's makers wrote: each library's files, and which of them is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import ConfigError, DataError
from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec, normalise
from edgec.models.config import ModelConfig
from edgec.models.presets import find_preset, input_fields, is_weights_enum, torchvision_fields
from edgec.models.weights import read_weights

TIMM = {
    "input_size": [3, 224, 224],
    "crop_pct": 0.9,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "num_classes": 1000,
}
VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
CLIP = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": 224,
    "do_center_crop": True,
    "crop_size": 224,
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}


def spec_of(table: dict[str, Any]) -> InputSpec:
    return InputSpec.model_validate(input_fields(table))


def test_timm_s_crop_modes() -> None:
    centre = spec_of(TIMM)
    assert (centre.resize, centre.crop_share, centre.interpolation) == ("short-side", 0.9, "bicubic")
    assert (centre.mean, centre.std, centre.shape) == ((0.5,) * 3, (0.25,) * 3, (3, 224, 224))
    assert spec_of({**TIMM, "crop_mode": "squash"}).resize == "squash"
    border = spec_of({**TIMM, "crop_mode": "border"})
    assert (border.resize, border.fill) == ("letterbox", (128, 128, 128))


def test_timm_s_own_defaults_fill_what_a_file_leaves_out() -> None:
    bare = spec_of({"pretrained_cfg": {"input_size": [3, 160, 160]}, "architecture": "resnet18"})
    assert (bare.crop_share, bare.interpolation, bare.resize) == (0.875, "bicubic", "short-side")
    assert bare.mean == InputSpec(height=1, width=1).mean


def test_a_vision_transformer_squashes() -> None:
    spec = spec_of(VIT)
    assert (spec.resize, spec.crop_share, spec.interpolation, spec.crop_rounding) == ("squash", 1, "bilinear", "down")
    assert (spec.mean, spec.std) == ((0.5,) * 3, (0.5,) * 3)


def test_a_size_of_one_number_is_the_short_side_for_those_that_crop() -> None:
    assert spec_of(CLIP).resize == "short-side"
    assert spec_of({**VIT, "size": 224}).resize == "squash"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, ("short-side", 224, 0.875)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ("squash", 384, 1.0)),
    ],
)
def test_convnext_squashes_large_pictures(settings: dict[str, Any], wanted: tuple[str, int, float]) -> None:
    spec = spec_of({**VIT, "image_processor_type": "ConvNextImageProcessor", **settings})
    assert (spec.resize, spec.height, spec.crop_share) == wanted


def test_a_crop_of_a_larger_size_is_a_share() -> None:
    crop = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}
    beit = spec_of({**VIT, "size": {"height": 256, "width": 256}, **crop})
    assert (beit.resize, beit.height, beit.crop_share) == ("squash", 224, 0.875)
    ignored = spec_of({**VIT, "do_center_crop": False, "crop_size": {"height": 200, "width": 200}})
    assert ignored.height == 224


def test_mobilevit_takes_blue_first_and_does_not_normalise() -> None:
    mobile = {
        "image_processor_type": "MobileViTFeatureExtractor",
        "size": 288,
        "crop_size": 256,
        "do_center_crop": True,
    }
    spec = spec_of({**mobile, "do_flip_channel_order": True, "resample": 2})
    assert (spec.channel_order, spec.mean, spec.std) == ("bgr", (0.0,) * 3, (1.0,) * 3)
    assert spec.crop_share == pytest.approx(256 / 288)


@pytest.mark.parametrize(
    "settings",
    [
        {"rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [60.0] * 3},
        {"do_normalize": False},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True},
    ],
)
def test_numbers_are_those_of_the_processor_s_steps(settings: dict[str, Any]) -> None:
    table = {**VIT, **settings}
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    value = np.arange(256.0)
    if table["do_rescale"]:
        value = value * table["rescale_factor"] - bool(table.get("rescale_offset"))
    if table["do_normalize"]:
        value = (value - table["image_mean"][0]) / table["image_std"][0]
    if table.get("include_top"):
        value = value / table["image_std"][0]
    got = normalise(pixels, spec_of(table).model_copy(update={"height": 16, "width": 16}))
    # Values up to 4 after a product and a sum in float32.
    np.testing.assert_allclose(got[0, 0].ravel(), value, atol=2e-6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({**VIT, "size": {"shortest_edge": 224, "longest_edge": 448}}, "size"),
        ({**VIT, "do_pad": True}, "transformers' do_pad has no setting"),
        ({**VIT, "resample": 9}, "transformers' resample 9 is not known"),
        ({**CLIP, "crop_size": {"depth": 3}}, "transformers' crop_size .* is not known"),
        ({**TIMM, "crop_mode": "spiral"}, "timm's crop_mode 'spiral' is not known"),
        ({**CLIP, "crop_size": 256}, r"a crop of \(256, 256\) from \(224, 224\) has no setting"),
    ],
)
def test_a_step_without_a_setting_is_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        input_fields(table)


@pytest.mark.parametrize("name", ["ResNet50_Weights.IMAGENET1K_V2", "EfficientNet_B1_Weights.IMAGENET1K_V2"])
def test_torchvision_s_own_transforms_give_the_same_numbers(name: str) -> None:
    import torchvision

    transforms = torchvision.models.get_weight(name).transforms()
    spec = InputSpec.model_validate(torchvision_fields(name))
    for seed, (height, width) in enumerate([(97, 301), (260, 259), (333, 181)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted = transforms(Image.fromarray(pixels)).numpy()
        # The pixels are equal; the numbers differ by a rounding of float32.
        np.testing.assert_allclose(normalise(fit_pixels(pixels, spec)[None], spec)[0], wanted, atol=2e-6)


def test_a_file_beside_the_weights_fills_in_the_input(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT))
    config = ModelConfig.model_validate({"name": "own:net", "weights": tmp_path / "model.safetensors"})
    assert config.input == spec_of(VIT)
    assert str(config.input_told).endswith(f", crop_rounding from {tmp_path / 'preprocessor_config.json'}")


def test_what_the_config_says_goes_before_a_preset(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": TIMM}))
    given = {
        "name": "own:net",
        "weights": tmp_path / "w.pt",
        "input": {"height": 192, "width": 192, "resize": "squash"},
    }
    config = ModelConfig.model_validate(given)
    assert (config.input.height, config.input.resize, config.input.interpolation) == (192, "squash", "bicubic")


def test_a_named_preset_goes_before_a_file_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(VIT))
    named = find_preset("ResNet18_Weights.IMAGENET1K_V1", [tmp_path])
    assert named is not None
    assert named.fields["crop_share"] == 0.875


def test_a_config_of_something_else_beside_the_weights_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"learning_rate": 0.1}))
    assert find_preset(None, [tmp_path / "weights.pt"]) is None


def test_a_preset_that_is_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere\.json' is neither a file nor a torchvision weights enum"):
        find_preset("nowhere.json", [])
    with pytest.raises(ConfigError, match=r"no torchvision weights 'ResNet18_Weights\.NONE'"):
        find_preset("ResNet18_Weights.NONE", [])
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match="is not valid JSON"):
        find_preset(None, [tmp_path])


def test_torchvision_s_weights_come_from_torch_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    import torchvision

    name = "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    url = torchvision.models.get_weight(name).url
    cached = tmp_path / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir()
    torch.save({"features.0.bias": torch.ones(2)}, cached)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert read_weights(Path(name))["features.0.bias"].tolist() == [1, 1]
    assert is_weights_enum(name)
    assert not is_weights_enum("weights.pt")
