"""What happened at a site, one JSON object a line: appended to, never rewritten, read whatever a kill left of it."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "Event",
    "Journal",
    "Kind",
    "Trial",
    "highest_release",
    "is_settled",
    "last_trial",
    "ran_before",
    "runs",
    "this_user",
]

Kind = Literal["install", "switch", "trial", "settled", "rollback", "refused"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of `history.jsonl`.

    Attributes:
        time: UTC, ISO 8601.
        event: What was done, or that it was refused.
        digest: The bundle's identity; empty where a rollback left nothing running.
        name: The bundle's name.
        release: The bundle's release.
        by: Who asked for it.
        ok: Whether it came to what was asked for.
        reason: Why it was refused, or why it was rolled back.
    """

    time: str
    event: Kind
    digest: str
    name: str = ""
    release: int = 0
    by: str = ""
    ok: bool = True
    reason: str = ""


class Journal:
    """The file that keeps the events."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, event: Event) -> None:
        """Adds a line, which is on the disk when this returns.

        Raises:
            OSError: It could not be written; what was cut short is passed over by `events`.
        """
        line = json.dumps(asdict(event), ensure_ascii=False) + "\n"
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(handle, "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                line = f"\n{line}"  # behind a line that a kill cut short
            data = line.encode()
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())

    def events(self) -> tuple[Event, ...]:
        """All events, oldest first; a line that is no event is passed over."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return ()
        return tuple(event for line in lines if (event := _parse(line)))


def runs(events: Iterable[Event]) -> list[str]:
    """Digests that ran, oldest first, without what was rolled away from: the last one runs now."""
    stack: list[str] = []
    for event in events:
        if event.event == "switch" and event.ok and event.digest not in stack[-1:]:
            stack.append(event.digest)
        elif event.event == "rollback" and event.ok:
            stack = _back_to(event.digest, stack)
    return stack


def is_settled(events: Iterable[Event]) -> bool:
    """Whether the device's own commands went well since the last switch."""
    kinds = [event.event for event in events if event.ok and event.event in ("switch", "settled", "rollback")]
    return kinds[-1:] == ["settled"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How often the device's own commands were begun for what runs.

    Attributes:
        count: Since the last switch.
        went_back: Whether that was a rollback: there is nothing better to go back to.
    """

    count: int
    went_back: bool


def last_trial(events: Iterable[Event]) -> Trial:
    """Of what runs now."""
    count, went_back = 0, False
    for event in events:
        if event.ok and event.event in ("switch", "rollback"):
            count, went_back = 0, event.event == "rollback"
        count += event.ok and event.event == "trial"
    return Trial(count=count, went_back=went_back)


def highest_release(events: Iterable[Event], name: str) -> int:
    """Of the bundles of a name that ever ran; 0 where none did."""
    return max(
        (event.release for event in events if event.ok and event.event == "switch" and event.name == name), default=0
    )


def ran_before(events: Iterable[Event], current: str) -> list[str]:
    """What ran before `current`, the latest first; also where the last event was noted and the switch then cut."""
    stack = runs(events)
    if stack[-1:] != [current]:
        stack = _back_to(current, stack) if current in stack else [*stack, current]
    return [digest for digest in reversed(stack[:-1]) if digest != current]


def _back_to(digest: str, stack: list[str]) -> list[str]:
    """The runs until the last one of this digest."""
    for end in range(len(stack), 0, -1):
        if stack[end - 1] == digest:
            return stack[:end]
    return [digest] if digest else []


def _parse(line: bytes) -> Event | None:
    try:
        value: Any = json.loads(line)
        event = Event(**value)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (event.time, event.event, event.digest, event.name, event.by, event.reason)
    plain = all(isinstance(text, str) for text in texts) and isinstance(event.release, int)
    return event if plain and isinstance(event.ok, bool) else None


def this_user() -> str:
    """Who asks, where nobody is named: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
