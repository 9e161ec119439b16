"""What a config asks that students see (robust recovery), and whether what it runs can show them that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.core.errors import ConfigError
from edgec.learn.config import OPERATIONS, DistillConfig, Operation, Robust
from edgec.pipeline.config import BuildConfig, CompressConfig

if TYPE_CHECKING:
    from edgec.core.registry import Registered

__all__ = ["operations_of", "require_distilled", "require_learner", "training_robust"]


def operations_of(config: BuildConfig, *, compresses: bool) -> tuple[Operation, ...]:
    """What changes the images that any student of a build sees.

    Args:
        config: What is asked for.
        compresses: Whether there is a recovery.
    """
    saw = (config.deck.members or (config.compress.robust,)) if compresses else ()
    recovery: list[Operation] = [operation for robust in saw for operation in OPERATIONS[robust]]
    training = OPERATIONS[training_robust(config)] if config.quantize.train else ()
    return tuple(dict.fromkeys((*recovery, *training)))


def training_robust(config: BuildConfig) -> Robust:
    """What the rounded net sees in training: what its settings say, else what those of recovery say."""
    return config.quantize.training.robust or config.compress.robust


def require_learner(config: BuildConfig) -> None:
    """Refuses robust recovery where nothing learns.

    Raises:
        ConfigError: There is neither recovery nor training with rounding.
    """
    compresses, own = config.compress.method != "none" and not config.model.is_onnx, config.quantize.training.robust
    if own not in (None, "none") and not config.quantize.train:
        raise ConfigError(
            f"quantize.training.robust = '{own}': the net is not trained with rounding",
            hint="set quantize.train = true, or leave it out",
        )
    if config.compress.robust == "none" or operations_of(config, compresses=compresses):
        return
    why = f"the model '{config.model.name}' is an ONNX file" if config.model.is_onnx else "compress.method is 'none'"
    raise ConfigError(
        f"compress.robust = '{config.compress.robust}': {why}, so no student recovers",
        hint="leave compress.robust out, or set quantize.train = true, whose net then sees the changed images",
    )


def require_distilled(compress: CompressConfig, method: Registered) -> None:
    """Refuses robust recovery where a variant recovers without distillation, and would pass over it in silence.

    A method distils by itself if its settings are those of distillation (`DistillConfig`).

    Raises:
        ConfigError: One does.
    """
    if compress.robust == "none" or issubclass(method.config, DistillConfig):
        return
    recipe = compress.oefsmc
    jointly = "compression" in recipe.parts and recipe.recover == "jointly"
    alone = [name for name in (compress.variant, *compress.compare) if name == "plain" or not jointly]
    if alone:
        shipped = alone[0] == compress.variant
        joint = "set compress.oefsmc.recover = 'jointly', with 'compression' in compress.oefsmc.parts"
        other = "set compress.variant = 'ours'" if shipped else "take 'plain' out of compress.compare"
        raise ConfigError(
            f"compress.robust = '{compress.robust}': variant '{alone[0]}' of method '{method.name}' recovers in a way "
            "of its own, which shows no images to a student",
            hint=f"{other if jointly else joint}, or leave compress.robust out",
        )
