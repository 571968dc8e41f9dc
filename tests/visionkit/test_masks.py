"""Run-length masks against COCO's own encoder and torchvision's pasting."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as coco
import pytest
import torch
from scipy import ndimage
from torchvision.models.detection.roi_heads import paste_masks_in_image

from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.masks import (
    MaskSet,
    compress_counts,
    decode_masks,
    encode_labels,
    encode_masks,
    encode_polygons,
    mask_areas,
    mask_boxes,
    mask_ious,
    mask_polygons,
    mask_union,
    paste_masks,
)
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View


def reference(masks: np.ndarray) -> list[str]:
    encoded = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    return [each["counts"].decode() for each in encoded]


def noise(seed: int, number: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    masks = rng.random((number, height, width)) < rng.random()
    masks[0] = seed % 3 == 0
    masks[1] = seed % 3 == 1
    return masks


@pytest.mark.parametrize("seed", range(24))
def test_bitmaps_become_cocos_letters_and_come_back(seed):
    masks = noise(seed)
    size = (masks.shape[1], masks.shape[2])
    rles = encode_masks(masks)
    assert [each["counts"] for each in rles] == reference(masks)
    assert np.array_equal(decode_masks(rles, size), masks)
    assert mask_areas(rles).tolist() == masks.sum(axis=(1, 2)).tolist()
    boxes = coco.toBbox([dict(each) for each in rles])
    boxes[:, 2:] += boxes[:, :2]
    boxes[~masks.any(axis=(1, 2))] = 0
    assert np.array_equal(mask_boxes(rles), boxes)
    assert mask_union(rles)["counts"] == reference(masks.any(axis=0)[None])[0]
    assert np.allclose(mask_ious(rles, rles[:2]), coco.iou(rles, rles[:2], [0, 0]))


def test_long_runs_of_a_large_image():
    masks = np.zeros((1, 2000, 2500), bool)
    masks[0, 10:1990, 40:2400] = np.random.default_rng(0).random((1980, 2360)) < 0.5
    masks[0, :, 1000:1500] = True
    assert [encode_masks(masks)[0]["counts"]] == reference(masks)


@pytest.mark.parametrize("seed", range(6))
def test_small_maps_are_pasted_as_torchvision_does(seed):
    generator = torch.Generator().manual_seed(seed)
    size = (91, 133)
    maps = torch.rand(40, 28, 28, generator=generator)
    maps = torch.nn.functional.avg_pool2d(maps, 5, 1, 2) * 1.02
    corners = torch.rand(40, 2, 2, generator=generator) * torch.tensor([140.0, 98.0]) - 4
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
    boxes[0] = torch.tensor([0.0, 0.0, 133.0, 91.0])
    boxes[1] = torch.tensor([5.0, 5.0, 5.0, 5.0])
    for threshold in (0.5, 0.3):
        pasted = paste_masks_in_image(maps[:, None], boxes, size)[:, 0] > threshold
        assert [each["counts"] for each in paste_masks(maps, boxes, size, threshold)] == reference(pasted.numpy())


def test_no_object_is_no_mask():
    outside = paste_masks(torch.ones(1, 28, 28), torch.tensor([[-300.0, -300.0, -200.0, -200.0]]), (10, 10))
    assert mask_areas(outside).tolist() == [0]
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 10)) == []
    assert encode_masks(np.zeros((0, 5, 6), bool)) == []
    empty = MaskSet((5, 6))
    assert np.asarray(empty).shape == (0, 5, 6) and MaskSet.unpack(empty.pack()).size == (5, 6)


@pytest.mark.parametrize("seed", range(6))
def test_a_map_of_numbers_is_read_in_one_pass(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.integers(0, 5, (17, 23)) * 300).astype(np.uint16)
    numbers, rles = encode_labels(labels)
    assert numbers.tolist() == [number for number in np.unique(labels) if number]
    assert [each["counts"] for each in rles] == reference(np.stack([labels == number for number in numbers]))


@pytest.mark.parametrize("seed", range(8))
def test_outlines_draw_the_mask_again(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.binary_fill_holes(ndimage.gaussian_filter(rng.random((40, 55)), 2) > 0.5)
    rle = encode_masks(mask[None])[0]
    assert encode_polygons(mask_polygons(rle), (40, 55)) == rle


def test_polygons_and_plain_counts_are_cocos():
    polygon = [10.2, 5.5, 30.0, 7.25, 22.0, 31.5]
    assert encode_polygons([polygon], (40, 50))["counts"] == coco.frPyObjects([polygon], 40, 50)[0]["counts"].decode()
    counts = [13, 4, 36, 4, 143]
    assert (
        compress_counts(counts, (10, 20))["counts"]
        == coco.frPyObjects({"size": [10, 20], "counts": counts}, 10, 20)["counts"].decode()
    )


def test_letters_that_are_none_are_refused():
    with pytest.raises(ValueError, match="compressed run lengths"):
        mask_areas([{"size": [4, 4], "counts": "zzz~~"}])


def test_a_set_is_chosen_from_like_an_array():
    masks = noise(5)
    size = (masks.shape[1], masks.shape[2])
    held = MaskSet(size, encode_masks(masks))
    rows = np.array([True, False, True, False])
    assert np.array_equal(np.asarray(held[rows]), masks[rows]) and np.array_equal(
        np.asarray(held[[3, 0]]), masks[[3, 0]]
    )
    assert held.shape == masks.shape and MaskSet.unpack(torch.from_numpy(held.pack())).rles == held.rles
    with pytest.raises(ValueError, match="in an image of size"):
        MaskSet((99, 99), held.rles)


@pytest.mark.parametrize("fit", ["crop", "letterbox", "stretch", "pad", "native"])
@pytest.mark.parametrize(
    "view", [None, View((9, 4, 50, 31), True), View((-9, -4, 30, 31)), View((9, 4, 50, 31), True, 20.0)]
)
def test_run_lengths_go_to_the_input_as_bitmaps_do(fit, view):
    rng = np.random.default_rng(3)
    masks = ndimage.gaussian_filter(rng.random((6, 37, 61)), (0, 2, 2)) > 0.52
    masks[1] = True
    masks[2] = False
    preprocess = Preprocessor(InputSpec(size=(32, 48), resize_mode=fit, divisor=16))
    target = {"masks": MaskSet((37, 61), encode_masks(masks))}
    example = preprocess(Sample.of(ImageSource(np.zeros((37, 61, 3), np.uint8)), target, "p", view))
    expected = example["geometry"].apply_map(torch.from_numpy(masks), fill=False)
    assert torch.equal(example["target"]["masks"], expected)
    if view is None:
        assert np.array_equal(np.asarray(MaskSet.unpack(example["target"]["file_masks"])), masks)
