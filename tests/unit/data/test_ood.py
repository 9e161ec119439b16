"""The pool of out-of-distribution images: where it comes from, and that a seed fixes it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from edgec.core.digest import digest_image
from edgec.core.errors import DataError, MissingDependencyError
from edgec.core.inputs import InputSpec
from edgec.data import load_ood
from edgec.data.drawings import draw_images
from edgec.data.patches import cut_patches

GREY = InputSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,))
WIDE = InputSpec(height=20, width=33)


@pytest.mark.parametrize("spec", [GREY, WIDE], ids=["grey", "wide"])
def test_the_built_in_source_fits_any_model_and_is_announced(spec: InputSpec, progress) -> None:
    pool = load_ood(None, spec, count=21, seed=0, progress=progress)
    assert pool.pixels.shape == (21, spec.height, spec.width, spec.channels)
    assert pool.digests == tuple(digest_image(image) for image in pool.pixels[np.arange(21)])
    assert len(set(pool.digests)) == 21
    assert len(progress.lines) == 1
    assert progress.lines[0].startswith("no out-of-distribution images given: using patches")


def test_the_built_in_source_is_fixed_by_its_seed(progress) -> None:
    first, again, other = (load_ood(None, WIDE, count=12, seed=seed, progress=progress) for seed in (1, 1, 2))
    assert first.digests == again.digests
    assert not set(first.digests) & set(other.digests)


def test_drawings_are_of_every_kind_and_none_is_blank() -> None:
    pixels = draw_images(WIDE, count=40, generator=np.random.default_rng(0))
    deviations = pixels.reshape(40, -1).std(axis=1)
    assert np.median(deviations) > 20
    assert (deviations > 1).mean() > 0.9


def test_patches_come_from_the_photographs() -> None:
    red = np.zeros((60, 80, 3), np.uint8)
    red[..., 0] = 120
    pixels = cut_patches([red], WIDE, count=5, generator=np.random.default_rng(0)).astype(int)
    assert pixels.reshape(5, -1, 3).std(axis=1).max() == 0
    assert (pixels[..., 0] > pixels[..., 1] + 50).all()


def test_a_folder_is_searched_with_all_below_it(class_folders, noise, progress) -> None:
    folder = class_folders({"a/deep": 4, "b": 5})
    Image.fromarray(noise(1, seed=7)[0]).save(folder / "top.png")
    pool = load_ood(folder, InputSpec(height=8, width=8), count=10, seed=0, progress=progress)
    assert sorted(pool.digests) == sorted(digest_image(image) for image in [*noise(9), *noise(1, seed=7)])


def test_the_seed_draws_from_a_folder_and_from_an_archive(class_folders, tmp_path, noise, spec, progress) -> None:
    np.savez(tmp_path / "pool.npz", images=noise(9))
    for source in (class_folders({"a": 4, "b": 5}), tmp_path / "pool.npz"):
        first, again, other = (load_ood(source, spec, count=4, seed=seed, progress=progress) for seed in (1, 1, 2))
        assert len(first) == 4
        assert len(set(first.digests)) == 4
        assert first.digests == again.digests
        assert first.digests != other.digests


def test_a_smaller_source_gives_all_it_has_and_that_is_said(tmp_path, noise, spec, progress) -> None:
    np.savez(tmp_path / "pool.npz", images=noise(3))
    assert len(load_ood(tmp_path / "pool.npz", spec, count=500, seed=0, progress=progress)) == 3
    assert progress.lines == [f"'{tmp_path}/pool.npz' has 3 out-of-distribution images, 500 were asked for"]


def test_unreadable_files_are_named_and_too_many_refused(class_folders, spec, progress) -> None:
    folder = class_folders({"a": 10})
    (folder / "a" / "004.png").write_bytes(b"")
    assert len(load_ood(folder, spec, count=10, seed=0, max_unreadable=0.1, progress=progress)) == 9
    assert "004.png' is empty" in progress.lines[0]
    with pytest.raises(DataError, match="1 of 10 images cannot be read"):
        load_ood(folder, spec, count=10, seed=0, max_unreadable=0, progress=progress)


def test_a_folder_without_images_is_refused(tmp_path, spec, progress) -> None:
    with pytest.raises(DataError, match="has no readable image"):
        load_ood(tmp_path, spec, count=10, seed=0, progress=progress)


def test_the_built_in_source_says_what_to_install(spec, progress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match="scikit-learn, which is not installed") as caught:
        load_ood(None, spec, count=4, seed=0, progress=progress)
    assert caught.value.hint == "pip install 'edgec[build]'"
