"""What a registry may say, want and get wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError, EdgecError, IntegrityError, TransportError
from edgec.core.progress import Silent
from edgec.deploy.credentials import find_credentials
from edgec.deploy.modelpack import Blob
from edgec.deploy.oci import MAX_MANIFEST_BYTES, Repository
from edgec.deploy.reference import Reference
from edgec.deploy.transfer import pull_bundle, push_bundle
from edgec.package import open_bundle

pytestmark = pytest.mark.network

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
NAME, PASSWORD = "ada", "hunter2"
BASIC = base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
NO_WAITS = (0.01, 0.01)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(kw_only=True)
class Stub:
    """A registry that says what a test wants: `answer` gets method, path and headers."""

    answer: Callable[[str, str, dict[str, str]], Answer] = lambda *_: Answer()
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def repository(self, host: str = "127.0.0.1", **options: Any) -> Repository:
        reference = Reference.parse(f"{host}:{self.port}/cameras/digits:stable")
        return Repository(reference, **{"waits_s": NO_WAITS} | options)


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.seen.append((self.command, self.path, dict(self.headers)))
            answer = stub.answer(*stub.seen[-1])
            self.send_response(answer.status)
            for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(answer.body)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)  # noqa: S104  127.0.0.2 is a host that is not "local"
    server.daemon_threads = True
    stub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield stub
    server.shutdown()
    thread.join()
    server.server_close()


def login(folder: Path, config: dict[str, Any]) -> None:
    (folder / "docker").mkdir(exist_ok=True)
    (folder / "docker" / "config.json").write_text(json.dumps(config))


def helper(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Installs `docker-credential-vault`."""
    program = folder / "bin" / "docker-credential-vault"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_registry_that_wants_a_password_gets_it(bundle: Path, make_registry, tmp_path: Path) -> None:
    registry = make_registry(password=True)
    place = f"127.0.0.1:{registry.port}"
    login(tmp_path, {"auths": {place: {"auth": BASIC}}})
    with Repository(Reference.parse(f"{place}/cameras/digits:stable")) as repository:
        pushed = push_bundle(bundle, repository, progress=Silent())
        pulled = pull_bundle(repository, tmp_path / "back", trust=None, progress=Silent())
    assert pushed.digest == pulled.digest == open_bundle(bundle).digest


@pytest.mark.parametrize(
    ("auth", "who"),
    [(None, "somebody who is not logged in"), (base64.b64encode(b"ada:wrong").decode(), "'ada'")],
)
def test_a_registry_that_does_not_know_us_is_told_of(
    bundle: Path, make_registry, tmp_path: Path, auth: str | None, who: str
) -> None:
    registry = make_registry(password=True)
    place = f"127.0.0.1:{registry.port}"
    if auth:
        login(tmp_path, {"auths": {place: {"auth": auth}}})
    with (
        Repository(Reference.parse(f"{place}/cameras/digits:stable")) as repository,
        pytest.raises(TransportError) as caught,
    ):
        push_bundle(bundle, repository, progress=Silent())
    assert str(caught.value) == f"registry '{place}' does not let {who} read 'cameras/digits' (HTTP 401)"
    assert caught.value.hint == f"docker login {place}"


def bearer(stub: Stub, *, realm: str, token: Callable[[], str]) -> Callable[[str, str, dict[str, str]], Answer]:
    """A registry with tokens: what it names is where to fetch them, and `token` the one that is good now."""

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            good = headers.get("Authorization") == f"Basic {BASIC}"
            return Answer(body=json.dumps({"token": token()}).encode()) if good else Answer(status=401)
        if headers.get("Authorization") == f"Bearer {token()}":
            return Answer(headers={"Docker-Content-Digest": DIGEST})
        scope = "repository:cameras/digits:pull"
        return Answer(
            status=401, headers={"Www-Authenticate": f'Bearer realm="{realm}",service="here",scope="{scope}"'}
        )

    return answer


def test_tokens_are_fetched_for_the_password_and_again_when_they_expire(stub: Stub, tmp_path: Path) -> None:
    login(tmp_path, {"auths": {f"127.0.0.1:{stub.port}": {"auth": BASIC}}})
    tokens = ["first"]
    stub.answer = bearer(stub, realm=f"http://127.0.0.1:{stub.port}/token", token=lambda: tokens[-1])
    with stub.repository() as repository:
        assert repository.resolve() == DIGEST
        assert repository.resolve() == DIGEST
        tokens.append("second")
        assert repository.resolve() == DIGEST
    fetched = [path for _, path, _ in stub.seen if path.startswith("/token")]
    assert len(fetched) == 2
    assert "scope=repository%3Acameras%2Fdigits%3Apull" in fetched[0]


def test_no_password_goes_where_tls_is_not(stub: Stub, tmp_path: Path) -> None:
    """Seen from a registry with TLS; the session is ours, the first answer is given here."""
    from requests import Response

    login(tmp_path, {"auths": {"registry.example.com": {"auth": BASIC}}})
    challenge = Response()
    challenge.status_code, challenge.url = 401, "https://registry.example.com/v2/a/manifests/b"
    challenge.headers["Www-Authenticate"] = f'Bearer realm="http://127.0.0.1:{stub.port}/token",service="x"'
    with Repository(Reference.parse("registry.example.com/a:b"), waits_s=()) as repository:
        repository._connection._session.request = lambda *_, **__: challenge
        with pytest.raises(TransportError, match="has its tokens fetched without TLS"):
            repository.resolve()
    assert stub.seen == []


def test_the_password_is_for_the_registry_and_nobody_whom_it_names(stub: Stub, tmp_path: Path) -> None:
    login(tmp_path, {"auths": {f"127.0.0.1:{stub.port}": {"auth": BASIC}}})

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        if "Host" in headers and headers["Host"].startswith("127.0.0.3"):
            return Answer(status=201)
        if "Authorization" not in headers:
            return Answer(status=401, headers={"Www-Authenticate": 'Basic realm="here"'})
        if method == "HEAD":
            return Answer(status=404)
        return Answer(status=202, headers={"Location": f"http://127.0.0.3:{stub.port}/elsewhere?a=b"})

    stub.answer = answer
    with stub.repository() as repository:
        assert repository.upload(Blob.of(b"content", "text/plain"), b"content")
    elsewhere = [(path, headers) for _, path, headers in stub.seen if headers["Host"].startswith("127.0.0.3")]
    assert [path.partition("=")[0] for path, _ in elsewhere] == ["/elsewhere?a"]
    assert all("Authorization" not in headers for _, headers in elsewhere)


def elsewhere(stub: Stub, *, status: int, method: str) -> Callable[[str, str, dict[str, str]], Answer]:
    """A registry that leads to 127.0.0.3, which wants a password, and says where it is to be brought."""

    def answer(asked: str, path: str, headers: dict[str, str]) -> Answer:
        there = headers["Host"].startswith("127.0.0.3")
        if path.startswith("/token"):
            return Answer(body=b'{"token": "stolen"}')
        if there:
            realm = f'Bearer realm="http://127.0.0.3:{stub.port}/token",service="x"'
            return Answer(status=401, headers={"Www-Authenticate": realm})
        if asked == method:
            return Answer(status=status, headers={"Location": f"http://127.0.0.3:{stub.port}/there"})
        return Answer(status=404)

    return answer


@pytest.mark.parametrize(("status", "method"), [(307, "GET"), (302, "GET"), (307, "POST"), (202, "POST")])
def test_a_host_that_the_registry_leads_to_is_not_told_the_password(
    stub: Stub, tmp_path: Path, status: int, method: str
) -> None:
    login(tmp_path, {"auths": {f"127.0.0.1:{stub.port}": {"auth": BASIC}}})
    stub.answer = elsewhere(stub, status=status, method=method)
    blob = Blob.of(b"content", "text/plain")
    with stub.repository() as repository:
        ask = {"GET": lambda: repository.fetch(blob, tmp_path / "part"), "POST": lambda: repository.upload(blob, b"")}
        with pytest.raises(TransportError, match=r"HTTP 401"):
            ask[method]()
    assert any(headers["Host"].startswith("127.0.0.3") for _, _, headers in stub.seen)
    assert not [path for _, path, headers in stub.seen if path.startswith("/token") or "Authorization" in headers]


@pytest.mark.parametrize("redirected", [False, True])
def test_netrc_is_told_to_nobody(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirected: bool) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\nmachine 127.0.0.3 login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    def answer(_: str, path: str, headers: dict[str, str]) -> Answer:
        if redirected and headers["Host"].startswith("127.0.0.1"):
            return Answer(status=307, headers={"Location": f"http://127.0.0.3:{stub.port}{path}"})
        return Answer(body=b"{}")

    stub.answer = answer
    with stub.repository() as repository:
        repository.manifest()
    assert [headers.get("Authorization") for _, _, headers in stub.seen] == [None] * (1 + redirected)


@pytest.mark.parametrize(
    ("challenge", "token", "message"),
    [
        ('realm="http://127.0.0.1:{port}/token",realm="http://127.0.0.3:{port}/token"', b"{}", "names 2 places"),
        ("realm=http://127.0.0.3:{port}/token", b"{}", "names 0 places"),
        ('realm="http://[127/token"', b"{}", "has its tokens fetched|cannot be reached"),
        ('realm="http://127.0.0.1:{port}/token"', b"[1]", "has its tokens fetched where there are none"),
        ('realm="http://127.0.0.1:{port}/token"', b"[" * 100_000, "has its tokens fetched where|cannot be reached"),
    ],
)
def test_a_challenge_that_makes_no_sense_is_told(stub: Stub, challenge: str, token: bytes, message: str) -> None:
    def answer(_: str, path: str, __: dict[str, str]) -> Answer:
        if path.startswith("/token"):
            return Answer(body=token)
        return Answer(status=401, headers={"Www-Authenticate": f"Bearer {challenge.format(port=stub.port)}"})

    stub.answer = answer
    with stub.repository() as repository, pytest.raises(TransportError, match=message):
        repository.resolve()


def test_a_failure_that_passes_is_tried_again_after_what_the_registry_asks(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("edgec.deploy.http.time.sleep", slept.append)
    answers = [
        Answer(status=503),
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(headers={"Docker-Content-Digest": DIGEST}),
    ]
    stub.answer = lambda *_: answers[len(stub.seen) - 1]
    with stub.repository() as repository:
        assert repository.resolve() == DIGEST
    assert slept[0] < 1
    assert slept[1] == 7


def test_a_failure_that_stays_is_told_in_the_registrys_words(stub: Stub) -> None:
    body = json.dumps({"errors": [{"code": "UNKNOWN", "message": "disk\nfull " + "x" * 999}]}).encode()
    stub.answer = lambda *_: Answer(status=500, body=body)
    with stub.repository() as repository, pytest.raises(TransportError) as caught:
        repository.manifest()
    message = f"registry '127.0.0.1:{stub.port}' answered GET with HTTP 500 Internal Server Error: disk full xxx"
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 300
    assert len(stub.seen) == 1 + len(NO_WAITS)


def test_what_cannot_pass_is_not_tried_again(stub: Stub) -> None:
    stub.answer = lambda *_: Answer(status=403)
    with stub.repository() as repository, pytest.raises(TransportError, match=r"read 'cameras/digits' \(HTTP 403\)"):
        repository.resolve()
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("host", "options", "message"),
    [
        ("127.0.0.1:1", {}, "registry '127.0.0.1:1' cannot be reached: Connection refused"),
        ("no-such-host.invalid", {}, "registry 'no-such-host.invalid' cannot be reached: "),
    ],
)
def test_who_cannot_be_reached_is_named(host: str, options: dict[str, Any], message: str) -> None:
    with (
        Repository(Reference.parse(f"{host}/a:b"), waits_s=(0.01,), **options) as repository,
        pytest.raises(TransportError) as caught,
    ):
        repository.resolve()
    assert message in str(caught.value)
    assert caught.value.hint == "check its name, its port and the network"


def test_a_registry_without_tls_is_spoken_to_when_that_is_asked_for(stub: Stub) -> None:
    stub.answer = lambda *_: Answer(headers={"Docker-Content-Digest": DIGEST})
    with stub.repository("127.0.0.2") as repository, pytest.raises(TransportError) as caught:
        repository.resolve()
    assert "no secure connection" in str(caught.value)
    assert "--insecure" in str(caught.value.hint)
    with stub.repository("127.0.0.2", insecure=True) as repository:
        assert repository.resolve() == DIGEST


def test_a_registry_that_cannot_resume_starts_anew(stub: Stub, tmp_path: Path) -> None:
    blob, part = Blob.of(b"0123456789", "text/plain"), tmp_path / "part"
    part.write_bytes(b"01234")
    stub.answer = lambda *_: Answer(body=b"0123456789")
    with stub.repository() as repository:
        assert repository.fetch(blob, part) == 10
    assert part.read_bytes() == b"0123456789"
    assert stub.seen[0][2]["Range"] == "bytes=5-"


def test_a_registry_that_resumes_elsewhere_is_not_believed(stub: Stub, tmp_path: Path) -> None:
    blob, part = Blob.of(b"0123456789", "text/plain"), tmp_path / "part"
    part.write_bytes(b"01234")
    stub.answer = lambda *_: Answer(status=206, headers={"Content-Range": "bytes 0-9/10"}, body=b"0123456789")
    with stub.repository() as repository, pytest.raises(TransportError, match="asked for 5 on"):
        repository.fetch(blob, part)


@pytest.mark.parametrize("sent", [b"0123456789x", b"012345678x", b"x" * 1_000_000])
def test_more_or_other_bytes_are_refused(stub: Stub, tmp_path: Path, sent: bytes) -> None:
    part = tmp_path / "part"
    stub.answer = lambda *_: Answer(body=sent)
    with stub.repository() as repository, pytest.raises(IntegrityError, match="its SHA-256 differs"):
        repository.fetch(Blob.of(b"0123456789", "text/plain"), part)
    assert not part.exists()


def test_a_manifest_has_an_end(stub: Stub) -> None:
    stub.answer = lambda *_: Answer(body=b"x" * (MAX_MANIFEST_BYTES + 1))
    with stub.repository() as repository, pytest.raises(IntegrityError, match=f"more than {MAX_MANIFEST_BYTES} bytes"):
        repository.manifest()


@pytest.mark.parametrize("lost", [404, 400, 416])
def test_an_upload_that_the_registry_lost_is_begun_anew(stub: Stub, lost: int) -> None:
    sessions: list[str] = []

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        if method == "HEAD":
            return Answer(status=404)
        if method == "POST":
            sessions.append(f"/session/{len(sessions)}")
            return Answer(status=202, headers={"Location": sessions[-1]})
        return Answer(status=201 if path.startswith("/session/1") else lost)

    stub.answer = answer
    with stub.repository() as repository:
        assert repository.upload(Blob.of(b"content", "text/plain"), b"content")
    assert len(sessions) == 2


@dataclass(kw_only=True)
class Uploads:
    """A registry that takes uploads in its own way: `patch` answers the chunks."""

    patch: Answer
    location: str | None = "/session"
    methods: list[str] = field(default_factory=list)

    def __call__(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        if method == "HEAD":
            return Answer(status=404)
        self.methods.append(method)
        where = {} if self.location is None else {"Location": self.location}
        if method == "POST":
            return Answer(status=202, headers=where)
        if not path.startswith("/session"):
            return Answer(status=405)
        return self.patch if method == "PATCH" else Answer(status=201)


CHUNKS = bytes(25)
"""Three chunks of ten bytes and less."""


@pytest.mark.parametrize("status", [404, 405, 501, 502])
def test_where_chunks_do_not_pass_the_blob_is_sent_at_once(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("edgec.deploy.oci.CHUNK_BYTES", 10)
    stub.answer = uploads = Uploads(patch=Answer(status=status))
    with stub.repository() as repository:
        assert repository.upload(Blob.of(CHUNKS, "text/plain"), CHUNKS)
    assert uploads.methods == ["POST", "PATCH", "POST", "PUT"]
    assert stub.seen[-1][2]["Content-Length"] == "25"
    assert "Content-Range" not in stub.seen[-1][2]


@pytest.mark.parametrize("told", ["0-4", "0-99", "bytes=0-14"])
def test_a_registry_that_counts_otherwise_gets_the_blob_at_once(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setattr("edgec.deploy.oci.CHUNK_BYTES", 10)
    stub.answer = uploads = Uploads(patch=Answer(status=202, headers={"Range": told, "Location": "/session"}))
    with stub.repository() as repository:
        assert repository.upload(Blob.of(CHUNKS, "text/plain"), CHUNKS)
    assert uploads.methods == ["POST", "PATCH", "POST", "PUT"]


@pytest.mark.parametrize("status", [201, 202, 204])
def test_chunks_go_on_where_they_were_sent_if_the_answer_does_not_say_where(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("edgec.deploy.oci.CHUNK_BYTES", 10)
    stub.answer = uploads = Uploads(patch=Answer(status=status))
    with stub.repository() as repository:
        assert repository.upload(Blob.of(CHUNKS, "text/plain"), CHUNKS)
    assert uploads.methods == ["POST", "PATCH", "PATCH", "PUT"]
    assert [headers["Content-Range"] for method, _, headers in stub.seen if method in ("PATCH", "PUT")] == [
        *("0-9", "10-19", "20-24")
    ]


def test_a_relative_location_is_relative_to_the_answer(stub: Stub) -> None:
    stub.answer = Uploads(patch=Answer(status=202), location="../../../../../session?state=a")
    with stub.repository() as repository:
        assert repository.upload(Blob.of(b"content", "text/plain"), b"content")
    assert stub.seen[-1][1].startswith("/session?state=a&digest=sha256:")


@pytest.mark.parametrize(
    ("location", "message"), [(None, "does not say where to send"), ("http://[bad", "leads to no address")]
)
def test_a_registry_that_says_nowhere_to_send_is_told_of(stub: Stub, location: str | None, message: str) -> None:
    stub.answer = Uploads(patch=Answer(status=202), location=location)
    with stub.repository() as repository, pytest.raises(TransportError, match=message):
        repository.upload(Blob.of(b"content", "text/plain"), b"content")


def test_a_registry_that_names_no_digest_is_read(stub: Stub) -> None:
    stub.answer = lambda *_: Answer(body=b"{}")
    with stub.repository() as repository:
        # printf '{}' | sha256sum
        assert repository.resolve() == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_credentials_come_from_the_helper_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    answer = json.dumps({"Username": NAME, "Secret": PASSWORD})
    helper(tmp_path, monkeypatch, f"test \"$1\" = get && cat > {asked} && echo '{answer}'")
    login(
        tmp_path,
        {"credHelpers": {"registry.example.com": "vault"}, "auths": {"registry.example.com": {"auth": "eDp5"}}},
    )
    found = find_credentials("registry.example.com")
    assert found is not None
    assert (found.user, found.password) == (NAME, PASSWORD)
    assert asked.read_text() == "registry.example.com"
    assert PASSWORD not in repr(found)


def test_a_helper_that_knows_nothing_leaves_it_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "echo credentials not found in native keychain; exit 1")
    login(tmp_path, {"credsStore": "vault", "auths": {"https://registry.example.com": {"auth": BASIC}}})
    found = find_credentials("registry.example.com")
    assert found is not None
    assert found.user == NAME
    assert find_credentials("other.example.com") is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json': not valid JSON"),
        ('{"auths": {"a.example.com": {"auth": "###"}}}', "an auth that is not Base64"),
        ('{"credsStore": "absent"}', "credential helper 'docker-credential-absent': No such file"),
    ],
)
def test_a_broken_login_is_named(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(config)
    with pytest.raises(EdgecError) as caught:
        find_credentials("a.example.com")
    assert message in str(caught.value)


@pytest.mark.parametrize("config", ["[]", "{}", '{"auths": 3}', '{"auths": {"a.example.com": {}}}'])
def test_a_login_without_credentials_is_none(tmp_path: Path, config: str) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(config)
    assert find_credentials("a.example.com") is None


def test_docker_hub_goes_by_the_name_that_docker_gives_it(tmp_path: Path) -> None:
    login(tmp_path, {"auths": {"https://index.docker.io/v1/": {"auth": BASIC}}})
    found = find_credentials("docker.io")
    assert found is not None
    assert found.user == NAME
    assert Reference.parse("docker.io/cameras/digits:stable").host == "registry-1.docker.io"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.example.com/a:b", ("registry.example.com", "a", "b", None)),
        ("localhost/a/b/c:1.0", ("localhost", "a/b/c", "1.0", None)),
        ("cluster:5000/a:b", ("cluster:5000", "a", "b", None)),
        ("[::1]:5000/a:b", ("[::1]:5000", "a", "b", None)),
        (f"r.io/a__b/c-d.e@{DIGEST}", ("r.io", "a__b/c-d.e", None, DIGEST)),
        (f"r.io/a:b@{DIGEST}", ("r.io", "a", "b", DIGEST)),
    ],
)
def test_references_are_read_and_written(text: str, parts: tuple[str | None, ...]) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag, reference.digest) == parts
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "digits:stable", "cameras/digits:stable", "https://r.io/a:b", "r.io/A:b", "r.io/a:", "r.io/a:b c"),
        *("r.io/../a:b", "r.io//a:b", "r.io/a@sha256:abc", "r.io/a@md5:abc", "r.io:x/a:b", "r.io/a:b\n", "r.io/a?x:b"),
    ],
)
def test_what_names_nothing_in_a_registry_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"names nothing in a registry, expected registry/repository:tag"):
        Reference.parse(text)


def test_a_reference_needs_a_tag_or_a_digest() -> None:
    with pytest.raises(ConfigError, match=r"'r\.io/a' has neither a tag nor a digest"):
        Reference.parse("r.io/a")


@pytest.mark.parametrize(
    ("text", "local"),
    [
        *(("localhost/a:b", True), ("localhost:5000/a:b", True), ("127.0.0.1:1/a:b", True), ("[::1]:5/a:b", True)),
        *(("127.0.0.1.example.com/a:b", False), ("localhost.example.com/a:b", False), ("10.0.0.1:5000/a:b", False)),
    ],
)
def test_only_this_machine_is_local(text: str, local: bool) -> None:
    assert Reference.parse(text).is_local is local
