"""The one place where failures become text: a line, a hint, an exit code, and never a traceback."""

from __future__ import annotations

from typing import Any

import click
import pytest

from edgec.cli import LazyGroup, group
from edgec.core.errors import DataError, GateFailed, IntegrityError, TransportError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, edgec: Any) -> Any:
    """Runs a command that raises."""

    def failing(error: BaseException) -> Any:
        @click.command("check")
        def command() -> None:
            raise error

        monkeypatch.setattr(LazyGroup, "get_command", lambda *_: command)
        return edgec("check")

    return failing


@pytest.mark.parametrize(("kind", "code"), [(DataError, 2), (GateFailed, 3), (IntegrityError, 4), (TransportError, 5)])
def test_an_expected_failure_has_its_exit_code(failing: Any, kind: Any, code: int) -> None:
    outcome = failing(kind("what is wrong", hint="what to do"))
    assert outcome.stderr == "error: what is wrong\nhint: what to do\n"
    assert outcome.stdout == ""
    assert outcome.exit_code == code


def test_a_failure_without_a_hint_is_one_line(failing: Any) -> None:
    assert failing(DataError("what is wrong")).stderr == "error: what is wrong\n"


def test_a_message_of_several_lines_becomes_one(failing: Any) -> None:
    outcome = failing(DataError("file 'a\nb' is\r\nwrong", hint="rename\nit"))
    assert outcome.stderr == "error: file 'a b' is wrong\nhint: rename it\n"


def test_an_unexpected_failure_is_two_lines_as_well(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEC_DEBUG", raising=False)
    outcome = failing(ZeroDivisionError("division by zero"))
    message, hint = outcome.failure
    assert message == "unexpected ZeroDivisionError: division by zero"
    assert "EDGEC_DEBUG=1" in hint
    assert outcome.exit_code == 1


def test_a_full_disk_is_no_fault_of_edgec(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEC_DEBUG", raising=False)
    message, hint = failing(OSError(28, "No space left on device")).failure
    assert message == "unexpected OSError: [Errno 28] No space left on device"
    assert hint.startswith("check disk space")


def test_an_unexpected_failure_shows_where_when_it_is_asked(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError("division by zero"))


def test_ctrl_c_exits_130_and_says_so(failing: Any) -> None:
    outcome = failing(KeyboardInterrupt())
    assert outcome.exit_code == 130
    assert outcome.stderr.strip() == "interrupted"


def test_a_wrong_option_points_to_the_help_of_its_command(edgec: Any) -> None:
    outcome = edgec("targets", "show", "--nonsense")
    message, hint = outcome.failure
    assert message.startswith("No such option '--nonsense'.")
    assert hint == "edgec targets show --help"
    assert outcome.exit_code == 2


def test_an_unknown_command_is_told_the_nearest(edgec: Any) -> None:
    message, hint = edgec("predcit").failure
    assert message.startswith("unknown command 'predcit'; known: agent, bench, build, ")
    assert hint == "did you mean 'predict'?"


def test_every_command_is_listed_with_what_it_does(edgec: Any) -> None:
    outcome = edgec("--help")
    assert outcome.exit_code == 0
    for name in group.list_commands(click.Context(group)):
        assert f"\n  {name} " in outcome.stdout
