"""`edgec serve` against a bare onnxruntime session behind the same ASGI server, and under four times its load.

    python benchmarks/serve.py [--only speed overload] [--nets NET…] [--threads 1] [--seconds 1] [--serve "--workers 2"]
        [--quick]

Both servers run at once, each a process of its own, uvicorn and Starlette in each; a client of plain sockets in this
process, on the same cores, keeps so many requests under way on as many connections. They take turns of a second; the
ratio of requests per second is the median over neighbouring turns, with its 95 % interval. The bare server takes the
same binary request, passes over its header, runs the session on the event loop and answers with the logits' bytes: it
checks nothing, counts nothing and bounds nothing. Overload: four times as many connections as may wait in the queue.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from edgec.evaluate.intervals import quantile_ranks
from edgec.package import open_bundle
from rows import Row, arguments, show

BARE = "--bare"
READY_S = 60
WAITING = 16
OVERLOAD = 4


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=("speed", "overload"), default=("speed", "overload"))
    parser.add_argument("--nets", nargs="+", choices=("resnet20", "mobilenet_v2"), default=("resnet20", "mobilenet_v2"))
    parser.add_argument("--threads", type=int, default=1, help="within an operator, in both")
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn's length")
    parser.add_argument("--folder", type=Path, help="where the nets' bundles are kept; default: made anew")
    parser.add_argument("--serve", default="", help="more options for edgec serve")
    given = parser.parse_args()
    turns = 6 if given.quick else 20
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        for net in given.nets:
            bundle = _bundle(net, given.folder or Path(temporary))
            request = _request(net, open_bundle(bundle).manifest.input.shape)
            bare = [str(Path(__file__).resolve()), BARE, str(bundle / "model.onnx"), str(given.threads)]
            ours = ["-m", "edgec", "serve", str(bundle), "--threads", str(given.threads), "--no-watch"]
            if "speed" in given.only:
                with _server(bare) as first, _server([*ours, *shlex.split(given.serve)]) as second:
                    for under_way in (1, 8):
                        rows += _speed(net, (first, second), request, under_way, turns=turns, seconds=given.seconds)
            if "overload" in given.only:
                with _server(
                    [*ours, "--queue", str(WAITING), "--per-client", "1000", *shlex.split(given.serve)]
                ) as port:
                    rows += _overload(net, port, request, seconds=3 * given.seconds)
    show(rows, as_json=given.json, output=given.output)


def _bundle(net: str, folder: Path) -> Path:
    if (folder / net / "manifest.json").is_file():
        return folder / net
    from runtime import made_bundle  # here: neither the bare server nor a bundle that is kept needs torch

    folder.mkdir(parents=True, exist_ok=True)
    return made_bundle(net, folder)


def _request(net: str, shape: tuple[int, ...]) -> bytes:
    """An inference request with a prepared tensor as binary."""
    tensor = np.random.default_rng(0).normal(size=(1, *shape)).astype("<f4")
    parameters = {"binary_data_size": tensor.nbytes}
    described = {"name": "input", "shape": tensor.shape, "datatype": "FP32", "parameters": parameters}
    header = json.dumps({"inputs": [described], "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]})
    body = header.encode() + tensor.tobytes()
    lines = (
        f"POST /v2/models/{net}/infer HTTP/1.1",
        "Host: localhost",
        f"Inference-Header-Content-Length: {len(header)}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


@contextmanager
def _server(command: list[str]) -> Iterator[int]:
    """The port of a server that is ready; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [] if BARE in command else ["--port"]
    process = subprocess.Popen([sys.executable, *command, *options, str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + READY_S
        while not _is_ready(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"no server: {shlex.join(command)}")
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(READY_S)


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/v2/health/ready") as answer:
            return answer.status == 200
    except OSError:
        return False


@dataclass(kw_only=True)
class Load:
    """What a client saw.

    Attributes:
        statuses: Answers by status; 0 stands for a connection that broke with a request under way.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    latencies_ms: list[float] = field(default_factory=list)


class _Client(asyncio.Protocol):
    """A connection that sends the same request again as soon as it is answered, until it is told to stop."""

    def __init__(self, request: bytes, load: Load, pause_s: float) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.stopping = False
        self._request, self._load, self._pause_s = request, load, pause_s
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # asyncio's base class tells less
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if self.stopping:
            self._finish()
            return
        self._load.sent += 1
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not found or len(rest) < length:
            return
        self._buffer = b""
        status = int(head[9:12])
        self._load.statuses[status] += 1
        self._load.latencies_ms.append((time.perf_counter() - self._began) * 1e3)
        if status == 200 or not self._pause_s:
            self._send()
        else:
            asyncio.get_running_loop().call_later(self._pause_s, self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self.done.done():
            self._load.statuses[0] += 1
            self.done.set_result(None)

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()


async def _drive(port: int, request: bytes, *, connections: int, seconds: float, pause_s: float = 0.0) -> Load:
    load = Load()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(request, load, pause_s), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    for client in clients:
        client.stopping = True
    await asyncio.gather(*(client.done for client in clients))
    return load


def _speed(
    net: str, ports: tuple[int, int], request: bytes, under_way: int, *, turns: int, seconds: float
) -> list[Row]:
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 1):
        for i in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            load = asyncio.run(_drive(ports[i], request, connections=under_way, seconds=seconds))
            if set(load.statuses) != {200}:
                raise SystemExit(f"{net}: {load.statuses}")
            if turn:  # the first turns warm up
                rates[i].append(load.statuses[200] / (time.perf_counter() - began))
    ratios = np.sort(np.divide(rates[1], rates[0]))
    low, high = quantile_ranks(turns, 0.5)
    ends = {"low": None if low is None else float(ratios[low]), "high": None if high is None else float(ratios[high])}
    what = f"{net}, {under_way} under way"
    return [
        Row(what=f"{what}: bare session", value=float(np.median(rates[0])), unit="requests/s, median", n=turns),
        Row(what=f"{what}: edgec serve", value=float(np.median(rates[1])), unit="requests/s, median", n=turns),
        Row(what=what, value=float(np.median(ratios)), unit="times", n=turns, against="bare session", **ends),
    ]


def _overload(net: str, port: int, request: bytes, *, seconds: float) -> list[Row]:
    """Four times the connections that fill queue and worker; one that is refused comes again after 10 ms."""
    connections = OVERLOAD * (WAITING + 1)
    load = asyncio.run(_drive(port, request, connections=connections, seconds=seconds, pause_s=0.01))
    answered = sum(count for status, count in load.statuses.items() if status)
    what = f"{net}, {connections} connections, queue of {WAITING}"
    figures = {f"answered {status}": count for status, count in sorted(load.statuses.items()) if status}
    figures["lost"] = load.sent - answered
    rows = [
        Row(what=f"{what}: {name}", value=float(count), unit="requests", n=load.sent) for name, count in figures.items()
    ]
    p99 = float(np.quantile(load.latencies_ms, 0.99))
    return [*rows, Row(what=f"{what}: time to an answer", value=p99, unit="ms, 99th percentile", n=answered)]


def bare(model: str, threads: int, port: int) -> None:
    """The server that edgec is held against."""
    import onnxruntime
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]

    async def infer(request: Request) -> Response:
        body = await request.body()
        start = int(request.headers["inference-header-content-length"])
        tensor = np.frombuffer(body, np.float32, offset=start) if start % 4 == 0 else _unaligned(body, start)
        logits = session.run(None, {source.name: tensor.reshape(1, *source.shape[1:])})[0]
        return Response(np.asarray(logits).tobytes(), media_type="application/octet-stream")

    async def ready(request: Request) -> Response:
        del request
        return Response()

    routes = [Route("/v2/models/{name}/infer", infer, methods=["POST"]), Route("/v2/health/ready", ready)]
    uvicorn.run(Starlette(routes=routes), port=port, access_log=False, log_level="critical", server_header=False)


def _unaligned(body: bytes, start: int) -> np.ndarray:
    return np.frombuffer(memoryview(body)[start:], np.float32)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if sys.argv[1:2] == [BARE]:
        bare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
