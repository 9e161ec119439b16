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
    assert (outcome.exit_code, "answers what is no result" in outcome.failure[0]) == (5, True)
    profile = tmp_path / "my.toml"
    outcome = edgec("targets", "calibrate", *options, "--output", profile)
    assert (outcome.exit_code, "answers what is no answer" in outcome.failure[0]) == (5, True)
    assert not profile.exists()


def test_a_device_is_calibrated_with_graphs_that_are_made_here(
    edgec: Edgec, host: Any, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(Probe(step=step, channels=8, size=8) for step in ("Conv", "Gemm", "Swish"))
    monkeypatch.setattr(sweep, "probes", lambda: few)
    monkeypatch.setattr(sweep, "HEAVY", few[1:2])
    monkeypatch.setattr(sweep, "PROBE_S", 0.0)
    path = tmp_path / "Shop Floor.toml"
    outcome = edgec("targets", "calibrate", *options, "--threads", "1", "--output", path)
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
    outcome = edgec("targets", "calibrate", *options, "--output", path)
    assert outcome.exit_code == 5
    assert "error: '" in outcome.stderr
    assert outcome.stderr.splitlines()[0].endswith(": too hot")
    assert not path.exists()
