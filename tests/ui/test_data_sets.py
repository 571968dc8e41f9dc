"""Data sets of the demo: opened when they are asked for, without where they lie."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ui.data_sets import DRAWN, DataSets, named_data
from ui.hidden_folders import HiddenFolders
from ui.pages.data import _Browsing
from ui.pages.tools import tool_pages
from visionkit.browsing.items import Filter
from visionkit.checkup.examination import examine
from visionkit.checkup.findings import Finding
from visionkit.checkup.html_report import page_of
from visionkit.errors import DataError, UsageError


def test_given_data_comes_first_and_drawn_scenes_follow(labeled_photos: Path) -> None:
    sets = DataSets([named_data(str(labeled_photos))])
    titles = [title for title, _ in sets.choices()]
    assert titles[0] == "photos" and len(titles) == 1 + len(DRAWN)
    data = sets.get(sets.first)
    assert len(data.browser) == 21 and data.browser is data.browser and data.browser.augments
    with pytest.raises(UsageError, match="in the list"):
        sets.get("given/../secret")


def test_findings_are_kept_for_all_who_browse(labeled_photos: Path) -> None:
    data = named_data(str(labeled_photos))
    data.keep(examine(data.browser.data))
    (found,) = data.browser.find(Filter(findings=("unreadable-image",)))
    assert found.name.endswith("damaged.png") and "damaged.png: not an image" in data.hidden(found.caption)
    assert str(labeled_photos) in found.caption and str(labeled_photos) not in data.hidden(found.caption)


@pytest.mark.parametrize("target", DRAWN)
def test_drawn_scenes_of_every_kind_are_browsed(target: str) -> None:
    browser = DataSets().get(f"drawn/{target}").browser
    (item,) = browser.find(Filter(splits=("val",)), count=1)
    views, fault = browser.views(item)
    assert not fault and "labels" in views and browser.augments == (target != "clean")


def test_data_that_cannot_be_opened_is_an_error_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        _ = named_data(str(tmp_path / "empty")).browser
    assert str(tmp_path) not in str(error.value)


def test_a_folder_is_left_out_of_paths_and_of_nothing_else(tmp_path: Path) -> None:
    data = named_data("data/train.json")
    assert data.hidden("no data in 12 images: data/cat/1.png, data/2.png") == "no data in 12 images: cat/1.png, 2.png"
    assert named_data("a/x.json").hidden("a cat, a/b.png and ma/c") == "a cat, b.png and ma/c"
    lies = tmp_path / "photos"
    lies.mkdir()
    hidden = named_data(str(lies)).hidden
    assert hidden(f"{lies}: nothing, ({lies}/cat/1.png) {lies}-old") == "photos: nothing, (cat/1.png) photos-old"
    assert hidden(f"{tmp_path}/secret/other.json: no such file") == "other.json: no such file"
    assert hidden("/m/01g317 and/or a cat") == "/m/01g317 and/or a cat"


def test_a_page_of_html_keeps_its_markup() -> None:
    page = '<style>a/b{}</style><img src="data:image/jpeg;base64,/9j/a/b"><p>a/b/cat.png &lt; a/b</p>'
    expected = '<style>a/b{}</style><img src="data:image/jpeg;base64,/9j/a/b"><p>cat.png &lt; set</p>'
    assert HiddenFolders(["a/b"], "set").page(page) == expected


def test_reports_keep_their_images_and_pages_name_data_by_number(labeled_photos: Path) -> None:
    data = named_data(str(labeled_photos), 3)
    found = examine(data.browser.data)
    found = replace(found, findings=[Finding("tiny-object", "train", "small", str(labeled_photos / "cat" / "1.png"))])
    images = re.compile('base64,([^"]+)')
    page = page_of(found, data.hidden)
    assert images.findall(page) == images.findall(page_of(found)) and str(labeled_photos) not in page
    assert (
        "cat/1.png" in page and data.name == "given/3" and str(labeled_photos) not in repr(DataSets([data]).choices())
    )


def test_folders_that_a_run_reads_are_hidden_too(labeled_photos: Path, tmp_path: Path) -> None:
    config = {"class_path": "FolderData", "init_args": {"root": str(labeled_photos), "cache_mb": 0}}
    (tmp_path / "run.yaml").write_text(json.dumps({"data": config}))
    data = named_data(str(tmp_path / "run.yaml"))
    item = next(each for each in data.browser.find(Filter(), 0, 99) if each.name.endswith("damaged.png"))
    assert str(labeled_photos) in item.caption and data.hidden(item.caption).startswith("cat/damaged.png: ")
    with pytest.raises(DataError, match=r"^cat/x\.png: gone$"), data.hiding():
        raise DataError(f"{labeled_photos}/cat/x.png: gone")


@pytest.fixture
def browsing(labeled_photos: Path) -> Any:
    """The page Data without a server, whose job queue runs everything at once."""
    queue = SimpleNamespace(run=lambda work, model, channel: work(lambda: None))
    return _Browsing(SimpleNamespace(data_sets=DataSets([named_data(str(labeled_photos))]), job_queue=queue))  # type: ignore[arg-type]


def test_failures_on_the_page_have_no_folders(browsing: Any, labeled_photos: Path) -> None:
    def fails(*given: Any, **options: Any) -> None:
        raise DataError(f"{labeled_photos}/cat/0.png: gone")

    for fault in (browsing._run(fails, "given/0")[1], _predicted(browsing, fails)):
        assert "cat/0.png: gone" in fault.replace("\\", "") and str(labeled_photos.parent) not in fault


def _predicted(browsing: Any, ask: Any) -> str:
    browsing.context.job_queue.ask = ask
    return str(browsing.predicted("given/0", ("train", 0), "any")[1])


def test_a_search_of_the_page_ends_when_nobody_waits(browsing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> None:
        raise DataError("too late")

    browser = browsing.context.data_sets.get("given/0").browser
    read: list[int] = []
    monkeypatch.setattr(browser, "item", lambda split, number: read.append(number))
    browsing.context.job_queue.run = lambda work, model, channel: work(late)
    assert "too late" in browsing.begun("given/0", "labels", "", "", "", "")[1] and not read


def test_a_page_states_itself() -> None:
    pages = tool_pages()
    assert [page.order for page in pages] == sorted(page.order for page in pages)
    assert {"compare", "batch", "video", "data", "doctor", "analyze", "inspect"} <= {page.path for page in pages}
    assert len({page.path for page in pages}) == len({page.name for page in pages}) == len(pages)
