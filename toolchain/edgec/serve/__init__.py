"""A bundle over HTTP: Open Inference Protocol v2, image files, health, metrics; the extra `serve`."""

from __future__ import annotations

from edgec.serve.app import Service, make_app
from edgec.serve.gate import read_tokens
from edgec.serve.server import serve
from edgec.serve.settings import Settings

__all__ = ["Service", "Settings", "make_app", "read_tokens", "serve"]
