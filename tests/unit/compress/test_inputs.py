"""Images that are made batch by batch: what learns from them learns what it would from one tensor of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric

from edgec.compress import oefsmc
from edgec.compress.channels import costs_in_order, prunable, ranked
from edgec.compress.config import OefsmcConfig
from edgec.compress.job import CompressJob
from edgec.compress.methods import methods
from edgec.compress.prune import prune
from edgec.compress.restyle import restyled
from edgec.compress.subset import balanced_positions, sampled, weighed_subset
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Images, Pixels, Samples
from edgec.learn.batches import Pool
from edgec.learn.config import Budget, DistillConfig
from edgec.learn.distill import distill
from edgec.learn.inputs import Inputs, streamed
from edgec.models.infer import MOST_IMAGES, to_tensor


@dataclass
class Watched:
    """Pixels that note how many of them are asked for at a time."""

    pixels: Pixels
    asked: list[int] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.pixels.shape

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        self.asked.append(len(indices))
        return self.pixels[indices]


def test_recovery_from_pixels_is_to_the_bit_recovery_from_one_tensor(
    few: Samples, ood: Images, teacher: Classifier, fabric: Fabric
) -> None:
    kept = {"features.0": torch.arange(12), "features.3": torch.arange(12), "features.6": torch.arange(24)}
    student = prune(teacher.module, kept, torch.zeros(1, 1, 8, 8))

    def recovered(held: Callable[[Images], Inputs]) -> list[torch.Tensor]:
        pools = (
            Pool(images=held(few), chances=torch.arange(1, 31) / 465),
            Pool(images=held(ood), chances=torch.full((40,), 1 / 40)),
        )
        trained = distill(
            student,
            teacher.module,
            pools,
            DistillConfig(few_per_step=8, ood_per_step=8),
            budget=Budget(steps=6),
            fabric=fabric,
            generator=torch.Generator().manual_seed(3),
            progress=Silent(),
        )
        return list(trained.state_dict().values())

    whole = recovered(lambda images: to_tensor(images.decoded(), teacher.input))
    parts = recovered(lambda images: streamed(images, teacher.input))
    assert all(torch.equal(*pair) for pair in zip(whole, parts, strict=True))


@pytest.mark.parametrize("method", ["mir", "fskd", "cd"])
def test_no_more_images_are_decoded_at_once_than_a_batch(job: CompressJob, ood: Images, method: str) -> None:
    """Fine-tuning, domain and layers take part too."""
    few, pool = (np.tile(part.decoded(), (10, 1, 1, 1)) for part in (job.few, ood))
    near = Watched(few)
    far = Watched(pool)
    many = replace(
        job.few,
        pixels=near,
        labels=np.tile(job.few.labels, 10),
        digests=tuple(str(i) for i in range(300)),
    )
    others = replace(ood, pixels=far, digests=tuple(f"ood{i}" for i in range(400)))
    config = OefsmcConfig(parts=("compression", "finetuning"), ood="always", style="own", importance="taylor")
    registered = methods[method]
    oefsmc.compress(replace(job, few=many), others, registered, registered.config(), config, progress=Silent())
    assert 2 <= max(near.asked) <= MOST_IMAGES
    assert 2 <= max(far.asked) <= MOST_IMAGES


def test_images_in_a_style_are_the_same_whatever_they_are_asked_for_with(few: Samples, ood: Images) -> None:
    made = restyled(ood, few)
    alone = np.concatenate([made.pixels[np.array([i])] for i in range(len(ood))])
    np.testing.assert_array_equal(made.decoded(), alone)


def test_joined_images_are_those_of_either_in_any_order(few: Samples, ood: Images) -> None:
    order = np.random.default_rng(0).permutation(len(few) + len(ood))
    wanted = np.concatenate([few.decoded(), ood.decoded()])[order]
    np.testing.assert_array_equal(few.joined(ood).pixels[order], wanted)


# ---- subsets


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 50))
def test_a_subset_takes_of_no_class_more_than_one_above_what_another_could_give(labels: list[int], most: int) -> None:
    every = np.array(labels)
    kept = balanced_positions(every, most, seed=0)
    assert len(kept) == min(most, len(labels))
    assert (np.diff(kept) > 0).all()
    taken, there = (np.bincount(part, minlength=4) for part in (every[kept], every))
    short = taken < there  # classes that could have given more
    if short.any():
        assert taken.max() <= taken[short].min() + 1


def test_few_images_are_left_as_they_are(few: Samples) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(30))
    images, kept = weighed_subset(few, shares, 30, seed=0)
    assert images is few
    assert kept is shares
    assert sampled(few, 30, seed=0) is few


def test_every_class_of_a_subset_counts_for_what_it_counted(few: Samples) -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(30))
    images, kept = weighed_subset(few, shares, 14, labels=few.labels, seed=0)
    assert isinstance(images, Samples)
    assert len(images) == 14
    np.testing.assert_allclose(
        np.bincount(images.labels, kept, minlength=10), np.bincount(few.labels, shares, minlength=10)
    )


def test_a_subset_of_the_pool_counts_for_all_of_it(ood: Images) -> None:
    images, kept = weighed_subset(ood, np.full(40, 0.5 / 40), 7, seed=0)
    assert len(images) == 7
    np.testing.assert_allclose(kept, 0.5 / 7)


def test_ranking_looks_at_no_more_images_than_asked(job: CompressJob) -> None:
    watched = Watched(job.few.decoded())
    small = replace(
        job, few=replace(job.few, pixels=watched), budget=job.budget.model_copy(update={"judged_images": 12})
    )
    coupled = prunable(small)
    order = ranked(small, coupled)
    watched.asked.clear()
    costs_in_order(small, coupled, order)
    looks = 2  # means first, then costs
    example = 1 * 2  # an image to see the size of
    assert sum(watched.asked) == looks * 12 + example
