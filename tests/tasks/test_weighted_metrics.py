"""Metrics of weighted images, people and pairs equal those of lists that hold each so often, to nine digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tasks.face_recognition.identification import Ranking as FaceRanking
from tasks.face_recognition.identification import rank_all
from tasks.face_recognition.metrics import FaceMetrics
from tasks.face_recognition.verification import Roc, deal, ten_fold
from tasks.face_recognition.weighted_faces import MAX_PAIRS, Pairs, Probes, WeightedFaces
from tasks.patch_matching.metrics import MatchMetrics, Ranking
from tasks.pose.measures import measure
from tasks.pose.weighted_poses import WeightedPoses
from visionkit.families.keypoints.oks import PoseResults, Truth
from visionkit.skeleton import Skeleton
from visionkit.uncertainty.by_image import ImageRecord, units_of
from visionkit.uncertainty.comparison import compare


def people(skeleton: Skeleton, images: int = 12, seed: int = 0) -> tuple[PoseResults, Truth]:
    """Found and true people of images: some missed, some not there, some crowds, some without labels."""
    rng, count = np.random.default_rng(seed), len(skeleton)
    image = np.repeat(np.arange(images), rng.integers(0, 5, images))
    number = len(image)
    corner, side = rng.uniform(0, 200, (number, 1, 2)), rng.uniform(20, 200, (number, 1, 1))
    places = corner + rng.uniform(0, 1, (number, count, 2)) * side
    shown = rng.integers(0, 3, (number, count, 1)) * (rng.random((number, 1, 1)) < 0.9)
    low, high = places.min(axis=1), places.max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    crowd = rng.random(number) < 0.1
    true = Truth(image, np.concatenate([places, shown], axis=2), (high - low).prod(axis=1), crowd, boxes)
    seen = rng.random(number) < 0.8
    moved = places[seen] + rng.normal(0, 1, places[seen].shape) * side[seen] * skeleton.oks_sigmas()[:, None]
    extra = rng.uniform(0, 300, (5, count, 2))
    where = np.concatenate([image[seen], rng.integers(0, images, 5)])
    return PoseResults(where, np.concatenate([moved, extra]), rng.random(len(where))), true


def repeated(part: Any, weights: np.ndarray) -> Any:
    """The people of images that are there as often as their weights state, each copy an image of its own."""
    rows, numbers = [], []
    for copy, image in enumerate(np.repeat(np.arange(len(weights)), weights.astype(int))):
        own = np.flatnonzero(part.image == image)
        rows.append(own)
        numbers.append(np.full(len(own), copy))
    taken = part.take(np.concatenate(rows))
    return type(part)(**{**vars(taken), "image": np.concatenate(numbers)})


@pytest.mark.parametrize("name", ["coco17", "mpii16", "hand21", "wflw98"])
def test_weighted_people_are_people_that_are_there_so_often(name: str) -> None:
    skeleton = Skeleton.of(name)
    found, true = people(skeleton)
    metric = WeightedPoses(found, true, skeleton, np.arange(12))
    weights = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 4).astype(np.float64)
    weights = np.concatenate([np.ones((1, 12)), 1 + np.eye(12)[:2], weights])
    values = metric(weights)
    for row, each in enumerate(weights):
        expected = measure(repeated(found, each), repeated(true, each), skeleton, skeleton.oks_sigmas()).values
        assert expected.keys() == values.keys()
        for key, value in expected.items():
            assert np.isnan(values[key][row]) if value == -1 else values[key][row] == pytest.approx(value, abs=1e-9)
    assert np.ptp(values["ap"]) > 0.01
    both = metric.joined(metric)(np.concatenate([weights, np.zeros_like(weights)], axis=1))
    assert all(both[key] == pytest.approx(value, nan_ok=True) for key, value in values.items())


def test_crops_of_an_image_weigh_the_same() -> None:
    skeleton = Skeleton.of("coco17")
    found, true = people(skeleton)
    whole = WeightedPoses(found, true, skeleton, np.arange(12))
    crops = WeightedPoses(found, true, skeleton, np.repeat(np.arange(12), 2))
    weights = np.random.default_rng(0).integers(0, 3, (3, 12)).astype(np.float64)
    for key, values in crops(np.repeat(weights, 2, axis=1)).items():
        assert values == pytest.approx(whole(weights)[key], nan_ok=True)
    units = units_of([("image", f"{k // 2}") for k in range(24)], [None] * 24)
    (drawn,) = units.draws(5, 0)
    assert (drawn[:, ::2] == drawn[:, 1::2]).all() and units.kind == "image"


def faces(people: int = 26, images: int = 4) -> FaceMetrics:
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(people), images)
    values = rng.normal(size=(people, 8))[identity] + 0.9 * rng.normal(size=(len(identity), 8))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = rng.permutation(len(identity))  # the metric sorts, the resampler counts in the order of the data
    metric = FaceMetrics()
    metric.update(torch.from_numpy(values[order]), torch.from_numpy(identity[order]), [f"{k}" for k in order])
    return metric


def test_weighted_people_are_verified_by_pairs_that_are_there_so_often() -> None:
    metric = faces()
    resampler = metric.resampler()
    whole, ones = metric.compute(), resampler(np.ones((1, 104)))
    assert {"accuracy", "eer", "auc", "tar_at_far_1e-1", "rank1", "rank5", "map", "dir_at_far_1e-1"} <= ones.keys()
    assert all(values[0] == pytest.approx(float(whole[key]), abs=1e-6) for key, values in ones.items())

    identity = metric.facts[0][:, 0].numpy()
    each = np.random.default_rng(2).integers(0, 3, 26).astype(np.float64)
    pairs, probes = metric._compared()
    number = np.where(
        pairs.same, each[identity[pairs.first]], each[identity[pairs.first]] * each[identity[pairs.second]]
    )
    scores, same, folds = (np.repeat(part, number.astype(int)) for part in pairs[:3])
    roc = Roc.of(scores, same)
    expected = {
        "accuracy": ten_fold(scores, same, folds).mean,
        "eer": roc.equal_error_rate,
        "auc": roc.area,
        "tar_at_far_1e-1": roc.at(0.1)[0],
    }
    found = resampler(each[identity][None])
    assert {key: found[key][0] for key in expected} == pytest.approx(expected, abs=1e-9)
    assert probes is not None
    rows = np.repeat(np.arange(104), each[identity[probes.rows]].astype(int))
    ranking = type(probes.ranking)(*(getattr(probes.ranking, name)[rows] for name in vars(probes.ranking)))
    expected = {
        "rank1": ranking.rank(1),
        "rank5": ranking.rank(5),
        "map": ranking.mean_average_precision,
        "dir_at_far_1e-1": ranking.open_set(0.1),
    }
    assert {key: found[key][0] for key in expected} == pytest.approx(expected, abs=1e-9)


def test_people_who_are_not_drawn_leave_nothing_to_verify() -> None:
    one = np.zeros((1, 104))
    metric = faces()
    one[0, metric.facts[0][:, 0].numpy() == 0] = 1.0
    found = metric.resampler()(np.concatenate([one, np.ones((1, 104))]))
    assert np.isnan(found["auc"][0]) and found["rank1"][0] in (0.0, 0.25, 0.5, 0.75, 1.0)
    count = MAX_PAIRS + 1
    many = Pairs(np.zeros(count), np.arange(count) % 2 == 0, *(np.zeros(count, int) for _ in range(3)))
    assert WeightedFaces(many, None)(np.ones((1, 1))) == {}


def test_one_person_alone_is_identified_without_an_interval() -> None:
    class Task:
        def __init__(self) -> None:
            self.metrics = FaceMetrics()

        def measure(self, decoded: torch.Tensor, batch: Any) -> None:
            self.metrics.update(decoded, batch["target"]["identity"], batch["id"])

    records = []
    for _ in range(2):
        task = Task()
        records.append(record := ImageRecord(task))
        target = {"identity": torch.zeros(4, dtype=torch.int64)}
        record.measure(torch.eye(4), {"target": target, "id": list("abcd")})  # type: ignore[typeddict-item]
        record.close()
    found = record.intervals({"test/rank1": float(task.metrics.compute()["rank1"])}, "test", 100, 0)
    assert not found.bounds and found.missing == ("test/rank1",) and not found.method
    assert all(each.low is None and each.difference == 0 for each in compare(*records, 100, 0))


def test_the_open_set_does_not_depend_on_the_unit_of_weights() -> None:
    scores, found = np.linspace(1, 0, 25), np.zeros(25, np.int64)
    ranking = FaceRanking(found, np.ones(25), scores, scores, np.zeros(25, bool))
    assert [ranking.open_set(0.1, np.full(25, weight)) for weight in (0.7, 1.0, 1.3)] == pytest.approx([2 / 25] * 3)


def test_people_are_drawn_and_probes_alone_where_there_is_a_gallery() -> None:
    units = units_of([("identity", f"{k // 4}") for k in range(12)], [None] * 12)
    assert units.kind == "identity" and len(units.strata) == 3
    rng = np.random.default_rng(0)
    gallery, probes = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in rng.normal(size=(2, 6, 4)))
    ranking = rank_all(probes, gallery, np.arange(6), np.arange(6))
    pairs = Pairs(*(np.zeros(0) for _ in range(5)))
    metric = WeightedFaces(pairs._replace(same=np.zeros(0, bool)), Probes(ranking, np.arange(6)))
    weights = np.array([[1, 1, 1, 1, 1, 1, *range(6)], [2, 0, 1, 1, 1, 1, *range(6)]], float)
    found = metric(weights)
    assert found["rank1"][0] == ranking.rank(1)
    assert found["rank1"][1] == pytest.approx(np.average(ranking.first == 0, weights=weights[1, :6]))


def test_weighted_pairs_of_patches_are_pairs_that_are_there_so_often() -> None:
    rng = np.random.default_rng(0)
    match = torch.from_numpy(rng.integers(0, 2, 60))
    scores = (match + torch.from_numpy(rng.normal(0, 0.7, 60))).float().round(decimals=1)  # with ties
    metric = MatchMetrics()
    metric.update(scores, match)
    weights = np.concatenate([np.ones((1, 60)), 1 + np.eye(60)[:1], rng.integers(0, 3, (3, 60)).astype(np.float64)])
    resampler = metric.resampler()
    found = resampler(weights)
    for row, each in enumerate(weights.astype(int)):
        expected = Ranking.of(np.repeat(scores.numpy(), each), np.repeat(match.numpy() > 0, each)).qualities()
        assert {key: values[row] for key, values in found.items()} == pytest.approx(expected, abs=1e-9)
    whole = metric.compute()
    assert all(values[0] == pytest.approx(float(whole[key]), abs=1e-6) for key, values in found.items())
    both = resampler.joined(resampler)(np.concatenate([weights, np.zeros_like(weights)], axis=1))
    assert all(both[key] == pytest.approx(values, abs=1e-9) for key, values in found.items())
    assert np.isnan(resampler(match.double().numpy()[None])["fpr95"][0])


def test_folds_of_weighted_pairs_stay() -> None:
    scores, same = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert ten_fold(scores, same, deal(same), np.array([2.0, 1, 1, 1])).mean == pytest.approx(
        ten_fold(scores[[0, 0, 1, 2, 3]], same[[0, 0, 1, 2, 3]], deal(same)[[0, 0, 1, 2, 3]]).mean, abs=1e-12
    )
