"""What a device says, taken for what it is."""

from __future__ import annotations

import pytest

from edgec.deploy.ssh import _Done, _printed


@pytest.mark.parametrize(
    ("exit_status", "signal", "out", "said", "expected"),
    [
        (None, True, '{"digest": "…"}\n', "", True),
        (139, False, '{"digest": "…"}\n', "", True),
        (139, False, '{"dige', "", False),
        (139, False, "", "", False),
        (139, False, "{}\n", "error: answers differently here", False),
        (1, False, "{}\n", "", False),
        (None, False, "{}\n", "", False),
    ],
)
def test_an_interpreter_that_dies_at_exit_has_answered_all_the_same(
    exit_status: int | None, signal: bool, out: str, said: str, expected: bool
) -> None:
    """As some do when a GPU's driver is unloaded; half an answer, and a failure, stay what they are."""
    done = _Done(exit_status=exit_status, signal=signal, out=out, said=said)
    assert done.died_after_its_answer == expected


@pytest.mark.parametrize("text", ["", "\n", "[]", "7", "{}", '{"digest": 1}', "\0", '{"a":' * 10_000])
def test_nonsense_is_no_answer(text: str) -> None:
    assert _printed("version", text).version is None
