"""The task: network, losses, metrics and protocols, alignment."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.face_recognition.alignment import FRAMINGS, face_view, similarity, template
from tasks.face_recognition.identification import rank_all
from tasks.face_recognition.loss import LOSSES, FaceLoss
from tasks.face_recognition.task import FaceRecognitionTask
from tasks.face_recognition.verification import Roc, deal, ten_fold
from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec


def tiny(**arguments):
    given = {"identities": 4, "embedding": 16, "input": InputSpec(size=(32, 32), resize_mode="stretch"), **arguments}
    return FaceRecognitionTask("test_resnet", **given)


# ---------------------------------------------------------------------- network


def test_mobilefacenet_is_the_papers():
    from torch.utils.flop_counter import FlopCounterMode

    task = FaceRecognitionTask("mobilefacenet", identities=10, head="own", flip_tta=False).eval()
    assert sum(p.numel() for p in task.network.parameters()) == 1_003_136
    image = torch.zeros(1, 3, 112, 112, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert task(image).embedding.shape == (1, 128)
    assert round(counter.get_total_flops() / 2 / 1e6) == 221
    assert sum(p.numel() for p in task.served().parameters()) == 1_003_136, "the training head is not served"


@pytest.mark.parametrize("head", ["pool", "gdc", "own"])
def test_heads_give_the_width_that_they_say(head):
    task = tiny(head=head, embedding=None if head == "own" else 24)
    out = task.eval()(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).embedding
    assert out.shape == (2, task.embedding)


def test_a_width_that_the_own_head_does_not_have_is_reported():
    with pytest.raises(UsageError, match="with head own, test_resnet gives"):
        tiny(head="own", embedding=7)


def test_the_flip_is_added_when_in_use():
    torch.manual_seed(0)
    task = tiny().eval()
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    task.network.flip_tta = False
    with torch.no_grad():
        expected = task(image).embedding + task(image.flip(-1)).embedding
        task.network.flip_tta = True
        assert torch.allclose(task(image).embedding, expected, atol=1e-5)
        assert torch.allclose(task.decode(task(image)).norm(dim=1), torch.ones(2))


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_gradient_and_falls(name):
    torch.manual_seed(0)
    loss = FaceLoss(name, 4, 8, scale=None if name in ("softmax", "triplet") else 8.0)
    embedding = torch.nn.Parameter(torch.randn(16, 8))
    identity = torch.arange(4).repeat_interleave(4)
    optimizer = torch.optim.Adam([embedding, *loss.parameters()], lr=0.05)
    values = []
    for _ in range(60):
        value = loss(embedding, identity)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert all(map(math.isfinite, values)) and values[-1] < 0.5 * values[0]


def test_the_margin_makes_it_harder():
    torch.manual_seed(0)
    embedding, identity = torch.randn(8, 8), torch.arange(4).repeat(2)
    easy, hard = FaceLoss("cosface", 4, 8, margin=0.0), FaceLoss("cosface", 4, 8, margin=0.3)
    hard.load_state_dict(easy.state_dict())
    assert float(hard(embedding, identity)) > float(easy(embedding, identity))


def angles_of(loss, embedding):
    """Cosines and angles between embeddings (B, D) and the directions of people, and these directions (D, K)."""
    (weights,) = loss.parameters()
    directions = weights if weights.shape[0] == embedding.shape[1] else weights.T
    cosine = torch.nn.functional.normalize(embedding) @ torch.nn.functional.normalize(directions, dim=0)
    return cosine, torch.arccos(cosine), directions


@pytest.mark.parametrize("name", ["cosface", "arcface", "sphereface", "l_softmax"])
def test_a_margin_is_that_of_its_paper(name):
    torch.manual_seed(0)
    loss, embedding, identity = FaceLoss(name, 5, 8), torch.randn(6, 8), torch.arange(6) % 5
    with torch.no_grad():
        cosine, angle, directions = angles_of(loss, embedding)
        own = torch.nn.functional.one_hot(identity, 5).bool()
        folded = (4 * angle / math.pi).floor()
        psi = (-1) ** folded * (4 * angle).cos() - 2 * folded  # Liu et al., 2016 and 2017
        length, weight = embedding.norm(dim=1, keepdim=True), directions.norm(dim=0)
        with_margin, scale = {
            "cosface": (cosine - 0.35, 64.0),
            "arcface": ((angle + math.radians(28.6)).cos(), 64.0),
            "sphereface": (psi, length),
            "l_softmax": (psi, length * weight),
        }[name]
        expected = torch.nn.functional.cross_entropy(scale * torch.where(own, with_margin, cosine), identity)
        assert float(loss(embedding, identity)) == pytest.approx(float(expected), rel=1e-3)


def test_a_factor_of_one_is_no_margin():
    torch.manual_seed(0)
    embedding, identity = torch.randn(6, 8), torch.arange(6) % 5
    loss = FaceLoss("sphereface", 5, 8, margin=1)
    with torch.no_grad():
        cosine, _, _ = angles_of(loss, embedding)
        plain = torch.nn.functional.cross_entropy(embedding.norm(dim=1, keepdim=True) * cosine, identity)
        assert float(loss(embedding, identity)) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"name": "arcfase"}, "did you mean 'arcface'"), ({"name": "sphereface", "margin": 1.5}, "whole number")],
)
def test_a_wrong_loss_is_reported(arguments, said):
    with pytest.raises(UsageError, match=said):
        FaceLoss(identities=3, embedding=8, **arguments)


def test_nothing_to_train_is_reported():
    task = tiny(identities=0).eval()
    with pytest.raises(UsageError, match="nothing to train"):
        task.losses(task(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), {"identity": torch.zeros(1).long()})


def test_more_people_than_there_are_directions_are_reported():
    task = tiny(identities=4)
    outputs = task(torch.zeros(3, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"model\.identities 4: the training data has at least 8 people"):
        task.losses(outputs, {"identity": torch.tensor([0, 3, 7])})
    assert torch.isfinite(task.losses(outputs, {"identity": torch.tensor([0, 1, 3])})["arcface"])


def test_the_command_line_compares_the_number_of_people_before_it_builds_anything(tmp_path):
    from datamodules.identities import IdentityData
    from visionkit.linking import link

    for person in range(6):
        (tmp_path / f"{person}").mkdir()
        for number in range(2):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{person}" / f"{number}.png")

    def linked(identities, learning):
        data = {"root": str(tmp_path), "val_fraction": 0.0}
        return link({"identities": identities}, data, FaceRecognitionTask, IdentityData, learning)["identities"]

    assert linked(None, True) == 6 and linked(9, True) == 9, "more directions than people do no harm"
    with pytest.raises(UsageError, match=r"model\.identities 3: the training data has 6 people"):
        linked(3, True)
    assert linked(3, False) == 3, "who is measured need not be who was trained on"


# ---------------------------------------------------------------------- verification


def scores_and_labels(count=400, ties=False, seed=0):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.3
    scores = rng.normal(0, 1, count) + same
    return (np.round(scores, 1) if ties else scores), same


@pytest.mark.parametrize("ties", [False, True])
def test_the_curve_equals_scikit_learns(ties):
    metrics = pytest.importorskip("sklearn.metrics")
    scores, same = scores_and_labels(ties=ties)
    roc = Roc.of(scores, same)
    far, tar, thresholds = metrics.roc_curve(same, scores, drop_intermediate=False)
    assert np.abs(roc.far - far).max() < 1e-9 and np.abs(roc.tar - tar).max() < 1e-9
    assert np.array_equal(roc.thresholds, thresholds)
    assert abs(roc.area - metrics.auc(far, tar)) < 1e-9
    from scipy.optimize import brentq

    expected = brentq(lambda x: 1 - x - np.interp(x, far, tar), 0, 1, xtol=1e-12)
    assert abs(roc.equal_error_rate - expected) < 1e-9


def test_a_rate_is_stated_only_where_the_pairs_support_it():
    scores, same = scores_and_labels(3000)
    roc = Roc.of(scores, same)
    assert roc.supports(0.01) and not roc.supports(0.001)
    tar, threshold = roc.at(0.01)
    accepted = scores >= threshold
    assert accepted[~same].mean() <= 0.01 and abs(accepted[same].mean() - tar) < 1e-12
    with pytest.raises(ValueError, match="cannot support"):
        roc.at(0.001)


def test_ten_folds_by_hand():
    # Two folds. On fold 1's pairs the best threshold lies between .4 and .8, in the middle at .6: fold 0 then has one
    # of two same pairs (.9, not .5) and both different ones (.1, .2) right: .75. On fold 0's it is between .2 and .5,
    # at .35: fold 1 has both same pairs (.8, .9) and one of two different ones (.1, not .4) right: .75.
    scores = np.array([0.9, 0.5, 0.1, 0.2, 0.8, 0.9, 0.4, 0.1])
    same = np.array([1, 1, 0, 0, 1, 1, 0, 0], bool)
    found = ten_fold(scores, same, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert abs(found.mean - 0.75) < 1e-12 and found.deviation == 0
    assert abs(found.threshold - 0.475) < 1e-12


def test_pairs_are_dealt_evenly():
    same = np.array([True] * 7 + [False] * 25)
    folds = deal(same)
    assert folds.max() == 6 and all(same[folds == k].any() and (~same[folds == k]).any() for k in range(7))


# ---------------------------------------------------------------------- identification


def test_ranks_and_precision_by_hand():
    angle = np.deg2rad([0, 5, 40, 12])
    gallery = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    probe = np.array([[1.0, 0.0]])
    # In order of similarity: person 2, 1, 2, 1 at 0, 5, 12, 40 degrees; asked for is person 1.
    found = rank_all(probe, gallery, np.array([1]), np.array([2, 1, 1, 2]))
    assert found.first.tolist() == [1] and found.rank(1) == 0 and found.rank(2) == 1
    assert abs(found.mean_average_precision - (1 / 2 + 2 / 4) / 2) < 1e-12
    # The camera that took the probe does not count.
    same_camera = rank_all(
        probe, gallery, np.array([1]), np.array([2, 1, 1, 2]), None, np.array([7]), np.array([7, 7, 8, 8])
    )
    assert same_camera.first.tolist() == [2]
    # Junk is not compared.
    assert rank_all(probe, gallery, np.array([1]), np.array([-1, 1, 1, 2])).first.tolist() == [0]


def test_ties_count_against_the_probe():
    gallery = np.array([[1.0, 0.0], [1.0, 0.0]])
    for people in ([0, 1], [1, 0]):
        found = rank_all(np.array([[1.0, 0.0]]), gallery, np.array([1]), np.array(people))
        assert found.first.tolist() == [1]


def test_the_open_set_by_hand():
    # Ten known probes of similarity 1.0 ... 0.1 with the right person first; ten strangers of 0.95 ... 0.05.
    known, other = np.arange(1.0, 0.05, -0.1), np.arange(0.95, 0.0, -0.1)
    from tasks.face_recognition.identification import Ranking

    first = np.array([0] * 10 + [-1] * 10)
    none = np.full(10, np.nan)
    ranking = Ranking(
        first,
        np.zeros(20),
        np.concatenate([known, none]),
        np.concatenate([np.zeros(10), other]),
        np.array([False] * 10 + [True] * 10),
    )
    # One stranger in ten may pass: the threshold is the second highest, 0.85; known above it are 1.0 and 0.9.
    assert ranking.open_set(0.1) == 0.2 and not ranking.supports(0.1)


# ---------------------------------------------------------------------- alignment


@pytest.mark.parametrize("framing", sorted(FRAMINGS))
def test_five_points_land_on_the_template(framing):
    rng = np.random.default_rng(0)
    size = FRAMINGS[framing].size
    for angle in (0.0, *rng.uniform(-math.pi, math.pi, 200)):
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = template(framing) @ turn.T * rng.uniform(0.2, 8) + rng.uniform(-50, 900, 2)
        geometry = Geometry.plan(InputSpec(size=size, resize_mode="stretch"), (900, 900), face_view(points, framing))
        assert np.abs(geometry.apply_points(points).numpy() - template(framing)).max() < 1e-6


def test_the_pixels_land_there_too():
    """Bright dots at the landmarks of a tilted face are found at the template, within half a pixel."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        angle, scale = rng.uniform(-0.6, 0.6), rng.uniform(1.0, 3.0)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = (template() - 56) @ turn.T * scale + rng.uniform(250, 350, 2)
        y, x = np.mgrid[:600, :600] + 0.5
        source_image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (3 * scale) ** 2)) for px, py in points)
        image = np.repeat((source_image.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
        geometry = Geometry.plan(InputSpec(size=(112, 112), resize_mode="stretch"), (600, 600), face_view(points))
        seen = geometry.apply_image(image)[0].numpy().astype(float)
        for px, py in template():
            rows, columns = slice(int(py) - 6, int(py) + 7), slice(int(px) - 6, int(px) + 7)
            weight = seen[rows, columns]
            at_y, at_x = np.mgrid[rows, columns] + 0.5
            center = (weight * at_x).sum() / weight.sum(), (weight * at_y).sum() / weight.sum()
            assert math.hypot(center[0] - px, center[1] - py) < 0.5


def test_points_that_state_nothing_are_refused():
    for points in (np.zeros((5, 2)), np.full((5, 2), np.nan)):
        with pytest.raises(ValueError, match="different, finite points"):
            similarity(points, template())
