import colorsys
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from datamodules.augmentation import AlbumentationsAugment, ClassificationAugment
from datamodules.augmentation.library import library
from datamodules.augmentation.photometric import ColorStep, EraseStep, color_matrix
from datamodules.augmentation.policies import OPERATIONS, build_operation, draw_operations
from visionkit.errors import UsageError
from visionkit.geometry import InputSpec
from visionkit.images import ImageSource
from visionkit.loading import rng_for
from visionkit.preprocess import Preprocessor
from visionkit.synthetic import make_scene
from visionkit.types import Sample

SCENE = make_scene(0, 0)
SPEC = InputSpec((32, 32))
EVERYTHING: dict[str, Any] = {
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "erasing": 0.5,
    "cutout": 0.2,
}


def sample(**target: Any) -> Sample:
    return Sample.of(ImageSource(SCENE.image, "scene"), target or {"labels": np.int64(1)}, "scene")  # type: ignore[arg-type]


def test_albumentations_comes_late_and_asks_nobody_for_its_version() -> None:
    code = (
        "import sys, os; os.environ.pop('NO_ALBUMENTATIONS_UPDATE', None)\n"
        "def hook(event, args):\n"
        "    if event == 'socket.getaddrinfo': raise SystemExit(f'asked for {args[0]}')\n"
        "sys.addaudithook(hook)\n"
        "import datamodules.augmentation as a\n"
        "a.ClassificationAugment(hue=0.1)\n"
        "print([name for name in ('albumentations', 'gradio', 'wandb') if name in sys.modules])\n"
        "a.ClassificationAugment(policy='randaugment')\n"
        "print('albumentations' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", ["[]", "True"])


@pytest.mark.parametrize("crop", ["resized", "pad", "none"])
@pytest.mark.parametrize("policy", ["none", "randaugment", "trivialaugment", "autoaugment"])
def test_seed_epoch_and_index_decide(crop: Any, policy: Any) -> None:
    augment = pickle.loads(pickle.dumps(ClassificationAugment(crop=crop, policy=policy, **EVERYTHING)))
    prepare = Preprocessor(SPEC)

    def image(seed: int, epoch: int, index: int) -> bytes:
        out: bytes = prepare(augment(sample(), rng_for(seed, epoch, index)))["inputs"]["image"].numpy().tobytes()
        return out

    first = [image(0, epoch, index) for epoch in range(3) for index in range(4)]
    backwards = [image(0, epoch, index) for epoch in (2, 1, 0) for index in (3, 2, 1, 0)]
    assert first == backwards[::-1]
    assert len(set(first)) == 12
    assert image(1, 0, 0) != first[0]


def test_crop_and_flip_are_deferred() -> None:
    out = ClassificationAugment()(sample(), np.random.default_rng(0))
    assert out.view is not None and out.photometric is None and out.draft
    assert out.image.read() is not None and out.image.size == SCENE.image.shape[:2]
    height, width = out.image.size
    flips, areas = [], []
    for seed in range(300):
        view = ClassificationAugment(area=(0.2, 0.5))(sample(), np.random.default_rng(seed)).view
        assert view is not None
        x1, y1, x2, y2 = view.box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        assert 0.7 < (x2 - x1) / (y2 - y1) < 1.4
        areas.append((x2 - x1) * (y2 - y1) / (height * width))
        flips.append(view.flip)
    assert 0.19 < min(areas) < 0.25 and 0.45 < max(areas) < 0.51
    assert 0.4 < np.mean(flips) < 0.6


def test_pad_moves_the_whole_image() -> None:
    boxes = []
    for seed in range(200):
        view = ClassificationAugment(crop="pad", padding=0.125, horizontal_flip=0)(
            sample(), np.random.default_rng(seed)
        ).view
        assert view is not None and not view.flip
        boxes.append(view.box)
    assert {(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes} == {(160, 120)}
    assert min(b[0] for b in boxes) == -20 and max(b[0] for b in boxes) == 20
    assert min(b[1] for b in boxes) == -15 and max(b[1] for b in boxes) == 15


def test_a_narrow_image_still_has_a_crop() -> None:
    thin = Sample.of(ImageSource(np.zeros((400, 3, 3), dtype=np.uint8)), {"labels": np.int64(0)})
    view = ClassificationAugment(area=(0.9, 1.0))(thin, np.random.default_rng(0)).view
    assert view is not None and view.box == (0, 198, 3, 202)


def test_color_matrix_is_each_change_alone() -> None:
    rgb = np.array([200.0, 100.0, 50.0, 1.0])
    assert color_matrix(1, 1, 1, 0) @ rgb == pytest.approx(rgb[:3])
    assert color_matrix(0.5, 1, 1, 0) @ rgb == pytest.approx([100, 50, 25])
    assert color_matrix(1, 2, 1, 0) @ rgb == pytest.approx([272, 72, -28])
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert color_matrix(1, 1, 0, 0) @ rgb == pytest.approx([luma] * 3, abs=0.1)
    turned = color_matrix(1, 1, 1, 1 / 3) @ rgb
    assert turned @ [0.299, 0.587, 0.114] == pytest.approx(luma, abs=0.1)
    assert np.argmax(turned) != 0
    assert color_matrix(1, 1, 1, 1.0) @ rgb == pytest.approx(rgb[:3])
    before, after = (
        colorsys.rgb_to_hsv(*(np.array(c) / 255))[0]
        for c in ([128, 100, 100], color_matrix(1, 1, 1, 0.1) @ [128, 100, 100, 1])
    )
    assert 0.03 < min((before - after) % 1, (after - before) % 1) < 0.2


def test_colors_are_what_the_matrix_states_and_saturate() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    matrix = color_matrix(1.3, 0.8, 1.5, 0.07)
    wanted = np.clip(image @ matrix[:, :3].T + matrix[:, 3], 0, 255)
    step = ColorStep(tuple(matrix.ravel().tolist()))
    assert np.abs(step(image).astype(float) - wanted).max() <= 1
    alpha = np.dstack([image, image[..., 0]])
    assert np.abs(step(alpha)[..., :3].astype(float) - wanted).max() <= 1
    assert (step(alpha)[..., 3] == image[..., 0]).all()
    gray = image[..., :1]
    as_color = step(np.repeat(gray, 3, axis=2)).astype(float).mean(axis=2, keepdims=True)
    assert np.abs(step(gray) - as_color).max() <= 1


def test_erasing() -> None:
    image = np.full((40, 60, 3), 200, dtype=np.uint8)
    cut = EraseStep(0.5, 0.5, 0.5, 1.0, None)(image)
    assert (cut == 114).all(axis=2).sum() == 400 and (image == 200).all()
    noise = EraseStep(0.0, 1.0, 0.5, 2.0, 7)
    assert (noise(image) == noise(image)).all() and 80 < (noise(image) != 200).any(axis=2).sum() < 240


@pytest.mark.parametrize("name", [*OPERATIONS, "invert"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_operation_keeps_shape_and_type(name: str, channels: int) -> None:
    from datamodules.augmentation.library import PolicyStep

    image = np.random.default_rng(0).integers(0, 256, (16, 20, channels), dtype=np.uint8)
    for strength in (0.0, 0.3):
        out = PolicyStep(((name, strength),), 1)(image)
        assert out.shape == image.shape and out.dtype == np.uint8


def test_operations_do_what_they_are_called() -> None:
    image = SCENE.image
    lib = library()

    def done(name: str, strength: float) -> np.ndarray:
        return np.asarray(build_operation(lib, name, strength)(image=image)["image"])

    assert (done("identity", 0) == image).all() and (done("invert", 0) == 255 - image).all()
    assert done("brightness", -0.5).mean() == pytest.approx(image.mean() / 2, abs=1)
    assert (done("posterize", 4) & 0x0F == 0).all()
    assert (done("translate_x", 0.25)[:, 40:] == image[:, :-40]).all()
    assert (done("color", -1.0).std(axis=2) < 1).all()
    assert (done("rotate", 30) != done("rotate", -30)).any()
    assert done("autocontrast", 0).max() == 255


def test_policies_draw_what_the_papers_say() -> None:
    rng = np.random.default_rng(0)
    pairs = [draw_operations("randaugment", rng, 2, 9) for _ in range(200)]
    assert {len(pair) for pair in pairs} == {2}
    assert {name for pair in pairs for name, _ in pair} == set(OPERATIONS)
    assert {abs(s) for pair in pairs for name, s in pair if name == "rotate"} == {9.0}
    assert {np.sign(s) for pair in pairs for name, s in pair if name == "rotate"} == {1.0, -1.0}
    single = [draw_operations("trivialaugment", rng) for _ in range(400)]
    assert {len(one) for one in single} == {1}
    assert max(s for ((name, s),) in single if name == "rotate") > 100
    auto = [draw_operations("autoaugment", rng) for _ in range(200)]
    assert {len(each) for each in auto} == {0, 1, 2}


def test_a_target_with_places_is_refused() -> None:
    with pytest.raises(UsageError, match="RandAugment cannot move boxes; use AlbumentationsAugment"):
        ClassificationAugment(policy="randaugment")(sample(**SCENE.target("boxes")), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": "resize"}, "did you mean 'resized'"),
        ({"policy": "randaug"}, "did you mean 'randaugment'"),
        ({"hue": 0.7}, r"augment.hue 0.7: allowed is 0 to 0.5"),
        ({"horizontal_flip": -1}, "augment.horizontal_flip"),
        ({"area": (0.5, 0.1)}, "augment.area"),
        ({"magnitude": 31}, "magnitude 31"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClassificationAugment(**arguments)


# ---------------------------------------------------------------- any transform of albumentations

FLIP = [{"name": "HorizontalFlip", "p": 1.0}]
PEOPLE = next(scene for scene in (make_scene(0, k) for k in range(20)) if len(scene.target("keypoints")["boxes"]) > 1)


@pytest.mark.parametrize("key", ["boxes", "masks", "keypoints", "label_map", "depth"])
def test_flipping_is_exact_for_every_target(key: Any) -> None:
    before = PEOPLE.target(key)
    width = PEOPLE.image.shape[1]
    given = Sample.of(ImageSource(PEOPLE.image), before, "x")  # type: ignore[arg-type]
    after = AlbumentationsAugment(FLIP, flip_pairs=[(1, 2), (3, 4)])(given, np.random.default_rng(0))
    assert (after.image.read() == PEOPLE.image[:, ::-1]).all()
    target: dict[str, Any] = dict(after.target)
    assert target.keys() == before.keys()
    if key in ("label_map", "depth"):
        assert (target[key] == before[key][:, ::-1]).all() and target[key].dtype == before[key].dtype
        return
    x1, y1, x2, y2 = before["boxes"].T
    assert np.abs(target["boxes"] - np.stack([width - x2, y1, width - x1, y2], axis=1)).max() < 1e-3
    if key == "masks":
        assert (target["masks"] == before["masks"][:, :, ::-1]).all()
    if key == "keypoints":
        wanted = before["keypoints"][:, [0, 2, 1, 4, 3, *range(5, 17)]].copy()
        wanted[..., 0] = np.where(wanted[..., 2] > 0, width - wanted[..., 0], 0)
        assert np.abs(target["keypoints"] - wanted).max() < 1e-3


def test_keypoints_follow_a_rotation_and_boxes_that_leave_take_their_rows_along() -> None:
    transforms = [
        {"name": "Affine", "rotate": [90, 90], "p": 1.0},
        {"name": "Crop", "x_max": 70, "y_max": 120, "p": 1.0},
    ]
    given = Sample.of(ImageSource(PEOPLE.image), PEOPLE.target("keypoints"))  # type: ignore[arg-type]
    after: dict[str, Any] = dict(AlbumentationsAugment(transforms)(given, np.random.default_rng(0)).target)
    count = len(after["boxes"])
    assert {len(after[key]) for key in after} == {count}
    assert after["boxes"].min(initial=0) >= 0 and after["boxes"][:, 2].max(initial=0) <= 70
    for box, points in zip(after["boxes"], after["keypoints"], strict=True):
        shown = points[points[:, 2] > 0]
        assert (shown[:, 0] >= box[0] - 12).all() and (shown[:, 0] <= max(box[2] + 12, 70)).all()


def test_what_comes_from_outside_is_ignored_and_not_measured() -> None:
    shift = AlbumentationsAugment([{"name": "Affine", "translate_px": {"x": [40, 40], "y": [0, 0]}, "p": 1.0}])
    labels = shift(sample(**SCENE.target("label_map")), np.random.default_rng(0)).target["label_map"]
    assert (labels[:, :40] == 255).all() and (labels[:, 40:] == SCENE.label_map[:, :-40]).all()
    depth = shift(sample(**SCENE.target("depth")), np.random.default_rng(0)).target["depth"]
    assert (depth[:, :40] == 0).all() and (depth[:, 40:] == SCENE.depth[:, :-40]).all()


def test_it_does_not_repeat_itself() -> None:
    augment = AlbumentationsAugment([{"name": "GaussNoise", "p": 1.0}, {"name": "RandomBrightnessContrast", "p": 1.0}])
    first = [augment(sample(), rng_for(0, epoch, index)).image.read().tobytes() for epoch in (0, 1) for index in (0, 1)]
    copy = pickle.loads(pickle.dumps(augment))
    again = [copy(sample(), rng_for(0, epoch, index)).image.read().tobytes() for epoch in (0, 1) for index in (0, 1)]
    assert first == again and len(set(first)) == 4


def test_images_without_objects() -> None:
    empty = {
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "masks": np.zeros((0, 120, 160), bool),
        "keypoints": np.zeros((0, 17, 3), np.float32),
    }
    after: dict[str, Any] = dict(AlbumentationsAugment(FLIP)(sample(**empty), np.random.default_rng(0)).target)
    assert {key: value.shape for key, value in after.items()} == {key: value.shape for key, value in empty.items()}


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"name": "HorizontalFlp"}, "did you mean 'HorizontalFlip'"),
        ({"name": "GaussNoise", "sigma": 3}, "GaussNoise: .*'sigma'"),
        ({"p": 1}, "None is not a transform"),
        ({"name": "OneOf", "transforms": [{"name": "Nothing"}]}, "'Nothing' is not a transform"),
    ],
)
def test_wrong_transforms(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AlbumentationsAugment([transform])
