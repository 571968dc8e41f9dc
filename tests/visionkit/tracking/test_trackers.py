"""Trackers: known numbers, hidden objects, low scores, appearance, and what a new one needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.real_data import real_data
from visionkit.errors import UsageError
from visionkit.predictions import Detections, Tracks
from visionkit.predictions.base import Prediction
from visionkit.tracking import tracker as trackers
from visionkit.tracking.appearance import Appearance
from visionkit.tracking.bytetrack import ByteTrack
from visionkit.tracking.metrics import TrackPair, measure
from visionkit.tracking.mot_files import read_mot
from visionkit.tracking.ocsort import OcSort
from visionkit.tracking.rows import TrackRows
from visionkit.tracking.sort import Sort
from visionkit.tracking.tracker import Objects, Tracker, make_tracker, register

KINDS = {"sort": Sort, "bytetrack": ByteTrack, "ocsort": OcSort}
SIZE = (200, 400)


def detections(boxes, scores=None, labels=None, classes=("person", "car")) -> Detections:
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9) if scores is None else scores
    return Detections(classes, SIZE, boxes, scores, np.zeros(len(boxes)) if labels is None else labels)


def walk(tracker: Tracker, frames) -> list[dict[int, np.ndarray]]:
    """What is shown in each frame: boxes by id."""
    shown = [tracker.update(each) for each in frames]
    return [dict(zip(each.ids.tolist(), each.boxes, strict=True)) for each in shown]


def follow(tracker: Tracker, found: TrackRows) -> TrackRows:
    rows = []
    for frame, some in enumerate(found.each_frame(), start=1):
        shown = tracker.update(detections(found.boxes[some], found.scores[some]))
        rows += [(frame, number, *box) for number, box in zip(shown.ids, shown.boxes, strict=True)]
    table = np.array(rows, np.float64).reshape(-1, 6)
    return TrackRows(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:])


@pytest.mark.parametrize(
    ("name", "fp", "fn", "ids", "mota"), [("TUD-Campus", 15, 113, 6, 62.67), ("TUD-Stadtmitte", 22, 295, 10, 71.71)]
)
def test_sort_on_its_published_detections(name: str, fp: int, fn: int, ids: int, mota: float) -> None:
    folder = real_data("video/mot15_tud") / name
    tracks = follow(Sort(), read_mot(folder / "det_sort.txt"))
    values = measure(TrackPair.of(read_mot(folder / "gt.txt"), tracks)).values()
    assert (values["fp"], values["fn"], values["ids"], round(100 * values["mota"], 2)) == (fp, fn, ids, mota)


def test_the_others_keep_identities_better_than_sort_on_campus() -> None:
    folder = real_data("video/mot15_tud") / "TUD-Campus"
    truth, found = read_mot(folder / "gt.txt"), read_mot(folder / "det_sort.txt")
    hota = {name: measure(TrackPair.of(truth, follow(kind(), found))).values() for name, kind in KINDS.items()}
    assert hota["bytetrack"]["hota"] > hota["sort"]["hota"] and hota["ocsort"]["hota"] > hota["sort"]["hota"]
    assert hota["bytetrack"]["ids"] <= hota["sort"]["ids"] and hota["ocsort"]["ids"] <= hota["sort"]["ids"]


@pytest.mark.parametrize("name", KINDS)
def test_two_objects_that_cross_keep_their_ids(name: str) -> None:
    """One goes to the right, one to the left, on rows that overlap by half."""
    frames = [detections([[5 * t, 50, 5 * t + 30, 110], [300 - 5 * t, 70, 330 - 5 * t, 130]]) for t in range(60)]
    shown = walk(KINDS[name](), frames)
    assert set().union(*shown) == {1, 2}
    first = min(shown[10], key=lambda number: shown[10][number][0])
    assert shown[-1][first][0] == pytest.approx(295, abs=6)
    assert all(len(each) == 2 for each in shown[4:])


@pytest.mark.parametrize("name", ["bytetrack", "ocsort"])
def test_a_hidden_object_is_the_same_afterwards(name: str) -> None:
    frames = [detections([[3 * t, 50, 3 * t + 40, 130]] if not 20 <= t < 30 else []) for t in range(60)]
    shown = walk(KINDS[name](), frames)
    assert set().union(*shown) == {1} and len(shown[-1]) == 1 and not shown[25]


def test_an_object_that_turns_while_hidden_is_found_where_it_was_seen() -> None:
    """OC-SORT compares with the last observation too: the filter expects the object far ahead."""
    frames = [[8 * min(t, 19), 50, 8 * min(t, 19) + 30, 110] for t in range(20)]
    frames = [detections([each]) for each in frames] + [detections([])] * 8 + [detections([[152, 50, 182, 110]])] * 8
    assert set().union(*walk(OcSort(), frames)) == {1}


def test_low_scores_go_on_with_a_track_and_begin_none() -> None:
    score = [0.9] * 10 + [0.2] * 10 + [0.9] * 5
    frames = [detections([[4 * t, 50, 4 * t + 40, 130], [300, 20, 340, 100]], [s, 0.3]) for t, s in enumerate(score)]
    byte = walk(ByteTrack(), frames)
    assert [list(each) for each in byte] == [[1]] * 25
    assert not any(walk(Sort(), frames)[10:20])


@pytest.mark.parametrize("name", KINDS)
def test_objects_of_two_classes_are_never_one(name: str) -> None:
    frames = [detections([[50, 50, 90, 130]], labels=[0 if t < 10 else 1]) for t in range(20)]
    shown = [KINDS[name]()] and walk(KINDS[name](), frames)
    assert len(set().union(*shown)) == 2


@pytest.mark.parametrize("name", KINDS)
def test_nothing_boxes_without_area_and_a_new_beginning(name: str) -> None:
    tracker = KINDS[name]()
    assert not any(walk(tracker, [detections([])] * 3))
    walk(tracker, [detections([[50, 50, 50, 50], [20, 20, 60, 100]])] * 6 + [detections([])] * 50)
    tracker.reset()
    assert list(walk(tracker, [detections([[20, 20, 60, 100]])])[0]) == [1]


def test_appearance_finds_an_object_that_place_alone_loses() -> None:
    """The object stops while it is hidden; another one that looks different comes to where it is expected."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    looks: dict[int, np.ndarray] = {0: np.array([1.0, 0.0]), 1: np.array([0.0, 1.0])}

    def embed(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.stack([looks[int(box[1] > 100)] for box in boxes])

    places = [[[6 * t, 40, 6 * t + 40, 100]] for t in range(20)] + [[]] * 6
    places += [[[116, 40, 156, 100]]] * 8
    ids = {}
    for name, appearance in (("place", None), ("looks", Appearance(embed))):
        tracker = make_tracker("bytetrack", {"max_age": 60}, appearance)
        shown = [tracker.update(detections(each), frame) for each in places]
        ids[name] = {int(n) for n, box in zip(shown[-1].ids, shown[-1].boxes, strict=True) if box[1] < 100}
        assert set(shown[15].ids.tolist()) == {1}
    assert ids["looks"] == {1} and ids["place"] != {1}
    with pytest.raises(UsageError, match="needs each frame"):
        tracker.update(detections([[0, 0, 9, 9]]))


def test_only_what_may_begin_a_track_is_looked_at() -> None:
    """Each look costs a pass of a network, and detectors give a hundred boxes of low score."""
    seen: list[int] = []

    def embed(pixels: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        seen.append(len(boxes))
        return np.tile([1.0, 0.0], (len(boxes), 1))

    tracker, frame = make_tracker("bytetrack", {}, Appearance(embed)), np.zeros((*SIZE, 3), np.uint8)
    boxes = [[20, 20, 60, 100], [120, 20, 160, 100], [220, 20, 260, 100]]
    ids = [tracker.update(detections(boxes, [score, 0.2, 0.3]), frame).ids.tolist() for score in (0.9, 0.3, 0.3, 0.9)]
    assert ids == [[1]] * 4 and seen == [1, 1]  # a low score goes on with the track by its place


@pytest.mark.parametrize("name", KINDS)
def test_why_nothing_was_followed_is_known(name: str) -> None:
    tracker = make_tracker(name)
    tracker.update(detections([[20, 20, 60, 100]], [0.45]))
    argument = "new_score" if name == "bytetrack" else "min_score"
    begins = getattr(tracker, argument)
    assert tracker.hint() == (f"tracks begin at a score of {begins:g} ({argument}), and the highest one found was 0.45")
    tracker.update(detections([[20, 20, 60, 100]], [0.9]))
    assert tracker.hint() == ""
    tracker.reset()
    assert tracker.hint() == ""


@pytest.mark.parametrize("gate", ["motion", "overlap"])
def test_what_does_not_look_alike_is_matched_by_place_alone(gate) -> None:
    appearance = Appearance(lambda frame, boxes: np.eye(2)[: len(boxes)], gate=gate)
    fit = appearance.fit(np.array([[0.4]]), np.array([[1.0, 0]]), np.array([[0.0, 1]]), None)
    assert fit.tolist() == [[0.4]]


def test_a_new_tracker_is_one_class() -> None:
    @dataclass
    class Still(Tracker):
        """Everything is new in each frame."""

        min_score: float = 0.5

        def __post_init__(self) -> None:
            self.filter = Sort().filter
            super().__post_init__()

        def step(self, found: Objects) -> np.ndarray:
            self.tracks.keep(np.zeros(len(self.tracks), bool))
            self.begin(found)
            return np.ones(len(found), bool)

    register("still", Still)
    try:
        shown = walk(make_tracker("still", {"min_score": 0.1}), [detections([[1, 2, 30, 40]])] * 2)
        assert [list(each) for each in shown] == [[1], [2]]
        assert np.allclose(shown[0][1], [1, 2, 30, 40])
    finally:
        trackers.TRACKERS._registered.pop("still")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("bytetrak", {}, r"tracker 'bytetrak': allowed are .*; did you mean 'bytetrack'"),
        ("sort", {"max_ages": 3}, r"max_ages: tracker sort has no such argument; it has .*did you mean 'max_age'"),
        ("sort", {"max_age": 1.5}, r"max_age: 1.5 is not a whole number from 0 on"),
        ("ocsort", {"inertia": "much"}, r"inertia: 'much' is not a number"),
    ],
)
def test_a_wrong_tracker_is_named(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_tracker(name, arguments)


def test_tracks_are_a_prediction() -> None:
    boxes = [[10, 10, 60, 90], [100, 20, 150, 90], [200, 20, 260, 120]]
    tracks = Tracks(("person", "car"), SIZE, np.array(boxes), [0.5, 0.9, 0.7], [0, 1, 0], ids=[7, 8, 9])
    assert tracks.ids.tolist() == [8, 9, 7] and tracks.chosen(tracks.ids == 9).ids.tolist() == [9]
    again = Prediction.from_json(tracks.to_json())
    assert again == tracks and again.to_json()["objects"][0]["id"] == 8
    assert tracks.text() == "car 8, person 9, person 7"
    drawn = tracks.draw(np.full((*SIZE, 3), 127, np.uint8))
    alone = tracks.chosen(tracks.ids == 7).draw(np.full((*SIZE, 3), 127, np.uint8))
    factor = drawn.shape[0] // SIZE[0]
    assert np.array_equal(drawn[50 * factor, 10 * factor], alone[50 * factor, 10 * factor])  # one color in all frames
    with pytest.raises(ValueError, match="one object of a frame"):
        Tracks(("a",), SIZE, np.array(boxes[:2]), [0.5, 0.9], [0, 0], ids=[1, 1])
