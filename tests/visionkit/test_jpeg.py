"""JPEG: headers without Pillow, scans counted before they are decoded, and reduced decodes of the promised size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionkit.errors import DataError
from visionkit.images import ImageSource
from visionkit.jpeg import Header, check_scans, plain_header

SCAN = b"\xff\xda"


def encoded(mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def frame(marker: int, components: int) -> bytes:
    return segment(marker, bytes([8, 0, 30, 0, 40, components]) + bytes(3 * components))


def scan(components: int) -> bytes:
    return segment(0xDA, bytes([components]) + bytes(2 * components + 3))


def comment(scans: int) -> bytes:
    return segment(0xFE, SCAN * scans)


def test_the_header_of_a_plain_jpeg_is_known_without_pillow(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded())
    for given in (encoded(), tmp_path / "a.jpg", encoded(progressive=True)):
        assert plain_header(given) == Header("JPEG", "RGB", 40, 30, 1)
    assert plain_header(encoded("L")) == Header("JPEG", "L", 40, 30, 1)
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "text.jpg").write_text("a text")
    for other in (
        encoded("CMYK"),
        encoded(exif=turned.tobytes()),
        encoded(comment=b"MPF"),
        encoded()[:20],
        b"a text",
        tmp_path / "text.jpg",
        tmp_path / "none.jpg",
        Image.new("RGB", (4, 4)),
    ):
        assert plain_header(other) is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_bytes_that_look_like_scans_in_a_comment_are_none(mode: str) -> None:
    whole = encoded(mode)
    source = ImageSource(whole[:2] + comment(300) + whole[2:])
    assert np.array_equal(source.read(), ImageSource(whole).read())
    progressive = encoded(mode, progressive=True)
    with pytest.raises(DataError, match=r"3\d\d scans"):
        ImageSource(progressive[:2] + comment(300) + progressive[2:]).read()


@pytest.mark.parametrize(
    ("segments", "one"),
    [
        ((frame(0xC0, 3), scan(3)), True),
        ((frame(0xC1, 3), scan(3)), True),
        ((frame(0xC0, 1), scan(1)), True),
        ((segment(0xE2, bytes(600)), frame(0xC0, 3), segment(0xC4, bytes(30)), scan(3)), True),
        ((frame(0xC0, 3), scan(1)), False),
        ((frame(0xC2, 1), scan(1)), False),
        ((frame(0xCA, 3), scan(3)), False),
        ((scan(3),), False),
        ((frame(0xC0, 3), b"\x00"), False),
    ],
)
def test_scans_are_counted_where_there_may_be_several(segments: tuple[bytes, ...], one: bool) -> None:
    begin = b"\xff\xd8" + comment(201) + b"".join(segments)
    if one:
        check_scans(begin, "a.jpg")
        return
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG of 20\d scans, over the limit of 200"):
        check_scans(begin, "a.jpg")


def test_two_hundred_scans_are_allowed() -> None:
    begin = b"\xff\xd8" + frame(0xC2, 3)
    check_scans(begin + SCAN * 200, "a.jpg")
    with pytest.raises(DataError, match="a JPEG of 201 scans"):
        check_scans(begin + SCAN * 201, "a.jpg")


def test_a_file_may_end_anywhere() -> None:
    whole = b"\xff\xd8" + frame(0xC0, 3) + segment(0xC4, bytes(30)) + scan(3) + bytes(20)
    for end in range(len(whole)):
        check_scans(whole[:end], "a.jpg")


@pytest.mark.parametrize(
    ("least", "size"),
    [(0.1, (51, 76)), (0.125, (51, 76)), (0.126, (101, 151)), (0.25, (101, 151)), (0.26, (201, 302)), (0.5, (201, 302)),
     (0.51, (401, 603)), (1.0, (401, 603))],
)  # fmt: skip
def test_a_reduced_decode_is_the_smallest_that_is_large_enough(least: float, size: tuple[int, int]) -> None:
    assert ImageSource(encoded(size=(603, 401))).read(min_scale=least).shape == (*size, 3)


def test_a_decode_for_training_copies_colors_to_their_neighbors() -> None:
    pixels = np.full((16, 32, 3), 128, np.uint8)
    pixels[..., 2] += np.arange(0, 64, 2, dtype=np.uint8)  # of each pair of columns the color is stored once
    file = io.BytesIO()
    Image.fromarray(pixels, "YCbCr").save(file, "JPEG", quality=95, subsampling=2)
    fast, exact = (ImageSource(file.getvalue()).read(min_scale=scale) for scale in (1.0, None))
    assert np.array_equal(fast[:, ::2], fast[:, 1::2]) and not np.array_equal(exact[:, ::2], exact[:, 1::2])


def test_a_damaged_jpeg_is_refused_and_stray_bytes_are_not() -> None:
    whole = encoded(size=(200, 200), quality=95)
    for read in (lambda data: ImageSource(data).read(), lambda data: ImageSource(data).read(min_scale=0.5)):
        assert np.array_equal(read(whole[:-2]), read(whole)), "only the end mark is missing"
        assert np.array_equal(read(whole[:-2] + b"\x12\x34" + whole[-2:]), read(whole))
        with pytest.raises(DataError, match="truncated or damaged"):
            read(whole[: len(whole) // 2])
