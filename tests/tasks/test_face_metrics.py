"""What `FaceMetrics` computes of a split: from pairs, from galleries, and from any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.face_recognition.metrics import FaceMetrics, curve, curve_table, match_table
from tasks.face_recognition.verification import Roc, deal, ten_fold


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


def of(values, identity, **columns):
    metric = FaceMetrics()
    names = [f"p{k}" for k in range(len(identity))]
    metric.update(
        values, torch.as_tensor(identity), names, **{key: torch.as_tensor(each) for key, each in columns.items()}
    )
    return metric.compute()


PLANE = torch.tensor([[1.0, 0], [0.8, 0.6], [0, 1], [-0.6, 0.8]])
"""Two images each of two people; the cosines within are 0.8 and 0.8, those between at most 0.6."""


def test_two_people_in_a_plane_by_hand():
    found = of(PLANE, [0, 0, 1, 1])
    # Two folds: by the threshold 0.4 of the second a pair of the first is wrongly accepted, by 0.7 nothing is wrong.
    expected = {"accuracy": 0.875, "accuracy_std": 0.125, "threshold": 0.55, "eer": 0, "auc": 1}
    expected |= {"rank1": 1, "rank5": 1, "map": 1}
    assert {name: float(found[name]) for name in expected} == pytest.approx(expected)
    assert found["cmc"].tolist() == [1] * 10 and not [name for name in found if name.startswith(("tar", "dir"))]
    single = of(PLANE[:3], [0, 0, 1])
    assert torch.isnan(single["accuracy"]) and torch.isnan(single["eer"]), "one pair of one person states nothing"
    assert float(single["rank1"]) == 1
    assert set(of(PLANE[:1], [0])) == {"accuracy", "eer"}, "one image has nobody to be compared with"
    assert set(of(PLANE[[0, 2]], [0, 1])) == {"accuracy", "eer"}, "nobody here can be found"


def test_an_image_is_found_at_the_place_of_its_first_likeness():
    """The probe's own person comes second: rank 1 fails, and the precision there is a half."""
    gallery = {"gallery": [0, 1, 1]}
    found = of(torch.tensor([[1.0, 0], [0.6, 0.8], [0.8, 0.6]]), [0, 0, 1], **gallery)
    assert (float(found["rank1"]), float(found["rank5"]), float(found["map"])) == (0, 1, 0.5)
    assert found["cmc"].tolist() == [0] + [1] * 9


def test_images_of_the_probe_s_own_camera_are_not_compared():
    values = torch.tensor([[1.0, 0], [0.99, 0.14], [0.6, 0.8], [0.8, 0.6]])
    columns = {"gallery": [0, 1, 1, 1]}
    assert float(of(values, [0, 0, 0, 1], **columns)["rank1"]) == 1
    assert float(of(values, [0, 0, 0, 1], **columns, camera=[0, 0, 1, 2])["rank1"]) == 0, "the nearest is by camera 0"
    assert float(of(values, [0, 0, 0, 1], **columns, camera=[-1] * 4)["rank1"]) == 1, "no camera is known"


def test_rates_are_stated_where_there_are_enough_pairs_and_strangers():
    values, identity, _ = embeddings(people=60, images=2)
    found = of(values, identity)
    # 7,080 pairs of different people support 10 at 0.01, and 7 at 0.001; 120 probes support 12 at 0.1, and 1 at 0.01.
    assert {"tar_at_far_1e-1", "tar_at_far_1e-2", "dir_at_far_1e-1"} == {name for name in found if "_far_" in name}
    assert 0 < float(found["dir_at_far_1e-1"]) <= float(found["rank1"]) + 1e-6


def test_folds_are_those_of_the_list_where_each_has_pairs_of_both_kinds():
    values, identity, names = embeddings(people=40, images=2)
    other = identity.clone()
    other[1::4] = 1000 + torch.arange(20)
    pair = torch.arange(80) // 2
    scores, same = (values[0::2].double() * values[1::2].double()).sum(1).numpy(), (other[0::2] == other[1::2]).numpy()
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    shuffled = FaceMetrics()
    shuffled.update(values[order], other[order], [names[k] for k in order.tolist()], pair=pair[order])
    listed = ten_fold(scores, same, np.arange(40) * 10 // 40)
    found = shuffled.compute()
    assert float(found["accuracy"]) == pytest.approx(listed.mean, abs=1e-6)
    assert float(found["accuracy_std"]) == pytest.approx(listed.deviation, abs=1e-6)
    assert float(found["threshold"]) == pytest.approx(listed.threshold, abs=1e-6)
    # The same pairs, those of one person first: then a fold of the list has one kind, and the pairs are dealt.
    place = np.argsort(~same, kind="stable")
    rows = np.stack([2 * place, 2 * place + 1], 1).reshape(-1)
    dealt = of(values[rows], other[rows], pair=pair)
    assert float(dealt["accuracy"]) == pytest.approx(
        ten_fold(scores[place], same[place], deal(same[place])).mean, abs=1e-6
    )
    few = of(values[:16], other[:16], pair=pair[:16])
    assert float(few["accuracy"]) == pytest.approx(ten_fold(scores[:8], same[:8], deal(same[:8])).mean, abs=1e-6)


def test_half_a_pair_is_none():
    values, identity, _ = embeddings(people=6, images=2)
    pair = torch.arange(12) // 2
    other = identity.clone()
    other[1::4] = 1000 + torch.arange(3)
    whole = of(values, other, pair=pair)
    pair[-1] = 99  # its other half is not in the split
    assert float(of(values, other, pair=pair)["auc"]) == pytest.approx(
        float(of(values[:10], other[:10], pair=pair[:10])["auc"])
    )
    assert whole.keys() == of(values, other, pair=pair).keys()


def test_a_curve_runs_from_strict_to_lenient_and_ends_where_all_are_accepted():
    rng = np.random.default_rng(0)
    same = np.arange(5000) < 1000
    roc = Roc.of(rng.normal(size=5000) + 1.5 * same, same)
    rows = curve(roc)
    assert rows.shape[1] == 3 and 50 < len(rows) <= 65 + 32
    assert (np.diff(rows[:, 0]) >= 0).all() and (np.diff(rows[:, 1]) >= 0).all() and (np.diff(rows[:, 2]) < 0).all()
    assert rows[-1, :2].tolist() == [1, 1] and np.isfinite(rows).all()
    for far, tar, threshold in rows:
        accepted = roc.thresholds >= threshold
        assert (far, tar) == (roc.far[accepted][-1], roc.tar[accepted][-1])
    assert rows[0, 0] <= 1 / 4000 and np.diff(rows[:, 1]).max() < 0.05, "low rates and all of TAR are shown"


def test_the_rows_of_the_curve_are_rounded_to_six_digits():
    assert curve_table(torch.tensor([[0.1234567, 0.9876543, 0.5]], dtype=torch.float64)) == [
        {"far": 0.123457, "tar": 0.987654, "threshold": 0.5}
    ]
    assert match_table(torch.tensor([0.12345678], dtype=torch.float64)) == [{"rank": 1, "found": 0.123457}]


def test_an_image_s_place_in_the_order_is_by_its_folder_and_name():
    values, identity, names = embeddings()
    one, other = FaceMetrics(), FaceMetrics()
    one.update(values, identity, [f"a/b/{name}" for name in names])
    other.update(values, identity, [f"c/{name}" for name in names])
    keys = [metric.facts[0][:, 1] for metric in (one, other)]
    assert not torch.equal(*keys) and len(set(keys[0].tolist())) == len(names)
    assert one.facts[0].shape == (48, 5) and (one.facts[0][:, 2:] == -1).all()
