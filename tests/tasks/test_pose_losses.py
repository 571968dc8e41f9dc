"""The losses of poses in numbers: a network that states nothing costs 1 per term, and each error counts as promised."""

from __future__ import annotations

import math

import pytest
import torch

from tasks.pose.fields import draw_fields
from tasks.pose.loss import (
    as_targets,
    field_losses,
    heatmap_losses,
    known_cells,
    offset_losses,
    place_losses,
    single_people,
)
from tasks.pose.network import FieldOutputs, HeatmapOutputs, OffsetOutputs, PlaceOutputs
from tasks.pose.offsets import draw_offsets
from visionkit.errors import UsageError
from visionkit.families.keypoints.heatmaps import draw_gaussians
from visionkit.skeleton import Skeleton

SIZE, STRIDE, SIGMA = (48, 64), 4.0, 3.0
# Two people of three keypoints far from the borders: labeled and hidden, labeled and seen, not labeled.
PEOPLE = torch.tensor(
    [[[90.0, 80.0, 1.0], [160.0, 110.0, 2.0], [70.0, 60.0, 0.0]], [[60.0, 90.0, 2.0], [150.0, 70.0, 2.0], [0, 0, 0.0]]]
)


def test_maps_of_zeros_cost_1_and_each_stage_is_judged_by_itself():
    wanted = draw_gaussians(PEOPLE[..., :2], SIZE, STRIDE, SIGMA)
    maps = torch.stack([torch.zeros_like(wanted), wanted, 3 * wanted], dim=1)
    terms = heatmap_losses(HeatmapOutputs(maps), PEOPLE, STRIDE, SIGMA)
    found = {name: float(value) for name, value in terms.items()}
    assert found == {name: pytest.approx(cost, abs=1e-2) for name, cost in zip(
        ("heatmaps_1", "heatmaps_2", "heatmaps_3"), (1, 0, 4), strict=True
    )}  # fmt: skip


def test_a_keypoint_that_is_missed_counts_by_its_part_of_the_labeled_ones():
    wanted = draw_gaussians(PEOPLE[..., :2], SIZE, STRIDE, SIGMA)
    maps = wanted.clone()
    maps[0, 0] = 0
    maps[:, 2] = 9.0  # nobody labeled these
    found = heatmap_losses(HeatmapOutputs(maps[:, None]), PEOPLE, STRIDE, SIGMA)
    assert float(found["heatmaps"]) == pytest.approx(1 / 4, abs=1e-2)


def test_without_any_label_maps_and_places_cost_nothing():
    nobody = torch.zeros(2, 3, 3)
    maps, places = torch.rand(2, 1, 3, *SIZE), torch.rand(2, 2, 3, 2)
    assert float(heatmap_losses(HeatmapOutputs(maps), nobody, STRIDE, SIGMA)["heatmaps"]) == 0
    terms = place_losses(PlaceOutputs(places, torch.rand(2, 3)), nobody, (64, 32))
    assert [float(value) for value in terms.values()] == [0, 0, 0]
    terms = offset_losses(OffsetOutputs(maps, torch.rand(2, 1, 6, *SIZE)), nobody, STRIDE, SIGMA)
    assert [float(value) for value in terms.values()] == [0, 0]


def test_a_single_labeled_keypoint_counts_whole():
    one = torch.zeros(1, 3, 3)
    one[0, 1] = torch.tensor([100.0, 90.0, 2.0])
    maps = torch.zeros(1, 1, 3, *SIZE)
    assert float(heatmap_losses(HeatmapOutputs(maps), one, STRIDE, SIGMA)["heatmaps"]) == pytest.approx(1, abs=1e-2)
    terms = offset_losses(OffsetOutputs(maps, torch.zeros(1, 1, 6, *SIZE)), one, STRIDE, SIGMA)
    assert [float(value) for value in terms.values()] == [pytest.approx(1, rel=0.05)] * 2
    places = torch.zeros(1, 1, 3, 2)
    terms = place_losses(PlaceOutputs(places, torch.zeros(1, 3)), one, (200, 200))
    assert float(terms["positions"]) == pytest.approx(10 * (0.5 + 0.45) / 2, rel=1e-5)


def test_discs_and_offsets_of_zeros_cost_1_each():
    discs, ways = draw_offsets(PEOPLE[..., :2], SIZE, STRIDE, SIGMA)
    maps = torch.stack([0 * discs, discs], dim=1)
    offsets = torch.stack([0 * ways, ways], dim=1).flatten(2, 3)
    offsets[:, 1] += 5 * (1 - discs.repeat_interleave(2, dim=1))  # outside a disc nothing is asked
    maps[:, :, 2], offsets[:, :, 4:] = 7.0, 7.0  # nobody labeled these
    terms = offset_losses(OffsetOutputs(maps, offsets), PEOPLE, STRIDE, SIGMA)
    assert {name: float(value) for name, value in terms.items()} == {
        "heatmaps_1": pytest.approx(1, rel=0.05),
        "heatmaps_2": pytest.approx(0, abs=1e-6),
        "offsets_1": pytest.approx(1, rel=0.05),
        "offsets_2": pytest.approx(0, abs=1e-6),
    }


def test_an_error_of_a_place_counts_by_the_height_of_the_image():
    """An image twice as wide as high: a tenth of its width is two tenths of its height."""
    people = torch.tensor([[[32.0, 16.0, 1.0], [64.0, 8.0, 0.0]], [[16.0, 24.0, 2.0], [0.0, 0.0, 0.0]]])
    places = (people[..., :2] / torch.tensor([128.0, 64.0]))[:, None].repeat(1, 3, 1, 1)
    places[0, 0, 0, 0] += 0.1
    places[1, 1, 0, 1] -= 0.1
    places[1, 2, 0] += 0.2
    places[:, :, 1] += 0.5  # nobody labeled these
    spread = torch.tensor([[-7.0, 3.0], [1.0, 3.0]])
    terms = place_losses(PlaceOutputs(places, spread), people, (64, 128))
    assert {name: float(value) for name, value in terms.items()} == {
        "positions_1": pytest.approx(10 * (0.2 / 2) / 2),
        "positions_2": pytest.approx(10 * (0.1 / 2) / 2),
        "positions_3": pytest.approx(10 * (0.6 / 2) / 2),
        # The first is sure and right, which costs nothing; the second states a spread of e and is off by 0.3.
        "spread": pytest.approx(0.1 * (0.3 / math.e + 1 + 7) / 2, rel=1e-4),
    }


def test_the_spread_moves_no_place():
    places = torch.full((1, 1, 1, 2), 0.3).requires_grad_()
    people = torch.tensor([[[32.0, 32.0, 2.0]]])
    terms = place_losses(PlaceOutputs(places, torch.zeros(1, 1)), people, (64, 64))
    assert not terms["spread"].requires_grad and terms["positions"].requires_grad


LIMBS = ((0, 1), (1, 2))
COCO = Skeleton.of("coco17")


def test_maps_and_fields_of_zeros_cost_1_and_each_stage_is_judged_by_itself():
    people = torch.tensor([[[60.0, 60.0, 2.0], [190.0, 60.0, 1.0], [190.0, 140.0, 2.0]]])
    target = [{"keypoints": people}, {"keypoints": people.flip(1)}]
    maps = torch.stack([draw_gaussians(each["keypoints"][0, :, :2], SIZE, STRIDE, SIGMA) for each in target])
    fields = torch.stack([draw_fields(each["keypoints"], LIMBS, SIZE, STRIDE, 1.0) for each in target])
    outputs = FieldOutputs(torch.stack([0 * maps, maps], 1), torch.stack([0 * fields, fields], 1))
    terms = field_losses(outputs, target, LIMBS, STRIDE, SIGMA, 1.0)
    assert {name: float(value) for name, value in terms.items()} == {
        "heatmaps_1": pytest.approx(1, abs=1e-2),
        "heatmaps_2": 0,
        "fields_1": pytest.approx(1, abs=1e-5),
        "fields_2": 0,
    }


def test_people_share_maps_and_images_without_people_want_none():
    two = torch.tensor([[[60.0, 60.0, 2.0]], [[190.0, 60.0, 1.0]], [[100.0, 150.0, 0.0]]])
    target = [{"keypoints": two}, {"keypoints": torch.zeros(0, 1, 3)}]
    maps, fields = torch.zeros(2, 1, 1, *SIZE), torch.zeros(2, 1, 2, *SIZE)
    terms = field_losses(FieldOutputs(maps, fields), target, ((0, 0),), STRIDE, SIGMA, 1.0)
    assert float(terms["heatmaps"]) == pytest.approx(2 / 3, abs=1e-2), "of three people one keypoint is not labeled"
    assert float(terms["fields"]) == 0
    drawn = draw_gaussians(two[:2, :, :2], SIZE, STRIDE, SIGMA).amax(dim=0)
    perfect = torch.stack([drawn, torch.zeros_like(drawn)])[:, None]
    terms = field_losses(FieldOutputs(perfect, fields), target, ((0, 0),), STRIDE, SIGMA, 1.0)
    assert float(terms["heatmaps"]) == pytest.approx(0, abs=1e-6)
    empty = [{"keypoints": torch.zeros(0, 1, 3)}] * 2
    terms = field_losses(FieldOutputs(maps + 0.5, fields), empty, ((0, 0),), STRIDE, SIGMA, 1.0)
    assert float(terms["heatmaps"]) == pytest.approx(2 * 48 * 64 * 0.25 / (math.pi * SIGMA**2), rel=1e-5)


def test_only_boxes_of_crowds_and_of_people_without_keypoints_are_unknown():
    keypoints = torch.zeros(3, 2, 3)
    keypoints[0, 1] = torch.tensor([10.0, 10.0, 1.0])
    boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [24.0, 8.0, 40.0, 16.0], [48.0, 32.0, 63.9, 48.0]])
    expected = torch.ones(12, 16)
    expected[2:4, 6:10] = 0
    expected[8:12, 12:16] = 0
    assert torch.equal(known_cells({"boxes": boxes}, keypoints, (12, 16), 4.0), expected)
    nothing = torch.zeros(3, dtype=torch.long)
    assert torch.equal(known_cells({"boxes": boxes, "iscrowd": nothing}, keypoints, (12, 16), 4.0), expected)
    assert torch.equal(known_cells({}, keypoints, (12, 16), 4.0), torch.ones(12, 16))
    assert torch.equal(known_cells({"boxes": boxes[:0]}, keypoints[:0], (12, 16), 4.0), torch.ones(12, 16))


def test_targets_without_people_are_refused():
    targets = [{"keypoints": torch.zeros(0, 17, 3)}]
    assert as_targets(targets) is targets
    with pytest.raises(UsageError, match="the data gives no keypoints"):
        as_targets({"labels": torch.zeros(2)})


def test_a_crop_without_a_person_has_keypoints_that_nobody_labeled():
    nobody = [{"keypoints": torch.zeros(0, 3, 3)}, {"keypoints": torch.zeros(0, 3, 3)}]
    assert torch.equal(single_people(nobody, 3, torch.device("cpu")), torch.zeros(2, 3, 3))
    one = [{"keypoints": PEOPLE[:1]}, *nobody[:1]]
    assert torch.equal(single_people(one, 3, torch.device("cpu")), torch.stack([PEOPLE[0], torch.zeros(3, 3)]))
    with pytest.raises(UsageError, match=r"the data has \? keypoints per person and the skeleton 3"):
        single_people([{"keypoints": torch.zeros(3, 3)}], 3, torch.device("cpu"))


def test_keypoints_that_nobody_labeled_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    people = torch.rand(2, 17, 3, generator=generator) * 60
    people[..., 2] = 2
    people[:, ::2, 2] = 0
    maps = torch.rand(2, 2, 17, 16, 16, generator=generator).requires_grad_()
    sum(heatmap_losses(HeatmapOutputs(maps), people, 4.0, 2.0).values()).backward()
    assert maps.grad[:, :, ::2].abs().max() == 0 and maps.grad[:, :, 1::2].abs().min() >= 0
    assert maps.grad[:, :, 1::2].abs().max() > 0
    places = torch.rand(2, 3, 17, 2, generator=generator).requires_grad_()
    spread = torch.zeros(2, 17, requires_grad=True)
    sum(place_losses(PlaceOutputs(places, spread), people, (64, 64)).values()).backward()
    assert places.grad[:, :, ::2].abs().max() == 0 and spread.grad[:, ::2].abs().max() == 0
    assert places.grad[:, :, 1::2].abs().max() > 0


def test_crowds_are_masked_for_bottom_up():
    target = {
        "boxes": torch.tensor([[0.0, 0, 32, 64], [40.0, 8, 60, 60]]),
        "iscrowd": torch.tensor([1, 0]),
        "keypoints": torch.zeros(2, 17, 3),
    }
    target["keypoints"][1] = torch.tensor([50.0, 30, 2])
    known = known_cells(target, target["keypoints"], (16, 16), 4.0)
    assert known[:, :8].sum() == 0 and known[:, 8:].min() == 1
    maps = torch.rand(1, 1, 17, 16, 16).requires_grad_()
    fields = torch.rand(1, 1, 38, 16, 16).requires_grad_()
    sum(field_losses(FieldOutputs(maps, fields), [target], COCO.limbs, 4.0, 1.5, 1.0).values()).backward()
    for grad in (maps.grad, fields.grad):
        assert grad[..., :8].abs().max() == 0 and grad[..., 8:].abs().max() > 0


def test_perfect_maps_and_places_have_no_loss():
    people = torch.rand(2, 17, 3) * 60
    people[..., 2] = 1
    maps = draw_gaussians(people[..., :2], (16, 16), 4.0, 2.0)[:, None]
    assert float(sum(heatmap_losses(HeatmapOutputs(maps), people, 4.0, 2.0).values())) == pytest.approx(0, abs=1e-6)
    assert float(sum(heatmap_losses(HeatmapOutputs(0 * maps), people, 4.0, 2.0).values())) < 1.01
    discs, ways = draw_offsets(people[..., :2], (16, 16), 4.0, 1.0)
    for fraction, cost in ((1, 0), (0, 2)):
        outputs = OffsetOutputs(fraction * discs[:, None], fraction * ways.flatten(1, 2)[:, None])
        terms = offset_losses(outputs, people, 4.0, 1.0)
        assert set(terms) == {"heatmaps", "offsets"} and float(sum(terms.values())) == pytest.approx(cost, abs=0.6)
    places = (people[..., :2] / 64)[:, None]
    assert float(sum(place_losses(PlaceOutputs(places, torch.full((2, 17), -7.0)), people, (64, 64)).values())) < 1e-6


def test_about_a_labeled_keypoint_a_crowd_is_known():
    """A crowd over the whole image, and a person inside it whose only keypoint lies in row 4, column 9 of the cells."""
    keypoints = torch.tensor([[[0.0, 0.0, 0.0]], [[38.0, 18.0, 2.0]]])
    target = {
        "boxes": torch.tensor([[0.0, 0.0, 64.0, 48.0], [30.0, 10.0, 50.0, 40.0]]),
        "iscrowd": torch.tensor([1, 0]),
    }
    expected = torch.zeros(12, 16)
    expected[2:7, 7:12] = 1  # the cells whose centers are less than 3 cells away along both axes
    assert torch.equal(known_cells(target, keypoints, (12, 16), 4.0), expected)


def test_in_a_crowd_only_keypoints_that_somebody_labeled_of_a_person_are_known():
    """Not where an absent keypoint is written down, and not where a crowd has keypoints of its own."""
    keypoints = torch.tensor([[[50.0, 30.0, 2.0], [30.0, 10.0, 0.0]], [[38.0, 18.0, 2.0], [0.0, 0.0, 0.0]]])
    target = {
        "boxes": torch.tensor([[0.0, 0.0, 64.0, 48.0], [30.0, 10.0, 50.0, 40.0]]),
        "iscrowd": torch.tensor([1, 0]),
    }
    expected = torch.zeros(12, 16)
    expected[2:7, 7:12] = 1
    assert torch.equal(known_cells(target, keypoints, (12, 16), 4.0), expected)
