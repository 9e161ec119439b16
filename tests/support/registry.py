"""A real registry on loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REGISTRY = shutil.which("docker-registry")
HTPASSWD = "ada:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n"
"""The password is hunter2."""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@dataclass(kw_only=True)
class Registry:
    """docker-registry with a storage of its own."""

    folder: Path
    port: int = field(default_factory=free_port)
    password: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def storage(self) -> Path:
        return self.folder / "docker" / "registry" / "v2"

    def blob(self, digest: str) -> Path:
        """The file that keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self.storage / "blobs" / "sha256" / name[:2] / name / "data"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            "version: 0.1",
            "log: {level: error, accesslog: {disabled: true}}",
            f"storage: {{filesystem: {{rootdirectory: '{self.folder}'}}, delete: {{enabled: true}}}}",
            f"http: {{addr: '127.0.0.1:{self.port}'}}",
        ]
        if self.password:
            (self.folder / "htpasswd").write_text(HTPASSWD)
            lines.append(f"auth: {{htpasswd: {{realm: here, path: '{self.folder / 'htpasswd'}'}}}}")
        config = self.folder / "config.yml"
        config.write_text("\n".join(lines))
        assert REGISTRY
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([REGISTRY, "serve", str(config)], stdout=log, stderr=log)
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        self.stop()
        pytest.fail((self.folder / "log").read_text())

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
