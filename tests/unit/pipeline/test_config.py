"""`edgec.toml` and `--set`: bound before anything runs, every fault one line with a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError
from edgec.pipeline.config import BuildConfig, parse_value, read_config
from edgec.pipeline.embedded import EMBEDDED, is_embedded

OWN = """
[model]
name = "nets:tiny"
weights = "weights/tiny.safetensors"
input = { height = 8, width = 8, channels = 1, mean = [0.5], std = [0.5] }

[data]
train = "images/train"
test = "/elsewhere/test"
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        path = tmp_path / "edgec.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(path: Path | None, *overrides: tuple[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


class TestEmbeddedDefault:
    def test_nothing_given_is_the_embedded_default(self) -> None:
        config = read_config(None)
        assert config == BuildConfig.model_validate(EMBEDDED)
        assert config.data.embedded
        assert is_embedded(config.model)
        assert config.model.weights is not None
        assert config.model.weights.is_file()

    def test_an_override_changes_one_setting_of_it(self) -> None:
        config = read_config(None, [("compress.steps", 7), ("data.few.total", 60)])
        fields = BuildConfig.model_validate(EMBEDDED).model_dump()
        fields["compress"]["steps"] = 7
        fields["data"]["few"]["total"] = 60
        assert config.model_dump() == fields

    def test_reading_a_config_leaves_it_as_it_was(self) -> None:
        read_config(None, [("data.few.total", 60), ("compress.oefsmc.finetune.steps", 1)])
        assert read_config(None) == BuildConfig.model_validate(EMBEDDED)

    def test_a_file_without_a_model_and_images_is_merged_with_it(self, write: Any) -> None:
        config = read_config(write('target = "jetson"\n[compress]\nsteps = 3\n'))
        assert config.name == "digits"
        assert (config.target, config.compress.steps) == ("jetson", 3)
        assert config.compress.keep_flops == EMBEDDED["compress"]["keep_flops"]

    def test_a_model_of_ones_own_takes_nothing_from_it(self, write: Any) -> None:
        config = read_config(write(OWN))
        assert config.name == "classifier"
        assert config.compress.compare == ()
        assert config.data.few is None
        assert not is_embedded(config.model)


class TestFiles:
    def test_relative_paths_count_from_the_file(self, write: Any, tmp_path: Path) -> None:
        config = read_config(write(OWN))
        assert config.model.weights == tmp_path / "weights/tiny.safetensors"
        assert config.data.train == tmp_path / "images/train"
        assert config.data.test == Path("/elsewhere/test")

    def test_the_home_folder_may_be_written_as_a_tilde(self, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "/home/somebody")
        own = OWN.replace('"images/train"', '"~/images"')
        assert read_config(write(own)).data.train == Path("/home/somebody/images")

    def test_the_folder_that_the_teacher_was_trained_on_counts_from_the_file(self, write: Any, tmp_path: Path) -> None:
        own, values = OWN.replace("[model]", '[model]\ntrained_on = "{}"'), ("photos", "few", "estimate")
        told = {value: read_config(write(own.replace("{}", value))).model.trained_on for value in values}
        assert told == {"photos": tmp_path / "photos", "few": "few", "estimate": "estimate"}

    def test_relative_paths_of_overrides_count_from_the_current_folder(self, write: Any) -> None:
        config = read_config(write(OWN), [("data.ood", "any"), ("model.weights", "w.pt")])
        assert config.data.ood == Path("any")
        assert config.model.weights == Path("w.pt")

    def test_an_onnx_model_is_a_path_and_a_factory_is_none(self, write: Any, tmp_path: Path) -> None:
        own = write(OWN.replace("nets:tiny", "nets/tiny.onnx").replace('weights = "weights/tiny.safetensors"\n', ""))
        assert read_config(own).model.name == str(tmp_path / "nets/tiny.onnx")
        assert read_config(write(OWN)).model.name == "nets:tiny"

    def test_environment_variables_stand_for_their_values(self, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WHICH", "raspberry-pi-5")
        monkeypatch.delenv("ABSENT", raising=False)
        config = read_config(write('target = "${WHICH}"\nname = "${ABSENT:-fallback}"\n'))
        assert (config.target, config.name) == ("raspberry-pi-5", "fallback")

    def test_a_default_may_be_empty(self, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ABSENT", raising=False)
        assert read_config(write('target = "host${ABSENT:-}"\n')).target == "host"

    def test_a_variable_that_is_not_set_is_named(self, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ABSENT", raising=False)
        error = refused(write('target = "${ABSENT}"\n'))
        assert "environment variable 'ABSENT' is not set" in str(error)
        assert error.hint == "export ABSENT=…"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        error = refused(tmp_path / "gone.toml")
        assert str(error).startswith(f"cannot read config '{tmp_path / 'gone.toml'}'")
        assert error.hint == "write one with: edgec init"

    def test_a_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        assert "cannot read config" in str(refused(tmp_path))

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "edgec.toml").write_bytes(b"\xff\xfe\x00")
        assert "cannot read config" in str(refused(tmp_path / "edgec.toml"))

    def test_a_file_that_is_no_toml_is_told_the_line(self, write: Any) -> None:
        error = refused(write('name = "a"\nseed = = 3\n'))
        assert "is not valid TOML" in str(error)
        assert "line 2" in str(error)


class TestBudget:
    """One of three settings says how much may stay."""

    def test_half_of_the_multiply_adds_where_none_is_given(self, write: Any) -> None:
        assert read_config(write(OWN)).compress.asked == ("keep_flops", 0.5)

    @pytest.mark.parametrize(("name", "value"), [("keep_latency", 0.7), ("max_latency_ms", 2.5)])
    def test_another_one_takes_the_place_of_the_default(self, write: Any, name: str, value: float) -> None:
        config = read_config(write(OWN + f"[compress]\n{name} = {value}\n"))
        assert (config.compress.asked, config.compress.keep_flops) == ((name, value), None)
        again = BuildConfig.model_validate(config.model_dump())
        assert again == config

    def test_one_of_the_demonstration_gives_way_to_ones_own(self) -> None:
        assert read_config(None, [("compress.max_latency_ms", 1.0)]).compress.asked == ("max_latency_ms", 1.0)

    def test_an_override_takes_the_place_of_the_files(self, write: Any) -> None:
        own = write(OWN + "[compress]\nkeep_flops = 0.3\n")
        assert read_config(own, [("compress.keep_latency", 0.6)]).compress.asked == ("keep_latency", 0.6)

    def test_two_are_refused(self, write: Any) -> None:
        error = refused(write(OWN + "[compress]\nkeep_flops = 0.3\nmax_latency_ms = 2\n"))
        assert "keep_flops and max_latency_ms are 2 budgets: give one of them" in str(error)

    def test_latency_is_met_in_one_cut(self, write: Any) -> None:
        error = refused(write(OWN + "[compress]\nkeep_latency = 0.3\noefsmc = { stages = 2 }\n"))
        assert "oefsmc.stages = 2 with keep_latency: a budget of latency is met in one cut" in str(error)


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "message", "hint"),
        [
            (
                "[compres]\nsteps = 3\n",
                "unknown key 'compres'; known: calibrate, compress, ",
                "did you mean 'compress'?",
            ),
            ("[compress]\nstep = 3\n", "unknown key 'compress.step'", "did you mean 'steps'?"),
            ("[compress.oefsmc.finetune]\nstep = 3\n", "unknown key 'compress.oefsmc.finetune.step'", "'steps'?"),
            ("[data.few]\ntotals = 3\n", "unknown key 'data.few.totals'", "did you mean 'total'?"),
            ('[compress]\nsteps = "many"\n', "field 'compress.steps': got 'many', expected a valid integer", "value"),
            ("[compress]\nsteps = 0\n", "field 'compress.steps': got 0, expected greater than or equal to 1", "value"),
            ("[compress]\nkeep_flops = nan\n", "field 'compress.keep_flops': got nan", "value"),
            (
                '[compress]\nmethod = ["mir"]\n',
                "field 'compress.method': got ['mir'], expected a valid string",
                "value",
            ),
            ("[data]\nfew = 3\n", "field 'data.few': got 3, expected a table", "value"),
            ("data = 3\n", "field 'data': got 3, expected a table", "value"),
            ('model = "resnet18"\n', "field 'model': got 'resnet18', expected a table", "value"),
            ("compress = 3\n", "field 'compress': got 3, expected a table", "value"),
            ('[quantize]\nscheme = "int4"\n', "field 'quantize.scheme': got 'int4', expected 'float32'", "value"),
            ("[gates]\nmin_accuracy = 90\n", "got 90, expected a share from 0 to 1", "value"),
            ('name = "../up"\n', "field 'name': got '../up', expected text that matches", "value"),
            ("seed = -1\n", "field 'seed': got -1, expected greater than or equal to 0", "value"),
        ],
    )
    def test_is_one_line_with_the_key_and_a_hint(self, write: Any, text: str, message: str, hint: str) -> None:
        path = write(text)
        error = refused(path)
        assert str(error).startswith(f"config '{path}': ")
        assert message in str(error)
        assert hint in str(error.hint)

    def test_training_images_without_test_images(self, write: Any) -> None:
        assert "'test' is missing" in str(refused(write(OWN.replace("test =", "#"))))

    def test_settings_of_a_method_that_is_not_asked_for(self) -> None:
        error = refused(None, ("compress.method", "other"), ("compress.mir", {"mix": "across"}))
        assert "unknown key 'compress.mir'" in str(error)

    def test_settings_of_the_method_that_is_asked_for_are_kept_for_it(self) -> None:
        config = read_config(None, [("compress.mir", {"mix": "across"})])
        assert config.compress.options == {"mix": "across"}

    def test_a_model_without_its_input(self) -> None:
        error = refused(None, ("model.name", "torchvision:resnet18"))
        assert (
            str(error)
            == "model.input: nobody says the height and width of the images that 'torchvision:resnet18' takes"
        )
        assert error.hint == (
            '--set "model.input={height=224,width=224}", with the numbers that it was trained with; where that was as '
            "torchvision's: --set model.preset=ResNet18_Weights.IMAGENET1K_V1"
        )


class TestOverrides:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("3", 3),
            ("0.5", 0.5),
            ("true", True),
            ("[1, 2]", [1, 2]),
            ('"3"', "3"),
            ("{ total = 5 }", {"total": 5}),
            ("mir", "mir"),
            ("../a b/c.toml", "../a b/c.toml"),
            ("", ""),
            ("True", "True"),
            ("1e", "1e"),
        ],
    )
    def test_values_are_read_as_toml_and_else_as_text(self, text: str, value: Any) -> None:
        found = parse_value(text)
        assert found == value
        assert type(found) is type(value)

    def test_later_ones_win(self) -> None:
        assert read_config(None, [("seed", 1), ("seed", 2)]).seed == 2

    def test_they_win_over_the_file(self, write: Any) -> None:
        assert read_config(write("seed = 1\n"), [("seed", 2)]).seed == 2

    def test_a_section_may_be_new(self, write: Any) -> None:
        assert read_config(write("seed = 1\n"), [("gates.min_accuracy", 0.5)]).gates.min_accuracy == 0.5

    def test_a_value_is_no_section(self, write: Any) -> None:
        error = refused(write("seed = 1\n"), ("seed.more", 2))
        assert str(error) == "setting 'seed.more': 'seed' is a value, not a section"

    @pytest.mark.parametrize("name", ["", ".", "compress.", ".steps", "nonsense"])
    def test_names_that_mean_nothing(self, name: str) -> None:
        assert "unknown key" in str(refused(None, (name, 1)))
