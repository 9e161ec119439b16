"""The gate before the routes: who shows a token may pass, and who floods is slowed down."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgec.core.errors import ConfigError
from edgec.serve.admission import Pace, client_of

__all__ = ["TOKEN_VARIABLE", "Gate", "read_tokens"]

TOKEN_VARIABLE = "EDGEC_SERVE_TOKEN"  # noqa: S105  # a variable's name
_LEAST_CHARACTERS = 16
_OPEN = frozenset({"/v2/health/live", "/v2/health/ready"})
"""What asks them is an orchestrator without tokens, and they tell nothing else."""
_WORK = ("/infer", "/classify")
"""Routes on which only what is refused counts for a client's pace."""
_OK = 200
_COSTS = {"/metrics": 10.0}
"""What takes longer than other pages."""
_REFUSAL = json.dumps({"error": "expected Authorization: Bearer TOKEN, with a token of this server's"}).encode()


def read_tokens(file: Path | None, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Tokens from a file, one a line, and from `EDGEC_SERVE_TOKEN`; none where neither is given.

    Raises:
        ConfigError: The file cannot be read, others may read it, it holds none, or one is too short.
    """
    given = environment.get(TOKEN_VARIABLE, "").split()
    if file is not None:
        try:
            shared = file.stat().st_mode & 0o077
            lines = file.read_text(encoding="ascii").split()
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot read the tokens in '{file}': {error}", hint="one a line, in ASCII") from error
        if shared:
            raise ConfigError(f"'{file}' holds tokens, and others may read it", hint=f"chmod 600 {file}")
        if not lines:
            raise ConfigError(f"'{file}' holds no token", hint="openssl rand -hex 32 makes one")
        given += lines
    if any(len(token) < _LEAST_CHARACTERS for token in given):
        raise ConfigError(
            f"a token is shorter than {_LEAST_CHARACTERS} characters", hint="openssl rand -hex 32 makes one"
        )
    return tuple(given)


class Gate:
    """An application behind it.

    Args:
        app: The application.
        tokens: Those that let in; none lets everybody in.
        pace: Slows down those who flood.
    """

    def __init__(self, app: ASGIApp, tokens: tuple[str, ...], pace: Pace) -> None:
        self._app = app
        self._digests = tuple(map(_digest, (token.encode() for token in tokens)))
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client, is_work = client_of(scope), scope["path"].endswith(_WORK)

        async def paced(message: Message) -> None:
            if is_work and message["type"] == "http.response.start" and message["status"] != _OK:
                await self._pace.keep(client)
            await send(message)

        if not is_work:
            await self._pace.keep(client, cost=_COSTS.get(scope["path"], 1.0))
        if self._digests and scope["path"] not in _OPEN and not self._knows(scope):
            await _refuse(paced)
        else:
            await self._app(scope, receive, paced)

    def _knows(self, scope: Scope) -> bool:
        """Whether it shows a token; all are compared, in the same time."""
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, token = (shown[0] if len(shown) == 1 else b"").partition(b" ")
        found = _digest(token.strip())
        matches = [hmac.compare_digest(found, known) for known in self._digests]
        return kind.lower() == b"bearer" and any(matches)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"www-authenticate", b"Bearer"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
