"""What others wrote, as one line of visible characters: names of files, labels, answers of servers, errors about them.

A terminal obeys some characters, a log takes a line's end for the next entry, a CI system a line that begins with `::`
for an order, XML cannot hold some at all. Whatever leaves edgec as text for people goes through here.
"""

from __future__ import annotations

import re

__all__ = ["plain"]

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Controls, ends of lines, what turns the direction of writing, and what is no character."""
_ORDER = re.compile(r"^(\s*)(?:::|##\[)")
"""How orders to GitHub's and Azure's runners begin."""


def plain(text: str) -> str:
    """The text with `�` for each character that is not seen but obeyed, and at the head of what looks like an order."""
    return _ORDER.sub(lambda found: f"{found[1]}\ufffd{found[0][len(found[1]) + 1 :]}", _UNSEEN.sub("\ufffd", text))
