"""The bootstrap: draws, intervals and metrics of weighted images, equal to what real copies of images give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap, norm, t
from torchmetrics import MetricCollection

from benchmarks.interval_coverage import SETTINGS, classified, detected, false_positives, record_of, segmented
from tasks.classification.metrics import ClassificationCounts, MultilabelCounts
from visionkit.errors import DataError, UsageError
from visionkit.families.detection.coco_eval import DetectionMetrics
from visionkit.uncertainty.by_image import ImageRecord, picked
from visionkit.uncertainty.comparison import compare
from visionkit.uncertainty.resampling import Units, check_replicates, interval_of


def test_draws_keep_each_class_and_each_sequence_together():
    units = Units.of([""] * 6, [0, 0, 0, 1, 1, 7])
    assert units.is_stratified and units.strata.tolist() == [0, 0, 0, 1, 1, -1]
    (weights,) = units.draws(500, 0)
    assert weights[:, :3].sum(axis=1) == pytest.approx(3) and weights[:, 3:5].sum(axis=1) == pytest.approx(2)
    # Two of three are drawn and count 1.5 times each; the variance of a mean is then the unbiased one.
    assert set(np.unique(weights[:, :3]).round(6)) == {0.0, 1.5, 3.0}
    assert weights[:, :3].mean(axis=0) == pytest.approx(1, abs=0.15)
    clips = Units.of(["a", "a", "b", ""], [None] * 4, "sequence")
    (weights,) = clips.draws(50, 0)
    assert clips.kind == "sequence" and (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    one, other = (next(iter(units.draws(3, seed))) for seed in (1, 1))
    assert (one == other).all()


def test_intervals_are_those_of_scipy_but_for_their_expansion():
    """At the level that the expansion brings back to 95 %, the bounds are those of scipy's BCa."""
    values = np.random.default_rng(0).exponential(size=30)
    units = Units.of([""] * 30, [None] * 30)
    (weights,) = units.draws(4000, 0)
    drawn, left_out = (each @ values / each.sum(axis=1) for each in (weights, units.left_out(0)))
    assert sorted(left_out) == pytest.approx(sorted((values.sum() - values) / 29))
    plain = 2 * t.cdf(norm.ppf(0.975) * np.sqrt(29 / 30), 29) - 1
    found = interval_of(values.mean(), drawn, left_out, units, plain)
    exact = bootstrap((values,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(1))
    assert found == pytest.approx(tuple(exact.confidence_interval), rel=0.02)
    wide = interval_of(values.mean(), drawn, left_out, units)
    assert wide is not None and found is not None and wide.low < found.low and wide.high > found.high


def test_intervals_need_values_and_units():
    units, drawn = Units.of([""] * 50, [None] * 50), np.arange(101.0)
    found = interval_of(50.0, drawn, np.zeros(50), units)
    assert found is not None and found.low + found.high == pytest.approx(100) and found.low < 2.5
    assert interval_of(1.0, np.array([1.0, np.nan, 2.0]), np.zeros(50), units) is None
    assert interval_of(1.0, drawn, np.zeros(1), Units.of([""], [None])) is None
    assert interval_of(1.0, np.ones(100), np.ones(50), units) == (1, 1)
    assert interval_of(1.0, np.zeros(100), np.zeros(50), units) == (0, 0)  # every replicate lies below


def test_groups_that_are_left_out_have_units_of_all_strata():
    units = Units.of([""] * 1000, [0] * 600 + [1] * 400)
    weights = units.left_out(0)
    assert weights.shape == (200, 1000) and ((weights == 0).sum(axis=0) == 1).all()
    assert weights[:, :600].sum(axis=1) == pytest.approx(600) and weights[:, 600:].sum(axis=1) == pytest.approx(400)
    weights = Units.of([""] * 30, [None] * 30).left_out(0)
    assert set(weights.ravel()) == {0.0, 1.0} and (weights.sum(axis=1) == 29).all(), "recalls are not rounded"
    with pytest.raises(UsageError, match="at least 100"):
        check_replicates(50)


def copies(weights: np.ndarray, values):
    """What real copies of images are: the image of weight 2 is there twice."""
    rows = np.repeat(np.arange(len(weights)), weights.astype(int))
    return values[torch.from_numpy(rows)] if isinstance(values, torch.Tensor) else [values[k] for k in rows]


@pytest.mark.parametrize("name", ["classification", "segmentation", "detection", "several labels"])
def test_a_weight_of_two_is_two_images(name: str):
    rng = np.random.default_rng(0)
    if name == "several labels":
        scores = torch.from_numpy(rng.random((30, 4))).float().round(decimals=1)  # with ties
        build, data = (lambda: MultilabelCounts(4)), (scores, (torch.rand(30, 4) < scores).long())
    else:
        build, draw = SETTINGS[name][:2]
        data = draw(rng, 30)
    record, whole = record_of(build(), *data)
    weights = rng.multinomial(30, np.full(30, 1 / 30), 3).astype(np.float64)
    found = record.values(iter([weights, np.ones((1, 30))]))
    for row, each in enumerate([*weights, np.ones(30)]):
        metric = build()
        metric.update(*(copies(each, part) for part in data))
        expected = metric.compute()
        for key, values in found.items():
            there = float(expected[key])
            assert np.isnan(values[row]) if there == -1 else values[row] == pytest.approx(there, abs=2e-6), key
    assert {f"test/{key}" for key in found} <= set(whole)


@pytest.mark.slow  # many simulated sets
def test_intervals_hold_the_value_of_the_population():
    """`python -m benchmarks.interval_coverage` states the coverage of every metric over many more sets."""
    truth = ClassificationCounts(10)
    truth.update(*classified(np.random.default_rng(1), 100_000))
    goal, held = float(truth.compute()["top1"]), 0
    for seed in range(60):
        record, values = record_of(ClassificationCounts(10), *classified(np.random.default_rng([2, seed]), 200))
        bounds = record.intervals(values, "test", 200, seed).bounds["test/top1"]
        held += bounds.low <= goal <= bounds.high
    assert 53 <= held <= 60


def test_what_is_not_computed_by_image_has_no_interval():
    class Other:
        metrics = MetricCollection([])

        def measure(self, decoded, batch):
            self.seen = len(decoded)

    record = ImageRecord(Other())
    record.measure(torch.zeros(3), {"id": ["a", "b", "c"]})  # type: ignore[typeddict-item]
    record.close()
    found = record.intervals({"test/loss": 1.0, "test/rank1": 0.5}, "test", 100, 0)
    assert not found.bounds and found.missing == ("test/rank1",)
    with pytest.raises(TypeError, match="does not belong to its 3 images"):
        picked({"a": torch.zeros(2)}, 0, 3)


def test_a_better_model_differs_and_equal_models_do_not():
    rng = np.random.default_rng(0)
    probabilities, labels = classified(rng, 300)
    one, values = record_of(ClassificationCounts(10), probabilities, labels)
    again, _ = record_of(ClassificationCounts(10), probabilities, labels)
    same = {each.metric: each for each in compare(one, again, 200, 0)}
    assert same["top1"].difference == 0 and same["top1"].p == 1 and (same["top1"].low, same["top1"].high) == (0, 0)
    guesses = probabilities[torch.from_numpy(rng.permutation(300))]
    worse, _ = record_of(ClassificationCounts(10), guesses, labels)
    found = {each.metric: each for each in compare(one, worse, 200, 0)}["top1"]
    assert found.p == pytest.approx(1 / 201) and found.high is not None and found.high < 0
    assert found.first == pytest.approx(values["test/top1"])
    short, _ = record_of(ClassificationCounts(10), probabilities[:5], labels[:5])
    with pytest.raises(DataError, match="not measured on the same images"):
        compare(one, short, 200, 0)


def test_detectors_and_label_maps_are_compared_by_image():
    for build, draw in ((lambda: DetectionMetrics(3), detected), (SETTINGS["segmentation"][0], segmented)):
        records = [record_of(build(), *draw(np.random.default_rng(5), 20))[0] for _ in range(2)]
        assert all(each.difference == 0 and each.p == 1 for each in compare(*records, 100, 0))


@pytest.mark.slow  # many simulated sets
def test_equal_models_are_rarely_found_different():
    assert false_positives("classifiers", 40)["top1"] <= 0.15


@pytest.mark.parametrize(("name", "pairs"), [("networks that segment", 6), ("detectors", 3)])
def test_networks_that_are_equal_by_construction_are_rarely_found_different(name: str, pairs: int):
    """A few pairs; `python -m benchmarks.interval_coverage` states the fraction of many."""
    assert max(false_positives(name, pairs, 100).values()) < 0.5
