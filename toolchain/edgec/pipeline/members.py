"""`[family]`: the targets that a config names, and the settings of each alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgec.core.errors import ConfigError
from edgec.core.target import load_target

__all__ = ["own_settings", "require_member", "take_family_"]

_OWN = ("compress", "calibrate", "quantize", "export", "evaluate", "gates")
"""Sections in which members may differ; model, images and seed are the family's."""


def take_family_(table: dict[str, Any], *, where: str) -> dict[str, dict[str, Any]]:
    """Takes `[family]` out of a config: each target as it stands there, and the tables of its own settings.

    Raises:
        ConfigError: No table of tables, an unknown target, one that stands twice, or a setting that members share.
    """
    family = table.pop("family", {})
    if not isinstance(family, dict):
        raise ConfigError(f"{where}: family: expected a table for each target", hint="as in [family.raspberry-pi-5]")
    first: dict[str, str] = {}
    for name, own in family.items():
        if not isinstance(own, dict):
            raise ConfigError(f"{where}: family.{name}: expected a table", hint=f"as in [family.{name}.compress]")
        for section, settings in own.items():
            if not isinstance(settings, dict):
                raise ConfigError(f"{where}: family.{name}.{section}: expected a table", hint="give its settings there")
            if section not in _OWN:
                raise ConfigError(
                    f"{where}: family.{name}.{section}: members differ in {', '.join(_OWN)}",
                    hint=f"set '{section}' outside of [family]: all members share it",
                )
        if (known := first.setdefault(load_target(name).name, name)) != name:
            raise ConfigError(f"{where}: family: '{known}' and '{name}' are one target", hint="leave one of them out")
    return family


def require_member(targets: Iterable[str], target: object, what: str) -> None:
    """Refuses what is said of a target that is not built; `what` says where it stands.

    Raises:
        ConfigError: It is none of these targets, or there is no such target.
    """
    built = list(targets)
    if isinstance(target, str) and load_target(target).name not in {load_target(name).name for name in built}:
        raise ConfigError(f"{what}: built are {', '.join(built)}", hint="name it among them, or leave it out")


def own_settings(family: Mapping[str, dict[str, Any]], target: object) -> dict[str, Any]:
    """The tables of a target's own settings; none where it has none.

    Raises:
        ConfigError: There is no such target.
    """
    if not family or not isinstance(target, str):
        return {}
    wanted = load_target(target).name
    return next((own for name, own in family.items() if load_target(name).name == wanted), {})
