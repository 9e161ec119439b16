"""Devices to deploy to: real sshd processes on loopback, each with keys and folders of its own; bundles for them."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec.core.inputs import InputSpec
from edgec.core.target import Scheme
from edgec.package import (
    Description,
    Golden,
    ModelEntry,
    OutputEntry,
    RuntimeEntry,
    TargetEntry,
    golden_bytes,
    open_bundle,
    pack_bundle,
)

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
"""OpenSSH's server; None where it is not installed."""
LOOPBACK = "127.0.0.1"
WEIGHT = np.array([[1.5, -2.0, 0.5], [-0.75, 1.0, 0.25]], np.float32)
"""Of the graph, [class, channel]. A broken runtime is one that takes other ones for them."""
CONFIG = """\
Port {port}
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
LogLevel ERROR
SetEnv HOME={folder}
"""
"""A device has a home of its own: what this user's shell does at every login, perhaps slowly, is not what is tested."""
BROKEN_RUNTIME = """\
import sys
here = [place for place in sys.path if place.endswith("broken")]
for place in here:
    sys.path.remove(place)
del sys.modules["onnxruntime"]
import onnxruntime
class InferenceSession(onnxruntime.InferenceSession):
    def __init__(self, model, *arguments, **keywords):
        right, wrong = {right!r}, {wrong!r}
        assert right in model
        super().__init__(model.replace(right, wrong), *arguments, **keywords)
onnxruntime.InferenceSession = InferenceSession
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A device: an sshd, and the folder that it deploys to."""

    folder: Path
    address: str
    port: int
    server: subprocess.Popen[bytes]

    @property
    def root(self) -> Path:
        """The site's folder."""
        return self.folder / "site"

    @property
    def url(self) -> str:
        """As the deployer names it."""
        return f"ssh://{self.address}:{self.port}{self.root}"

    @property
    def python(self) -> Path:
        """What the deployer is told to be the device's Python."""
        return self.folder / "python"

    def connections(self) -> list[int]:
        """The server's processes for connections that are open now."""
        return children(self.server.pid)

    def sessions(self) -> list[int]:
        """Processes of edgec on this device."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                words = (place / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"session" in words and os.fsencode(self.root) in words and b"-m" in words:
                found.append(int(place.name))
        return found


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """Keys and hosts below one folder."""

    folder: Path

    @property
    def identity(self) -> Path:
        """The deployer's private key."""
        return self.folder / "identity"

    @property
    def known_hosts(self) -> Path:
        """The host keys that the deployer accepts."""
        return self.folder / "known_hosts"

    @property
    def options(self) -> tuple[str, ...]:
        """What every command of the deployer needs."""
        return ("--identity", str(self.identity), "--known-hosts", str(self.known_hosts))

    @contextmanager
    def host(
        self, name: str, *, known: bool = True, address: str = LOOPBACK, within: tuple[str, ...] = ()
    ) -> Iterator[Host]:
        """A device that runs until the block ends.

        Args:
            name: Of its folder.
            known: Whether the deployer accepts its key.
            address: Where it listens.
            within: A command that runs another one where it is, as in a network namespace.
        """
        folder = self.folder / name
        folder.mkdir()
        make_key(folder / "host_key")
        if not self.identity.exists():
            make_key(self.identity)
        shutil.copy(self.identity.with_suffix(".pub"), folder / "authorized_keys")
        write_python(folder / "python")
        port = free_port()
        (folder / "sshd_config").write_text(CONFIG.format(folder=folder, address=address, port=port))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists, as root
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([*within, str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
        try:
            wait_for(address, port, server, folder / "log")
            if known:
                self.remember(folder, address, port)
            yield Host(folder=folder, address=address, port=port, server=server)
        finally:
            for process in children(server.pid):
                kill(process)
            server.kill()
            server.wait()

    def remember(self, folder: Path, address: str, port: int) -> None:
        """Adds the host's key to those that are known."""
        key = (folder / "host_key.pub").read_text().split()
        with self.known_hosts.open("a") as file:
            file.write(f"[{address}]:{port} {key[0]} {key[1]}\n")


def children(parent: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    try:
        direct = [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
    return [*direct, *(inner for child in direct for inner in children(child))]


def kill(process: int) -> None:
    """SIGKILL, where it is still there."""
    try:
        os.kill(process, 9)
    except ProcessLookupError:
        return


def make_key(path: Path) -> None:
    """An Ed25519 key without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def write_python(path: Path, *, before: str = "", python_path: Path | None = None) -> None:
    """The device's Python: this one, with edgec from where it is here, as if it were installed: `-I` is dropped."""
    places = [str(place) for place in (python_path, Path(edgec.__file__).parents[1]) if place]
    path.write_text(
        f"#!/bin/sh\n{before}\nexport OMP_NUM_THREADS=1 PYTHONPATH={shlex.quote(':'.join(places))}\n"
        f'[ "$1" = -I ] && shift\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    path.chmod(0o755)


def break_runtime(host: Host) -> None:
    """Gives a device a runtime that takes one weight for another: the smoke test must find out."""
    package = host.folder / "broken" / "onnxruntime"
    package.mkdir(parents=True)
    right, wrong = WEIGHT.tobytes(), (-WEIGHT).tobytes()
    (package / "__init__.py").write_text(BROKEN_RUNTIME.format(right=right, wrong=wrong))
    write_python(host.python, python_path=package.parent)


def limit_files(host: Host, most_bytes: int) -> None:
    """No file of the device may be larger: what a full disk is to one that writes."""
    write_python(host.python, before=f"ulimit -f {most_bytes // 512}")


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers."""
    for _ in range(200):
        if server.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()}")
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("sshd does not answer")


def make_bundle(output: Path, *, filler_bytes: int = 0, seed: int = 0, **fields: object) -> Path:
    """A bundle of a tiny graph, with bytes beside it that make it as large as a real one."""
    spec = InputSpec(height=4, width=5, channels=3)
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    scaled = (pixels.astype(np.float64) / 255 - spec.mean) / spec.std
    logits = (scaled.mean(axis=(1, 2)) @ WEIGHT.T.astype(np.float64)).astype(np.float32)
    description = Description(
        name=output.name,
        target=TargetEntry(name="host", title="This machine", digest="a" * 64),
        labels=("cat", "dog"),
        input=spec,
        output=OutputEntry(name="logits"),
        model=ModelEntry(scheme=Scheme.FLOAT32, opset=18),
        runtime=RuntimeEntry(engine="onnxruntime", threads=1),
        tools={},
    ).model_copy(update=fields)
    files: dict[str, Path | bytes] = {
        "model.onnx": _graph(),
        "golden.npz": golden_bytes(Golden(inputs=pixels, logits=logits)),
    }
    if filler_bytes:
        files["filler.bin"] = np.random.default_rng(seed).bytes(filler_bytes)
    return pack_bundle(description=description, files=files, output=output)


def digest_at(root: Path) -> str | None:
    """What a site serves, every byte of it checked; None where it serves nothing yet."""
    try:
        folder = root / (root / "current").readlink()
    except FileNotFoundError:
        return None
    bundle = open_bundle(folder)
    bundle.verify()
    return bundle.digest


def _graph() -> bytes:
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "weight"], ["logits"], transB=1),
    ]
    constants = {"axes": np.array([2, 3]), "weight": WEIGHT}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 4, 5])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
