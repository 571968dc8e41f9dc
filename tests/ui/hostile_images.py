"""Files that are sent as images and are none, or are ones that decoders have broken on. Each is made here, small.

Every entry names what is to happen: `REFUSED` in words, `ANSWERED` as the image that it is in spite of everything, or
`EITHER` where it hangs on the version of a decoder.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

REFUSED, ANSWERED, EITHER = "refused", "answered", "either"

ModelEntry = tuple[str, bytes, str]
"""The file's name, its bytes, and what is to happen."""


def images() -> list[ModelEntry]:
    """The whole list."""
    makers = (_truncated, _pngs, _jpegs, _gifs, _webps, _bitmaps, _tiffs, _plain_maps, _other_formats, _shapes, _modes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on odd modes
        return [entry for make in makers for entry in make()]


# ---------------------------------------------------------------------- parts


def noise(height: int, width: int) -> Image.Image:
    """An image that does not compress."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image's file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a png."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int = 8,
    height: int = 8,
    depth: int = 8,
    color: int = 2,
    pixels: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlace: int = 0,
) -> bytes:
    """A png with whatever header; its pixels are black where none are given."""
    if pixels is None:
        pixels = (
            zlib.compress((b"\0" + bytes(3 * width)) * height) if 0 < width * height < 10**6 else zlib.compress(b"\0")
        )
    header = struct.pack(">IIBBBBB", width & 0xFFFFFFFF, height & 0xFFFFFFFF, depth, color, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), before, chunk(b"IDAT", pixels), after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rows(height: int, width: int) -> bytes:
    """Deflated black rows of three colors, written row by row: their bytes never stand in memory together."""
    packer, row = zlib.compressobj(9), b"\0" + bytes(3 * width)
    return b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])


def segment(marker: int, data: bytes) -> bytes:
    """One segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if place >= 0:
            return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]
    raise AssertionError("no frame header")


# ---------------------------------------------------------------------- the list


def _truncated() -> Iterator[ModelEntry]:
    """Files that end too early."""
    image = noise(40, 50)
    wholes = {
        "jpg": encoded(image, "JPEG"),
        "png": encoded(image, "PNG"),
        "webp": encoded(image, "WEBP", lossless=True),
        "bmp": encoded(image, "BMP"),
        "tif": encoded(image, "TIFF"),
        "gif": encoded(image.convert("P"), "GIF"),
        "ppm": encoded(image, "PPM"),
        "jp2": encoded(image, "JPEG2000"),
    }
    for kind, whole in wholes.items():
        yield f"half.{kind}", whole[: len(whole) // 2], REFUSED if kind not in ("jp2", "gif") else EITHER
        yield f"head.{kind}", whole[:24], REFUSED
    yield "last-byte.jpg", wholes["jpg"][:-1], EITHER
    yield "no-end.png", wholes["png"][:-12], EITHER
    yield "progressive-half.jpg", encoded(image, "JPEG", progressive=True)[:2000], EITHER


def _pngs() -> Iterator[ModelEntry]:
    yield "no-width.png", png(width=0), REFUSED
    yield "no-height.png", png(height=0), REFUSED
    yield "negative.png", png(width=-8), REFUSED
    yield "largest.png", png(width=2**31 - 1, height=2**31 - 1), REFUSED
    yield "bomb-169-megapixels.png", png(13_000, 13_000, 1, 0, zlib.compress(bytes(1626 * 13_000), 9)), REFUSED
    yield "bomb-900-megapixels.png", png(30_000, 30_000, pixels=rows(300, 30_000)), REFUSED
    yield "depth-3.png", png(depth=3), REFUSED
    yield "depth-32.png", png(depth=32), REFUSED
    yield "color-7.png", png(color=7), REFUSED
    yield "no-palette.png", png(color=3), EITHER
    yield "wrong-checksum.png", png().replace(b"IDAT", b"IDAT", 1)[:-20] + bytes(20), REFUSED
    yield "wrong-header-checksum.png", png()[:29] + b"\0\0\0\0" + png()[33:], REFUSED
    yield "garbage-pixels.png", png(pixels=b"this is not deflated"), REFUSED
    yield "too-few-pixels.png", png(64, 64, pixels=zlib.compress(bytes(100))), REFUSED
    yield "too-many-pixels.png", png(pixels=zlib.compress(bytes(10**6))), EITHER
    yield "two-headers.png", png(before=chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))), EITHER
    yield "no-pixels.png", png().replace(b"IDAT", b"iDAt"), REFUSED
    yield "unknown-critical-chunk.png", png(before=chunk(b"EVIL", b"x")), EITHER
    yield "chunk-of-2-gigabytes.png", png()[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT", REFUSED
    yield "profile-bomb.png", png(before=chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(50 * 2**20), 9))), EITHER
    yield "text-bomb.png", png(before=chunk(b"zTXt", b"t\0\0" + zlib.compress(bytes(50 * 2**20), 9))), EITHER
    many = b"".join(chunk(b"zTXt", b"k%d\0\0" % k + zlib.compress(bytes(2**20), 9)) for k in range(100))
    yield "hundred-texts.png", png(before=many), EITHER
    yield "international-text.png", png(before=chunk(b"iTXt", b"k\0\x01\0en\0\0" + b"no deflate")), EITHER
    yield "million-frames.png", png(before=chunk(b"acTL", struct.pack(">II", 10**6, 0))), EITHER
    yield "interlace-9.png", png(interlace=9), EITHER
    yield "gamma-zero.png", png(before=chunk(b"gAMA", bytes(4))), EITHER
    yield "exif-garbage.png", png(before=chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")), EITHER
    yield "html-behind.png", png() + b"<html><script>window.hurt=9</script></html>", ANSWERED
    yield "zip-behind.png", png() + _zip({"../../x": b"x"}), ANSWERED


def _jpegs() -> Iterator[ModelEntry]:
    whole = encoded(noise(40, 50), "JPEG")
    yield "start.jpg", b"\xff\xd8", REFUSED
    yield "start-and-end.jpg", b"\xff\xd8\xff\xd9", REFUSED
    yield "no-size.jpg", jpeg_size(whole, 0, 0), REFUSED
    yield "largest.jpg", jpeg_size(whole, 65_500, 65_500), REFUSED
    yield "claims-more.jpg", jpeg_size(whole, 4000, 4000), REFUSED
    yield "no-tables.jpg", whole.replace(b"\xff\xc4", b"\xff\xe9"), EITHER
    yield "no-quantisation.jpg", whole.replace(b"\xff\xdb", b"\xff\xe9"), REFUSED
    yield "noise-in-scan.jpg", whole[:700] + bytes(range(256)) * 2 + whole[1212:], EITHER
    frame = whole.find(b"\xff\xc0")
    yield "twelve-bit.jpg", whole[: frame + 4] + b"\x0c" + whole[frame + 5 :], REFUSED
    yield "nine-components.jpg", whole[: frame + 9] + b"\x09" + whole[frame + 10 :], REFUSED
    yield "lossless-frame.jpg", whole[: frame + 1] + b"\xc3" + whole[frame + 2 :], REFUSED
    yield "arithmetic-frame.jpg", whole[: frame + 1] + b"\xc9" + whole[frame + 2 :], EITHER
    yield "comments.jpg", whole[:2] + segment(0xFE, bytes(65_000)) * 40 + whole[2:], ANSWERED
    yield "segment-of-length-0.jpg", whole[:2] + b"\xff\xfe\0\0" + whole[2:], EITHER
    for orientation in (0, 9, 65_535):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation-{orientation}.jpg", encoded(noise(9, 7), "JPEG", exif=exif), ANSWERED
    loop = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x8769, 4, 1, 8) + struct.pack("<I", 8)
    yield "exif-loop.jpg", whole[:2] + segment(0xE1, loop) + whole[2:], ANSWERED
    yield "exif-garbage.jpg", whole[:2] + segment(0xE1, b"Exif\0\0" + bytes(range(200))) + whole[2:], ANSWERED
    yield "profile-garbage.jpg", whole[:2] + segment(0xE2, b"ICC_PROFILE\0\x01\xff" + b"x" * 99) + whole[2:], EITHER
    frames = segment(0xE2, b"MPF\0II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0xB001, 4, 1, 2**32 - 1) + bytes(4))
    yield "four-billion-frames.jpg", whole[:2] + frames + whole[2:], EITHER
    # A scan of a large progressive image costs a pass over all of it; here are thousands, in 40 kB.
    scans = encoded(Image.new("RGB", (3000, 3000)), "JPEG", progressive=True)
    last = scans.rfind(b"\xff\xda")
    yield "thousand-scans.jpg", scans[:-2] + scans[last:-2][:60] * 1000 + b"\xff\xd9", REFUSED
    yield "page-inside.jpg", whole[:2] + segment(0xFE, b"<script>window.hurt=9</script>") + whole[2:], ANSWERED
    yield "bytes-between.jpg", whole[:2] + b"\0" * 50 + whole[2:], EITHER
    yield "leading-newline.jpg", b"\n" + whole, REFUSED


def _gifs() -> Iterator[ModelEntry]:
    frames = [noise(20, 20).convert("P") for _ in range(5)]
    yield "moving.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), ANSWERED
    whole = encoded(frames[0], "GIF")
    yield "no-frame.gif", b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";", REFUSED
    yield "no-size.gif", whole[:6] + bytes(4) + whole[10:], EITHER
    yield "huge-screen.gif", whole[:6] + b"\xff\xff\xff\xff" + whole[10:], REFUSED
    place = whole.rfind(b",", 0, 900)
    yield "code-size-99.gif", whole[: place + 10] + b"\x63" + whole[place + 11 :], EITHER
    yield "frame-outside.gif", whole[: place + 1] + b"\xff\xff\xff\xff" + whole[place + 5 :], EITHER
    yield "endless-comment.gif", whole[:13] + b"!\xfe" + (b"\xff" + b"c" * 255) * 1000, REFUSED
    yield "only-signature.gif", b"GIF89a", REFUSED


def _webps() -> Iterator[ModelEntry]:
    whole = encoded(noise(20, 20), "WEBP", lossless=True)
    yield "wrong-length.webp", whole[:4] + b"\xff\xff\xff\x7f" + whole[8:], EITHER
    canvas = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + b"\xfe\x3f\0" * 2
    yield "bomb.webp", b"RIFF" + struct.pack("<I", 22) + b"WEBP" + canvas, REFUSED
    yield "no-chunk.webp", b"RIFF\x04\0\0\0WEBP", REFUSED
    yield "garbage.webp", whole[:20] + bytes(reversed(whole[20:])), REFUSED
    frames = [noise(20, 20) for _ in range(4)]
    yield "moving.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), ANSWERED
    yield "a-wave.webp", b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(28), REFUSED


def _bitmaps() -> Iterator[ModelEntry]:
    whole = encoded(noise(10, 12), "BMP")

    def with_header(place: int, value: bytes) -> bytes:
        return whole[:place] + value + whole[place + len(value) :]

    yield "upside-down.bmp", with_header(22, struct.pack("<i", -10)), ANSWERED
    yield "widest.bmp", with_header(18, struct.pack("<i", 2**31 - 1)), REFUSED
    yield "negative-width.bmp", with_header(18, struct.pack("<i", -12)), REFUSED
    yield "pixels-outside.bmp", with_header(10, struct.pack("<I", 2**31)), REFUSED
    yield "compression-77.bmp", with_header(30, struct.pack("<I", 77)), REFUSED
    yield "five-bit.bmp", with_header(28, struct.pack("<H", 5)), REFUSED
    yield "header-of-9.bmp", with_header(14, struct.pack("<I", 9)), REFUSED
    runs = whole[:14] + struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 8, 1, 9, 1, 1, 256, 0) + bytes(1024)
    yield "run-length-bomb.bmp", runs + b"\xff\x01" * 50 + b"\0\x01", REFUSED


def _tiffs() -> Iterator[ModelEntry]:
    def tiff(tags: list[tuple[int, int, int, int]], follows: int = 0, tail: bytes = b"") -> bytes:
        body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + body + struct.pack("<I", follows) + tail

    def plain(width: int, height: int, compression: int = 1, offset: int = 200, count: int = 100) -> list:
        return [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
            (273, 4, 1, offset), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, count),
        ]  # fmt: skip

    yield "bomb.tif", tiff(plain(60_000, 60_000, 8), tail=zlib.compress(bytes(10**6))), REFUSED
    yield "no-tags.tif", tiff([]), REFUSED
    yield "no-size.tif", tiff(plain(0, 0)), REFUSED
    yield "strip-outside.tif", tiff(plain(10, 10, offset=2**31)), REFUSED
    yield "loop.tif", tiff(plain(10, 10, offset=126), follows=8, tail=bytes(100)), EITHER
    yield "tags-65535.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(200), REFUSED
    yield "directory-outside.tif", b"II*\0\xff\xff\xff\x7f", REFUSED
    yield "compression-9999.tif", tiff(plain(10, 10, 9999), tail=bytes(100)), REFUSED
    yield "lzw-garbage.tif", tiff(plain(10, 10, 5, offset=126), tail=b"\xff" * 100), REFUSED
    yield "tile-of-0.tif", tiff([*plain(10, 10)[:5], (322, 3, 1, 0), (323, 3, 1, 0), (324, 4, 1, 8)]), REFUSED
    frames = [noise(9, 9) for _ in range(3)]
    yield "three-pages.tif", encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), ANSWERED
    values = np.full((8, 8), np.nan, np.float32)
    yield "not-a-number.tif", encoded(Image.fromarray(values), "TIFF"), EITHER
    values[0, 0], values[1, 1] = np.inf, -np.inf
    yield "infinite.tif", encoded(Image.fromarray(values), "TIFF"), EITHER
    yield "signed.tif", encoded(Image.fromarray(np.full((8, 8), -5, np.int32)), "TIFF"), EITHER
    yield "bigtiff.tif", b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + bytes(50), REFUSED


def _plain_maps() -> Iterator[ModelEntry]:
    yield "gigapixels.ppm", b"P6 1000000000 1000000000 255\n", REFUSED
    yield "value-0.ppm", b"P6 2 2 0\n" + bytes(12), REFUSED
    yield "value-70000.ppm", b"P6 2 2 70000\n" + bytes(24), REFUSED
    yield "negative.ppm", b"P6 -2 2 255\n" + bytes(12), REFUSED
    yield "no-number.ppm", b"P6 two two 255\n" + bytes(12), REFUSED
    yield "long-number.ppm", b"P6 " + b"1" * 100_000 + b" 1 255\n", REFUSED
    yield "endless-comment.ppm", b"P6 #" + b"c" * 100_000, REFUSED
    yield "words.pgm", b"P2 2 2 255\none two three four", REFUSED
    yield "not-a-number.pfm", b"Pf 2 2 -1.0\n" + struct.pack("<4f", *[float("nan")] * 4), EITHER


def _zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def _other_formats() -> Iterator[ModelEntry]:
    """What some decoder would open, or run, and this one does not."""
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>window.hurt=9</script></svg>"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        member = tarfile.TarInfo("../../evil")
        archive.addfile(member, io.BytesIO())
    entities = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + b"".join(
        b"<!ENTITY %c '%s'>" % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(9)
    )
    icon = encoded(Image.new("RGB", (16, 16)), "ICO")
    files = {
        "page.svg": svg,
        "page.svgz": gzip.compress(svg),
        "svg-called.png": svg.replace(b"9", b"8"),
        "svg-called.gif": b"<?xml version='1.0'?>" + svg,
        "outside.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://outside.example/x.png'/></svg>",
        "entities.svg": entities + b"]><svg>&j;</svg>",
        "file-entity.svg": b"<!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg><text>&x;</text></svg>",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n%%EOF\n",
        "script.ps": b"%!PS\n(%pipe%id) (w) file\n",
        "document.pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(1)>>>>endobj\n",
        "magick.mvg": b"push graphic-context\nfill 'url(https://outside.example/x.png\"|id\")'\npop graphic-context",
        "magick.msl": b"<?xml version='1.0'?><image><read filename='/etc/passwd'/></image>",
        "playlist.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "icon.ico": icon,
        "cursor.cur": b"\0\0\2\0" + icon[4:],
        "bits.xbm": b"#define x_width 9999\n#define x_height 9999\nstatic char x_bits[] = {0x00};",
        "shop.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3),
        "target.tga": bytes((0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 24, 0)),
        "surface.dds": b"DDS " + struct.pack("<I", 124) + bytes(120),
        "film.fli": struct.pack("<IHHHHHH", 128, 0xAF11, 9999, 9999, 9999, 8, 0) + bytes(112),
        "silicon.sgi": struct.pack(">HBBHHHH", 474, 1, 1, 3, 65_535, 65_535, 3) + bytes(500),
        "window.wmf": b"\xd7\xcd\xc6\x9a" + bytes(50),
        "palm.im": b"Image type: RGB\r\n" + bytes(600),
        "stars.fits": b"SIMPLE  =                    T".ljust(2880),
        "sun.ras": b"\x59\xa6\x6a\x95" + struct.pack(">7I", 60_000, 60_000, 24, 0, 2, 0, 0),
        "photo.heic": struct.pack(">I", 24) + b"ftypheic" + bytes(12),
        "photo.jxl": b"\xff\x0a" + bytes(50),
        "broken.avif": struct.pack(">I", 28) + b"ftypavif" + bytes(4) + b"avifmif1" + struct.pack(">I", 999) + b"meta",
        "broken.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + struct.pack(">I", 2**31) + b"jp2h",
        "stream.j2k": b"\xffO\xffQ" + struct.pack(">HHIIII", 47, 0, 2**31, 2**31, 0, 0) + bytes(40),
        "film.mp4": struct.pack(">I", 24) + b"ftypisom" + bytes(12) + struct.pack(">I", 2**31) + b"mdat",
        "sound.mp3": b"ID3\x04" + bytes(100),
        "archive.zip": _zip({"../../evil.png": png(), "/etc/evil.png": png()}),
        "bomb.zip": _zip({"zeros": bytes(20 * 2**20)}),
        "archive.tar.gz": tar.getvalue(),
        "page.html": b"<!doctype html><script>fetch('http://outside.example')</script>",
        "called.jpg": b"<!doctype html><img src=x onerror=window.hurt=9>",
        "weights.pt": _zip({"x/data.pkl": b"cos\nsystem\n(S'touch /tmp/evil'\ntR."}),
        "pickle.png": b"cos\nsystem\n(S'touch /tmp/evil'\ntR.",
        "array.npy": b"\x93NUMPY\x01\0" + struct.pack("<H", 60) + b"{'descr': '|O', 'shape': (9,)}",
        "program.elf": b"\x7fELF\x02\x01\x01" + bytes(100),
        "program.exe": b"MZ" + bytes(200),
        "shell.sh": b"#!/bin/sh\ntouch /tmp/evil\n",
        "code.py": b"import os; os.system('touch /tmp/evil')\n",
        "record.json": b'{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}',
        "table.csv": b"=cmd|' /C calc'!A0,1\n",
        "empty.png": b"",
        "byte.png": b"\0",
        "newline.jpg": b"\n",
        "zeros.jpg": bytes(10_000),
        "ones.png": b"\xff" * 10_000,
        "signature.png": b"\x89PNG\r\n\x1a\n",
        "converted-lines.png": png().replace(b"\r\n", b"\n"),
        "wide-text.png": "a shopping list".encode("utf-16"),
        "random.bin": np.random.default_rng(7).bytes(5000),
        "text-of-a-megabyte.jpg": b"all work and no play " * 50_000,
    }
    for name, data in files.items():
        yield name, data, REFUSED


def _shapes() -> Iterator[ModelEntry]:
    """Whole images of extreme sizes, which are processed."""
    yield "30000x1.png", encoded(Image.new("RGB", (30_000, 1)), "PNG"), ANSWERED
    yield "1x30000.png", encoded(Image.new("RGB", (1, 30_000)), "PNG"), ANSWERED
    yield "200000x1.png", encoded(Image.new("L", (200_000, 1)), "PNG"), ANSWERED
    yield "65000x2.jpg", encoded(Image.new("RGB", (65_000, 2)), "JPEG"), ANSWERED
    yield "2x16383.webp", encoded(Image.new("RGB", (2, 16_383)), "WEBP"), ANSWERED
    yield "1x1.png", encoded(Image.new("RGB", (1, 1)), "PNG"), ANSWERED
    yield "1x1.gif", encoded(Image.new("P", (1, 1)), "GIF"), ANSWERED
    yield "2x1.jpg", encoded(Image.new("L", (2, 1)), "JPEG"), ANSWERED
    yield "1x1.bmp", encoded(Image.new("1", (1, 1)), "BMP"), ANSWERED


def _modes() -> Iterator[ModelEntry]:
    """Whole images with pixels that not every decoder expects, which are processed."""
    base = noise(12, 14)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "I"):
        yield f"mode-{mode.replace(';', '-')}.png", encoded(_as_mode(base, mode), "PNG"), ANSWERED
    for mode in ("CMYK", "YCbCr", "L"):
        yield f"mode-{mode}.jpg", encoded(base.convert(mode), "JPEG"), ANSWERED
    for mode in ("CMYK", "LAB", "F", "I", "I;16", "1"):
        yield f"mode-{mode.replace(';', '-')}.tif", encoded(_as_mode(base, mode), "TIFF"), ANSWERED
    yield "all-transparent.png", encoded(Image.new("RGBA", (9, 9), (1, 2, 3, 0)), "PNG"), ANSWERED
    yield "deep-colors.png", png(8, 8, 16, 2, zlib.compress((b"\0" + bytes(48)) * 8)), ANSWERED
    yield "transparent-palette.png", encoded(base.convert("P"), "PNG", transparency=3), ANSWERED


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    if mode == "LAB":
        return Image.fromarray(np.asarray(image), "LAB")
    return image.convert("L").convert(mode) if mode in ("I", "F") else image.convert(mode)
