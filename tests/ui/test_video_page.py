"""Tracking in the demo: what is counted, listed and handed out, by the page, by a request, and in the browser."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

import ui.server.job_queue
from tests.ui.browser import Watched, chromium, needs_chromium
from tests.ui.conftest import Demo
from tests.ui.test_tracked import SIZE, Colors, frame, tracks_at
from ui import strings
from ui.inference import InferenceResult, Upload
from ui.model_registry import ModelEntry, ModelRegistry
from ui.one_object import ObjectRequest, box_under, follow, grab_cut, mask_in, read_place
from ui.pages import timeline
from ui.server.job_queue import JobQueue
from ui.server.limits import Limits
from ui.server.security_middleware import FILE_ROUTES
from ui.server.video_routes import add_video_routes
from ui.videos import VideoRequest, VideoTracks, first_frame, read_lines, watch
from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.predictions import Classification
from visionkit.tracking.counts import TrackCounts
from visionkit.tracking.mot_files import read_tracks
from visionkit.tracking.timeline import Timeline
from visionkit.tracking.tracker import make_tracker
from visionkit.video import VideoReader, VideoWriter

LINE = (80.0, 0.0, 80.0, 96.0)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames: a red box goes to the right and a green one to the left, both across the middle."""
    path = tmp_path_factory.mktemp("walk") / "walk.mp4"
    with VideoWriter(path, 5) as writer:
        for t in range(6):
            writer.write(frame(5 * t + 18))
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model finds the red and green boxes of `frame`; the one called "classes" a class."""

    def predict(registry: Any, model: Any, source: Any, *_: Any) -> InferenceResult:
        prediction = next(iter(Colors().stream([source], 1, 0))).prediction
        if model == "classes":
            prediction = Classification(("a", "b"), np.array([0.25, 0.75], np.float32))
        return InferenceResult(prediction, source.read(), 0.0, 0.0, 0.0)

    monkeypatch.setattr(ui.server.job_queue, "predict", predict)


@pytest.fixture
def job_queue(found: None, tmp_path: Path) -> JobQueue:
    return JobQueue(ModelRegistry(tmp_path), Limits(seconds=60))


def asked(walk: Path, **more: Any) -> VideoRequest:
    given = {"model": "m", "upload": Upload(str(walk), "walk.mp4"), "rate": 5, "tracker": "sort", "lines": [LINE]}
    return VideoRequest(**{**given, **more})


def test_a_video_is_tracked_and_stops_where_it_is_asked_to(job_queue: JobQueue, walk: Path, tmp_path: Path) -> None:
    looks = list(watch(job_queue, asked(walk), tmp_path))
    assert [look.done for look in looks] == [1, 2, 3, 4, 5, 6] and looks[-1].total == 6
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["objects"] == {"green": 1, "red": 1} and summary["frames"] == 6
    assert summary["lines"][0]["left_to_right"] == {"green": 1} and summary["lines"][0]["right_to_left"] == {"red": 1}
    visible = {each["class"]: each["visible"] for each in summary["timeline"]}
    assert visible["red"] == [[pytest.approx(0, abs=0.01), pytest.approx(1.2, abs=0.01)]]
    records = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert [each["prediction"]["kind"] for each in records] == ["tracks"] * 6 and records[-1] == looks[-1].record
    assert sorted(set(read_tracks(tmp_path / "tracks.txt").ids)) == [1, 2]
    (tmp_path / "short").mkdir()
    stopped = threading.Event()
    for look in watch(job_queue, asked(walk), tmp_path / "short", stopped.is_set):
        if look.done == 3:
            stopped.set()
    assert look.done == 3 and json.loads((tmp_path / "short" / "summary.json").read_text())["frames"] == 3
    with VideoReader(tmp_path / "short" / "video.mp4") as reader:
        assert len(list(reader.each())) == 3
    with pytest.raises(UsageError, match="this one predicts classification"):
        list(watch(job_queue, asked(walk, model="classes"), tmp_path))
    with pytest.raises(UsageError, match="choose a tracker"):
        list(watch(job_queue, asked(walk, tracker=None), tmp_path))


def test_frames_that_cannot_be_decoded_are_stated_at_the_end(
    job_queue: JobQueue, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = VideoReader.each

    def broken(self: VideoReader, rate: Any = None, seconds: Any = None, on_fault: Any = None) -> Any:
        for count, one in enumerate(each(self, rate, seconds, on_fault)):
            if count in (1, 3):
                on_fault(f"frame {one.number} cannot be decoded")
            else:
                yield one

    monkeypatch.setattr(VideoReader, "each", broken)
    looks = list(watch(job_queue, asked(walk), tmp_path))
    assert looks[-1].fault.endswith("2 frames could not be used and are missing (frame 1 cannot be decoded)")
    assert looks[-1].done == 4


def test_a_frame_of_another_size_is_passed_over_and_stated(
    job_queue: JobQueue, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = VideoReader.each

    def odd(self: VideoReader, *given: Any) -> Any:
        for one in each(self, *given):
            yield one._replace(pixels=one.pixels[:50].copy()) if one.number == 2 else one

    asked_for = ObjectRequest(Upload(str(walk), "walk.mp4"), (94, 55, 118, 85), method="kcf")
    with monkeypatch.context() as patch:
        patch.setattr(VideoReader, "each", odd)
        looks = list(follow(job_queue, asked_for, tmp_path))
    assert (
        looks[-1].done == 5
        and "1 frame could not be used and is missing (frame 2: a frame of 160 x 50" in looks[-1].fault
    )
    assert sorted(set(read_tracks(tmp_path / "tracks.txt").frames)) == [1, 2, 4, 5, 6]


def test_what_is_longer_than_allowed_and_what_was_not_followed_is_stated(
    found: None, walk: Path, tmp_path: Path
) -> None:
    job_queue = JobQueue(ModelRegistry(tmp_path), Limits(seconds=0.5))
    looks = list(watch(job_queue, asked(walk), tmp_path))
    assert looks[-1].done == 3 and looks[-1].fault == (
        "walk.mp4: longer than the 0.5 s of a video that this server processes"
    )
    app = FastAPI()
    add_video_routes(app, job_queue, tmp_path)
    content, client = walk.read_bytes(), TestClient(app)
    *_, last = client.post("/api/track", params={"model": "m"}, content=content).text.splitlines()
    assert (
        json.loads(last)["fault"].endswith("that this server processes") and "hint" not in json.loads(last)["summary"]
    )
    for kind in ("mot", "mp4"):
        response = client.post("/api/track", params={"model": "m", "format": kind}, content=content)
        assert response.status_code == 200 and response.headers["x-fault"].endswith("that this server processes")
    whole = JobQueue(ModelRegistry(tmp_path), Limits(seconds=1.3))
    assert [look.fault for look in watch(whole, asked(walk), tmp_path)] == [""] * 6
    tracker = make_tracker("sort", {"min_score": 0.95})
    tracker.update(next(iter(Colors().stream([ImageSource(frame(3))], 1, 0))).prediction)
    assert "score of 0.95" in VideoTracks(tracker, TrackCounts(), Timeline(0.1)).to_json()["hint"]


def test_a_model_that_finds_no_objects_is_not_run_on_the_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [ModelEntry("classes", "c", "classification"), ModelEntry("boxes", "b", "detection")]
    monkeypatch.setattr(ModelRegistry, "entries", lambda self: entries)
    asked_for: list[str] = []

    def ask(self: JobQueue, model: str, *_: Any, **__: Any) -> InferenceResult:
        asked_for.append(model)
        return InferenceResult(next(iter(Colors().stream([ImageSource(frame(3))], 1, 0))).prediction, frame(3), 0, 0, 0)

    monkeypatch.setattr(JobQueue, "ask", ask)
    queue = JobQueue(ModelRegistry(tmp_path), Limits())
    assert box_under(queue, "classes", frame(3), (10, 20)) is None and asked_for == []
    assert box_under(queue, "boxes", frame(3), (10, 20)) is not None and asked_for == ["boxes"]


def test_a_timeline_knows_breaks_and_ends(tmp_path: Path) -> None:
    whole = Timeline(0.5, max_objects=2)
    for number, centers in enumerate([[(9, 9)], [(9, 9), (50, 50)], [], [(9, 9)], [(9, 9), (50, 50), (80, 80)]]):
        whole.update(tracks_at(*centers), number / 2)
    assert [each.spans for each in whole.objects.values()] == [[[0, 1], [1.5, 2.5]], [[0.5, 1], [2, 2.5]]]
    assert [each.frames for each in whole.objects.values()] == [4, 2] and whole.unlisted == 1
    assert whole.objects[1].seconds == 2 and whole.seconds == 2.5
    uneven = Timeline(0.1)  # a frame lasts until the next
    for seconds, centers in ((0, [(9, 9)]), (5, [(9, 9)]), (5.05, [])):
        uneven.update(tracks_at(*centers), seconds)
    assert uneven.objects[1].spans == [[0, 5.05]]
    counts = TrackCounts([LINE])
    markup = timeline.markup(SimpleNamespace(counts=counts, timeline=whole))  # type: ignore[arg-type]
    assert "0:00.0 to 0:01.0; 0:01.5 to 0:02.5" in markup and "of 3 objects" in markup and "\n" not in markup
    whole.objects[1].name = "<img src=x> *b*"
    assert "<img" not in timeline.markup(SimpleNamespace(counts=counts, timeline=whole))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1,2,3", "1,2,1,2", "a,b,c,d", "0,0,inf,1", "\n".join(["0,0,1,1"] * 9)])
def test_what_is_no_line_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="line"):
        read_lines(text)
    assert read_lines(" 1, 2 3,4 ;\n\n5 6 7 8") == [(1, 2, 3, 4), (5, 6, 7, 8)] and read_lines(None) == []


class Green:
    """Stands for a propagator: the object is what is green."""

    def begin(self, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert mask.any() and mask.shape == frame.shape[:2]
        return self.update(frame)

    def update(self, frame: np.ndarray) -> np.ndarray:
        return (frame[..., 1].astype(int) - frame[..., 0] > 80).astype(np.uint8)


def test_one_object_is_found_outlined_followed_and_cut_out(
    job_queue: JobQueue, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionkit.families.propagation.propagator.make_propagator", lambda *_, **__: Green())
    upload = Upload(str(walk), "walk.mp4")
    pixels = first_frame(upload, 1)
    box = box_under(job_queue, "m", pixels, (100, 70))
    assert box == pytest.approx((94, 55, 118, 85), abs=1.5) and box_under(job_queue, "m", pixels, (5, 5)) is None
    assert box_under(job_queue, "classes", pixels, (100, 70)) is None
    wide = (84.0, 45.0, 128.0, 95.0)  # a box that somebody has drawn around it
    mask = mask_in(job_queue, "m", pixels, wide)
    assert mask[57:83, 96:116].all() and mask.sum() == pytest.approx(24 * 30, rel=0.1)
    assert grab_cut(np.full((40, 60, 3), 128, np.uint8), (10, 10, 30, 30)).sum() == 400, "a box of nothing is filled"
    assert grab_cut(pixels, (0, 0, 160, 96)).any()
    kcf = list(follow(job_queue, ObjectRequest(upload, box, method="kcf"), tmp_path))
    tracks = read_tracks(tmp_path / "tracks.txt")
    assert len(kcf) == 6 and set(tracks.ids) == {1}
    assert np.abs(tracks.boxes[-1] - (np.array(box) - [50, 0, 50, 0])).max() < 8, "it went 50 pixels to the left"
    (tmp_path / "cut").mkdir()
    cut = list(follow(job_queue, ObjectRequest(upload, box, "m"), tmp_path / "cut"))
    assert cut[-1].record["prediction"]["box"] == pytest.approx([44, 55, 68, 85], abs=2)
    with zipfile.ZipFile(tmp_path / "cut" / "masks.zip") as archive:
        assert archive.namelist() == [f"{number:06}.png" for number in range(6)]
        last = np.asarray(Image.open(io.BytesIO(archive.read("000005.png"))))
    assert last.shape == SIZE and set(np.unique(last)) == {0, 255} and last[70, 56] == 255
    assert (cut[-1].drawn[5, 5] < 120).all() and not (tmp_path / "cut" / "tracks.txt").exists()
    for wrong in ((), (300, 10, 330, 40)):
        with pytest.raises(UsageError, match=r"mark the object|outside of the frame"):
            list(follow(job_queue, ObjectRequest(upload, wrong), tmp_path))
    assert read_place("") == () and read_place("30 9, 10 40") == (10, 9, 30, 40) and read_place("@5,6") == (5, 6)
    for text in ("1,2", "1,2,2,9", "@a,b", "@1,2,3,4"):
        with pytest.raises(UsageError, match="object"):
            read_place(text)


@pytest.fixture
def client(job_queue: JobQueue, tmp_path: Path) -> TestClient:
    app = FastAPI()
    (tmp_path / "scratch").mkdir()
    add_video_routes(app, job_queue, tmp_path / "scratch")
    return TestClient(app)


def test_programs_get_records_text_or_video(client: TestClient, walk: Path, tmp_path: Path) -> None:
    content, given = walk.read_bytes(), {"model": "m", "line": ["80,0,80,96", "0,10,160,10"]}
    lines = client.post("/api/track", params=given, content=content).text.splitlines()
    *records, last = map(json.loads, lines)
    assert [each["frame"] for each in records] == list(range(6)) and len(last["summary"]["lines"]) == 2
    assert last["summary"]["objects"] == {"green": 1, "red": 1} and last["summary"]["timeline"][0]["id"] == 1
    text = client.post("/api/track", params={"model": "m", "format": "mot"}, files={"video": ("a.mp4", content)}).text
    (tmp_path / "a.txt").write_text(text)
    assert read_tracks(tmp_path / "a.txt").frames.max() == 6
    drawn = client.post("/api/track", params={"model": "m", "format": "mp4", "rate": "2.5"}, content=content)
    (tmp_path / "a.mp4").write_bytes(drawn.content)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert drawn.headers["content-type"] == "video/mp4" and len(list(reader.each())) == 3
    each = client.post("/api/track", params={"model": "classes", "tracker": "none"}, content=content).text.splitlines()
    assert len(each) == 6 and json.loads(each[0])["prediction"]["kind"] == "classification"
    assert "/api/track" in FILE_ROUTES and not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        ({"tracker": "bytetrak"}, 400, "did you mean 'bytetrack'"),
        ({"trackr": "sort"}, 400, "did you mean 'tracker'"),
        ({"rate": "0"}, 400, "rate=0"),
        ({"format": "avi"}, 400, "allowed are jsonl, mot, mp4"),
        ({"line": "1,2"}, 400, "give x1,y1,x2,y2"),
        ({"tracker": "none", "format": "mot"}, 400, "only with a tracker"),
        ({"model": "classes"}, 400, "this one predicts classification"),
        ({"content": b"no video"}, 422, "not a video"),
        ({"content": b""}, 400, "send a video"),
    ],
)
def test_what_is_wrong_with_a_request_is_reported(
    client: TestClient, walk: Path, given: dict[str, Any], status: int, message: str
) -> None:
    content = given.pop("content", walk.read_bytes())
    response = client.post("/api/track", params={"model": "m", **given}, content=content)
    assert response.status_code == status and message in response.json()["error"]


def test_few_videos_are_processed_at_a_time(client: TestClient, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.server.video_routes.VIDEOS", 0)
    response = client.post("/api/track", params={"model": "m"}, content=walk.read_bytes())
    assert response.status_code == 503 and response.headers["retry-after"]


# ---------------------------------------------------------------------- browser


@pytest.fixture
def address(found: None, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> str:
    """A demo with one detector, by its entry alone."""
    entry = ModelEntry("boxes", "boxes", "detection", "Boxes")
    monkeypatch.setattr(ModelRegistry, "entries", lambda self: [entry])
    return demo.address


@needs_chromium
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::Warning:gradio.queueing")
def test_a_video_is_tracked_on_a_phone(
    address: str, walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visionkit.families.propagation.propagator.make_propagator", lambda *_, **__: Green())
    with chromium() as browser:
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        page = browser.new_context(**phone, accept_downloads=True, reduced_motion="reduce").new_page()
        watched = Watched(page, address)
        watched.open("video")
        page.locator("#vk-video-file input[type=file]").first.set_input_files(walk)
        page.locator(".vk-frame[data-ready]").wait_for()
        field = page.locator("#vk-video-lines textarea")
        field.wait_for()
        canvas = page.locator(".vk-frame canvas")
        canvas.scroll_into_view_if_needed()
        place = canvas.bounding_box()
        for y in (2, 94):  # two taps from the top to the bottom
            page.touchscreen.tap(place["x"] + place["width"] / 2, place["y"] + place["height"] * y / SIZE[0])
        watched.until(lambda: field.input_value(), "no line was drawn")
        assert np.allclose([float(each) for each in field.input_value().split(",")], [80, 2, 80, 94], atol=2)
        page.locator("#vk-video-run").tap()
        page.locator(".vk-timeline").wait_for()
        assert page.locator("#vk-message").inner_text().startswith("6 of 6 frames")
        assert page.locator(".vk-counts li").all_inner_texts() == ["1 green", "1 red"]
        assert page.locator(".vk-lines td").all_inner_texts()[:3] == ["all", "1", "1"]
        rows = page.locator(".vk-timeline tbody tr")
        assert rows.count() == 2 and "0:00.0 to 0:01.2" in rows.first.inner_text()
        film = page.locator("#vk-video-drawn video")
        watched.until(lambda: film.evaluate("each => each.readyState >= 2 && each.videoWidth > 0"), "it does not play")
        bars = page.locator(".vk-bars").first
        bars.click(position={"x": bars.bounding_box()["width"] / 2, "y": 3})
        watched.until(lambda: rows.first.get_attribute("data-now") is not None, "the timeline does not follow")
        assert film.evaluate("each => each.currentTime") == pytest.approx(0.6, abs=0.1)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        with page.expect_download() as download:
            page.locator("#vk-video-text").tap()
        download.value.save_as(tmp_path / "tracks.txt")
        assert read_tracks(tmp_path / "tracks.txt").frames.max() == 6
        page.locator(".vk-frame button").tap()
        watched.until(lambda: not field.input_value(), "the line is still there")

        # One object: what the detector finds under the finger is outlined, and followed by another method.
        page.get_by_role("radio", name=strings.VIDEO_CUT).tap()
        marked = page.locator("#vk-video-object").locator("input, textarea").first
        marked.wait_for()
        canvas.scroll_into_view_if_needed()
        place = canvas.bounding_box()
        page.touchscreen.tap(place["x"] + place["width"] * 106 / SIZE[1], place["y"] + place["height"] * 70 / SIZE[0])
        page.locator(".vk-object").wait_for(state="attached")
        assert np.allclose([float(each) for each in marked.input_value().split(",")], [94, 55, 118, 85], atol=1.5)
        assert len(json.loads(page.locator(".vk-object").get_attribute("data-outlines"))) == 1
        page.locator("#vk-video-run").tap()
        page.locator("#vk-video-masks").wait_for()
        assert not page.locator(".vk-timeline").is_visible() and not page.locator("#vk-video-text").is_visible()
        assert watched.faults == []
