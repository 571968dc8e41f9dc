"""DAVIS's layout as semantic segmentation data: lists of both years, sequences in order, masks of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.davis import DavisData, davis_sequences
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.sequences import fractions_of

INPUT = InputSpec(size=(32, 32), resize_mode="stretch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    labels = {"bear": [0, 255, 0], "dogs": [1, 3, 255]}
    for name, values in labels.items():
        for kind in ("JPEGImages", "Annotations"):
            (tmp_path / kind / "480p" / name).mkdir(parents=True)
        for t in range(3):
            Image.new("RGB", (6, 4)).save(tmp_path / "JPEGImages" / "480p" / name / f"{t:05}.jpg")
            mask = np.zeros((4, 6), np.uint8)
            mask[:, :3] = values
            Image.fromarray(mask).save(tmp_path / "Annotations" / "480p" / name / f"{t:05}.png")
    for year in ("480p", "2017"):
        (tmp_path / "ImageSets" / year).mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "train.txt").write_text("dogs\n")
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("bear\n")
    lines = [f"/JPEGImages/480p/bear/{t:05}.jpg /Annotations/480p/bear/{t:05}.png\n" for t in range(3)]
    (tmp_path / "ImageSets" / "480p" / "train.txt").write_text("".join(lines))
    return tmp_path


def test_whole_sequences_are_read_in_order_as_object_and_background(root: Path) -> None:
    data = DavisData(str(root), input=INPUT)
    samples = data.samples("train")
    assert data.classes == ("background", "object") and samples.sequences() == ["dogs"] * 3
    assert (samples[2].sequence, samples[2].frame) == ("dogs", 2) and Path(samples[2].id).name == "00002.jpg"
    assert samples[0].target["label_map"][0].tolist() == [1, 1, 255, 0, 0, 0]  # 255 beside objects is not known
    assert data.samples("val")[1].target["label_map"][0].tolist() == [0, 1, 0, 0, 0, 0]  # alone it is the object
    assert set(data.samples("test").sequences()) == {"bear"}  # without a list of its own
    both = DavisData(str(root), train_sequences=["bear", "dogs"], input=INPUT).samples("train")
    assert [len(each) for each in fractions_of(both.sequences(), 2)] == [3, 3]


def test_lists_of_2016_name_frames(root: Path) -> None:
    assert set(DavisData(str(root), year="480p", input=INPUT).samples("train").sequences()) == {"bear"}


def test_what_is_missing_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"2016/train\.txt: no such list.*train_sequences; data.year may be 2017, 480p"):
        DavisData(str(root), year="2016", input=INPUT).samples("train")
    with pytest.raises(DataError, match=r"no sequence 'baer' .* did you mean 'bear'"):
        DavisData(str(root), val_sequences=["baer"], input=INPUT).samples("val")
    with pytest.raises(DataError, match="there are 480p"):
        davis_sequences(root, resolution="1080p")
    with pytest.raises(UsageError, match="those of DAVIS are background, object"):
        DavisData(str(root), classes=["bear"], input=INPUT)
    (root / "Annotations" / "480p" / "dogs" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"dogs: 1 frames have no mask: 00001\.jpg"):
        davis_sequences(root)


def test_car_shadow() -> None:
    (sequence,) = davis_sequences(real_data("video/davis_car_shadow"))
    assert sequence.name == "car-shadow" and len(sequence.images) == len(sequence.masks) == 40
