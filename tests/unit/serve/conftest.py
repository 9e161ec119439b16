"""A server in this process, without a socket."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgec.package import Trust
from edgec.runtime import load_model
from edgec.serve import Service, Settings, make_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette 1 would rather have httpx2, and takes httpx
    from starlette.testclient import TestClient

SOON_S = 20
"""Loading a bundle of these tests takes far less."""


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that another thread does."""
    return _until


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """Starts a server of a bundle and waits until it is ready; keywords are its settings.

    The golden images are replayed here and not in another process, which would take half a second for each test.
    """

    def prove_here(path: Path, *, trust: Trust | None) -> str:
        model = load_model(path, trust=trust)
        model.smoke_test()
        return model.bundle.digest

    monkeypatch.setattr("edgec.serve.versions.prove", prove_here)
    with ExitStack() as stack:

        def begin(bundle: Path, **settings: Any) -> TestClient:
            service = Service(Settings(bundle=bundle, watch_seconds=0.02, **settings), ended=lambda: None)
            client = stack.enter_context(TestClient(make_app(service), raise_server_exceptions=False))
            _until(lambda: client.get("/v2/health/ready").status_code == 200)
            return client

        yield begin


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def client(bundle: Path, start: Callable[..., TestClient]) -> TestClient:
    return start(bundle)
