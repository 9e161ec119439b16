"""Trains a teacher on Fashion-MNIST, ten kinds of clothes in grey at 28x28, and unpacks its images.

    python benchmarks/train_fashion.py [--folder benchmarks/data]        first: apt-get install dataset-fashion-mnist

Writes `fashion_train.npz`, `fashion_test.npz` and `resnet8_fashion.safetensors`. The last step is kept; the test images
are looked at once, at the end. About fifteen minutes on one thread.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgec.core.inputs import InputSpec
from edgec.learn.batches import augment
from edgec.models.cifar_resnet import resnet8
from edgec.models.infer import to_tensor
from teachers import trained

HERE = Path(__file__).resolve().parent
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SPEC = InputSpec(height=28, width=28, mean=(0.286, 0.286, 0.286), std=(0.353, 0.353, 0.353))
STEPS = 4_000
BATCH = 96


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=DEBIAN, help="holds the four .gz files")
    parser.add_argument("--folder", type=Path, default=HERE / "data", help="gets the results")
    given = parser.parse_args()
    if not given.source.is_dir():
        print(f"'{given.source}' does not exist\nhint: apt-get install dataset-fashion-mnist", file=sys.stderr)
        return 2
    given.folder.mkdir(exist_ok=True)
    splits = {name: _read(given.source, prefix) for name, prefix in (("train", "train"), ("test", "t10k"))}
    for name, (images, labels) in splits.items():
        np.savez(given.folder / f"fashion_{name}.npz", images=images, labels=labels, names=NAMES)
    net = _trained(*splits["train"])
    save_file(net.state_dict(), given.folder / "resnet8_fashion.safetensors")
    images, labels = splits["test"]
    right = _predicted(net, images) == labels
    print(f"{right.mean():.2%} of {len(right)} test images")
    for label, name in enumerate(NAMES):
        print(f"  {name}: {right[labels == label].mean():.1%}")
    return 0


def _read(source: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 28, 28, 3], grey in all channels, and labels int64 [n] of two IDX files."""
    with gzip.open(source / f"{prefix}-images-idx3-ubyte.gz") as file:
        grey = np.frombuffer(file.read(), dtype=np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(source / f"{prefix}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), dtype=np.uint8, offset=8).astype(np.int64)
    return np.repeat(grey, 3, axis=3), labels


def _trained(pixels: np.ndarray, labels: np.ndarray) -> nn.Module:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    def batch_of(chosen: Tensor) -> Tensor:
        return augment(to_tensor(pixels[chosen], SPEC), shift=0.07, flip=True, generator=generator)

    given = {"steps": STEPS, "batch": BATCH, "rate": 0.2, "generator": generator}
    return trained(resnet8(len(NAMES)), torch.as_tensor(labels), batch_of, **given)


@torch.inference_mode()
def _predicted(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    parts = np.array_split(pixels, max(1, len(pixels) // 256))
    return torch.cat([net(to_tensor(part, SPEC)).argmax(1) for part in parts]).numpy()


if __name__ == "__main__":
    sys.exit(main())
