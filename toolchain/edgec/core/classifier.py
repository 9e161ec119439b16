"""A trained classifier and what has been done to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgec.core.inputs import InputSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Classifier", "Step"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was done to a model: which method, and facts for the report (JSON values)."""

    method: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A module in evaluation mode: float32 [n, channels, height, width], normalised, to logits [n, classes].

    A stage returns a new classifier; it never changes the module that it was given.
    """

    module: nn.Module
    input: InputSpec
    labels: tuple[str, ...]
    history: tuple[Step, ...] = ()

    def after(self, module: nn.Module, step: Step) -> Classifier:
        """The classifier that a step made of this one."""
        return replace(self, module=module.eval(), history=(*self.history, step))
