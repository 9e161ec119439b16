"""The server's routes: Open Inference Protocol v2, image files, health and metrics, as a Starlette application."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from edgec import __version__
from edgec.core.errors import DataError, EdgecError
from edgec.core.images import decode_bytes
from edgec.core.inputs import InputSpec
from edgec.serve.admission import SMALL_BYTES, Admission, Arrival, NotAdmittedError, Pace, client_of
from edgec.serve.body import Body, BodyError, body_length, read_body
from edgec.serve.gate import Gate
from edgec.serve.metrics import CONTENT_TYPE, Metrics
from edgec.serve.pool import Full, Job, Pool, WorkerError
from edgec.serve.rounds import Rounds
from edgec.serve.settings import Settings
from edgec.serve.tensors import (
    HEADER_LENGTH,
    LABELS,
    PIXELS,
    SCORES,
    Answer,
    Query,
    json_length,
    read_query,
    write_answer,
)
from edgec.serve.versions import Served, Versions
from edgec.serve.weight import is_light_image, is_light_json

__all__ = ["Service", "make_app"]

T = TypeVar("T")

_LOG = logging.getLogger("edgec.serve")
_JSON = (b"content-type", b"application/json")
_AGAIN_S = b"1"
"""When a client that was refused may come again: a queue of 64 is empty by then, on most machines."""
_PICTURES = ("image/", "application/octet-stream")
_TOP_DIGITS = 6
_SHOWN = 80
"""Characters of what a client sent that an error shows."""


MakeJob = Callable[[Body], Job[tuple[Answer, np.ndarray]]]
"""A request's body to what is run."""
Expect = Callable[[Served, Scope, int], MakeJob]
"""A version, a request and its body's length to what is made of the body; what they alone tell is refused here."""


class Service:
    """What the routes share; lives as long as the server.

    Attributes:
        versions: The model.
        rounds: Whose turn it is in the event loop.
        ended: Called when the first version cannot be loaded.
    """

    versions: Versions
    rounds: Rounds
    pool: Pool
    admission: Admission
    metrics: Metrics

    def __init__(self, settings: Settings, *, ended: Callable[[], None]) -> None:
        self.settings = settings
        self.rounds = Rounds()
        self._ended = ended
        self._first: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Threads, and the loading of versions, around the server's life."""
        del app
        settings = self.settings
        self.pool = Pool(
            workers=settings.workers,
            waiting=settings.waiting,
            batch=settings.batch,
            reading_bytes=settings.reading_bytes,
        )
        self.admission = Admission(most_bytes=settings.in_flight_bytes, per_client=settings.per_client)
        self.metrics = Metrics(depth=lambda: self.pool.depth, window=settings.window)
        self.versions = Versions(settings, self.metrics)
        loading = asyncio.create_task(self._load())
        try:
            yield
        finally:
            loading.cancel()
            with suppress(asyncio.CancelledError):
                await loading
            self.pool.close()

    async def _load(self) -> None:
        if not await self.versions.load():
            self._ended()
            return
        await self.versions.watch()

    def served(self, request_or_scope: Request | Scope) -> Served:
        """The version that a path names.

        Raises:
            HTTPException: None is ready, or the model or version is not served here.
        """
        scope = request_or_scope.scope if isinstance(request_or_scope, Request) else request_or_scope
        served, named = self.versions.current, scope["path_params"]
        if served is None:
            raise HTTPException(503, "the model is being loaded", {"retry-after": "1"})
        if named["name"] != served.name:
            raise HTTPException(404, f"model '{named['name']}': this server has '{served.name}'")
        if named.get("version", served.version) != served.version:
            raise HTTPException(404, f"version '{named['version']}': this server has '{served.version}'")
        return served


class Classifier:
    """A route that takes a body through the queue; plain ASGI, as requests and responses as objects cost time here."""

    def __init__(self, service: Service, route: str, expect: Expect, *, may_be_brief: bool) -> None:
        self._service = service
        self._route = route
        self._expect = expect
        self._may_be_brief = may_be_brief

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, whatever becomes of it."""
        began = time.perf_counter()
        if scope["method"] != "POST":
            raise HTTPException(405, "expected POST", {"allow": "POST"})
        service, client = self._service, client_of(scope)
        length = 0
        try:
            length = body_length(scope, most=service.settings.max_body_bytes)
            with service.admission.admit(client, length) as arrival:
                answer = await self._answer(scope, receive, arrival, length)
                service.metrics.request(self._route, answer.status, time.perf_counter() - began)
                service.admission.hold(arrival, len(answer.body))
                await _send(answer, send)
                return
        except BodyError as error:
            answer = _refusal(error.status, str(error), closes=True)
        except NotAdmittedError as error:
            answer = _refusal(error.status, str(error), again=True, closes=length > SMALL_BYTES)
        except HTTPException as error:
            service.metrics.request(self._route, error.status_code, time.perf_counter() - began)
            raise
        service.metrics.request(self._route, answer.status, time.perf_counter() - began)
        await _send(answer, send)

    async def _answer(self, scope: Scope, receive: Receive, arrival: Arrival, length: int) -> Answer:
        service = self._service
        served = service.served(scope)
        try:
            service.pool.require_room()
            make_job = self._expect(served, scope, length)
            body = await read_body(receive, arrival, length, seconds=service.settings.body_seconds)
            job = make_job(body)
            job.client = arrival.client
            brief = self._may_be_brief and not job.apart and len(body) <= served.brief_bytes
            work = service.pool.run(job, brief=brief)
            is_long = job.apart or length > SMALL_BYTES
            answer, classes = await (_while_awaited(work, receive) if is_long else work)
        except _GoneError:
            return _refusal(400, "the client went away", closes=True)
        except Full:
            return _refusal(503, "too many requests wait already", again=True, closes=length > SMALL_BYTES)
        except DataError as error:
            return _refusal(400, str(error))
        except EdgecError as error:
            _LOG.error("%s", error)  # expected: no traceback
            return _refusal(500, "the model could not be run")
        except WorkerError:
            return _refusal(500, "internal error")  # the log has the traceback
        service.metrics.predicted(classes)
        return answer


class _GoneError(Exception):
    """Nobody awaits the answer any more."""


async def _while_awaited(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What the work gives; it is let go when its client goes, so that nobody leaves a queue of long work behind.

    Raises:
        _GoneError: The client went.
    """
    running, gone = asyncio.ensure_future(work), asyncio.ensure_future(_departure(receive))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            raise _GoneError
        return running.result()
    finally:
        running.cancel()
        gone.cancel()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(answer: Answer, send: Send) -> None:
    """Sends it; where it is large, returns once the client has taken most of it."""
    length = (b"content-length", str(len(answer.body)).encode())
    is_large = len(answer.body) > SMALL_BYTES
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, length]})
    await send({"type": "http.response.body", "body": answer.body, "more_body": is_large})
    if is_large:
        await send({"type": "http.response.body", "body": b""})


def _refusal(status: int, text: str, *, again: bool = False, closes: bool = False) -> Answer:
    more = [(b"retry-after", _AGAIN_S)] if again else []
    more += [(b"connection", b"close")] if closes else []
    return Answer(status=status, body=json.dumps({"error": text}).encode(), headers=(_JSON, *more))


def _header(scope: Scope, name: str) -> str | None:
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), None)


def _expect_query(served: Served, scope: Scope, length: int) -> MakeJob:
    """A request of the protocol.

    Raises:
        BodyError: Its JSON is longer than that of any request to this model.
        DataError: It does not say where its JSON ends.
    """
    header_length = _header(scope, HEADER_LENGTH)
    text_bytes, most = json_length(header_length, length), served.shape.json_bytes
    if text_bytes > most:
        raise BodyError(413, f"{text_bytes} bytes of JSON: at most {most} are taken; send tensors as binary data")

    def write(scores: np.ndarray, query: Query) -> tuple[Answer, np.ndarray]:
        labels, named = served.shape.labels, served.named(scores)
        answer = write_answer(scores, query, labels=labels, named=named, name=served.name, version=served.version)
        return answer, scores.argmax(axis=1)

    return lambda body: Job(
        model=served.model,
        guard=served.guard,
        read=partial(read_query, body, header_length, served.shape),
        write=write,
        apart=not is_light_json(text_bytes),
    )


def _expect_image(served: Served, scope: Scope, length: int) -> MakeJob:
    """An image file."""
    del length
    kind = _header(scope, "content-type")
    if kind is not None and not kind.startswith(_PICTURES):
        raise HTTPException(415, f"content type '{kind}': expected image/jpeg, image/png, image/webp or image/bmp")
    top = _top(scope["query_string"], len(served.shape.labels))

    def write(scores: np.ndarray, query: Query) -> tuple[Answer, np.ndarray]:
        del query
        best = scores[0].argsort(kind="stable")[::-1][:top]
        named = {served.shape.labels[i]: float(scores[0, i]) for i in best}
        score = named[served.shape.labels[best[0]]]
        label = served.named(scores)[0]
        fields: dict[str, Any] = {"model": served.name, "version": served.version, "label": label, "score": score}
        fields |= {"unknown": bool(served.model.is_unknown(scores)[0])} if served.unknown else {}
        body = json.dumps(fields | {"scores": named}).encode()
        return Answer(body=body, headers=(_JSON,)), best[:1]

    return lambda body: Job(
        model=served.model,
        guard=served.guard,
        read=partial(_read_image, body, served.shape.spec, served.shape.pixels),
        write=write,
        apart=not is_light_image(body),
    )


def _read_image(body: Body, spec: InputSpec, most_pixels: int) -> Query:
    return Query(tensor=decode_bytes(body, spec, name="the body", most_pixels=most_pixels)[None])


def _top(query: bytes, classes: int) -> int:
    if not query:
        return classes
    name, _, value = query.decode("latin-1").partition("=")
    if name != "top" or not (value.isascii() and value.isdigit() and len(value) <= _TOP_DIGITS) or int(value) < 1:
        raise HTTPException(400, f"query '{query.decode('latin-1')[:_SHOWN]}': expected top=K")
    return min(int(value), classes)


def make_app(service: Service) -> ASGIApp:
    """The application behind its gate; its lifespan starts and ends the service."""

    def served_route(path: str, answer: Callable[[Served], Response]) -> list[Route]:
        async def endpoint(request: Request) -> Response:
            return answer(service.served(request))

        return [Route(f"/v2/models/{{name}}{part}{path}", endpoint) for part in ("", "/versions/{version}")]

    def work_route(path: str, expect: Expect, *, may_be_brief: bool) -> list[Route]:
        endpoint = Classifier(service, path, expect, may_be_brief=may_be_brief)
        return [Route(f"/v2/models/{{name}}{part}/{path}", endpoint) for part in ("", "/versions/{version}")]

    async def ready(request: Request) -> Response:
        del request
        return Response(status_code=200 if service.versions.current else 503)

    async def metrics(request: Request) -> Response:
        del request
        return Response(service.metrics.text(), headers={"content-type": CONTENT_TYPE})

    routes = [
        *work_route("infer", _expect_query, may_be_brief=True),
        *work_route("classify", _expect_image, may_be_brief=False),  # decoding takes long
        Route("/v2", _server),
        Route("/v2/health/live", _live),
        Route("/v2/health/ready", ready),
        *served_route("", _metadata),
        *served_route("/ready", lambda _: Response()),
        Route("/metrics", metrics),
    ]
    handlers = {HTTPException: _told, Exception: _fault}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=service.running)
    return Gate(app, service.settings.tokens, Pace(service.rounds))


async def _server(request: Request) -> Response:
    del request
    extensions = ["binary_tensor_data", "classification"]
    return JSONResponse({"name": "edgec", "version": __version__, "extensions": extensions})


async def _live(request: Request) -> Response:
    del request
    return Response()


def _metadata(served: Served) -> Response:
    spec, labels = served.shape.spec, served.shape.labels
    pixels = {"name": PIXELS, "datatype": "UINT8", "shape": [-1, spec.height, spec.width, spec.channels]}
    scores = {"name": SCORES, "datatype": "FP32", "shape": [-1, len(labels)]}
    return JSONResponse(
        {
            "name": served.name,
            "versions": [served.version],
            "platform": f"edgec_{served.model.session.engine}",
            "inputs": [pixels],
            "outputs": [
                scores | {"parameters": {"labels": json.dumps(labels, ensure_ascii=False)}},
                {"name": LABELS, "datatype": "BYTES", "shape": [-1]},
            ],
        }
    )


async def _told(request: Request, error: Exception) -> Response:
    """What a client did wrong, as the protocol wants it."""
    del request
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    """A fault of edgec's own: the server's log has the traceback, the client learns nothing of it."""
    del request, error
    return JSONResponse({"error": "internal error"}, status_code=500)
