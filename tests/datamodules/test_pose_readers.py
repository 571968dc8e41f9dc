"""Readers of keypoints: each format's facts, crops of people, and what bad labels state."""

import json
import logging

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datamodules.augmentation import PoseAugment
from datamodules.augmentation.geometric import exchanged
from datamodules.coco_keypoints import CocoKeypointData
from datamodules.lsp import LspData
from datamodules.mpii import MpiiData
from datamodules.person_crops import PersonCrops
from tests.real_data import real_data
from visionkit.crops import PersonCrop
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.preprocess import Preprocessor
from visionkit.skeleton import Skeleton
from visionkit.types import Sample

SPEC = InputSpec(size=(128, 96), resize_mode="stretch")
COCO = Skeleton.of("coco17")


def person(**changes):
    keypoints = [[10.0 + 5 * k, 20.0 + 3 * k] for k in range(16)]
    return {"image": "a.jpg", "center": [50, 40], "scale": 0.4, "joints": keypoints, "joints_vis": [1] * 16, **changes}


def mpii(tmp_path, *people, **options):
    (tmp_path / "annot").mkdir(exist_ok=True)
    (tmp_path / "images").mkdir(exist_ok=True)
    Image.fromarray(np.zeros((90, 120, 3), np.uint8)).save(tmp_path / "images" / "a.jpg")
    (tmp_path / "annot" / "train.json").write_text(json.dumps(people))
    return MpiiData(str(tmp_path), input=SPEC, **{"val_fraction": 0.0, **options})


def test_mpii_counts_from_one_and_scales_by_200_pixels(tmp_path):
    data = mpii(tmp_path, person(joints_vis=[1] * 15 + [0]), person(center=[30, 30]))
    (sample,) = data.samples("train")
    assert sample.target["keypoints"].shape == (2, 16, 3) and data.classes == ("person",)
    assert sample.target["keypoints"][0, 0].tolist() == [9, 19, 2]
    assert sample.target["keypoints"][0, 15].tolist() == [0, 0, 0]
    assert sample.target["boxes"][0].tolist() == [9, 0, 89, 79], "of the square 80 per side what lies in the image"
    assert data.skeleton.name == "mpii16"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"joints": [[1, 2]] * 15}, r"\[0\]: it has 15 keypoints and skeleton mpii16 has 16"),
        ({"scale": 0}, r"\[0\]: a keypoint, the center or the scale is no finite number"),
        ({"center": [1]}, "center a pair"),
        ({"joints": [["a", 2]] * 16}, "pairs of numbers"),
    ],
)
def test_bad_mpii_labels_name_the_entry(tmp_path, broken, said):
    with pytest.raises(DataError, match=said):
        mpii(tmp_path, person(**broken)).samples("train")
    with pytest.raises(DataError, match="a person has image"):
        mpii(tmp_path, {"image": "a.jpg"}).samples("train")
    with pytest.raises(DataError, match="no such folder"):
        MpiiData(str(tmp_path / "nowhere"), input=SPEC).samples("train")


def test_mpii_samples_are_read():
    root = real_data("pose/mmpose_samples/mpii")
    data = MpiiData(str(root), labels="test_mpii.json", images=".", crop=PersonCrop(), input=SPEC)
    samples = data.samples("test")
    assert len(samples) == 5 and samples[0].target["keypoints"].shape == (1, 16, 3)


@pytest.mark.parametrize("original", [True, False])
def test_lsp_and_its_extension_mean_different_things_by_the_third_number(tmp_path, original):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    places = rng.uniform(5, 60, (6, 14, 2))
    flag = rng.integers(0, 2, (6, 14, 1))
    values = np.concatenate([places, flag], axis=2)
    savemat(tmp_path / "joints.mat", {"joints": values.transpose(2, 1, 0) if original else values.transpose(1, 2, 0)})
    for number in range(6):
        name = f"im{number + 1:0{4 if original else 5}d}.jpg"
        Image.fromarray(np.zeros((70, 70, 3), np.uint8)).save(tmp_path / "images" / name)
    data = LspData(str(tmp_path), val_fraction=0.34, input=SPEC)
    assert len(data.samples("train")) == 4 and len(data.samples("val")) == 2
    whole = LspData(str(tmp_path), val_fraction=0.0, input=SPEC)
    keypoints = np.concatenate([sample.target["keypoints"] for sample in whole.samples("train")])
    wanted = np.where(flag[..., 0] > 0, 1, 2) if original else np.where(flag[..., 0] > 0, 2, 0)
    assert np.array_equal(keypoints[..., 2], wanted)
    assert np.allclose(keypoints[wanted > 0][:, :2], places[wanted > 0], atol=1e-4)


def test_bad_lsp_files(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        LspData(str(tmp_path), input=SPEC).samples("train")
    (tmp_path / "joints.mat").write_bytes(b"no mat file at all")
    with pytest.raises(DataError, match=r"cannot be read as a \.mat file"):
        LspData(str(tmp_path), input=SPEC).samples("train")
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 16, 4))})
    with pytest.raises(DataError, match="3x16x4 do not fit skeleton lsp14"):
        LspData(str(tmp_path), input=SPEC).samples("train")
    savemat(tmp_path / "joints.mat", {"other": np.zeros((3, 14, 4))})
    with pytest.raises(DataError, match="no variable 'joints'"):
        LspData(str(tmp_path), input=SPEC).samples("train")


def image(count=2):
    rng = np.random.default_rng(count)
    keypoints = np.concatenate([rng.uniform(10, 90, (count, 17, 2)), np.full((count, 17, 1), 2)], axis=2)
    boxes = np.concatenate([keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1)], axis=1)
    target = {
        "keypoints": keypoints.astype(np.float32), "boxes": boxes, "area": np.full(count, 900.0),
        "iscrowd": np.zeros(count, np.int64),
    }  # fmt: skip
    return Sample.of(ImageSource(rng.integers(0, 256, (100, 110, 3), dtype=np.uint8)), target, f"p{count}")


def test_people_without_keypoints_and_crowds_are_left_out_and_counted(caplog):
    sample = image(4)
    sample.target["keypoints"][1, :, 2] = 0
    sample.target["iscrowd"][2] = 1
    with caplog.at_level(logging.WARNING):
        crops = PersonCrops([sample], PersonCrop(), SPEC.size, training=True, name="made")
    assert crops.rows == [(0, 0), (0, 3)]
    assert "made: of 4 people are left out 1 without a labeled keypoint, 1 that are crowd regions" in caplog.text
    sample.target["keypoints"][..., 2] = 0
    with pytest.raises(DataError, match="nobody with a labeled keypoint"):
        PersonCrops([sample], PersonCrop(), SPEC.size, training=True)


def test_boxes_of_a_detector_bring_everyone_once():
    images = [image(2), image(3), image(1)]
    boxes = {"p2": np.array([[10, 10, 50, 90, 0.9], [40, 10, 90, 90, 0.5]]), "p1": np.array([[5, 5, 90, 90, 0.7]])}
    crops = PersonCrops(images, PersonCrop(), SPEC.size, training=False, boxes=boxes)
    assert len(crops) == 4, "the image without a box shows up once"
    assert [len(each.target["file_keypoints"]) for each in crops] == [2, 0, 3, 1]
    assert [round(float(each.target["found"]), 2) for each in crops] == [0.9, 0.5, 0.0, 0.7]
    examples = [Preprocessor(SPEC)(each) for each in crops]
    assert all(example["target"]["keypoints"].shape == (0, 17, 3) for example in examples)


@pytest.mark.parametrize("seed", range(6))
def test_augmentation_moves_keypoints_with_the_pixels(seed):
    """A dot painted on a keypoint is found where the keypoint went, under its flipped name in a flipped image."""
    pixels = np.zeros((200, 220, 3), np.uint8)
    keypoints = np.zeros((1, 17, 3), np.float32)
    keypoints[0, 5], keypoints[0, 6] = (80.5, 90.5, 2), (130.5, 100.5, 2)
    pixels[88:93, 78:83], pixels[98:103, 128:133] = (255, 0, 0), (0, 255, 0)
    target = {"keypoints": keypoints, "boxes": np.array([[60, 60, 150, 150.0]])}
    (crop,) = PersonCrops([Sample.of(ImageSource(pixels), target, "x")], PersonCrop(1.6), SPEC.size, training=True)
    augment = PoseAugment(rotate=40, rotate_p=1.0, scale=(0.83, 1.25), horizontal_flip=0.5).with_skeleton(COCO)
    changed = augment(crop, rng_for(0, 0, seed))
    assert keypoints[0, 5].tolist() == [80.5, 90.5, 2], "the sample itself stays"
    example = Preprocessor(SPEC)(changed)
    flip = changed.view.flip
    for joint, channel in ((5, 0), (6, 1)):
        x, y, seen = example["target"]["keypoints"][0, 11 - joint if flip else joint].tolist()
        weight = example["inputs"]["image"][channel].float() - example["inputs"]["image"][1 - channel].float()
        weight = weight.clamp(min=0).numpy()
        rows, columns = np.mgrid[0:128, 0:96] + 0.5
        assert seen == 2
        assert float((weight * columns).sum() / weight.sum()) == pytest.approx(x, abs=0.6)
        assert float((weight * rows).sum() / weight.sum()) == pytest.approx(y, abs=0.6)


def test_half_bodies_and_same_draws_for_the_same_key():
    standing = image(1)
    standing.target["keypoints"][..., 0] = 45 + 0.1 * standing.target["keypoints"][..., 0]
    standing.target["boxes"][:, [0, 2]] = 45, 56
    crop = next(iter(PersonCrops([standing], PersonCrop(), SPEC.size, training=True)))
    augment = PoseAugment(half_body=1.0, scale=(1, 1), rotate=0, translate=0.0, horizontal_flip=0.0)
    whole, half = crop.view.box, augment(crop, rng_for(0, 1, 2)).view.box
    assert half[3] - half[1] < whole[3] - whole[1]
    assert (half[2] - half[0]) / (half[3] - half[1]) == pytest.approx(0.75)
    augment = PoseAugment(half_body=0.5, erasing=0.5, brightness=0.3).with_skeleton(COCO)
    a, b = (augment(crop, rng_for(3, 1, 2)) for _ in range(2))
    assert a.view == b.view and np.array_equal(a.target["keypoints"], b.target["keypoints"])
    assert np.array_equal(exchanged(exchanged(a.target["keypoints"], COCO.swap), COCO.swap), a.target["keypoints"])


def test_bad_augmentation_arguments():
    crop = next(iter(PersonCrops([image(1)], PersonCrop(), SPEC.size, training=True)))
    with pytest.raises(UsageError, match="which keypoints are a pair"):
        PoseAugment()(crop, rng_for(0, 0, 0))
    with pytest.raises(UsageError, match=r"augment\.horizontal_flip 2"):
        PoseAugment(horizontal_flip=2)
    with pytest.raises(UsageError, match=r"augment\.scale \(1\.5, 1\.0\)"):
        PoseAugment(scale=(1.5, 1.0))


def coco(tmp_path, changes=None, **options):
    """Two images, three people, one of them a crowd, in COCO's form."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir(exist_ok=True)
    annotations = []
    for number, image in enumerate((1, 1, 2, 2)):
        places = np.concatenate([rng.uniform(10, 60, (17, 2)).round(), rng.integers(0, 3, (17, 1))], axis=1)
        places[0, 2] = 2
        places[places[:, 2] == 0] = 0
        annotations.append({
            "id": number + 1, "image_id": image, "category_id": 1, "bbox": [8, 8, 60, 56], "area": 2000.0,
            "iscrowd": int(number == 3), "keypoints": [] if number == 3 else places.ravel().tolist(),
        })  # fmt: skip
    annotations[3].pop("keypoints")
    top = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": 80, "width": 100} for k in (1, 2)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}],
    }
    for image in top["images"]:
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(
            tmp_path / "images" / image["file_name"]
        )
    if changes is not None:
        changes(top)
    (tmp_path / "labels.json").write_text(json.dumps(top))
    everywhere = {"labels": "labels.json", "images": "images", "val_fraction": 1}
    return CocoKeypointData(str(tmp_path), input=SPEC, **everywhere, **options)


def test_coco_keypoints_as_images_and_as_people(tmp_path):
    data = coco(tmp_path)
    assert data.skeleton.name == "coco17" and data.classes == ("person",)
    images = data.samples("train")
    assert [each.target["keypoints"].shape for each in images] == [(2, 17, 3)] * 2
    assert images[1].target["iscrowd"].tolist() == [0, 1], "openpose must know where not to look"
    assert images[0].target["area"].tolist() == [2000, 2000]
    crops = coco(tmp_path, crop=PersonCrop()).samples("val")
    assert len(crops) == 3 and crops[0].target["file_area"].tolist() == [2000]
    assert CocoKeypointData.discover_classes(root=str(tmp_path), labels="labels.json") == ["person"]


def test_keypoints_in_another_order_are_read_by_name(tmp_path):
    plain = coco(tmp_path).samples("train")[0].target["keypoints"]

    def turned(top):
        top["categories"][0]["keypoints"] = list(COCO.keypoints[::-1])
        for each in top["annotations"][:3]:
            each["keypoints"] = np.array(each["keypoints"]).reshape(17, 3)[::-1].ravel().tolist()

    other = coco(tmp_path, turned, skeleton="coco17").samples("train")[0].target["keypoints"]
    assert np.array_equal(plain, other)


def _named(number, name):
    return lambda top: top["categories"][0]["keypoints"].__setitem__(number, name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t["annotations"][1].update(keypoints=[1, 2, 2] * 16),
            "annotation 2: 48 numbers, and skeleton coco17 of 17 keypoints needs 51",
        ),
        (lambda t: t["annotations"][0].update(keypoints=["a"] * 51), "annotation 1: keypoints is a list of numbers"),
        (_named(0, "noze"), "the keypoint 'noze' is none of skeleton coco17; did you mean 'nose'"),
        (lambda t: t["categories"][0]["keypoints"].pop(), "it has no keypoint 'right_ankle'"),
    ],
)
def test_labels_that_do_not_fit_the_skeleton(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        coco(tmp_path, change, skeleton="coco17").samples("train")


def test_keypoints_of_no_shipped_skeleton_are_taken_as_they_are_named(tmp_path, caplog):
    def own(top):
        top["categories"][0].update(keypoints=["beak", "left wing", "right wing"], skeleton=[[1, 2], [1, 3]])
        for each in top["annotations"]:
            each["keypoints"] = each.get("keypoints", [])[:9] or [0] * 9

    with caplog.at_level(logging.WARNING):
        data = coco(tmp_path, own)
    assert data.skeleton.keypoints == ("beak", "left wing", "right wing") and data.skeleton.swap == ((1, 2),)
    assert data.skeleton.limbs == ((0, 1), (0, 2)) and "its own names and edges are taken" in caplog.text
    assert data.samples("train")[0].target["keypoints"].shape[1:] == (3, 3)


def test_people_without_an_area_get_the_field_s_part_of_their_box(tmp_path):
    def bare(top):
        for each in top["annotations"]:
            each.pop("area", None)

    for options in ({}, {"crop": PersonCrop()}):
        data = coco(tmp_path, bare, **options)
        for sample in data.samples("val"):
            key = "file_area" if options else "area"
            boxes = np.asarray(sample.target["file_boxes" if options else "boxes"])
            wanted = 0.53 * (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
            assert np.asarray(sample.target[key]) == pytest.approx(wanted, rel=1e-5)


def test_boxes_outside_and_bare_people_are_counted(tmp_path, caplog):
    def broken(top):
        top["annotations"][0]["bbox"] = [300, 300, 20, 20]
        top["annotations"][1]["keypoints"] = [0] * 51

    with caplog.at_level(logging.WARNING):
        crops = coco(tmp_path, broken, crop=PersonCrop()).samples("train")
    assert len(crops) == 1
    assert "1 without an area inside their image are left out" in caplog.text
    assert "1 without a labeled keypoint, 1 that are crowd regions" in caplog.text


def test_boxes_of_a_results_file(tmp_path):
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [8, 8, 60, 56], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [8, 8, 30, 30], "score": 0.01},
    ]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    data = coco(tmp_path, crop=PersonCrop(), boxes="found.json", box_score=0.05)
    assert [float(each.target["found"]) for each in data.samples("val")] == [pytest.approx(0.9), 0]
    assert len(data.samples("train")) == 3, "training takes the labeled boxes"
    for wrong, said in (
        ([{**rows[0], "image_id": 7}], "no image with the id 7"),
        ([{**rows[0], "bbox": [1, 2, 3]}], r"\[0\]: bbox is x, y, width, height"),
        ({}, "a results json is a list"),
        ([3], "has an image_id"),
    ):
        (tmp_path / "found.json").write_text(json.dumps(wrong))
        with pytest.raises(DataError, match=said):
            coco(tmp_path, crop=PersonCrop(), boxes="found.json").samples("val")
