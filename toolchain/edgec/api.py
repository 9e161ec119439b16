"""What `import edgec` promises: build a bundle, check it, run it and read its report, without the command line.

Every function is the one that the command of its name calls, and raises the same `EdgecError`. Values are frozen and
show themselves in a notebook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgec.core.errors import DataError, EdgecError
from edgec.core.progress import Lines, Progress, Silent
from edgec.core.target import Target, known_targets
from edgec.runtime.prediction import Prediction

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import nn

    from edgec.core.images import Picture
    from edgec.core.measurement import Measurement
    from edgec.evaluate.gates import GateResult
    from edgec.evaluate.report import Report as ReportValues
    from edgec.package import Manifest
    from edgec.runtime.model import Model as LoadedModel

__all__ = [
    "Bundle",
    "EdgecError",
    "Model",
    "Prediction",
    "Report",
    "Verdict",
    "build",
    "check",
    "load",
    "report",
    "targets",
]

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


def build(
    config: Place | Mapping[str, Any] | None = None,
    *,
    model: nn.Module | None = None,
    target: Place | None = None,
    output: Place | None = None,
    settings: Mapping[str, Any] | None = None,
    cache: Place | None = None,
    cache_limit_bytes: int | None = 10_000_000_000,
    device: str = "auto",
    progress: Progress | Callable[[str], object] | None = None,
) -> Bundle:
    """Compresses, exports, calibrates, quantises, evaluates and packages a classifier, as `edgec build` does.

    Args:
        config: An `edgec.toml`, or a mapping with its tables; None builds the demonstration on handwritten digits.
        model: A trained classifier, in place of the config's `model.name` and `model.weights`; it is left as it is.
        target: Device profile, by name or file; None takes the config's.
        output: The bundle's folder; None is `build/NAME-TARGET`. The archive is written beside it.
        settings: Single settings by dotted name, as in `{"compress.steps": 500}`; they override the config.
        cache: Stage cache; None is `.edgec/cache`.
        cache_limit_bytes: Size to which the build cuts the cache back, the least recently used entries first; what
            it used itself stays. None is no limit.
        device: Where to train: `auto`, `cpu` or `cuda`.
        progress: Told of stages, steps and facts. A function, such as `print`, gets a line for each stage and fact.

    Raises:
        EdgecError: Any expected failure; the output is as it was before.
    """
    from edgec.pipeline import build as pipeline
    from edgec.pipeline.accelerator import Accelerator
    from edgec.pipeline.config import read_config
    from edgec.pipeline.plan import plan_build
    from edgec.pipeline.store import CACHE, Store

    overrides = [*(() if target is None else [("target", fspath(target))]), *(settings or {}).items()]
    overrides += [] if model is None else [("model.name", f"memory:{type(model).__name__}")]
    source = config if config is None or isinstance(config, Mapping) else Path(config)
    plan = plan_build(read_config(source, overrides), accelerator=Accelerator.named(device), module=model)
    told = Silent() if progress is None else progress if isinstance(progress, Progress) else Lines(progress)
    place = None if output is None else Path(output)
    store = Store(Path(cache or CACHE))
    built = pipeline.build(plan, store=store, output=place, cache_limit_bytes=cache_limit_bytes, progress=told)
    return Bundle(built.bundle)


def check(
    bundle: Place, gates: Mapping[str, Any] | None = None, *, baseline: Place | None = None, test: Place | None = None
) -> Verdict:
    """Compares a bundle with gates, as `edgec check` does; nothing is raised where one is not met.

    Args:
        bundle: Folder or archive.
        gates: Limits by name, as in `[gates]`: `{"min_worst_class_accuracy": 0.7}`; None takes the bundle's own.
        baseline: The bundle that is deployed now: no class may be worse than in it.
        test: Labelled images to run the bundles on first; None takes what was measured when they were built.

    Raises:
        ConfigError: An unknown gate, or none at all.
        DataError: There is no bundle.
        IntegrityError: A bundle is damaged or was edited.
    """
    from edgec.core.declaration import bind
    from edgec.evaluate.gate_settings import Gates
    from edgec.pipeline.check import check_bundle

    asked = bind(dict(gates or {}), Gates, where="gates")
    results = check_bundle(
        Path(bundle),
        asked,
        baseline=None if baseline is None else Path(baseline),
        test=None if test is None else Path(test),
        progress=Silent(),
    )
    return Verdict(bundle=Path(bundle), gates=tuple(results))


def load(bundle: Place, *, key: Place | None = None) -> Model:
    """The model of a bundle, after every file of it was compared with the manifest; needs no extra.

    Args:
        bundle: Folder or archive.
        key: Public key, PEM: the bundle must have a signature made with it.

    Raises:
        DataError: There is no bundle.
        IntegrityError: It is damaged, was edited, or is not signed as asked.
    """
    from edgec.package import Trust
    from edgec.runtime import load_model

    return Model(load_model(Path(bundle), trust=None if key is None else Trust.read(key=Path(key))))


def report(bundle: Place) -> Report:
    """Every number about a bundle, after it was verified.

    Raises:
        DataError: There is no bundle.
        IntegrityError: It is damaged or was edited.
    """
    from edgec.pipeline.check import read_evidence

    return Report(bundle=Path(bundle), values=read_evidence(Path(bundle)).report)


def targets() -> dict[str, Target]:
    """The device profiles that ship with edgec, by name."""
    return dict(sorted(known_targets().items()))


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
