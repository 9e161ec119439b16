"""An agent that is killed at random moments, restart and health check included: what the device runs afterwards.

    python benchmarks/agent_kills.py [--kills 50] [--seed 0] [--quick] [--json]

A real docker-registry on loopback, a bundle of a tiny graph with 2 MB beside it. Each round moves the tag and lets an
agent look; it is killed with SIGKILL at a random moment: half of the time in the time that a look took before, half of
the time in the trial, which is the restart and the health check. Every other time the
commands that it started are killed with it, as by a power cut; every third bundle fails the health check. Then the
agent looks again, without a kill. The device must run a whole version that is settled: the new one if it is well, else
the one before. Needs Debian's docker-registry.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import EdgecError
from edgec.core.progress import Silent
from edgec.deploy import Site
from edgec.deploy.agent import Agent
from edgec.deploy.oci import Repository
from edgec.deploy.reference import Reference
from edgec.deploy.transfer import push_bundle
from edgec.package import open_bundle
from pull_fleet import registry
from rows import Row, arguments, show
from support.sshd import children, digest_at, kill, make_bundle

CONTEXT = multiprocessing.get_context("forkserver")
PRELOAD = ["edgec.deploy.agent", "edgec.deploy.http", "edgec.runtime", "oras.auth", "onnxruntime", "onnx", "rich"]
FILLER_BYTES = 2 << 20
TRIAL_S = 0.6
"""What restart and health check take, and a bit more."""
LOOKS = 3
"""After a kill, at most: one to settle or to go back, the others for what the registry still offers."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A round.

    Attributes:
        during: The last thing that the history told when the kill came.
        alone: Whether the commands of the agent went on.
        runs: What ran afterwards: `new`, `before`, or something else.
        settled: Whether it was settled.
        looks: That it took.
    """

    during: str
    alone: bool
    runs: str
    settled: bool
    looks: int
    ill: bool

    @property
    def as_it_should(self) -> bool:
        """Whether a whole, settled version runs, and not one that is ill."""
        return self.settled and self.runs in (("before",) if self.ill else ("before", "new"))


def look(reference: str, root: Path) -> None:
    """One look of an agent, in a process of its own."""
    health = f"sh -c {shlex.quote(f'sleep 0.2; ! test -e {root}/current/ill.bin')}"
    site = Site(root)
    with contextlib.suppress(EdgecError):
        Agent(Reference.parse(reference), site, restart="sleep 0.3", health=health).poll()


def started(reference: str, root: Path) -> multiprocessing.context.ForkServerProcess:
    process = CONTEXT.Process(target=look, args=(reference, root))
    process.start()
    return process


def kills(folder: Path, count: int, seed: int) -> list[Kill]:
    """All rounds."""
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    found = []
    root = folder / "site"
    CONTEXT.set_forkserver_preload(PRELOAD)
    with registry(folder) as port:
        reference = f"127.0.0.1:{port}/cameras/digits:stable"
        push(folder, reference, 0, ill=False)
        whole_s = 0.0
        for _ in range(2):  # the first one also starts what processes are forked from
            began = time.monotonic()
            started(reference, root).join()
            whole_s = whole_s or time.monotonic() - began
        push(folder, reference, 1, ill=False)
        began = time.monotonic()
        started(reference, root).join()
        whole_s = time.monotonic() - began
        for number in range(count):
            found.append(one(folder, reference, number, draw.uniform(0, 1), whole_s))
            print(number + 1, found[-1], file=sys.stderr, flush=True)
    return found


def one(folder: Path, reference: str, number: int, share: float, whole_s: float) -> Kill:
    """A round; the kill comes at a share of what is to be cut."""
    root, ill, alone = folder / "site", number % 3 == 2, number % 2 == 0
    before = digest_at(root)
    wanted = push(folder, reference, number + 2, ill=ill)
    process = started(reference, root)
    if number % 4 < 2:
        process.join(share * whole_s)
    else:
        while process.is_alive() and not on_trial(root, wanted):
            time.sleep(0.01)
        process.join(share * TRIAL_S)
    theirs = [] if alone or process.pid is None else children(process.pid)
    process.kill()
    process.join()
    for other in theirs:
        kill(other)
    events = Site(root).history()
    during = events[-1].event if events[-1].digest == wanted else "before the installation"
    looks = 0
    while looks < LOOKS:
        looks += 1
        again = started(reference, root)
        again.join()
        if digest_at(root) == (before if ill else wanted) and Site(root).status().settled:
            break
    now = digest_at(root)
    runs = {wanted: "new", before: "before"}.get(now, "something else")
    return Kill(during=during, alone=alone, runs=runs, settled=Site(root).status().settled, looks=looks, ill=ill)


def on_trial(root: Path, digest: str) -> bool:
    """Whether the commands were begun for a version."""
    events = Site(root).history()
    return bool(events) and events[-1].event == "trial" and events[-1].digest == digest


def push(folder: Path, reference: str, number: int, *, ill: bool) -> str:
    """Moves the tag to a new bundle; gives its identity."""
    bundle = make_bundle(folder / "bundle", filler_bytes=FILLER_BYTES, seed=number)
    if ill:
        bundle = make_ill(bundle)
    with Repository(Reference.parse(reference)) as repository:
        push_bundle(bundle, repository, progress=Silent())
    return open_bundle(bundle).digest


def make_ill(bundle: Path) -> Path:
    """The same with a file that the health check minds."""
    from edgec.package import Description, pack_bundle

    opened = open_bundle(bundle)
    fields = {name: getattr(opened.manifest, name) for name in Description.model_fields}
    files: dict[str, Path | bytes] = {name: opened.read_bytes(name) for name in opened.manifest.files}
    return pack_bundle(description=Description(**fields), files=files | {"ill.bin": b"ill"}, output=bundle)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as folder:
        found = kills(Path(folder), 6 if given.quick else given.kills, given.seed)
    bad = sum(not each.as_it_should for each in found)
    rows = [Row(what="device without a whole, settled, healthy version", value=bad, unit="kills", n=len(found))]
    for what, counts in (
        ("killed after: {}", Counter(each.during for each in found)),
        ("runs afterwards: {}", Counter(each.runs for each in found)),
        ("looks until then: {}", Counter(each.looks for each in found)),
    ):
        rows += [Row(what=what.format(name), value=n, unit="kills", n=len(found)) for name, n in counts.most_common()]
    show(rows, as_json=given.json, output=given.output)


if __name__ == "__main__":
    main()
