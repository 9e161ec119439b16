"""What in a build listens to further teachers: losses of logits, in recovery or in training with rounding."""

from __future__ import annotations

from edgec.compress.config import Variant
from edgec.core.errors import ConfigError
from edgec.pipeline.config import BuildConfig, CompressConfig

__all__ = ["ALSO_READS", "recovery_listens", "require_heard", "training_listens"]

ALSO_READS = ("model.teachers",)
"""What a stage reads of further teachers, beside their digests."""


def recovery_listens(compress: CompressConfig, variant: Variant) -> bool:
    """Whether a student's recovery compares logits."""
    if variant == "plain":
        return bool(compress.options.get("logit_weight"))
    recipe = compress.oefsmc
    if "compression" in recipe.parts and recipe.recover == "jointly":
        return recipe.recovery.logit_weight > 0
    return bool(compress.options.get("logit_weight"))


def training_listens(config: BuildConfig) -> bool:
    """Whether training with rounding takes place, and compares logits."""
    return config.quantize.train and config.quantize.training.logit_weight > 0


def require_heard(config: BuildConfig) -> None:
    """Refuses further teachers where nothing that ships would learn from them.

    Raises:
        ConfigError: Neither the recovery of what ships nor training with rounding compares logits.
    """
    compress = config.compress
    recovers = compress.method != "none" and not config.model.is_onnx
    if not config.model.also or training_listens(config) or (recovers and recovery_listens(compress, compress.variant)):
        return
    joint = recovers and compress.variant != "plain" and compress.oefsmc.recover == "jointly"
    recovery = "compress.oefsmc.recovery.logit_weight = 0.05, or " if joint else ""
    raise ConfigError(
        f"model.also names {len(config.model.also)} further teacher{'s' * (len(config.model.also) != 1)}, but no loss "
        "of this build compares logits: they would teach nothing",
        hint=f"set {recovery}quantize.train = true and quantize.training.logit_weight above 0; or name no further ones",
    )
