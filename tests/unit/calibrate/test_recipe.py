"""Calibration recipes: what ships, what a file may say, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from edgec.calibrate import DEFAULT_RECIPE, Recipe, known_recipes, load_recipe
from edgec.core.errors import ConfigError
from edgec.core.resources import declarations

GOOD = 'name = "mine"\ntitle = "Mine"\nobserver = "mse"\n'


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_recipe_that_ships_is_named_after_its_file():
    stems = {path.stem for path in declarations("calibration").glob("*.toml")}
    assert set(known_recipes()) == stems >= {"balanced", "natural"}


def test_every_observer_has_a_recipe_that_ships():
    observers = set(get_args(Recipe.model_fields["observer"].annotation))
    assert {recipe.observer for recipe in known_recipes().values()} == observers


def test_default_is_balanced_over_classes_and_uses_ood_images():
    recipe = load_recipe(DEFAULT_RECIPE)
    assert recipe.class_balance == "balanced"
    assert recipe.ood_share > 0


def test_recipe_is_read_by_path(tmp_path):
    assert load_recipe(written(tmp_path, GOOD + "bins = 1024\n")).bins == 1024


def test_recipe_is_a_value():
    with pytest.raises(ValidationError):
        load_recipe("balanced").budget = 3


def test_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ConfigError) as caught:
        load_recipe("balansed")
    assert str(caught.value).startswith("unknown calibration recipe 'balansed'; known: balanced, ")
    assert caught.value.hint == "did you mean 'balanced'?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "budget = 0\n", "field 'budget': got 0, expected greater than or equal to 1"),
        (GOOD + "ood_share = 1.5\n", "field 'ood_share': got 1.5, expected less than or equal to 1"),
        (GOOD + "bins = 1000\n", "field 'bins': got 1000, expected a power of two"),
        (GOOD + "percentile = 101\n", "field 'percentile': got 101, expected less than or equal to 100"),
        (GOOD + "momentum = 1\n", "field 'momentum': got 1, expected less than 1"),
        (GOOD + "ood_weight = 0\n", "field 'ood_weight': got 0, expected greater than 0"),
        (
            GOOD + "[class_weights]\ncat = -1\n",
            "field 'class_weights.cat': got -1, expected greater than or equal to 0",
        ),
        (GOOD + 'class_balance = "natural"\nclass_weights = {cat = 2}\n', "come as they are have no weights"),
        (GOOD + "buget = 3\n", "unknown key 'buget'"),
        (
            GOOD.replace("mse", "magic"),
            "field 'observer': got 'magic', expected 'minmax', 'moving-average', 'percentile', ",
        ),
        ('name = "mine"\ntitle = "Mine"\n', "field 'observer' is missing"),
        ("name = \n", "is not valid TOML"),
    ],
)
def test_fault_in_a_file_is_one_line_that_names_file_and_field(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load_recipe(written(tmp_path, text))
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read calibration recipe '.*none\.toml': No such file"):
        load_recipe(str(tmp_path / "none.toml"))


def test_observer_parameters_have_defaults():
    recipe = Recipe(name="x", title="x", observer="percentile")
    assert (recipe.percentile, recipe.bins, recipe.seed) == (99.99, 2048, None)
