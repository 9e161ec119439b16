"""Functions in a process of their own: what they give and raise comes back, and what they do stays there."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgec.core.confined import Confined, OverrunError
from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec


@pytest.fixture
def confined():
    with Confined(memory_bytes=256 << 20) as process:
        yield process


def test_what_a_function_gives_comes_back(confined: Confined) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(confined.call(np.negative, array, seconds=20), -array)
    spec = InputSpec(height=2, width=3)
    assert confined.call(InputSpec.model_validate, spec, seconds=20) == spec


def test_it_is_another_process_and_stays_the_same(confined: Confined) -> None:
    first, second = (confined.call(os.getpid, seconds=20) for _ in range(2))
    assert first == second != os.getpid()
    assert confined.call(os.nice, 0, seconds=20) >= 5


def test_an_expected_error_comes_back_with_its_hint(confined: Confined) -> None:
    from edgec.core.images import decode_bytes

    with pytest.raises(DataError, match="not a readable JPEG") as caught:
        confined.call(partial(decode_bytes, name="x"), b"x", InputSpec(height=2, width=3), seconds=20)
    assert caught.value.hint == "replace the file or take it out"


def test_a_fault_comes_back_as_its_traceback(confined: Confined) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        confined.call(divmod, 1, 0, seconds=20)


def test_what_never_ends_is_ended_and_the_next_call_is_answered(confined: Confined) -> None:
    before = confined.call(os.getpid, seconds=20)
    began = time.monotonic()
    with pytest.raises(OverrunError, match=r"it takes longer than 0\.3 s"):
        confined.call(time.sleep, 600, seconds=0.3)
    assert time.monotonic() - began < 10
    assert confined.call(os.getpid, seconds=20) != before


def test_too_much_memory_is_not_given(confined: Confined) -> None:
    with pytest.raises(OverrunError, match="more memory than it may"):
        confined.call(np.ones, 1 << 28, seconds=20)


def test_a_crash_of_native_code_ends_that_process_alone(confined: Confined) -> None:
    with pytest.raises(OverrunError, match="ends the process that it runs in, by SIGSEGV"):
        confined.call(ctypes.string_at, 0, seconds=20)
    assert confined.call(len, b"abc", seconds=20) == 3


def test_a_large_argument_is_copied_on_neither_side(confined: Confined) -> None:
    large = bytearray(64 << 20)
    confined.call(len, b"", seconds=20)
    tracemalloc.start()
    assert confined.call(len, large, seconds=20) == len(large)
    _, here_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert here_bytes < 4 << 20
    there = confined.call(Path.read_text, Path("/proc/self/status"), seconds=20)
    assert kilobytes(there, "VmHWM") << 10 < len(large) + (48 << 20)  # Python with NumPy's modules is within 40 MB


def test_what_was_freed_there_goes_back(confined: Confined) -> None:
    def held() -> int:
        return kilobytes(confined.call(Path.read_text, Path("/proc/self/status"), seconds=20), "VmRSS")

    confined.call(np.ones, 1, seconds=20)
    before = held()
    for count in (3 << 20, 2 << 20, 2 << 20):  # glibc learns from the first to keep the others
        confined.call(np.ones, count, seconds=20)
    assert held() - before < 8 << 10


def kilobytes(status: str, name: str) -> int:
    """A line of /proc's status."""
    return int(status.partition(f"{name}:")[2].split()[0])


def test_a_call_that_cannot_be_pickled_spoils_none_after_it(confined: Confined) -> None:
    with pytest.raises((AttributeError, pickle.PicklingError)):
        confined.call(len, [bytes(1 << 20), lambda: None], seconds=20)
    assert confined.call(len, b"abc", seconds=20) == 3


def test_what_runs_code_is_not_unpickled(confined: Confined) -> None:
    with pytest.raises(OverrunError):
        confined.call(Path, "/", seconds=20)


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with Confined(memory_bytes=None) as process:
        assert process.call(len, b"abc", seconds=20) == 3


def test_it_ends_with_the_process_that_it_works_for(confined: Confined) -> None:
    pid = confined.call(os.getpid, seconds=20)
    os.kill(pid, signal.SIGTERM)  # as systemd does to all of a unit: what was taken is still answered
    assert confined.call(os.getpid, seconds=20) == pid
    confined.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_can_be_closed_while_another_thread_waits_for_it(confined: Confined) -> None:
    confined.call(len, b"abc", seconds=20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(confined.call, time.sleep, 600, seconds=600)
        time.sleep(0.3)
        confined.close()
        with pytest.raises(OverrunError, match="by SIGKILL"):
            waiting.result(60)
