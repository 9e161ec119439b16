"""What a test demands of every expected failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgec.core.errors import EdgecError

__all__ = ["refusal"]


def refusal(call: Callable[[], object], kind: type[EdgecError]) -> EdgecError:
    """The error of this kind, which is one line with a hint."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value
