"""Seq-NMS and tubelets on cases worked by hand, and against a search through all sequences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from visionkit.errors import UsageError
from visionkit.predictions import Detections
from visionkit.tracking.boxes import box_ious
from visionkit.tracking.rescoring import seq_nms, tubelets

SIZE = (100, 200)


def found(*objects: tuple[float, float, int]) -> Detections:
    """Boxes of 20 x 20 pixels: left side, score, label."""
    boxes = np.array([[x, 0, x + 20, 20] for x, _, _ in objects], float).reshape(-1, 4)
    return Detections(("cat", "dog"), SIZE, boxes, [each[1] for each in objects], [each[2] for each in objects])


def listed(frames: list[Detections]) -> list[list[tuple[float, float, int]]]:
    return [
        [
            (float(box[0]), round(float(score), 4), int(label))
            for box, score, label in zip(each.boxes, each.scores, each.labels, strict=True)
        ]
        for each in frames
    ]


def test_a_weak_box_of_a_sequence_gets_the_mean_and_what_overlaps_is_dropped() -> None:
    # The object moves by 2 pixels: IoU 18/22. In the second frame it is blurred, and a box 8 pixels off (IoU 12/28 with
    # it, .43; 10/30 with the one before, .33) scores more; the third frame links 4 pixels on from it no more.
    frames = [found((0, 0.9, 0)), found((2, 0.3, 0), (10, 0.4, 0)), found((4, 0.9, 0))]
    assert listed(seq_nms(frames)) == [[(0, 0.7, 0)], [(2, 0.7, 0)], [(4, 0.7, 0)]]
    assert listed(seq_nms(frames, common="max")) == [[(0, 0.9, 0)], [(2, 0.9, 0)], [(4, 0.9, 0)]]
    # Where only what overlaps by half and more is dropped, the other box stays as a sequence of its own.
    assert listed(seq_nms(frames, overlap=0.5))[1] == [(2, 0.7, 0), (10, 0.4, 0)]


def test_the_sequence_of_the_highest_sum_comes_first() -> None:
    # Three boxes of .5 are more than one of .9, although the first of them overlaps it.
    frames = [found((0, 0.9, 0), (4, 0.5, 0)), found((8, 0.5, 0)), found((12, 0.5, 0))]
    assert listed(seq_nms(frames)) == [[(4, 0.5, 0)], [(8, 0.5, 0)], [(12, 0.5, 0)]]


def test_classes_and_gaps_are_not_linked() -> None:
    frames = [found((0, 0.8, 0), (0, 0.6, 1)), found((0, 0.4, 1)), found((0, 0.2, 0))]
    assert listed(seq_nms(frames)) == [[(0, 0.8, 0), (0, 0.5, 1)], [(0, 0.5, 1)], [(0, 0.2, 0)]]


def test_nothing_in_gives_nothing_out() -> None:
    assert seq_nms([]) == [] and tubelets([]) == []
    assert listed(seq_nms([found(), found((0, 0.5, 0)), found()])) == [[], [(0, 0.5, 0)], []]
    assert listed(tubelets([found(), found((0, 0.5, 0)), found()])) == [[], [(0, 0.5, 0)], []]
    with pytest.raises(UsageError, match="allowed are mean, max"):
        seq_nms([found()], common="median")  # type: ignore[arg-type]


def test_tubelets_share_their_scores_and_drop_nothing() -> None:
    frames = [found((0, 0.9, 0), (60, 0.2, 1)), found((2, 0.3, 0), (60, 0.6, 0)), found((4, 0.6, 0), (60, 0.8, 0))]
    assert listed(tubelets(frames)) == [
        [(0, 0.6, 0), (60, 0.2, 1)],
        [(60, 0.7, 0), (2, 0.6, 0)],
        [(60, 0.7, 0), (4, 0.6, 0)],
    ]
    assert listed(tubelets(frames, common="max"))[1] == [(2, 0.9, 0), (60, 0.8, 0)]
    assert all(len(a) == len(b) for a, b in zip(tubelets(frames), frames, strict=True))


def searched(frames: list[Detections], link: float, overlap: float) -> list[set[tuple[float, float]]]:
    """Seq-NMS by trying every sequence, for one class."""
    left = [set(range(len(each))) for each in frames]
    out: list[set[tuple[float, float]]] = [set() for _ in frames]
    while any(left):
        best: tuple[float, int, tuple[int, ...]] = (-1.0, 0, ())
        for first, last in itertools.combinations_with_replacement(range(len(frames)), 2):
            for path in itertools.product(*(sorted(some) for some in left[first : last + 1])):
                linked = all(
                    box_ious(frames[first + k].boxes[a][None], frames[first + k + 1].boxes[b][None])[0, 0] >= link
                    for k, (a, b) in enumerate(itertools.pairwise(path))
                )
                total = sum(float(frames[first + k].scores[row]) for k, row in enumerate(path))
                if linked and total > best[0]:
                    best = (total, first, path)
        total, first, path = best
        for k, row in enumerate(path):
            frame = first + k
            out[frame].add((float(frames[frame].boxes[row, 0]), round(total / len(path), 4)))
            ious = box_ious(frames[frame].boxes[row][None], frames[frame].boxes)[0]
            left[frame] -= {other for other in left[frame] if ious[other] >= overlap} | {row}
    return out


def test_random_cases_agree_with_a_search_through_all_sequences() -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        frames = [
            found(*((float(x), float(score), 0) for x, score in zip(rng.uniform(0, 60, n), rng.random(n), strict=True)))
            for n in rng.integers(0, 5, 4)
        ]
        ours = [{(x, score) for x, score, _ in each} for each in listed(seq_nms(frames))]
        wanted = searched(frames, 0.5, 0.3)
        for a, b in zip(ours, wanted, strict=True):
            assert len(a) == len(b)
            np.testing.assert_allclose(sorted(a), sorted(b), atol=2e-4)
