"""A function in a process of its own: with a deadline, a limit on memory and a low priority.

For what strangers made, images, requests and graphs: whatever they do to that process, this one goes on. The kernel
keeps the deadline (an interval timer whose signal ends the process) and the limit on memory, so that native code that
never comes back is ended, too. What comes back is unpickled with a list of what it may hold.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeVar

from typing_extensions import Self

from edgec.core.errors import DataError, EdgecError
from edgec.core.heap import give_back_freed

__all__ = ["Confined", "OverrunError"]

T = TypeVar("T")

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from edgec.core.confined import work; work()"
_SIZE = struct.Struct("<Q")
_NICE = 5
"""Less than what answers requests, which goes first where cores are few."""
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""NumPy's library would take memory for each core, of the little that the process may have."""
_FIRST_TO_GO = "1000"
"""Where memory runs out all the same, the kernel ends this process before any other."""
_NUMPY = frozenset({"_frombuffer", "_reconstruct", "dtype", "ndarray"})
"""What an array's pickle names."""


class OverrunError(DataError):
    """It took more time or memory than it may, or ended the process that it ran in."""


class Confined:
    """A process that calls functions for this one; started on the first call, and anew after an overrun.

    Args:
        memory_bytes: Most memory of its own that it may hold; None sets no limit.
    """

    def __init__(self, *, memory_bytes: int | None) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[..., T], *arguments: object, seconds: float) -> T:
        """What a function of a module of edgec gives for its arguments; one call at a time.

        Raises:
            EdgecError: What it raised.
            OverrunError: It took too long or too much memory, or ended the process.
            RuntimeError: It raised another error; the text is its traceback.
        """
        with self._lock:
            outcome = self._exchange((function, arguments, seconds), seconds)
        if isinstance(outcome, EdgecError):
            raise outcome
        fault, value = outcome
        if fault is not None:
            raise RuntimeError(fault)
        return value

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _exchange(self, call: object, seconds: float) -> Any:
        process = self._process = self._process or self._start()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise TypeError("the process has no pipes")
        try:
            _ask(stdin, call)
        except BrokenPipeError:  # it is gone: the next read tells
            pass
        except BaseException:  # what cannot be pickled: half of it may be on its way
            self.close()
            raise
        answer = _read(stdout)
        if answer is not None:
            with suppress(pickle.UnpicklingError):
                return _Answers(answer).load()
        self._process = None
        _end(process)  # what sends nonsense is not trusted with another call
        raise OverrunError(_reason(process.returncode, seconds), hint="do not use it: it may be meant to do harm")

    def _start(self) -> subprocess.Popen[bytes]:
        path = json.dumps([folder for folder in sys.path if Path(folder).is_absolute()])
        # -I: nothing is imported from the working directory, and no variable changes what is.
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ONE_THREAD,
        )
        if process.stdin is not None:
            _ask(process.stdin, self._memory_bytes)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills it and closes its pipes; a thread that waits for its answer finds the end of it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what was not written yet cannot be
            if pipe is not None:
                pipe.close()


def _reason(status: int, seconds: float) -> str:
    if status == -signal.SIGALRM:
        return f"it takes longer than {seconds:g} s"
    if status < 0:
        return f"it ends the process that it runs in, by {signal.Signals(-status).name}"
    return f"it ends the process that it runs in, with {status}"


def work() -> None:
    """The other process: reads calls from stdin and answers to stdout until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the process that it works for
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _confine(pickle.load(calls))  # noqa: S301  # from the process that started this one
    while True:
        try:
            function, arguments, seconds = pickle.load(calls)  # noqa: S301  # our own process wrote it
        except (EOFError, pickle.UnpicklingError):  # the process that asks is gone, perhaps within a call
            return
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            outcome: Any = (None, function(*arguments))
        except EdgecError as error:
            outcome = error
        except MemoryError:
            outcome = OverrunError("it takes more memory than it may", hint="do not use it: it may be meant to do harm")
        except Exception:  # noqa: BLE001  # a fault of edgec's own, which the process that asked raises
            outcome = (traceback.format_exc(), None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answers, pickle.dumps(outcome))
        del function, arguments, outcome  # a large one is not kept beside the next


def _confine(memory_bytes: int | None) -> None:
    os.nice(_NICE)
    give_back_freed()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with suppress(OSError):  # no /proc
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def _ask(file: IO[bytes], call: object) -> None:
    """Large bytes in it are not copied, neither here nor there."""
    pickle.dump(call, file, protocol=pickle.HIGHEST_PROTOCOL)
    file.flush()


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(_SIZE.pack(len(data)))
    file.write(data)
    file.flush()


def _read(file: IO[bytes]) -> bytes | None:
    """The next message; None at the end."""
    head = file.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack(head)
    data = file.read(size)
    return data if len(data) == size else None


class _Answers(pickle.Unpickler):
    """Arrays and edgec's own values and errors, and nothing that runs: the other process is not believed."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))

    def find_class(self, module: str, name: str, /) -> Any:
        """A type that an answer may hold."""
        top = module.partition(".")[0]
        if top == "edgec" or (top == "numpy" and name in _NUMPY):
            found = super().find_class(module, name)
            if top == "numpy" or isinstance(found, type):
                return found
        raise pickle.UnpicklingError(f"an answer may not hold {module}.{name}")
