"""Routes of the server against the reference classifier: answers, refusals, and what it tells of itself."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from edgec.core.errors import DataError, UnsupportedError
from edgec.core.inputs import normalise
from edgec.package import UnknownEntry
from edgec.runtime import Session
from edgec.serve import Settings
from edgec.serve.versions import load_proved

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Until = Callable[[Callable[[], bool]], None]

INFER = "/v2/models/linear-host/infer"
CLASSIFY = "/v2/models/linear-host/classify"
LABELS = ("cat", "dog", "eel")
BINARY = {"inference-header-content-length": "0"}


def scores_of(linear: Any, pixels: np.ndarray) -> np.ndarray:
    exact = np.exp(linear.logits(pixels))
    return exact / exact.sum(axis=1, keepdims=True)


def as_json(tensor: np.ndarray, *, name: str = "pixels", datatype: str = "UINT8", **more: Any) -> dict[str, Any]:
    described = {"name": name, "shape": list(tensor.shape), "datatype": datatype, "data": tensor.ravel().tolist()}
    return {"inputs": [described | more]}


def figures(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """Samples of a metric by their labels' values."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        tuple(sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def output(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in answer["outputs"] if entry["name"] == name)


class TestAnswers:
    def test_json_pixels(self, client: TestClient, linear: Any, pixels: np.ndarray) -> None:
        response = client.post(INFER, json=as_json(pixels) | {"id": "seven"})
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["id"], answer["model_name"], len(answer["model_version"])) == ("seven", "linear-host", 12)
        scores = output(answer, "scores")
        assert (scores["shape"], scores["datatype"]) == ([6, 3], "FP32")
        expected = scores_of(linear, pixels)
        # float32 logits below 10 carry errors of 1e-6, which exp passes on.
        np.testing.assert_allclose(np.reshape(scores["data"], (6, 3)), expected, rtol=1e-5, atol=1e-6)
        assert output(answer, "labels")["data"] == [LABELS[i] for i in expected.argmax(axis=1)]

    def test_nested_data_are_the_same(self, client: TestClient, pixels: np.ndarray) -> None:
        flat = client.post(INFER, json=as_json(pixels)).json()
        assert client.post(INFER, json=as_json(pixels, data=pixels.tolist())).json() == flat

    def test_a_prepared_tensor(self, client: TestClient, pixels: np.ndarray, spec: Any) -> None:
        tensor = normalise(pixels, spec)
        prepared = client.post(INFER, json=as_json(tensor, name="input", datatype="FP32")).json()
        plain = client.post(INFER, json=as_json(pixels)).json()
        np.testing.assert_allclose(output(prepared, "scores")["data"], output(plain, "scores")["data"], rtol=1e-6)

    def test_binary_in_and_out(self, client: TestClient, linear: Any, pixels: np.ndarray) -> None:
        described = {"name": "pixels", "shape": list(pixels.shape), "datatype": "UINT8"}
        described["parameters"] = {"binary_data_size": pixels.nbytes}
        header = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
        headers = {"inference-header-content-length": str(len(header))}
        response = client.post(INFER, content=header + pixels.tobytes(), headers=headers)
        assert response.status_code == 200, response.text
        length = int(response.headers["inference-header-content-length"])
        answer, rest = json.loads(response.content[:length]), response.content[length:]
        sizes = [entry["parameters"]["binary_data_size"] for entry in answer["outputs"]]
        assert sum(sizes) == len(rest)
        expected = scores_of(linear, pixels)
        scores = np.frombuffer(rest[: sizes[0]], "<f4").reshape(6, 3)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
        texts = rest[sizes[0] :]
        for best in expected.argmax(axis=1):
            (size,) = struct.unpack_from("<I", texts)
            assert texts[4 : 4 + size].decode() == LABELS[best]
            texts = texts[4 + size :]

    def test_pixels_alone(self, client: TestClient, pixels: np.ndarray) -> None:
        raw = client.post(INFER, content=pixels.tobytes(), headers=BINARY)
        assert raw.json() == client.post(INFER, json=as_json(pixels)).json()

    def test_the_best_classes_by_name(self, client: TestClient, linear: Any, pixels: np.ndarray) -> None:
        wanted = {"outputs": [{"name": "scores", "parameters": {"classification": 2}}]}
        answer = client.post(INFER, json=as_json(pixels[:1]) | wanted).json()
        (scores,) = scores_of(linear, pixels[:1])
        best = scores.argsort()[::-1][:2]
        (entry,) = answer["outputs"]
        assert (entry["datatype"], entry["shape"]) == ("BYTES", [1, 2])
        assert entry["data"] == [f"{scores[i]:f}:{i}:{LABELS[i]}" for i in best]

    def test_an_image_file(self, client: TestClient, linear: Any, pixels: np.ndarray) -> None:
        file = io.BytesIO()
        Image.fromarray(pixels[0]).save(file, "PNG")
        answer = client.post(CLASSIFY, content=file.getvalue(), headers={"content-type": "image/png"}).json()
        (expected,) = scores_of(linear, pixels[:1])
        assert answer["label"] == LABELS[int(expected.argmax())]
        assert list(answer["scores"].values()) == sorted(answer["scores"].values(), reverse=True)
        np.testing.assert_allclose([answer["scores"][label] for label in LABELS], expected, rtol=1e-5, atol=1e-6)
        best = client.post(f"{CLASSIFY}?top=1", content=file.getvalue()).json()
        assert best["scores"] == {answer["label"]: answer["score"]}

    def test_a_version_can_be_named(self, client: TestClient, pixels: np.ndarray) -> None:
        (version,) = client.get("/v2/models/linear-host").json()["versions"]
        path = f"/v2/models/linear-host/versions/{version}"
        assert client.get(f"{path}/ready").status_code == 200
        assert client.post(f"{path}/infer", json=as_json(pixels)).json()["model_version"] == version
        assert client.get("/v2/models/linear-host/versions/0/ready").status_code == 404

    def test_requests_at_once_are_answered_each_for_itself(
        self, bundle: Path, start: Callable[..., TestClient], linear: Any, pixels: np.ndarray
    ) -> None:
        from concurrent.futures import ThreadPoolExecutor

        client = start(bundle, batch=4, workers=2)

        def ask(i: int) -> list[float]:
            return output(client.post(INFER, json=as_json(pixels[i : i + 1])).json(), "scores")["data"]

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, [i % 6 for i in range(60)]))
        np.testing.assert_allclose(found, np.tile(scores_of(linear, pixels), (10, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "image"}, "input 'image': expected 'pixels' (UINT8, NHWC) or 'input' (FP32, NCHW)"),
        ({"datatype": "FP32"}, "input 'pixels': datatype 'FP32', expected 'UINT8'"),
        ({"shape": [6, 3, 4, 5]}, "input 'pixels': shape [6, 3, 4, 5], expected [1 to 256, 4, 5, 3]"),
        ({"shape": [0, 4, 5, 3], "data": []}, "input 'pixels': shape [0, 4, 5, 3], expected [1 to 256, 4, 5, 3]"),
        ({"shape": [1, 4, 5, 3]}, "input 'pixels': data is not 60 whole numbers from 0 to 255"),
        ({"data": [256] * 360}, "input 'pixels': data is not 360 whole numbers from 0 to 255"),
        ({"data": [0.5] * 360}, "input 'pixels': data is not 360 whole numbers from 0 to 255"),
        ({"data": [[1], [2, 3]]}, "input 'pixels': data is not 360 whole numbers from 0 to 255"),
        ({"data": "cats"}, "input 'pixels': data is not 360 whole numbers from 0 to 255"),
        ({"parameters": {"binary_data_size": 3}}, "binary_data_size 3 and 0 bytes, expected 360"),
        ({"shape": "six"}, "inputs.0.shape: Input should be a valid"),
    ],
)
def test_what_is_wrong_with_an_input_is_said(
    client: TestClient, pixels: np.ndarray, change: dict[str, Any], message: str
) -> None:
    response = client.post(INFER, json=as_json(pixels, **change))
    assert response.status_code == 400
    assert message in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"{", {}, "Invalid JSON"),
        (b"{}", {}, "inputs: Field required"),
        (b'{"inputs": []}', {}, "0 inputs: expected one"),
        (b"[" * 40_000, {}, "Invalid JSON"),
        (b"", {}, "Invalid JSON"),
        (b"{}", {"inference-header-content-length": "-1"}, "Inference-Header-Content-Length '-1'"),
        (b"{}", {"inference-header-content-length": "9"}, "expected a number up to the body's 2 bytes"),
        (b"x" * 61, BINARY, "61 bytes of pixels: expected 1 to 256 times 60"),
    ],
)
def test_a_body_that_is_none_is_refused(client: TestClient, body: bytes, headers: dict[str, str], message: str) -> None:
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_a_value_that_is_not_finite_is_refused(client: TestClient, pixels: np.ndarray, spec: Any) -> None:
    tensor = normalise(pixels, spec)
    tensor[0, 0, 0, 0] = np.nan
    described = {"name": "input", "shape": list(tensor.shape), "datatype": "FP32"}
    header = json.dumps({"inputs": [described | {"parameters": {"binary_data_size": tensor.nbytes}}]}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    response = client.post(INFER, content=header + tensor.tobytes(), headers=headers)
    assert (response.status_code, response.json()["error"]) == (400, "input 'input': a value is not finite")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ["a" * 3000, *[""] * 359]}, "data is not 360 whole numbers"),
        ({"data": [True] * 360}, "data is not 360 whole numbers"),
        ({"data": [10**400] * 360}, "data is not 360 whole numbers"),
        ({"data": [{}] * 360}, "data is not 360 whole numbers"),
        ({"data": [[]] * 40_000}, "the JSON holds more than 30000 values"),
        ({"data": [0] * 30_000}, "the JSON holds more than 30000 values"),
        ({"name": "n" * 1000}, "inputs.0.name: String should have at most 256 characters"),
        ({"shape": [1] * 100}, "inputs.0.shape: "),
        ({"shape": [10**30]}, "inputs.0.shape.0: "),
    ],
)
def test_json_that_would_grow_is_refused(
    bundle: Path, start: Callable[..., TestClient], pixels: np.ndarray, change: dict[str, Any], message: str
) -> None:
    response = start(bundle, json_values=30_000).post(INFER, json=as_json(pixels, **change))
    assert response.status_code == 400
    assert message in response.json()["error"]
    assert len(response.content) < 1000


def test_json_that_is_longer_than_any_request_is_refused_by_its_length(client: TestClient) -> None:
    """256 images of 60 numbers: 47,104 values, of 24 bytes each."""
    response = client.post(INFER, content=b" " * 1_200_000)
    assert response.status_code == 413
    assert response.json()["error"].startswith("1200000 bytes of JSON: at most 1196032 are taken; send tensors as bin")


def test_the_largest_request_of_all_fits(client: TestClient, spec: Any) -> None:
    images = np.full((256, *spec.shape), -np.float32(0.1)).tolist()
    described = {"name": "input", "datatype": "FP32", "shape": [256, *spec.shape], "data": images}
    response = client.post(INFER, json={"inputs": [described]})
    assert response.status_code == 200
    assert output(response.json(), "scores")["shape"][0] == 256


def test_an_output_is_given_once(client: TestClient, pixels: np.ndarray) -> None:
    response = client.post(INFER, json=as_json(pixels) | {"outputs": [{"name": "scores"}] * 2})
    assert (response.status_code, response.json()["error"]) == (400, "outputs: one of them is asked for twice")


def test_an_image_of_too_many_pixels_is_refused(bundle: Path, start: Callable[..., TestClient]) -> None:
    file = io.BytesIO()
    Image.new("RGB", (100, 100)).save(file, "PNG")
    response = start(bundle, most_pixels=9999).post(CLASSIFY, content=file.getvalue())
    assert response.status_code == 400
    assert "the body claims 100x100 pixels, at most 9999 are decoded" in response.json()["error"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"", "image/png", 400, "the body is empty"),
        (b"no image", "image/png", 400, "not a readable JPEG, PNG, WebP or BMP file"),
        (b"\xff\xd8\xff\xe0 cut", "image/jpeg", 400, "the body is truncated or damaged"),
        (b"x", "multipart/form-data; boundary=x", 415, "content type 'multipart/form-data; boundary=x'"),
    ],
)
def test_what_is_no_image_is_refused(client: TestClient, content: bytes, kind: str, status: int, message: str) -> None:
    response = client.post(CLASSIFY, content=content, headers={"content-type": kind})
    assert response.status_code == status
    assert message in response.json()["error"]


@pytest.mark.parametrize("query", ["top=0", "top=x", "best=1", "top=-1", "top=1e3", "top=", "top=1&top=2"])
def test_a_query_that_is_none_is_refused(client: TestClient, query: str) -> None:
    response = client.post(f"{CLASSIFY}?{query}", content=b"x")
    assert (response.status_code, response.json()["error"]) == (400, f"query '{query}': expected top=K")


class TestRefusals:
    def test_other_models_methods_and_paths(self, client: TestClient) -> None:
        other = client.get("/v2/models/dogs")
        assert (other.status_code, other.json()["error"]) == (404, "model 'dogs': this server has 'linear-host'")
        assert client.get(INFER).status_code == 405
        assert client.post("/v2").status_code == 405
        assert client.get("/").json() == {"error": "Not Found"}

    def test_a_body_beyond_the_limit(self, bundle: Path, start: Callable[..., TestClient]) -> None:
        client = start(bundle, max_body_bytes=100)
        assert client.post(INFER, content=b"x" * 60, headers=BINARY).status_code == 200
        for length in ("101", "9" * 400):
            answer = client.post(INFER, content=b"x" * 101, headers={"content-length": length})
            assert (answer.status_code, answer.json()["error"]) == (413, "the body is larger than 100 bytes")

    def test_a_body_of_unknown_length(self, client: TestClient) -> None:
        answer = client.post(INFER, content=iter([b"x" * 60, b"x" * 60]))
        assert answer.status_code == 411
        assert answer.json()["error"] == "the body's length is not announced: expected Content-Length"

    def test_a_compressed_body(self, client: TestClient) -> None:
        response = client.post(INFER, content=b"x", headers={"content-encoding": "gzip"})
        assert response.status_code == 415

    def test_a_fault_of_edgecs_own_shows_no_traceback(
        self, client: TestClient, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: Session, images: np.ndarray) -> np.ndarray:
            raise UnsupportedError("onnxruntime: secret path")

        monkeypatch.setattr(Session, "logits", broken)
        response = client.post(INFER, json=as_json(pixels))
        assert (response.status_code, response.json()) == (500, {"error": "the model could not be run"})

    def test_a_fault_ends_no_worker(
        self, client: TestClient, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "logits", lambda self, images: 1 / 0)
            response = client.post(INFER, json=as_json(pixels))
            assert (response.status_code, response.json()) == (500, {"error": "internal error"})
        assert client.post(INFER, json=as_json(pixels)).status_code == 200


def test_long_work_is_let_go_with_its_client() -> None:
    import asyncio

    from edgec.serve.app import _GoneError, _while_awaited

    async def test() -> None:
        ended: list[str] = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("work")

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        with pytest.raises(_GoneError):
            await _while_awaited(work(), receive)
        await asyncio.sleep(0)
        assert ended == ["work"]

    asyncio.run(test())


class TestWhatItTells:
    def test_the_server(self, client: TestClient) -> None:
        told = client.get("/v2").json()
        assert (told["name"], told["extensions"]) == ("edgec", ["binary_tensor_data", "classification"])
        assert client.get("/v2/health/live").status_code == 200

    def test_the_model(self, client: TestClient) -> None:
        told = client.get("/v2/models/linear-host").json()
        assert told["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, 4, 5, 3]}]
        scores, labels = told["outputs"]
        assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP32", [-1, 3])
        assert json.loads(scores["parameters"]["labels"]) == list(LABELS)
        assert labels == {"name": "labels", "datatype": "BYTES", "shape": [-1]}
        assert told["platform"] == "edgec_onnxruntime"

    def test_another_name(self, bundle: Path, start: Callable[..., TestClient]) -> None:
        assert start(bundle, name="pets").get("/v2/models/pets/ready").status_code == 200

    def test_requests_and_classes_are_counted(self, client: TestClient, linear: Any, pixels: np.ndarray) -> None:
        client.post(INFER, json=as_json(pixels))
        client.post(INFER, content=b"{}")
        requests = figures(client, "edgec_requests_total")
        assert requests == {("infer", "200"): 1, ("infer", "400"): 1}
        assert figures(client, "edgec_request_seconds_count") == {("infer",): 2}
        found = np.bincount(linear.logits(pixels).argmax(axis=1), minlength=3)
        assert figures(client, "edgec_predicted_total") == {(label,): n for label, n in zip(LABELS, found, strict=True)}
        assert figures(client, "edgec_queue_depth") == {(): 0}

    def test_drift_is_told_where_the_bundle_says_what_to_expect(
        self, make_bundle: Callable[..., Path], start: Callable[..., TestClient], linear: Any, pixels: np.ndarray
    ) -> None:
        found = np.bincount(linear.logits(pixels).argmax(axis=1), minlength=3)
        data = {"splits": [{"name": "test", "counts": (found * 50).tolist()}]}
        client = start(make_bundle(data=data))
        client.post(INFER, json=as_json(pixels))
        assert figures(client, "edgec_class_drift_bits")[()] == pytest.approx(0, abs=1e-12)
        assert figures(client, "edgec_class_drift_images") == {(): 6}
        rare = int(found.argmin())
        one = pixels[linear.logits(pixels).argmax(axis=1) == int(found.argmax())][:1]
        for _ in range(30):
            client.post(INFER, json=as_json(one))
        assert rare != int(found.argmax())
        drift, chance = (figures(client, f"edgec_class_drift{name}_bits")[()] for name in ("", "_by_chance"))
        assert drift > chance > 0


class TestVersions:
    def test_a_link_that_leads_elsewhere_switches_the_version(
        self,
        make_bundle: Callable[..., Path],
        start: Callable[..., TestClient],
        pixels: np.ndarray,
        tmp_path: Path,
        until: Until,
    ) -> None:
        current = tmp_path / "current"
        current.symlink_to(make_bundle("one"))
        client = start(current)
        (before,) = client.get("/v2/models/linear-host").json()["versions"]
        replace(current, make_bundle("two", tools={"python": "3.12"}))
        until(lambda: client.get("/v2/models/linear-host").json()["versions"] != [before])
        assert client.post(INFER, json=as_json(pixels)).status_code == 200
        assert figures(client, "edgec_loads_total") == {("switched",): 2}

    def test_a_damaged_version_is_refused_and_the_one_before_goes_on(
        self,
        make_bundle: Callable[..., Path],
        start: Callable[..., TestClient],
        pixels: np.ndarray,
        tmp_path: Path,
        until: Until,
    ) -> None:
        current = tmp_path / "current"
        current.symlink_to(make_bundle("one"))
        client = start(current)
        (before,) = client.get("/v2/models/linear-host").json()["versions"]
        damaged = make_bundle("two", tools={"python": "3.12"})
        (damaged / "model.onnx").write_bytes(b"forged")
        replace(current, damaged)
        until(lambda: ("refused",) in figures(client, "edgec_loads_total"))
        assert client.get("/v2/models/linear-host").json()["versions"] == [before]
        assert client.post(INFER, json=as_json(pixels)).status_code == 200

    def test_a_fault_in_loading_ends_no_watch(
        self,
        make_bundle: Callable[..., Path],
        start: Callable[..., TestClient],
        tmp_path: Path,
        until: Until,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        current = tmp_path / "current"
        current.symlink_to(make_bundle("one"))
        client = start(current)
        (before,) = client.get("/v2/models/linear-host").json()["versions"]
        with monkeypatch.context() as patch:
            patch.setattr("edgec.serve.versions.expected_mix", lambda bundle: 1 / 0)
            replace(current, make_bundle("two", tools={"python": "3.12"}))
            until(lambda: ("refused",) in figures(client, "edgec_loads_total"))
        replace(current, make_bundle("three", tools={"python": "3.13"}))
        until(lambda: client.get("/v2/models/linear-host").json()["versions"] != [before])


def replace(link: Path, to: Path) -> None:
    """Switches a link in one step, as a deployment does."""
    new = link.with_name("next")
    new.symlink_to(to)
    new.replace(link)


def test_a_server_whose_model_is_not_there_yet_is_alive_and_not_ready(tmp_path: Path, until: Until) -> None:
    from starlette.testclient import TestClient

    from edgec.serve import Service, Settings, make_app

    ended: list[bool] = []
    service = Service(Settings(bundle=tmp_path / "gone"), ended=lambda: ended.append(True))
    with TestClient(make_app(service)) as client:
        until(lambda: bool(ended))
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        assert client.post(INFER, content=b"{}").status_code == 503
    assert "no bundle at" in str(service.versions.failure)


class TestUnknown:
    def test_is_answered_where_the_server_was_started_so(
        self, make_bundle: Callable[..., Path], start: Callable[..., TestClient], linear: Any, pixels: np.ndarray
    ) -> None:
        exact = scores_of(linear, pixels)
        below = float(np.sort(exact.max(axis=1))[2:4].mean())
        bundle = make_bundle("cautious", unknown=UnknownEntry(below=below, most=0.05))
        best = [LABELS[i] for i in exact.argmax(axis=1)]
        wanted = ["unknown" if sure < below else label for sure, label in zip(exact.max(axis=1), best, strict=True)]
        assert wanted.count("unknown") == 3
        plain, asking = start(bundle), start(bundle, unknown=True)
        assert output(plain.post(INFER, json=as_json(pixels)).json(), "labels")["data"] == best
        assert output(asking.post(INFER, json=as_json(pixels)).json(), "labels")["data"] == wanted
        for image, label in zip(pixels, wanted, strict=True):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            send = {"content": file.getvalue(), "headers": {"content-type": "image/png"}}
            answer = asking.post(CLASSIFY, **send).json()
            assert (answer["label"], answer["unknown"]) == (label, label == "unknown")
            assert set(answer["scores"]) == set(LABELS)
            assert "unknown" not in plain.post(CLASSIFY, **send).json()

    def test_is_refused_at_the_start_by_a_bundle_that_has_no_threshold(self, bundle: Path) -> None:
        with pytest.raises(DataError, match="does not say when an image is unknown"):
            load_proved(bundle, Settings(bundle=bundle, unknown=True), name=None)
