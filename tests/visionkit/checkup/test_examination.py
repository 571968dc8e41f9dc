"""Every kind of fault, planted into a clean set with a seed, is found; a clean set is silent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from datamodules.clip_data import ClipData
from datamodules.joint import JointData
from datamodules.mot import MotData
from datamodules.pair_scenes import PairSceneData
from datamodules.scene_data import SceneData
from tests.real_data import ROOT
from tests.visionkit.checkup.drawn_set import SIZE, DrawnSet, copied, write_clean
from tests.visionkit.checkup.faults import NEEDS_A_NETWORK, NEEDS_FEATURES
from tests.visionkit.checkup.object_faults import FAULTS
from visionkit.checkup.examination import examine, examine_labels
from visionkit.checkup.kinds import KINDS, SEVERITIES
from visionkit.checkup.network import NetworkFacts
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.refusals import kept_refusals
from visionkit.synthetic import ClipSettings, TargetKey
from visionkit.synthetic.clip_files import write_clips


def joint(count: int, eval_count: int) -> JointData:
    """Two heads on the same images."""
    parts = {target: SceneData(target=target, count=count, eval_count=eval_count, size=SIZE) for target in HEADS}
    return JointData(parts, together=[[*HEADS]])


HEADS: tuple[Any, ...] = ("boxes", "depth")
READERS = ("folders", "table", "objects", "people", "label_maps", "depth", "faces", "resolutions", "restored")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("drawn") / "clean")


def test_every_kind_is_planted() -> None:
    assert {*FAULTS, *NEEDS_A_NETWORK, *NEEDS_FEATURES} == {*KINDS}
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_found(kind: str, clean: Path, tmp_path: Path) -> None:
    with kept_refusals():
        data = FAULTS[kind](copied(clean, tmp_path))
    found = examine(data)
    assert kind in {each.kind for each in found.findings}, [each.to_json() for each in found.findings]


@pytest.mark.parametrize("reader", READERS)
def test_a_clean_set_is_silent(reader: str, clean: Path, tmp_path: Path) -> None:
    set_ = DrawnSet(clean) if reader not in ("resolutions", "restored") else copied(clean, tmp_path)
    found = examine(getattr(set_, reader)())
    assert not found.findings, [each.to_json() for each in found.findings]
    assert sum(found.images.values()) >= 16


@pytest.mark.parametrize("target", get_args(TargetKey))
def test_scenes_of_every_task_are_silent(target: Any) -> None:
    found = examine(SceneData(target=target, count=12, eval_count=6, size=SIZE))
    assert not found.findings, [each.to_json() for each in found.findings]


@pytest.mark.parametrize(
    "data", [ClipData, lambda **more: PairSceneData("flow", **more), joint], ids=["clip", "flow", "joint"]
)
def test_clips_pairs_and_several_heads_are_silent(data: Any) -> None:
    few = {"absent-class", "unseen-class"}  # of four clips
    found = examine(data(count=4, eval_count=2), kinds=frozenset(KINDS) - few)
    assert not found.findings and found.images["train"] >= 4, [each.to_json() for each in found.findings]


def test_a_network_that_does_not_suit(clean: Path) -> None:
    data = DrawnSet(clean).objects()
    coarse = NetworkFacts(InputSpec((256, 256), "stretch"), stride=128, anchors=np.array([[8.0, 8.0], [16.0, 8.0]]))
    assert {each.kind for each in examine(data, network=coarse).findings} == {*NEEDS_A_NETWORK}
    fine = NetworkFacts(InputSpec((64, 80), "stretch"), stride=4)
    assert not examine(data, network=fine).findings


def test_similar_features_are_reported_unless_images_are_copies(clean: Path, tmp_path: Path) -> None:
    data = FAULTS["duplicate-image"](copied(clean, tmp_path))  # 22 images of training, two of them equal

    def embed(images: Sequence[ImageSource]) -> np.ndarray:
        features = np.eye(len(images), 64)
        features[5] = features[2] + 0.01
        features[8] = features[2] - 0.01
        copies = [k for k, image in enumerate(images) if image.name.endswith("copy.jpg")]
        features[copies] = 7.0
        return features

    found = [each for each in examine(data, embed=embed).findings if each.kind == "similar-images"]
    assert [len(each.others) for each in found] == [2]
    names = list(data.files("train"))
    assert {found[0].file, *found[0].others} == {names[2], names[5], names[8]}


def test_the_quick_part_reads_no_image(clean: Path, tmp_path: Path) -> None:
    data = FAULTS["duplicate-annotation"](copied(clean, tmp_path))
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()
    assert {each.kind for each in examine_labels(data, ["train", "val"]).findings} == {"duplicate-annotation"}


def test_the_page_lists_every_kind_under_its_severity() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text("utf-8")
    rows = [line.split("|")[2:5] for line in page.splitlines() if line.startswith("| ") and line.count("|") == 5]
    for severity, column in zip(SEVERITIES, range(3), strict=True):
        listed = {name for row in rows for name in re.findall(r"`([\w-]+)`", row[column])}
        assert listed == {kind.name for kind in KINDS.values() if kind.severity == severity}


def test_frames_of_one_video_are_no_copies(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", 4, 0, ClipSettings(size=(48, 64), length=4, camera_speed=0.0, speed=0.001))
    root = next(path.parent.parent for path in (tmp_path / "clips").rglob("seqinfo.ini")).parent
    data = MotData(str(root), cache_mb=0)
    assert not [each for each in examine(data).findings if "duplicate" in each.kind or "leak" in each.kind]
