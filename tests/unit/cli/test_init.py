"""`edgec init`: the config that it writes is the embedded default, spelt out, and mentions every setting."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgec.cli.init import command, config_text
from edgec.compress.config import MirConfig
from edgec.core.declaration import bind, field_names
from edgec.core.errors import ConfigError
from edgec.evaluate.gate_settings import Gates
from edgec.learn.config import BUDGETS
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import plan_build

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLAIN_METHOD = "compress.mir"


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def everything_on() -> dict[str, Any]:
    """The template with every setting that is off switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[a-z\[])", "", config_text({})))


def dotted(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name; a table stands before what is in it, as None; of a list of tables the first."""
    for name, given in table.items():
        value = given[0] if isinstance(given, list) and given and isinstance(given[0], dict) else given
        is_table = isinstance(value, dict)
        yield f"{prefix}{name}", None if is_table else value
        yield from (dotted(value, f"{prefix}{name}.") if is_table else ())


def test_what_is_written_is_the_embedded_default(tmp_path: Path) -> None:
    run("--output", tmp_path / "edgec.toml")
    written, embedded = (dict(dotted(read_config(path).model_dump())) for path in (tmp_path / "edgec.toml", None))
    assert {key: value for key, value in written.items() if value != embedded[key]} == {}, (
        "bring the template up to date"
    )
    assert read_config(tmp_path / "edgec.toml") == read_config(None)


def test_what_is_written_is_built_from_the_embedded_default_s_cache(tmp_path: Path) -> None:
    run("--output", tmp_path / "edgec.toml")
    written, embedded = (
        plan_build(read_config(path), accelerator=Accelerator.CPU) for path in (tmp_path / "edgec.toml", None)
    )
    assert stage_keys(written) == stage_keys(embedded)


def test_every_setting_is_mentioned() -> None:
    mentioned = dict(dotted(everything_on())).keys()
    asked = {name for name in field_names(BuildConfig) if name != "compress.options"}
    asked |= {f"{PLAIN_METHOD}.{name}" for name in field_names(MirConfig)}
    assert asked - mentioned == set()


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_example_is_a_setting_that_binds(budget: str) -> None:
    """Of budgets one at a time."""
    table = everything_on()
    for other in set(BUDGETS) - {budget}:
        del table["compress"][other]
    config = read_config(table)
    assert config.compress.asked[0] == budget
    assert config.model.name == "torchvision:mobilenet_v2"
    assert config.gates != Gates()


def test_the_examples_of_the_plain_method_are_its_defaults() -> None:
    assert bind(everything_on()["compress"]["mir"], MirConfig, where="[compress.mir]") == MirConfig()


def test_every_value_that_is_on_carries_a_comment() -> None:
    silent = [
        line for line in config_text({}).splitlines() if "=" in line and not line.startswith("#") and " #" not in line
    ]
    assert silent == []


def test_the_path_is_all_that_stdout_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    result = run("--output", path)
    assert result.stdout == f"{path}\n"
    assert result.stderr == f"build it with: edgec build --config {path}\n"


def test_the_default_is_edgec_toml_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run().stdout == "edgec.toml\n"
    assert (tmp_path / "edgec.toml").is_file()


@pytest.mark.parametrize("target", ["jetson", "host", "raspberry-pi-5"])
def test_a_target_stands_in_the_file(tmp_path: Path, target: str) -> None:
    run("--output", tmp_path / "edgec.toml", "--target", target)
    assert read_config(tmp_path / "edgec.toml") == read_config(None, [("target", target)])


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "edgec.toml"
    path.write_text("mine")
    with pytest.raises(ConfigError) as caught:
        run("--output", path)
    assert str(caught.value) == f"'{path}' exists already"
    assert caught.value.hint == "name another --output, or replace it with --force"
    assert path.read_text() == "mine"


def test_force_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "edgec.toml"
    path.write_text("mine")
    run("--output", path, "--force")
    assert path.read_text() == config_text({"target": "host"})


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder") as caught:
        run("--output", tmp_path, "--force")
    assert "edgec.toml" in str(caught.value.hint)


def test_an_unknown_target_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown target 'jetsom'") as caught:
        run("--output", tmp_path / "edgec.toml", "--target", "jetsom")
    assert caught.value.hint == "did you mean 'jetson'?"
    assert list(tmp_path.iterdir()) == []
