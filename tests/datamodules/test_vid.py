"""ImageNet VID's layout: lists, coordinates, track ids, flags, speeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.vid import VidData
from datamodules.vid_classes import CLASSES
from visionkit.errors import DataError, UsageError
from visionkit.families.detection.motion_speed import motion_ious
from visionkit.geometry import InputSpec
from visionkit.synthetic import OBJECT_CLASSES, ClipSettings, make_clip
from visionkit.synthetic.clip_files import write_clips

CLIP = ClipSettings(size=(48, 64), length=5, objects=(5, 6), speed=0.08)
INPUT = InputSpec(size=(48, 64), resize_mode="stretch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_clips(tmp_path / "clips", 4, seed=1, settings=CLIP)
    return tmp_path / "clips" / "vid"


def test_drawn_clips_are_read_as_they_were_drawn(root: Path) -> None:
    data = VidData(str(root), input=INPUT)
    samples = data.samples("train")
    assert samples.sequences() == ["train_0000"] * 5 + ["train_0001"] * 5
    clip = make_clip(1, 1, CLIP)
    for number in range(5):
        sample, frame = samples[5 + number], clip.frame(number)
        assert (sample.sequence, sample.frame) == ("train_0001", number)
        assert sample.target["boxes"].tolist() == [each.box.tolist() for each in frame.objects]
        assert sample.target["track_ids"].tolist() == [each.id - 1 for each in frame.objects]
        names = [data.classes[label] for label in sample.target["labels"]]
        assert names == [OBJECT_CLASSES[each.label] for each in frame.objects]
        assert "file_motion" not in sample.target
    every = VidData(str(root), classes=OBJECT_CLASSES, input=INPUT)
    assert len(every.samples("val")) == len(every.samples("test")) == 5


def test_validation_states_how_fast_objects_move(root: Path) -> None:
    samples = VidData(str(root), input=INPUT).samples("val")
    counts = [len(each.target["boxes"]) for each in samples]
    ids, boxes, found = (
        np.concatenate([each.target[key] for each in samples]) for key in ("track_ids", "boxes", "file_motion")
    )
    np.testing.assert_allclose(found, motion_ious(np.repeat(np.arange(5), counts), ids, boxes))
    # A list of every other frame measures those alone, and their speed by all of them.
    path = root / "ImageSets/VID/val.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    some = VidData(str(root), input=INPUT).samples("val")
    assert [each.frame for each in some] == [0, 2, 4]
    np.testing.assert_allclose(some[1].target["file_motion"], samples[2].target["file_motion"])


def test_lists_of_the_benchmark_are_understood(root: Path) -> None:
    lists, home = root / "ImageSets/VID", root / "Annotations/VID/train"
    for folder in ("Annotations", "Data"):  # training snippets lie in packages
        (root / folder / "VID/train/package").mkdir()
        shutil.move(root / folder / "VID/train/train_0001", root / folder / "VID/train/package/train_0001")
    (lists / "train.txt").unlink()
    (lists / "train_1.txt").write_text("package/train_0001 1\ntrain_0000 -1\n")
    (lists / "train_2.txt").write_text("package/train_0001 1\n")
    names = VidData(str(root), input=INPUT).samples("train").sequences()
    assert set(names) == {"package/train_0001"} and len(names) == 5
    (lists / "frames.txt").write_text("train/package/train_0001 1 0 5\ntrain/package/train_0001 1 3 5\n")
    for name in ("train_1.txt", "train_2.txt"):
        (lists / name).unlink()
    assert len(VidData(str(root), input=INPUT).samples("train")) == 10  # without a list, all of the folder
    shutil.copytree(home, root / "Annotations/VID/frames")
    shutil.copytree(root / "Data/VID/train", root / "Data/VID/frames")
    (lists / "frames.txt").write_text("package/train_0001 1 0 5\npackage/train_0001 1 3 5\n")
    assert [each.frame for each in VidData(str(root), train="frames", input=INPUT).samples("train")] == [0, 3]


def test_few_frames_of_a_snippet_are_evenly_spread(root: Path) -> None:
    samples = VidData(str(root), frames_per_snippet=2, input=INPUT).samples("train")
    assert [each.frame for each in samples] == [1, 3, 1, 3]


def test_classes_of_the_benchmark_have_names(root: Path) -> None:
    for path in root.rglob("*.xml"):
        text = path.read_text()
        for name in OBJECT_CLASSES:
            text = text.replace(f"<name>{name}<", "<name>n02129165<")
        path.write_text(text)
    data = VidData(str(root), input=INPUT)
    assert data.classes == tuple(CLASSES.values()) and len(data.classes) == 30
    assert data.classes[data.samples("train")[0].target["labels"][0]] == "lion"


def test_flags_can_be_ignored(root: Path) -> None:
    path = root / "Annotations/VID/val/val_0000/000001.xml"
    path.write_text(path.read_text().replace("<generated>0<", "<generated>1<", 1))
    plain, some = (VidData(str(root), ignore=ignore, input=INPUT).samples("val") for ignore in ((), ("generated",)))
    assert plain[1].target["iscrowd"].sum() == 0 and some[1].target["iscrowd"].tolist()[0] == 1
    marked = sum(each.read_text().count("<occluded>1<") for each in path.parent.glob("*.xml"))
    hidden = VidData(str(root), ignore=["occluded"], input=INPUT).samples("val")
    assert marked and sum(int(each.target["iscrowd"].sum()) for each in hidden) == marked


def _broken(root: Path, what: str) -> None:
    path = root / "Annotations/VID/train/train_0000/000002.xml"
    if what == "image":
        (root / "Data/VID/train/train_0000/000002.JPEG").unlink()
    elif what == "xml":
        path.unlink()
    elif what == "trackid":
        path.write_text(path.read_text().replace("trackid", "track"))
    elif what == "twice":
        path.write_text(path.read_text().replace("<trackid>1<", "<trackid>0<").replace("<trackid>2<", "<trackid>0<"))
    elif what == "list":
        (root / "ImageSets/VID/train.txt").write_text("nowhere 1\n")
    elif what == "empty":
        (root / "ImageSets/VID/train.txt").write_text("train_0000 1\n")
        for folder in ("Annotations", "Data"):
            shutil.rmtree(root / folder / "VID/train/train_0000")
            (root / folder / "VID/train/train_0000").mkdir()
    else:
        shutil.rmtree(root / "Annotations")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("image", "no image of frame 2"),
        ("xml", "no annotation of frame 2"),
        ("trackid", "no trackid, as objects of ImageNet VID have"),
        ("twice", "duplicate trackid"),
        ("list", r"train\.txt line 1: no snippet nowhere"),
        ("empty", "train_0000: a snippet without a frame"),
        ("folder", "no folder Annotations/VID"),
    ],
)
def test_what_is_broken_is_named(root: Path, what: str, message: str) -> None:
    _broken(root, what)
    with pytest.raises(DataError, match=message):
        VidData(str(root), input=INPUT).samples("train")


def test_wrong_arguments_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'generated'"):
        VidData(str(root), ignore=["generate"])
    with pytest.raises(UsageError, match="frames of one sequence are alike"):
        VidData(str(root), val_fraction=0.3)
    with pytest.raises(UsageError, match="boxes alone"):
        VidData(str(root), target="masks")
