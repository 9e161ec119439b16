"""Trains a small vision transformer of eight layers on Fashion-MNIST, a teacher of which layers can go.

    python benchmarks/train_vit.py [--folder benchmarks/data]        first: python benchmarks/train_fashion.py

Reads the images that train_fashion.py leaves, and writes `vit_fashion.safetensors`; the architecture is the config's,
`benchmarks/configs/fashion-vit.toml`. The last step is kept; the test images are looked at once, at the end. About
five minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.data.loading import load_samples
from edgec.learn.batches import augment
from edgec.models.infer import logits_of, to_tensor
from edgec.models.load import build_module
from edgec.pipeline.config import read_config
from teachers import trained

HERE = Path(__file__).resolve().parent
STEPS, BATCH, RATE = 3_500, 96, 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "data", help="holds the images, gets the weights")
    given = parser.parse_args()
    if not (given.folder / "fashion_train.npz").exists():
        print(f"no fashion_train.npz in '{given.folder}'\nhint: python benchmarks/train_fashion.py", file=sys.stderr)
        return 2
    model = read_config(HERE / "configs" / "fashion-vit.toml").model
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    with np.load(given.folder / "fashion_train.npz") as file:
        pixels, labels, names = file["images"], torch.as_tensor(file["labels"]), tuple(file["names"].tolist())

    def batch_of(chosen: Tensor) -> Tensor:
        return augment(to_tensor(pixels[chosen], model.input), shift=0.07, flip=True, generator=generator)

    net = build_module(model, names)
    trained(net, labels, batch_of, steps=STEPS, batch=BATCH, rate=RATE, generator=generator)
    save_file(net.state_dict(), given.folder / "vit_fashion.safetensors")
    test = load_samples(given.folder / "fashion_test.npz", model.input, classes=names, split="test", progress=Silent())
    right = logits_of(Classifier(module=net, input=model.input, labels=test.classes), test).argmax(1) == test.labels
    print(f"{right.mean():.2%} of {len(right)} test images")
    for label, name in enumerate(test.classes):
        print(f"  {name}: {right[test.labels == label].mean():.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
