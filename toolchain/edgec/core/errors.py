"""Every expected failure, as one tree: a message that says what is wrong, a hint, an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CalibrationError",
    "ConfigError",
    "ContractError",
    "DataError",
    "EdgecError",
    "ExportMismatchError",
    "GateFailed",
    "IntegrityError",
    "MissingDependencyError",
    "TransportError",
    "UnsupportedError",
    "unknown_name",
]

MOST_NAMES = 20
"""That a hint lists; the message has them all."""


class EdgecError(Exception):
    """An expected failure. The command line prints it as one line plus a hint.

    Args:
        message: What is wrong, where, what was got and what was expected.
        hint: What the person can do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(EdgecError):
    """A setting, a flag, a profile or a recipe is wrong."""

    exit_code = 2


class DataError(EdgecError):
    """Images, labels or weights cannot be used as they are."""

    exit_code = 2


class MissingDependencyError(EdgecError):
    """An optional package is not installed."""

    exit_code = 2


class GateFailed(EdgecError):
    """A bundle is sound and does not meet a gate."""

    exit_code = 3


class IntegrityError(EdgecError):
    """A bundle is not what its manifest says."""

    exit_code = 4


class TransportError(EdgecError):
    """A device or a registry could not be reached or refused."""

    exit_code = 5


class UnsupportedError(EdgecError):
    """The model, the target or the machine cannot do what was asked."""


class CalibrationError(EdgecError):
    """No usable range could be found for a tensor."""


class ExportMismatchError(EdgecError):
    """The exported graph does not compute what the module computes."""


class ContractError(EdgecError):
    """A stage broke its promise: a fault of the stage, not of its input."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not in a closed set: lists what is, and the nearest."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = f"choose one of: {', '.join(names)}" if len(names) <= MOST_NAMES else "choose one of those"
    hint = f"did you mean '{nearest[0]}'?" if nearest else listed
    return ConfigError(f"unknown {kind} '{name}'; known: {', '.join(names)}", hint=hint)
