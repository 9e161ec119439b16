"""Faults in TOML files become one line that names file, field, what was got and what was expected."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from edgec.core.declaration import bind, field_names, read_declaration
from edgec.core.errors import ConfigError


class Wheel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    spokes: int = Field(gt=0)


class Bicycle(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern="^[a-z]+$")
    front: Wheel
    spare: Wheel | None = None
    stock: tuple[Wheel, ...] = ()

    @field_validator("name")
    @classmethod
    def _no_unicycle(cls, name: str) -> str:
        if name == "unicycle":
            raise ValueError("a unicycle has no front wheel")
        return name


GOOD = 'name = "roadster"\n[front]\nspokes = 36\n'


def test_a_good_file_becomes_its_value(tmp_path):
    path = tmp_path / "bicycle.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert read_declaration(path, Bicycle, what="bicycle") == Bicycle(name="roadster", front=Wheel(spokes=36))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (GOOD.replace("36", "0"), "field 'front.spokes': got 0, expected greater than 0", "correct the value"),
        (GOOD.replace("36", '"x"'), "field 'front.spokes': got 'x', expected a valid integer", "correct the value"),
        (
            GOOD.replace("roadster", "R2"),
            "field 'name': got 'R2', expected text that matches '^[a-z]+$'",
            "correct the",
        ),
        (GOOD.replace("roadster", "unicycle"), "field 'name': a unicycle has no front wheel", "correct the values"),
        ('name = "roadster"\n', "field 'front' is missing", "add 'front'"),
        (GOOD + "spoke = 1\n", "unknown key 'front.spoke'; known: spokes", "did you mean 'spokes'?"),
        (GOOD + "[spare]\nspokes = 36\nrust = 1\n", "unknown key 'spare.rust'; known: spokes", "remove the key"),
        (GOOD + "[[stock]]\nspokes = 36\nspok = 1\n", "unknown key 'stock.0.spok'; known: spokes", "did you mean"),
        ("zzz = 1\n" + GOOD, "unknown key 'zzz'; known: front, name, spare, stock", "remove the key"),
        (
            GOOD.replace("spokes", "spoks"),
            "unknown key 'front.spoks'; known: spokes (and 1 more)",
            "did you mean 'spokes'?",
        ),
        ("name = [", "is not valid TOML", "correct the line"),
    ],
)
def test_a_fault_is_one_line(tmp_path, text, message, hint):
    path = tmp_path / "bicycle.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_declaration(path, Bicycle, what="bicycle")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"bicycle '{path}'")
    assert "\n" not in str(caught.value)
    assert hint in caught.value.hint


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read bicycle '.*none\.toml': No such file"):
        read_declaration(tmp_path / "none.toml", Bicycle, what="bicycle")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        read_declaration(tmp_path, Bicycle, what="bicycle")


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "bicycle.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        read_declaration(path, Bicycle, what="bicycle")


def test_a_parsed_table_is_bound_under_the_callers_name():
    with pytest.raises(ConfigError, match=r"^--set: field 'front' is missing$"):
        bind({"name": "roadster"}, Bicycle, where="--set")


def test_field_names_are_dotted():
    names = set(field_names(Bicycle))
    assert {"name", "front", "front.spokes", "spare.spokes", "stock.spokes"} <= names
