"""Images and targets through one transform, and the same tensor in validation and in serving."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.classification import ClassificationTask
from visionkit.data import VisionDataModule
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.loading import collate
from visionkit.predictor import Predictor
from visionkit.preprocess import Preprocessor
from visionkit.types import Sample, View

FITS = ("crop", "letterbox", "stretch", "pad", "native")


def scene(height: int = 120, width: int = 180) -> tuple[np.ndarray, dict[str, Any]]:
    """Two bright rectangles on black, with everything that a target can state of them."""
    image = np.zeros((height, width, 3), np.uint8)
    boxes = np.array([[70, 40, 100, 60], [100, 70, 124, 88]], np.float32)
    masks = np.zeros((2, height, width), bool)
    label_map, depth = np.zeros((height, width), np.uint16), np.zeros((height, width), np.float32)
    for k, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        image[y1:y2, x1:x2, k] = 255
        masks[k, y1:y2, x1:x2] = True
        label_map[y1:y2, x1:x2] = k + 1
        depth[y1:y2, x1:x2] = 2.0 * (k + 1)
    centers = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2], axis=1)
    keypoints = np.concatenate([centers, np.full((2, 1), 2.0)], axis=1)[:, None].astype(np.float32)
    target = {"boxes": boxes, "labels": np.array([3, 5]), "masks": masks, "label_map": label_map, "depth": depth}
    return image, target | {"keypoints": keypoints, "area": np.array([600.0, 432.0]), "iscrowd": np.array([0, 0])}


def centroid(weights: torch.Tensor) -> torch.Tensor:
    weights = weights.double()
    x, y = torch.arange(weights.shape[1]) + 0.5, torch.arange(weights.shape[0]) + 0.5
    return torch.stack([(weights.sum(0) * x).sum(), (weights.sum(1) * y).sum()]) / weights.sum()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    "view", [None, View((60, 30, 130, 95)), View((60, 30, 130, 95), flip=True), View((60, 30, 130, 95), True, 15.0)]
)
def test_every_target_stays_with_its_pixels(fit, view):
    source_image, target = scene()
    spec = InputSpec(size=(96, 128), resize_mode=fit, crop_fraction=1.0, fill=0)
    example = Preprocessor(spec)(Sample.of(ImageSource(source_image), target, "scene", view))
    image, found = example["inputs"]["image"], example["target"]
    assert image.dtype == torch.uint8 and image.shape[0] == 3
    for k in range(2):
        place = centroid(image[k])
        x1, y1, x2, y2 = found["boxes"][k].double()
        assert torch.allclose(torch.stack([(x1 + x2) / 2, (y1 + y2) / 2]), place, atol=0.6)
        assert torch.allclose(found["keypoints"][k, 0, :2].double(), place, atol=0.3)
        assert torch.allclose(centroid(found["masks"][k]), place, atol=0.51)
        assert torch.allclose(centroid(found["label_map"] == k + 1), place, atol=0.51)
        assert torch.allclose(centroid(found["depth"] == 2.0 * (k + 1)), place, atol=0.51)
        if view is None or not view.rotation:
            lit = (image[k] > 127).nonzero()
            edges = torch.tensor([lit[:, 1].min(), lit[:, 0].min(), lit[:, 1].max() + 1, lit[:, 0].max() + 1])
            assert (found["boxes"][k] - edges).abs().max() <= 0.51
    assert found["label_map"].dtype == torch.int64 and found["masks"].dtype == torch.bool
    assert found["labels"].tolist() == [3, 5] and found["area"].tolist() == [600.0, 432.0]


def test_fill_of_each_target():
    image, target = scene()
    example = Preprocessor(InputSpec(size=(96, 96), resize_mode="letterbox"))(Sample.of(ImageSource(image), target))
    x1, y1, x2, y2 = example["geometry"].content
    outside = torch.ones(96, 96, dtype=torch.bool)
    outside[y1:y2, x1:x2] = False
    assert outside.any()
    assert (example["inputs"]["image"][:, outside] == 114).all()
    assert (example["target"]["label_map"][outside] == 255).all()
    assert (example["target"]["depth"][outside] == 0).all() and not example["target"]["masks"][:, outside].any()


def test_objects_outside_a_view_are_dropped_and_none_without_a_view():
    image, target = scene()
    spec = InputSpec(size=(64, 64), resize_mode="stretch")
    cut = Preprocessor(spec)(Sample.of(ImageSource(image), target, view=View((60, 30, 99, 65))))["target"]
    for key in ("boxes", "labels", "masks", "keypoints", "area", "iscrowd"):
        assert len(cut[key]) == 1, key
    assert cut["labels"].tolist() == [3] and not {"file_boxes", "file_masks"} & set(cut)
    center = InputSpec(size=(20, 20), resize_mode="crop", crop_fraction=0.2)
    whole = Preprocessor(center)(Sample.of(ImageSource(image), target))["target"]
    assert len(whole["boxes"]) == 2, "evaluation counts what the crop does not show"
    assert torch.equal(whole["file_boxes"], torch.as_tensor(target["boxes"], dtype=torch.float64))
    assert "file_masks" in whole
    hidden = whole["keypoints"][..., 2] == 0
    assert (whole["keypoints"][..., :2][hidden] == 0).all()


def test_an_image_without_objects():
    image, _ = scene()
    empty = {
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "masks": np.zeros((0, 120, 180), bool),
    }
    for view in (None, View((3, 4, 50, 60))):
        found = Preprocessor(InputSpec(size=(32, 48)))(Sample.of(ImageSource(image), empty, view=view))["target"]
        assert found["boxes"].shape == (0, 4) and found["masks"].shape == (0, 32, 48) and found["labels"].shape == (0,)


def test_a_box_is_dropped_below_a_pixel_and_kept_at_one():
    image = np.zeros((40, 40, 3), np.uint8)
    boxes = np.array([[10, 10, 11, 30], [10, 10, 10.99, 30], [10, 10, 30, 11], [10, 10, 30, 10.99]], np.float32)
    sample = Sample.of(ImageSource(image), {"boxes": boxes, "labels": np.arange(4)}, view=View((0, 0, 40, 40)))
    found = Preprocessor(InputSpec(size=(40, 40), resize_mode="stretch"))(sample)["target"]
    assert found["labels"].tolist() == [0, 2]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_a_label_map_of_any_type_is_left_as_it_is(kind):
    labels = np.arange(100, dtype=kind).reshape(10, 10)
    labels.flags.writeable = False  # as a cache keeps it
    sample = Sample.of(ImageSource(np.zeros((10, 10, 3), np.uint8)), {"label_map": labels})
    found = Preprocessor(InputSpec(size=(10, 10), resize_mode="stretch"))(sample)["target"]["label_map"]
    assert found.dtype == torch.int64 and found.tolist() == labels.tolist()


def test_keypoints_on_the_border_are_seen_and_beyond_it_absent():
    keypoints = np.array([[[0, 0, 2], [20, 10, 1], [20.5, 5, 2], [5, -0.5, 2], [7, 8, 0]]], np.float32)
    sample = Sample.of(ImageSource(np.zeros((10, 20, 3), np.uint8)), {"keypoints": keypoints})
    found = Preprocessor(InputSpec(size=(30, 20), resize_mode="letterbox"))(sample)["target"]["keypoints"]
    assert found[0].tolist() == [[0, 10, 2], [20, 20, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_sixteen_bits_lie_on_the_scale_of_eight():
    deep = np.array([[0, 257, 65535]], np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    spec = InputSpec(size=(1, 3), resize_mode="stretch", channels=1, bits=16)
    image, _ = Preprocessor(spec).prepare(file.getvalue())
    assert image.dtype == torch.float32 and image.flatten().tolist() == [0.0, 1.0, 255.0]


def test_photometric_changes_come_after_the_resize():
    seen = []

    def invert(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return 255 - pixels

    image, _ = scene()
    plain = Preprocessor(InputSpec(size=(40, 40)))(Sample.of(ImageSource(image)))
    changed = Preprocessor(InputSpec(size=(40, 40)))(Sample.of(ImageSource(image), photometric=invert))
    assert seen == [(40, 40, 3)]
    assert torch.equal(changed["inputs"]["image"], 255 - plain["inputs"]["image"])


def test_draft_reads_less_and_shows_the_same():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((800, 600), Image.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    _, target = scene()
    for view in (None, View((100, 80, 700, 500), flip=True)):
        a, b = (
            Preprocessor(InputSpec(size=(64, 64)))(
                Sample.of(ImageSource(file.getvalue()), {"boxes": target["boxes"]}, view=view, draft=draft)
            )
            for draft in (False, True)
        )
        assert a["geometry"] == b["geometry"] and torch.equal(a["target"]["boxes"], b["target"]["boxes"])
        assert 0 < (a["inputs"]["image"].int() - b["inputs"]["image"].int()).abs().float().mean() < 2


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_of_the_input(channels):
    image, _ = Preprocessor(InputSpec(size=(32, 32), channels=channels)).prepare(scene()[0])
    assert image.shape == (channels, 32, 32)


# ---------------------------------------------------------------------- no skew


def files() -> list[bytes]:
    """Odd files: EXIF-turned JPEG, gray, palette, transparency, 16 bit, CMYK."""
    rng = np.random.default_rng(3)
    photo = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8)).resize((131, 93), Image.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    sixteen = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    rgba = photo.copy()
    rgba.putalpha(photo.convert("L"))
    out = []
    for image, kind, options in (
        (photo, "JPEG", {"exif": exif.tobytes()}),
        (photo.convert("L"), "JPEG", {}),
        (photo.quantize(32), "PNG", {}),
        (rgba, "PNG", {}),
        (sixteen, "PNG", {}),
        (photo.convert("CMYK"), "JPEG", {}),
        (photo.resize((31, 200)), "WEBP", {}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        out.append(file.getvalue())
    return out


class Files(VisionDataModule):
    def dataset(self, split: str) -> Sequence[Sample]:
        return [Sample.of(ImageSource(data), {"labels": np.int64(0)}, str(k)) for k, data in enumerate(files())]


@pytest.mark.parametrize("fit", FITS)
def test_what_is_validated_is_what_is_served_bit_for_bit(fit):
    task = ClassificationTask("test_resnet", classes=["a", "b"], input=InputSpec(size=(64, 48), resize_mode=fit))
    data = Files(input=task.input, classes=task.classes, eval_batch_size=1)
    served: list[torch.Tensor] = []
    predictor = Predictor(task, engine=lambda image: served.append(image) or task.outputs(torch.zeros(len(image), 2)))
    for batch, file in zip(data.val_dataloader(), files(), strict=True):
        predictor(file)
        assert torch.equal(batch["inputs"]["image"], served[-1])
        assert batch["geometry"] == [predictor.prepare(file)["geometry"]]


def test_images_of_different_sizes_fraction_a_batch():
    preprocessor = Preprocessor(InputSpec(size=(32, 32), resize_mode="native", divisor=16, fill=9))
    examples = [preprocessor(Sample.of(ImageSource(np.zeros((h, w, 3), np.uint8)))) for h, w in ((20, 50), (40, 16))]
    batch = collate(examples)
    assert batch["inputs"]["image"].shape == (2, 3, 48, 64)
    assert (batch["inputs"]["image"][0, :, 20:] == 9).all() and (batch["inputs"]["image"][1, :, :, 16:] == 9).all()


def test_a_border_can_repeat_the_pixel_at_the_edge():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    geometry = Geometry.plan(InputSpec(size=(8, 8), resize_mode="native", divisor=8, fill=None), (5, 7))
    assert geometry.size == (8, 8) and geometry.fill is None
    expected = np.pad(image, ((0, 3), (0, 1), (0, 0)), mode="edge")
    assert np.array_equal(geometry.apply_image(image).permute(1, 2, 0).numpy(), expected)
    spec = InputSpec(size=(8, 8), resize_mode="native", divisor=1, fill=None)
    beyond = Geometry.plan(spec, (5, 7), View((-2, -1, 8, 7)))
    expected = np.pad(image, ((1, 2), (2, 1), (0, 0)), mode="edge")
    assert np.array_equal(beyond.apply_image(image).permute(1, 2, 0).numpy(), expected)
    box = InputSpec(size=(10, 6), resize_mode="letterbox", fill=None)
    shown = Geometry.plan(box, (6, 6)).apply_image(image[:, :6].repeat(2, axis=0)[:6])
    assert torch.equal(shown[:, 0], shown[:, 2]) and torch.equal(shown[:, -1], shown[:, 7])
    two = [
        {**Preprocessor(InputSpec(resize_mode="native", divisor=1, fill=None))(Sample.of(ImageSource(each), {}))}
        for each in (image, image[:3])
    ]
    assert np.array_equal(
        collate(two)["inputs"]["image"][1].permute(1, 2, 0), np.pad(image[:3], ((0, 2), (0, 0), (0, 0)), "edge")
    )
