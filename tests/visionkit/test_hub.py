"""Models of the hub: published, loaded and listed against a server of its protocol on this machine."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import save

from tasks.classification import ClassificationTask
from tasks.detection import DetectionTask
from tests.hub_server import TOKEN, Hub, serving
from ui.cli import main
from visionkit import load
from visionkit.backbones import Backbone
from visionkit.backbones.hub_names import hub_backbone
from visionkit.bundle import save_bundle
from visionkit.checkpoint import load_task, save_checkpoint
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError, VisionKitError
from visionkit.hub import Repository
from visionkit.hub_publish import hub_card, publish
from visionkit.model_facts import read_facts

CARD = {
    "name": "Two things",
    "data": "Two Things 2026",
    "terms": "Apache License 2.0",
    "results": [
        {"metric": "top1", "value": 0.75, "split": "test", "protocol": "top-1"},
        {"metric": "top5", "value": None, "split": "test", "protocol": "top-5"},
    ],
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    task = ClassificationTask("test_resnet", classes=["a", "b"], input={"size": [32, 32]})
    return save_bundle(task, tmp_path_factory.mktemp("bundle") / "model", card=CARD)


@pytest.fixture
def published(hub: Hub, bundle: Path) -> Hub:
    """The bundle in a repository, put there without a client."""
    names = ("model.json", "model.safetensors", "README.md")
    hub.repositories["user/two"] = {name: (bundle / name).read_bytes() for name in names}
    return hub


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def test_what_is_pushed_loads_and_predicts_equally(hub: Hub, bundle: Path) -> None:
    address = publish(bundle, Repository.of("user/two"))
    assert address == f"{hub.address}/user/two"
    files = hub.repositories["user/two"]
    assert set(files) == {"model.json", "model.safetensors", "README.md"}
    assert files["model.safetensors"] == (bundle / "model.safetensors").read_bytes()
    expected = load(bundle)(IMAGE)
    assert load("hf-hub:user/two")(IMAGE).to_json() == expected.to_json()
    assert load(f"hf-hub:user/two@{hub.commit('user/two')}")(IMAGE).to_json() == expected.to_json()
    assert load_task("hf-hub:user/two").classes == ("a", "b")


def test_the_card_states_license_and_results_in_the_hubs_metadata(bundle: Path) -> None:
    text = hub_card(read_facts(bundle), "user/two")
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["license"], metadata["library_name"]) == ("apache-2.0", "visionkit")
    assert metadata["pipeline_tag"] == "image-classification"
    assert {"visionkit", "classification", "test_resnet"} <= set(metadata["tags"])
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert result["dataset"]["name"] == "Two Things 2026"
    assert (result["metrics"][0]["type"], result["metrics"][0]["value"]) == ("top1", 0.75)
    assert 'load("hf-hub:user/two")' in text
    assert "# Two things" in text


@pytest.mark.parametrize(
    ("terms", "license"),
    [("MIT", "mit"), ("CC BY-NC 4.0", "cc-by-nc-4.0"), ("research only", "other"), (None, "unknown")],
)
def test_terms_become_the_hubs_identifiers(bundle: Path, terms: str | None, license: str) -> None:
    facts = read_facts(bundle)
    text = hub_card({**facts, "card": {"terms": terms} if terms else {}}, "user/two")
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["license"] == license
    assert metadata.get("license_name") == (terms if license == "other" else None)


def test_a_graph_of_an_older_bundle_does_not_stay(hub: Hub, bundle: Path) -> None:
    hub.repositories["user/two"] = {"model.onnx": b"of other weights", "notes.txt": b"kept"}
    publish(bundle, Repository.of("user/two"))
    assert "model.onnx" not in hub.repositories["user/two"]
    assert hub.repositories["user/two"]["notes.txt"] == b"kept"


def test_the_terminal_publishes_predicts_and_lists(
    hub: Hub, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    assert main(["export", str(bundle), "--push", "user/two", "--private"]) == 0
    assert "hf-hub:user/two" in capsys.readouterr().out
    assert "user/two" in hub.private
    assert main(["predict", "hf-hub:user/two", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 0
    (record,) = map(json.loads, (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    assert record["prediction"] == json.loads(json.dumps(load(bundle)(IMAGE).to_json()))
    assert main(["export", "hf-hub:user/two", "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr()
    assert main(["models", "hf-hub:user"]) == 0
    assert "hf-hub:user/two" in capsys.readouterr().out
    assert main(["models", "hf-hub:user/two"]) == 0
    assert "classification" in capsys.readouterr().out


def test_without_a_network_the_cache_is_used(published: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("hf-hub:user/two")
    count = len(published.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load("hf-hub:user/two")(IMAGE).to_json() == load(bundle)(IMAGE).to_json()
    assert len(published.asked) == count


def test_offline_is_said_in_one_line_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"Connection refused.*not in the cache") as caught:
        load("hf-hub:user/two")
    assert "\n" not in str(caught.value)
    assert main(["export", "timm:absent", "--push", "user/two"]) == 5
    assert main(["models", "hf-hub:user"]) == 5


def refused(kind: type[VisionKitError], reason: str) -> None:
    with pytest.raises(kind, match=reason) as caught:
        load("hf-hub:user/two")
    assert "\n" not in str(caught.value) and "hf-hub:user/two" in str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "extra/head.pkl", "model.ckpt"])
def test_a_bundle_with_a_pickle_is_refused_before_it_is_brought(published: Hub, name: str) -> None:
    published.repositories["user/two"][name] = pickle.dumps({})
    refused(CheckpointError, "can run code")
    assert not any("/resolve/" in asked for asked in published.asked)


@pytest.mark.parametrize("name", ["../../model.json", "/etc/model.json", "a/../../b", "..\\b", "C:\\b", "C:b"])
def test_a_file_that_leads_out_of_the_repository_is_refused(published: Hub, name: str) -> None:
    published.listed = [name]
    refused(CheckpointError, "leads out of the repository")
    assert not any("/resolve/" in asked for asked in published.asked)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "README.md"])
def test_a_file_with_another_hash_is_refused_and_does_not_stay(published: Hub, tmp_path: Path, name: str) -> None:
    published.stated[name] = "1" * (64 if name.endswith("safetensors") else 40)
    refused(CheckpointError, "has the hash")
    assert not list((tmp_path / "cache").rglob(name))
    published.stated.clear()
    load("hf-hub:user/two")


def test_weights_that_are_not_those_of_the_bundle_are_refused(published: Hub, tmp_path: Path) -> None:
    other = ClassificationTask("test_resnet", classes=["a", "b"], input={"size": [32, 32]})
    weights = save_bundle(other, tmp_path / "other", card={}) / "model.safetensors"
    published.repositories["user/two"]["model.safetensors"] = weights.read_bytes()
    refused(CheckpointError, r"another hash than model\.json states")


def test_a_link_in_the_cache_that_leads_out_is_refused(published: Hub, tmp_path: Path, bundle: Path) -> None:
    load("hf-hub:user/two")
    (link,) = (tmp_path / "cache").rglob("model.json")
    link.unlink()
    link.symlink_to(bundle / "model.json")
    refused(CheckpointError, "out of the cache")


@pytest.mark.parametrize("missing", ["model.json", "model.safetensors"])
def test_what_is_no_bundle_is_refused(published: Hub, missing: str) -> None:
    del published.repositories["user/two"][missing]
    refused(CheckpointError, f"it has no {missing}")


def test_who_may_not_see_it_is_told_how_to_log_in(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    published.private.add("user/two")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    refused(UsageError, "hf auth login")
    with pytest.raises(UsageError, match="HF_TOKEN"):
        load("hf-hub:user/absent")
    with pytest.raises(UsageError, match="no such branch"):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        load("hf-hub:user/two@absent")


@pytest.mark.parametrize("name", ["two", "user/two/three", "../two", "user/..", "user/two@", "user/two@../x", "a b/c"])
def test_a_name_that_is_none_of_the_hubs_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="user/name"):
        load(f"hf-hub:{name}")


def test_a_backbone_starts_from_weights_of_the_hub(published: Hub, bundle: Path) -> None:
    task = ClassificationTask("test_resnet", classes=["x", "y", "z"], weights="hf-hub:user/two")
    own, given = task.network.backbone.state_dict(), load_task(bundle).network.backbone.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in own)
    assert task.config["weights"] is None


STATED = {
    "architecture": "test_resnet",
    "pretrained_cfg": {
        "input_size": [3, 40, 48],
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "file": "/etc/passwd",
        "license": "mit",
        "unknown": 1,
    },
}


def timm_repository(hub: Hub, name: str, stated: object) -> Backbone:
    """A network as timm publishes it."""
    torch.manual_seed(7)
    backbone = Backbone("test_resnet")
    files = {"model.safetensors": save(backbone.model.state_dict())}
    if stated is not None:
        files["config.json"] = json.dumps(stated).encode()
    hub.repositories[name] = files
    return backbone


def test_a_backbone_is_named_by_a_repository_of_timm(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = timm_repository(hub, "timm/tiny", STATED)
    task = ClassificationTask("hf-hub:timm/tiny", classes=["x", "y"])
    own, given = task.network.backbone.model.state_dict(), published.model.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in own)
    assert task.normalize.mean == pytest.approx((0.1, 0.2, 0.3)) and task.normalize.std == pytest.approx(
        (0.4, 0.5, 0.6)
    )
    assert task.input.size == (40, 48) and task.input.interpolation == "bilinear"
    assert task.network.backbone.started_from == "hf-hub:timm/tiny" and task.config["backbone"] == "test_resnet"
    save_checkpoint(task, tmp_path / "tiny.ckpt")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    hub_backbone.cache_clear()
    again = load_task(tmp_path / "tiny.ckpt")
    assert again.normalize.mean == task.normalize.mean and again.input == task.input
    with pytest.raises(EnvironmentFault, match="hf-hub:timm/tiny: cannot be brought"):
        ClassificationTask("hf-hub:timm/tiny", classes=["x", "y"])


def test_detectors_take_maps_of_a_network_of_the_hub(hub: Hub) -> None:
    timm_repository(hub, "timm/maps", STATED)
    task = DetectionTask("hf-hub:timm/maps", classes=["x"], input={"size": [64, 64]}, fcos={"neck_channels": 16})
    assert task.config["backbone"] == "test_resnet" and task.network.backbone.channels


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        (None, "has no config.json as timm writes it"),
        (["no mapping"], "names no network of timm (architecture: None)"),
        ({"architecture": "my_secret_net"}, "names no network of timm (architecture: my_secret_net)"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"mean": ["a", 1, 2]}}, "states no input that a network"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3]}}, "states no input that a network"),
        ({"architecture": "test_resnet.r160_in1k"}, "names no network of timm"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"std": [0, 1, 1]}}, "states no input that a network"),
        ({"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3, 10**9, 1]}}, "states no input"),
        ({"architecture": "resnet18"}, "of resnet18 are in it"),
    ],
)
def test_a_repository_that_describes_no_network_is_refused(hub: Hub, stated: object, reason: str) -> None:
    hub_backbone.cache_clear()
    timm_repository(hub, "timm/odd", stated)
    with pytest.raises(CheckpointError, match=re.escape(reason)):
        ClassificationTask("hf-hub:timm/odd", classes=["x", "y"])
