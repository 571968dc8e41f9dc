"""Readers of label maps, what they refuse, their augmentation and pixel weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.augmentation import DenseAugment
from datamodules.coco_segmentation import CocoSegmentationData, paint
from datamodules.pixel_weights import PixelWeights
from datamodules.segmentation import VOC_CLASSES, LabelMapData, VocSegmentationData
from tests.real_data import real_data
from visionkit.errors import DataError, UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample

SPEC = InputSpec(size=(16, 16), resize_mode="stretch")
CLASSES = ["ground", "tree", "house"]


def labels(number=0):
    out = np.zeros((12, 10), dtype=np.uint8)
    out[4:8] = 1 + number % 2
    return out


def write(root, split="train", count=4, mode="indexed"):
    for kind in ("images", "label_maps"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(np.full((12, 10, 3), 40 * k, np.uint8)).save(root / "images" / split / f"{k}.jpg")
        path = root / "label_maps" / split / f"{k}.png"
        if mode == "color":
            table = np.array([(10, 20, 30), (0, 255, 0), (255, 0, 0)], np.uint8)
            Image.fromarray(table[labels(k)]).save(path)
        else:
            image = Image.frombytes("P", (10, 12), labels(k).tobytes())
            image.putpalette(list(range(256)) * 3)
            image.save(path)
    return root


def data(root, **arguments):
    return LabelMapData(str(root), **{"classes": CLASSES, "input": SPEC, "val_fraction": 0.25, **arguments})


@pytest.mark.parametrize("cache", [0, 64])
def test_indexed_pngs_are_read_as_numbers_not_as_their_colors(tmp_path, cache):
    samples = data(write(tmp_path), cache_mb=cache, val_fraction=0.0).samples("train")
    assert len(samples) == 4
    for _ in range(2):  # the second time from the cache
        for k, sample in enumerate(samples):
            assert np.array_equal(sample.target["label_map"], labels(k))
            assert sample.image.read()[0, 0, 0] == pytest.approx(40 * k, abs=3)


def test_a_split_without_a_folder_is_a_fraction_of_training_and_never_overlaps(tmp_path):
    read = data(write(tmp_path))
    names = {split: {sample.id for sample in read.samples(split)} for split in ("train", "val")}
    assert len(names["train"]) == 3 and len(names["val"]) == 1 and not names["train"] & names["val"]
    write(tmp_path, "val", 2)
    assert len(data(tmp_path).samples("train")) == 4 and len(data(tmp_path).samples("val")) == 2


def test_colors_by_a_table(tmp_path):
    write(tmp_path, mode="color")
    table = tmp_path / "colors.txt"
    table.write_text("r g b name\n10 20 30 ground  # and all below\n0,255,0,tree\n255\t0\t0\thouse\n1 1 1 sea\n")
    assert LabelMapData.discover_classes(str(tmp_path), colors=str(table)) == ["ground", "tree", "house", "sea"]
    samples = data(tmp_path, colors=str(table), val_fraction=0.0).samples("train")
    assert np.array_equal(samples[1].target["label_map"], labels(1))
    table.write_text("10 20 30 ground\n0 255 0 tree\n9 9 9 house\n")
    with pytest.raises(DataError, match=r"color 255 0 0 at row 4, column 0 is not in the table of 3 colors"):
        data(tmp_path, colors=str(table), val_fraction=0.0, cache_mb=0).samples("train")[1]
    with pytest.raises(DataError, match="is in color; give the table"):
        data(tmp_path, val_fraction=0.0, cache_mb=0).samples("train")[0]
    table.write_text("300 0 0 ground\n")
    with pytest.raises(DataError, match=r"colors.txt line 1: '300 0 0 ground'"):
        data(tmp_path, colors=str(table)).samples("train")


@pytest.mark.parametrize("cache", [0, 64])
def test_values_outside_the_class_list_are_reported_with_file_and_place(tmp_path, cache):
    write(tmp_path)
    with pytest.raises(DataError, match=r"0\.png: value 1 \(first at row 4, column 0\) is no class; there are 1"):
        data(tmp_path, classes=["ground"], val_fraction=0.0, cache_mb=cache).samples("train")[0]
    ignored = data(tmp_path, classes=["ground", "tree"], ignore=[2], val_fraction=0.0).samples("train")
    assert set(np.unique(ignored[1].target["label_map"])) == {0, 255}
    with pytest.raises(UsageError, match="ignore: 1 is the value of class 'tree'"):
        data(tmp_path, ignore=[1]).samples("train")


@pytest.mark.parametrize("cache", [0, 64])
def test_labels_of_another_size_are_refused(tmp_path, cache):
    write(tmp_path)
    Image.fromarray(np.zeros((10, 12), np.uint8)).save(tmp_path / "label_maps" / "train" / "2.png")
    with pytest.raises(
        DataError, match=r"2\.png: a label map of 12 x 10 pixels does not fit the image .*2\.jpg of 10 x 12"
    ):
        data(tmp_path, val_fraction=0.0, cache_mb=cache).samples("train")[2]


def test_missing_and_damaged_label_files(tmp_path):
    write(tmp_path)
    (tmp_path / "label_maps" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"no label file for 1 of 4 images: 1\.jpg"):
        data(tmp_path).samples("train")
    (tmp_path / "label_maps" / "train" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(DataError, match=r"1\.png"):
        data(tmp_path, val_fraction=0.0, cache_mb=0).samples("train")[1]
    with pytest.raises(DataError, match=r"no such folder of label files; --data\.labels"):
        data(tmp_path, labels="masks").samples("train")
    with pytest.raises(DataError, match=r"no such folder of images; --data\.images"):
        data(tmp_path, images="photos").samples("train")
    (tmp_path / "label_maps" / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"no classes\.txt states what the labels mean"):
        LabelMapData.discover_classes(str(tmp_path))


def test_voc(tmp_path):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    Image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "JPEGImages" / "a.jpg")
    marked = labels()
    marked[0] = 255
    indexed = Image.frombytes("P", (10, 12), marked.tobytes())
    indexed.putpalette(list(range(256)) * 3)
    indexed.save(tmp_path / "SegmentationClass" / "a.png")
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    read = VocSegmentationData(str(tmp_path), input=SPEC)
    assert read.classes == VOC_CLASSES and len(VOC_CLASSES) == 21
    assert np.array_equal(read.samples("train")[0].target["label_map"], marked)
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_bytes("\ufeffein Café\r\n".encode())
    for folder, ending in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):  # NFD on disk, as macOS has it
        (tmp_path / folder / f"a{ending}").rename(tmp_path / folder / f"ein Cafe\u0301{ending}")
    assert len(VocSegmentationData(str(tmp_path), input=SPEC).samples("train")) == 1
    with pytest.raises(DataError, match=r"val\.txt: 4 files of this list are missing: JPEGImages.a\.jpg"):
        read.samples("val")
    with pytest.raises(DataError, match="test labels are not public"):
        read.samples("test")


def test_camvid_is_read_whole():
    root = real_data("semantic_segmentation/camvid_subset")
    names = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]
    read = LabelMapData(str(root), images="{split}", labels="{split}annot", classes=names, ignore=[11], input=SPEC)
    assert [len(read.samples(split)) for split in ("train", "val", "test")] == [46, 17, 30]
    found = read.samples("train")[0].target["label_map"]
    assert found.shape == (360, 480) and set(np.unique(found)) <= {*range(11), 255}


# ---------------------------------------------------------------------- augmentation


def place_sample():
    """Every pixel's color states where it was, and so does its label."""
    y, x = np.indices((40, 60))
    image = np.stack([4 * x, 6 * y, np.full_like(x, 200)], axis=-1).astype(np.uint8)
    return Sample.of(ImageSource(image, "places"), {"label_map": (y // 8 * 8 + x // 8).astype(np.uint8)}, "places")


@pytest.mark.parametrize("seed", range(8))
def test_image_and_truth_stay_aligned(seed):
    augment = DenseAugment(
        scale=(0.6, 2.5), aspect_ratio=(1 / 1.3, 1.3), horizontal_flip=0.5, rotate=15.0 if seed % 2 else 0.0
    )
    rng = np.random.default_rng(seed)
    example = Preprocessor(InputSpec(size=(64, 96), resize_mode="stretch"))(augment(place_sample(), rng))
    image, truth = example["inputs"]["image"].numpy().astype(float), example["target"]["label_map"].numpy()
    known = truth != 255
    assert known.mean() > 0.2
    x, y = image[0] / 4, image[1] / 6
    # Where no block border is near, the label states the block that the color lies in.
    clear = known & (abs(x % 8 - 4) < 2.5) & (abs(y % 8 - 4) < 2.5) & (image[2] == 200)
    assert clear.sum() > 100
    assert (truth[clear] == (y[clear] // 8 * 8 + x[clear] // 8).astype(int)).mean() > 0.99
    if not seed % 2:
        outside = (image == 114).all(axis=0)
        assert not (outside & known).any(), "what lies outside the image is ignored"


def test_augmentation_depends_on_its_generator_alone_and_is_checked():
    augment = DenseAugment(scale=(0.5, 2.0), brightness=0.4, hue=0.1, crop_size=(20, 20))
    a, b = (augment(place_sample(), np.random.default_rng(3)) for _ in range(2))
    assert a.view == b.view and a.photometric == b.photometric
    for wrong in ({"scale": (0, 1)}, {"aspect_ratio": (0, 0.5)}, {"horizontal_flip": 2}, {"crop_size": (0, 4)}):
        with pytest.raises(UsageError, match="augment"):
            DenseAugment(**wrong)
    with pytest.raises(UsageError, match="cannot move high_res"):
        augment(
            Sample.of(ImageSource(np.zeros((8, 8, 3), np.uint8)), {"high_res": np.zeros((3, 16, 16))}),
            np.random.default_rng(0),
        )


# ---------------------------------------------------------------------- pixel weights


def test_the_border_map_is_unets_formula():
    scene = np.zeros((40, 60), dtype=np.uint8)
    scene[10:30, 10:28] = 1
    scene[10:30, 32:50] = 1
    weights = PixelWeights(edge_weight=10.0, edge_width=5.0)(scene)
    # In the gap of 4 pixels, d1 + d2 is 5 at every position between facing sides (counted to pixel centers).
    assert weights[20, 28:32] == pytest.approx(1 + 10 * np.exp(-(5**2) / (2 * 25)), rel=1e-5)
    assert (weights[scene == 1] == 1).all() and weights[2, 2] < 1.2
    distances = np.array([[np.hypot(0, 5 - 10), np.hypot(0, 5 - 32)]])
    assert weights[20, 5] == pytest.approx(1 + 10 * np.exp(-(distances.sum() ** 2) / 50), abs=1e-3)


def test_small_objects_count_as_much_as_large_ones():
    scene = np.zeros((40, 60), dtype=np.uint8)
    scene[5:25, 5:25] = 1
    scene[30:35, 40:45] = 2
    weights = PixelWeights(small_objects=1.0)(scene)
    assert weights[scene == 1].sum() == pytest.approx(weights[scene == 2].sum())
    assert (weights[scene == 0] == 1).all()
    with pytest.raises(UsageError, match="background"):
        PixelWeights(edge_weight=1.0, background=None)


def test_pixel_weights_reach_the_loss_of_training_alone(tmp_path):
    read = data(write(tmp_path), edge_weight=10.0, small_objects=0.5)
    example = Preprocessor(SPEC)(read.samples("train")[0])
    assert example["target"]["pixel_weight"].shape == (16, 16)
    assert "pixel_weight" not in read.samples("val")[0].target


# ---------------------------------------------------------------------- COCO's instances


def coco(root, annotations, categories=((7, "table"), (3, "cup"))):
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(root / "images" / "a.png")
    top = {
        "images": [{"id": 1, "file_name": "a.png", "height": 12, "width": 16}],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [{"id": k, "image_id": 1, **each} for k, each in enumerate(annotations)],
    }
    (root / "train.json").write_text(json.dumps(top))
    return root


def rectangle(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def test_objects_of_coco_are_painted_small_ones_on_top(tmp_path):
    root = coco(
        tmp_path,
        [
            {"category_id": 3, "segmentation": rectangle(4, 4, 6, 6), "bbox": [4, 4, 2, 2]},
            {"category_id": 7, "segmentation": rectangle(2, 2, 10, 10), "bbox": [2, 2, 8, 8]},
            {
                "category_id": 3,
                "iscrowd": 1,
                "bbox": [8, 0, 4, 12],
                "segmentation": {"size": [12, 16], "counts": [96, 48, 48]},
            },
        ],
    )
    wanted = np.zeros((12, 16), np.uint8)
    wanted[:, 8:12] = 255  # a crowd's outline is rough
    wanted[2:10, 2:10] = 2
    wanted[4:6, 4:6] = 1
    data = CocoSegmentationData(str(root), labels="{split}.json", val_fraction=0.0, input=SPEC)
    assert data.classes == ("background", "cup", "table")
    (sample,) = data.samples("train")
    assert sample.target.keys() == {"label_map"} and sample.target["label_map"].dtype == np.uint8
    assert np.array_equal(sample.target["label_map"], wanted)

    named = CocoSegmentationData(
        str(root),
        labels="{split}.json",
        classes=["table", "void", "cup"],
        background="void",
        edge_weight=5.0,
        input=SPEC,
    )
    target = named.samples("train")[0].target
    assert np.array_equal(target["label_map"], np.where(wanted == 255, 255, np.array([1, 2, 0])[np.minimum(wanted, 2)]))
    assert target["pixel_weight"].shape == (12, 16)

    bare = CocoSegmentationData(str(root), labels="{split}.json", background="", val_fraction=0.0, input=SPEC)
    assert bare.classes == ("cup", "table")
    labels = bare.samples("train")[0].target["label_map"]
    assert np.array_equal(labels, np.where(wanted == 0, 255, wanted - (wanted < 255)))


def test_more_classes_than_a_byte_has_are_painted_too(tmp_path):
    from visionkit.masks import MaskSet, encode_masks

    masks = np.zeros((1, 4, 4), bool)
    masks[0, 1] = True
    painted = paint(MaskSet((4, 4), encode_masks(masks)), np.array([300]), np.array([0]), 0)
    assert painted[1].tolist() == [300] * 4 and painted[0].tolist() == [0] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["cup", "table"]}, r"'background' \(data.background\) is not among them"),
        ({"background": "cup"}, "a category of the label file is called 'cup' too"),
        ({"classes": ["background", "cupp", "table"]}, "class 'cup' is not among data.classes"),
    ],
)
def test_what_a_painted_set_refuses(tmp_path, arguments, message):
    root = coco(tmp_path, [{"category_id": 3, "segmentation": rectangle(4, 4, 6, 6), "bbox": [4, 4, 2, 2]}])
    with pytest.raises((DataError, UsageError), match=message):
        CocoSegmentationData(str(root), labels="{split}.json", input=SPEC, **arguments).samples("train")


def test_the_summary_of_a_painted_set_names_its_images_and_leaves_the_background_out(tmp_path, capsys, caplog):
    root = coco(
        tmp_path, [{"category_id": 3, "segmentation": rectangle(4, 4, 6, 6), "bbox": [4, 4, 2, 2]}], [(3, "cup")]
    )
    data = CocoSegmentationData(str(root), labels="{split}.json", val_fraction=0.0, input=SPEC)
    data.report(["train"])
    assert "background" not in capsys.readouterr().out + caplog.text
    assert [path.rpartition("/")[2] for path in data.files("train")] == ["a.png"]


def test_one_class_is_refused_before_training_and_measured_without_a_crash():
    from tasks.semantic_segmentation import SemanticSegmentationTask

    task = SemanticSegmentationTask("test_resnet", architecture="fpn", classes=["cup"], input=InputSpec(size=(32, 32)))
    with pytest.raises(
        UsageError, match=r"one class alone \('cup'\).*'\[background, cup\]'.*--data\.background background"
    ):
        task.setup("fit")
    task.metrics.update(torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.long))
    assert task.tabulate(task.metrics.compute())["per class"][0]["class"] == "cup"


def test_an_object_without_an_outline_is_reported(tmp_path):
    root = coco(tmp_path, [{"category_id": 3, "bbox": [4, 4, 2, 2]}])
    with pytest.raises(DataError, match="object 1 has no outline"):
        CocoSegmentationData(str(root), labels="{split}.json", val_fraction=0.0, input=SPEC).samples("train")[0]
