"""Bundles and small graphs measured on a device behind a real sshd, where edgec's base install is all there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgec.core.declaration import read_declaration
from edgec.core.host import describe_host
from edgec.core.target import Target, load_target
from edgec.deploy import Site
from edgec.latency.fit import sweep
from edgec.latency.fit.probes import Probe
from edgec.package import open_bundle
from support import sshd

BUILD_ONLY = ("torch", "onnx", "onnxscript", "scipy", "sklearn", "jinja2", "asyncssh")
BRIEF = ("--seconds", "0.2")
Edgec = Callable[..., Any]

pytestmark = pytest.mark.network


@pytest.fixture
def host(bed: Any) -> Iterator[Any]:
    with bed.host("device") as host:
        base = host.folder / "base"
        base.mkdir()
        blocked = dict.fromkeys(BUILD_ONLY)
        (base / "sitecustomize.py").write_text(f"import sys\nsys.modules.update({blocked!r})\n")
        sshd.write_python(host.python, python_path=base)
        yield host


@pytest.fixture
def options(bed: Any, host: Any) -> tuple[str, ...]:
    return ("--device", host.url, *bed.options, "--python", str(host.python))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return sshd.make_bundle(tmp_path / "one")


def test_a_bundle_is_measured_on_a_device_and_not_switched_on(
    edgec: Edgec, host: Any, options: tuple[str, ...], bundle: Path
) -> None:
    first = edgec("bench", bundle, *options, *BRIEF, "--batch", "1,4", "--threads", "1", "--json")
    assert first.exit_code == 0, first.stderr
    told = first.last
    assert (told["bundle"], told["device"]) == (str(bundle), host.url)
    assert (told["digest"], told["where"]) == (open_bundle(bundle).digest, describe_host())
    assert [(row["batch"], row["images_per_s"] > 0) for row in told["batches"]] == [(1, True), (4, True)]
    assert [line.partition(": ")[2] for line in first.stderr.splitlines()] == ["uploading", "measuring"]
    status = Site(host.root).status()
    assert ([version.name for version in status.versions], status.current) == (["one"], None)


def test_a_bundle_that_is_there_is_not_sent_again(
    edgec: Edgec, host: Any, options: tuple[str, ...], bundle: Path
) -> None:
    Site(host.root).install(bundle)
    outcome = edgec("bench", bundle, *options, *BRIEF)
    assert outcome.exit_code == 0, outcome.stderr
    assert "uploading" not in outcome.stderr
    assert "measured on: " in outcome.stdout


def test_a_device_without_a_runtime_ends_with_its_own_words(
    edgec: Edgec, host: Any, options: tuple[str, ...], bundle: Path
) -> None:
    base = host.folder / "base" / "sitecustomize.py"
    base.write_text('import sys\nsys.modules["onnxruntime"] = None\n')
    outcome = edgec("bench", bundle, *options, *BRIEF)
    assert outcome.exit_code == 5
    assert "onnxruntime" in outcome.failure[0]
    sshd.write_python(host.python, before="echo No module named edgec >&2; exit 1")
    assert "edgec is not installed there" in edgec("bench", bundle, *options).failure[0]


def test_answers_that_make_no_sense_are_told(
    edgec: Edgec, host: Any, options: tuple[str, ...], bundle: Path, tmp_path: Path
) -> None:
    Site(host.root).install(bundle)
    real = host.python.read_text().removeprefix("#!/bin/sh\n")
    host.python.write_text(f'#!/bin/sh\ncase "$4" in site) ;; *) echo welcome; exit 0 ;; esac\n{real}')
    outcome = edgec("bench", bundle, *options)
    assert (outcome.exit_code, "gave no valid result" in outcome.failure[0]) == (5, True)
    profile = tmp_path / "my.toml"
    outcome = edgec("targets", "fit", *options, "--output", profile)
    assert (outcome.exit_code, "gave no valid answer" in outcome.failure[0]) == (5, True)
    assert not profile.exists()


def test_a_device_is_calibrated_with_graphs_that_are_made_here(
    edgec: Edgec, host: Any, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(Probe(step=step, channels=8, size=8) for step in ("Conv", "Gemm", "Swish"))
    monkeypatch.setattr(sweep, "probes", lambda: few)
    monkeypatch.setattr(sweep, "HEAVY", few[1:2])
    monkeypatch.setattr(sweep, "PROBE_S", 0.0)
    path = tmp_path / "Shop Floor.toml"
    outcome = edgec("targets", "fit", *options, "--threads", "1", "--output", path)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == f"{path}\n"
    profile, here = read_declaration(path, Target, what="target profile"), load_target("host")
    assert (profile.name, profile.title, profile.runtime.threads) == ("shop-floor", describe_host(), 1)
    assert (profile.architecture, profile.quantization) == (here.architecture, here.quantization)
    assert profile.family != "host"  # else a build would measure here and call it the device
    source = profile.source_of("compute.floor_us")
    assert source is not None
    assert "6 small graphs" in source.text
    assert not host.root.exists()


def test_a_device_that_fails_in_the_middle_of_a_sweep_is_told(
    edgec: Edgec, host: Any, options: tuple[str, ...], tmp_path: Path
) -> None:
    machine = {"where": "A machine", "target": load_target("host").model_dump(mode="json")}
    said = f"import sys; print({json.dumps(machine)!r}, flush=True); sys.exit('error: too hot')"
    host.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "$(cat {host.folder}/code)"\n')
    (host.folder / "code").write_text(said)
    path = tmp_path / "my.toml"
    outcome = edgec("targets", "fit", *options, "--output", path)
    assert outcome.exit_code == 5
    assert "error: '" in outcome.stderr
    assert outcome.stderr.splitlines()[0].endswith(": too hot")
    assert not path.exists()


TUNED = ("compress.steps=2", "data.ood_count=60", "data.few.total=20")
HERE = "x86-avx2" if load_target("host").quantization.reduce_range else "x86-vnni"
FAILS_ONCE = """
import onnxruntime, os, pathlib, signal
original, marker = onnxruntime.InferenceSession, pathlib.Path({marker!r})
def session(model, *arguments, **options):
    if b"QuantizeLinear" in model and not marker.exists():
        marker.touch()
        {failure}
    return original(model, *arguments, **options)
onnxruntime.InferenceSession = session
"""


@pytest.fixture
def tune(edgec: Edgec, options: tuple[str, ...], tmp_path: Path) -> Callable[..., Any]:
    """Searches among two candidates that the device times; none of them is good enough to be built to its end."""

    def run() -> Any:
        settings = [option for setting in TUNED for option in ("--set", setting)]
        places = ("--cache", tmp_path / "cache", "--output", tmp_path / "tuned")
        vary = ("--vary", "compress.keep_flops=0.2,0.5", "--trials", 5, "--agreement", 100)
        return edgec("tune", "--target", HERE, "--device", "cpu", *options, *settings, *places, *vary)

    return run


def found(folder: Path) -> list[Any]:
    return json.loads((folder / "tuned" / "tune.json").read_bytes())["candidates"]


@pytest.mark.skipif(load_target("host").architecture != "x86_64", reason="the profile is one of x86")
def test_candidates_of_a_search_are_timed_on_a_device(tune: Callable[..., Any], tmp_path: Path, host: Any) -> None:
    assert tune().exit_code == 3
    tuned = json.loads((tmp_path / "tuned" / "tune.json").read_bytes())
    assert (tuned["timed"], tuned["timed_on"]) == ("measured", describe_host())
    assert [each["found"]["latency_ms"] > 0 for each in tuned["candidates"]] == [True, True]
    assert f"measured on {describe_host()}" in (tmp_path / "tuned" / "tune.html").read_text()
    assert not host.root.exists()  # nothing is installed there


@pytest.mark.skipif(load_target("host").architecture != "x86_64", reason="the profile is one of x86")
@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("raise MemoryError", "the device cannot run the graph: MemoryError"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "the device did not time it, though it times the teacher"),
    ],
)
def test_a_candidate_that_the_device_cannot_run_fails_alone(
    tune: Callable[..., Any], tmp_path: Path, host: Any, failure: str, says: str
) -> None:
    site = host.folder / "base" / "sitecustomize.py"
    site.write_text(site.read_text() + FAILS_ONCE.format(marker=str(tmp_path / "failed"), failure=failure))
    assert tune().exit_code == 3
    first, second = found(tmp_path)
    assert says in first["error"]
    assert second["found"]


@pytest.mark.skipif(load_target("host").architecture != "x86_64", reason="the profile is one of x86")
def test_a_device_that_is_gone_ends_the_search_and_the_same_command_resumes_it(
    tune: Callable[..., Any], tmp_path: Path, host: Any
) -> None:
    real, count = host.python.read_text(), tmp_path / "count"
    third = f'echo >> {count}\n[ "$(wc -l < {count})" -gt 3 ] && {{ echo error: no power >&2; exit 1; }}\n'
    host.python.write_text(f"#!/bin/sh\n{third}{real.removeprefix('#!/bin/sh')}")
    outcome = tune()
    assert (outcome.exit_code, "no power" in outcome.failure[0]) == (5, True)
    assert "finished candidates are kept" in outcome.failure[1]
    assert len(found(tmp_path)) == 1
    host.python.write_text(real)
    assert tune().exit_code == 3
    assert len(found(tmp_path)) == 2


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("jetson", "runs tensorrt"),
        ("host", "'host' is this machine"),
        ("raspberry-pi-5" if load_target("host").architecture == "x86_64" else "x86-vnni", "the device is no"),
    ],
)
def test_a_device_that_would_time_something_else_is_refused(
    edgec: Edgec, options: tuple[str, ...], tmp_path: Path, target: str, says: str
) -> None:
    outcome = edgec("tune", "--target", target, *options, "--cache", tmp_path / "cache", "--output", tmp_path / "tuned")
    assert outcome.exit_code == 1
    assert says in outcome.failure[0]


@pytest.mark.parametrize("devices", [("tpu",), ("cpu", "cuda"), ("ssh://a@h/p", "ssh://b@h/p")])
def test_devices_that_are_none_or_too_many_are_refused(edgec: Edgec, devices: tuple[str, ...]) -> None:
    outcome = edgec("tune", *(option for device in devices for option in ("--device", device)))
    assert (outcome.exit_code, "--device" in outcome.failure[0]) == (2, True)
