"""MOTChallenge's layout as detection data, and tracks that are measured while a detector is tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from PIL import Image

from datamodules.mot import MotData
from tasks.detection.task import DetectionTask
from tests.ui.test_tracked import frame
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.predictions import Detections
from visionkit.report import write_results
from visionkit.sequences import fractions_of
from visionkit.tracking.metrics import TrackPair, measure
from visionkit.tracking.mot_files import read_mot
from visionkit.tracking.protocols import PROTOCOLS
from visionkit.tracking.track_evaluation import TrackEvaluation

SIZE = (96, 160)
INPUT = InputSpec(size=(64, 96), resize_mode="letterbox")


def truth(number: int, classes: bool) -> list[str]:
    """The red box, and the green one as a distractor."""
    lines = []
    for t in range(number):
        end = ["1,1,1", "1,8,1"] if classes else ["1,-1,-1,-1"] * 2
        lines += [f"{t + 1},1,{2 * t + 1},11,24,30,{end[0]}", f"{t + 1},2,{131 - 2 * t},56,24,30,{end[1]}"]
    return lines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, number in (("B", 5), ("A", 8)):
        folder = tmp_path / "mot" / name
        (folder / "img1").mkdir(parents=True)
        (folder / "gt").mkdir()
        for t in range(number):
            Image.fromarray(frame(t)).save(folder / "img1" / f"{t + 1:06}.png")
        (folder / "gt" / "gt.txt").write_text("\n".join(truth(number, True)))
        (folder / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength={number}\nimExt=.png\n")
    return tmp_path / "mot"


def boxes(t: int) -> Detections:
    found = [[2 * t, 10, 2 * t + 24, 40], [130 - 2 * t, 55, 154 - 2 * t, 85]]
    return Detections(("pedestrian",), SIZE, np.array(found, float), [0.9, 0.8], [0, 0])


def test_sequences_are_read_in_order_with_ids_and_distractors_as_crowds(root: Path) -> None:
    data = MotData(str(root), test_fraction=1, input=INPUT)
    samples = data.samples("test")
    assert data.classes == ("pedestrian",) and len(samples) == 13
    assert samples.sequences() == ["A"] * 8 + ["B"] * 5
    sample = samples[9]
    assert (sample.sequence, sample.frame) == ("B", 1) and Path(sample.id).name == "000002.png"
    assert sample.target["boxes"].tolist() == [[2, 10, 26, 40], [128, 55, 152, 85]]
    assert sample.target["iscrowd"].tolist() == [0, 1] and sample.target["track_ids"].tolist() == [1, 2]
    assert [each.sequence for each in samples[7:9]] == ["A", "B"]


def test_a_split_takes_whole_sequences(root: Path) -> None:
    data = MotData(str(root), val_sequences=["B"], classes=["car", "person"], input=INPUT)
    assert set(data.samples("train").sequences()) == {"A"} and set(data.samples("val").sequences()) == {"B"}
    assert data.samples("train")[0].target["labels"].tolist() == [1]
    with pytest.raises(UsageError, match="frames of one sequence are alike"):
        MotData(str(root), val_fraction=0.2)
    with pytest.raises(DataError, match=r"no sequence 'C' in"):
        MotData(str(root), val_sequences=["C"], input=INPUT).samples("val")


def test_each_sequence_is_whole_on_a_process(root: Path) -> None:
    names = MotData(str(root), test_fraction=1, input=INPUT).samples("test").sequences()
    assert [{names[k] for k in rows} for rows in fractions_of(names, 2)] == [{"A"}, {"B"}]


def test_a_missing_frame_is_named(root: Path) -> None:
    (root / "A" / "img1" / "000004.png").unlink()
    with pytest.raises(DataError, match=r"gt\.txt: frame 4 of 8 has no image"):
        MotData(str(root), test_fraction=1, input=INPUT).samples("test")


def test_tracks_are_measured_as_those_of_files(root: Path, tmp_path: Path) -> None:
    data = MotData(str(root), test_fraction=1, input=INPUT)
    data.samples("test")
    evaluation = TrackEvaluation("bytetrack", data.truth, data.protocol, data._number)
    lines = []
    for sequence, number in (("A", 8), ("B", 5)):
        for t in range(number):
            evaluation.add(sequence, t, boxes(t))
        # The distractor's box counts neither way.
        lines += [f"{t + 1},1,{2 * t + 1},11,24,30,0.9,1,-1,-1" for t in range(number)] if sequence == "A" else []
    values = evaluation.values()
    assert values["fp"] == 0 and values["fn"] == 0 and values["ids"] == 0 and values["mota"] == 1
    (tmp_path / "a.txt").write_text("\n".join(lines))
    pair = PROTOCOLS["mot16"].pairs(read_mot(root / "A" / "gt" / "gt.txt"), read_mot(tmp_path / "a.txt"))[1]
    ours, file = evaluation.sequences["A"].values(), measure(TrackPair(*vars(pair).values())).values()
    assert ours["mota"] == file["mota"] and ours["hota"] == pytest.approx(file["hota"], abs=0.05)


@pytest.mark.filterwarnings("ignore:You called")
def test_testing_a_detector_logs_tracks(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = MotData(str(root), test_fraction=1, batch_size=4, tracker="sort", input=INPUT)
    task = DetectionTask(
        "resnet18", classes=data.classes, input=INPUT, pretrained=False, fcos={"neck_channels": 8, "convs": 1}
    )
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (values,) = trainer.test(task, data, verbose=False)
    assert {"test/track_hota", "test/track_mota", "test/track_idf1", "test/box_ap"} <= values.keys()
    assert 0 <= values["test/track_fn"] <= 13
    write_results(tmp_path / "results.json", task, values)
    stated = json.loads((tmp_path / "results.json").read_text())["protocol"]
    assert stated.startswith(task.protocol)
    assert "tracks of Sort: MOT16: IoU at least 0.5; class 1" in stated and "2 sequences" in stated
    assert sum(isinstance(each, TrackEvaluation) for each in trainer.callbacks) == 1
    # Other data on the same trainer is measured by its own truth and tracker.
    other = MotData(str(root), test_fraction=1, batch_size=4, tracker="ocsort", input=INPUT)
    other.trainer = trainer
    other.setup("test")
    (evaluation,) = (each for each in trainer.callbacks if isinstance(each, TrackEvaluation))
    assert type(evaluation._tracker).__name__ == "OcSort"
    # One that somebody gave to the trainer stays.
    own = TrackEvaluation("sort", read_mot, PROTOCOLS["mot15"])
    trainer.callbacks = [own]
    other.setup("test")
    assert trainer.callbacks == [own]


def test_a_wrong_tracker_is_reported_at_once(root: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'sort'"):
        TrackEvaluation("sorte", read_mot, PROTOCOLS["mot15"])
