"""Profiles: those that ship, a user's own, and the one that is completed from this machine."""

from collections import Counter
from pathlib import Path

import pytest

from edgec.core.compute import Fill, Resident, Waste
from edgec.core.declaration import field_names
from edgec.core.errors import ConfigError
from edgec.core.host import parse_host, this_host
from edgec.core.resources import declarations
from edgec.core.target import (
    LEAST_PYTHON,
    Scheme,
    Target,
    is_like,
    known_targets,
    load_target,
    resolve,
    without_edgec,
)

TARGETS = known_targets()
NAMES = sorted(TARGETS)
ORINS = [name for name in NAMES if "orin" in name]

MINIMAL = """\
name = "my-board"
title = "My board"
family = "raspberry-pi"
architecture = "aarch64"

[runtime]
engine = "onnxruntime"
opset = 18

[quantization]
scheme = "s8s8"
"""
COMPUTE = """
[compute]
fp32_tflops = 0.1
bandwidth_gb_per_s = 10
floor_us = 5
efficiency = { dense = 0.5, pointwise = 0.5, depthwise = 0.1, elementwise = 0.5 }
"""


@pytest.fixture
def profile(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "board.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_every_profile_is_named_like_its_file():
    assert {path.stem for path in declarations("targets").glob("*.toml")} == set(NAMES)


def test_no_two_profiles_share_a_name_or_an_alias():
    names = Counter(name for target in TARGETS.values() for name in (target.name, *target.aliases))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("jetson", "jetson-orin-nano-8gb"),
        ("jetson-orin-nano", "jetson-orin-nano-8gb"),
        ("rpi4", "raspberry-pi-4"),
        ("rpi5", "raspberry-pi-5"),
        ("x86-vnni", "x86-vnni"),
    ],
)
def test_an_alias_finds_its_profile(alias, name):
    assert load_target(alias).name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_source(name):
    target = TARGETS[name]
    figures = {
        field
        for field in field_names(Target)
        if field.startswith(("gpu.", "compute.", "rules.")) or field in {"memory_mb", "power_modes_w"}
    } | {"runtime.version", "runtime.opset", "quantization.scheme"}
    unsourced = [field for field in figures if _value(target, field) and target.source_of(field) is None]
    assert unsourced == []


@pytest.mark.parametrize("name", ["jetson-agx-orin-32gb", "jetson-orin-nx-8gb", "jetson-xavier-nx"])
def test_figures_without_a_published_source_are_marked(name):
    assert TARGETS[name].source_of("compute.int8_tops").derived


@pytest.mark.parametrize("name", [name for name in NAMES if TARGETS[name].compute])
def test_fitted_parameters_are_marked_as_derived(name):
    assert TARGETS[name].source_of("compute.floor_us").derived
    assert TARGETS[name].source_of("compute.efficiency.dense").derived


@pytest.mark.parametrize("name", ORINS)
def test_orin_peaks_follow_from_its_clock(name):
    target = TARGETS[name]
    int8_tops = target.gpu.cuda_cores / 128 * 4.096 * target.gpu.clock_ghz
    # Published figures are rounded to two or three digits.
    assert target.compute.int8_tops == pytest.approx(int8_tops, rel=0.01)
    assert target.compute.fp16_tflops == pytest.approx(int8_tops / 2, rel=0.01)
    assert target.compute.fp32_tflops == pytest.approx(int8_tops / 4, rel=0.01)


@pytest.mark.parametrize("name", [name for name in NAMES if TARGETS[name].runtime.engine == "tensorrt"])
def test_opset_fits_the_parser_of_the_tensorrt_version(name):
    newest = {"8.2": 13, "8.5": 17, "10.3": 20}
    assert TARGETS[name].runtime.opset <= newest[TARGETS[name].runtime.version]


def test_super_is_the_same_module_at_other_clocks():
    plain, fast = TARGETS["jetson-orin-nano-8gb"], TARGETS["jetson-orin-nano-8gb-super"]
    assert (plain.runtime, plain.quantization, plain.rules) == (fast.runtime, fast.quantization, fast.rules)
    assert plain.gpu.model_copy(update={"clock_ghz": fast.gpu.clock_ghz}) == fast.gpu
    assert plain.compute.int8_tops < fast.compute.int8_tops


def test_schemes_are_those_that_are_fast_there():
    schemes = {name: target.quantization.scheme for name, target in TARGETS.items() if name != "host"}
    assert {name for name, scheme in schemes.items() if scheme is Scheme.U8S8} == {"intel-n100", "x86-avx2", "x86-vnni"}
    assert {name for name, scheme in schemes.items() if scheme is Scheme.FLOAT16} == {"jetson-nano"}


def test_only_x86_without_vnni_gives_up_a_bit():
    assert [name for name in NAMES if name != "host" and TARGETS[name].quantization.reduce_range] == ["x86-avx2"]


def test_seven_bits_are_what_vpmaddubsw_can_add():
    # Two products of an unsigned and a signed byte meet in one saturating int16.
    assert 2 * 255 * 127 > 2**15 - 1 >= 2 * 255 * 63


@pytest.mark.parametrize(
    ("machine", "flags", "architecture", "scheme", "reduce_range"),
    [
        ("x86_64", "avx2 avx512_vnni", "x86_64", Scheme.U8S8, False),
        ("x86_64", "avx2 avx_vnni", "x86_64", Scheme.U8S8, False),
        ("x86_64", "avx2", "x86_64", Scheme.U8S8, True),
        ("x86_64", "sse4_1", "x86_64", Scheme.U8S8, True),
        ("aarch64", "asimd asimddp", "aarch64", Scheme.S8S8, False),
        ("riscv64", "", "any", Scheme.S8S8, False),
    ],
)
def test_host_takes_the_scheme_that_its_cpu_is_fast_at(machine, flags, architecture, scheme, reduce_range):
    host = parse_host(f"model name : CPU\nflags : {flags}\n", machine=machine, cores=2)
    target = resolve(TARGETS["host"].model_copy(update={"title": "This machine"}), host)
    assert target.title == f"This machine: CPU, 2 cores, {machine}"
    assert (target.architecture, target.quantization.scheme) == (architecture, scheme)
    assert target.quantization.reduce_range is reduce_range


def test_host_is_this_machine_and_predicts_nothing():
    target = load_target("host")
    assert this_host().text in target.title
    assert target.compute is None


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_survives_json(name):
    assert Target.model_validate_json(TARGETS[name].model_dump_json()) == TARGETS[name]


def test_a_users_own_file_works_by_path(profile):
    assert load_target(profile(MINIMAL)).name == "my-board"


def test_a_name_that_looks_like_a_path_is_a_path():
    with pytest.raises(ConfigError, match=r"cannot read target profile 'jetsn\.toml': No such file") as caught:
        load_target("jetsn.toml")
    assert caught.value.hint == "check the path"
    with pytest.raises(ConfigError, match="cannot read target profile"):
        load_target("boards/jetson")


def test_an_unknown_name_lists_names_and_aliases_and_the_nearest():
    with pytest.raises(
        ConfigError, match="unknown target 'jetsom'; known: host, intel-n100, jetson, jetson-agx-orin"
    ) as caught:
        load_target("jetsom")
    assert caught.value.hint == "did you mean 'jetson'?"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("opset = 18", "opset = 12", "field 'runtime.opset': got 12, expected greater than or equal to 13"),
        ("s8s8", "int8", "field 'quantization.scheme': got 'int8', expected 'float32', 'float16', 's8s8' or 'u8s8'"),
        (
            'engine = "onnxruntime"',
            'engine = "ncnn"',
            "field 'runtime.engine': got 'ncnn', expected 'onnxruntime', 'openvino' or",
        ),
        (
            "opset",
            "opsets",
            "unknown key 'runtime.opsets'; known: device, engine, opset, providers, python, threads, version (and 1 more)",
        ),
        ('title = "My board"\n', "", "field 'title' is missing"),
        ("my-board", "My Board", "field 'name': got 'My Board', expected text that matches '^"),
        ('family = "', 'colour = "red"\nfamily = "', "unknown key 'colour'; known: aliases, architecture"),
    ],
)
def test_a_fault_in_a_profile_is_one_line(profile, old, new, message):
    path = profile(MINIMAL.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_target(path)
    assert str(caught.value).startswith(f"target profile '{path}': ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL.replace("onnxruntime", "tensorrt").replace("s8s8", "u8s8"),
            "takes zero-point 0 only; expected 's8s8'",
        ),
        (MINIMAL + "reduce_range = true\n", "reduce_range with scheme 's8s8'; expected scheme 'u8s8'"),
        (MINIMAL + COMPUTE, "scheme 's8s8' needs compute.int8_tops"),
        (MINIMAL.replace("s8s8", "float16") + COMPUTE, "scheme 'float16' needs compute.fp16_tflops"),
        (
            MINIMAL + '[[sources]]\nfields = ["compute.int8"]\ntext = "x"\n',
            "speak of 'compute.int8', which no profile has",
        ),
    ],
)
def test_figures_that_contradict_each_other_are_refused(profile, text, message):
    with pytest.raises(ConfigError) as caught:
        load_target(profile(text))
    assert message in str(caught.value)


def test_the_nearest_source_counts():
    target = Target.model_validate(
        {
            **TARGETS["raspberry-pi-4"].model_dump(),
            "sources": [
                {"fields": ["compute"], "text": "the table"},
                {"fields": ["compute.int8_tops"], "text": "the field"},
            ],
        }
    )
    assert target.source_of("compute.int8_tops").text == "the field"
    assert target.source_of("compute.efficiency.dense").text == "the table"
    assert target.source_of("memory_mb") is None


def _value(target: Target, dotted: str):
    value = target
    for part in dotted.split("."):
        value = getattr(value, part, None)
    return value


def test_what_a_class_wastes_is_said_of_it_or_of_its_kin_or_of_all():
    fill = Fill(per_output=1, classes={"dense": Waste(per_output=2), "stem": Waste(per_row=3)})
    assert fill.of("stem") == Waste(per_row=3)
    # Narrow groups are groups, which are dense.
    assert fill.of("narrow").per_output == fill.of("dense").per_output == 2
    assert fill.of("matmul").per_output == fill.of("depthwise").per_output == 1


def test_a_class_that_is_none_is_refused(profile):
    with pytest.raises(ConfigError, match=r"fill\.classes\.densse"):
        load_target(profile(f"{MINIMAL}{COMPUTE}\n[compute.fill.classes.densse]\nper_output = 2\n"))


def test_weights_of_small_nets_come_faster():
    compute = load_target("raspberry-pi-5").compute
    assert compute.for_weights(10) == compute
    cached = compute.model_copy(update={"resident": Resident(up_to_mb=32, gb_per_s=40)})
    small, large = cached.for_weights(32_000_000), cached.for_weights(32_000_001)
    assert (small.bandwidth_gb_per_s, small.bandwidth_share) == (40, 1)
    assert large == cached


def test_only_agx_orin_gets_its_accelerators_back():
    restored = {name: target.gpu.dla_restored for name, target in known_targets().items() if target.gpu}
    assert {name for name, version in restored.items() if version} == {"jetson-agx-orin-32gb", "jetson-agx-orin-64gb"}
    assert set(restored.values()) == {None, "11.4.1"}


def test_a_device_whose_python_is_too_old_is_told_what_runs_there_instead():
    told = {name: text for name, target in known_targets().items() if (text := without_edgec(target))}
    assert set(told) == {"jetson-nano", "jetson-xavier-nx"}
    assert told["jetson-nano"].startswith("Jetson Nano ships Python 3.6, and edgec needs 3.10: ")
    assert "trtexec" in told["jetson-xavier-nx"]


def test_the_python_that_profiles_ask_for_is_the_packages():
    project = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={LEAST_PYTHON[0]}.{LEAST_PYTHON[1]}"' in project


AVX2, VNNI = "avx2 fma", "avx2 avx512_vnni"


@pytest.mark.parametrize(
    ("cpu", "flags", "machine", "like"),
    [
        ("AMD EPYC", AVX2, "x86_64", {"host", "x86-avx2"}),
        ("AMD EPYC", VNNI, "x86_64", {"host", "x86-vnni"}),
        ("Intel(R) N100", "avx2 avx_vnni", "x86_64", {"host", "x86-vnni", "intel-n100"}),
        ("Raspberry Pi 5 Model B Rev 1.0", "asimddp", "aarch64", {"host", "raspberry-pi-5"}),
        ("Neoverse-N1", "asimddp", "aarch64", {"host"}),
    ],
)
def test_a_machine_is_like_the_targets_that_stand_for_it(cpu: str, flags: str, machine: str, like: set[str]) -> None:
    """Its times are theirs; a server's Arm cores say nothing of a Raspberry Pi."""
    host = parse_host(f"model name : {cpu}\nflags : {flags}\n", machine=machine, cores=4)
    assert {name for name, target in TARGETS.items() if is_like(target, host)} == like
