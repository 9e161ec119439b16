"""Makes this version's bundle for `tests/compat`: digits, built quickly, signed with a key that nobody keeps.

    python tests/compat/make.py

The target is one whose int8 sums no CPU saturates, so that the recorded logits hold on every machine.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import edgec
from edgec.cli import group
from edgec.core.digest import digest_bytes
from edgec.package import sign_bundle, write_archive

HERE = Path(__file__).resolve().parent
SETTINGS = ("compress.steps=20", "data.ood_count=60", "seed=0")


def main() -> None:
    archive = HERE / f"edgec-{edgec.__version__}.edgec"
    if archive.exists():
        raise SystemExit(f"{archive.name} is there, and a bundle that is kept is never made anew")
    with tempfile.TemporaryDirectory() as folder:
        bundle, key = Path(folder) / "digits", Path(folder) / "private.pem"
        options = [part for setting in SETTINGS for part in ("--set", setting)]
        places = ["--cache", f"{folder}/cache", "--output", str(bundle)]
        group.main(["build", "--target", "x86-avx2", "--device", "cpu", *places, *options], standalone_mode=False)
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        _openssl("ec", "-in", str(key), "-pubout", "-out", str(archive.with_suffix(".pem")))
        sign_bundle(bundle, key=key)
        write_archive(bundle, archive)
    with (HERE / "digests").open("a", encoding="utf-8") as file:
        file.write(f"{digest_bytes(archive.read_bytes())}  {archive.name}\n")


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


if __name__ == "__main__":
    main()
