"""Deploys that are cut at random moments: what a device serves then, and whether the next deploy gets there.

    python benchmarks/deploy_cuts.py [--cuts 50] [--seed 0] [--quick] [--json]

The deployer, the connection or edgec on the device is killed with SIGKILL, or the device's disk is filled, in turns. A
moment is a random one of a step's time, as the deploy before took it; the steps come in turns as well. The device is a
real sshd on loopback. All the while a reader follows `current` and checks every file of what it leads to. A full disk
is a small tmpfs where this user may mount one, else a limit on the size of files.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from edgec.cli import main as edgec
from edgec.core.errors import EdgecError
from edgec.package import open_bundle
from rows import Row, arguments, show
from support.sshd import SSHD, Host, Testbed, digest_at, kill, limit_files, make_bundle, write_python

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = [
    "edgec.cli.deploy",
    "edgec.deploy.rollout",
    "edgec.package.signing",
    "asyncssh",
    "rich.table",
    "rich.console",
]
KINDS = ("deployer", "connection", "device's edgec", "full disk")
STEPS = ("connecting", "uploading", "installing", "testing and switching")
FILLER_BYTES = 4 << 20
DISK_BYTES = 40 << 20
POLL_S = 0.1
GLANCE_S = 0.002
ORDER = [(KINDS[(number + number // 4) % 4], STEPS[number % 4]) for number in range(16)]
"""Every kind in every step, the kinds in turns."""


@dataclass(kw_only=True)
class Reader:
    """Follows `current` and keeps what it leads to, or why that is no whole version."""

    root: Path
    seen: Counter[str | None] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Reads until the block ends."""
        done = threading.Event()
        thread = threading.Thread(target=self._read, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _read(self, done: threading.Event) -> None:
        while not done.wait(POLL_S):
            self.look()

    def look(self) -> str | None:
        """What is served now."""
        try:
            digest = digest_at(self.root)
        except (EdgecError, OSError) as error:
            self.faults.append(str(error))
            return None
        self.seen[digest] += 1
        return digest


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A deploy that was cut, and the one after it."""

    kind: str
    during: str
    allowed: bool
    next_ok: bool
    resumed: bool
    seconds: float


def run(arguments: list[str], log: Path) -> None:
    """`edgec`, in a process of its own whose output goes to a file."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    edgec(arguments)


@dataclass(kw_only=True)
class Trial:
    """A device, and what is deployed to it."""

    bed: Testbed
    host: Host
    rng: random.Random
    mounted: bool
    took_s: dict[str, float] = field(default_factory=dict)
    made: int = 0

    @property
    def log(self) -> Path:
        """What the deployer said."""
        return self.bed.folder / "log"

    def new_bundle(self) -> Path:
        """Another one each time."""
        self.made += 1
        return make_bundle(self.bed.folder / f"b{self.made}", filler_bytes=FILLER_BYTES, seed=self.rng.getrandbits(32))

    def start(self, bundle: Path) -> ForkServerProcess:
        """Begins to deploy."""
        options = [*self.bed.options, "--python", str(self.host.python), "--json"]
        self.log.write_bytes(b"")
        process = CONTEXT.Process(target=run, args=(["deploy", str(bundle), self.host.url, *options], self.log))
        process.start()
        return process

    def deploy(self, bundle: Path) -> tuple[bool, int]:
        """Undisturbed: whether it went well, and the bytes that were sent. Keeps how long each step took."""
        process = self.start(bundle)
        began: dict[str, float] = {}
        while process.is_alive():
            began.setdefault(self.step(), time.monotonic())
            process.join(GLANCE_S)
        ends = [*list(began.values())[1:], time.monotonic()]
        if process.exitcode:
            print(self.log.read_text(), file=sys.stderr)
            return False, 0
        self.took_s |= {step: end - start for (step, start), end in zip(began.items(), ends, strict=True)}
        return True, json.loads(self.log.read_text().splitlines()[-1])["devices"][0]["sent_bytes"]

    def step(self) -> str:
        """What the deployer says that it is doing."""
        name = self.host.url.split("/")[2]
        lines = [line for line in self.log.read_text().splitlines() if line.startswith(f"{name}: ")]
        return lines[-1].removeprefix(f"{name}: ") if lines else "starting"

    def cut(self, kind: str, step: str) -> Cut:
        """One cut; tried again with another moment where the deploy was over before."""
        started = time.monotonic()
        while True:
            old, bundle = digest_at(self.host.root), self.new_bundle()
            new = open_bundle(bundle).digest
            reader = Reader(root=self.host.root)
            with reader.reading():
                during = self._cut_once(kind, step, bundle)
                reader.look()
                allowed = not reader.faults and set(reader.seen) <= {old, new}
                if during is None:
                    continue
                next_ok, sent = self.deploy(bundle)
            served = digest_at(self.host.root)
            ok = next_ok and served == new and not reader.faults and set(reader.seen) <= {old, new}
            resumed = 0 < sent < FILLER_BYTES
            return Cut(
                kind=kind,
                during=during,
                allowed=allowed,
                next_ok=ok,
                resumed=resumed,
                seconds=time.monotonic() - started,
            )

    def _cut_once(self, kind: str, step: str, bundle: Path) -> str | None:
        """What the deployer was doing when it was cut; None where it was faster."""
        delay_s = self.rng.random() * self.took_s.get(step, 0.0)
        if kind == "full disk" and not self.mounted:
            limit_files(self.host, self.rng.randrange(512, FILLER_BYTES))
        process = self.start(bundle)
        while process.is_alive() and self.step() != step:
            process.join(GLANCE_S)
        process.join(delay_s)
        hit = self._strike(kind, process)
        during = self.step()
        process.join()
        if kind == "full disk":
            (self.host.root / "filler").unlink(missing_ok=True)
            write_python(self.host.python)
            hit = process.exitcode != 0
        return during if hit else None

    def _strike(self, kind: str, process: ForkServerProcess) -> bool:
        """Whether something was there to be cut."""
        if kind == "full disk":
            if self.mounted:
                fill(self.host.root / "filler")
            return True
        while process.is_alive():
            victims = {
                "deployer": lambda: [process.pid],
                "connection": self.host.connections,
                "device's edgec": self.host.sessions,
            }[kind]()
            for victim in victims:
                kill(victim or 0)
            if victims:
                return True
            time.sleep(0.005)
        return False


def fill(path: Path) -> None:
    """Writes until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own below a folder, where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "edgec", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def cuts(folder: Path, count: int, seed: int) -> list[Cut]:
    """So many cuts, the kinds in turns."""
    CONTEXT.set_forkserver_preload(PRELOAD)
    bed = Testbed(folder=folder)
    with bed.host("device") as host, small_disk(host.root) as mounted:
        trial = Trial(bed=bed, host=host, rng=random.Random(seed), mounted=mounted)  # noqa: S311 - no secret
        for _ in range(2):  # the first one also starts the server that imports
            if not trial.deploy(trial.new_bundle())[0]:
                raise SystemExit("the undisturbed deploy failed")
        return [_told(trial.cut(*ORDER[number % len(ORDER)]), number) for number in range(count)]


def _told(cut: Cut, number: int) -> Cut:
    """Says how far it is."""
    print(number + 1, cut, file=sys.stderr, flush=True)
    return cut


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if SSHD is None:
        raise SystemExit("no sshd here: apt-get install openssh-server")
    with tempfile.TemporaryDirectory() as folder:
        found = cuts(Path(folder), 4 if given.quick else given.cuts, given.seed)
    rows = []
    for kind in KINDS:
        mine = [cut for cut in found if cut.kind == kind]
        if mine:
            rows += [
                Row(
                    what=f"{kind}: neither old nor new served",
                    value=sum(not c.allowed for c in mine),
                    unit="cuts",
                    n=len(mine),
                ),
                Row(
                    what=f"{kind}: next deploy failed", value=sum(not c.next_ok for c in mine), unit="cuts", n=len(mine)
                ),
            ]
    rows += [
        Row(what=f"cut while {step}", value=count, unit="cuts", n=len(found))
        for step, count in Counter(cut.during for cut in found).most_common()
    ]
    rows.append(
        Row(what="next deploy resumed the upload", value=sum(c.resumed for c in found), unit="cuts", n=len(found))
    )
    show(rows, as_json=given.json, output=given.output)


if __name__ == "__main__":
    main()
