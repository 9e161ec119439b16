"""`edgec sign` and `edgec verify`: what is printed, and which exit code tells a script what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgec.cli import group
from edgec.cli.trust import signed_by
from edgec.package import Golden, golden_bytes, open_bundle, write_archive


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public one."""
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def told(stdout: str) -> dict[str, str]:
    """The lines of `edgec verify` by their first word."""
    return {line[:12].strip(): line[12:] for line in stdout.splitlines()}


def test_an_unsigned_bundle_is_whole_and_says_that_nobody_signed_it(edgec, make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(release=12)
    done = edgec("verify", bundle)
    assert (done.exit_code, done.stderr) == (0, "")
    assert told(done.stdout) == {
        "bundle": str(bundle),
        "name": "linear-host",
        "release": "12",
        "target": "host",
        "scheme": "float32",
        "digest": open_bundle(bundle).digest,
        "files": "5, all as the manifest says",
        "signature": "none",
        "smoke test": "not run",
    }


def test_a_signed_bundle_is_good_for_who_has_the_key(edgec, bundle: Path, keys: tuple[Path, Path]) -> None:
    archive = write_archive(bundle, bundle.with_name("bundle.edgec"))
    signed = edgec("sign", bundle, "--key", keys[0])
    assert (signed.exit_code, signed.stdout.strip()) == (0, open_bundle(bundle).digest)
    assert signed.stderr.splitlines() == [f"signed {bundle}", f"signed {archive}"]
    for path in (bundle, archive):
        assert told(edgec("verify", path).stdout)["signature"] == "there, not checked: give --key or --certificate"
        assert told(edgec("verify", path, "--key", keys[1]).stdout)["signature"].startswith("good, by key ")


def test_json_says_the_same(edgec, bundle: Path, keys: tuple[Path, Path]) -> None:
    assert edgec("verify", bundle, "--json").last["signature"] == "none"
    edgec("sign", bundle, "--key", keys[0])
    assert edgec("verify", bundle, "--json").last["signature"] == "unchecked"
    found = edgec("verify", bundle, "--key", keys[1], "--smoke-test", "--json").last
    digest = open_bundle(bundle).digest
    assert (found["signature"], found["smoke_test"], found["digest"]) == ("good", True, digest)
    assert found["signer"].startswith("key ")


def test_without_its_signature_a_bundle_is_refused_where_one_is_demanded(edgec, bundle: Path, keys) -> None:
    done = edgec("verify", bundle, "--key", keys[1])
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.failure[0] == f"'{bundle}' is not signed, expected a signature"


@pytest.mark.parametrize("demanded", [True, False])
def test_a_changed_file_is_refused_signed_or_not(edgec, bundle: Path, keys, demanded: bool) -> None:
    edgec("sign", bundle, "--key", keys[0])
    data = bytearray((bundle / "model.onnx").read_bytes())
    data[-1] ^= 1
    (bundle / "model.onnx").write_bytes(data)
    done = edgec("verify", bundle, *(["--key", keys[1]] if demanded else []))
    assert done.exit_code == 4
    assert "'model.onnx' was changed" in done.failure[0]


def test_what_is_no_bundle_is_bad_input(edgec, tmp_path: Path) -> None:
    assert edgec("verify", tmp_path / "gone").exit_code == 2
    assert edgec("verify", tmp_path).exit_code == 2


def test_the_smoke_test_lets_the_model_answer(edgec, bundle: Path, make_bundle, pixels: np.ndarray) -> None:
    assert told(edgec("verify", bundle, "--smoke-test").stdout)["smoke test"] == "passed"
    wrong = golden_bytes(Golden(inputs=pixels, logits=np.eye(3, dtype=np.float32)[np.arange(6) % 3]))
    done = edgec("verify", make_bundle("wrong", files={"golden.npz": wrong}), "--smoke-test")
    assert done.exit_code == 4
    assert "golden images change class" in done.failure[0]


def test_a_model_that_does_not_run_fails_the_smoke_test(edgec, make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(files={"model.onnx": b"\x08\x09"})  # a version, and no graph
    assert edgec("verify", bundle).exit_code == 0
    done = edgec("verify", bundle, "--smoke-test")
    assert done.exit_code == 4
    assert done.failure[0].startswith("smoke test: ")


@pytest.mark.parametrize("way", ["environment", "file"])
def test_the_password_comes_from_the_environment_or_a_file(
    edgec, bundle: Path, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    private, public = keys
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    kind = serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, locked))
    assert "private key is encrypted" in edgec("sign", bundle, "--key", private).failure[0]
    if way == "environment":
        monkeypatch.setenv("EDGEC_KEY_PASSWORD", "secret")
    (tmp_path / "password").write_text("secret\n")
    file = ["--password-file", tmp_path / "password"] if way == "file" else []
    assert edgec("sign", bundle, "--key", private, *file).exit_code == 0
    assert json.loads(edgec("verify", bundle, "--key", public, "--json").stdout)["signature"] == "good"


def test_a_graph_that_is_not_what_the_manifest_says_fails_the_smoke_test(
    edgec, make_bundle: Callable[..., Path]
) -> None:
    """Found by a mutant: exit 1 and no hint, as if edgec were at fault."""
    bundle = make_bundle()
    fields = json.loads((bundle / "manifest.json").read_bytes())
    fields["input"]["height"] = 1 << 40
    (bundle / "manifest.json").write_text(json.dumps(fields))
    done = edgec("verify", bundle, "--smoke-test")
    assert done.exit_code == 4
    assert done.failure[0].startswith("smoke test: the model's input ")
    assert done.failure[1] == "do not deploy it"


def test_a_password_is_no_argument(edgec, bundle: Path, keys: tuple[Path, Path]) -> None:
    """Every user of the machine could read it."""
    done = edgec("sign", bundle, "--key", keys[0], "--password", "secret")
    assert (done.exit_code, "No such option" in done.failure[0]) == (2, True)


def test_a_password_file_that_is_not_there_is_named(edgec, bundle: Path, keys: tuple[Path, Path]) -> None:
    done = edgec("sign", bundle, "--key", keys[0], "--password-file", "gone")
    assert done.failure == ("cannot read 'gone': No such file or directory", "check the path and its permissions")


def test_key_and_certificate_together_are_refused(edgec, bundle: Path, keys: tuple[Path, Path]) -> None:
    done = edgec("verify", bundle, "--key", keys[1], "--certificate", keys[1])
    assert done.exit_code == 2
    assert done.failure == ("a key and a certificate, expected one of them", "give --key or --certificate")


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from commands(found, f"{path}{name} ") if isinstance(found, click.Group) else [(f"{path}{name}", found)]


def test_whose_signature_is_believed_is_asked_in_one_way() -> None:
    """Of `sign` the key is another one: its own."""

    @click.command
    @signed_by
    def usual(**_: object) -> None: ...

    expected = {parameter.name: parameter.to_info_dict() for parameter in usual.params}
    asked = {name: [p for p in found.params if p.name in expected] for name, found in commands(group) if name != "sign"}
    asked = {name: parameters for name, parameters in asked.items() if parameters}
    assert {"agent", "deploy", "pull", "verify", "site activate", "site rollback"} <= asked.keys()
    for name, parameters in asked.items():
        assert {p.name: p.to_info_dict() for p in parameters} == expected, name


@pytest.mark.parametrize("command", ["predict", "bench", "serve"])
def test_what_runs_is_verified(command: str, edgec, bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    more = {"predict": (tmp_path / "gone.png",), "bench": ("--seconds", "0.1"), "serve": ("--port", "0")}[command]
    done = edgec(command, bundle, "--key", keys[1], *more)
    assert done.exit_code == 4
    assert done.failure[0].endswith("is not signed, expected a signature")
    assert edgec(command, bundle, "--key", tmp_path / "none.pem", *more).exit_code == 2


def test_a_bundle_with_the_right_signature_runs(edgec, bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (5, 4)).save(tmp_path / "a.png")
    edgec("sign", bundle, "--key", keys[0])
    assert edgec("predict", bundle, "--key", keys[1], tmp_path / "a.png").exit_code == 0
