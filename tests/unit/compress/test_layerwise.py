"""What layer-wise regressions see: shares of images, second moments, modules run part of the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.compress.job import Auxiliary, CompressJob, weighed
from edgec.core.samples import Images
from edgec.learn.layerwise import BATCH, Reached, Weighed, run_hooked, second_moments


def with_auxiliary(job: CompressJob, ood: Images) -> CompressJob:
    rng = np.random.default_rng(0)
    few, pool = rng.dirichlet(np.ones(len(job.few))), rng.dirichlet(np.ones(len(ood)))
    auxiliary = Auxiliary(
        pool=ood,
        chances=pool,
        labelled=ood.take(np.arange(2)),
        labels=np.zeros(2, dtype=np.int64),
        class_weights=None,
        widths="even",
        near=job.few,
        near_chances=few,
        recovery=None,
    )
    return dataclasses.replace(job, auxiliary=auxiliary)


def test_moments_over_batches_are_those_of_a_slow_sum() -> None:
    n, positions, columns = 2 * BATCH + 3, 5, 4
    looked = torch.randn(n, positions, columns)
    shares = torch.rand(n)
    wanted = np.zeros((columns, columns))
    for image, share in zip(looked.double().numpy(), shares.double().numpy(), strict=True):
        for row in image:
            wanted += share * np.outer(row, row) / positions
    images = torch.arange(n, dtype=torch.float32)[:, None, None, None]  # each tells which rows are its
    found = second_moments(lambda batch: looked[batch.flatten().long()], Weighed(images=images, shares=shares))
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)  # products in single precision


def test_without_an_auxiliary_set_every_few_sample_counts_alike(job: CompressJob) -> None:
    images = weighed(job, joint=0.5)
    assert len(images.images) == 30
    np.testing.assert_allclose(images.shares, 1 / 30, rtol=1e-6)
    assert images.effective == pytest.approx(30)


def test_lambda_of_the_error_is_the_few_samples_and_the_rest_the_pools(job: CompressJob, ood: Images) -> None:
    job = with_auxiliary(job, ood)
    auxiliary, shares = job.auxiliary, weighed(job, joint=0.3).shares
    assert auxiliary
    np.testing.assert_allclose(shares[:30], 0.3 * auxiliary.near_chances, rtol=1e-6)
    np.testing.assert_allclose(shares[30:], 0.7 * auxiliary.chances, rtol=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=20))
def test_uneven_shares_tell_less_than_even_ones(raw: list[float]) -> None:
    shares = torch.tensor(raw) / sum(raw)
    effective = Weighed(images=torch.zeros(len(raw), 1, 1, 1), shares=shares).effective
    assert 1 - 1e-5 <= effective <= len(raw) + 1e-3


def test_a_module_is_run_no_further_than_wanted_and_keeps_no_hook(job: CompressJob, snapshot: Callable) -> None:
    module, ran = job.teacher.module, []
    before = snapshot(module)

    def stop(*_: object) -> None:
        ran.append("features.3")
        raise Reached

    hooks = {"features.3": stop, "features.6": lambda *_: ran.append("features.6")}
    run_hooked(module, torch.zeros(1, 1, 8, 8), hooks)
    assert ran == ["features.3"]
    assert snapshot(module) == before


def test_another_error_comes_through_and_leaves_no_hook(job: CompressJob, snapshot: Callable) -> None:
    module = job.teacher.module
    before = snapshot(module)
    with pytest.raises(RuntimeError, match="expected input"):
        run_hooked(module, torch.zeros(1, 3, 8, 8), {"features.3": lambda *_: None})
    assert snapshot(module) == before
