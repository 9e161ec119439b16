"""The tree of expected failures: exit codes, hints, and the text for unknown names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgec.core import errors
from edgec.core.errors import ConfigError, EdgecError, unknown_name

CODES = {
    "CalibrationError": 1,
    "ConfigError": 2,
    "ContractError": 1,
    "DataError": 2,
    "ExportMismatchError": 1,
    "GateFailed": 3,
    "IntegrityError": 4,
    "MissingDependencyError": 2,
    "TransportError": 5,
    "UnsupportedError": 1,
}


def test_every_error_is_in_this_table() -> None:
    assert {kind.__name__ for kind in EdgecError.__subclasses__()} == set(CODES)


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_an_error_carries_its_message_its_hint_and_its_exit_code(name: str, code: int) -> None:
    error = getattr(errors, name)("what is wrong", hint="what to do")
    assert (str(error), error.hint, error.exit_code) == ("what is wrong", "what to do", code)


def test_a_hint_may_be_left_out() -> None:
    assert EdgecError("what is wrong").hint is None


def test_an_unknown_name_lists_the_known_ones_in_order_and_suggests_the_nearest() -> None:
    error = unknown_name("target", "jetsen", ["rpi5", "jetson", "host"])
    assert isinstance(error, ConfigError)
    assert str(error) == "unknown target 'jetsen'; known: host, jetson, rpi5"
    assert error.hint == "did you mean 'jetson'?"


def test_an_unknown_name_that_is_near_to_none_gets_the_list_as_its_hint() -> None:
    assert unknown_name("target", "zzz", ["b", "a"]).hint == "choose one of: a, b"


def test_the_names_may_come_from_a_generator_that_is_read_once() -> None:
    error = unknown_name("method", "mri", (name for name in ("mir", "cd")))
    assert (str(error), error.hint) == ("unknown method 'mri'; known: cd, mir", "did you mean 'mir'?")


def test_importing_the_errors_imports_nothing_heavy() -> None:
    code = "import sys, edgec.core.errors; print(*{'numpy', 'torch', 'pydantic', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split() == []
