"""The one decoder: every type of file to the same type of array, every fault to one line."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from visionkit.errors import DataError
from visionkit.images import ImageSource, read_image
from visionkit.listing import find_images


def photo(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """A smooth colorful image, (h, w, 3) uint8, that looks different whichever way it is turned."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, rows: bytes) -> bytes:
    """A gray PNG of any claimed size, written by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# ---------------------------------------------------------------------- what is read


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_to_size_and_pixels(kind, orientation):
    stored = photo(41, 67)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(stored, kind, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    source = ImageSource(data)
    assert source.size == expected.shape[:2] == ((67, 41) if orientation > 4 else (41, 67))
    assert np.array_equal(source.read(), expected)
    if kind != "JPEG":
        assert np.array_equal(expected, turned(stored, orientation))


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """The definition of EXIF orientation, written out."""
    flips = {1: image, 2: np.fliplr(image), 3: np.rot90(image, 2), 4: np.flipud(image)}
    flips |= {5: np.fliplr(np.rot90(image, -1)), 6: np.rot90(image, -1)}
    flips |= {7: np.flipud(np.rot90(image, -1)), 8: np.rot90(image)}
    return flips[orientation]


def test_a_broken_exif_block_costs_only_the_orientation():
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x01garbage")
    assert read_image(data).shape == (60, 80, 3)
    assert ImageSource(data).size == (60, 80)


def test_gray_palette_and_one_bit():
    image = photo()
    gray = Image.fromarray(image).convert("L")
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "PPM"):
        read = read_image(encoded(gray, kind))
        assert read.shape == (60, 80, 3) and (read[..., 0] == read[..., 2]).all()
    palette = Image.fromarray(image).quantize(64)
    assert np.array_equal(read_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bits = gray.point(lambda value: 255 * (value > 128)).convert("1")
    read = read_image(encoded(bits, "PNG"))
    assert set(np.unique(read)) == {0, 255} and np.array_equal(read[..., 0] == 255, np.asarray(bits))


def test_transparency_lies_over_white():
    rgba = np.dstack([photo(), np.full((60, 80), 255, np.uint8)])
    rgba[:20, ..., 3] = 0
    rgba[20:40, ..., 3] = 128
    read = read_image(encoded(rgba, "PNG"))
    assert (read[:20] == 255).all()
    assert np.array_equal(read[40:], rgba[40:, :, :3])
    assert np.abs(read[20:40].astype(int) - (rgba[20:40, :, :3].astype(int) + 255) // 2).max() <= 1
    assert np.array_equal(read_image(rgba), read)
    gray_alpha = Image.fromarray(rgba).convert("LA")
    assert (read_image(encoded(gray_alpha, "PNG"))[:20] == 255).all()
    # A palette, and a plain RGB image, each with one color declared transparent.
    palette = Image.fromarray(np.kron([[0, 1]], np.ones((8, 8))).astype(np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 0, 200])
    read = read_image(encoded(palette, "PNG", transparency=0))
    assert (read[:, :8] == 255).all() and (read[:, 8:] == (0, 0, 200)).all()
    color = np.zeros((4, 8, 3), np.uint8)
    color[:, 4:] = (9, 8, 7)
    read = read_image(encoded(color, "PNG", transparency=(0, 0, 0)))
    assert (read[:, :4] == 255).all() and (read[:, 4:] == (9, 8, 7)).all()


def test_channels_asked_for():
    rgba = np.dstack([photo(), photo(seed=1)[..., 0]])
    data = encoded(rgba, "PNG")
    assert np.array_equal(read_image(data, channels=4), rgba)
    assert read_image(data, channels=1).shape == (60, 80, 1)
    jpeg = encoded(photo(), "JPEG", quality=95)
    gray = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L")).astype(int)
    assert np.abs(read_image(jpeg, channels=1)[..., 0].astype(int) - gray).max() <= 2
    assert (read_image(jpeg, channels=4)[..., 3] == 255).all()


def test_cmyk_jpeg_is_what_pillow_shows():
    cmyk = Image.fromarray(photo()).convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read_image(data), expected)
    assert np.abs(expected.astype(int) - photo().astype(int)).mean() < 8


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_keeps_the_high_byte(order):
    values = (photo()[..., 0].astype(np.uint16) << 8) + 77
    assert np.array_equal(read_image(values.astype(order))[..., 1], photo()[..., 0])
    if order == "<u2":
        for kind in ("PNG", "TIFF"):
            assert np.array_equal(read_image(encoded(Image.fromarray(values), kind))[..., 0], photo()[..., 0])
    else:
        pgm = b"P5 80 60 65535\n" + values.astype(">u2").tobytes()
        assert np.array_equal(read_image(pgm)[..., 0], photo()[..., 0])


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_float_tiff_of_any_range(scale):
    values = photo()[..., 0].astype(np.float32)
    values[0, 0] = 255
    read = read_image(encoded(Image.fromarray(values * np.float32(scale)), "TIFF"))
    assert np.abs(read[..., 0].astype(int) - values).max() <= 1


def test_float_arrays_may_hold_nan():
    values = np.full((4, 5), np.nan, np.float32)
    assert (read_image(values) == 0).all()
    values[1, 1], values[2, 2] = 0.5, np.inf
    assert read_image(values)[1, 1, 0] == 128


def test_the_first_frame_of_an_animation():
    frames = [Image.fromarray(photo(seed=k)) for k in range(3)]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(read_image(data), photo())
    gif = encoded(frames[0].quantize(64), "GIF", save_all=True, append_images=[f.quantize(64) for f in frames[1:]])
    assert np.array_equal(read_image(gif), np.asarray(frames[0].quantize(64).convert("RGB")))
    mpo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert np.abs(read_image(mpo).astype(int) - photo()).mean() < 4


def test_avif_and_jpeg2000():
    assert np.abs(read_image(encoded(photo(), "AVIF", quality=95)).astype(int) - photo()).mean() < 4
    assert np.array_equal(read_image(encoded(photo(), "JPEG2000")), photo())


def test_one_very_long_row():
    row = np.arange(30000, dtype=np.uint16).astype(np.uint8).reshape(1, -1, 1).repeat(3, axis=2)
    source = ImageSource(encoded(row, "PNG"))
    assert source.size == (1, 30000) and np.array_equal(source.read(), row)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_equals_pillow(subsampling):
    for height, width in ((61, 83), (64, 64), (1, 1), (255, 254)):
        data = encoded(photo(height, width), "JPEG", quality=80, subsampling=subsampling)
        expected = np.asarray(Image.open(io.BytesIO(data)))
        assert np.array_equal(read_image(data), expected)
    data = encoded(photo(), "JPEG", progressive=True)
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_reduced_decode_shows_the_same_image():
    full = photo(400, 600)
    data = encoded(full, "JPEG", quality=95)
    reduced = ImageSource(data).read(min_scale=0.3)
    assert reduced.shape[0] < 400 and reduced.shape[0] >= 120
    expected = np.asarray(Image.fromarray(full).resize(reduced.shape[1::-1], Image.Resampling.BOX))
    assert np.abs(reduced.astype(int) - expected).mean() < 2


def test_path_bytes_pil_and_array_are_one_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(photo(), "PNG"))
    pil = Image.open(path)
    for source in (path, str(path), path.read_bytes(), pil, photo(), ImageSource(path)):
        assert ImageSource(source).size == (60, 80)
        assert np.array_equal(read_image(source), photo())
    assert np.array_equal(np.asarray(pil), photo()), "a caller's image stays open"
    again = pickle.loads(pickle.dumps(ImageSource(path)))
    assert again.name == str(path) and np.array_equal(again.read(), photo())


def test_arrays_of_other_shapes_are_refused():
    for shape in ((3, 8, 8), (8,), (0, 5, 3), (2, 3, 4, 3)):
        with pytest.raises(DataError, match="an array image is"):
            read_image(np.zeros(shape, np.uint8))
    with pytest.raises(TypeError):
        ImageSource(7)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_truncated_file_is_reported_with_its_path(kind, tmp_path):
    whole = encoded(photo(200, 300), kind)
    for part in (0.95, 0.5):
        path = tmp_path / f"cut-{part}.bin"
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(DataError) as caught:
            read_image(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_jpeg_is_refused_in_a_reduced_decode_too():
    whole = encoded(photo(400, 600), "JPEG")
    with pytest.raises(DataError, match="truncated"):
        ImageSource(whole[: len(whole) // 2]).read(min_scale=0.25)


def test_a_jpeg_that_lacks_only_its_end_mark_is_whole():
    data = encoded(photo(), "JPEG")
    assert np.array_equal(read_image(data[:-2]), read_image(data))


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once():
    """Each scan costs a pass over the whole image: these 30 kB would take ten seconds, and more of them hours."""
    whole = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    source = ImageSource(whole[:-2] + whole[last:-2][:60] * 1000 + whole[-2:], name="scans.jpg")
    assert source.size == (2000, 2000)
    for read in (source.read, source.read_as_is):
        with pytest.raises(DataError, match=r"scans\.jpg: a JPEG of 10\d\d scans"):
            read()
    assert read_image(whole).shape == (2000, 2000, 3)
    decoy = b"\xff\xfe\x00\x0c" + b"\xff\xda\x00\x0c\x03" + bytes(5)  # a comment that looks like a scan
    with pytest.raises(DataError, match="scans"):
        read_image(whole[:2] + decoy + whole[2:-2] + whole[last:-2][:60] * 1000 + whole[-2:])


def test_stray_bytes_in_a_jpeg_are_harmless():
    data = encoded(photo(), "JPEG", quality=95)
    stray = data[:-2] + b"\x12\x34\x56" + data[-2:]
    assert np.array_equal(read_image(stray), read_image(data))
    assert ImageSource(stray).read(min_scale=0.5).shape[0] >= 30


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"this is a text", "not an image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
    ],
)
def test_no_image_at_all(content, says, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for ask in (ImageSource(path).read, lambda: ImageSource(path).size, lambda: read_image(content)):
        with pytest.raises(DataError, match=says):
            ask()


def test_a_missing_file_and_a_folder(tmp_path):
    for ask in (ImageSource(tmp_path / "no.png").read, lambda: ImageSource(tmp_path / "no.png").size):
        with pytest.raises(DataError, match=r"no\.png: no such file"):
            ask()
    with pytest.raises(DataError, match=str(tmp_path)):
        read_image(tmp_path)


def test_other_plugins_of_pillow_are_not_asked():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    with pytest.raises(DataError, match="not an image"):
        read_image(eps)


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(13000, 13000, b"\x00" * 20_000_000))
    assert path.stat().st_size < 25_000
    read_image(encoded(photo(), "PNG"))  # Pillow's plug-ins are loaded with the first image of a process
    for ask in (ImageSource(path).read, lambda: ImageSource(path).size, lambda: read_image(Image.open(path))):
        start = time.perf_counter()
        with pytest.raises(DataError, match=r"13000 x 13000 is 169 megapixels, over the limit of 150"):
            ask()
        assert time.perf_counter() - start < 0.05
    with pytest.raises(DataError, match=str(path)):
        read_image(path)


def test_no_file_stays_open(tmp_path):
    good, bad, text = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.jpg"
    good.write_bytes(encoded(photo(), "PNG"))
    bad.write_bytes(good.read_bytes()[:200])
    text.write_text("hello")
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are counted in /proc, which this system lacks")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        for path in (good, bad, text):
            source = ImageSource(path)
            for ask in (source.read, lambda source=source: source.size):
                try:
                    ask()
                except DataError:
                    continue
    assert len(list(descriptors.iterdir())) <= before


def test_images_are_found_in_folders_and_patterns(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden/d.jpg", "deep/._c.webp", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)] == ["a.jpg", "b.PNG", "deep/c.webp"]
    assert find_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert find_images(f"{tmp_path}/*.jpg") == [tmp_path / "a.jpg"]
    with pytest.raises(DataError, match="no images in this folder"):
        find_images(_empty(tmp_path))
    with pytest.raises(DataError, match="no such file, folder or pattern"):
        find_images(tmp_path / "nothing*")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_heic_image_is_called_by_its_name(brand: bytes, in_memory: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftyp" + brand + bytes(40)
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(DataError, match=r"a HEIC image.*install pillow-heif.*convert it to JPEG"):
        ImageSource(data if in_memory else tmp_path / "photo.jpg").read()


@pytest.mark.parametrize("in_memory", [True, False])
def test_heic_images_are_read_where_their_decoder_is_installed(in_memory: bool, tmp_path: Path, monkeypatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = 200, 40, 90
    exif = Image.Exif()
    exif[0x0112] = 6  # the file states that it is turned; its decoder turns it
    path = tmp_path / "photo.heic"
    heif.from_pillow(Image.fromarray(pixels)).save(path, quality=100, exif=exif.tobytes())
    assert find_images(tmp_path) == [path]
    image = ImageSource(path.read_bytes() if in_memory else path)
    assert image.size == (96, 64) and image.read().shape == (96, 64, 3) and image.orientation == 1
    assert np.abs(image.read().astype(int) - np.rot90(pixels, -1)).max() < 8
    assert image.read(channels=1).shape == (96, 64, 1) and image.read_as_is().shape == (96, 64, 3)
    assert not image.is_deep and not image.is_gray
    with pytest.raises(DataError, match="truncated or damaged"):
        ImageSource(path.read_bytes()[:200]).read()
    monkeypatch.setattr("visionkit.images.MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="megapixels"):
        ImageSource(path).read()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3)])
def test_an_array_is_read_as_it_is(shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = ImageSource(pixels).read_as_is()
    assert found.shape == (4, 5, 1 if len(shape) == 2 else shape[2])
    assert np.array_equal(found.reshape(shape), pixels)


def test_floats_keep_what_lies_beyond_black_and_white():
    noisy = np.linspace(-40, 300, 12, dtype=np.float32).reshape(3, 4)
    source = ImageSource(noisy, white=255)
    assert np.array_equal(source.read(1, bits=32)[..., 0], noisy)
    assert np.array_equal(source.read(bits=32), noisy[..., None].repeat(3, axis=2))
    assert source.read(1, bits=16).dtype == np.uint8 and source.read(1).max() == 255
    colors = np.stack([noisy, noisy + 1, noisy + 2], axis=2) / 255
    assert np.allclose(ImageSource(colors, white=1).read(1, bits=32)[..., 0], noisy + 0.587 + 2 * 0.114, atol=1e-3)
    file = encoded(Image.fromarray(noisy / 255), "TIFF")
    assert np.allclose(ImageSource(file).read(1, bits=32)[..., 0], noisy, atol=1e-3)
    whole = photo()
    assert ImageSource(whole).read_floats() is None and ImageSource(whole).read(bits=32).dtype == np.uint8
    deep = whole[..., 0].astype(np.uint16) * 257
    assert ImageSource(deep).read(bits=32).dtype == np.uint16
