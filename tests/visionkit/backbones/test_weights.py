"""Public weights: from the cache without asking anybody, otherwise a quick and clear prediction."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from visionkit.backbones import Backbone
from visionkit.backbones.weights import _from_url, find_weights
from visionkit.errors import EnvironmentFault, UsageError

REPOSITORY = "timm/test_resnet.r160_in1k"


@pytest.fixture
def cached() -> Iterator[Path]:
    """The hub's cache with weights of its layout."""
    folder = Path(constants.HF_HUB_CACHE) / ("models--" + REPOSITORY.replace("/", "--"))
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    torch.manual_seed(3)
    save_file(timm.create_model("test_resnet").state_dict(), snapshot / "model.safetensors")
    yield snapshot / "model.safetensors"
    shutil.rmtree(folder)


def test_cached_weights_load_without_any_network(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # so that nothing but the cache stands in between
    assert find_weights("test_resnet") == cached
    torch.manual_seed(3)
    donor = timm.create_model("test_resnet")
    public = Backbone("test_resnet", pretrained=True, num_classes=None)
    assert torch.equal(public.model.fc.weight, donor.fc.weight)
    own = Backbone("test_resnet.r160_in1k", pretrained=True, num_classes=4, in_chans=1)
    assert own.model.fc.out_features == 4
    assert torch.equal(own.model.layer4[0].conv1.weight, donor.layer4[0].conv1.weight)
    torch.testing.assert_close(own.model.conv1[0].weight, donor.conv1[0].weight.sum(1, keepdim=True))


def test_a_broken_cached_file_is_named(cached: Path) -> None:
    from visionkit.errors import CheckpointError

    cached.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Backbone("test_resnet", pretrained=True)


def _fault(name: str) -> str:
    begin = time.monotonic()
    with pytest.raises(EnvironmentFault) as caught:
        Backbone(name, pretrained=True)
    assert time.monotonic() - begin < 2.0
    assert caught.value.status == 5
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_offline_states_which_file_which_cache_and_what_to_do() -> None:
    message = _fault("test_resnet")
    for part in (
        "model.safetensors",
        REPOSITORY,
        constants.HF_HUB_CACHE,
        "timm.create_model('test_resnet'",
        "HF_HUB_OFFLINE",
    ):
        assert part in message
    message = _fault("squeezenet1_1")
    for part in ("squeezenet1_1-b8a52dc0.pth", "checkpoints", "set pretrained to false"):
        assert part in message


def test_a_refused_connection_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the tests' proxy refuses everybody
    assert "refused" in _fault("test_resnet")


def test_a_server_that_never_responds_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        message = _fault("test_resnet")
    assert "timed out" in message or "no response" in message


def test_weights_behind_a_plain_address_are_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "weights.pth").write_bytes(b"some bytes")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{free_port}/weights.pth"
    try:
        path = _from_url("a name", address)
        with pytest.raises(EnvironmentFault, match="404"):
            _from_url("a name", address.replace("weights", "absent"))
    finally:
        server.shutdown()
        server.server_close()
    assert path.read_bytes() == b"some bytes"
    assert path.is_relative_to(tmp_path / "home")
    assert _from_url("a name", address) == path  # nobody serves it any more


def test_networks_without_public_weights_state_so() -> None:
    with pytest.raises(UsageError, match="no public weights"):
        Backbone("resnet9", pretrained=True)
