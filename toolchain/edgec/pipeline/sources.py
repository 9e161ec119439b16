"""What a build reads from outside, opened when a stage first needs it and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edgec.core.declaration import bind
from edgec.core.errors import ContractError, DataError
from edgec.core.progress import Progress
from edgec.core.samples import Images, Samples
from edgec.pipeline.accelerator import open_fabric
from edgec.pipeline.plan import Plan
from edgec.pipeline.scope import OUTSIDE, Covered
from edgec.pipeline.store import StageKey
from edgec.pipeline.student_view import require_distilled

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_fabric import Fabric
    from pydantic import BaseModel

    from edgec.core.classifier import Classifier
    from edgec.core.registry import Registered
    from edgec.core.target import EngineName
    from edgec.models.further import Further
    from edgec.models.onnx.load import OnnxModel
    from edgec.pipeline.latency_price import LatencyPrice
    from edgec.runtime import Session

__all__ = ["Sources"]


class Sources:
    """Teacher, images and accelerator of a plan."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.plan = plan
        self.progress = progress

    def require_bound(self) -> None:
        """Binds what needs heavy imports, before anything runs: a typo fails in seconds, not after an hour.

        Raises:
            ConfigError: An unknown method, setting or class; an architecture or an accelerator that is not there.
            DataError: Weights that do not fit.
        """
        if self.stand_in is not None:
            self.progress.note(self.stand_in)
        if (told := self.plan.model.input_told) is not None:
            self.progress.note(told)
        self.plan.config.gates.require_classes(self.labels)
        _ = self.further
        if self.plan.model.is_onnx:
            self._require_onnx()
            return
        if self.plan.compresses:
            require_distilled(self.plan.config.compress, self.method[0])
        _ = self.fabric, self.classifier
        self.plan.calibration.say_of(self.labels)

    def _require_onnx(self) -> None:
        """Loads the graph, and asks for a target with a linter whether it takes its operators.

        Raises:
            EdgecError: As `load_onnx`.
            UnsupportedError: The target does not run it.
        """
        what = "it ships with the numbers that it has" if self.plan.as_given else "it is quantised as it is"
        self.progress.note(f"the model is an ONNX file: compression is skipped, {what}")
        told = self.onnx.told
        if told:
            self.progress.note(f"the graph as given: {'; '.join(told)}")
        if self.plan.target.runtime.engine == "tensorrt":
            from edgec.export.lint import lint, require_clean, weighted_names

            proto = self.onnx.proto
            require_clean(lint(proto, self.plan.target, kept=weighted_names(proto)))

    @property
    def raw(self) -> bool:
        """Whether the graphs of this build take pixels from 0 to 255 and normalise them themselves."""
        return self.onnx.raw if self.plan.model.is_onnx else self.plan.config.export.preprocess_in_graph

    def varied(self, plan: Plan) -> Sources:
        """Sources of another plan over the same model, images and accelerator; what is open here stays open there."""
        other = Sources(plan, self.progress)
        shared = ("fabric", "labels", "classifier", "onnx", "further", "train", "test", "calibration", "validation")
        vars(other).update({name: value for name, value in vars(self).items() if name in shared})
        return other

    def variations(self, of: Callable[[Plan], Iterator[tuple[str, Plan]]]) -> Iterator[tuple[str, Sources]]:
        """Sources of other plans that follow from this one, each with its name."""
        for name, plan in of(self.plan):
            yield name, self.varied(plan)

    def within(self, key: StageKey) -> Sources:
        """The same, for a stage: reading what its key does not cover is a `ContractError`."""
        return _Scoped(self, key)

    def opens(self, name: str) -> bool:
        """Whether there is such a thing outside, by names of `Plan.digests`, and it is to be read."""
        return name in self.plan.digests

    def tested_on(self, kept: Sequence[int] | None) -> Sources:
        """Sources whose test set holds these of its images alone; themselves for None."""
        if kept is None:
            return self
        other = self.varied(self.plan)
        vars(other)["test"] = self.test.choose(np.array(kept, dtype=np.int64))
        return other

    def holding(self, *, train: Samples, classifier: Classifier) -> Sources:
        """Sources with these training images and this teacher in place of what the plan names."""
        other = self.varied(self.plan)
        vars(other).update(train=train, classifier=classifier)
        return other

    @cached_property
    def fabric(self) -> Fabric:
        """Accelerator and precision."""
        return open_fabric(self.plan.accelerator)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs: the config's, else the training data's."""
        return self.plan.model.labels or self.train.classes

    @cached_property
    def classifier(self) -> Classifier:
        """The teacher, where it is a module."""
        from edgec.models.load import load_classifier

        return load_classifier(self.plan.model, self.labels, held=self.plan.held, note=self.progress.note)

    @cached_property
    def onnx(self) -> OnnxModel:
        """The teacher, where it is an exported graph."""
        from edgec.models.onnx.load import load_onnx

        return load_onnx(self.plan.model, self.labels, opsets=self.plan.opsets)

    @cached_property
    def further(self) -> tuple[Further, ...]:
        """Teachers beside the one that is compressed."""
        if not self.opens("also"):
            return ()
        from edgec.models.further import load_further

        spec, note = self.plan.model.input, self.progress.note
        return tuple(load_further(each, spec, self.labels, note=note) for each in self.plan.model.further)

    @cached_property
    def method(self) -> tuple[Registered, BaseModel]:
        """The compression method and its settings, bound."""
        from edgec.compress.methods import methods

        compress = self.plan.config.compress
        method = methods[compress.method]
        return method, bind(compress.options, method.config, where=f"[compress.{compress.method}]")

    def require_fitting_method(self) -> None:
        """Tries whether the compression method takes this architecture, where it takes some alone.

        Raises:
            UnsupportedError: It does not.
        """
        requires = self.method[0].requires
        if requires is not None:
            import torch

            requires(self.classifier.module, torch.ones(2, *self.classifier.input.shape))

    @cached_property
    def latency(self) -> LatencyPrice | None:
        """What nets take on the target, where compression has a budget of latency."""
        from edgec.pipeline.latency_price import LatencyPrice

        if not self.plan.config.compress.is_of_latency:
            return None
        return LatencyPrice(self.classifier, self.plan.target, raw=self.plan.config.export.preprocess_in_graph)

    def student(self, folder: Path) -> Classifier:
        """The compressed classifier that a stage left in a folder."""
        from edgec.models.checkpoint import load_student

        return load_student(self.classifier, folder)

    @cached_property
    def engine(self) -> EngineName:
        """What runs the graphs of this build here: the target's engine if it runs on CPUs and is installed."""
        from edgec.runtime import is_installed

        wanted = self.plan.target.runtime.engine
        return wanted if wanted == "openvino" and is_installed(wanted) else "onnxruntime"

    @property
    def stand_in(self) -> str | None:
        """What to say where onnxruntime runs the graphs in place of an engine that could run here; else None."""
        if self.plan.target.runtime.engine != "openvino" or self.engine == "openvino":
            return None
        return (
            "OpenVINO is not installed here: onnxruntime ran the graphs in its place, with the same integers but "
            "roundings and times of its own; pip install 'edgec[openvino]'"
        )

    def session(self, model: Path) -> Session:
        """A graph of this build in the runtime, on this machine's CPU."""
        from edgec.runtime import Session

        return Session(model, self.plan.model.input, preprocessing_in_graph=self.raw, engine=self.engine)

    def shipped_session(self, model: Path) -> Session:
        """The graph that ships as its target will run it, as nearly as this machine can.

        A target computes in float16 what this machine would compute of the same graph in float32.
        """
        if not self.emulates_half:
            return self.session(model)
        from edgec.graph.float16 import as_computed_in_float16
        from edgec.runtime import Session

        return Session(as_computed_in_float16(model), self.plan.model.input, preprocessing_in_graph=self.raw)

    @property
    def emulates_half(self) -> bool:
        """Whether `shipped_session` rounds to float16 what this machine computes in float32."""
        return self.plan.target.quantization.computes_in_half and self.plan.target.family != "host"

    @cached_property
    def train(self) -> Samples:
        """All labelled training images."""
        return self._digits[0] if self.plan.data.embedded else self._labelled("train", self.plan.data.train)

    @cached_property
    def test(self) -> Samples:
        """The test images."""
        return self._digits[1] if self.plan.data.embedded else self._labelled("test", self.plan.data.test)

    @cached_property
    def calibration(self) -> Samples | None:
        """Labelled images for the ranges alone, where some were given."""
        path = self.plan.data.calibration
        return None if path is None else self._labelled("calibration", path)

    @cached_property
    def validation(self) -> Samples | None:
        """Labelled images to choose by, where some were given."""
        path = self.plan.data.validation
        return None if path is None else self._labelled("validation", path)

    @cached_property
    def ood(self) -> Images:
        """The OOD pool, not purified yet."""
        return self._unlabelled(self.plan.data.ood, self.plan.data.ood_count, what="out-of-distribution images")

    @cached_property
    def unlabelled(self) -> Images | None:
        """Unlabelled images of the classes, not purified yet, where some were given."""
        path = self.plan.data.unlabelled
        return path and self._unlabelled(path, self.plan.data.unlabelled_count, what="unlabelled images")

    def _unlabelled(self, path: Path | None, count: int, *, what: str) -> Images:
        from edgec.data import load_ood

        return load_ood(
            path,
            self.plan.model.input,
            count=count,
            seed=self.plan.config.seed,
            what=what,
            max_unreadable=self.plan.data.max_unreadable,
            progress=self.progress,
        )

    @cached_property
    def _digits(self) -> tuple[Samples, Samples]:
        from edgec.data import load_digits_splits

        train, test = load_digits_splits()
        labels = self.plan.model.labels or train.classes
        if labels != train.classes:
            raise DataError(
                f"model.labels: got {', '.join(labels)}, the embedded digits are {', '.join(train.classes)}",
                hint="give images of these classes with --train and --test",
            )
        return train, test

    def _labelled(self, split: str, path: Path | None) -> Samples:
        from edgec.data import load_samples

        if path is None:
            raise DataError(f"no {split} images", hint=f"give them with --{split}")
        classes = self.plan.model.labels if split == "train" else self.labels
        return load_samples(
            path,
            self.plan.model.input,
            classes=classes,
            split=split,  # pyright: ignore[reportArgumentType]  # one of four by construction
            max_unreadable=self.plan.data.max_unreadable,
            group=self.plan.data.group,
            progress=self.progress,
        )


_NEEDS = {
    "fabric": ("accelerator",),
    "labels": ("model.labels",),
    "classifier": ("model.name", "model.arguments", "model.checkpoint", "model.output"),
    "onnx": ("model.name",),
    "further": ("model.also",),
    "method": ("config.compress.method", "config.compress.options"),
    "latency": ("config.compress.keep_latency", "config.compress.max_latency_ms"),
    **{name: (f"data.{name}",) for name in ("train", "test", "calibration", "validation", "unlabelled", "ood")},
}
"""What a key must cover before a stage may use each resource."""


class _Scoped(Sources):
    """Sources as one stage may use them; what it opens stays open for all stages."""

    def __init__(self, whole: Sources, key: StageKey) -> None:
        outside = (path for name in key.sources for path in OUTSIDE.get(name, ()))
        self._whole, self._key, self._covers = whole, key, frozenset((*key.settings, *outside))
        super().__init__(cast("Plan", Covered(whole.plan, key.stage, self._covers)), whole.progress)

    def __getattribute__(self, name: str) -> Any:
        if name not in _NEEDS:
            return super().__getattribute__(name)
        for path in _NEEDS[name]:
            if path not in self._covers:
                raise ContractError(f"stage '{self._key.stage}' uses {name}, but its key does not cover {path}")
        return getattr(self._whole, name)

    def opens(self, name: str) -> bool:
        return name in self._key.sources

    def varied(self, plan: Plan) -> Sources:
        return self._whole.varied(plan).within(self._key)

    def variations(self, of: Callable[[Plan], Iterator[tuple[str, Plan]]]) -> Iterator[tuple[str, Sources]]:
        for name, other in self._whole.variations(of):
            yield name, other.within(self._key)
