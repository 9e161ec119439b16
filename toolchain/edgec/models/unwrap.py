"""The state in a checkpoint that a model takes: out of a training run's wrappings, told apart from others there."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["find_state", "states_in"]

DEPTH = 3
"""How deep in a checkpoint states are looked for, as in `ema` → `module` → names."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What parallel training, `torch.compile` and training frameworks put before names."""
TRAINING_ONLY = ("criterion", "loss", "metric", "acc", "train_", "val_", "test_", "n_averaged")
"""How names begin that are no part of a net: criteria, metrics, SWA's counter."""
COUNTS = (".total_ops", ".total_params")
"""What thop leaves in every layer."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One way to read a checkpoint: the state under a key, without a prefix of its names."""

    key: str
    prefix: str
    tensors: Mapping[str, Tensor]
    extra: tuple[str, ...]

    @property
    def name(self) -> str:
        """How `model.checkpoint` names it."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)


def states_in(content: object) -> dict[str, dict[str, Tensor]]:
    """The mappings of names to tensors in a checkpoint, by the dotted key that they lie under; "" is the whole."""
    return dict(_states(content, (), DEPTH))


def _states(content: object, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    import torch

    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield ".".join(path), tensors
    elif depth:
        for name, value in content.items():
            yield from _states(value, (*path, str(name)), depth - 1)


def find_state(
    states: Mapping[str, dict[str, Tensor]],
    wanted: Collection[str],
    *,
    source: str,
    checkpoint: str | None,
    note: Callable[[str], None],
) -> dict[str, Tensor]:
    """The tensors that a model takes, by its own names.

    Args:
        states: As `states_in` has them.
        wanted: Names of the model's tensors, without which it does not work.
        source: The file, for errors.
        checkpoint: `model.checkpoint`: which of several states is meant.
        note: Told what was unwrapped, and left out.

    Returns:
        The one state that fits; where none does, the one that comes nearest, whose misfits loading names.

    Raises:
        ConfigError: Several fit, or none is named `checkpoint`.
        DataError: No state at all.
    """
    if not states:
        raise DataError(f"weights '{source}': expected names with tensors", hint="save model.state_dict()")
    readings = [reading for key, state in states.items() for reading in _fitting(key, state, wanted)]
    if checkpoint is not None:
        known = sorted({reading.name for reading in readings} | set(states) - {""})
        states = {key: state for key, state in states.items() if key == checkpoint}
        readings = [r for r in readings if checkpoint.rstrip(".") in (r.name, r.key, r.prefix.rstrip("."))]
        if not states and not readings:
            raise _not_there(source, checkpoint, known)
    if len(readings) > 1:
        names = [reading.name or "the names without a prefix" for reading in readings]
        raise ConfigError(
            f"weights '{source}': {len(names)} states fit the model: {', '.join(names)}",
            hint=f"name the one that is meant: --set model.checkpoint={readings[-1].name}",
        )
    if not readings:
        return _nearest(states, wanted)
    _say(readings[0], source, note)
    return dict(readings[0].tensors)


def _fitting(key: str, state: Mapping[str, Tensor], wanted: Collection[str]) -> Iterator[_Reading]:
    """Every prefix without which the state's names hold all that the model has."""
    longest = max(wanted, key=len, default=None)
    prefixes = {""} if longest is None else {n.removesuffix(longest) for n in state if n.endswith(longest)}
    for prefix in sorted(prefixes, key=lambda each: (len(each), each)):
        if prefix and not prefix.endswith("."):
            continue
        if not all(f"{prefix}{name}" in state for name in wanted):
            continue
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        extra = [name for name in state if not name.startswith(prefix)]
        if not prefix:
            roots = {name.partition(".")[0] for name in wanted}
            extra = [n for n in state if n.startswith(TRAINING_ONLY) and n.partition(".")[0] not in roots]
            extra += [n for n in state if f".{n}".endswith(COUNTS) and n not in wanted]
            tensors = {name: value for name, value in state.items() if name not in extra}
        yield _Reading(key=key, prefix=prefix, tensors=tensors, extra=tuple(extra))


def _not_there(source: str, checkpoint: str, known: list[str]) -> ConfigError:
    nearest = difflib.get_close_matches(checkpoint, known, n=1, cutoff=0.5)
    return ConfigError(
        f"weights '{source}': no state '{checkpoint}'; known: {', '.join(known) or 'one state without a name'}",
        hint=f"did you mean '{nearest[0]}'?" if nearest else "set model.checkpoint to one of them, or leave it out",
    )


def _nearest(states: Mapping[str, dict[str, Tensor]], wanted: Collection[str]) -> dict[str, Tensor]:
    """The state with most of the model's names, without the wrappers' prefixes that all its names share."""
    bare = [_bare(state) for state in states.values()]
    return max(bare, key=lambda state: len(state.keys() & set(wanted)))


def _bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in WRAPPERS:
        if state and all(name.startswith(prefix) for name in state):
            return _bare({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _say(reading: _Reading, source: str, note: Callable[[str], None]) -> None:
    told = [f"the state under '{reading.key}'"] if reading.key else []
    told += [f"names without '{reading.prefix}'"] if reading.prefix else []
    first, others = next(iter(reading.extra), None), len(reading.extra) - 1
    if first is not None:
        told.append(f"'{first}'{f' and {others} more' if others else ''} left out")
    if told:
        note(f"weights '{source}': {', '.join(told)}")
