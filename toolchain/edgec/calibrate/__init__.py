"""Calibration: which images speak for a model, and the activation ranges read from them."""

from __future__ import annotations

from edgec.calibrate.grid import Grid, activation_grid
from edgec.calibrate.observers import Observer, observer_for
from edgec.calibrate.placement import Placement, place
from edgec.calibrate.ranges import Ranges, observe_ranges
from edgec.calibrate.recipe import DEFAULT_RECIPE, Recipe, known_recipes, load_recipe
from edgec.calibrate.sets import CalibrationSet, calibration_set
from edgec.calibrate.shared_ranges import cached_ranges, ranges_key
from edgec.graph.preparing import prepare

__all__ = [
    "DEFAULT_RECIPE",
    "CalibrationSet",
    "Grid",
    "Observer",
    "Placement",
    "Ranges",
    "Recipe",
    "activation_grid",
    "cached_ranges",
    "calibration_set",
    "known_recipes",
    "load_recipe",
    "observe_ranges",
    "observer_for",
    "place",
    "prepare",
    "ranges_key",
]
