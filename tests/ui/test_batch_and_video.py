"""Many images, archives that mean harm, and videos: what comes out equals what one image gives."""

from __future__ import annotations

import csv
import io
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.ui.conftest import bomb
from ui.batch import count, run
from ui.inference import Upload
from ui.model_registry import ModelRegistry
from ui.server.job_queue import JobQueue
from ui.server.limits import Limits
from visionkit.errors import DataError, UsageError
from visionkit.video import VideoReader, VideoWriter


@pytest.fixture(scope="module")
def job_queue(models: Path) -> JobQueue:
    return JobQueue(ModelRegistry(models), Limits(images=30, image_mb=1, megapixels=3, seconds=2))


def _zip(path: Path, files: dict[str, bytes]) -> Upload:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return Upload(str(path), path.name)


def test_a_batch_gives_what_each_image_gives(
    job_queue: JobQueue, models: Path, images: list[Path], bad: dict[str, Path], tmp_path: Path
) -> None:
    from visionkit.predictor import load

    predictor = load(models / "good")
    packed = _zip(
        tmp_path / "some.zip",
        {
            "a/gray.png": images[8].read_bytes(),
            "b/gray.png": images[9].read_bytes(),
            "a/=cmd.png": images[8].read_bytes(),
            "notes.txt": b"no picture",
            "__MACOSX/a/._gray.png": b"",
            ".hidden.png": b"",
        },
    )
    uploads = [Upload(str(images[0]), images[0].name), packed, Upload(str(bad["text"]), "text.jpg")]
    rows = list(run(job_queue, "good", uploads, tmp_path / "results.zip"))
    assert [row.good for row in rows] == [True, True, True, True, False]
    assert [(row.done, row.total) for row in rows] == [(number, 5) for number in range(1, 6)]
    assert "not an image" in rows[4].message
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert {"predictions.jsonl", "predictions.csv"} <= names
        drawn = sorted(name for name in names if name.startswith("drawn/"))
        assert drawn == ["drawn/cmd.jpg", f"drawn/{images[0].stem}.jpg", "drawn/gray-2.jpg", "drawn/gray.jpg"]
        assert not any(".." in name or name.startswith("/") for name in names)
        records = [json.loads(line) for line in archive.read("predictions.jsonl").decode().splitlines()]
        table = list(csv.reader(io.StringIO(archive.read("predictions.csv").decode())))
    for record, path in zip(records, (images[0], images[8], images[9], images[8]), strict=True):
        assert record["prediction"] == json.loads(json.dumps(predictor(path).to_json()))
    assert table[0] == ["image", "height", "width", "prediction", "fault"] and len(table) == 6
    assert "not an image" in table[5][4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.zip", "some.zip"], "nothing unpacked is left"


def _hostile(folder: Path) -> dict[str, tuple[Upload, str]]:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(folder / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    good = _zip(folder / "good.zip", {"a.png": b"x"})
    whole = Path(good.path).read_bytes()
    (folder / "torn.zip").write_bytes(whole[: len(whole) // 2])
    lying = bytearray(whole)
    at = lying.rfind(b"PK\x05\x06")
    lying[at + 12 : at + 16] = (2**31).to_bytes(4, "little")
    (folder / "lying.zip").write_bytes(bytes(lying))
    return {
        "up": (_zip(folder / "up.zip", {"../../up.png": b"x"}), "would leave"),
        "root": (_zip(folder / "root.zip", {"/etc/x.png": b"x"}), "would leave"),
        "drive": (_zip(folder / "drive.zip", {"C:\\x.png": b"x"}), "would leave"),
        "back": (_zip(folder / "back.zip", {"a\\..\\..\\x.png": b"x"}), "would leave"),
        "link": (Upload(str(folder / "link.zip"), "link.zip"), "is a link"),
        "torn": (Upload(str(folder / "torn.zip"), "torn.zip"), "damaged"),
        "lying": (Upload(str(folder / "lying.zip"), "lying.zip"), "lists more files"),
        "many": (_zip(folder / "many.zip", {f"{n}.png": b"x" for n in range(40)}), "more than 30"),
        "empty": (_zip(folder / "empty.zip", {"a.txt": b"x"}), "no images"),
    }


def test_archives_that_mean_harm_are_refused_before_they_are_unpacked(job_queue: JobQueue, tmp_path: Path) -> None:
    for name, (upload, said) in _hostile(tmp_path).items():
        with pytest.raises(DataError, match=said):
            count([upload], job_queue.limits)
        with pytest.raises(DataError, match=said):
            list(run(job_queue, "good", [upload], tmp_path / f"out-{name}.zip"))
    assert not (tmp_path.parent / "up.png").exists()
    with pytest.raises(UsageError, match="give images"):
        list(run(job_queue, "good", [], tmp_path / "none.zip"))


def test_bombs_in_an_archive_are_one_row_each(job_queue: JobQueue, tmp_path: Path) -> None:
    packed = _zip(tmp_path / "bombs.zip", {"zeros.png": bytes(30 * 2**20), "header.png": bomb()})
    assert Path(packed.path).stat().st_size < 200_000
    rows = list(run(job_queue, "good", [packed], tmp_path / "out.zip"))
    assert [row.good for row in rows] == [False, False]
    assert "more than 1 MB" in rows[0].message and "megapixels" in rows[1].message


def test_boxes_are_handed_out_as_coco_has_them() -> None:
    from ui.coco_results import as_coco
    from visionkit.predictions import Classification
    from visionkit.predictions import Detections as Boxes

    boxes = np.array([[1, 2, 11, 22]], np.float32)
    prediction = Boxes(("cat", "dog"), (40, 60), boxes, np.array([0.75], np.float32), np.array([1]))
    (row,) = json.loads(as_coco(prediction, "a photo.png", (40, 60)) or "")
    assert row == {"image_id": "a photo", "category_id": 2, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.75}
    assert as_coco(Classification(("a", "b"), np.array([0.5, 0.5], np.float32)), "a.png", (4, 4)) is None


# ---------------------------------------------------------------------- video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of ten frames each, every one brighter than the one before."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, 10.0) as writer:
        for number in range(30):
            writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    return path


def test_frames_come_back_in_order_at_the_rate_that_was_asked_for(clip: Path) -> None:
    with VideoReader(clip) as reader:
        assert reader.size == (48, 64) and reader.rate == pytest.approx(10) and reader.frames == 30
        frames = list(reader.each())
    assert [frame.number for frame in frames] == list(range(30))
    assert all(abs(frame.pixels.mean() - 8 * frame.number) < 4 for frame in frames)
    with VideoReader(clip) as reader:
        some = list(reader.each(rate=4, seconds=2))
    assert [frame.number for frame in some] == [0, 2, 5, 8, 10, 12, 15, 18]
    with pytest.raises(DataError, match="over the limit"):
        VideoReader(clip, max_pixels=1000)


def _boxes(data: bytes, edit: Callable[[bytes, bytes], bytes | None]) -> bytes:
    """An mp4 with the content of some of its boxes exchanged, or the boxes left out."""
    out, at = [], 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body: bytes | None = data[at + 8 : at + size]
        at += size
        assert body is not None
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
            body = _boxes(body, edit)
        body = edit(kind, body)
        if body is not None:
            out.append(struct.pack(">I4s", 8 + len(body), kind) + body)
    return b"".join(out)


@pytest.fixture(scope="module")
def uneven(clip: Path) -> Path:
    """The clip with ten short frames, ten nine times as long, and ten short ones."""
    first = 0

    def edit(kind: bytes, body: bytes) -> bytes | None:
        nonlocal first
        if kind == b"edts":
            return None
        if kind == b"stts":
            first = struct.unpack(">I", body[12:16])[0]
            return body[:4] + struct.pack(">7I", 3, 10, first, 10, 9 * first, 10, first)
        return body

    path = clip.with_name("uneven.mp4")
    path.write_bytes(_boxes(clip.read_bytes(), edit))
    return path


def test_frames_have_their_own_times(uneven: Path) -> None:
    import cv2

    capture, true = cv2.VideoCapture(str(uneven)), []
    while capture.grab():
        true.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    assert true[12] - true[11] == pytest.approx(9 * (true[2] - true[1]), rel=0.01)
    with VideoReader(uneven) as reader:
        frames = list(reader.each())
        assert not reader.is_cut_off
    assert [frame.seconds for frame in frames] == pytest.approx(true)
    with VideoReader(uneven) as reader:
        some = [frame.seconds for frame in reader.each(seconds=true[15])]
    assert some == pytest.approx(true[:15])
    with VideoReader(uneven) as reader:  # at most one for each half second, and no more of the long ones than there are
        gaps = np.diff([frame.seconds for frame in reader.each(rate=2)])
    assert len(gaps) > 5 and gaps.min() > 0.3


def test_a_video_of_uneven_frames_is_drawn_in_true_time(job_queue: JobQueue, uneven: Path, tmp_path: Path) -> None:
    from ui.videos import VideoRequest, watch

    looks = list(watch(job_queue, VideoRequest("good", Upload(str(uneven), "uneven.mp4"), 5), tmp_path))
    with VideoReader(tmp_path / "video.mp4") as reader:
        written = len(list(reader.each()))
    assert written == pytest.approx(looks[-1].seconds * min(5, reader.rate), abs=1.5)
    assert looks[-1].done == len([look for look in looks if not look.fault])


@pytest.mark.parametrize("part", [0.3, 0.6, 0.85])
def test_a_file_that_is_cut_off_is_reported_as_such(models: Path, clip: Path, tmp_path: Path, part: float) -> None:
    from ui.videos import VideoRequest, watch

    whole = clip.read_bytes()
    kinds = dict.fromkeys([b"moov", b"mdat"])
    top: dict[bytes, bytes] = {}
    _boxes(whole, lambda kind, body: top.setdefault(kind, body) if kind in (*kinds, b"ftyp") else body)
    start = whole.index(b"mdat") + 4
    moov = whole.index(b"moov") - 4
    assert start < moov, "the index stands behind the images, which a cut file would have lost"
    broken = bytearray(whole)
    cut = start + int((moov - start) * part)
    broken[cut:moov] = bytes(moov - cut)  # as a download leaves it that has room for all and was interrupted
    path = tmp_path / "cut.mp4"
    path.write_bytes(broken)
    with VideoReader(path) as reader:
        frames = list(reader.each())
    if len(frames) < 27:
        assert reader.is_cut_off
        patient = JobQueue(ModelRegistry(models), Limits(seconds=60))
        looks = list(watch(patient, VideoRequest("good", Upload(str(path), "cut.mp4"), 5), tmp_path))
        assert "cut off" in looks[-1].fault and not any(look.fault for look in looks[:-1])
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match="damaged"):
        VideoReader(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\0\0\0\x18ftypmp42" + bytes(300),
    ],
    ids=["nothing", "playlist", "concat", "damaged"],
)
def test_what_is_no_video_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with (
        pytest.raises(DataError, match=r"film\.mp4: (not a video|the video is damaged|the video has no frame)"),
        VideoReader(path) as reader,
    ):
        list(reader.each())


def test_a_video_gives_what_each_frame_gives(job_queue: JobQueue, models: Path, clip: Path, tmp_path: Path) -> None:
    from ui.videos import VideoRequest, watch
    from visionkit.predictor import load

    looks = list(watch(job_queue, VideoRequest("good", Upload(str(clip), "clip.mp4"), 5), tmp_path))
    assert "frames after second 2" in looks[-1].fault or looks[-1].fault, (
        "that the video is longer is stated at the end"
    )
    shown = looks[:-1]
    assert [look.done for look in shown] == list(range(1, 11)) and {look.total for look in shown} == {10}, "2 s at 5"
    records = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text("utf-8").splitlines()]
    assert [record["frame"] for record in records] == list(range(0, 20, 2))
    predictor = load(models / "good")
    with VideoReader(clip) as reader:
        frames = list(reader.each(rate=5, seconds=2))
    for record, frame in zip(records, frames, strict=True):
        assert record["prediction"] == json.loads(json.dumps(predictor(frame.pixels).summary()))
    with VideoReader(tmp_path / "video.mp4") as reader:
        assert reader.rate == pytest.approx(5) and len(list(reader.each())) == 10
        assert reader.size == looks[0].drawn.shape[:2]
    with pytest.raises(UsageError, match="give a video"):
        list(watch(job_queue, VideoRequest("good", None, 5), tmp_path))
