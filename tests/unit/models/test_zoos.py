"""Teachers of timm and transformers, by name or from a folder; both are small nets with random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.core.inputs import InputSpec
from edgec.models.config import ModelConfig
from edgec.models.load import load_classifier
from support.refusal import refusal

LABELS = ("cat", "dog", "eel")
SPEC = InputSpec(height=32, width=32)
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAME = "lcnet_035"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the libraries


def config(name: str, **fields: Any) -> ModelConfig:
    return ModelConfig.model_validate({"name": name, "input": SPEC, **fields})


def answer(settings: ModelConfig) -> torch.Tensor:
    with torch.inference_mode():
        return load_classifier(settings, LABELS).module(IMAGES)


def own(net: Any) -> torch.Tensor:
    with torch.inference_mode():
        return net.eval()(IMAGES)


class TestTimm:
    @pytest.fixture(scope="class")
    def timm(self) -> Any:
        return pytest.importorskip("timm", reason="timm is not installed: pip install 'edgec[timm]'")

    @pytest.fixture
    def net(self, timm: Any) -> Any:
        torch.manual_seed(0)
        return timm.create_model(NAME, num_classes=3)

    @pytest.mark.parametrize("name", [NAME, f"{NAME}.untrained"])
    def test_a_name_with_or_without_a_tag_makes_the_net(self, net: Any, tmp_path: Path, name: str) -> None:
        torch.save(net.state_dict(), tmp_path / "w.pt")
        assert torch.equal(answer(config(f"timm:{name}", weights=tmp_path / "w.pt")), own(net))

    def test_arguments_reach_timms_own_function(self, timm: Any, tmp_path: Path) -> None:
        torch.manual_seed(0)
        net = timm.create_model(NAME, num_classes=3, in_chans=1)
        torch.save(net.state_dict(), tmp_path / "w.pt")
        grey = InputSpec(height=32, width=32, channels=1, mean=(0.5,), std=(0.5,))
        settings = config(f"timm:{NAME}", weights=tmp_path / "w.pt", arguments={"in_chans": 1}, input=grey)
        assert load_classifier(settings, LABELS).input.channels == 1

    def test_a_folder_as_timm_pushes_it_needs_no_more(self, net: Any, tmp_path: Path) -> None:
        """`config.json` beside `model.safetensors`, as `timm.models.save_for_hf` leaves them."""
        folder = tmp_path / "bird"
        folder.mkdir()
        described = {"architecture": NAME, "num_classes": 3, "model_args": {}, "pretrained_cfg": {"crop_pct": 1.0}}
        (folder / "config.json").write_text(json.dumps(described))
        save_file(net.state_dict(), folder / "model.safetensors")
        assert torch.equal(answer(config(f"timm:{folder}")), own(net))

    def test_arguments_in_a_folders_config_reach_the_net(self, timm: Any, tmp_path: Path) -> None:
        torch.manual_seed(0)
        net = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=1)
        described = {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 32, "depth": 1}}
        (tmp_path / "config.json").write_text(json.dumps(described))
        save_file(net.state_dict(), tmp_path / "model.safetensors")
        assert torch.equal(answer(config(f"timm:{tmp_path}")), own(net))

    def test_an_unknown_name_names_the_nearest(self, timm: Any) -> None:
        error = refusal(lambda: answer(config("timm:lcnet_053", weights="w.pt")), ConfigError)
        assert str(error) == "unknown timm model 'lcnet_053'"
        assert "'lcnet_0" in str(error.hint)

    def test_a_folder_without_weights_says_so(self, timm: Any, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": NAME}))
        error = refusal(lambda: answer(config(f"timm:{tmp_path}")), ConfigError)
        assert str(error) == f"model 'timm:{tmp_path}' has no weights: '{tmp_path}' holds none"

    @pytest.mark.parametrize("text", ["{", "[1]"])
    def test_a_config_that_cannot_be_read_is_named(self, timm: Any, tmp_path: Path, text: str) -> None:
        (tmp_path / "config.json").write_text(text)
        (tmp_path / "model.safetensors").write_bytes(b"x")
        assert "config.json" in str(refusal(lambda: answer(config(f"timm:{tmp_path}")), DataError))


class TestTransformers:
    @pytest.fixture(scope="class")
    def transformers(self) -> Any:
        reason = "transformers is not installed: pip install 'edgec[transformers]'"
        return pytest.importorskip("transformers", reason=reason)

    @pytest.fixture
    def saved(self, transformers: Any, tmp_path: Path) -> tuple[Path, Any]:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        described = transformers.ViTConfig(image_size=32, patch_size=16, num_labels=3, **sizes)
        net = transformers.ViTForImageClassification(described)
        net.save_pretrained(tmp_path / "saved")
        return tmp_path / "saved", net

    def test_a_folder_gives_the_logits_out_of_its_model_output(self, saved: tuple[Path, Any]) -> None:
        folder, net = saved
        assert torch.equal(answer(config(f"transformers:{folder}")), own(net)["logits"])

    def test_a_checkpoint_has_the_names_that_the_library_saves_or_those_of_its_layers(
        self, saved: tuple[Path, Any], tmp_path: Path
    ) -> None:
        """transformers 5 saves a ViT under the names that its layers had in version 4."""
        folder, net = saved
        torch.save(net.state_dict(), tmp_path / "own.pt")
        for weights in (tmp_path / "own.pt", folder / "model.safetensors"):
            assert torch.equal(answer(config(f"transformers:{folder}", weights=weights)), own(net)["logits"])

    @pytest.mark.parametrize(("change", "said"), [("lacks", "lacks 'classifier.bias'"), ("holds", "holds 'more'")])
    def test_weights_that_do_not_fit_are_told_by_name(self, saved: tuple[Path, Any], change: str, said: str) -> None:
        path = saved[0] / "model.safetensors"
        state = load_file(path)
        less = {name: tensor for name, tensor in state.items() if name != "classifier.bias"}
        save_file(less if change == "lacks" else {**state, "more": torch.ones(1)}, path)
        error = refusal(lambda: answer(config(f"transformers:{saved[0]}")), DataError)
        assert str(error) == f"weights '{path}' do not fit the model: the file {said}" + (
            ", which the model has not" if change == "holds" else ""
        )

    def test_weights_of_another_number_of_classes_name_the_heads(self, saved: tuple[Path, Any], tmp_path: Path) -> None:
        state = load_file(saved[0] / "model.safetensors")
        heads = {"classifier.weight": torch.ones(5, 16), "classifier.bias": torch.ones(5)}
        save_file({**state, **heads}, tmp_path / "five.safetensors")
        settings = config(f"transformers:{saved[0]}", weights=tmp_path / "five.safetensors")
        assert "the file's head has 5 outputs, the model's 3" in str(refusal(lambda: answer(settings), DataError).hint)

    def test_the_head_of_a_folder_with_other_classes_is_told(self, saved: tuple[Path, Any]) -> None:
        settings = config(f"transformers:{saved[0]}")
        error = refusal(lambda: load_classifier(settings, ("a", "b")), ConfigError)
        assert str(error).endswith("has no output for 2 labels; for two images it gives logits [2, 3]")

    def test_a_folder_of_another_kind_of_net_is_named(self, transformers: Any, tmp_path: Path) -> None:
        transformers.BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path)
        save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
        error = refusal(lambda: answer(config(f"transformers:{tmp_path}")), DataError)
        assert f"model 'transformers:{tmp_path}': " in str(error)
        assert "image classifier" in str(error.hint)

    def test_a_name_of_the_hub_is_not_fetched(self, transformers: Any) -> None:
        error = refusal(lambda: answer(config("transformers:google/vit-base", weights="w.pt")), DataError)
        assert str(error).endswith("'google/vit-base' is no folder here, and edgec downloads nothing")
        assert "--model transformers:FOLDER" in str(error.hint)


@pytest.mark.parametrize("zoo", ["timm", "transformers"])
def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, zoo: str) -> None:
    monkeypatch.setitem(sys.modules, zoo, None)
    error = refusal(lambda: answer(config(f"{zoo}:net", weights="w.pt")), MissingDependencyError)
    assert f"the model needs the package '{zoo}'" in str(error)
    assert error.hint == f"pip install 'edgec[{zoo}]'"
