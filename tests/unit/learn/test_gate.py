"""The gate of a deck: it sends images to the member that costs least there, as far as their spectra tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgec.core.gate import Gate, radial_spectrum
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.learn.gate import Looked, fit_gate, look_through

SPEC = InputSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
RNG = np.random.default_rng(0)


def test_where_spectra_tell_members_apart_each_gets_its_own() -> None:
    spectra = np.concatenate([RNG.normal(at, 0.3, (200, 4)) for at in ([0, 0, 0, 0], [0, 0, 2, 3], [0, 3, 0, 0])])
    own = np.repeat([0, 1, 2], 200)
    gate = fit_gate(Looked(spectra=spectra, losses=1 - np.eye(3)[own]))
    assert (gate.picks_of(spectra) == own).mean() > 0.97


def test_a_view_counts_as_much_as_a_wrong_pick_costs_there() -> None:
    """Of views with one spectrum most want the first member, and a few lose much with it."""
    spectra = np.zeros((100, 3))
    cheap, dear = [0.0, 0.1], [5.0, 0.0]
    assert set(fit_gate(Looked(spectra=spectra, losses=np.array([cheap] * 90 + [dear] * 10))).picks_of(spectra)) == {1}
    assert set(fit_gate(Looked(spectra=spectra, losses=np.array([cheap] * 99 + [[0.5, 0]]))).picks_of(spectra)) == {0}


def test_members_that_are_alike_leave_the_gate_without_a_reason() -> None:
    gate = fit_gate(Looked(spectra=RNG.normal(size=(50, 3)), losses=np.ones((50, 2))))
    assert np.isfinite(gate.weights).all()
    assert np.abs(gate.weights).max() < 1e-6


def test_spectra_of_any_scale_give_the_same_picks() -> None:
    spectra = RNG.normal(size=(300, 4))
    losses = np.stack([spectra[:, 0] > 0, spectra[:, 0] <= 0], axis=1).astype(float)
    one = fit_gate(Looked(spectra=spectra, losses=losses)).picks_of(spectra)
    other = fit_gate(Looked(spectra=100 * spectra + 7, losses=losses))
    np.testing.assert_array_equal(one, other.picks_of(100 * spectra + 7))


@pytest.fixture
def looked() -> Looked:
    """Of members that know clean and noisy images respectively, told apart by their highest frequencies."""
    smooth = np.broadcast_to(np.arange(100, 140, dtype=np.uint8)[:, None, None, None], (40, 8, 8, 1))
    few = Samples(
        pixels=smooth,
        labels=np.arange(40) % 2,
        classes=("a", "b"),
        digests=tuple(map(str, range(40))),
        source="made up",
    )

    def member(*, wants_noise: bool) -> object:
        def run(batch: torch.Tensor) -> np.ndarray:
            noisy = radial_spectrum(batch.numpy())[:, -1] > -2
            sure = np.where(noisy == wants_noise, 4.0, 0.0)
            return np.stack([sure, -sure], axis=1)

        return run

    def teacher(batch: torch.Tensor) -> np.ndarray:
        return np.tile([4.0, -4.0], (len(batch), 1))

    return look_through(
        few,
        few.take(np.arange(0)),
        SPEC,
        teacher=teacher,
        members=[member(wants_noise=False), member(wants_noise=True)],  # pyright: ignore[reportArgumentType]
        robust=("none", "noise"),
        share=0.25,
        taken=lambda batch: batch.numpy(),
        seed=0,
    )


def test_views_are_changed_as_often_as_asked_and_the_teacher_sees_clean_ones(looked: Looked) -> None:
    noisy = looked.losses[:, 0] > looked.losses[:, 1]
    assert noisy.mean() == pytest.approx(0.25, abs=0.01)
    assert looked.losses.min() == pytest.approx(0, abs=1e-9)  # the right member says what the teacher says
    assert (fit_gate(looked).picks_of(looked.spectra) == noisy).mean() > 0.99


def test_a_gate_reads_images_as_it_reads_spectra() -> None:
    gate = Gate(weights=((1.0, 0.0, 0.0, -1.0), (-1.0, 0.0, 0.0, 1.0)), bias=(0.0, 0.5))
    images = RNG.normal(size=(20, 3, 8, 9)).astype(np.float32)
    np.testing.assert_array_equal(gate.picks(images), gate.picks_of(radial_spectrum(images)))
