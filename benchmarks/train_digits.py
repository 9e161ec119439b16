"""Trains the embedded teacher, `toolchain/edgec/models/digits.safetensors`, on scikit-learn's digits.

Runs in about a minute on two cores. Only the training split is used; the test split is looked at once, at the end.

    python benchmarks/train_digits.py [--output FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from edgec.core.classifier import Classifier
from edgec.data import load_digits_splits
from edgec.learn.batches import augment
from edgec.models.digits import digits_net
from edgec.models.infer import logits_of, to_tensor
from edgec.pipeline.config import read_config
from edgec.pipeline.embedded import WEIGHTS
from teachers import trained

EPOCHS = 120
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    train, test = load_digits_splits()
    model = read_config(None).model
    images, labels = to_tensor(train.decoded(), model.input), torch.as_tensor(train.labels)
    steps = EPOCHS * (len(labels) // BATCH)

    def batch_of(chosen: Tensor) -> Tensor:
        return augment(images[chosen], shift=0.125, flip=False, generator=generator)

    net = trained(digits_net(), labels, batch_of, steps=steps, batch=BATCH, rate=0.1, generator=generator)
    save_file(net.state_dict(), arguments.output)
    teacher = Classifier(module=net, input=model.input, labels=test.classes)
    right = logits_of(teacher, test).argmax(1) == test.labels
    print(f"{arguments.output}: {right.mean():.2%} of {len(test)} test images, {len(train)} trained on")
    for label, name in enumerate(test.classes):
        print(f"  {name}: {right[test.labels == label].mean():.1%}")


if __name__ == "__main__":
    main()
