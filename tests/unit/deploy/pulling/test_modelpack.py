"""A bundle as others read it: the specifications, and oras' own client."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from edgec.core.errors import DataError, IntegrityError
from edgec.core.progress import Silent
from edgec.core.target import Scheme
from edgec.deploy.modelpack import describe, read_artifact
from edgec.deploy.oci import Repository
from edgec.deploy.transfer import push_bundle
from edgec.package import ModelEntry, open_bundle

PREFIX = "application/vnd.cncf.model."


def test_the_manifest_is_an_oci_manifest_of_a_model(bundle: Path) -> None:
    from oras import schemas

    artifact, config = describe(open_bundle(bundle))
    manifest = json.loads(artifact.manifest)
    jsonschema.validate(manifest, schemas.manifest | {"additionalProperties": True})
    assert manifest["artifactType"] == f"{PREFIX}manifest.v1+json"
    assert manifest["config"]["mediaType"] == f"{PREFIX}config.v1+json"
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(config).hexdigest()}"
    assert manifest["config"]["size"] == len(config)


def test_each_file_is_a_layer_under_its_path_and_kind(bundle: Path) -> None:
    (bundle / "signature.json").write_bytes(b"{}")
    manifest = json.loads(describe(open_bundle(bundle))[0].manifest)
    found = {layer["annotations"]["org.cncf.model.filepath"]: layer for layer in manifest["layers"]}
    assert {name: layer["mediaType"].removeprefix(PREFIX) for name, layer in found.items()} == {
        "calibration.json": "weight.config.v1.raw",
        "golden.npz": "dataset.v1.raw",
        "manifest.json": "weight.config.v1.raw",
        "model.onnx": "weight.v1.raw",
        "report.html": "doc.v1.raw",
        "report.json": "doc.v1.raw",
        "signature.json": "weight.config.v1.raw",
    }
    for name, layer in found.items():
        data = (bundle / name).read_bytes()
        assert (layer["digest"], layer["size"]) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))


def test_the_config_has_the_fields_of_modelpack_and_no_others(bundle: Path) -> None:
    """The names are those of schema/config-schema.json in modelpack/model-spec, which allows no others."""
    artifact, data = describe(open_bundle(bundle))
    config = json.loads(data)
    assert config.keys() == {"descriptor", "config", "modelfs"}
    assert config["descriptor"].keys() <= {"name", "version", "title", "revision", "description", "licenses"}
    assert config["config"].keys() <= {"architecture", "format", "precision", "quantization", "capabilities"}
    assert config["modelfs"]["type"] == "layers"
    assert config["modelfs"]["diffIds"] == [layer.digest for layer in artifact.layers.values()]
    assert config["config"]["capabilities"] == {"inputTypes": ["image"], "outputTypes": ["other"]}


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [(Scheme.FLOAT32, ("float32", None)), (Scheme.FLOAT16, ("float16", None)), (Scheme.U8S8, ("int8", "u8s8"))],
)
def test_the_config_tells_the_number_format(make_bundle, scheme: Scheme, expected: tuple[str, str | None]) -> None:
    _, data = describe(open_bundle(make_bundle(model=ModelEntry(scheme=scheme, opset=18))))
    config = json.loads(data)["config"]
    assert (config["precision"], config.get("quantization")) == expected


def test_equal_bundles_are_equal_artifacts(make_bundle) -> None:
    first, second = (describe(open_bundle(make_bundle(name))) for name in ("first", "second"))
    assert first[0].manifest == second[0].manifest
    assert first[1] == second[1]


def test_what_was_described_is_read_back(bundle: Path) -> None:
    opened = open_bundle(bundle)
    artifact, _ = describe(opened)
    assert read_artifact(artifact.manifest, where="here") == artifact
    assert artifact.bundle == opened.digest
    assert artifact.size_bytes == sum(path.stat().st_size for path in bundle.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": 1}, "schemaVersion: "),
        ({"layers": []}, "layers: "),
        ({"layers": [{"mediaType": "a", "digest": f"sha256:{'0' * 64}", "size": 1}] * 65}, "layers: "),
        ({"layers": [{"mediaType": "a", "digest": "sha256:abc", "size": 1}]}, "layers.0.digest: "),
        ({"layers": [{"mediaType": "a", "digest": f"sha256:{'0' * 64}", "size": -1}]}, "layers.0.size: "),
        ({"layers": [{"mediaType": "a", "digest": f"sha256:{'0' * 64}", "size": 3 << 30}]}, "layers.0.size: "),
        ({"layers": "all"}, "layers: "),
    ],
)
def test_a_manifest_that_breaks_the_rules_is_refused(bundle: Path, change: dict[str, object], message: str) -> None:
    manifest = json.loads(describe(open_bundle(bundle))[0].manifest) | change
    with pytest.raises(IntegrityError) as caught:
        read_artifact(json.dumps(manifest).encode(), where="here")
    assert str(caught.value).startswith(f"'here': {message}")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="the manifest is not valid JSON"):
        read_artifact(data, where="here")


@pytest.mark.parametrize(
    "value", [[], 3, None, {}, {"config": 3}, {"mediaType": "application/vnd.oci.image.index.v1+json"}]
)
def test_what_is_something_else_is_no_bundle(value: object) -> None:
    with pytest.raises(DataError, match="'here' is no bundle"):
        read_artifact(json.dumps(value).encode(), where="here")


def test_too_many_bytes_in_all_are_refused(bundle: Path) -> None:
    manifest = json.loads(describe(open_bundle(bundle))[0].manifest)
    for layer in manifest["layers"]:
        layer["size"] = 1_000_000_000
    with pytest.raises(IntegrityError, match="bytes, expected at most "):
        read_artifact(json.dumps(manifest).encode(), where="here")


@pytest.mark.network
def test_oras_pulls_what_we_push(bundle: Path, repository: Callable[..., Repository], tmp_path: Path) -> None:
    from oras.client import OrasClient

    push_bundle(bundle, repository(), progress=Silent())
    client = OrasClient(insecure=True)
    try:
        client.pull(target=str(repository().reference), outdir=str(tmp_path / "oras"))
    finally:
        client.session.close()
    pulled = {path.name: path.read_bytes() for path in (tmp_path / "oras").iterdir()}
    assert pulled == {path.name: path.read_bytes() for path in bundle.iterdir()}


@pytest.mark.network
def test_push_and_pull_as_commands(bundle: Path, registry, tmp_path: Path, edgec) -> None:
    place = f"127.0.0.1:{registry.port}/cameras/digits"
    pushed = edgec("push", bundle, f"{place}:stable")
    assert pushed.exit_code == 0
    pinned = pushed.stdout.splitlines()[-1]
    assert pinned.startswith(f"{place}@sha256:")
    again = edgec("push", bundle, f"{place}:stable", "--json")
    assert again.last["reference"] == pinned
    assert (again.last["sent_bytes"], again.last["digest"]) == (0, open_bundle(bundle).digest)
    pulled = edgec("pull", pinned, "--output", tmp_path / "back", "--json")
    assert (pulled.exit_code, pulled.last["digest"]) == (0, open_bundle(bundle).digest)
    assert edgec("pull", f"{place}:stable", "--output", tmp_path / "back").stdout == f"{tmp_path / 'back'}\n"
    absent = edgec("pull", f"{place}:absent", "--output", tmp_path / "no")
    assert (absent.exit_code, absent.failure[1]) == (5, "check the name; edgec push stores a bundle")


@pytest.mark.network
def test_a_signature_travels_and_is_asked_for(bundle: Path, registry, tmp_path: Path, edgec) -> None:
    import subprocess

    from edgec.package import sign_bundle

    pytest.importorskip("model_signing", reason="the extra signing is not installed")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    place = f"127.0.0.1:{registry.port}/cameras/digits:stable"
    edgec("push", bundle, place)
    unsigned = edgec("pull", place, "--output", tmp_path / "back", "--key", public)
    assert unsigned.exit_code == 4
    assert not (tmp_path / "back").exists()
    sign_bundle(bundle, key=private)
    edgec("push", bundle, place)
    signed = edgec("pull", place, "--output", tmp_path / "back", "--key", public, "--json")
    assert signed.exit_code == 0, signed.stderr
    assert signed.last["signed_by"]
    assert (tmp_path / "back" / "signature.json").read_bytes() == (bundle / "signature.json").read_bytes()
