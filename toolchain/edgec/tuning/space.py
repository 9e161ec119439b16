"""What a search may vary: settings of a build, each with the values that it may take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import Any

from edgec.core.errors import ConfigError
from edgec.learn.config import BUDGETS
from edgec.pipeline.config import BuildConfig, parse_value
from edgec.pipeline.sources import Sources

__all__ = ["Dimension", "Space", "Value", "default_space", "is_varied", "parse_space", "space_of"]

Value = bool | int | float | str
SECTIONS = ("compress", "quantize", "calibrate", "export")
"""Of whose settings a search may vary: the model, the images and the device are given."""
KEPT = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8)
"""Shares of the multiply-adds."""
KEPT_LATENCY = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the teacher's latency, as it is predicted in the numbers that ship."""
MOST_BLOCKS = 0.75
"""Share of the residual blocks that may go."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A setting and the values that it may take, rising where they are numbers."""

    setting: str
    values: tuple[Value, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether its values are numbers, so that near ones do much the same."""
        return not any(isinstance(value, (bool, str)) for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Space:
    """All that a search may try."""

    dimensions: tuple[Dimension, ...]

    def __len__(self) -> int:
        """How many candidates there are."""
        return math.prod(len(dimension.values) for dimension in self.dimensions)

    def points(self) -> Iterator[tuple[int, ...]]:
        """Every candidate, as the position of each setting's value."""
        yield from product(*(range(len(dimension.values)) for dimension in self.dimensions))

    def settings(self, point: Sequence[int]) -> dict[str, Value]:
        """What a candidate sets."""
        return {d.setting: d.values[at] for d, at in zip(self.dimensions, point, strict=True)}

    def point(self, settings: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Where a candidate lies; None where it is outside."""
        try:
            return tuple(d.values.index(settings[d.setting]) for d in self.dimensions)
        except (KeyError, ValueError):
            return None

    def own(self, config: BuildConfig) -> dict[str, Value]:
        """What the config itself sets, of the settings that are varied; nothing for those that it leaves open."""
        values = {d.setting: _own(config, d.setting) for d in self.dimensions}
        return {setting: value for setting, value in values.items() if value is not None}


def default_space(sources: Sources) -> Space:
    """The share that may stay, whether OOD images take part, and perhaps how many blocks go.

    Where the target's latency can be predicted, the share is of that, and the build itself trades blocks for channels.
    Else it is of the multiply-adds, and numbers of blocks are tried, where the net has residual ones. The config's own
    values are among the others.
    """
    config, target = sources.plan.config, sources.plan.target
    values: dict[str, Sequence[Value]] = {"compress.variant": ("ours", "few")}
    if target.compute is not None and target.family != "host" and config.compress.oefsmc.stages == 1:
        values["compress.keep_latency"] = KEPT_LATENCY
    else:
        values |= {"compress.keep_flops": KEPT, "compress.drop_blocks": _fewer(_blocks(sources))}
    found = {setting: _with(tuple(of), _own(config, setting)) for setting, of in values.items()}
    return Space(
        dimensions=tuple(Dimension(setting=setting, values=of) for setting, of in found.items() if len(of) > 1)
    )


def _blocks(sources: Sources) -> int:
    """How many residual blocks the teacher can lose."""
    import torch

    from edgec.compress.blocks import residual_blocks

    spec = sources.plan.model.input
    images = torch.randn(2, spec.channels, spec.height, spec.width, generator=torch.Generator().manual_seed(0))
    return len(residual_blocks(sources.classifier.module, images))


def _fewer(blocks: int) -> list[int]:
    """Up to seven numbers of blocks to drop, from none to most of them."""
    return sorted({round(MOST_BLOCKS * blocks * i / 6) for i in range(7)})


def _own(config: BuildConfig, setting: str) -> Value | None:
    """A config's value of a setting, or what leaving it out means; None where that is no single value."""
    try:
        found = attrgetter(setting)(config)
    except AttributeError:  # a method's own, whose table the config may not have
        return None
    if found is None and setting == "compress.drop_blocks":
        return 0
    return found if isinstance(found, Value) else None


def _with(values: tuple[Value, ...], own: Value | None) -> tuple[Value, ...]:
    """The values and the config's own, in order where they are numbers."""
    if own is None or own in values:
        return values
    return (*values, own) if isinstance(own, str) else tuple(sorted((*values, own)))


def parse_space(texts: Sequence[str]) -> Space:
    """A space from `KEY=VALUE,VALUE,…`.

    Raises:
        ConfigError: As `space_of`, or a setting is named twice.
    """
    values: dict[str, list[Any]] = {}
    for text in texts:
        name, _, listed = (part.strip() for part in text.partition("="))
        if name in values:
            raise ConfigError(f"--vary {name}: given twice", hint="name every value in one list, with commas")
        values[name] = [parse_value(part.strip()) for part in listed.split(",") if part.strip()]
    return space_of(values)


def space_of(values: Mapping[str, Sequence[Any]]) -> Space:
    """A space from the values of each setting.

    Raises:
        ConfigError: A setting that a search may not vary, or one without values.
    """
    budgets = [name for name in values if name.removeprefix("compress.") in BUDGETS]
    if len(budgets) > 1:
        raise ConfigError(f"--vary: {' and '.join(budgets)} are two budgets", hint="vary one of them")
    return Space(dimensions=tuple(_dimension(name, of) for name, of in values.items()))


def is_varied(name: str) -> bool:
    """Whether a search may vary a setting."""
    return name.partition(".")[0] in SECTIONS


def _dimension(name: str, values: Sequence[Any]) -> Dimension:
    if not name or not values or isinstance(values, str) or not all(map(_is_value, values)):
        told = f"{name}={','.join(map(str, values))}"
        raise ConfigError(
            f"--vary {told}: expected KEY=VALUE,VALUE,…", hint="as in --vary compress.keep_flops=0.2,0.3,0.5"
        )
    if not is_varied(name):
        raise ConfigError(
            f"--vary {name}: a search varies settings of {', '.join(SECTIONS)}; model, images and device are given",
            hint=f"to change it for every candidate: --set {name}={values[0]}",
        )
    numbers = not any(isinstance(value, (bool, str)) for value in values)
    return Dimension(setting=name, values=tuple(dict.fromkeys(sorted(values) if numbers else values)))


def _is_value(value: Any) -> bool:
    return isinstance(value, Value) and not (isinstance(value, float) and not math.isfinite(value))
