"""Tokens: who has one passes, where they come from, and which files of them are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgec.core.errors import ConfigError
from edgec.serve import Settings, read_tokens
from edgec.serve.server import serve

if TYPE_CHECKING:
    from starlette.testclient import TestClient

TOKENS = ("first-token-of-16", "second-token-of-17")
MODEL = "/v2/models/linear-host"


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_lets_in(bundle: Path, start: Callable[..., TestClient], token: str) -> None:
    client = start(bundle, tokens=TOKENS)
    assert client.get(MODEL, headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert client.get(MODEL, headers={"authorization": f"bearer {token}"}).status_code == 200


def test_everything_but_health_asks_for_a_token(bundle: Path, start: Callable[..., TestClient]) -> None:
    client = start(bundle, tokens=TOKENS)
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    for path in (MODEL, "/v2", "/metrics", "/nothing", f"{MODEL}/ready", "/v2/health/ready/", "//v2/health/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    for shown in ("Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKENS[0]}", TOKENS[0], f"Bearer {' '.join(TOKENS)}"):
        answer = client.post(f"{MODEL}/infer", content=b"{}", headers={"authorization": shown})
        assert answer.status_code == 401, shown
        assert answer.json() == {"error": "expected Authorization: Bearer TOKEN, with a token of this server's"}


def test_two_headers_let_nobody_in(bundle: Path, start: Callable[..., TestClient]) -> None:
    client = start(bundle, tokens=TOKENS)
    headers = [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKENS[0]}")]
    assert client.get(MODEL, headers=headers).status_code == 401


def test_tokens_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{TOKENS[0]}\n\n{TOKENS[1]}\n")
    file.chmod(0o600)
    assert read_tokens(None, {}) == ()
    assert read_tokens(file, {}) == TOKENS
    assert read_tokens(file, {"EDGEC_SERVE_TOKEN": "third-token-of-16"}) == ("third-token-of-16", *TOKENS)


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        (None, 0o600, "cannot read the tokens"),
        (TOKENS[0], 0o644, "and others may read it"),
        ("\n", 0o600, "holds no token"),
        ("short", 0o600, "a token is shorter than 16 characters"),
        ("tökens-are-of-ascii", 0o600, "cannot read the tokens"),
    ],
)
def test_a_file_that_guards_nothing_is_refused(tmp_path: Path, text: str | None, mode: int, message: str) -> None:
    file = tmp_path / "tokens"
    if text is not None:
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
    with pytest.raises(ConfigError, match=message) as caught:
        read_tokens(file, {})
    assert "tökens" not in str(caught.value)


def test_tokens_are_not_shown_with_the_settings() -> None:
    assert TOKENS[0] not in repr(Settings(bundle=Path("b"), tokens=TOKENS))


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        ({}, "no tokens and no TLS"),
        ({"tokens": TOKENS}, "no TLS"),
        ({"certificate": Path("c.pem")}, "no tokens"),
    ],
)
def test_other_machines_are_let_in_with_tokens_and_tls_only(given: dict, lacking: str) -> None:
    with pytest.raises(ConfigError, match=f"0.0.0.0 is open to other machines, and there is {lacking}$") as caught:
        serve(Settings(bundle=Path("b"), host="0.0.0.0", **given))  # noqa: S104
    assert "--open" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("::", False)]
)
def test_what_is_this_machine(host: str, local: bool) -> None:
    assert Settings(bundle=Path("b"), host=host).is_local == local


def test_a_certificate_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("none")
    with pytest.raises(ConfigError, match=r"c\.pem' cannot be used for TLS"):
        serve(Settings(bundle=Path("b"), port=0, certificate=tmp_path / "c.pem"))
