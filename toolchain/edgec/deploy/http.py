"""HTTP with an OCI registry: says who asks when that is wanted, tries again what may pass, explains what cannot.

Sessions' tokens are oras-py's business. Its transfers are not used: it compares no digest, resumes nothing, waits for
answers without a limit and tries everything again, also what cannot succeed.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from edgec.core.errors import MissingDependencyError, TransportError
from edgec.deploy.budget import LEAST_BYTES_S, SMALL_BYTES, Budget
from edgec.deploy.credentials import Credentials, find_credentials
from edgec.deploy.reference import Reference

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

__all__ = ["WAITS_S", "AbsentError", "HttpConnection", "PassingError"]

T = TypeVar("T")

WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""Between attempts, as long as none comes any further; up to twice that, at random."""
PATIENCE_S = 600.0
"""How long attempts may follow each other, beside what the bytes that they brought may take."""
CLOCK_S = 1735689600.0
"""2025 began: a clock that says less was never set, as on devices without a battery for it."""
_MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
"""What a registry may ask us to wait."""

_PIECE = 1 << 16
_MESSAGE_CHARS = 200
_MEND = "tell those who run the registry"


class PassingError(TransportError):
    """A failure that may pass by itself.

    Attributes:
        after_s: What the registry asks to wait.
    """

    after_s = 0.0


class AbsentError(TransportError):
    """A registry has nothing of that name."""


class HttpConnection:
    """Requests to one repository.

    Args:
        reference: Where it is.
        insecure: Speak HTTP without TLS; to this machine that is done anyway.
        waits_s: Between attempts.

    Raises:
        MissingDependencyError: oras is not installed.
    """

    def __init__(self, reference: Reference, *, insecure: bool, waits_s: tuple[float, ...]) -> None:
        self._reference = reference
        self._waits_s = waits_s
        self._scheme = "http" if insecure or reference.is_local else "https"
        self._base = f"{self._scheme}://{reference.host}/v2/{reference.repository}/"
        self._session, self._budget = _session()
        self._authorization: str | None = None
        self._credentials: Credentials | None = None

    def close(self) -> None:
        """Ends all connections."""
        self._session.close()

    def persist(self, attempt: Callable[[], T], done: Callable[[], int] = lambda: 0) -> T:
        """Tries until it succeeds or cannot; waits grow while `done`, the bytes that are there, stays where it is."""
        before, waits = done(), iter(self._waits_s)
        began, first = time.monotonic(), before
        while True:
            try:
                return attempt()
            except PassingError as error:
                if done() > before:
                    before, waits = done(), iter(self._waits_s)
                wait = next(waits, None)
                patience_s = PATIENCE_S + (before - first) / LEAST_BYTES_S
                if wait is None or time.monotonic() - began > patience_s:
                    raise
                # Spread, so that devices which lost a registry together do not come back together.
                time.sleep(max(wait * random.uniform(1, 2), error.after_s))  # noqa: S311

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | None = None,
        stream: bool = False,
        most_bytes: int = SMALL_BYTES,
        expect: tuple[int, ...] = (HTTPStatus.OK,),
    ) -> Response:
        """One request, sent twice where the registry first wants to know who asks.

        Args:
            method: As in HTTP.
            path: Relative to the repository, or a whole address that the registry gave.
            headers: More of them.
            data: The body.
            stream: Leave the answer's body to `pieces`.
            most_bytes: Of the answer's body.
            expect: The answers that are fine.

        Raises:
            TransportError: Any other answer, or none; a `PassingError` where another attempt may help.
        """
        url = self._address(path)
        headers = {"Accept-Encoding": "identity", **(headers or {})}
        once = partial(self._once, method, url, headers, data, stream=stream, most_bytes=most_bytes)
        response = once()
        asked_here = response.status_code == HTTPStatus.UNAUTHORIZED and self._is_registry(response.url)
        if asked_here and self._introduced(response):
            response.close()
            response = once()
        if response.status_code in expect:
            return response
        with response:
            raise self._refusal(method, path, response)

    def pieces(self, response: Response) -> Iterator[bytes]:
        """The body of an answer; a connection that ends early is a failure that may pass."""
        try:
            yield from response.iter_content(_PIECE)
        except _broken() as error:
            raise self._unreachable(error) from error

    def _address(self, path: str) -> str:
        """Where a request goes."""
        try:
            url = urljoin(self._base, path)
            scheme = urlsplit(url).scheme
        except ValueError as error:
            raise TransportError(f"'{self._reference}': the registry leads to no address", hint=_MEND) from error
        if self._scheme == "https" and scheme != "https":
            raise TransportError(f"'{self._reference}': the registry leads to HTTP without TLS", hint=_MEND)
        return url

    def _is_registry(self, url: str | None) -> bool:
        """Whether it is the registry itself; whoever else it leads to is not told who asks."""
        return urlsplit(str(url)).netloc == self._reference.host

    def _once(
        self, method: str, url: str, headers: dict[str, str], data: bytes | None, *, stream: bool, most_bytes: int
    ) -> Response:
        self._budget.body_bytes = most_bytes
        try:
            return self._session.request(
                method, url, headers=headers, data=data, stream=stream, auth=self._authorize, allow_redirects=True
            )
        except _broken() as error:
            raise self._unreachable(error) from error

    def _authorize(self, request: PreparedRequest) -> PreparedRequest:
        """Says who asks, to the registry and to nobody whom it sends us to; `~/.netrc` has no say."""
        if self._authorization and self._is_registry(request.url):
            request.headers["Authorization"] = self._authorization
        return request

    def _introduced(self, response: Response) -> bool:
        try:
            return self._introduce(response)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise TransportError(
                f"registry '{self._reference.registry}' asks who we are in a way that makes no sense", hint=_MEND
            ) from error

    def _introduce(self, response: Response) -> bool:
        """Gets ready to say what the registry wants to know; False where there is nothing new to say."""
        challenge = response.headers.get("Www-Authenticate", "")
        scheme = challenge.partition(" ")[0].lower()
        self._credentials = self._credentials or find_credentials(self._reference.registry)
        before = self._authorization
        if scheme == "basic" and self._credentials:
            self._authorization = _backend("basic", self._session, self._credentials).get_auth_header()["Authorization"]
        elif scheme == "bearer":
            self._authorization = self._token(challenge, response)
        return self._authorization not in (None, before)

    def _token(self, challenge: str, response: Response) -> str | None:
        """What the place that the challenge names gives for the password; it must not be told that without TLS."""
        from requests import RequestException

        realms = re.findall(r'realm="([^"]+)"', challenge)
        registry = f"registry '{self._reference.registry}'"
        if len(realms) != 1 or challenge.lower().count("realm=") != 1:  # of two, readers could each take another one
            raise TransportError(f"{registry} names {len(realms)} places for its tokens, expected one", hint=_MEND)
        if not realms[0].startswith(("https://", f"{self._scheme}://")):
            raise TransportError(f"{registry} has its tokens fetched without TLS", hint=_MEND)
        backend = _backend("token", self._session, self._credentials)
        self._budget.body_bytes = SMALL_BYTES
        try:
            headers, _ = backend.authenticate_request(response, {})
        except RequestException as error:
            raise self._unreachable(error) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise TransportError(f"{registry} has its tokens fetched where there are none", hint=_MEND) from error
        return headers.get("Authorization")

    def _unreachable(self, error: Exception) -> TransportError:
        from requests.exceptions import SSLError, Timeout

        host = self._reference.registry
        if isinstance(error, SSLError):
            if "not yet valid" in str(error) or time.time() < CLOCK_S:
                return TransportError(
                    f"registry '{host}': no secure connection: this machine's clock says "
                    f"{time.strftime('%Y-%m-%d')}, and certificates begin later: {_cause(error)}",
                    hint="set the clock, as with timedatectl set-ntp true",
                )
            return TransportError(
                f"registry '{host}': no secure connection: {_cause(error)}",
                hint="REQUESTS_CA_BUNDLE names certificates of your own; --insecure is for registries without TLS",
            )
        cause = "no answer in time" if isinstance(error, Timeout) else _cause(error)
        return PassingError(
            f"registry '{host}' cannot be reached: {cause}", hint="check its name, its port and the network"
        )

    def _refusal(self, method: str, path: str, response: Response) -> TransportError:
        """What an answer means to the person who waits."""
        status, host = response.status_code, self._reference.registry
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            who = f"'{self._credentials.user}'" if self._credentials else "somebody who is not logged in"
            verb = "write to" if method in ("POST", "PUT", "PATCH") else "read"
            return TransportError(
                f"registry '{host}' does not let {who} {verb} '{self._reference.repository}' (HTTP {status})",
                hint=f"docker login {host}",
            )
        if status == HTTPStatus.NOT_FOUND and path.startswith("manifests/"):
            return AbsentError(
                f"registry '{host}' has no '{path.removeprefix('manifests/')}' in '{self._reference.repository}'",
                hint="check the name; edgec push stores a bundle",
            )
        message = f"registry '{host}' answered {method} with HTTP {status} {response.reason}{_said(response)}"
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            passing = PassingError(message, hint="try again later")
            passing.after_s = _retry_after_s(response)
            return passing
        return TransportError(message, hint="the registry's log may tell why")


def _session() -> tuple[Session, Budget]:
    """A session that takes no cookies and waits for nothing for ever, and what its conversations may take."""
    try:
        import oras.auth  # noqa: F401  reported here, not in the middle of a transfer
        from requests import Session

        from edgec.deploy.bounded import bounded_adapter
    except ImportError as error:
        raise MissingDependencyError("oras is not installed", hint="pip install 'edgec[pull]'") from error
    from http.cookiejar import DefaultCookiePolicy

    class Discreet(Session):
        """Tells another host than the first neither what was told that one nor what `~/.netrc` has for it."""

        def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
            if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
                prepared_request.headers.pop("Authorization", None)

    session, budget = Discreet(), Budget()
    session.auth = lambda request: request  # with no auth at all, requests asks ~/.netrc
    for scheme in ("https://", "http://"):
        session.mount(scheme, bounded_adapter(budget))
    session.max_redirects = _MAX_REDIRECTS
    session.headers["Accept-Encoding"] = "identity"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    logging.getLogger("oras.logger").setLevel(logging.CRITICAL + 1)  # our errors say it, once
    return session, budget


def _broken() -> tuple[type[Exception], ...]:
    """What comes of answers that are none: requests lets some of the errors pass that lie below it."""
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    return RequestException, HTTPError, ValueError, OSError


def _backend(name: str, session: Session, credentials: Credentials | None) -> Any:
    """What oras knows of a way to say who asks."""
    from oras.auth import get_auth_backend

    backend: Any = get_auth_backend(name, session)
    if credentials:
        backend.set_basic_auth(credentials.user, credentials.password)
    return backend


def _cause(error: BaseException) -> str:
    """The system's own words, from the bottom of what the libraries wrapped around them."""
    seen: list[str] = []
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            seen.append(found.strerror)
        found = found.__cause__ or found.__context__
    return seen[-1] if seen else "the connection ended early"


def _said(response: Response) -> str:
    """The first error that the registry names, cut short: nobody vouches for it."""
    try:
        first = json.loads(next(response.iter_content(_PIECE)))["errors"][0]
        text = " ".join(f"{first.get('message') or first.get('code')}".split())
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, StopIteration):
        return ""
    return f": {text[:_MESSAGE_CHARS]}"


def _retry_after_s(response: Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "0")), 0.0), MAX_WAIT_S)
    except ValueError:
        return 0.0
