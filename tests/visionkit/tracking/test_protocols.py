"""Files of tracks, and what counts in a benchmark, as the field's own tool has it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.real_data import real_data
from tests.visionkit.tracking.references import random_tracks, reference, rows
from visionkit.errors import DataError
from visionkit.tracking.metrics import TrackPair, measure
from visionkit.tracking.mot_files import has_classes, mot_lines, read_mot, read_tracks, write_mot
from visionkit.tracking.protocols import PROTOCOLS
from visionkit.tracking.rows import TrackRows
from visionkit.tracking.seqinfo import read_info

TUD = "video/mot15_tud"
KNOWN = {
    "TUD-Campus": {
        "idf1": 55.8,
        "idp": 73.0,
        "idr": 45.1,
        "recall": 58.2,
        "precision": 94.1,
        "mota": 52.6,
        "motp": 72.3,
    }
    | {"mt": 1, "pt": 6, "ml": 1, "fp": 13, "fn": 150, "ids": 7, "fm": 7},
    "TUD-Stadtmitte": {
        **{"idf1": 64.5, "idp": 82.0, "idr": 53.1, "recall": 60.9, "precision": 94.0, "mota": 56.4, "motp": 65.4},
        **{"mt": 5, "pt": 4, "ml": 1, "fp": 45, "fn": 452, "ids": 7, "fm": 6},
    },
}


@pytest.mark.parametrize("convention", ["trackeval", "motmetrics"])
@pytest.mark.parametrize("name", KNOWN)
def test_known_numbers(name: str, convention) -> None:
    folder = real_data(TUD) / name
    truth, found = read_mot(folder / "gt.txt"), read_mot(folder / "test.txt")
    (pair,) = PROTOCOLS["mot15"].pairs(truth, found).values()
    values = measure(pair, convention).values()
    for key, known in KNOWN[name].items():
        assert (values[key] if isinstance(known, int) else round(100 * values[key], 1)) == known, key


def labeled(seed: int, benchmark: str) -> tuple[TrackRows, TrackRows]:
    rng = np.random.default_rng(seed)
    truth, predicted = random_tracks(seed)
    labels = rng.choice([1, 1, 1, 2, 3, 6, 7, 8, 11, 12], len(truth))
    flags = (rng.random(len(truth)) > 0.1).astype(float)
    return (
        TrackRows(truth.frames, truth.ids, truth.boxes, flags, labels, rng.random(len(truth)), benchmark),
        predicted,
    )


def by_trackeval(truth: TrackRows, predicted: TrackRows, benchmark: str) -> dict:
    with reference("trackeval"):
        from trackeval.datasets import MotChallenge2DBox
    dataset = object.__new__(MotChallenge2DBox)
    dataset.benchmark, dataset.do_preproc = benchmark.upper(), True
    names = "pedestrian person_on_vehicle car bicycle motorbike non_mot_vehicle static_person distractor occluder"
    names += " occluder_on_ground occluder_full reflection crowd"
    dataset.class_name_to_class_id = {name: number for number, name in enumerate(names.split(), start=1)}
    dataset.valid_class_numbers = list(dataset.class_name_to_class_id.values())
    last = int(max(truth.frames.max(initial=0), predicted.frames.max(initial=0)))
    mine, theirs = list(truth.each_frame(last)), list(predicted.each_frame(last))
    boxes = [predicted.boxes[some] for some in theirs]
    raw = {
        "gt_ids": [truth.ids[some] for some in mine],
        "gt_dets": [truth.boxes[some] for some in mine],
        "gt_classes": [truth.classes[some] for some in mine],
        "gt_extras": [{"zero_marked": truth.scores[some]} for some in mine],
        "tracker_ids": [predicted.ids[some] for some in theirs],
        "tracker_dets": boxes,
        "tracker_classes": [np.ones(len(some), int) for some in theirs],
        "tracker_confidences": [predicted.scores[some] for some in theirs],
        "similarity_scores": [
            dataset._calculate_box_ious(truth.boxes[a], predicted.boxes[b], box_format="x0y0x1y1")
            for a, b in zip(mine, theirs, strict=True)
        ],
        "num_timesteps": last,
        "seq": "random",
    }
    return dataset.get_preprocessed_seq_data(raw, "pedestrian")


@pytest.mark.parametrize("benchmark", ["mot15", "mot16", "mot17", "mot20"])
@pytest.mark.parametrize("seed", range(5))
def test_what_counts_is_what_the_tool_keeps(seed: int, benchmark: str) -> None:
    truth, predicted = labeled(seed, benchmark)
    theirs = by_trackeval(truth, predicted, benchmark)
    (ours,) = PROTOCOLS[benchmark].pairs(truth, predicted).values()
    assert (ours.true_boxes, ours.predicted_boxes) == (theirs["num_gt_dets"], theirs["num_tracker_dets"])
    for a, b in zip(ours.overlaps, theirs["similarity_scores"], strict=True):
        assert np.allclose(a, b, atol=1e-12)


def test_hidden_objects_and_regions_count_neither_way() -> None:
    truth = TrackRows(
        np.array([1, 1, 1]),
        np.array([1, 2, 3]),
        np.array([[0, 0, 10, 10], [20, 0, 30, 10], [50, 0, 100, 50]]),
        classes=np.array([1, 1, 13]),
        visibility=np.array([1.0, 0.1, 1.0]),
    )
    found = rows([(1, k, *box) for k, box in enumerate([(0, 0, 10, 10), (20, 0, 30, 10), (60, 0, 70, 9)])], "found")
    plain = PROTOCOLS["mot16"].pairs(truth, found)[1]
    assert (plain.true_boxes, plain.predicted_boxes) == (2, 3)
    seen = PROTOCOLS["mot16"].with_options(min_visibility=0.3).pairs(truth, found)[1]
    assert (seen.true_boxes, seen.predicted_boxes) == (1, 2)
    both = PROTOCOLS["mot16"].with_options(regions=[13], min_visibility=0.3).pairs(truth, found)[1]
    assert (both.true_boxes, both.predicted_boxes) == (1, 1)


def test_classes_count_each_by_itself() -> None:
    """A car that is tracked as a person is a miss of one and a false positive of the other."""
    truth = TrackRows(np.array([1, 1]), np.array([1, 2]), np.array([[0, 0, 9, 9], [20, 0, 30, 9]]), classes=[1, 3])
    found = TrackRows(truth.frames, truth.ids, truth.boxes, classes=[1, 1])
    pairs = PROTOCOLS["mot16"].with_options([1, 3]).pairs(truth, found)
    assert {label: (pair.true_boxes, pair.predicted_boxes) for label, pair in pairs.items()} == {1: (1, 2), 3: (1, 0)}
    assert PROTOCOLS["mot16"].other_classes(TrackRows(truth.frames, truth.ids, truth.boxes, classes=[1, 3])) == 1


def test_what_is_written_is_read(tmp_path) -> None:
    _, tracks = random_tracks(6)
    tracks = TrackRows(
        tracks.frames, tracks.ids, tracks.boxes.round(2), np.full(len(tracks), 0.25), np.ones(len(tracks))
    )
    write_mot(tmp_path / "a.txt", tracks)
    again = read_tracks(tmp_path / "a.txt")
    assert np.array_equal(again.frames, tracks.frames) and np.array_equal(again.ids, tracks.ids)
    assert np.allclose(again.boxes, tracks.boxes, atol=1e-6) and (again.classes == 1).all()
    assert next(iter(mot_lines(rows([(1, 2, 0, 0, 10, 20)], "a")))).startswith("1,2,1.00,1.00,10.00,20.00,1.0000,")


def test_blanks_and_columns_are_read_and_ground_truth_of_2016_is_known(tmp_path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,11,21,10,10,1,1,0.5\n2,1,11,21,10,10,0,7,1\n")
    (tmp_path / "t.txt").write_text("1 1 11 21 10 10\n\n2 1 11 21 10 10\n")
    truth = read_mot(tmp_path / "gt.txt")
    assert has_classes(tmp_path / "gt.txt") and not has_classes(tmp_path / "t.txt")
    assert (
        truth.classes.tolist() == [1, 7] and truth.visibility.tolist() == [0.5, 1] and truth.scores.tolist() == [1, 0]
    )
    assert np.array_equal(read_mot(tmp_path / "t.txt").boxes, truth.boxes)
    assert truth.boxes[0].tolist() == [10, 20, 20, 30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,2,3\n", r"line 1: '1,1,2,3' is not frame,id,left"),
        ("1,1,1,1,5,5,1\n2,1,1,1,5,five,1\n", r"line 2: .* is not frame"),
        ("1,1,1,1,5,5,1\n1,2,1,1,5,5\n", r"line 2: 6 columns where the first line has 7"),
        ("1,1,1,1,5,nan,1\n", r"line 1: a number that is not finite"),
        ("0,1,1,1,5,5,1\n", r"line 1: frame 0, id 1; allowed are whole numbers"),
        ("99000000000,1,1,1,5,5,1\n", r"line 1: frame 99000000000"),
        ("1,1.5,1,1,5,5,1\n", r"line 1: frame 1, id 1.5"),
        ("1,1,1,1,-5,5,1\n", r"line 1: a box of width -5"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text: str, message: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_mot(tmp_path / "t.txt")


def test_records_are_read(tmp_path) -> None:
    objects = [{"id": 4, "label": 0, "score": 0.5, "box": [0, 1, 10, 21], "class": "person"}]
    record = {"frame": 0, "prediction": {"kind": "tracks", "objects": objects}}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    tracks = read_tracks(tmp_path / "a.jsonl")
    assert (tracks.frames[0], tracks.ids[0], tracks.classes[0]) == (1, 4, 1) and tracks.boxes[0].tolist() == [
        0,
        1,
        10,
        21,
    ]
    (tmp_path / "b.jsonl").write_text(json.dumps({"prediction": {"kind": "detections"}}) + "\n")
    with pytest.raises(DataError, match="line 1: no tracks of a frame"):
        read_tracks(tmp_path / "b.jsonl")


def test_an_empty_file_has_no_tracks(tmp_path) -> None:
    (tmp_path / "t.txt").write_text("")
    assert len(read_mot(tmp_path / "t.txt")) == 0
    assert TrackPair.of(rows([(1, 1, 0, 0, 5, 5)], "a"), read_mot(tmp_path / "t.txt")).true_boxes == 1


def test_the_description_of_a_sequence(tmp_path) -> None:
    (tmp_path / "seqinfo.ini").write_text(
        "[Sequence]\nname=MOT16-02\nimDir=img1\nframeRate=25\nseqLength=600\nimWidth=1920\nimHeight=1080\nimExt=.png\n"
    )
    info = read_info(tmp_path)
    assert (info.name, info.rate, info.frames, info.size, info.suffix) == ("MOT16-02", 25, 600, (1080, 1920), ".png")
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nframeRate=fast\n")
    with pytest.raises(DataError, match=r"seqinfo\.ini: frameRate is 'fast'"):
        read_info(tmp_path)
