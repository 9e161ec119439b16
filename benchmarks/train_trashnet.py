"""Trains a teacher on TrashNet, six kinds of waste in natural imbalance (137 to 594 images), and splits its images.

    python benchmarks/train_trashnet.py [--folder benchmarks/data]        first: python benchmarks/unpack_mosaics.py

Writes `trashnet_train.npz` and `trashnet_test.npz`, three quarters and one quarter of every class, and
`resnet20_trashnet.safetensors`, started from the CIFAR-10 weights of EDGEC_DATA and trained on the first part alone.
The last epoch is kept; the test part is looked at once, at the end. About twelve minutes on one thread.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgec.core.inputs import InputSpec
from edgec.learn.batches import augment
from edgec.models.cifar_resnet import resnet20
from edgec.models.infer import to_tensor
from edgec.models.weights import read_weights
from teachers import trained

HERE = Path(__file__).resolve().parent
SPEC = InputSpec(height=64, width=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
EPOCHS = 16
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "data", help="holds trashnet64.npz, gets the results")
    folder = parser.parse_args().folder
    with np.load(folder / "trashnet64.npz") as stored:
        images, labels, names = stored["images"], stored["labels"], stored["names"]
    held_out = _quarter_of_each(labels)
    for name, part in (("train", ~held_out), ("test", held_out)):
        np.savez(folder / f"trashnet_{name}.npz", images=images[part], labels=labels[part], names=names)
    net = _trained(to_tensor(images[~held_out], SPEC), torch.as_tensor(labels[~held_out]), classes=len(names))
    save_file(net.state_dict(), folder / "resnet20_trashnet.safetensors")
    right = _predicted(net, to_tensor(images[held_out], SPEC)) == labels[held_out]
    print(f"{right.mean():.2%} of {len(right)} test images, {(~held_out).sum()} trained on")
    for label, name in enumerate(names):
        print(f"  {name}: {right[labels[held_out] == label].mean():.1%}")


def _quarter_of_each(labels: np.ndarray) -> np.ndarray:
    """Marks a quarter of every class, drawn with seed 0."""
    marked = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        marked[rng.permutation(members)[: len(members) // 4]] = True
    return marked


def _trained(images: Tensor, labels: Tensor, *, classes: int) -> nn.Module:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    data = os.environ.get("EDGEC_DATA") or HERE.parents[1] / "shared" / "data"
    state = read_weights(Path(data) / "resnet20_cifar10.safetensors")
    net = resnet20(classes)
    net.load_state_dict({k: v for k, v in state.items() if not k.startswith("linear.")}, strict=False)

    def batch_of(chosen: Tensor) -> Tensor:
        return augment(images[chosen], shift=0.125, flip=True, generator=generator)

    steps = EPOCHS * (len(labels) // BATCH)
    return trained(net, labels, batch_of, steps=steps, batch=BATCH, rate=0.05, generator=generator)


@torch.inference_mode()
def _predicted(net: nn.Module, images: Tensor) -> np.ndarray:
    return torch.cat([net(batch).argmax(1) for batch in images.split(256)]).numpy()


if __name__ == "__main__":
    main()
