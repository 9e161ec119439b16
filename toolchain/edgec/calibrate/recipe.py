"""Calibration recipes: which images speak for the model, and how ranges are read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from edgec.core.declaration import is_file_name, read_declaration
from edgec.core.errors import ConfigError, unknown_name
from edgec.core.frozen import Frozen
from edgec.core.resources import declarations

__all__ = ["DEFAULT_RECIPE", "Recipe", "known_recipes", "load_recipe"]

DEFAULT_RECIPE = "balanced"


class Recipe(Frozen):
    """A calibration recipe, one TOML file.

    Attributes:
        name: How a configuration calls it, in `calibrate.recipe`.
        title: What it is for, for people.
        budget: Images at most.
        class_balance: `balanced` draws and weighs images so that all classes weigh the same; `natural` takes
            them as they come.
        class_weights: What a class counts beside the others, by its name, where 1 is not it; 0 leaves its images
            out; `balanced` only.
        sample_weights: `by-class` weighs images so that a class has its say however few its images are; `equal`
            weighs them alike, so that the draw alone balances.
        ood_share: Share of the set that out-of-distribution images may take: 0 for none, 1 for no bound.
        ood_labels: The classes that out-of-distribution images stand for: by `eq4` of OE-FSMC those that have few
            samples, by `teacher` those that the FP32 graph sees in them.
        ood_weight: What an out-of-distribution image counts beside a labelled one of its class.
        observer: How a range is read from a tensor's values.
        percentile: Percentage of the values that a range keeps at either end; `percentile` only.
        momentum: What remains of earlier images with each further one; `moving-average` only.
        bins: Histogram bins on either side of zero, a power of two; not for `minmax` and `moving-average`, fewer in
            `worst-class` where there are many classes.
        seed: Fixes the draw of images; the build's seed where there is none.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    budget: int = Field(default=512, ge=1)
    class_balance: Literal["balanced", "natural"] = "balanced"
    class_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    sample_weights: Literal["by-class", "equal"] = "by-class"
    ood_share: float = Field(default=0.9, ge=0, le=1)
    ood_labels: Literal["eq4", "teacher"] = "eq4"
    ood_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    observer: Literal["minmax", "moving-average", "percentile", "mse", "entropy", "worst-class"]
    percentile: float = Field(default=99.99, gt=50, le=100)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    bins: int = Field(default=2048, ge=256, le=65536)
    seed: int | None = Field(default=None, ge=0)

    @field_validator("bins")
    @classmethod
    def _power_of_two(cls, bins: int) -> int:
        if bins & (bins - 1):
            raise ValueError(f"got {bins}, expected a power of two")
        return bins

    @model_validator(mode="after")
    def _weights_need_balance(self) -> Self:
        if self.class_weights and self.class_balance == "natural":
            raise ValueError("class_weights: classes that come as they are have no weights, use 'balanced'")
        return self

    def say_of(self, classes: Sequence[str]) -> np.ndarray:
        """float64 [classes]: what each class counts beside the others.

        Raises:
            ConfigError: A weight for a class that is not there, or no class that counts.
        """
        for name in self.class_weights:
            if name not in classes:
                error = unknown_name("class", name, classes)
                raise ConfigError(f"calibration recipe '{self.name}', class_weights: {error}", hint=error.hint)
        say = np.array([self.class_weights.get(name, 1.0) for name in classes])
        if not say.any():
            raise ConfigError(
                f"calibration recipe '{self.name}', class_weights: every class is 0", hint="give one of them a weight"
            )
        return say


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe that ships under this name, or the one in this TOML file.

    Raises:
        ConfigError: No such recipe or file, or the file does not fit the schema.
    """
    if is_file_name(name_or_path):
        return _read(Path(name_or_path))
    known = known_recipes()
    if name_or_path not in known:
        raise unknown_name("calibration recipe", name_or_path, known)
    return known[name_or_path]


def known_recipes() -> dict[str, Recipe]:
    """All recipes that ship with the package, by name."""
    recipes = (_read(path) for path in sorted(declarations("calibration").glob("*.toml")))
    return {recipe.name: recipe for recipe in recipes}


def _read(path: Path) -> Recipe:
    return read_declaration(path, Recipe, what="calibration recipe")
