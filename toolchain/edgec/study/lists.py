"""A grid as it was asked for: lists of values, none empty, nothing twice."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationInfo, field_validator

from edgec.core.frozen import Frozen

__all__ = ["Lists"]


class Lists(Frozen):
    """What is given twice counts once; only a list that is empty by default may be."""

    @field_validator("*")
    @classmethod
    def _some(cls, values: Any, info: ValidationInfo) -> Any:
        if not isinstance(values, tuple):
            return values
        if not values and cls.model_fields[info.field_name or ""].default != ():
            raise ValueError("got nothing, expected one value or more")
        return tuple(dict.fromkeys(values))
