"""`broken.json`: test images that the teacher gets right and the file that ships gets wrong, to be looked at."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgec.core.errors import IntegrityError
from edgec.core.frozen import Frozen
from edgec.core.measurement import Stage
from edgec.core.samples import Samples
from edgec.runtime.session import softmax

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["BROKEN", "Answer", "BrokenImage", "BrokenImages", "encode_broken", "find_broken", "parse_broken"]

BROKEN = "broken.json"
"""The file's name in a bundle."""
MOST = 24
"""Images that are kept, of the rarest classes first and of all classes alike."""
_SIDE = 96
"""Pixels of a picture's longer side; larger images are scaled down."""
_SMALL = 32
"""Up to this side a picture is kept as it is: every pixel of a small image counts, and it costs little."""
_DIGITS = 16
"""Of an image's digest, as in `predictions.npz`."""

Share = Annotated[float, Field(ge=0, le=1)]


class Answer(Frozen):
    """The class that a model gave, and how sure it was."""

    label: str
    score: Share


class BrokenImage(Frozen):
    """One image.

    Attributes:
        image: The first 16 digits of its digest.
        file: Its name, with the folder that it lies in; None where it comes from no file of its own.
        picture: A small PNG or WebP as a data URI; None where pictures were left out.
    """

    image: str = Field(pattern=r"^[0-9a-f]{16}$")
    file: str | None = None
    truth: str
    teacher: Answer
    artifact: Answer
    picture: str | None = Field(default=None, pattern=r"^data:image/(png|webp);base64,[A-Za-z0-9+/]+=*$")


class BrokenImages(BaseModel):
    """Some of the images that broke.

    Attributes:
        total: How many there are.
        images: Those that are kept, classes with the fewest training images first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    total: int = Field(ge=0)
    images: tuple[BrokenImage, ...] = Field(default=(), max_length=200)


def find_broken(
    samples: Samples,
    logits: Mapping[Stage, Float[np.ndarray, "n class"]],
    *,
    classes: Sequence[str],
    train_counts: Sequence[int],
    names: Callable[[int], str | None] = lambda _: None,
    pictures: bool,
    most: int = MOST,
) -> BrokenImages:
    """The images that the teacher gets right and the artifact wrong.

    Of more than `most`, every class gives one in turn, the rarest class first; of a class those come first of which
    the teacher is surest.

    Args:
        samples: The test images.
        logits: Scores by stage, of teacher and artifact at least.
        classes: Names in the order of the scores.
        train_counts: Training images per class.
        names: The file's name by the position of an image.
        pictures: Whether to keep small pictures of them.
        most: Images to keep.
    """
    teacher, artifact = softmax(logits[Stage.TEACHER]), softmax(logits[Stage.ARTIFACT])
    labels: list[int] = samples.labels.tolist()
    given: list[int] = logits[Stage.ARTIFACT].argmax(axis=1).tolist()
    right = logits[Stage.TEACHER].argmax(axis=1) == samples.labels
    broken = np.flatnonzero(right & (np.array(given) != samples.labels))
    chosen = _in_turn(broken, samples.labels, teacher.max(axis=1), np.asarray(train_counts))[:most]
    places: list[int] = chosen.tolist()
    images = [
        BrokenImage(
            image=samples.digests[i][:_DIGITS],
            file=names(i),
            truth=classes[labels[i]],
            teacher=Answer(label=classes[labels[i]], score=_share(teacher[i].max())),
            artifact=Answer(label=classes[given[i]], score=_share(artifact[i].max())),
            picture=_picture(samples.pixels[np.array([i])][0]) if pictures else None,
        )
        for i in places
    ]
    return BrokenImages(total=len(broken), images=tuple(images))


def _in_turn(
    images: Int[np.ndarray, " broken"],
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    train_counts: Int[np.ndarray, " class"],
) -> Int[np.ndarray, " broken"]:
    """The images in the order in which they are kept."""
    surest = images[np.argsort(-scores[images], kind="stable")]
    turn = np.empty(len(surest), dtype=int)
    for label in np.unique(labels[surest]):
        members = labels[surest] == label
        turn[members] = np.arange(members.sum())
    truth = labels[surest]
    return surest[np.lexsort((truth, train_counts[truth], turn))]


def _share(score: float) -> float:
    return min(1.0, round(float(score), 4))


def _picture(pixels: np.ndarray) -> str:
    """A data URI of uint8 [height, width, channels]."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    if max(image.size) <= _SMALL:
        image.save(buffer, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    image.convert("RGB").save(buffer, "WEBP", quality=80, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def encode_broken(broken: BrokenImages) -> bytes:
    """JSON with an image a line."""
    rows = [json.dumps(image.model_dump(mode="json"), ensure_ascii=False) for image in broken.images]
    body = "[\n    " + ",\n    ".join(rows) + "\n  ]" if rows else "[]"
    return f'{{\n  "schema": {broken.schema_version},\n  "total": {broken.total},\n  "images": {body}\n}}\n'.encode()


def parse_broken(data: bytes, *, where: str) -> BrokenImages:
    """Reads what `encode_broken` wrote.

    Raises:
        IntegrityError: Not such a file.
    """
    try:
        return BrokenImages.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or BROKEN
        raise IntegrityError(f"'{where}': {field}: {first['msg']}", hint="build the bundle again") from error
