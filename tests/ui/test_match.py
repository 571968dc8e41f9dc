"""`visionkit match`: two photographs, with and without a model."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tasks.patch_matching import PatchMatchingTask
from tests.contracts.cases import build
from ui.cli import main
from visionkit.bundle import save_bundle


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Two views of a photograph, and models with random weights."""
    folder = tmp_path_factory.mktemp("match")
    first = np.ascontiguousarray(data.astronaut()[::2, ::2])
    second = cv2.warpAffine(first, np.float32([[0.98, -0.05, 8], [0.05, 0.98, -6]]), first.shape[1::-1])
    for name, pixels in (("first", first), ("second", second)):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    small = {"filters": [8, 8, 16], "hidden": 8, "compare": "cosine"}
    save_bundle(PatchMatchingTask("siamese", siamese=small), folder / "siamese", card={})
    save_bundle(PatchMatchingTask("two_channel", two_channel={"filters": [4, 4, 4]}), folder / "two_channel", card={})
    save_bundle(build("classification"), folder / "classifier", card={})
    return folder


def run(home, out, *options):
    return main(["match", str(home / "first.png"), str(home / "second.png"), "--out", str(out), *map(str, options)])


@pytest.mark.parametrize("model_kind", ["homography", "fundamental"])
def test_two_views_are_matched(home, tmp_path, capsys, model_kind):
    assert run(home, tmp_path / "out", "--model-kind", model_kind) == 0
    record = json.loads((tmp_path / "out" / "matches.json").read_text())
    assert record["inliers"] > 100 and record["descriptor"] == "sift" and record["model_kind"] == model_kind
    assert f"{record['inliers']} of them inliers" in capsys.readouterr().out
    if model_kind == "homography":
        assert np.array(record["matrix"])[:2, :2] == pytest.approx(np.array([[0.98, -0.05], [0.05, 0.98]]), abs=0.02)
    assert Image.open(tmp_path / "out" / "matches.png").size == (512, 256)


def test_a_siamese_network_describes_the_keypoints(home, tmp_path):
    """Even random convolutions find a rotation of a few degrees: points come out where they are."""
    assert run(home, tmp_path, "--model", home / "siamese", "--ratio", "1", "--outliers") == 0
    record = json.loads((tmp_path / "matches.json").read_text())
    assert record["descriptor"].endswith("siamese") and record["inliers"] > 30
    assert np.array(record["matrix"])[:2, :2] == pytest.approx(np.array([[0.98, -0.05], [0.05, 0.98]]), abs=0.05)


def test_mistakes_are_one_line(home, tmp_path, capsys):
    for options, status, message in (
        (["--model", home / "two_channel"], 2, "two_channel compares pairs and describes no patch by itself"),
        (["--model", home / "classifier"], 2, "a model of classification; give one of patch_matching"),
        (["--model", home / "nowhere"], 4, "nowhere"),
        (["--model-kind", "homgraphy"], 2, "did you mean 'homography'"),
    ):
        assert run(home, tmp_path / "none", *options) == status
        assert message in (error := capsys.readouterr().err) and len(error.splitlines()) == 1
    assert main(["match", str(home / "first.png"), str(home / "scond.png"), "--out", str(tmp_path)]) == 3
    assert "did you mean 'second.png'" in capsys.readouterr().err
    assert run(home, tmp_path / "twice") == 0 and run(home, tmp_path / "twice") == 2
    assert "already exists" in capsys.readouterr().err
