"""A model on many images, or on those of a zip: one archive of results, one image in memory at a time."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ui.inference import Upload
from ui.server.job_queue import JobQueue
from ui.server.limits import MB, Limits
from visionkit.errors import DataError, EnvironmentFault, UsageError, VisionKitError
from visionkit.listing import SUFFIXES

DIRECTORY = 16 * MB
"""Bytes that the list of an archive's files may have; reading it takes some ten times as much memory."""


class Row(NamedTuple):
    """One image that was predicted, or not.

    Attributes:
        name: Name, as the visitor knows it.
        size: (height, width); (0, 0) where it could not be read.
        message: The prediction in a line, or what was wrong.
        good: Whether there is a prediction.
        done: Images so far, this one among them.
        total: Images in all.
    """

    name: str
    size: tuple[int, int]
    message: str
    good: bool
    done: int
    total: int


def run(
    job_queue: JobQueue,
    model: str | None,
    uploads: Sequence[Upload],
    archive: Path,
    options: Mapping[str, Any] | None = None,
) -> Iterator[Row]:
    """Predicts on images one after the other; the archive is whole once this ends.

    It holds `predictions.jsonl` as `visionkit predict` writes it, `predictions.csv`, the drawings in `drawn/`, in
    `files/` the predictions that are images themselves, and COCO's results of boxes, masks and poses.

    Args:
        job_queue: Where images are processed, each in its turn with what others ask.
        model: Model that predicts.
        uploads: Images and zips.
        archive: The zip that is written.
        options: Options of the call, the same for all images, such as a noise level.

    Raises:
        VisionKitError: Nothing to predict, too many images, or an archive that is not to be trusted.
    """
    from ui.coco_results import CocoResults
    from visionkit.drawing import jpeg

    if not uploads:
        raise UsageError("give images, or a zip of them, first")
    total = count(uploads, job_queue.limits)
    records, rows = io.StringIO(), io.StringIO()
    table = csv.writer(rows)
    table.writerow(["image", "height", "width", "prediction", "fault"])
    taken: set[str] = set()
    with (
        tempfile.TemporaryDirectory(dir=archive.parent) as folder,
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        work = Path(folder)
        coco = CocoResults(work)
        for done, (name, upload) in enumerate(_images(uploads, job_queue.limits, work), 1):
            try:
                if isinstance(upload, DataError):
                    raise upload
                result = job_queue.patiently(model, upload, channel="batch", options=options)
            except (DataError, EnvironmentFault) as error:
                table.writerow([name, "", "", "", str(error)])
                yield Row(name, (0, 0), str(error), False, done, total)
                continue
            prediction, image = result.prediction, result.image
            stem = _stem(name, taken)
            height, width = image.shape[:2]
            out.writestr(f"drawn/{stem}.jpg", jpeg(prediction.draw(image)), zipfile.ZIP_STORED)
            files = []
            for path in prediction.save(work / stem):
                out.write(path, f"files/{path.name}")
                files.append(f"files/{path.name}")
                path.unlink()
            if prediction.coco_classes:
                coco.add(Path(f"{stem}{Path(name).suffix}"), prediction, (height, width))
            content = prediction.summary() if files else prediction.to_json()
            record: dict[str, Any] = {"source": name, "size": [height, width], "prediction": content}
            if files:
                record["files"] = files
            if result.novelty is not None:
                record["out_of_distribution"] = result.novelty.to_json()
            records.write(json.dumps(record, ensure_ascii=False) + "\n")
            message = prediction.text()
            table.writerow([_cell(name), height, width, _cell(message), ""])
            yield Row(name, (height, width), message, True, done, total)
        out.writestr("predictions.jsonl", records.getvalue())
        out.writestr("predictions.csv", rows.getvalue())
        if coco.classes:
            coco.write()
            for path in work.glob("coco_*.json"):
                out.write(path, path.name)


def count(uploads: Sequence[Upload], limits: Limits) -> int:
    """Number of images.

    Raises:
        DataError: More than may be, or an archive that is broken or not to be trusted.
    """
    number = 0
    for upload in uploads:
        number += len(_members(upload)) if _is_zip(upload) else 1
        if number > limits.images:
            raise DataError(f"more than {limits.images} images, which is as many as one batch may have")
    if not number:
        raise DataError(f"no images in it (looked for {' '.join(sorted(SUFFIXES))})")
    return number


def _is_zip(upload: Upload) -> bool:
    with Path(upload.path).open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")


def _members(upload: Upload) -> list[zipfile.ZipInfo]:
    """The images of an archive, processed before anything of it is unpacked.

    Raises:
        DataError: Broken, encrypted, or made to do harm: names that leave the folder, links, a list without end.
    """
    name = upload.name
    with Path(upload.path).open("rb") as file:
        file.seek(max(0, Path(upload.path).stat().st_size - 65_557))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise DataError(f"{name}: the archive is truncated or damaged")
    if int.from_bytes(tail[end + 12 : end + 16], "little") > DIRECTORY:
        raise DataError(f"{name}: the archive lists more files than any batch may have")
    try:
        with zipfile.ZipFile(upload.path) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile raises nearly anything on a damaged file
        raise DataError(f"{name}: the archive is truncated or damaged ({type(error).__name__})") from None
    found = []
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename):
            raise DataError(f"{name}: {info.filename[:80]!r} would leave the archive's folder; nothing of it was read")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(f"{name}: {info.filename[:80]!r} is a link; put the image itself into the archive")
        shown = not any(part.startswith((".", "__MACOSX")) for part in path.parts)
        if not info.is_dir() and shown and path.suffix.lower() in SUFFIXES:
            if info.flag_bits & 1:
                raise DataError(f"{name}: the archive is encrypted; send one without a password")
            found.append(info)
    return found


def _images(uploads: Sequence[Upload], limits: Limits, work: Path) -> Iterator[tuple[str, Upload | DataError]]:
    """Every image with its name; those of an archive are unpacked one at a time, under a name of ours."""
    for upload in uploads:
        if not _is_zip(upload):
            yield upload.name, upload
            continue
        members = _members(upload)
        with zipfile.ZipFile(upload.path) as archive:
            for info in members:
                place = work / "unpacked"
                try:
                    _unpack(archive, info, place, limits.image_mb)
                    yield info.filename, Upload(str(place), info.filename)
                except DataError as error:
                    yield info.filename, error
                finally:
                    place.unlink(missing_ok=True)


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, most: int) -> None:
    """Writes one image, whatever size the archive states for it: what is unpacked is counted."""
    left = most * MB
    try:
        with archive.open(info) as packed, place.open("wb") as file:
            while chunk := packed.read(min(MB, left + 1)):
                left -= len(chunk)
                if left < 0:
                    raise DataError(f"{info.filename}: unpacks to more than {most} MB, which an image may have")
                file.write(chunk)
    except VisionKitError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{info.filename}: damaged within the archive ({type(error).__name__})") from None


def _stem(name: str, taken: set[str]) -> str:
    """A file name of harmless characters that no other image has."""
    stem = re.sub(r"[^\w.-]+", "-", PurePosixPath(name.replace("\\", "/")).stem).strip("-.")[:80] or "image"
    first, number = stem, 1
    while stem.lower() in taken:
        number += 1
        stem = f"{first}-{number}"
    taken.add(stem.lower())
    return stem


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text


def uploads_of(paths: Sequence[str] | None) -> list[Upload]:
    """Files as gradio hands them over."""
    found = []
    for path in paths or ():
        with contextlib.suppress(OSError):
            if Path(path).is_file():
                found.append(Upload(str(path), Path(path).name))
    return found
