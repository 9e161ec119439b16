"""Pixels as torchvision, timm and transformers make them of files, against ours: largest and mean difference, of 255.

    python benchmarks/pixels.py [--pictures 50] [--quick]     (needs timm and transformers; neither is a dependency)

Each library gets the picture as Pillow opens it, and does what its own settings say; ours get the file and the settings
that `edgec.models.presets` reads from theirs. Compared is what goes into the model, in units of one level of 255.
transformers has two processors of each kind: one on torch's tensors, whose filters round otherwise than Pillow's, and
one on Pillow's pictures (`…Pil`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import timm.data
import torchvision
import transformers
from PIL import Image
from sklearn.datasets import load_sample_images

from edgec.core.images import decode_image
from edgec.core.inputs import InputSpec, normalise
from edgec.models.presets import input_fields, torchvision_fields
from rows import Row, arguments, show

TORCHVISION = (
    "ResNet18_Weights.IMAGENET1K_V1",
    "ResNet50_Weights.IMAGENET1K_V2",
    "EfficientNet_B1_Weights.IMAGENET1K_V2",
    "ViT_L_16_Weights.IMAGENET1K_SWAG_E2E_V1",
    "Inception_V3_Weights.IMAGENET1K_V1",
)
TIMM = (
    "resnet50.a1_in1k",
    "mobilenetv3_large_100.ra_in1k",
    "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "convnext_tiny.fb_in22k_ft_in1k_384",
    "tf_efficientnet_b0.in1k",
)
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {},
    "DeiTImageProcessor": {},
    "CLIPImageProcessor": {},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 224}, "crop_pct": 0.875},
    "BeitImageProcessor": {"size": {"height": 256, "width": 256}, "do_center_crop": True},
    "LevitImageProcessor": {},
    "MobileNetV2ImageProcessor": {},
    "MobileViTImageProcessor": {"size": {"shortest_edge": 288}, "crop_size": {"height": 256, "width": 256}},
    "EfficientNetImageProcessor": {"rescale_factor": 1 / 127.5, "rescale_offset": True},
}
Theirs = Callable[[Image.Image], np.ndarray]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pictures", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = list(_pictures(Path(folder), 5 if given.quick else given.pictures))
        rows = [row for what, theirs, fields in _libraries() for row in _compared(what, theirs, fields, files)]
    show(rows, as_json=given.json, output=given.output)


def _pictures(folder: Path, count: int) -> Iterator[Path]:
    """Parts of photographs, with noise over half of them, of odd sizes up to 1:5."""
    generator = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        height, width = generator.integers(64, 420, 2)
        pixels = np.ascontiguousarray(photographs[number % 2][:height, :width])
        if number % 4 > 1:
            pixels = (pixels // 2 + generator.integers(0, 128, pixels.shape)).astype(np.uint8)
        path = folder / f"{number}.{'png' if number % 3 else 'jpg'}"
        Image.fromarray(pixels).save(path)
        yield path


def _libraries() -> Iterator[tuple[str, Theirs, dict[str, Any]]]:
    for name in TORCHVISION:
        made = torchvision.models.get_weight(name).transforms()
        yield f"torchvision: {name}", lambda image, made=made: made(image).numpy(), torchvision_fields(name)
    for name in TIMM:
        config = timm.get_pretrained_cfg(name).to_dict()
        for mode in ("center", "squash", "border") if name == TIMM[0] else (config.get("crop_mode", "center"),):
            table = {**config, "crop_mode": mode}
            made = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=table))
            yield f"timm: {name}, {mode}", lambda image, made=made: made(image).numpy(), input_fields(table)
    for name, settings in TRANSFORMERS.items():
        for kind in (name, f"{name}Pil"):
            made = getattr(transformers, kind)(**settings)
            table = {"image_processor_type": name, **made.to_dict()}

            def theirs(image: Image.Image, made: Any = made) -> np.ndarray:
                return made(image, return_tensors="np")["pixel_values"][0]

            yield f"transformers: {kind}", theirs, input_fields(table)


def _compared(what: str, theirs: Theirs, fields: dict[str, Any], files: list[Path]) -> Iterator[Row]:
    spec = InputSpec.model_validate(fields)
    levels = np.asarray(spec.scale, dtype=np.float32)[:, None, None]  # one level of 255, in the model's numbers
    differences = []
    for file in files:
        with Image.open(file) as image:
            wanted = theirs(image.convert("RGB"))
        ours = normalise(decode_image(file, spec)[None], spec)[0]
        differences.append(np.abs(ours - wanted) / levels)
    most = [float(difference.max()) for difference in differences]
    mean = float(np.mean([difference.mean() for difference in differences]))
    yield Row(what=f"{what}: largest difference", value=max(most), unit="of 255", n=len(files), high=max(most))
    yield Row(what=f"{what}: mean difference", value=mean, unit="of 255", n=len(files))


if __name__ == "__main__":
    main()
