"""The one transform: as Pillow resizes, exactly invertible, and the same for pixels, points, boxes and maps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image
from timm.data import create_transform

from visionkit.errors import UsageError
from visionkit.geometry import Geometry, InputSpec, resize_image
from visionkit.types import View

FITS = ("crop", "letterbox", "stretch", "pad", "native")
PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, channels), dtype=np.uint8)
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(channels)]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def random_case(seed: int) -> tuple[InputSpec, tuple[int, int], View | None]:
    """An input, a file size (odd ones included) and, for two in three, a view with flip and rotation."""
    rng = np.random.default_rng(seed)
    source = (int(rng.integers(1, 300)), int(rng.integers(1, 300)))
    spec = InputSpec(
        size=(int(rng.integers(1, 160)), int(rng.integers(1, 160))),
        resize_mode=FITS[seed % 5],
        crop_fraction=float(rng.choice([0.875, 0.95, 1.0])),
        divisor=int(rng.choice([1, 14, 32])),
    )
    if seed % 3 == 0:
        return spec, source, None
    x, y = rng.uniform(-20, source[1] - 1), rng.uniform(-20, source[0] - 1)
    box = (x, y, x + rng.uniform(1, 200), y + rng.uniform(1, 200))
    return spec, source, View(box, bool(rng.integers(2)), float(rng.choice([0.0, 0.0, 30.0, -117.3])))


@pytest.mark.parametrize("seed", range(150))
def test_points_come_back(seed):
    spec, source, view = random_case(seed)
    geometry = Geometry.plan(spec, source, view)
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.uniform(-50, 350, (7, 5, 2)))
    assert torch.allclose(geometry.invert_points(geometry.apply_points(points)), points, atol=1e-8)
    single = points.float()
    assert torch.allclose(
        geometry.invert_points(geometry.apply_points(single)), single, atol=5e-2 / min(1, *geometry.scale)
    )
    if spec.resize_mode == "native":
        assert all(side % spec.divisor == 0 for side in geometry.size)
    else:
        assert geometry.size == spec.size


@pytest.mark.parametrize("seed", range(40))
def test_boxes_come_back_where_nothing_was_cut_off(seed):
    spec, source, view = random_case(seed)
    if view is not None:
        view = view._replace(rotation=0.0)
    geometry = Geometry.plan(spec, source, view)
    x1, y1, x2, y2 = geometry.content
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform((x1, y1), (x2, y2), (6, 2, 2)), axis=1).reshape(6, 4)
    inside = geometry.invert_boxes(torch.from_numpy(corners))
    seen = (inside[:, 2:] > inside[:, :2]).all(dim=1)  # a view outside the file shows none of it
    files = geometry.apply_boxes(inside)
    limit = torch.tensor([source[1], source[0]])
    unclipped = ((inside > 0) & (inside < limit.repeat(2))).all(dim=1) & seen
    assert torch.allclose(files[unclipped], torch.from_numpy(corners)[unclipped], atol=1e-8)
    assert geometry.apply_boxes(torch.zeros(0, 4)).shape == geometry.invert_boxes(torch.zeros(0, 4)).shape == (0, 4)


def test_a_point_of_the_image_lies_where_its_pixels_went():
    """A bright dot is looked for in the input and must lie where `apply_points` states."""
    for seed in range(60):
        spec, _, view = random_case(seed)
        spec = InputSpec(size=(64, 96), resize_mode=spec.resize_mode, divisor=spec.divisor, crop_fraction=1.0)
        source = (90 + seed, 120 - seed // 2)
        if view is not None:
            view = View((5, 8, source[1] - 9, source[0] - 4), view.flip, view.rotation)
        geometry = Geometry.plan(spec, source, view)
        image = np.zeros((*source, 1), np.uint8)
        x, y = source[1] // 2 + 3, source[0] // 2 - 5
        image[y - 4 : y + 5, x - 4 : x + 5] = 200
        geometry = geometry._replace(fill=0)
        values = geometry.apply_image(image)[0].double()
        rows, columns = torch.arange(values.shape[0]) + 0.5, torch.arange(values.shape[1]) + 0.5
        found = torch.stack([(values.sum(0) * columns).sum(), (values.sum(1) * rows).sum()]) / values.sum()
        expected = geometry.apply_points(torch.tensor([x + 0.5, y + 0.5], dtype=torch.float64))
        assert torch.allclose(found, expected, atol=0.15), (seed, spec, view, found, expected)


@pytest.mark.parametrize("seed", range(30))
def test_maps_move_with_the_image(seed):
    spec, _, view = random_case(seed)
    source = (70 + seed, 110 - seed)
    geometry = Geometry.plan(spec, source, view)
    y, x = np.mgrid[: source[0], : source[1]]
    labels = ((x // 16 + y // 16) % 3).astype(np.int64)
    carried = geometry.apply_map(torch.from_numpy(labels), fill=255)
    assert carried.shape == geometry.size
    rows, columns = torch.meshgrid(torch.arange(geometry.size[0]), torch.arange(geometry.size[1]), indexing="ij")
    places = geometry.invert_points(torch.stack([columns, rows], dim=-1).double() + 0.5)
    for at in np.random.default_rng(seed).integers(0, geometry.size, (60, 2)):
        px, py = places[at[0], at[1]].tolist()
        if min(px % 1, 1 - px % 1, py % 1, 1 - py % 1) < 1e-6:
            continue  # on the border of two file pixels either is right
        x1, y1, x2, y2 = geometry.content  # beside a cut the image shows fill, so the map does not go on either
        inside = 0 <= px < source[1] and 0 <= py < source[0] and x1 <= at[1] < x2 and y1 <= at[0] < y2
        assert carried[tuple(at)] == (labels[math.floor(py), math.floor(px)] if inside else 255)


@pytest.mark.parametrize("flip", [False, True])
def test_a_map_of_the_files_size_returns_bit_for_bit(flip):
    """Nothing is resampled where the input is the image with a margin, so labels and scores stay what they are."""
    geometry = Geometry.plan(InputSpec(size=(8, 12), resize_mode="letterbox"), (4, 12))._replace(flip=flip)
    values = torch.rand(3, 8, 12)
    inside = values[:, 2:6]
    assert geometry.offset == (2, 0) and torch.equal(geometry.invert_map(values), inside.flip(2) if flip else inside)


@pytest.mark.parametrize("source", [(61, 97), (97, 61), (20, 33), (1, 1), (1, 400), (130, 3)])
@pytest.mark.parametrize("fit", FITS)
def test_maps_return_in_file_size(fit, source):
    geometry = Geometry.plan(InputSpec(size=(48, 64), resize_mode=fit), source)
    values = torch.rand(2, *geometry.size)
    for mode in ("bilinear", "nearest"):
        assert geometry.invert_map(values, mode=mode).shape == (2, *source)
    filled_up = torch.nn.functional.pad(values, (0, 13, 0, 7), value=9.0)
    assert torch.equal(geometry.invert_map(filled_up), geometry.invert_map(values))


@pytest.mark.parametrize("view", [None, View((10, 5, 90, 70), flip=True), View((10, 5, 90, 70), rotation=25.0)])
@pytest.mark.parametrize("fit", FITS)
def test_a_map_survives_the_round_trip(fit, view):
    source = (80, 120)
    geometry = Geometry.plan(InputSpec(size=(160, 160), resize_mode=fit), source, view)
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(120) + 0.5, indexing="ij")
    plane = 0.3 * x + 0.7 * y
    back = geometry.invert_map(geometry.apply_map(plane, fill=float("nan"))[None], fill=float("nan"))[0]
    known = ~back.isnan()
    assert known.float().mean() > 0.3
    assert (back[known] - plane[known]).abs().max() < 2.0


def test_what_the_network_never_saw_is_filled():
    geometry = Geometry.plan(InputSpec(size=(32, 32), resize_mode="crop", crop_fraction=1.0), (50, 100))
    back = geometry.invert_map(torch.ones(1, 32, 32), fill=-1.0)[0]
    assert (back[:, :24] == -1).all() and (back[:, 76:] == -1).all() and torch.allclose(back[:, 26:74], torch.ones(()))


# ---------------------------------------------------------------------- pixels


def assert_nearly(found: torch.Tensor, expected: np.ndarray, interpolation: str) -> None:
    """Torch rounds its resampling weights to 16 bit and Pillow to 22: a gray level, seldom."""
    difference = np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected.reshape(*expected.shape[:2], -1))
    assert difference.max() <= (1 if interpolation == "bilinear" else 2)
    assert (difference > 0).mean() < 0.1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resizing_is_pillows(interpolation, channels):
    for height, width in ((75, 101), (40, 30), (31, 200), (7, 5)):
        image = photo(height, width, channels)
        for size in ((40, 40), (33, 127), (height, width // 2), (5 * height, 2 * width)):
            planes = [Image.fromarray(image[..., c]).resize(size[::-1], PILLOW[interpolation]) for c in range(channels)]
            expected = np.stack([np.asarray(plane) for plane in planes], axis=2)
            assert_nearly(resize_image(image, size, interpolation), expected, interpolation)
            exact = resize_image(image, size, f"pillow_{interpolation}")
            assert np.array_equal(exact.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("fraction", [0.875, 0.95, 1.0])
def test_crop_is_the_published_imagenet_transform(interpolation, fraction):
    for size in (96, 97):
        transform = create_transform(
            (3, size, size), is_training=False, interpolation=interpolation, crop_pct=fraction, use_prefetcher=True
        )
        spec = InputSpec(size=(size, size), resize_mode="crop", crop_fraction=fraction, interpolation=interpolation)
        for source in ((150, 200), (200, 150), (133, 101), (120, 401), (60, 50), (111, 111)):
            image = photo(*source)
            found = Geometry.plan(spec, source).apply_image(image)
            assert_nearly(found, np.asarray(transform(Image.fromarray(image))).transpose(1, 2, 0), interpolation)
            exact = Geometry.plan(replace(spec, interpolation=f"pillow_{interpolation}"), source).apply_image(image)
            assert np.array_equal(exact.numpy(), np.asarray(transform(Image.fromarray(image))))
            # And torchvision's own resize of tensors, to the last bit.
            whole = torch.from_numpy(image).permute(2, 0, 1)
            resized = tvf.resize(
                whole, [math.floor(size / fraction)], tvf.InterpolationMode(interpolation), antialias=True
            )
            assert torch.equal(found, tvf.center_crop(resized, [size, size]))


@pytest.mark.parametrize("fit", ["letterbox", "pad", "stretch", "native"])
@pytest.mark.parametrize("source", [(61, 97), (97, 61), (20, 33)])
def test_the_content_is_pillows_resize_and_the_rest_is_fill(fit, source):
    image = photo(*source)
    geometry = Geometry.plan(InputSpec(size=(48, 64), resize_mode=fit, fill=7), source)
    found = geometry.apply_image(image)
    x1, y1, x2, y2 = geometry.content
    expected = np.asarray(Image.fromarray(image).resize((x2 - x1, y2 - y1), PILLOW["bilinear"]))
    assert_nearly(found[:, y1:y2, x1:x2], expected, "bilinear")
    rest = torch.ones(geometry.size, dtype=torch.bool)
    rest[y1:y2, x1:x2] = False
    assert (found[:, rest] == 7).all()
    if fit == "native":
        assert np.array_equal(found[:, y1:y2, x1:x2].permute(1, 2, 0).numpy(), image)
    if fit == "pad" and source == (20, 33):
        assert (y2 - y1, x2 - x1) == source, "never enlarged"


@pytest.mark.parametrize(
    ("fit", "source", "resized", "offset"),
    [
        ("letterbox", (30, 60), (32, 64), (8, 0)),  # a wide file: half of what is left lies above
        ("letterbox", (60, 30), (48, 24), (0, 20)),
        ("letterbox", (60, 31), (48, 25), (0, 19)),  # an odd rest: the smaller half comes first
        ("letterbox", (33, 64), (33, 64), (7, 0)),
        ("letterbox", (300, 1), (48, 1), (0, 31)),
        ("pad", (20, 33), (20, 33), (14, 15)),
        ("pad", (96, 64), (48, 32), (0, 16)),
        ("stretch", (20, 33), (48, 64), (0, 0)),
        ("native", (20, 33), (20, 33), (0, 0)),
    ],
)
def test_the_content_lies_in_the_middle(fit, source, resized, offset):
    geometry = Geometry.plan(InputSpec(size=(48, 64), resize_mode=fit), source)
    assert (geometry.resized, geometry.offset) == (resized, offset)
    assert geometry.content == (offset[1], offset[0], offset[1] + resized[1], offset[0] + resized[0])


def test_a_view_is_cut_and_flipped():
    image = photo(80, 100)
    spec = InputSpec(size=(30, 40), resize_mode="crop")
    view = View((10, 20, 50, 50))
    plain = Geometry.plan(spec, (80, 100), view).apply_image(image)
    assert np.array_equal(plain.permute(1, 2, 0).numpy(), image[20:50, 10:50])
    flipped = Geometry.plan(spec, (80, 100), view._replace(flip=True)).apply_image(image)
    assert torch.equal(flipped, plain.flip(-1))
    outside = Geometry.plan(spec, (80, 100), View((-20, -10, 20, 20))).apply_image(image)
    assert (outside[:, :10] == 114).all() and (outside[:, :, :20] == 114).all()
    assert np.array_equal(outside[:, 10:, 20:].permute(1, 2, 0).numpy(), image[:20, :20])
    nowhere = Geometry.plan(spec, (80, 100), View((200, 200, 240, 230))).apply_image(image)
    assert (nowhere == 114).all()


def test_a_quarter_turn_is_exact():
    image = photo(40, 40)
    geometry = Geometry.plan(
        InputSpec(size=(40, 40), resize_mode="stretch"), (40, 40), View((0, 0, 40, 40), rotation=90.0)
    )
    turned = geometry.apply_image(image).permute(1, 2, 0).numpy()
    assert np.abs(turned.astype(int) - np.rot90(image)).max() <= 1


def test_a_reduced_decode_gives_nearly_the_same_input():
    image = photo(400, 600)
    half = np.asarray(Image.fromarray(image).resize((300, 200), Image.Resampling.BOX))
    for view in (None, View((100, 50, 480, 330), flip=True), View((100, 50, 480, 330), rotation=20.0)):
        geometry = Geometry.plan(InputSpec(size=(64, 64), resize_mode="crop"), (400, 600), view)
        whole, reduced = geometry.apply_image(image).int(), geometry.apply_image(half).int()
        assert (whole - reduced).abs().float().mean() < 4


def test_extreme_shapes_take_little_memory():
    for source in ((1, 30000), (30000, 1), (2, 100001)):
        geometry = Geometry.plan(InputSpec(size=(224, 224)), source)
        assert geometry.resized[0] * geometry.resized[1] < 3e6
        assert geometry.apply_image(np.zeros((*source, 3), np.uint8)).shape == (3, 224, 224)
        center = geometry.invert_points(torch.tensor([112.0, 112.0]))
        assert torch.allclose(center, torch.tensor([source[1] / 2, source[0] / 2]), atol=1.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"resize_mode": "leterbox"}, "did you mean 'letterbox'"),
        ({"sise": (3, 4)}, "did you mean 'size'"),
        ({"size": (0, 4)}, "at least 1"),
        ({"crop_fraction": 0.0}, "crop_fraction"),
        ({"channels": 2}, "channels"),
        ({"interpolation": "nearest"}, "bilinear, bicubic"),
        ({"fill": 300}, "fill"),
    ],
)
def test_a_wrong_input_is_reported(given, says):
    with pytest.raises(UsageError, match=says):
        InputSpec.of(given)


@pytest.mark.parametrize(
    "given",
    [
        *({"size": size} for size in ((1, 1), (1, 300))),
        *({"crop_fraction": fraction} for fraction in (0.01, 1.0)),
        *({"channels": channels} for channels in (1, 3, 4)),
        *({"fill": fill} for fill in (0, 255)),
        *({"bits": bits} for bits in (8, 16)),
        {"divisor": 1},
    ],
)
def test_the_limits_of_an_input_are_allowed(given):
    assert InputSpec.of(given) == InputSpec(**given)


@pytest.mark.parametrize(
    "given",
    [
        *({"size": size} for size in ((4, 0), (0, 4), (4, 4, 4), (4,))),
        *({"crop_fraction": fraction} for fraction in (0.0, -0.5, 1.01)),
        *({"channels": channels} for channels in (0, 2, 5)),
        *({"fill": fill} for fill in (-1, 256)),
        *({"bits": bits} for bits in (1, 9, 17)),
        {"divisor": 0},
    ],
)
def test_beyond_its_limits_an_input_is_refused(given):
    with pytest.raises(UsageError, match=f"input.{next(iter(given))}"):
        InputSpec.of(given)


def test_an_input_without_a_fit_changes_the_usual_one():
    usual = InputSpec(size=(64, 64), resize_mode="letterbox", fill=3)
    assert InputSpec.of({"size": (8, 9)}, usual) == InputSpec(size=(8, 9), resize_mode="letterbox", fill=3)
    assert InputSpec.of({"resize_mode": "crop"}, usual) == InputSpec(resize_mode="crop")
    assert InputSpec.of(None, usual) == usual and InputSpec.of(None) == InputSpec()
    assert InputSpec.of(usual, InputSpec()) is usual
    published = InputSpec((224, 224), "crop", 0.875, "bilinear", 3, 32, 114, 8)
    assert InputSpec() == published, "what a checkpoint does not state is this"


# ---------------------------------------------------------------------- exact places


VIEWS = [None, View((10, 5, 90, 70)), View((10, 5, 90, 70), flip=True), View((10, 5, 91, 70), rotation=25.0)]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("fit", FITS)
def test_a_linear_map_returns_exactly(fit, view):
    """Bilinear resampling keeps a plane: every file pixel has the plane's value at the place it went to."""
    geometry = Geometry.plan(InputSpec(size=(70, 90), resize_mode=fit, crop_fraction=0.9), (80, 120), view)
    y, x = torch.meshgrid(torch.arange(geometry.size[0]) + 0.5, torch.arange(geometry.size[1]) + 0.5, indexing="ij")
    back = geometry.invert_map((0.3 * x + 0.7 * y)[None], fill=-1.0)[0]
    files = torch.stack(torch.meshgrid(torch.arange(80) + 0.5, torch.arange(120) + 0.5, indexing="ij")[::-1], dim=-1)
    places = geometry.apply_points(files)
    x1, y1, x2, y2 = geometry.content if view is None else (0, 0, *geometry.size[::-1])
    low, high = torch.tensor([x1, y1]), torch.tensor([x2, y2])
    inner = ((places > low + 1) & (places < high - 1)).all(dim=-1)
    assert inner.float().mean() > 0.2
    assert torch.allclose(back[inner], (0.3 * places[..., 0] + 0.7 * places[..., 1])[inner], atol=1e-3)
    unseen = ((places < 0) | (places > torch.tensor(geometry.size[::-1]))).any(dim=-1)
    assert (back[unseen] == -1).all()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("fit", FITS)
def test_labels_return_by_nearest_value(fit, view):
    geometry = Geometry.plan(InputSpec(size=(70, 90), resize_mode=fit, crop_fraction=0.9), (80, 120), view)
    rows, columns = torch.meshgrid(torch.arange(geometry.size[0]), torch.arange(geometry.size[1]), indexing="ij")
    labels = (rows * 1000 + columns).float()
    back = geometry.invert_map(labels[None], fill=-1.0, mode="nearest")[0]
    files = torch.stack(torch.meshgrid(torch.arange(80) + 0.5, torch.arange(120) + 0.5, indexing="ij")[::-1], dim=-1)
    places = geometry.apply_points(files)
    known = back >= 0
    assert known.float().mean() > 0.2
    column, row = back % 1000, (back / 1000).floor()
    assert (places[..., 0] - column - 0.5).abs()[known].max() <= 0.5 + 1e-4
    assert (places[..., 1] - row - 0.5).abs()[known].max() <= 0.5 + 1e-4


@pytest.mark.parametrize(
    "view", [(-7, 3, 50, 20), (3, -7, 20, 50), (60, 3, 108, 20), (3, 50, 20, 88), (-5, -5, 105, 85)]
)
def test_a_view_beyond_the_file_shows_the_file_in_its_place(view):
    image = photo(80, 100)
    x1, y1, x2, y2 = view
    geometry = Geometry.plan(InputSpec(size=(y2 - y1, x2 - x1), resize_mode="stretch", fill=9), (80, 100), View(view))
    padded = np.pad(image, ((20, 20), (20, 20), (0, 0)), constant_values=9)
    found = geometry.apply_image(image).permute(1, 2, 0).numpy()
    assert np.array_equal(found, padded[y1 + 20 : y2 + 20, x1 + 20 : x2 + 20])
    labels = np.arange(8000).reshape(80, 100)
    carried = geometry.apply_map(labels, fill=-1).numpy()
    assert np.array_equal(carried, np.pad(labels, 20, constant_values=-1)[y1 + 20 : y2 + 20, x1 + 20 : x2 + 20])


def test_a_view_is_rounded_to_whole_pixels_and_never_empty():
    spec = InputSpec(size=(10, 10), resize_mode="stretch")
    cuts = {
        (1.4, 2.5, 7.5, 9.49): (1, 3, 8, 9),
        (-0.6, -0.5, 3.0, 4.0): (-1, 0, 3, 4),
        (5.1, 6.1, 5.2, 6.2): (5, 6, 6, 7),
    }
    for box, cut in cuts.items():
        assert Geometry.plan(spec, (20, 20), View(box)).cut == cut
        assert Geometry.plan(spec, (20, 20), View(box, rotation=5.0)).cut == box


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(60, 80), (30, 40), (120, 100)])
def test_a_turned_view_is_pillows_rotation(interpolation, size):
    """Enlarged, shrunk and as it is; the small difference is that of two filters, on a smooth image."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(coarse).resize((200, 160), Image.Resampling.BICUBIC))
    view = View((60, 40, 140, 100), rotation=20.0)
    spec = InputSpec(size=size, resize_mode="stretch", interpolation=interpolation, fill=0)
    found = Geometry.plan(spec, (160, 200), view).apply_image(image).permute(1, 2, 0).numpy().astype(int)
    # Turning the image counter-clockwise about the middle of the view.
    turned = Image.fromarray(image).rotate(20.0, Image.Resampling.BICUBIC, center=(100, 70))
    expected = np.asarray(turned.crop((60, 40, 140, 100)).resize(size[::-1], PILLOW[interpolation])).astype(int)
    difference = np.abs(found - expected)[2:-2, 2:-2]
    assert difference.mean() < 0.8 and difference.max() < 5


def test_a_turned_view_beside_the_file_is_fill_and_so_is_what_is_beside_its_cut():
    image = np.full((50, 50, 3), 200, np.uint8)
    spec = InputSpec(size=(40, 60), resize_mode="letterbox", fill=9)
    geometry = Geometry.plan(spec, (50, 50), View((10, 10, 40, 40), rotation=30.0))
    found = geometry.apply_image(image)
    assert geometry.content == (10, 0, 50, 40)
    assert (found[:, :, :10] == 9).all() and (found[:, :, 50:] == 9).all() and (found[:, :, 10:50] == 200).all()
    away = Geometry.plan(spec, (50, 50), View((300, 300, 340, 340), rotation=30.0)).apply_image(image)
    assert away.shape == (3, 40, 60) and (away == 9).all()


def test_only_the_middle_of_an_extremely_long_file_is_resized():
    spec = InputSpec(size=(32, 32), crop_fraction=1.0)
    assert Geometry.plan(spec, (32, 512)).cut == (0, 0, 512, 32), "sixteen crops are kept whole"
    assert Geometry.plan(spec, (32, 514)).cut == (1, 0, 513, 32)
    assert Geometry.plan(spec, (515, 32)).cut == (0, 1, 32, 514), "as much is left out on both ends"
    assert Geometry.plan(spec, (1001, 64)).cut == (0, 0, 64, 1001)
    assert Geometry.plan(InputSpec(size=(32, 64), crop_fraction=0.5), (32, 3000)).cut == (1244, 0, 1756, 32)
