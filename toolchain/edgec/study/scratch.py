"""Nets that a study trains from scratch: their weights to begin with, and what training them depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edgec.core.classifier import Classifier
from edgec.core.errors import ConfigError, UnsupportedError
from edgec.pipeline.config import BuildConfig
from edgec.pipeline.plan import Plan
from edgec.pipeline.store import StageKey
from edgec.study.config import Training
from edgec.study.draw import Draw

if TYPE_CHECKING:
    from edgec.core.samples import Samples
    from edgec.study.training import Lesson

__all__ = ["lesson_of", "require_trainable", "scratch_key", "training_settings", "untrained", "without_weights"]


def without_weights(config: BuildConfig) -> BuildConfig:
    """The config without what a net from scratch has no use for, which need not be there."""
    model = config.model.model_copy(update={"weights": None})
    data = config.data.model_copy(update={"calibration": None})
    return config.model_copy(update={"model": model, "data": data})


def require_trainable(config: BuildConfig) -> None:
    """Raises UnsupportedError where the model is a finished graph."""
    if config.model.is_onnx:
        raise UnsupportedError(
            f"model '{config.model.name}' is a finished graph, which cannot be trained",
            hint="name its architecture in [model]",
        )


def training_settings(plan: Plan, training: Training, *, seed: int) -> dict[str, Any]:
    """What every training depends on, for the keys of its results."""
    given = training.model_dump(mode="json", exclude={"steps"} if training.epochs else {"epochs"})
    augmentation = plan.config.compress.model_dump(mode="json", include={"shift", "flip"})
    return {"training": given, **augmentation, "accelerator": plan.accelerator.value, "seed": seed}


def scratch_key(
    stage: str, plan: Plan, draw: Draw, *, samples: int | None, settings: Mapping[str, Any], **before: str
) -> StageKey:
    """What a net depends on that is trained from scratch on a draw of the training images.

    Args:
        stage: Its name.
        plan: Whose model and training images.
        draw: Which images.
        samples: Images of the most frequent class, as in `draw_positions`.
        settings: How it is trained, and what else takes part.
        **before: Keys of what it is made from.
    """
    given = {
        **settings,
        "draw": asdict(draw),
        "samples": samples,
        "max_unreadable": plan.data.max_unreadable,
        "model": plan.model.model_dump(mode="json", exclude={"weights", "trained_on"}),
    }
    outside = {name: plan.digests[name] for name in ("model", "train", "tools")}
    return StageKey(stage=stage, settings=given, sources={**outside, **before})


def lesson_of(plan: Plan, samples: Samples, training: Training, *, seed: int) -> Lesson:
    """A training on some images, with the config's augmentation."""
    from edgec.study.training import Lesson

    budget = plan.config.compress
    return Lesson(
        samples=samples,
        input=plan.model.input,
        training=training,
        shift=budget.shift,
        flip=budget.flip,
        seed=seed,
    )


def untrained(plan: Plan, labels: tuple[str, ...], *, seed: int) -> Classifier:
    """The architecture with the weights that a seed gives it.

    Raises:
        ConfigError: It does not give a logit per class of an image.
    """
    import torch

    from edgec.models.load import build_module

    model = plan.model
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = build_module(model, labels).eval()
    try:
        with torch.inference_mode():
            shape = tuple(module(torch.zeros(2, *model.input.shape)).shape)
    except (AttributeError, RuntimeError, AssertionError, IndexError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"model '{model.name}' does not take images of {model.input.shape}: {why}",
            hint="set model.input to the size and channels that it is made for",
        ) from error
    if shape != (2, len(labels)):
        raise ConfigError(
            f"model '{model.name}' gives {shape} for two images, expected (2, {len(labels)}): a logit per label",
            hint="check model.labels, or the number of classes in model.arguments",
        )
    return Classifier(module=module, input=model.input, labels=labels)
