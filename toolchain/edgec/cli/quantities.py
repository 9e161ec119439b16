"""Sizes and times as options take them: a number and its unit."""

from __future__ import annotations

import re
from collections.abc import Mapping

import click

__all__ = ["AGE", "SIZE"]

_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[a-zA-Z]*)")


class _Quantity(click.ParamType):
    """A number with one of some units."""

    def __init__(self, name: str, *, units: Mapping[str, int], example: str) -> None:
        self.name = name
        self._units = units
        self._example = example

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In the base unit. Zero needs no unit."""
        if isinstance(value, int):
            return value
        found = _QUANTITY.fullmatch(str(value).strip())
        number = float(found["number"]) if found else 0
        unit = self._units.get(found["unit"].lower()) if found else None
        if found and unit is None and not found["unit"] and number == 0:
            unit = 0
        if unit is None:
            units = ", ".join(self._units)
            self.fail(f"'{value}': expected a number and a unit ({units}), as in {self._example}", param, ctx)
        return round(number * unit)


AGE = _Quantity("age", units={"min": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}, example="30d")
"""In seconds."""

SIZE = _Quantity("size", units={"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}, example="5GB")
"""In bytes."""
