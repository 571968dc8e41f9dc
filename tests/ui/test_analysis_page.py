"""The reports that the page of errors lists and shows, and the names that pages copy from what they do not import."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ui.pages import analyze, inspect
from ui.pages.analyze import AnalysisReports
from ui.reports import Reports
from visionkit.errors import UsageError

IMAGE = '<img src="data:image/jpeg;base64,/9j/m/AAm/x">'


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    (folder / "run" / "analysis").mkdir(parents=True)
    (folder / "run" / "analysis" / "analysis.json").write_text(json.dumps({"task": "depth", "images": 1200}))
    page = f"{IMAGE}<p>{folder}/run/last.ckpt of m/x {tmp_path}/data/cat.png</p>"
    (folder / "run" / "analysis" / "report.html").write_text(page)
    return folder


def test_a_report_has_no_folders_and_whole_images(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AnalysisReports(runs).page("run/analysis") == f"{IMAGE}<p>run/last.ckpt of m/x cat.png</p>"
    monkeypatch.chdir(runs.parent)
    assert AnalysisReports(Path("m")).page("run/analysis") == f"{IMAGE}<p>run/last.ckpt of x cat.png</p>"


def test_a_visit_walks_the_folder_once_at_most(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[Path] = []
    find = analyze._find
    monkeypatch.setattr(analyze, "_find", lambda folder: walks.append(folder) or find(folder))
    reports = AnalysisReports(runs)
    assert reports.found() == [("run (depth, 1,200 images)", "run/analysis")]
    reports.page("run/analysis")
    assert len(walks) == 1 and reports.found(again=True) and len(walks) == 2
    with pytest.raises(UsageError, match="in the list"):
        reports.page("run")


def test_a_report_is_copied_once_for_each_version(tmp_path: Path) -> None:
    reports, made = Reports(tmp_path), []

    def make() -> str:
        made.append(len(made))
        return f"page {len(made)}"

    first = reports.keep_once("run", 1, make)
    assert reports.keep_once("run", 1, make) == first and made == [0]
    changed = reports.keep_once("run", 2, make)
    assert changed != first and reports.page(changed.split("report/")[1].split('"')[0]) == "page 2"
    for kept in reports.folder.iterdir():
        kept.unlink()  # as the sweeping of the server's folder does
    assert reports.keep_once("run", 2, make) != changed and len(made) == 3


def test_names_that_pages_copy_are_those_of_what_they_do_not_import() -> None:
    from visionkit import explain
    from visionkit.analysis import report

    assert inspect.METHODS == explain.METHODS
    assert (analyze.REPORT, analyze.RECORD) == (report.PAGE, report.RECORD)
