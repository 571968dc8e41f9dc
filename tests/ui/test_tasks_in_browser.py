"""Every task that has an example model, in the browser: an example, an upload, the drawing, a control, the json.

And people.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.ui.browser import PHONE, Watched, needs_chromium
from tests.ui.conftest import WINDOW, Demo
from ui import strings
from ui.inference import runner
from ui.model_registry import ModelEntry, find_example_models
from ui.views import views
from visionkit.registry import task_names

pytestmark = [
    needs_chromium,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::Warning:gradio.queueing"),  # its use of pandas
]

WITHOUT_CONTROLS = {"classification", "faces", "multitask"}
"""Types of predictions in which nothing can be turned; of several heads, in what is shown first."""

PHOTO = "astronaut.png"
"""Of scikit-image: a face, things, near and far."""


BESIDE = {
    "depth": "test_depth_view.py",
    "optical_flow": "test_pairs_in_browser.py",
    "restoration": "test_restore_in_browser.py",
    "stereo": "test_pairs_in_browser.py",
}
"""Tasks whose page another file goes through by tiny models; their example models are compared over HTTP."""


def _cases() -> list[object]:
    """One test for each example model; those after a task's first, and of `BESIDE`, are slow.

    A task without one is skipped by name.
    """
    example_models = [entry for entry in find_example_models() if not entry.fault]
    tasks = list(dict.fromkeys([*task_names(), *(entry.task for entry in example_models)]))
    cases: list[object] = []
    for task in tasks:
        own = [entry for entry in example_models if entry.task == task]
        if not own:
            reason = f"no example model of {task} in ui/starters/{task}"
            cases.append(pytest.param(None, id=task, marks=pytest.mark.skip(reason=reason)))
        for number, entry in enumerate(own):
            marks = [pytest.mark.slow] if number or task in BESIDE else []
            cases.append(pytest.param(entry, id=entry.name, marks=marks))
    return cases


def test_the_files_beside_this_one_are_there() -> None:
    for task, name in BESIDE.items():
        assert task in task_names() and task in (Path(__file__).parent / name).read_text("utf-8"), name


def test_example_models_are_whole() -> None:
    """An example model that cannot be used would otherwise be left out in silence."""
    assert [entry.fault for entry in find_example_models() if entry.fault] == []
    assert len(find_example_models()) >= 8


def _upload(entry: ModelEntry, folder: Path) -> tuple[Path, int, int]:
    """The middle of the example model's own example, or of a photo; with its width and height, which no example has."""
    import skimage

    own = sorted(Path(entry.path).glob("examples/*.*"))
    source = own[0] if own else Path(skimage.__file__).parent / "data" / PHOTO
    width, height = (83, 61) if entry.task == "super_resolution" else (307, 251)
    with Image.open(source) as image:
        left, top = (image.width - width) // 2, (image.height - height) // 3
        image.convert("RGB").crop((left, top, left + width, top + height)).save(folder / "middle.png")
    return folder / "middle.png", width, height


def _dab(watched: Watched, stage: str) -> None:
    """Paints a mask in the middle of the image, by the keyboard."""
    watched.page.locator(stage).locator("canvas").focus()
    watched.page.keyboard.press("Space")


def _path(task: str) -> str:
    return task.replace("_", "-")


@pytest.mark.parametrize("entry", _cases())
def test_a_example_model(entry: ModelEntry, watched: Watched, demo: Demo, tmp_path: Path) -> None:
    page = watched.page
    image, width, height = _upload(entry, tmp_path)
    loaded = demo.model_registry.get(entry.name)
    with loaded.lock:
        predictor: Any = loaded.predictor()
        faces = entry.task == "face_recognition"
        inputs = predictor.task.inputs
        images = [name for name in inputs[1:] if name not in ("mask", "noise_level")]
        given: Any = {inputs[0]: image, **dict.fromkeys(images, image)} if images else image
        if "mask" in inputs:
            given = {"image": image, "mask": np.full((height, width), 255, np.uint8)}
        level = {"noise_level": 25} if "noise_level" in inputs else {}
        expected = runner(predictor, None, {})(image) if faces else predictor(given, **level)
        assert expected is not None

    watched.open(_path(entry.task))
    if entry.title not in page.locator("#vk-model input").input_value():
        watched.choose(entry.title)

    # An example.
    column = page.locator(f"#vk-{expected.kind}")
    page.locator(".vk-examples img").first.click()
    if "mask" in inputs:
        _dab(watched, ".vk-brush[data-ready]")
    watched.done()
    watched.until(lambda: watched.whole(expected.kind), "the prediction on the example is not drawn")
    example = watched.drawn(expected.kind)

    # An upload, in its place.
    watched.upload(image)
    for name in images:
        watched.upload(image, f"#vk-input-{name}")
    if "mask" in inputs:
        _dab(watched, f'.vk-brush[data-ready][data-width="{width}"][data-height="{height}"]')
    watched.result(width, height)
    if images:
        watched.settled()  # two images are two changes, and the second prediction sets the controls back
    watched.until(lambda: watched.whole(expected.kind), "the prediction on the upload is not drawn")
    assert watched.drawn(expected.kind) != example
    kept = tmp_path / "enlarged.png"
    page.screenshot(path=kept, full_page=True)
    with Image.open(kept) as shot:
        assert shot.width == 1280 and len(shot.convert("RGB").getcolors(2**24)) > 100, "the screenshot is empty"

    # It fits a phone with all of it.
    page.set_viewport_size(PHONE)
    watched.until(lambda: watched.width() <= PHONE["width"], "it is wider than a phone")
    page.set_viewport_size(WINDOW)

    # The file holds what Python states.
    with page.expect_download() as download:
        page.locator("#vk-download").click()
    download.value.save_as(tmp_path / "prediction.json")
    assert json.loads((tmp_path / "prediction.json").read_text("utf-8")) == json.loads(json.dumps(expected.summary()))
    assert download.value.suggested_filename == "middle.json"

    # A control, by the keyboard; the network is not asked again.
    controls = column.locator("input[type=range]")
    assert (controls.count() == 0) == (expected.kind in WITHOUT_CONTROLS)
    if controls.count():
        before = watched.drawn(expected.kind)
        with loaded.lock:  # whoever needs the network now, waits
            controls.first.focus()
            page.keyboard.press("End")
            watched.until(lambda: watched.drawn(expected.kind) != before, "the control changes nothing")
            watched.until(lambda: watched.whole(expected.kind), "what the control changed is not drawn")

    # An option of the call; here the network is asked again.
    option = views()[expected.kind].option
    assert page.locator("#vk-control").is_visible() == (option is not None)
    if option:
        value = option.values[-1]
        other = loaded.predictor()(image, **{option.name: value})
        assert len(other.above()) != len(expected.above()), "the option changes nothing"
        watched.choose(f"{value:g}", "#vk-control")
        column.get_by_text(f"{len(other.above())} of {len(other)} objects").wait_for()


def test_people_are_enrolled_found_and_forgotten(watched: Watched) -> None:
    """Beside the page of faces: somebody is enrolled under a name that is markup, found in a photo, and forgotten."""
    import skimage

    if not any(entry.task == "face_recognition" for entry in find_example_models()):
        pytest.skip("no example model of face_recognition in ui/starters/face_recognition")
    page, name = watched.page, "Ada <img src=x>"
    photo = Path(skimage.__file__).parent / "data" / PHOTO
    watched.open(_path("face_recognition"))
    people = page.locator("#vk-people")
    people.locator("#vk-people-name").locator("input, textarea").fill(name)
    people.locator("input[type=file]").first.set_input_files(photo)
    people.locator("img").first.wait_for()
    people.locator("#vk-people-enrol").click()
    people.locator("#vk-people-message").get_by_text(f"{name} is enrolled").wait_for()

    people.get_by_role("tab", name=strings.PEOPLE_IDENTIFY).click()
    tab = people.get_by_role("tabpanel").filter(visible=True)
    tab.locator("input[type=file]").first.set_input_files(photo)
    tab.locator("img").first.wait_for()
    tab.get_by_role("button", name=strings.PEOPLE_IDENTIFY, exact=True).click()
    tab.get_by_text(name).filter(visible=True).first.wait_for()

    people.get_by_role("tab", name=strings.PEOPLE_LIST).click()
    people.get_by_role("tabpanel").filter(visible=True).get_by_text(name).filter(visible=True).first.wait_for()
    watched.choose(name, "#vk-people-who")
    people.locator("#vk-people-remove").click()
    people.locator("#vk-people-message").get_by_text(f"{name} is forgotten").wait_for()
    assert page.locator("img[src='x']").count() == 0


def test_the_whole_way_by_keyboard(watched: Watched, demo: Demo, tmp_path: Path) -> None:
    """Tab and Enter alone: every stop can be seen, an example is chosen, and its prediction downloaded."""
    entry = find_example_models()[0]
    page = watched.page
    watched.open(_path(entry.task))
    stops: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => { const at = document.activeElement, box = at.getBoundingClientRect(), look = getComputedStyle(at);
                const ring = look.outlineStyle != "none" && parseFloat(look.outlineWidth) > 0
                    || look.boxShadow != "none" || look.borderColor != getComputedStyle(document.body).borderColor;
                return {tag: at.tagName, example: !!at.closest(".vk-examples"), wide: box.width > 0, ring,
                        told: (at.innerText || at.getAttribute("aria-label") || at.title || "").slice(0, 40)}; }"""
        )
        stops.append(f"{stop['tag']} {stop['told']}")
        assert stop["ring"] or stop["tag"] == "BODY", f"nothing shows where one is: {stops[-1]}"
        if stop["example"]:
            break
    assert stop["example"], f"no example is reached: {stops}"
    page.keyboard.press("Enter")
    watched.done()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#vk-download') !== null"):
            break
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith(".json")
