"""Enlarging files: tiles that leave no seam, and gray, alpha and 16 bit that stay what they are."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.super_resolution import SuperResolutionTask
from tests.tasks.test_super_resolution import tiny
from visionkit.errors import DataError, UsageError
from visionkit.families.restoration import tiles
from visionkit.families.restoration.tiles import TileMargins, grid_of
from visionkit.images import ImageSource
from visionkit.predictions import ImagePrediction, Prediction
from visionkit.predictions.image import decode_png, encode_png
from visionkit.predictor import Predictor, load


def pixels(height=40, width=52, channels=3, deep=False, seed=0):
    rng = np.random.default_rng(seed)
    top, kind = (65536, np.uint16) if deep else (256, np.uint8)
    return rng.integers(0, top, (height, width, channels), dtype=kind)


def predictor(network="compact", scale=2, **arguments):
    torch.manual_seed(3)
    task = tiny(network, scale, **arguments).eval()
    with torch.no_grad():  # as if learned: far from bicubic
        for parameter in task.network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return Predictor(task)


# ---------------------------------------------------------------------- tiles


@pytest.mark.parametrize("network", ["compact", "srcnn", "espcn", "fsrcnn", "vdsr", "edsr_baseline", "swinir_light"])
@pytest.mark.parametrize("scale", [2, 3])
def test_tiles_give_the_predictions_of_the_whole_image(network, scale):
    ours, image = predictor(network, scale), pixels(70, 83)
    halo = ours.task.reach.halo
    assert halo is not None and halo > 0
    values = []
    for tile in (0, 2 * halo + 12, 4 * halo + 8):
        prediction = ours(image, tile=tile)
        values.append(prediction.pixels.astype(int))
        assert prediction.size == (70 * scale, 83 * scale)
    for each in values[1:]:  # 1e-5 may fall on either side of a half
        assert np.abs(each - values[0]).max() <= 1 and (each != values[0]).mean() < 1e-3
    assert values[0].std() > 5


def test_before_rounding_tiles_agree_to_a_hundred_thousandth():
    ours = predictor("edsr_baseline", 3)
    task, image = ours.task, torch.from_numpy(pixels(60, 75)).permute(2, 0, 1)[None]
    grid = grid_of((60, 75), task.reach, 2 * task.reach.halo + 10)
    assert grid is not None and len(grid) > 20
    with torch.no_grad():
        whole = task(image).high_res
        for tile in grid:
            rows, columns = grid.core(tile)
            part = task(image[..., tile.rows, tile.columns]).high_res
            top, left = 3 * (rows.start - tile.rows.start), 3 * (columns.start - tile.columns.start)
            wanted = whole[..., 3 * rows.start : 3 * rows.stop, 3 * columns.start : 3 * columns.stop]
            found = part[..., top : top + wanted.shape[-2], left : left + wanted.shape[-1]]
            assert (found - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("align", [1, 8])
def test_tiles_are_as_few_as_their_largest_side_allows_and_as_even(align):
    reach = TileMargins(16, align)
    for size in ((500, 391), (960, 1280), (33, 700), (385, 2000)):
        grid = grid_of(size, reach, 192)
        assert grid is not None
        needed = [-(-(side - 32) // (192 - 32)) if side > 192 else 1 for side in size]
        assert all(found <= least + (align > 1) for found, least in zip(grid.shape, needed, strict=True))
        for spans, side in (({w.rows.start: w.rows for w in grid}, 0), ({w.columns.start: w.columns for w in grid}, 1)):
            lengths = [each.stop - each.start for each in spans.values()]
            assert max(lengths) < 192 + align and max(lengths) - min(lengths) < max(align, 2)
            assert sum(lengths) - size[side] < len(lengths) * (32 + 2 * align), "little is processed twice"


def test_less_around_than_the_network_looks_at_would_show():
    """What the test above relies on: a tile with too little around it is processed otherwise."""
    ours = predictor("vdsr", 2)
    task, image = ours.task, torch.from_numpy(pixels(40, 40)).permute(2, 0, 1)[None]
    with torch.no_grad():
        whole, part = task(image).high_res, task(image[..., 10:, :]).high_res
    halo = task.reach.halo
    assert (whole[..., 2 * (10 + halo) :, :] - part[..., 2 * halo :, :]).abs().max() < 1e-5
    assert (whole[..., 2 * (10 + halo // 3) :, :] - part[..., 2 * (halo // 3) :, :]).abs().max() > 1e-4


def test_a_network_that_looks_at_everything_is_served_whole_unless_reported():
    ours, image = predictor("rcan"), pixels(90, 100)
    assert ours.task.reach.halo is None
    assert grid_of((1024, 1024), ours.task.reach, None) is None
    large = grid_of((3000, 4000), ours.task.reach, None)
    assert large is not None and next(iter(large)).rows.stop <= 768, "memory has no room for such an image as a whole"
    assert np.array_equal(ours(image).pixels, ours(image, tile=0).pixels)
    assert ours(image, tile=80).size == (180, 200)


def test_how_far_a_network_looks_is_found():
    for blocks in (1, 3):
        reach = SuperResolutionTask("compact", compact={"width": 16, "blocks": blocks}).reach
        assert reach.halo == 1 + 2 * blocks + 1 + 1 + 1  # head, blocks, last of them, tail, and one for the phase
    assert SuperResolutionTask("edsr", scale=2).reach.halo in range(64, 76)


def test_progress_and_wrong_tiles_are_reported():
    ours, message = predictor(), []
    ours(pixels(50, 60), tile=40, progress=lambda done, total: message.append((done, total)))
    assert message == [(k, len(message)) for k in range(1, len(message) + 1)] and len(message) > 2
    with pytest.raises(UsageError, match="0 takes the image whole"):
        ours(pixels(), tile=8)
    with pytest.raises(UsageError, match="did you mean 'ensemble'"):
        ours(pixels(), ensembel=True)


# ---------------------------------------------------------------------- what a file is stays


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_channels_and_depth_stay(channels, deep):
    ours, given = predictor(), pixels(20, 24, channels, deep)
    if channels == 2:
        given = np.concatenate([given[:, :, :1]] * 3 + [given[:, :, 1:]], axis=2) if deep else given
    source = given if given.shape[2] != 2 else Image.fromarray(given, "LA")
    prediction = ours(source)
    assert prediction.pixels.dtype == given.dtype and prediction.pixels.shape == (40, 48, given.shape[2])
    if given.shape[2] == 3:
        low = ours((given >> 8).astype(np.uint8) if deep else given)
        assert np.abs(prediction.rgb.astype(int) - low.rgb).max() <= (3 if deep else 0)


def test_sixteen_bit_is_more_than_eight():
    ours, deep = predictor(), pixels(20, 24, 3, deep=True)
    fine = ours(deep).pixels.astype(float)
    coarse = ours((deep >> 8).astype(np.uint8)).pixels.astype(float) * 257
    assert 30 < np.abs(fine - coarse).mean() < 600
    assert len(np.unique(fine % 257)) > 200, "levels between those of 8 bit"


def test_transparency_is_enlarged_beside_the_colors():
    ours, given = predictor(), pixels(20, 24, 4)
    prediction = ours(given)
    opaque = ours(np.ascontiguousarray(given[:, :, :3]))
    assert np.array_equal(prediction.pixels[:, :, :3], opaque.pixels)
    clear = torch.from_numpy(given[:, :, 3].copy())[None, None].float()
    wanted = torch.nn.functional.interpolate(clear, scale_factor=2, mode="bicubic", antialias=True)[0, 0].clamp(0, 255)
    assert np.abs(prediction.pixels[:, :, 3] - wanted.numpy()).max() < 0.51
    assert np.array_equal(ours(given, tile=28).pixels, prediction.pixels)


def test_gray_of_a_luma_network_is_that_of_equal_colors():
    ours, gray = predictor("espcn"), pixels(20, 24, 1)
    prediction, colored = ours(gray), ours(gray.repeat(3, axis=2))
    assert np.array_equal(prediction.pixels[:, :, 0], colored.pixels[:, :, 1])


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_files_are_read(tmp_path, ending, channels):
    import cv2

    given = pixels(12, 17, channels, deep=True)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    path = tmp_path / f"deep.{ending}"
    assert cv2.imwrite(str(path), given[:, :, order])
    source = ImageSource(path)
    assert source.is_deep and np.array_equal(source.read_as_is(), given)
    assert np.abs(source.read(3, bits=16).astype(int) // 257 - source.read(3)).max() <= 2
    assert source.read(1, bits=16).shape == (12, 17, 1) and source.read(4, bits=16).shape == (12, 17, 4)


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("P", 3), ("CMYK", 3), ("1", 1)]
)
def test_files_are_read_as_they_are(tmp_path, mode, channels):
    image = Image.fromarray(pixels()).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    source = ImageSource(path)
    assert not source.is_deep and source.read_as_is().shape == (40, 52, channels)


def test_exif_rotation_is_applied_to_what_is_read_as_it_is():
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(pixels(20, 30)).save(file, "JPEG", exif=exif)
    source = ImageSource(file.getvalue())
    assert source.read_as_is().shape == (30, 20, 3) == source.read().shape


def test_predictions_above_the_limit_are_refused_from_the_header(tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "MAX_OUTPUT_PIXELS", 4000)
    path = tmp_path / "large.png"
    Image.fromarray(pixels(30, 40)).save(path)
    source = ImageSource(path)
    monkeypatch.setattr(ImageSource, "read_as_is", lambda self: pytest.fail("memory was taken"))
    with pytest.raises(DataError, match=r"40x30 at x2 is 0 megapixels, over the limit.*VISIONKIT_MAX_OUTPUT_PIXELS"):
        predictor()(source)
    bad = [result.error for result in predictor().stream([path])]
    assert isinstance(bad[0], DataError)


# ---------------------------------------------------------------------- the prediction


def test_the_ensemble_does_not_know_how_an_image_lies():
    ours, given = predictor(), pixels(20, 26)
    plain, turned = (ours(each, ensemble=True).pixels for each in (given, np.ascontiguousarray(np.rot90(given))))
    assert np.abs(np.rot90(plain).astype(int) - turned).max() <= 1
    alone, other = (ours(each).pixels for each in (given, np.ascontiguousarray(np.rot90(given))))
    assert np.abs(np.rot90(alone).astype(int) - other).max() > 1


def test_what_is_served_is_what_is_measured():
    ours, given = predictor(), pixels(21, 30)
    example = ours.prepare(given)
    with torch.no_grad():
        decoded = ours.task.decode(ours.task(example["inputs"]["image"][None]))
    (measured,) = ours.task.restore(decoded, [example["geometry"]])
    assert measured == ours(given)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_images_survive_png_and_json(channels, deep):
    given = pixels(9, 11, channels, deep)
    back = decode_png(encode_png(given))
    if deep and channels == 2:
        assert back.shape[2] == 4 and np.array_equal(back[:, :, [0, 3]], given)
        return
    assert back.dtype == given.dtype and np.array_equal(back, given)
    prediction = ImagePrediction(given, 2)
    assert Prediction.from_json(json.loads(json.dumps(prediction.to_json()))) == prediction
    assert "png" not in prediction.summary() and prediction.rgb.shape == (9, 11, 3)


def test_an_exported_graph_enlarges_any_size_and_refuses_sixteen_bit(tmp_path):
    from visionkit.export import export_bundle

    ours = predictor("compact", 3)
    given = pixels(33, 45)
    export_bundle(ours.task, tmp_path / "bundle", onnx=True, card={}, images=[given])
    exported = load(tmp_path / "bundle", engine="onnx")
    for image in (given, given[:9, :20], pixels(60, 31, 4)):
        image = np.ascontiguousarray(image)
        whole = ours(image).pixels.astype(int)
        assert np.abs(exported(image).pixels - whole).max() <= 1
    assert np.abs(exported(given, tile=30).pixels - ours(given).pixels.astype(int)).max() <= 1
    with pytest.raises(UsageError, match="engine torch"):
        exported(pixels(20, 20, 3, deep=True))
