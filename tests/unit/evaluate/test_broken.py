"""Images that broke: which, in what order, with what picture; read back and refused where damaged."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import IntegrityError
from edgec.core.measurement import Stage
from edgec.core.samples import Samples
from edgec.evaluate.broken import BrokenImages, encode_broken, find_broken, parse_broken

CLASSES = ("cat", "dog", "eel")
COUNTS = (50, 1, 7)


def samples(labels: list[int], side: int = 8, channels: int = 3) -> Samples:
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8)
    return Samples(
        pixels=pixels,
        digests=tuple(f"{i:064x}"[::-1] for i in range(1, len(labels) + 1)),
        source="here",
        labels=np.array(labels),
        classes=CLASSES,
    )


def logits(given: list[int], sureness: list[float] | None = None) -> np.ndarray:
    return np.eye(3)[given] * np.array(sureness or [5.0] * len(given))[:, None]


def find(
    truth: list[int],
    teacher: list[int],
    artifact: list[int],
    *,
    sureness: list[float] | None = None,
    pictures: bool = True,
    most: int = 24,
    side: int = 8,
) -> BrokenImages:
    scores = {Stage.TEACHER: logits(teacher, sureness), Stage.ARTIFACT: logits(artifact)}
    return find_broken(samples(truth, side), scores, classes=CLASSES, train_counts=COUNTS, pictures=pictures, most=most)


def test_only_images_that_the_teacher_gets_right_and_the_artifact_wrong_are_there() -> None:
    found = find(truth=[0, 0, 1, 2], teacher=[0, 0, 0, 2], artifact=[0, 1, 0, 0])
    assert found.total == 2
    assert [(image.truth, image.teacher.label, image.artifact.label) for image in found.images] == [
        ("eel", "eel", "cat"),
        ("cat", "cat", "dog"),
    ]


def test_of_many_every_class_gives_one_in_turn_the_rarest_first_and_the_surest_of_it() -> None:
    truth = [0] * 5 + [1] * 2 + [2] * 2
    found = find(truth, truth, [(i + 1) % 3 for i in truth], sureness=[1, 2, 9, 3, 4, 1, 6, 1, 2], most=5)
    assert found.total == 9
    assert [image.truth for image in found.images] == ["dog", "eel", "cat", "dog", "eel"]
    assert [image.image for image in found.images[:3]] == [samples(truth).digests[i][:16] for i in (6, 8, 2)]


def test_scores_are_the_softmax_of_the_logits() -> None:
    image = find([0], [0], [2]).images[0]
    share = np.exp(5) / (np.exp(5) + 2)
    assert (image.teacher.score, image.artifact.score) == (round(share, 4), round(share, 4))


def test_a_small_picture_is_kept_pixel_by_pixel() -> None:
    picture = find([0], [0], [1]).images[0].picture
    assert picture is not None
    kind, _, data = picture.partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), samples([0]).decoded()[0])


def test_a_large_picture_is_scaled_down() -> None:
    picture = find([0], [0], [1], side=224).images[0].picture
    assert picture is not None
    assert picture.startswith("data:image/webp;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).size == (96, 96)


def test_pictures_can_be_left_out() -> None:
    assert [image.picture for image in find([0, 1], [0, 1], [1, 2], pictures=False).images] == [None, None]


def test_an_image_has_the_name_of_its_file_where_there_is_one() -> None:
    scores = {Stage.TEACHER: logits([0, 1]), Stage.ARTIFACT: logits([1, 2])}
    given = {"classes": CLASSES, "train_counts": COUNTS, "pictures": False}
    named = find_broken(samples([0, 1]), scores, names=lambda i: f"cat/{i}.png" if i else None, **given)
    assert {image.truth: image.file for image in named.images} == {"cat": None, "dog": "cat/1.png"}


def test_bytes_come_back_as_they_went() -> None:
    found = find([0, 1], [0, 1], [1, 2])
    assert parse_broken(encode_broken(found), where="b") == found
    empty = BrokenImages(total=0)
    assert parse_broken(encode_broken(empty), where="b") == empty


@pytest.mark.parametrize(
    ("picture", "told"),
    [("https://elsewhere/x.png", "images.0.picture"), ("data:image/svg+xml;base64,AA==", "images.0.picture")],
)
def test_a_picture_that_is_none_is_refused(picture: str, told: str) -> None:
    fields = json.loads(encode_broken(find([0], [0], [1])))
    fields["images"][0]["picture"] = picture
    with pytest.raises(IntegrityError, match=told):
        parse_broken(json.dumps(fields).encode(), where="b")


def test_bytes_that_are_no_json_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"'b': broken\.json: Invalid JSON"):
        parse_broken(b"{", where="b")
