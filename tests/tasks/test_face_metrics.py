"""What `FaceMetrics` computes of a split: from pairs, from galleries, and from any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.face_recognition.metrics import FaceMetrics, match_table
from tasks.face_recognition.verification import Roc, ten_fold
from tests.ranks import on_two_ranks


def embeddings(people=8, images=6, width=8, seed=0):
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(people), images)
    values = rng.normal(size=(people, width))[identity] + 0.8 * rng.normal(size=(len(identity), width))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return torch.tensor(values, dtype=torch.float32), torch.tensor(identity), [f"p{k}" for k in range(len(identity))]


def measured(metric, rows, values, identity, names, **columns):
    for some in np.array_split(np.asarray(rows), 3):
        more = {key: column[some] for key, column in columns.items()}
        metric.update(values[some], identity[some], [names[k] for k in some], **more)


def test_the_order_of_images_and_the_number_of_ranks_change_nothing():
    values, identity, names = embeddings()
    one = FaceMetrics()
    measured(one, range(len(names)), values, identity, names)
    expected = one.compute()
    assert {"accuracy", "eer", "tar_at_far_1e-1", "rank1", "rank5", "map", "roc", "cmc"} <= expected.keys()
    ranks = []
    for rank in range(2):
        metric = FaceMetrics()
        measured(metric, np.arange(rank, len(names), 2)[::-1].copy(), values, identity, names)
        ranks.append(metric)
    both = FaceMetrics()
    both.embeddings = [torch.cat(list(each.embeddings)) for each in ranks]
    both.facts = [torch.cat(list(each.facts)) for each in ranks]
    both._update_count = 1
    for key, value in both.compute().items():
        assert torch.equal(value, expected[key]), key


def _of_rank(rank):
    values, identity, names = embeddings()
    metric = FaceMetrics()
    measured(metric, np.arange(rank, len(names), 2)[: 24 - 4 * rank], values, identity, names)
    return {key: value.numpy() for key, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_processes_state_what_one_states():
    """Of unequal numbers of images, which is what a sampler that repeats nothing leaves them."""
    values, identity, names = embeddings()
    rows = np.concatenate([np.arange(0, 48, 2), np.arange(1, 48, 2)[:20]])
    one = FaceMetrics()
    measured(one, rows, values, identity, names)
    expected = one.compute()
    for prediction in on_two_ranks(_of_rank):
        assert prediction.keys() == expected.keys()
        assert all(np.array_equal(prediction[key], value.numpy()) for key, value in expected.items())


def test_where_the_data_lies_changes_nothing():
    """Folds are dealt in an order of their own, in which the folder of all people has no state."""
    values, identity, _ = embeddings()
    found = []
    for root in ("faces", "/somewhere/else/of/faces"):
        metric = FaceMetrics()
        metric.update(values, identity, [f"{root}/s{person}/{k}.pgm" for k, person in enumerate(identity.tolist())])
        found.append(metric.compute())
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_listed_pairs_are_what_is_verified():
    values, identity, names = embeddings(people=40, images=2)
    pair = torch.arange(80) // 2
    other = identity.clone()
    other[1::4] = 1000 + torch.arange(20)  # every second pair is of different people
    metric = FaceMetrics()
    metric.update(values, other, names, pair=pair)
    found = metric.compute()
    scores = (values[0::2].double() * values[1::2].double()).sum(1).numpy()
    same = (other[0::2] == other[1::2]).numpy()
    assert abs(float(found["eer"]) - Roc.of(scores, same).equal_error_rate) < 1e-6
    assert "rank1" not in found, "a list of pairs is no gallery"
    assert abs(float(found["accuracy"]) - ten_fold(scores, same, np.arange(40) * 10 // 40).mean) < 1e-6


def test_a_gallery_is_not_verified():
    values, identity, names = embeddings()
    gallery = torch.tensor([k % 6 < 3 for k in range(48)]).long()
    metric = FaceMetrics()
    metric.update(values, identity, names, gallery=gallery)
    alone = FaceMetrics()
    probes = torch.nonzero(gallery == 0).flatten()
    alone.update(values[probes], identity[probes], [names[k] for k in probes.tolist()])
    assert torch.equal(metric.compute()["eer"], alone.compute()["eer"])
    assert metric.compute()["rank1"] > 0.5


def test_every_pair_of_a_split_is_verified_once():
    values, identity, names = embeddings()
    metric = FaceMetrics()
    metric.update(values, identity, names)
    first, second = np.triu_indices(len(names), 1)
    scores = (values.double() @ values.double().T).numpy()[first, second]
    roc = Roc.of(scores, (identity[first] == identity[second]).numpy())
    found = metric.compute()
    assert float(found["auc"]) == pytest.approx(roc.area, abs=1e-6)
    assert float(found["tar_at_far_1e-2"]) == pytest.approx(roc.at(1e-2)[0], abs=1e-6)


def test_of_very_many_images_some_are_verified(monkeypatch):
    from tasks.face_recognition import metrics

    values, identity, names = embeddings()
    whole, cut = FaceMetrics(), FaceMetrics()
    for metric in (whole, cut):
        metric.update(values, identity, names)
    some = whole.compute()
    monkeypatch.setattr(metrics, "MAX_IMAGES", 24)
    fewer = cut.compute()
    assert not torch.equal(some["auc"], fewer["auc"]) and torch.equal(some["rank1"], fewer["rank1"])


@pytest.mark.parametrize("role", [0, 1])
def test_probes_without_a_gallery_are_compared_with_each_other(role):
    values, identity, names = embeddings()
    metric, plain = FaceMetrics(), FaceMetrics()
    metric.update(values, identity, names, gallery=torch.full_like(identity, role))
    plain.update(values, identity, names)
    assert torch.equal(metric.compute()["cmc"], plain.compute()["cmc"])


def test_a_list_of_one_pair_is_a_list():
    values, identity, names = embeddings(people=2, images=2)
    metric = FaceMetrics()
    metric.update(values[:2], identity[:2], names[:2], pair=torch.zeros(2, dtype=torch.int64))
    assert "rank1" not in metric.compute()


def test_the_rows_of_the_match_curve():
    assert match_table(torch.tensor([0.5, 0.75])) == [{"rank": 1, "found": 0.5}, {"rank": 2, "found": 0.75}]


def test_one_person_alone_gives_no_number():
    values, identity, names = embeddings(people=1, images=4)
    metric = FaceMetrics()
    metric.update(values, identity, names)
    assert torch.isnan(metric.compute()["accuracy"])
