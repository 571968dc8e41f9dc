"""Public networks that spandrel reads: equal to spandrel's own prediction, in tiles, from the command line."""

import importlib.util
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.restoration import RestorationTask
from tasks.super_resolution import SuperResolutionTask
from ui.cli import main
from visionkit import load
from visionkit.checkpoint import load_task, save_bundle
from visionkit.errors import CheckpointError, EnvironmentFault, UsageError
from visionkit.families.restoration.spandrel_file import OVERLAP
from visionkit.images import ImageSource

if importlib.util.find_spec("spandrel") is None:
    pytest.skip("spandrel is not installed", allow_module_level=True)

from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.SwinIR import SwinIR

NETWORKS = {
    "compact": lambda: Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=3, upscale=2),
    "esrgan": lambda: ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=2, scale=4),
    "swinir": lambda: SwinIR(
        upscale=2, img_size=16, window_size=8, depths=[2], embed_dim=12, num_heads=[2], upsampler="pixelshuffledirect"
    ),
    "deblock": lambda: Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=1),
    "gray": lambda: DnCNN(in_nc=1, out_nc=1, nc=8, nb=17, act_mode="R"),
}
SCALES = {"compact": 2, "esrgan": 4, "swinir": 2, "deblock": 1, "gray": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files as authors publish them."""
    folder = tmp_path_factory.mktemp("networks")
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        state = build().state_dict()
        torch.save({"params": state} if name == "deblock" else state, folder / f"{name}.pth")
    return folder


def photo(height=45, width=61, channels=3):
    image = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(image).resize((width, height), 3))
    return np.ascontiguousarray(large[:, :, :channels])


def expected(path, image):
    """What spandrel itself makes of an image."""
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    out = ModelLoader().load_from_file(path).eval()(planes)[0].permute(1, 2, 0)
    return (out * 255).round().numpy().astype(np.uint8)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_prediction_is_spandrels(files, name, caplog):
    path = files / f"{name}.pth"
    ours = load(f"spandrel:{path}")
    assert isinstance(ours.task, RestorationTask if SCALES[name] == 1 else SuperResolutionTask)
    image = photo(channels=1 if name == "gray" else 3)
    found, wanted = ours(image).pixels, expected(path, image)
    assert found.shape == wanted.shape == (45 * SCALES[name], 61 * SCALES[name], image.shape[2])
    assert np.abs(found.astype(int) - wanted).max() <= 1 and (found != wanted).mean() < 1e-3
    load(f"spandrel:{path}")
    (line,) = caplog.messages
    assert "permissive licenses" in line and "weights that of whoever published them" in line, "once for each file"


@pytest.mark.parametrize("name", ["compact", "deblock", "gray", "esrgan"])
def test_tiles_overlap_by_more_than_most_networks_see(files, name):
    ours = load(f"spandrel:{files / f'{name}.pth'}")
    assert ours.task.reach.halo == OVERLAP == 32, "the largest of these sees 34"
    image = photo(100, 120, 1 if name == "gray" else 3)
    whole, tiled = (ours(image, tile=tile).pixels.astype(int) for tile in (0, 2 * OVERLAP + 24))
    assert np.abs(whole - tiled).max() <= 1 and (whole != tiled).mean() < 1e-3


def test_what_is_not_to_be_tiled_is_taken_whole(files):
    task = load_task(f"spandrel:{files / 'swinir.pth'}")
    assert task.reach.halo is None and len(task.plan(ImageSource(photo(500, 600))).views) == 1
    assert len(load_task(f"spandrel:{files / 'compact.pth'}").plan(ImageSource(photo(500, 600))).views) > 1


def test_the_command_line_serves_a_file(files, tmp_path, capsys, monkeypatch):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    monkeypatch.chdir(files)
    assert main(["predict", "spandrel:compact.pth", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]) == 0
    (record,) = map(json.loads, (tmp_path / "out" / "predictions.jsonl").read_text().splitlines())
    saved = np.asarray(Image.open(tmp_path / "out" / record["files"][0]))
    assert np.abs(saved.astype(int) - expected(files / "compact.pth", photo())).max() <= 1
    capsys.readouterr()
    assert main(["predict", "spandrel:compact.pht", str(tmp_path / "photo.png")]) == 4
    error = capsys.readouterr().err.strip()
    assert error.endswith("spandrel:compact.pht: no such file; did you mean 'compact.pth'?") and "\n" not in error


def test_a_bundle_is_of_its_file(files, tmp_path):
    task = load_task(f"spandrel:{files / 'compact.pth'}")
    save_bundle(task, tmp_path / "bundle", card={})
    assert np.array_equal(
        load(tmp_path / "bundle")(photo()).pixels, load(f"spandrel:{files / 'compact.pth'}")(photo()).pixels
    )


def test_mistakes(files, tmp_path, monkeypatch):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save({"code": print}, tmp_path / "code.pth")
    for name, reason in (
        ("text.pth", "not a file of weights"),
        ("other.pth", "of no architecture that spandrel knows"),
        ("code.pth", "not a file of weights"),
        ("absent.pth", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            load_task(f"spandrel:{tmp_path / name}")
    compact = {"path": str(files / "compact.pth")}
    with pytest.raises(UsageError, match=r"gives images 2 times as large; set model\.scale to it"):
        SuperResolutionTask("spandrel", scale=3, spandrel=compact)
    with pytest.raises(UsageError, match="restoration takes one of the model's 3 channels that keeps the size"):
        RestorationTask("spandrel", spandrel=compact)
    with pytest.raises(UsageError, match=r"path: give the file of a public network"):
        SuperResolutionTask("spandrel")
    task = SuperResolutionTask("spandrel", scale=2, spandrel=compact).train()
    with pytest.raises(UsageError, match="served and evaluated, not trained"):
        task.losses(task(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), {"high_res": torch.zeros(1, 3, 16, 16)})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    with pytest.raises(EnvironmentFault, match=r"pip install 'visionkit\[spandrel\]'"):
        load_task(f"spandrel:{tmp_path / 'other.pth'}")
