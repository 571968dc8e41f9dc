"""Patch matching: the paper's networks counted by hand, its loss and metrics by hand, and training on made pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.generated_patches import GeneratedPatchData
from tasks.patch_matching import PatchMatchingTask
from tasks.patch_matching.loss import match_loss
from tasks.patch_matching.metrics import MatchMetrics, Ranking
from tasks.patch_matching.network import Cosine, Decision, center_and_surround
from visionkit.checkpoint import load_task
from visionkit.errors import UsageError
from visionkit.predictions import PatchMatch
from visionkit.predictor import Predictor
from visionkit.training import fit


def conv(filters, kernel, channels):
    return filters * (channels * kernel * kernel + 1)


def linear(outputs, inputs):
    return outputs * (inputs + 1)


_BRANCH = conv(96, 7, 1) + conv(192, 5, 96) + conv(256, 3, 192)
_STREAM = conv(96, 4, 1) + conv(192, 3, 96) + conv(256, 3, 192) + conv(256, 3, 256)
_PAIR_STREAM = conv(96, 5, 2) + conv(96, 3, 96) + conv(192, 3, 96) + conv(192, 3, 192)
COUNTS = {
    # 64 -> 20 -> 10 -> 6 -> 3 -> 1: a descriptor has 256 numbers.
    "siamese": _BRANCH + linear(512, 512) + linear(1, 512),
    "pseudo_siamese": 2 * _BRANCH + linear(512, 512) + linear(1, 512),
    "two_channel": conv(96, 7, 2) + conv(192, 5, 96) + conv(256, 3, 192) + linear(256, 256) + linear(1, 256),
    # 64 -> 21 -> 15 -> 7 -> 1.
    "two_channel_deep": conv(96, 4, 2)
    + 3 * conv(96, 3, 96)
    + conv(192, 3, 96)
    + 2 * conv(192, 3, 192)
    + linear(1, 192),
    # 32 -> 28 -> 14 -> 12 -> 6 -> 4 -> 2: 768 numbers of each stream.
    "two_channel_central_surround": 2 * _PAIR_STREAM + linear(768, 2 * 768) + linear(1, 768),
    # 32 -> 15 -> 7 -> 5 -> 3 -> 1: 256 numbers of each stream, 512 of each patch.
    "siamese_central_surround": 2 * _STREAM + linear(512, 1024) + linear(1, 512),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_papers_networks_have_its_layers(name):
    task = PatchMatchingTask(name)
    assert sum(p.numel() for p in task.parameters()) == COUNTS[name]
    patches = [torch.randint(0, 256, (3, 1, 64, 64), dtype=torch.uint8) for _ in range(2)]
    assert task.eval()(*patches).score.shape == (3,)


def test_the_numbers_of_the_largest_counts_are_these():
    # Written out once, so that a mistake in the formulas above would show.
    assert COUNTS["siamese"] == 4_800 + 460_992 + 442_624 + 262_656 + 513 == 1_171_585
    assert COUNTS["two_channel"] == 9_504 + 460_992 + 442_624 + 65_792 + 257 == 979_169
    assert COUNTS["two_channel_deep"] == 3_168 + 3 * 83_040 + 166_080 + 2 * 331_968 + 193 == 1_082_497


@pytest.mark.parametrize("name", COUNTS)
def test_brightness_is_no_reason_to_differ(name):
    task = PatchMatchingTask(name).eval()
    first, second = torch.randint(0, 200, (2, 4, 1, 64, 64), dtype=torch.uint8)
    assert torch.allclose(task(first, second).score, task(first + 50, second).score, atol=1e-4)


def test_the_streams_see_the_middle_and_all_of_it():
    patch = torch.arange(64.0 * 64).view(1, 1, 64, 64)
    center, surround = center_and_surround(patch)
    assert center.shape == surround.shape == (1, 1, 32, 32)
    assert center[0, 0, 0, 0] == patch[0, 0, 16, 16] and center[0, 0, -1, -1] == patch[0, 0, 47, 47]
    assert surround[0, 0, 0, 0] == patch[0, 0, :2, :2].mean()


def test_only_the_pseudo_siamese_network_describes_both_sides_in_its_own_way():
    patches = torch.rand(2, 1, 64, 64)
    for name, alike in (("siamese", True), ("pseudo_siamese", False)):
        network = PatchMatchingTask(name).network
        assert torch.equal(network.describe(patches), network.describe(patches, of_second=True)) == alike


@pytest.mark.parametrize("compare", [Decision(8, 16), Cosine()])
def test_costs_of_all_pairs_order_them_as_the_scores_do(compare):
    torch.manual_seed(0)
    first, second = torch.randn(70, 8), torch.randn(5, 8)
    costs = compare.costs(first, second)
    assert costs.shape == (70, 5) and bool((costs >= 0).all())
    scores = torch.stack([compare(first, other.expand_as(first)) for other in second], dim=1)
    assert torch.equal(costs.argmin(dim=1), scores.argmax(dim=1))
    if isinstance(compare, Decision):
        assert torch.allclose(costs, torch.nn.functional.softplus(-scores), atol=1e-5)
    assert compare.costs(first[:0], second).shape == (0, 5)


def test_losses_by_hand():
    score, match = torch.tensor([2.0, 0.5, -3.0, 0.25]), torch.tensor([1, 1, 0, 0])
    assert match_loss("hinge", score, match) == pytest.approx((0 + 0.5 + 0 + 1.25) / 4)
    assert match_loss("bce", torch.zeros(2), match[1:3]) == pytest.approx(np.log(2))


def test_metrics_by_hand():
    from sklearn.metrics import average_precision_score, roc_auc_score

    # Twenty matches with scores 20 to 1: 95 % of them are nineteen, accepted from score 2 on. Of ten other pairs three
    # have at least 2.
    scores = np.concatenate([np.arange(20, 0, -1), [9.5, 2, 2.5, 1.5, *[-1] * 6]])
    match = np.arange(30) < 20
    ranking = Ranking.of(scores, match)
    assert ranking.false_positive_rate_at() == pytest.approx(0.3)
    assert ranking.false_positive_rate_at(0.5) == 0
    # At 3 eighteen of twenty and one of ten are accepted, .9 - .1; nowhere is it more, and the next score is 2.5.
    assert ranking.best_threshold == 2.75 and len(ranking.thresholds) == 24
    metrics = MatchMetrics()
    order = np.random.default_rng(0).permutation(30)
    for part in np.array_split(order, 3):
        metrics.update(torch.from_numpy(scores[part]), torch.from_numpy(match[part]).long())
    found = metrics.compute()
    assert found["fpr95"] == pytest.approx(0.3)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(match, scores), abs=1e-6)
    assert found["average_precision"] == pytest.approx(average_precision_score(match, scores), abs=1e-6)
    assert found["roc"][-1].tolist() == pytest.approx([0.4, 1.0, 1.0])


def test_ties_are_accepted_together_and_one_type_alone_has_no_metric():
    assert Ranking.of(np.zeros(4), np.array([1, 0, 0, 1])).false_positive_rate_at() == 1
    assert Ranking.of(np.zeros(4), np.array([1, 0, 0, 1])).area == 0.5
    metrics = MatchMetrics()
    metrics.update(torch.ones(3), torch.ones(3).long())
    assert torch.isnan(metrics.compute()["fpr95"])


def test_training_parts_pairs_and_keeps_the_threshold_of_validation(tmp_path):
    task = PatchMatchingTask("two_channel", two_channel={"filters": [8, 8, 8], "hidden": 8})
    data = GeneratedPatchData(scenes=4, patches_per_image=8, input=task.input, batch_size=8)
    run = fit(task, data, run=tmp_path / "run", max_epochs=1, report=False, logger=False, accelerator="cpu")
    chosen = task.card["threshold"]
    assert chosen == pytest.approx(run.metrics["val/threshold"])
    stored = load_task(next(tmp_path.rglob("last.ckpt")))
    patch = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    predicted = Predictor(stored)({"first": patch, "second": patch})
    assert isinstance(predicted, PatchMatch) and predicted.threshold == pytest.approx(chosen)
    assert not Predictor(stored)({"first": patch, "second": patch}, threshold=predicted.score + 1).is_match


def test_a_prediction_states_itself():
    found, truth = PatchMatch(1.5, 0.5), PatchMatch(0.0).truth({"match": np.int64(0)})
    assert found.is_match and found.text() == "match (score 1.500, threshold 0.500)"
    assert truth is not None and not truth.is_match
    assert found.row(truth) == {"truth": "no match", "prediction": "match", "score": 1.5, "correct": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "hing"}, "did you mean 'hinge'"),
        ({"input": {"size": (32, 32)}}, "too small for the layers of siamese"),
        ({"input": {"resize_mode": "native"}}, "compared at one size"),
        ({"siamese": {"compare": "l3"}}, "model.siamese.compare"),
        ({"siamese": {"filters": [4]}}, "give the filters of three convolutions"),
        ({"architecture": "siamese_central_surround", "input": {"size": (65, 64)}}, "need even sides"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UsageError, match=message):
        PatchMatchingTask(**arguments)
