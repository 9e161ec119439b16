"""What the functions of `import edgec` give back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgec.core.errors import DataError
from edgec.runtime.prediction import Prediction

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from edgec.core.images import Picture
    from edgec.core.measurement import Measurement
    from edgec.evaluate.gates import GateResult
    from edgec.evaluate.report import Report as ReportValues
    from edgec.package import Manifest
    from edgec.runtime.model import Model as LoadedModel
    from edgec.tuning.candidate import Tuned

__all__ = ["Bundle", "Family", "Model", "Place", "Prediction", "Report", "Tuning", "Verdict"]

Place: TypeAlias = "str | PathLike[str]"
"""A path; an `edgec.Bundle` is one."""
OneImage: TypeAlias = "Place | Image.Image | np.ndarray"


@dataclass(frozen=True)
class Bundle:
    """A finished bundle; wherever a path is asked for, it stands for its own.

    Attributes:
        path: The folder or archive.
    """

    path: Path

    @property
    def name(self) -> str:
        """Of the build."""
        return self._manifest.name

    @property
    def target(self) -> str:
        """The device profile's name."""
        return self._manifest.target.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return tuple(self._manifest.labels)

    @cached_property
    def _manifest(self) -> Manifest:
        from edgec.package import open_bundle

        return open_bundle(self.path).manifest

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """Name, target and the accuracy of every class, for a notebook."""
        from edgec.pipeline.check import read_evidence
        from edgec.render.notebook import class_table

        caption = f"{self.name} for {self._manifest.target.title}"
        return class_table(read_evidence(self.path).report, caption=caption)


@dataclass(frozen=True)
class Family:
    """Bundles of one teacher for several devices; wherever a path is asked for, it stands for its own.

    Attributes:
        path: The folder.
    """

    path: Path

    @cached_property
    def members(self) -> dict[str, Bundle]:
        """The bundles, by the names of their targets."""
        from edgec.package.family import member_names

        return {target: Bundle(self.path / target) for target in member_names(self.path)}

    @property
    def page(self) -> Path:
        """Size against the worst class, and every class over all members."""
        return self.path / "family.html"

    def __fspath__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        """The members' tables, for a notebook."""
        return "".join(bundle._repr_html_() for bundle in self.members.values())


@dataclass(frozen=True, repr=False)
class Verdict:
    """What gates say of a bundle; true where nothing blocks it.

    Attributes:
        bundle: What was checked.
        gates: Every gate with its limit, what was found, and whether it blocks.
    """

    bundle: Path
    gates: tuple[GateResult, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing blocks."""
        from edgec.evaluate.gates import Check

        return Check.of(self.gates).passed

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        blocking = sum(gate.blocks for gate in self.gates)
        return f"Verdict({str(self.bundle)!r}: {blocking} of {len(self.gates)} gates block)"

    def _repr_html_(self) -> str:
        """The gates, for a notebook."""
        from edgec.render.notebook import gate_table

        return gate_table(self.gates, caption=f"{self.bundle.name}: {'passed' if self.passed else 'not passed'}")


@dataclass(frozen=True, repr=False)
class Report:
    """Every number about a bundle.

    Attributes:
        bundle: What it is about.
        values: `report.json`, verified against the bundle.
    """

    bundle: Path
    values: ReportValues

    @property
    def rows(self) -> tuple[Measurement, ...]:
        """Every measurement: its stage, name, class, value, unit, n and interval."""
        return self.values.measurements

    @property
    def classes(self) -> list[dict[str, Any]]:
        """A record for each class, most training images first, as `pandas.DataFrame` takes them.

        `class`, `train` and `test` (images), then the accuracy from 0 to 1 in each stage that was measured: `teacher`,
        `baseline`, `few`, `compressed`, `artifact`.
        """
        from edgec.render.view import class_rows

        return [
            {"class": row.label, "train": row.train, "test": row.test}
            | {mark.stage.value: mark.value for mark in row.marks}
            for row in class_rows(self.values)
        ]

    def to_html(self) -> str:
        """The page of `edgec report`, which works offline.

        Raises:
            MissingDependencyError: jinja2 is not installed.
        """
        from edgec.pipeline.pages import report_page

        return report_page(self.bundle)

    def __repr__(self) -> str:
        return f"Report({str(self.bundle)!r}: {len(self.rows)} measurements of {len(self.values.labels)} classes)"

    def _repr_html_(self) -> str:
        """The page in a frame, for a notebook."""
        from edgec.render.notebook import framed

        return framed(self.to_html(), title=self.values.title)


@dataclass(frozen=True, repr=False)
class Tuning:
    """What a search came to.

    Attributes:
        folder: Where its `tune.json` and `tune.html` are.
        bundle: The fastest candidate that is good enough; None where none is.
        values: `tune.json`: every candidate with its settings, agreement by class, latency and size.
    """

    folder: Path
    bundle: Bundle | None
    values: Tuned

    def __repr__(self) -> str:
        chosen = "none chosen" if self.bundle is None else f"no. {self.values.chosen} chosen"
        return f"Tuning({str(self.folder)!r}: {len(self.values.candidates)} candidates, {chosen})"

    def _repr_html_(self) -> str:
        """The page in a frame, for a notebook."""
        from edgec.render.notebook import framed
        from edgec.tuning.page import render_tuned

        return framed(render_tuned(self.values), title=self.values.name)


@dataclass(frozen=True, repr=False)
class Model:
    """A bundle's model, ready to run.

    Attributes:
        loaded: What runs it, and the bundle that it came from.
    """

    loaded: LoadedModel

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return tuple(self.loaded.labels)

    @property
    def note(self) -> str | None:
        """What to know about how it runs here, where that is not as the bundle asks; else None."""
        return self.loaded.note

    def predict(self, images: OneImage | Iterable[OneImage], *, unknown: bool = False) -> list[Prediction]:
        """An answer for each image, in order; sizes and channels are fitted as `edgec predict` does.

        Args:
            images: One or many of: a path, a PIL image, uint8 [height, width, channels]; or uint8 [n, height, width,
                channels]. Channels are 1 or 3.
            unknown: Answer `unknown` where the confidence is below the bundle's threshold.

        Raises:
            DataError: An image cannot be read, or is something else; or the bundle has no threshold.
        """
        from edgec.runtime import predict_files, prediction_of

        found: list[Prediction] = []
        for _, scores in predict_files(self.loaded, map(_picture, _each(images))):
            if isinstance(scores, DataError):
                raise scores
            found.append(prediction_of(self.loaded, scores, unknown=unknown))
        return found

    def __repr__(self) -> str:
        return f"Model({str(self.loaded.bundle.path)!r}: {len(self.labels)} classes)"


def _each(images: OneImage | Iterable[OneImage]) -> Iterable[OneImage]:
    """Images one by one: only an array of four dimensions holds several."""
    from PIL.Image import Image

    is_one = isinstance(images, (str, PathLike, Image)) or getattr(images, "ndim", 4) < 4
    return [images] if is_one else images  # pyright: ignore[reportReturnType] - an array's rank is no type


def _picture(image: OneImage) -> Picture:
    from numpy import ndarray
    from PIL.Image import Image

    if isinstance(image, (str, PathLike)):
        return Path(image)
    if isinstance(image, (Image, ndarray)):
        return image
    raise DataError(
        f"got {type(image).__name__} for an image, expected a path, a PIL image or a NumPy array",
        hint="convert it: numpy.asarray(image), uint8 [height, width, channels]",
    )
