"""`predictions.npz`: what every model of a build made of every test image, so that bundles can be compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from edgec.core.errors import IntegrityError
from edgec.core.measurement import Stage
from edgec.core.untrusted_arrays import arrays_bytes, stored_arrays
from edgec.evaluate.paired import Outcomes, Pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["Predictions"]

_DIGITS = 16
"""Of an image's digest: 64 bits, in which a million images meet with a chance of 3e-8."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The classes that models gave to the test images.

    Attributes:
        images: uint64 [n], the first 64 bits of each image's digest.
        truth: int32 [n], positions in `classes`.
        given: By stage int32 [n], positions in `classes`.
        classes: Class names in the order of the outputs.
    """

    images: Int[np.ndarray, " n"]
    truth: Int[np.ndarray, " n"]
    given: Mapping[Stage, Int[np.ndarray, " n"]]
    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        digests: Sequence[str],
        labels: Int[np.ndarray, " n"],
        logits: Mapping[Stage, Float[np.ndarray, "n class"]],
        classes: Sequence[str],
    ) -> Self:
        """The class with the highest score, for every stage."""
        return cls(
            images=np.array([int(digest[:_DIGITS], 16) for digest in digests], dtype=np.uint64),
            truth=labels.astype(np.int32),
            given={stage: scores.argmax(axis=1).astype(np.int32) for stage, scores in logits.items()},
            classes=tuple(classes),
        )

    @classmethod
    def from_bytes(cls, data: bytes, classes: Sequence[str], *, where: str) -> Self:
        """Reads what `to_bytes` wrote; nothing is unpickled.

        Raises:
            IntegrityError: Not such a file, or arrays that do not fit together.
        """
        arrays = stored_arrays(data, where=f"'{where}': predictions.npz")
        stages = [name for name in arrays if name not in ("images", "truth")]
        if not {"images", "truth", "teacher", "artifact"} <= arrays.keys() or not set(stages) <= {
            stage.value for stage in Stage
        }:
            raise _refused(where, f"it holds {', '.join(sorted(arrays)) or 'nothing'}")
        images, truth = arrays["images"], arrays["truth"]
        given = {Stage(name): arrays[name] for name in stages}
        if images.dtype != np.uint64 or images.ndim != 1:
            raise _refused(where, f"images are {images.dtype} {images.shape}, expected uint64 (n,)")
        for name, values in {name: arrays[name] for name in ("truth", *stages)}.items():
            if values.dtype != np.int32 or values.shape != images.shape:
                raise _refused(where, f"{name} is {values.dtype} {values.shape}, expected int32 {images.shape}")
            if len(values) and not 0 <= values.min() <= values.max() < len(classes):
                raise _refused(where, f"{name} names a class that is not there")
        return cls(images=images, truth=truth, given=given, classes=tuple(classes))

    def to_bytes(self) -> bytes:
        """An uncompressed `.npz`; equal predictions give equal bytes."""
        given = {stage.value: values for stage, values in self.given.items()}
        return arrays_bytes({"images": self.images, "truth": self.truth, **given})

    def against_teacher(self) -> Outcomes:
        """The teacher first, the artifact second, on the same images; nothing where the teacher was not run."""
        if Stage.TEACHER not in self.given:
            return {}
        first, second = self.given[Stage.TEACHER], self.given[Stage.ARTIFACT]
        return Pairs(truth=self.truth, first=first, second=second, classes=self.classes).outcomes()

    def against(self, baseline: Predictions) -> Outcomes:
        """What became of the images of `pairs_with`; nothing where none is shared."""
        pairs = self.pairs_with(baseline)
        return pairs.outcomes() if len(pairs.truth) else {}

    def pairs_with(self, baseline: Predictions) -> Pairs:
        """The baseline's artifact first, this one second, on the images that both were evaluated on.

        Classes go by their names. Of a class without an image in both there is none.
        """
        _, mine, theirs = np.intersect1d(self.images, baseline.images, return_indices=True)
        names, others = np.array(self.classes), np.array(baseline.classes)
        same = names[self.truth[mine]] == others[baseline.truth[theirs]]
        mine, theirs = mine[same], theirs[same]
        position = {name: i for i, name in enumerate(self.classes)}
        here = np.array([position.get(name, -1) for name in baseline.classes])
        return Pairs(
            truth=self.truth[mine],
            first=here[baseline.given[Stage.ARTIFACT][theirs]],
            second=self.given[Stage.ARTIFACT][mine],
            classes=self.classes,
        )


def _refused(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': predictions.npz: {reason}", hint="build the bundle again")
