"""`edgec targets`: lists and shows profiles, for people at any width and for machines."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner, Result

from edgec.cli.targets import command
from edgec.core.declaration import read_declaration
from edgec.core.errors import ConfigError
from edgec.core.target import Target, known_targets
from edgec.latency.fit import sweep
from edgec.latency.fit.probes import Probe

NAMES = sorted(known_targets())


def run(*arguments: str, columns: int = 100) -> Result:
    result = CliRunner().invoke(command, arguments, env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    if isinstance(result.exception, ConfigError):
        raise result.exception
    return result


@pytest.mark.parametrize("columns", [60, 79, 80, 120])
def test_the_list_fits_the_terminal_and_breaks_no_name(columns):
    result = run("list", columns=columns)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    first_words = {line.split(maxsplit=1)[0] for line in lines}
    assert set(NAMES) <= first_words


def test_a_wide_list_has_a_line_a_profile():
    lines = run("list", columns=120).stdout.splitlines()
    assert len(lines) == 2 + len(NAMES)
    assert lines[0].split() == ["name", "aliases", "runtime", "scheme", "memory"]
    row = next(line for line in lines if line.startswith("jetson-orin-nano-8gb "))
    assert " ".join(row.split()) == "jetson-orin-nano-8gb jetson, jetson-orin-nano tensorrt 10.3 s8s8 8 GB"


def test_a_narrow_list_puts_aliases_under_the_name():
    lines = run("list", columns=60).stdout.splitlines()
    position = next(i for i, line in enumerate(lines) if line.startswith("raspberry-pi-5"))
    assert lines[position + 1].strip() == "rpi5, pi5"


def test_the_list_for_machines_holds_whole_profiles():
    profiles = [Target.model_validate(profile) for profile in json.loads(run("list", "--json").stdout)]
    assert {profile.name: profile for profile in profiles} == known_targets()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [60, 120])
def test_a_shown_profile_fits_the_terminal(name, columns):
    lines = run("show", name, columns=columns).stdout.splitlines()
    assert max(map(len, lines)) <= columns


def test_figures_come_with_their_sources_and_marks():
    text = run("show", "jetson", columns=120).stdout
    target = known_targets()["jetson-orin-nano-8gb"]
    source = target.source_of("compute.floor_us")
    assert text.startswith("Jetson Orin Nano 8 GB (jetson-orin-nano-8gb, jetson, jetson-orin-nano)\n")
    row = next(line for line in text.splitlines() if line.startswith("compute.floor_us"))
    assert row.split() == ["compute.floor_us", f"{target.compute.floor_us:g}", f"[{target.sources.index(source) + 1}]†"]
    assert row.split()[-1] + " Fitted by us (tools/fit_profiles.py)" in text
    assert re.search(r"^compute.bandwidth_gb_per_s +68 ", text, re.MULTILINE)
    assert "† derived: computed, fitted or remembered" in text


def test_brackets_and_markup_of_a_users_file_are_shown_as_they_are(tmp_path):
    path = tmp_path / "board.toml"
    path.write_text(
        'name = "board"\ntitle = "[red]Board[/red]"\nfamily = "x86"\narchitecture = "x86_64"\n'
        '[runtime]\nengine = "onnxruntime"\nopset = 18\n[quantization]\nscheme = "u8s8"\n'
        '[[sources]]\nfields = ["runtime"]\ntext = "[bold]me[/bold]"\n',
        encoding="utf-8",
    )
    text = run("show", str(path)).stdout
    assert "[red]Board[/red] (board)" in text
    assert "[1] [bold]me[/bold]" in text
    assert "derived" not in text


def test_a_shown_profile_for_machines_is_the_profile():
    shown = json.loads(run("show", "rpi5", "--json").stdout)
    assert Target.model_validate(shown) == known_targets()["raspberry-pi-5"]


def test_an_unknown_name_is_an_error_that_helps():
    with pytest.raises(ConfigError, match="unknown target 'rpi6'; known: host") as caught:
        run("show", "rpi6")
    assert caught.value.hint.startswith("did you mean 'rpi")


def test_names_and_aliases_complete():
    parameter = next(item for item in command.commands["show"].params if item.name == "name")
    found = [item.value for item in parameter.shell_complete(None, "jetson-orin-na")]
    assert found == ["jetson-orin-nano", "jetson-orin-nano-8gb", "jetson-orin-nano-8gb-super"]


def test_fit_writes_a_profile_of_this_machine(tmp_path, monkeypatch):
    few = tuple(Probe(step=step, channels=8, size=8) for step in ("Conv", "Gemm", "Add"))
    monkeypatch.setattr(sweep, "probes", lambda: few)
    monkeypatch.setattr(sweep, "HEAVY", (Probe(step="Gemm", channels=256, size=1),))
    monkeypatch.setattr(sweep, "_SPILLS_MB", (8, 16, 32))
    monkeypatch.setattr(sweep, "PROBE_S", 0.005)
    path = tmp_path / "Shop Floor.toml"
    result = run("fit", "--output", str(path), "--threads", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}\n"
    profile = read_declaration(path, Target, what="target profile")
    assert (profile.name, profile.family, profile.runtime.threads) == ("shop-floor", "host", 2)
    assert profile.compute is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--device", "rpi5"), "'rpi5': not an ssh URL"),
        (("--device", "ssh://pi@shop"), "'ssh://pi@shop': no folder"),
        (("--identity", "key"), "--identity, --known-hosts and --python are for a device"),
    ],
)
def test_what_names_no_device_is_refused_before_anything_is_timed(given, message, tmp_path):
    with pytest.raises(ConfigError) as caught:
        run("fit", *given, "--output", str(tmp_path / "my.toml"))
    assert str(caught.value) == message
    assert "ssh://" in caught.value.hint
