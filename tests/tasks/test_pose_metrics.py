"""The metric of poses: crops and whole images, values of each image, PCK by hand, and what a target states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.pose.metrics import PoseMetrics, image_id, image_table, keypoint_table, truth_of
from tests.tasks.test_pose import people_at
from visionkit.families.keypoints.oks import PoseResults
from visionkit.skeleton import Skeleton

COCO = Skeleton.of("coco17")


def test_metric_of_crops_equals_metric_of_images():
    rng = np.random.default_rng(0)
    whole, crops = PoseMetrics(COCO), PoseMetrics(COCO)
    for number in range(3):
        keypoints = torch.from_numpy(people_at([(60, 70), (150, 80)])).double()
        boxes = torch.tensor([[30.0, 5, 90, 140], [120, 10, 180, 150]])
        target = {"file_boxes": boxes, "file_area": torch.tensor([5e3, 1e4])}
        found_keypoints = keypoints[..., :2].numpy() + rng.normal(0, 4, (2, 17, 2))
        scores = rng.random(2)
        name = f"image {number}"
        truth = truth_of(target, keypoints, name)
        whole.update([PoseResults(truth.image, found_keypoints, scores)], [truth])
        for k in range(2):
            one = truth_of({key: value[k : k + 1] for key, value in target.items()}, keypoints[k : k + 1], name)
            crops.update([PoseResults(one.image, found_keypoints[k : k + 1], scores[k : k + 1])], [one])
    ours, theirs = whole.compute(), crops.compute()
    assert 0 < ours["ap"] < 1
    for key, value in ours.items():
        assert torch.allclose(value, theirs[key]), key


def test_values_of_each_image_go_to_the_results_file_by_name():
    skeleton = Skeleton.of("face5")
    keypoints = torch.tensor([[[20.0, 30, 2], [60, 30, 2], [40, 50, 2], [25, 70, 2], [55, 70, 0]]])
    metric = PoseMetrics(skeleton)
    for name, shift in (("b.png", 0.0), ("a.png", 4.0)):
        truth = truth_of({"file_boxes": torch.tensor([[0.0, 0, 80, 80]])}, keypoints, name)
        metric.update([PoseResults(truth.image, truth.keypoints[..., :2] + (shift, 0), np.ones(1))], [truth])
    computed = metric.compute()
    table = image_table(computed["images"], metric.names)
    assert [(row["image"], row["people"]) for row in table] == [("a.png", 1), ("b.png", 1)]
    assert [row["EPE"] for row in table] == [4, 0] and [row["NME"] for row in table] == [pytest.approx(0.1), 0]
    assert float(computed["epe"]) == 2 and float(computed["nme"]) == pytest.approx(0.05)
    assert float(computed["nme_box"]) == pytest.approx(0.025) and float(computed["auc"]) == 0.5
    metric.reset()
    assert metric.names == {}


def test_pck_by_hand():
    metric = PoseMetrics(COCO)
    keypoints = torch.from_numpy(people_at([(100, 100)], height=100)).double()
    torso = float((keypoints[0, 5, :2] - keypoints[0, 12, :2]).norm())
    found_keypoints = keypoints[..., :2].numpy().copy()
    found_keypoints[0, 0] += (0.19 * torso, 0)  # right
    found_keypoints[0, 1] += (0.21 * torso, 0)  # wrong
    truth = truth_of({}, keypoints, "a")
    metric.update([PoseResults(truth.image, found_keypoints, np.ones(1))], [truth])
    values = metric.compute()
    assert float(values["pck"]) == pytest.approx(16 / 17)
    assert values["keypoints"][:3, 0].tolist() == [1, 0, 1]
    mpii = Skeleton.of("mpii16")
    metric = PoseMetrics(mpii)
    places = torch.rand(1, 16, 3).double() * 100
    places[..., 2] = 1
    places[0, 8, :2], places[0, 9, :2] = torch.tensor([50.0, 50]), torch.tensor([50.0, 30])  # a head of 20 pixels
    found_keypoints = places[..., :2].numpy().copy()
    found_keypoints[0, 3] += (0, 10.5)
    truth = truth_of({}, places, "a")
    metric.update([PoseResults(truth.image, found_keypoints, np.ones(1))], [truth])
    assert float(metric.compute()["pckh"]) == pytest.approx(15 / 16)


def test_a_target_without_boxes_and_areas_has_those_of_its_labeled_keypoints():
    keypoints = torch.tensor([[[10.0, 20, 2], [30, 60, 1], [500, 500, 0]], [[5.0, 5, 0], [6, 6, 0], [7, 7, 0]]])
    truth = truth_of({}, keypoints, "folder/a.png")
    assert truth.boxes.tolist() == [[10, 20, 30, 60], [0, 0, 0, 0]]
    assert truth.area.tolist() == [pytest.approx(0.53 * 20 * 40), 0] and truth.crowd.tolist() == [False, False]
    assert truth.image.tolist() == [image_id("folder/a.png")] * 2 and truth.name == "folder/a.png"
    assert truth.keypoints.tolist() == keypoints.tolist()
    nobody = truth_of({}, torch.zeros(0, 3, 3), "b")
    assert nobody.boxes.shape == (0, 4) and nobody.crowd.shape == nobody.image.shape == (0,)


def test_what_is_annotated_in_file_pixels_comes_first():
    keypoints = torch.ones(2, 3, 3)
    boxes = torch.tensor([[0.0, 0, 4, 4], [1, 1, 3, 3]])
    target = {"file_boxes": boxes, "file_area": torch.tensor([7.0, 8.0]), "area": torch.tensor([1.0, 1.0])}
    target |= {"file_iscrowd": torch.tensor([0, 1]), "iscrowd": torch.tensor([1, 0])}
    truth = truth_of(target, keypoints, "a")
    assert (truth.boxes.tolist(), truth.area.tolist(), truth.crowd.tolist()) == (boxes.tolist(), [7, 8], [False, True])
    other = truth_of({"area": torch.tensor([5.0, 6.0]), "iscrowd": torch.tensor([1, 0])}, keypoints, "a")
    assert other.area.tolist() == [5, 6] and other.crowd.tolist() == [True, False]
    cut = truth_of({"file_boxes": boxes[:1], "iscrowd": torch.tensor([1])}, keypoints, "a")
    assert cut.boxes.tolist() == [[1, 1, 1, 1]] * 2 and not cut.crowd.any(), "of other people than these"


def test_crowds_count_for_nobody():
    keypoints = torch.from_numpy(people_at([(60, 70), (150, 80)])).double()
    target = {
        "file_iscrowd": torch.tensor([0, 1]),
        "file_boxes": torch.tensor([[30.0, 5, 90, 140], [120, 10, 180, 150]]),
    }
    truth = truth_of(target, keypoints, "a")
    metric = PoseMetrics(COCO)
    metric.update([PoseResults(truth.image[:1], keypoints[:1, :, :2].numpy(), np.ones(1))], [truth])
    assert float(metric.compute()["ar"]) == 1 and metric.compute()["keypoints"][:, 2].tolist() == [1] * 17
    blank = PoseMetrics(COCO)
    blank.update([], [truth])
    assert float(blank.compute()["ar"]) == 0


def test_an_image_s_number_is_that_of_its_name_on_every_machine():
    assert image_id("a.png") != image_id("b.png") and 0 <= image_id("a.png") < 1 << 56
    assert image_id("a.png") == 22800621583458311, "the number by which processes put crops of one image together"


def test_the_table_of_keypoints_names_its_measure():
    values = torch.tensor([[0.5, 0.25, 4.0]] * 16)
    assert keypoint_table(values, Skeleton.of("mpii16"))[0] == {
        "keypoint": Skeleton.of("mpii16").keypoints[0], "PCKh": 0.5, "mean OKS": 0.25, "labeled": 4,
    }  # fmt: skip
    assert "PCK" in keypoint_table(torch.ones(17, 3), COCO)[16]


def test_images_without_a_name_are_listed_all_the_same():
    rows = image_table(torch.tensor([[0.0, 7, 2, 0.5, -1, -1], [1.0, 3, 1, 1.0, 2, 0.25]]), {(1 << 28) + 3: "b.png"})
    assert rows == [
        {"image": "", "people": 2, "OKS": 0.5, "EPE": -1, "NME": -1},
        {"image": "b.png", "people": 1, "OKS": 1, "EPE": 2, "NME": 0.25},
    ]


def test_the_states_of_several_processes_arrive_as_tensors():
    keypoints = torch.from_numpy(people_at([(60, 70)])).double()
    alone, gathered = PoseMetrics(COCO), PoseMetrics(COCO)
    truth = truth_of({}, keypoints, "a")
    for metric in (alone, gathered):
        metric.update([PoseResults(truth.image, keypoints[..., :2].numpy() + 3, np.ones(1))], [truth])
    for name in ("found_image", "found_keypoints", "found_scores", "true_image", "true_keypoints", "true_rest"):
        setattr(gathered, name, torch.cat(getattr(gathered, name)))
    theirs = gathered.compute()
    assert all(torch.equal(value, theirs[key]) for key, value in alone.compute().items())


def test_names_of_all_processes_are_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)

    def gather(out, own):
        out[0], out[1] = own, {3: "of the other"}

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    metric = PoseMetrics(COCO)
    metric.update([], [truth_of({}, torch.zeros(0, 17, 3), "own")])
    monkeypatch.setattr(metric, "_to_sync", False)
    metric.compute()
    assert metric.names == {image_id("own"): "own", 3: "of the other"}


def test_nothing_found_and_nothing_there_is_measured_too():
    metric = PoseMetrics(COCO)
    metric.update([], [])
    values = metric.compute()
    assert values["keypoints"].shape == (17, 3) and values["images"].shape == (0, 6)
