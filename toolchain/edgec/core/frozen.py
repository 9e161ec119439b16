"""The base of values that come from a file or a person."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen"]


class Frozen(BaseModel):
    """A value that is read and never changed; a field that nobody knows is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
