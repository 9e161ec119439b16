"""Digests of files, folders, values and images."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from edgec.core.digest import digest_bytes, digest_file, digest_image, digest_tree, digest_value


class Settings(BaseModel):
    steps: int = 3
    where: Path = Path("a/b")


def test_bytes_give_the_published_digest() -> None:
    # FIPS 180-2, appendix B.1.
    assert digest_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_memory_view_gives_what_its_bytes_give() -> None:
    assert digest_bytes(memoryview(b"abc")) == digest_bytes(b"abc")


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_a_file_gives_what_its_bytes_give(tmp_path: Path, size: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_folder_depends_on_names_and_contents_and_not_on_where_it_is(tmp_path: Path) -> None:
    def write(root: str, files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).write_text(text)
        return digest_tree(tmp_path / root)

    one = write("one", {"a": "1", "below/b": "2"})
    assert write("two", {"below/b": "2", "a": "1"}) == one
    assert write("three", {"a": "1", "below/b": "3"}) != one
    assert write("four", {"a": "1", "below/c": "2"}) != one
    assert write("five", {"a": "2", "below/b": "1"}) != one
    assert digest_tree(tmp_path / "one" / "a") == digest_file(tmp_path / "one" / "a")


def test_what_lies_behind_links_counts(tmp_path: Path) -> None:
    """It is read, so it is part of what was read."""
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "a").write_text("1")
    (tmp_path / "folder").mkdir()
    empty = digest_tree(tmp_path / "folder")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "away")
    linked = digest_tree(tmp_path / "folder")
    (tmp_path / "away" / "a").write_text("2")
    assert len({empty, linked, digest_tree(tmp_path / "folder")}) == 3


def test_a_value_is_digested_as_compact_json_with_sorted_keys() -> None:
    assert digest_value({"b": [1, 2.5], "a": None}) == digest_bytes(b'{"a":null,"b":[1,2.5]}')


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Settings(), {"steps": 3, "where": "a/b"}),
        ({"x": Settings(steps=4)}, {"x": {"steps": 4, "where": "a/b"}}),
        (Path("a") / "b", "a/b"),
        ((1, (2, 3)), [1, [2, 3]]),
        ((n for n in (1, 2)), [1, 2]),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({3, 1, 2}), [1, 2, 3]),
    ],
)
def test_values_that_json_does_not_know_count_as_what_they_hold(value: object, plain: object) -> None:
    assert digest_value(value) == digest_value(plain)


def test_a_set_gives_the_same_digest_in_every_process() -> None:
    code = "from edgec.core.digest import digest_value; print(digest_value(set('abcdefghijkl')))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_what_cannot_be_digested_is_a_programmers_mistake() -> None:
    with pytest.raises(TypeError, match="cannot digest a object"):
        digest_value({"x": object()})


def test_an_image_is_its_shape_and_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert digest_image(image) == digest_image(image.copy())
    assert digest_image(image) != digest_image(image.reshape(6, 4, 3))
    assert digest_image(image) != digest_image(image[::-1])
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    assert digest_image(image) != digest_image(changed)


def test_how_an_image_lies_in_memory_does_not_count() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert digest_image(np.asfortranarray(image)) == digest_image(image)
    assert digest_image(np.concatenate([image, image], axis=1)[:, :6]) == digest_image(image)
