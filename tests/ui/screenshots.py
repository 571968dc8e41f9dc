"""Takes the images of the demo that the documentation shows: every page, with a prediction on it.

  python -m tests.ui.screenshots                      # all of them, into docs/images
  python -m tests.ui.screenshots --only faces phone   # some

It starts a demo of the example models on a free port and drives Debian's Chromium. Nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real_data import ROOT
from tests.ui.browser import CHROMIUM, Watched, chromium

OUT = ROOT / "docs" / "images"
WIDTH, TALLEST, QUALITY = 1200, 1500, 78
"""Pixels of a page, pixels of an image's height that are kept, and quality of the file."""

EXAMPLES = {
    "classification": "chelsea",
    "depth": "coffee",
    "detection": "astronaut",
    "face_recognition": "astronaut",
    "instance_segmentation": "astronaut",
    "multitask": "scene",
    "pose": "astronaut",
    "semantic_segmentation": "astronaut",
    "super_resolution": "chelsea",
}
"""Part of the name of the example that a task is shown on, where its example model brings none."""


@dataclass(frozen=True)
class Studio:
    """Where the images are taken.

    Attributes:
        browser: Chromium.
        address: Address of the demo.
        folder: For files that are made on the way.
    """

    browser: Any
    address: str
    folder: Path

    def take(self, name: str, out: Path, act: Callable[[Watched], None], **options: Any) -> int:
        """Opens a page of its own, does something on it, and keeps what is seen; gives the file's bytes."""
        given = {"viewport": {"width": WIDTH, "height": 800}, "color_scheme": "light", "reduced_motion": "reduce"}
        context = self.browser.new_context(**{**given, **options})
        try:
            watched = Watched(context.new_page(), self.address)
            act(watched)
            watched.page.mouse.move(0, 0)
            watched.page.wait_for_timeout(700)
            shot = watched.page.screenshot(full_page=True)
        finally:
            context.close()
        if watched.faults:
            raise RuntimeError(f"{name}: {watched.faults}")
        return _keep(shot, out / f"{name}.webp")


def _keep(shot: bytes, path: Path) -> int:
    from PIL import Image

    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").crop((0, 0, image.width, min(image.height, TALLEST))).save(
            path, "WEBP", quality=QUALITY, method=6
        )
    return path.stat().st_size


def ask(task: str | None) -> Callable[[Watched], None]:
    """The page of a task, or of all of them, with the prediction of its first example model on an example."""

    def act(watched: Watched) -> None:
        page = watched.page
        watched.open((task or "").replace("_", "-"))
        wanted = page.locator(f".vk-examples button img[src*='{EXAMPLES.get(task or '', '')}']")
        (wanted if wanted.count() else page.locator(".vk-examples button img")).first.click()
        watched.done()

    return act


def _start(watched: Watched) -> None:
    watched.open()


def _people(watched: Watched) -> None:
    import skimage

    from ui import strings

    page, photo = watched.page, Path(skimage.__file__).parent / "data" / "astronaut.png"
    watched.open("face-recognition")
    people = page.locator("#vk-people")
    people.locator("#vk-people-name").locator("input, textarea").fill("Eileen Collins")
    people.locator("input[type=file]").first.set_input_files(photo)
    people.locator("img").first.wait_for()
    people.locator("#vk-people-enrol").click()
    people.locator("#vk-people-message").get_by_text("is enrolled").wait_for()
    people.get_by_role("tab", name=strings.PEOPLE_IDENTIFY).click()
    tab = people.get_by_role("tabpanel").filter(visible=True)
    tab.locator("input[type=file]").first.set_input_files(photo)
    tab.locator("img").first.wait_for()
    tab.get_by_role("button", name=strings.PEOPLE_IDENTIFY, exact=True).click()
    tab.get_by_text("Eileen Collins").filter(visible=True).first.wait_for()


def _compare(watched: Watched) -> None:
    watched.open("compare")
    watched.page.locator(".vk-compare button img").first.click()
    for number in (1, 2):
        watched.page.locator(f"#vk-side-{number} .vk-drawn img").first.wait_for()


def _batch(folder: Path) -> Callable[[Watched], None]:
    def act(watched: Watched) -> None:
        from PIL import Image

        from visionkit.synthetic.generate import make_scene

        images = []
        for number in range(6):
            images.append(folder / f"scene-{number}.png")
            Image.fromarray(make_scene(seed=1, index=number, size=(240, 320)).image).save(images[-1])
        watched.open("batch")
        watched.page.locator("#vk-files input[type=file]").set_input_files(images)
        watched.page.locator("#vk-files").get_by_text("scene-5").first.wait_for()
        watched.page.locator("#vk-batch-run").click()
        watched.page.locator("#vk-archive").wait_for()

    return act


def _video(folder: Path) -> Callable[[Watched], None]:
    def act(watched: Watched) -> None:
        from skimage.data import astronaut

        from visionkit.video import VideoWriter

        photo = astronaut()
        with VideoWriter(folder / "astronaut.mp4", rate=10) as video:  # a camera that moves over the photo
            for shift in range(0, 120, 6):
                video.write(photo[:400, shift : shift + 392])
        watched.open("video")
        watched.page.locator("#vk-video-file input[type=file]").set_input_files(folder / "astronaut.mp4")
        watched.page.locator("#vk-video-file").get_by_text("astronaut").first.wait_for()
        watched.page.locator("#vk-video-run").click()
        watched.page.locator("#vk-video-drawn video").wait_for()

    return act


def _data(watched: Watched) -> None:
    page = watched.page
    watched.open("data")
    watched.choose("Drawn scenes: masks", "#vk-data")
    page.locator("#vk-data-gallery img").nth(17).wait_for()
    watched.settled()
    page.locator("#vk-data-gallery button").nth(6).click()
    page.locator("#vk-data-augmented img").wait_for()
    watched.settled()


def _doctor(watched: Watched) -> None:
    watched.open("doctor")
    watched.choose("photos", "#vk-doctor-data")
    watched.page.locator("#vk-doctor-run").click()
    watched.page.frame_locator("#vk-doctor-report iframe").locator("h2").first.wait_for()
    watched.settled()


def _analyze(watched: Watched) -> None:
    watched.open("analyze")
    watched.page.frame_locator("#vk-analysis-report iframe").locator("h2").first.wait_for()
    watched.settled()


def _inspect(watched: Watched) -> None:
    from ui import data_strings

    page = watched.page
    watched.open("inspect")
    page.locator("#vk-inspect-message").get_by_text("multiply-adds").wait_for()
    page.locator(".vk-compare button img").first.click()
    page.locator("#vk-input img").wait_for()
    page.get_by_role("tab", name=data_strings.INSPECT_EVIDENCE).click()
    page.locator("#vk-evidence-draw").click()
    page.locator("#vk-evidence img").wait_for()
    watched.settled()


def write_photos(folder: Path) -> Path:
    """Classified drawn scenes, of which one is there twice and one is damaged."""
    from PIL import Image

    from visionkit.synthetic.generate import make_scene

    root = folder / "photos"
    for number in range(24):
        path = root / ("train", "train", "val")[number % 3] / ("indoors", "outdoors")[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_scene(seed=2, index=number, size=(192, 256)).image).save(path, quality=90)
    twice = make_scene(seed=2, index=0, size=(192, 256)).image
    Image.fromarray(twice).save(root / "val" / "indoors" / "copy.jpg", quality=70)
    (root / "train" / "outdoors" / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    return root


def write_analysis(folder: Path) -> None:
    """The analysis of an example model, as a run has it."""
    from ui.cli import main as visionkit
    from ui.model_registry import EXAMPLE_MODELS

    model = os.path.relpath(EXAMPLE_MODELS / "multitask" / "scenes")  # the report shows it
    briefly = ["--trainer.limit_test_batches", "2", "--worst", "6"]
    if visionkit(["analyze", model, "-c", "multitask_scenes", *briefly, "--out", str(folder / "scenes" / "analysis")]):
        raise RuntimeError("no analysis was written")


UNTIMED = frozenset(("data", "doctor", "analyze", "inspect", "start"))
"""Images without the times of a request, before which no model has to be loaded."""


def images(studio: Studio) -> dict[str, tuple[Callable[[Watched], None], dict[str, Any]]]:
    """What is taken, by the name of its file."""
    from ui.model_registry import find_example_models

    tasks = dict.fromkeys(entry.task for entry in find_example_models() if not entry.fault)
    shots: dict[str, tuple[Callable[[Watched], None], dict[str, Any]]] = {"start": (_start, {})}
    for task in tasks:
        shots[task.replace("_", "-")] = (ask(task), {})
    if "face_recognition" in tasks:
        shots["people"] = (_people, {})
    shots["compare"] = (_compare, {})
    shots["batch"] = (_batch(studio.folder), {})
    shots["video"] = (_video(studio.folder), {})
    shots["data"] = (_data, {})
    shots["doctor"] = (_doctor, {})
    shots["analyze"] = (_analyze, {})
    shots["inspect"] = (_inspect, {})
    shots["dark"] = (ask("detection"), {"color_scheme": "dark"})
    shots["phone"] = (ask("detection"), {"viewport": {"width": 390, "height": 844}})
    return shots


def main(argv: Sequence[str] | None = None) -> int:
    """Takes them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where they are kept (docs/images)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of them")
    args = parser.parse_args(argv)
    if not CHROMIUM.exists():
        print(f"screenshots: no {CHROMIUM}: install Debian's chromium", file=sys.stderr)
        return 5
    from tests.ui.conftest import served
    from ui.data_sets import DataSets, named_data
    from ui.model_registry import find_example_models

    args.out.mkdir(parents=True, exist_ok=True)
    total = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        (folder / "scratch").mkdir()
        write_analysis(folder / "models")
        data_sets = DataSets([named_data(str(write_photos(folder)))])
        with served(folder / "models", folder / "scratch", data_sets=data_sets) as demo, chromium() as browser:
            untimed = args.only and UNTIMED.issuperset(args.only)
            for entry in () if untimed else find_example_models():  # so that no image shows a first request's times
                loaded = demo.model_registry.get(entry.name)
                with loaded.lock:
                    loaded.predictor()
            studio = Studio(browser, demo.address, folder)
            shots = images(studio)
            if unknown := set(args.only or ()) - set(shots):
                print(f"screenshots: no {', '.join(sorted(unknown))}; there are {', '.join(shots)}", file=sys.stderr)
                return 2
            for shot, (act, options) in shots.items():
                if args.only and shot not in args.only:
                    continue
                size = studio.take(shot, args.out, act, **options)
                total += size
                print(f"{args.out / f'{shot}.webp'}: {size / 1000:.0f} kB", flush=True)
    print(f"{total / 1e6:.2f} MB in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
