"""`edgec bench`: figures by batch for people and machines, notes on what is missing, and bad input."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgec.cli.bench import command
from edgec.core.errors import ConfigError, DataError, EdgecError, TransportError
from edgec.deploy.remote import Benched
from edgec.package import write_archive


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "100"}).invoke(command, [str(argument) for argument in arguments])


def failure(result: Result) -> EdgecError:
    assert isinstance(result.exception, EdgecError), result.output
    return result.exception


def test_a_table_has_a_row_a_batch(make_bundle: Callable[..., Path]) -> None:
    result = run(make_bundle(), "--batch", "4,1", "--seconds", 0.2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:8] == ["batch", "p50", "ms", "p90", "ms", "p95", "ms", "p99"]
    assert [line.split()[0] for line in lines[2:4]] == ["1", "4"]
    assert "peak memory: " in result.stdout
    assert "measured on: " in result.stdout


def test_json_holds_latency_throughput_memory_and_state(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    archive = write_archive(make_bundle(), tmp_path / "model.edgec")
    found = json.loads(run(archive, "--batch", "2", "--seconds", 0.2, "--threads", 1, "--repeats", 7, "--json").stdout)
    (row,) = found["batches"]
    latency = row["latency"]
    assert latency["p50"]["value_ms"] <= latency["p90"]["value_ms"] <= latency["p99"]["value_ms"]
    assert row["images_per_s"] == pytest.approx(2000 / latency["p50"]["value_ms"])
    assert (row["batch"], found["threads"], found["provider"]) == (2, 1, "CPUExecutionProvider")
    memory = found["memory_mb"]
    assert 1 < memory["low"] <= memory["value"] <= memory["high"]
    assert memory["runs"] == 7
    assert set(found["before"]) == {"governor", "clock_mhz", "clock_limit_mhz", "temperature_c"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("one", "--batch one: expected whole numbers"),
        ("0,8", "--batch 0,8: expected numbers from 1 to 1024"),
        ("4096", "--batch 4096: expected numbers from 1 to 1024"),
    ],
)
def test_batches_that_make_no_sense_are_refused(given: str, message: str) -> None:
    error = failure(run("anything", "--batch", given))
    assert isinstance(error, ConfigError)
    assert (str(error), error.hint) == (message, "as in --batch 1,8,32")


def test_what_is_no_bundle_is_a_data_error(tmp_path: Path) -> None:
    assert isinstance(failure(run(tmp_path / "missing")), DataError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--device", "10.0.0.11"), "'10.0.0.11': not an ssh URL"),
        (("--device", "ssh://edge:word@shop/srv"), "'ssh://shop': a password in the URL"),
        (("--python", "python3"), "--identity, --known-hosts and --python are for a device"),
    ],
)
def test_what_names_no_device_is_refused(
    given: tuple[str, ...], message: str, make_bundle: Callable[..., Path]
) -> None:
    error = failure(run(make_bundle(), *given))
    assert isinstance(error, ConfigError)
    assert str(error) == message


def test_what_is_no_bundle_is_found_out_before_a_device_is_asked(tmp_path: Path) -> None:
    device = ("--device", "ssh://127.0.0.1:1/srv/model")
    assert isinstance(failure(run(tmp_path / "missing", *device)), DataError)


def test_a_device_that_does_not_answer_is_a_transport_error(make_bundle: Callable[..., Path]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and nobody listens
        error = failure(run(make_bundle(), "--device", f"ssh://127.0.0.1:{silent.getsockname()[1]}/srv/model"))
    assert isinstance(error, TransportError)
    assert error.hint == "is it on, and its sshd running?"


def test_a_device_that_measures_another_bundle_is_told_of(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the one that was asked for, the signature was checked here; of any other nobody looked at it."""
    bundle = make_bundle()
    told = json.loads(run(bundle, "--seconds", 0.2, "--json").stdout)

    async def bench_there(*_: object, **__: object) -> Benched:
        return Benched(text=json.dumps(told), notes=())

    monkeypatch.setattr("edgec.deploy.remote.bench_there", bench_there)
    assert run(bundle, "--device", "ssh://pi@127.0.0.1/srv", "--json").exit_code == 0
    told["digest"] = "0" * 64
    error = failure(run(bundle, "--device", "ssh://pi@127.0.0.1/srv"))
    assert isinstance(error, TransportError)
    assert "the device measured bundle 000000000000, expected " in str(error)
