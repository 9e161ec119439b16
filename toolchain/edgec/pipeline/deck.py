"""The members of a deck: builds that differ in what their students saw, of which one bundle is made."""

from __future__ import annotations

from edgec.core.errors import ConfigError, UnsupportedError
from edgec.core.target import Target
from edgec.learn.config import Robust
from edgec.pipeline.config import BuildConfig

__all__ = ["config_of_member", "first_member", "require_deck"]


def config_of_member(config: BuildConfig, robust: Robust) -> BuildConfig:
    """The config of one member."""
    return config.model_copy(update={"compress": config.compress.model_copy(update={"robust": robust})})


def first_member(config: BuildConfig) -> BuildConfig:
    """The config of a deck's first member; of other builds, the config itself.

    Raises:
        ConfigError: `compress.robust` says otherwise.
    """
    members, robust = config.deck.members, config.compress.robust
    if not members:
        return config
    if robust != "none":
        raise ConfigError(
            f"compress.robust = '{robust}', and deck.members are {', '.join(members)}",
            hint="leave compress.robust out: the members say what each student sees",
        )
    return config_of_member(config, members[0])


def require_deck(config: BuildConfig, target: Target, *, compresses: bool) -> None:
    """Refuses a deck where there are no students, or where no deck was shown to run.

    Raises:
        ConfigError: Nothing is compressed, so that no student recovers.
        UnsupportedError: The target's runtime is not onnxruntime.
    """
    members = config.deck.members
    if len(members) < 2:
        return
    if not compresses:
        raise ConfigError(
            f"deck.members = {', '.join(members)}: the model '{config.model.name}' is not compressed, so no student "
            "recovers",
            hint="leave [deck] out, or give a PyTorch model and a compress.method",
        )
    if target.runtime.engine != "onnxruntime":
        raise UnsupportedError(
            f"a deck runs in onnxruntime, and '{target.name}' runs {target.runtime.engine}",
            hint=f"build '{target.name}' by itself, with compress.robust = '{members[-1]}' in place of [deck]",
        )
