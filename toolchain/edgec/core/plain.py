"""What others wrote, as one line of visible characters: names of files, labels, answers of servers, errors about them.

A terminal obeys some characters, a log takes a line's end for the next entry, a CI system a line that begins with `::`
for an order, XML cannot hold some at all. Whatever leaves edgec as text for people goes through here.
"""

from __future__ import annotations

import re

__all__ = ["in_json", "in_markdown", "plain", "visible"]

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Controls, ends of lines, what turns the direction of writing, and codes that are no character."""
_ORDER = re.compile(r"^(\s*)(?:::|##\[)")
"""How orders to GitHub's and Azure's runners begin."""
_MARKS = re.compile(r"[\\`*_\[\]<>#!|~&@$]|:(?=\S)|(?<=www)\.", re.IGNORECASE)
"""What Markdown reads as more than text; the last two begin links, which GitHub makes of bare addresses."""


def plain(text: str) -> str:
    """The text with `�` for each character that is not seen but obeyed, and at the head of what looks like an order."""
    return _ORDER.sub(lambda found: f"{found[1]}\ufffd{found[0][len(found[1]) + 1 :]}", visible(text))


def visible(text: str) -> str:
    """The text with `�` for each character that is not seen: for pages and pictures, which obey nothing else."""
    return _UNSEEN.sub("\ufffd", text)


def in_markdown(text: str) -> str:
    """The plain text as it reads in Markdown, in a table as well, whatever it holds: neither a link nor a picture."""
    return _MARKS.sub(r"\\\g<0>", plain(text))


def in_json(text: str) -> str:
    """JSON's own text with what is not seen escaped; it means the same."""
    escaped = _UNSEEN.sub(lambda found: found[0] if found[0] in "\t\n\r" else f"\\u{ord(found[0]):04x}", text)
    return escaped.replace("\r", " ")  # JSON has it between values alone
