"""A config for a model and images that somebody has: both are opened, and what they say is written down."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress, Silent
from edgec.core.samples import Samples
from edgec.core.wording import join_names
from edgec.models.config import ModelConfig
from edgec.pipeline.config import BuildConfig, read_config

__all__ = ["Draft", "draft_config"]

TEST_SHARE = 0.2
"""Of each class's pictures, where no test images are given."""
_SHOWN = 8
"""Classes that are named."""
_GLANCE = 16
"""Out-of-distribution images that are opened."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What a config is to say.

    Attributes:
        settings: By dotted name; paths as they were given, from the current folder.
        table: Where test images were drawn, a table of paths, labels and splits, as CSV.
    """

    settings: Mapping[str, Any]
    table: bytes | None = None


def draft_config(given: Mapping[str, Any], *, table: Path, progress: Progress) -> Draft:
    """Opens a model and images, and compares them.

    Args:
        given: Settings by dotted name, `model.name` and `data.train` among them.
        table: Where a table of drawn test images will lie.
        progress: Told what was found.

    Returns:
        What was given; `name`, `model.input`, `model.labels` and the test images as far as they were found.

    Raises:
        EdgecError: As building would: the model does not load, or the images do not fit it.
    """
    config = _bound(given, progress)
    train = _samples(config, "train", config.model.labels, progress)
    labels = _labels(config.model, train, progress)
    _load(config.model, labels, progress)
    few = train.counts[train.counts > 0]
    progress.note(
        f"training images: {len(train)} of {len(few)} classes ({join_names(train.classes, most=_SHOWN)}), "
        f"{few.min()} to {few.max()} a class"
    )
    others = {name: value for name, value in given.items() if not name.startswith(("model.input", "model.preset"))}
    settings = {"name": _name(config.model), **others, **_input(config.model.input), "model.labels": list(labels)}
    rows = None
    if "data.test" in given:
        _samples(config, "test", labels, progress)
    elif _has_test_images(config, train, labels):
        settings["data.test"] = given["data.train"]
        progress.note(f"test images: the part of '{given['data.train']}' that is for them")
    else:
        rows = _drawn(train, table, progress)
        settings.update({"data.train": str(table), "data.test": str(table)})
    if config.data.ood is not None:
        _glance(config)
    return Draft(settings=settings, table=rows)


def _bound(given: Mapping[str, Any], progress: Progress) -> BuildConfig:
    """The config so far, in which the training images stand for test images; the input as the model says."""
    from edgec.models.torchvision_weights import likely_weights

    named = {"data.test": given["data.train"], **given}
    likely = likely_weights(given["model.name"], given.get("model.weights"))
    if likely is not None and not any(name.startswith(("model.input", "model.preset")) for name in given):
        named["model.preset"] = likely.name
        if not likely.certain:
            progress.note(f"model.input: as {likely.name} were trained; change it where this model was not")
    config = read_config(None, list(named.items()))
    if config.model.input_told is not None:
        progress.note(config.model.input_told)
    return config


def _samples(config: BuildConfig, split: str, labels: tuple[str, ...] | None, progress: Progress) -> Samples:
    from edgec.data import load_samples

    return load_samples(
        getattr(config.data, split),
        config.model.input,
        classes=labels,
        split=split,  # pyright: ignore[reportArgumentType]  # train or test
        max_unreadable=config.data.max_unreadable,
        group=config.data.group,
        progress=progress,
    )


def _labels(model: ModelConfig, train: Samples, progress: Progress) -> tuple[str, ...]:
    """The classes of the outputs: the model's own, where the images are of these."""
    from edgec.models.own_labels import own_labels

    own = own_labels(model) if model.labels is None else None
    if own is None:
        return model.labels or train.classes
    if not set(train.classes) <= set(own):
        names = join_names(own, most=_SHOWN)
        progress.note(f"model.labels: the model names its classes {names}; taken are those of the images, sorted")
        return train.classes
    progress.note(f"model.labels: the model's own {len(own)}, of which {len(train.classes)} have training images")
    return own


def _load(model: ModelConfig, labels: tuple[str, ...], progress: Progress) -> None:
    """Loads the model, which must give a logit for each label."""
    if model.is_onnx:
        from edgec.models.onnx.load import load_onnx

        for text in load_onnx(model, labels).told:
            progress.note(f"the graph as given: {text}")
        return
    from edgec.models.load import load_classifier

    load_classifier(model, labels, note=progress.note)


def _name(model: ModelConfig) -> str:
    """A name for the bundle, after the model."""
    last = Path(model.name.rpartition(":")[2]).name.removesuffix(".onnx")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-") or "classifier"


def _input(spec: InputSpec) -> dict[str, Any]:
    """Settings of the input: what must be said, and what is not as usual."""
    usual = {name: each.default for name, each in InputSpec.model_fields.items()}
    told = {
        name: value
        for name, value in spec.model_dump(mode="json").items()
        if name in ("height", "width", "channels", "mean", "std", "resize") or getattr(spec, name) != usual[name]
    }
    return {f"model.input.{name}": value for name, value in told.items()}


def _has_test_images(config: BuildConfig, train: Samples, labels: tuple[str, ...]) -> bool:
    """Whether the source of the training images has others for testing; what is wrong with those is an error."""
    from edgec.data import NoSplitError

    try:
        test = _samples(config, "test", labels, Silent())
    except NoSplitError:
        return False
    return set(test.digests) != set(train.digests)


def _drawn(train: Samples, table: Path, progress: Progress) -> bytes:
    """A share of each class's pictures for testing; equal pictures stay together, and are for training.

    Raises:
        DataError: The images are of no files that could be listed.
    """
    from edgec.data import files_of

    paths = files_of(train)
    if paths is None or train.groups is not None:
        why = "are of no files of their own" if paths is None else "belong together in groups"
        raise DataError(f"no test images, and {train.source} {why}: none are drawn", hint="give them with --test")
    times = Counter(train.digests)
    once = np.array([times[digest] == 1 for digest in train.digests])
    generator, tested = np.random.default_rng(0), set[int]()
    for label, count in enumerate(train.counts):
        free = np.flatnonzero((train.labels == label) & once)
        wanted = min(len(free), round(TEST_SHARE * count) or int(count > 1))
        tested.update(generator.choice(free, size=wanted, replace=False).tolist())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    for position, (path, label) in enumerate(zip(paths, train.labels, strict=True)):
        place = Path(os.path.relpath(path, table.parent)).as_posix()
        writer.writerow((place, train.classes[label], "test" if position in tested else "train"))
    progress.note(
        f"test images: {len(tested)} of the {len(train)} were drawn, listed in '{table}'. Accuracies hold only if the "
        "model was not trained on them: give those that you held out with --test"
    )
    return text.getvalue().encode()


def _glance(config: BuildConfig) -> None:
    """Opens some of the out-of-distribution images."""
    from edgec.data import load_ood

    load_ood(config.data.ood, config.model.input, count=_GLANCE, seed=config.seed, progress=Silent())
