"""Data sets of the demo: opened when they are asked for, without where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from ui.data_sets import DRAWN, DataSets, named_data
from ui.pages.tools import tool_pages
from visionkit.browsing.items import Filter
from visionkit.checkup.examination import examine
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


def test_a_page_states_itself() -> None:
    pages = tool_pages()
    assert [page.order for page in pages] == sorted(page.order for page in pages)
    assert {"compare", "batch", "video", "data", "doctor", "analyze", "inspect"} <= {page.path for page in pages}
    assert len({page.path for page in pages}) == len({page.name for page in pages}) == len(pages)
