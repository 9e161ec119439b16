"""A command of the device's own: run to its end or to a deadline, with the last words that it said."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress

__all__ = ["fault_of"]

COMMAND_S = 120.0
"""How long one may take."""
_CHARS = 300
"""Of what it said, the last ones."""
_PIECE_BYTES = 1 << 16
_POLL_S = 0.05


def fault_of(commands: Iterable[str], *, limit_s: float = COMMAND_S) -> str | None:
    """Why one of some commands failed, the first that did; None where all went well.

    Args:
        commands: Run one behind the other, without a shell.
        limit_s: How long each may take; then it is killed with all that it started.
    """
    return next((fault for command in commands if (fault := _fault_of_one(command, limit_s))), None)


def _fault_of_one(command: str, limit_s: float) -> str | None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as output:
        try:
            process = subprocess.Popen(
                shlex.split(command), stdin=subprocess.DEVNULL, stdout=write, stderr=write, start_new_session=True
            )
        except (OSError, ValueError, IndexError) as error:
            return f"'{command}' failed: {error}"
        finally:
            os.close(write)
        with process:
            said = _last_words(process, output.fileno(), time.monotonic() + limit_s)
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                return f"'{command}' failed: not done within {limit_s:g} s"
    return f"'{command}' ended with {process.returncode}: {said}" if process.returncode else None


def _last_words(process: subprocess.Popen[bytes], output: int, deadline: float) -> str:
    """What it said in the end, when it ended or its time is over. What it left running may go on with its output."""
    os.set_blocking(output, False)
    said = b""
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([output], [], [], _POLL_S)[0]:
            piece = os.read(output, _PIECE_BYTES)
            if not piece:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(deadline - time.monotonic(), 0))
            said = (said + piece)[-_PIECE_BYTES:]
    with suppress(BlockingIOError):
        said += os.read(output, _PIECE_BYTES)
    return " ".join(said.decode(errors="replace").split())[-_CHARS:]
