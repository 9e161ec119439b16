"""Which requests are so small that reading them delays nobody; the others are read in a process of their own."""

from __future__ import annotations

import struct

__all__ = ["is_light_image", "is_light_json"]

_IMAGE_BYTES = 128 << 10
_IMAGE_PIXELS = 1 << 20
"""Decoded in about 10 ms."""
_JSON_BYTES = 64 << 10
"""Parsed in about 2 ms, in which no other thread of Python runs."""
_MARKERS = 64
"""Segments of a JPEG file that are looked at."""
_NO_FRAMES = frozenset({0xC4, 0xC8, 0xCC})
"""JPEG's markers from C0 to CF that begin no frame."""


def is_light_json(length: int) -> bool:
    """Whether so many bytes of JSON are read soon."""
    return length <= _JSON_BYTES


def is_light_image(data: bytes | bytearray) -> bool:
    """Whether an image file is decoded soon, by its length and by the pixels that it claims."""
    if len(data) > _IMAGE_BYTES:
        return False
    try:
        pixels = _claimed_pixels(data)
    except (struct.error, IndexError):  # cut off: its decoder says so at once
        return True
    return pixels is not None and pixels <= _IMAGE_PIXELS


def _claimed_pixels(data: bytes | bytearray) -> int | None:
    """Width times height as the header has it; None where it is not told by the first bytes, 0 for no such file."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", data, 18)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_pixels(data)
    elif data.startswith(b"\xff\xd8"):
        return _jpeg_pixels(data)
    else:
        return 0
    return abs(width * height)


def _webp_pixels(data: bytes | bytearray) -> int | None:
    """RFC 9649, sections 2.5 to 2.7."""
    kind = data[12:16]
    if kind == b"VP8X":
        return (1 + int.from_bytes(data[24:27], "little")) * (1 + int.from_bytes(data[27:30], "little"))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return (width & 0x3FFF) * (height & 0x3FFF)
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return (1 + (packed & 0x3FFF)) * (1 + (packed >> 14 & 0x3FFF))
    return None


def _jpeg_pixels(data: bytes | bytearray) -> int | None:
    """ITU-T T.81, B.1.1.4 and B.2.2: segments up to the frame's header."""
    at = 2
    for _ in range(_MARKERS):
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:
            return None
        if 0xC0 <= kind <= 0xCF and kind not in _NO_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width * height
        at += 2 + length
    return None
