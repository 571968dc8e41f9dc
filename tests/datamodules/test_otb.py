"""OTB's layout as frames with boxes, and visual trackers that are measured on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.otb import OtbData
from tests.real_data import real_data
from tests.visionkit.following.drawn_clips import drawn, moving
from visionkit.errors import DataError, UsageError
from visionkit.following.otb_files import images_of
from visionkit.following.visual_tracker import make_visual_tracker
from visionkit.geometry import InputSpec

INPUT = InputSpec(size=(48, 64), resize_mode="letterbox")
COUNT = 4


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, first in (("B", 1), ("A", 3)):
        folder = tmp_path / name
        (folder / "img").mkdir(parents=True)
        lines = []
        for t in range(COUNT):
            x1, y1, x2, y2 = moving(t)
            Image.fromarray(drawn(t, (x1, y1, x2, y2))).save(folder / "img" / f"{first + t:04}.png")
            lines.append(f"{x1 + 1}\t{y1 + 1}\t{x2 - x1}\t{y2 - y1}")
        (folder / "groundtruth_rect.txt").write_text("\n".join(lines))
    return tmp_path


def test_frames_are_read_in_order_with_boxes_in_file_pixels(root: Path) -> None:
    data = OtbData(str(root), test_fraction=1, input=INPUT)
    samples = data.samples("test")
    assert data.classes == ("object",) and samples.sequences() == ["A"] * COUNT + ["B"] * COUNT
    sample = samples[COUNT + 1]
    assert (sample.sequence, sample.frame) == ("B", 1)
    assert np.allclose(sample.target["boxes"], [moving(1)]) and sample.target["track_ids"].tolist() == [1]


def test_frames_are_in_the_order_of_their_numbers(root: Path) -> None:
    images = root / "B" / "img"
    for t in reversed(range(COUNT)):
        (images / f"{t + 1:04}.png").rename(images / f"frame{8 + t}.png")  # 8, 9, 10, 11: another order as text
    samples = OtbData(str(root / "B"), input=INPUT).samples("train")
    assert [each.target["boxes"].tolist() for each in samples] == [[list(moving(t))] for t in range(COUNT)]
    assert [path.name for path in images_of(images)] == [f"frame{8 + t}.png" for t in range(COUNT)]


def test_a_split_takes_whole_sequences(root: Path) -> None:
    data = OtbData(str(root), test_sequences=["B"], input=INPUT)
    assert set(data.samples("train").sequences()) == {"A"} and set(data.samples("test").sequences()) == {"B"}
    assert [each.name for each in data.sequences("test")] == ["B"]
    with pytest.raises(DataError, match=r"no sequence 'C' in"):
        OtbData(str(root), val_sequences=["C"], input=INPUT).samples("val")
    with pytest.raises(UsageError, match="frames of one sequence are alike"):
        OtbData(str(root), val_fraction=0.2)
    with pytest.raises(UsageError, match="names no classes"):
        OtbData(str(root), classes=["a", "b"])


def test_objects_of_one_sequence_share_its_frames(root: Path) -> None:
    (root / "B" / "groundtruth_rect.txt").rename(root / "B" / "groundtruth_rect.1.txt")
    (root / "B" / "groundtruth_rect.2.txt").write_text("1 1 9 9\n1 1 0 0\n1 1 9 9\n1 1 9 9\n")
    data = OtbData(str(root / "B"), input=INPUT)
    samples = data.samples("train")
    assert [len(each.target["boxes"]) for each in samples] == [2, 1, 2, 2]
    assert samples[0].target["track_ids"].tolist() == [1, 2]
    assert [each.name for each in data.sequences()] == ["B.1", "B.2"]


def test_a_visual_tracker_is_measured_on_each_sequence(root: Path) -> None:
    parts = OtbData(str(root)).one_pass(make_visual_tracker("kcf"))
    assert list(parts) == ["A", "B"] and all(part.values()["precision_20"] == 1 for part in parts.values())
    assert parts["A"].overlaps.tolist() == parts["B"].overlaps.tolist()  # it begins again


def test_a_published_sequence_is_read() -> None:
    data = OtbData(str(real_data("video/otb_motorrolling")), input=INPUT)
    samples = data.samples("train")
    assert len(samples) == 164 and samples[0].target["boxes"].tolist() == [[116, 67, 238, 192]]
