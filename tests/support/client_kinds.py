"""Clients that mean harm to `edgec serve`, one function each; all go on until they are cancelled.

    python client_kinds.py KIND PORT MODEL HEIGHT,WIDTH,CHANNELS ADDRESS

runs one, in a process that imports little, and says `begun` when it has begun.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

__all__ = ["KINDS", "Target", "ask", "request"]

MIB = 1 << 20
GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)
"""What a client meets that was shown the door."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server.

    Attributes:
        port: On this machine.
        model: Name of its model.
        shape: Height, width and channels of its images.
        address: Where the clients come from.
        begun: Set with the first connection.
    """

    port: int
    model: str
    shape: tuple[int, int, int]
    address: str
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection; with the first, the attack has begun."""
        pair = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0), limit=MIB)
        self.begun.set()
        return pair

    @property
    def image_bytes(self) -> int:
        """Of one image's pixels."""
        return int(np.prod(self.shape))

    def infer(self, body: bytes, *, header: int | None = None, **more: str) -> bytes:
        """A request of the protocol; `header` bytes of its body are JSON."""
        named = {} if header is None else {"Inference-Header-Content-Length": str(header)}
        return request(f"/v2/models/{self.model}/infer", body, **named, **more)

    def classify(self, body: bytes, query: str = "") -> bytes:
        """A request with an image file."""
        return request(f"/v2/models/{self.model}/classify{query}", body)

    def json(self, data: str, *, images: int = 1, more: str = "") -> bytes:
        """A request of the protocol with these data of pixels, as JSON."""
        shape = json.dumps([images, *self.shape])
        text = f'{{"inputs":[{{"name":"pixels","datatype":"UINT8","shape":{shape},"data":{data}}}]{more}}}'
        return self.infer(text.encode())


def request(path: str, body: bytes = b"", *, method: str = "POST", **headers: str) -> bytes:
    """A whole request."""
    lines = {"Host": "x", "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes) -> int:
    """Sends a request and reads its answer; its status."""
    writer.write(payload)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    await reader.readexactly(length)
    return int(head[9:12])


Kind = Callable[[Target], Awaitable[None]]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    KINDS[function.__name__.replace("_", " ")] = function
    return function


async def again(target: Target, payload: bytes, *, connections: int = 4, pause_s: float = 0.02) -> None:
    """The same request over and over, on so many connections."""

    async def one() -> None:
        while True:
            with suppress(*GONE):
                reader, writer = await target.connect()
                try:
                    while True:
                        await asyncio.wait_for(ask(reader, writer, payload), 30)
                        await asyncio.sleep(pause_s)
                finally:
                    writer.close()
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(one() for _ in range(connections)))


async def drip(target: Target, head: bytes, piece: bytes, *, connections: int, every_s: float) -> None:
    """Connections that send a beginning, and then a little now and then; each opened again when it is closed."""

    async def one() -> None:
        while True:
            with suppress(*GONE):
                _, writer = await target.connect()
                try:
                    writer.write(head)
                    while not writer.is_closing():
                        await asyncio.sleep(every_s)
                        writer.write(piece)
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(connections)))


@kind
async def idle_connections(target: Target) -> None:
    await drip(target, b"", b"", connections=600, every_s=1)


@kind
async def half_heads(target: Target) -> None:
    await drip(target, b"POST /v2 HTTP/1.1\r\nHost: x\r\n", b"", connections=300, every_s=1)


@kind
async def dripping_heads(target: Target) -> None:
    await drip(target, b"GET /v2 HTTP/1.1\r\n", b"a: b\r\n", connections=200, every_s=0.5)


@kind
async def endless_heads(target: Target) -> None:
    await drip(target, b"GET /v2 HTTP/1.1\r\n", b"a: b\r\n" * 5000, connections=4, every_s=0.02)


@kind
async def one_header_of_a_mebibyte(target: Target) -> None:
    await again(target, request("/v2", method="GET", a="x" * MIB))


@kind
async def ten_thousand_headers(target: Target) -> None:
    await again(target, request("/v2", method="GET", **{f"h{i}": "" for i in range(10_000)}))


@kind
async def what_is_no_http(target: Target) -> None:
    await again(target, bytes.fromhex("16030100c8010000c40303") + bytes(range(256)) * 8)


@kind
async def connections_that_close_at_once(target: Target) -> None:
    await drip(target, b"GET", b"", connections=8, every_s=0)


@kind
async def dripping_bodies(target: Target) -> None:
    head = request(f"/v2/models/{target.model}/classify", **{"Content-Length": str(16 * MIB)})
    await drip(target, head, b"x", connections=100, every_s=0.5)


@kind
async def bodies_that_never_come(target: Target) -> None:
    head = request(f"/v2/models/{target.model}/infer", **{"Content-Length": str(16 * MIB)})
    await drip(target, head, b"", connections=200, every_s=1)


@kind
async def bodies_that_are_too_large(target: Target) -> None:
    await again(target, target.classify(bytes(17 * MIB)), connections=2)


@kind
async def a_length_of_5000_digits(target: Target) -> None:
    await again(target, request(f"/v2/models/{target.model}/infer", **{"Content-Length": "9" * 5000}))


@kind
async def chunks_of_one_byte(target: Target) -> None:
    path = f"/v2/models/{target.model}/infer"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    await again(target, head + b"1\r\nx\r\n" * 300_000)


@kind
async def compressed_bodies(target: Target) -> None:
    await again(target, target.infer(zlib.compress(bytes(8 * MIB)), **{"Content-Encoding": "gzip"}))


@kind
async def a_length_and_chunks(target: Target) -> None:
    chunked = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    await again(target, target.infer(chunked, **{"Transfer-Encoding": "chunked"}))


@kind
async def requests_in_a_row_without_reading(target: Target) -> None:
    await drip(target, b"", request("/metrics", method="GET") * 50, connections=4, every_s=0.02)


@kind
async def small_requests_far_ahead(target: Target) -> None:
    await drip(target, b"", target.infer(b"{}") * 2000, connections=4, every_s=0.02)


@kind
async def answers_that_nobody_reads(target: Target) -> None:
    many = min(256, 15 * MIB // target.image_bytes)
    await drip(target, b"", target.infer(bytes(many * target.image_bytes), header=0), connections=32, every_s=0.1)


@kind
async def requests_whose_client_goes(target: Target) -> None:
    payload = target.infer(bytes(target.image_bytes), header=0)
    await drip(target, payload, b"", connections=4, every_s=0)


@kind
async def large_requests_whose_client_goes(target: Target) -> None:
    await drip(target, _longest_json(target), b"", connections=8, every_s=0)


@kind
async def malformed_exif(target: Target) -> None:
    await again(target, target.classify(_with_exif()))


@kind
async def pictures_as_large_as_may_be(target: Target) -> None:
    await again(target, target.classify(_png(4000, 3100)))


@kind
async def pictures_of_89_megapixels(target: Target) -> None:
    await again(target, target.classify(_png(9400, 9400)))


@kind
async def webp_that_claims_the_most(target: Target) -> None:
    picture = _saved(Image.new("RGBA", (64, 64), (1, 2, 3, 4)), "WEBP", lossless=True, exif=b"Exif\0\0x")
    await again(target, target.classify(picture[:24] + b"\xff\x3f\0\xff\x3f\0" + picture[30:]))


@kind
async def progressive_cmyk(target: Target) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 4), dtype=np.uint8)
    picture = Image.fromarray(noise, "CMYK").resize((3900, 3200))
    await again(target, target.classify(_saved(picture, "JPEG", progressive=True, quality=30)), connections=2)


@kind
async def pictures_that_are_cut_off(target: Target) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    whole = _saved(Image.fromarray(noise), "PNG")
    await again(target, target.classify(whole[: len(whole) // 2]))


@kind
async def a_jpeg_of_a_million_segments(target: Target) -> None:
    whole = _saved(Image.new("RGB", (8, 8)), "JPEG")
    await again(target, target.classify(whole[:2] + b"\xff\xfe\0\x02" * 1_000_000 + whole[2:]), connections=2)


@kind
async def a_png_of_a_hundred_thousand_chunks(target: Target) -> None:
    whole = _saved(Image.new("RGB", (8, 8)), "PNG")
    empty = struct.pack(">I4sI", 0, b"teSt", zlib.crc32(b"teSt"))
    await again(target, target.classify(whole[:33] + empty * 100_000 + whole[33:]), connections=2)


@kind
async def one_long_text_and_many_empty_ones(target: Target) -> None:
    await again(target, target.json(json.dumps(["a" * 30_000, *[""] * 10_000])))


@kind
async def a_text_of_15_mebibytes(target: Target) -> None:
    await again(target, target.json(json.dumps("a" * (15 * MIB))), connections=2)


@kind
async def json_as_long_as_may_be(target: Target) -> None:
    await again(target, _longest_json(target))


@kind
async def five_million_empty_lists(target: Target) -> None:
    await again(target, target.json("[" + "[]," * 5_000_000 + "[]]"), connections=2)


@kind
async def half_a_million_empty_lists(target: Target) -> None:
    await again(target, target.json("[" + "[]," * 170_000 + "[]]"), connections=2)


@kind
async def deep_json(target: Target) -> None:
    await again(target, target.infer(b"[" * 5 * MIB), connections=2)


@kind
async def numbers_of_4000_digits(target: Target) -> None:
    await again(target, target.json("[" + ",".join(["9" * 4000] * 400) + "]"))


@kind
async def outputs_over_and_over(target: Target) -> None:
    outputs = ',"outputs":[' + ",".join(['{"name":"scores"}'] * 4000) + "]"
    pixels = json.dumps([0] * (8 * target.image_bytes))
    await again(target, target.json(pixels, images=8, more=outputs))


@kind
async def names_of_a_mebibyte(target: Target) -> None:
    await again(target, target.infer(b'{"inputs":[{"name":"' + b"n" * MIB + b'","shape":[1],"datatype":"x"}]}'))


@kind
async def queries_of_5000_digits(target: Target) -> None:
    await again(target, target.classify(_png(8, 8), f"?top={'9' * 5000}"))


@kind
async def as_many_images_as_may_be(target: Target) -> None:
    many = min(256, 15 * MIB // target.image_bytes)
    await again(target, target.infer(bytes(many * target.image_bytes), header=0), connections=8)


@kind
async def metrics_over_and_over(target: Target) -> None:
    await again(target, request("/metrics", method="GET"), connections=16, pause_s=0)


@kind
async def pages_that_are_not_there(target: Target) -> None:
    await again(target, request("/nothing", method="GET"), connections=16, pause_s=0)


@kind
async def more_requests_than_may_be_under_way(target: Target) -> None:
    await again(target, target.infer(bytes(target.image_bytes), header=0), connections=100, pause_s=0.05)


def _longest_json(target: Target) -> bytes:
    """Just below what the server takes: 24 bytes for each of three values for a number of 256 images, or of 524,288."""
    return target.json(json.dumps("a" * (24 * min(1 << 19, 3 * 256 * target.image_bytes))))


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _png(width: int, height: int) -> bytes:
    """Black, and so a few thousand bytes."""
    row = b"\0" * (1 + 3 * width)
    packer = zlib.compressobj(9)
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _with_exif() -> bytes:
    """A JPEG whose EXIF data cannot be written again: the maker is a fraction."""
    plain = _saved(Image.new("RGB", (16, 16)), "JPEG")
    entries = struct.pack("<HHI4sHHI4s", 0x010F, 5, 1, b"\x08\0\0\0", 0x0112, 3, 1, b"\x06\0\0\0")
    segment = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


def main(kind: str, port: str, model: str, shape: str, address: str) -> None:
    """Attacks until it is killed."""
    os.nice(5)
    height, width, channels = map(int, shape.split(","))
    target = Target(port=int(port), model=model, shape=(height, width, channels), address=address)

    async def go_on() -> None:
        attack = asyncio.ensure_future(KINDS[kind](target))
        await target.begun.wait()
        print("begun", flush=True)  # noqa: T201 - who started it waits for this
        await attack

    asyncio.run(go_on())


if __name__ == "__main__":
    main(*sys.argv[1:])
