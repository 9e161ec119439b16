"""Calibration recipes: which images speak for the model, and how ranges are read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgec.core.declaration import is_file_name, read_declaration
from edgec.core.errors import unknown_name
from edgec.core.resources import declarations

__all__ = ["DEFAULT_RECIPE", "Recipe", "known_recipes", "load_recipe"]

DEFAULT_RECIPE = "balanced"


class Recipe(BaseModel):
    """A calibration recipe, one TOML file.

    Attributes:
        name: How `--calibration` and a configuration call it.
        title: What it is for, for people.
        budget: Images at most.
        class_balance: `balanced` draws and weighs images so that every class has the same say; `natural` takes
            them as they come.
        ood_share: Share of the set that out-of-distribution images may take: 0 for none, 1 for no bound.
        observer: How a range is read from a tensor's values.
        percentile: Percentage of the values that a range keeps at either end; `percentile` only.
        bins: Histogram bins on either side of zero, a power of two; not for `minmax`.
        seed: Fixes the draw of images; the build's seed where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    budget: int = Field(default=512, ge=1)
    class_balance: Literal["balanced", "natural"] = "balanced"
    ood_share: float = Field(default=0.9, ge=0, le=1)
    observer: Literal["minmax", "percentile", "mse", "entropy"]
    percentile: float = Field(default=99.99, gt=50, le=100)
    bins: int = Field(default=2048, ge=256, le=65536)
    seed: int | None = Field(default=None, ge=0)

    @field_validator("bins")
    @classmethod
    def _power_of_two(cls, bins: int) -> int:
        if bins & (bins - 1):
            raise ValueError(f"got {bins}, expected a power of two")
        return bins


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
