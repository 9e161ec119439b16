"""ssh URLs."""

from __future__ import annotations

import pytest

from edgec.core.errors import ConfigError
from edgec.deploy.address import Address


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://pi/srv/model", Address(host="pi", path="/srv/model")),
        ("ssh://edge@10.0.0.7:2222/srv/model/", Address(host="10.0.0.7", path="/srv/model", user="edge", port=2222)),
        ("ssh://edge@[fe80::1]:22/a%20b", Address(host="fe80::1", path="/a b", user="edge", port=22)),
        ("ssh://pi/~/model", Address(host="pi", path="model")),
    ],
)
def test_a_url_gives_its_parts(url: str, expected: Address) -> None:
    assert Address.parse(url) == expected


@pytest.mark.parametrize("url", ["ssh://pi/srv/model", "ssh://edge@[fe80::1]:2222/srv", "ssh://edge@pi/~/model"])
def test_an_address_is_written_as_it_was_read(url: str) -> None:
    assert str(Address.parse(url)) == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("pi:/srv", "not an ssh URL"),
        ("https://pi/srv", "not an ssh URL"),
        ("ssh:///srv", "not an ssh URL"),
        ("ssh://pi", "no folder"),
        ("ssh://pi/", "no folder"),
        ("ssh://pi:99999/srv", "Port out of range"),
        ("ssh://pi/srv?x=1", "nothing may follow the path"),
        ("ssh://-oProxyCommand=x/srv", "odd characters"),
        ("ssh://pi/~/-rf", "odd characters"),
        ("ssh://pi/a%0Ab", "odd characters"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        Address.parse(url)
    assert "ssh://user@host:port/path" in str(refused.value.hint)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="a password in the URL") as refused:
        Address.parse("ssh://edge:secret@pi/srv")
    assert "secret" not in f"{refused.value}{refused.value.hint}"
