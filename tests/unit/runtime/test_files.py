"""Folders of images through a model: in order, decoded ahead, and no file stops another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_image
from edgec.runtime import load_model, predict_files

COUNT = 23


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(5)
    paths = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_scores_are_those_of_one_by_one(bundle: Path, files: list[Path], batch: int) -> None:
    model = load_model(bundle)
    found = list(predict_files(model, files, batch=batch))
    assert [path for path, _ in found] == files
    alone = [model.predict(decode_image(path, model.bundle.manifest.input)[None])[0] for path in files]
    # Sums over a batch may run in another order than over one image.
    np.testing.assert_allclose(np.stack([scores for _, scores in found]), alone, rtol=1e-5)


def test_a_file_that_cannot_be_read_gives_its_error_in_its_place(bundle: Path, files: list[Path]) -> None:
    files[3].write_bytes(b"no image")
    files.insert(11, files[0].with_name("gone.png"))
    found = list(predict_files(load_model(bundle), files, batch=4))
    assert [i for i, (_, scores) in enumerate(found) if isinstance(scores, DataError)] == [3, 11]
    assert len(found) == COUNT + 1


def test_a_batch_of_errors_runs_nothing(bundle: Path, tmp_path: Path) -> None:
    found = list(predict_files(load_model(bundle), [tmp_path / "a.png", tmp_path / "b.png"]))
    assert all(isinstance(scores, DataError) for _, scores in found)


def test_no_files_give_nothing(bundle: Path) -> None:
    assert list(predict_files(load_model(bundle), [])) == []


def test_paths_are_taken_only_a_little_ahead(bundle: Path, files: list[Path]) -> None:
    taken: list[Path] = []

    def watched():
        for path in files:
            taken.append(path)
            yield path

    found = predict_files(load_model(bundle), watched(), batch=2)
    next(found)
    assert len(taken) <= 6
    found.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert len(taken) <= 6
