"""The page that shows the reports of finished analyses, which `visionkit analyze` has written into folders of runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ui import data_strings
from ui.hidden_folders import HiddenFolders
from ui.pages.base import Context, ToolPage, attempt
from visionkit.errors import DataError, UsageError

RECORD, REPORT = "analysis.json", "report.html"
"""Names of files as `visionkit.analysis.report` has them, which would import what draws."""

LARGEST = 64 * 2**20
"""Bytes of a report that is shown."""

LISTED = 10.0
"""Seconds for which a list of reports is taken as it is: another visit does not walk the folder again."""


def build(context: Context) -> None:
    """Makes the page inside the block that is open."""
    gr.Markdown(f"# {data_strings.ANALYZE}\n{data_strings.ANALYZE_LEAD}", elem_classes="vk-head")
    with gr.Row(equal_height=True):
        chosen = gr.Dropdown([], label=data_strings.ANALYZE_REPORT, visible=False, elem_id="vk-analysis", scale=4)
        again = gr.Button(data_strings.ANALYZE_REFRESH, elem_id="vk-analysis-again")
    message = gr.Markdown(data_strings.ANALYZE_EMPTY, elem_id="vk-message")
    # `gr.HTML` evaluates its template as a program, which the page's policy forbids; this shows it as it is.
    report = gr.Markdown(
        visible=False, sanitize_html=False, latex_delimiters=[], container=False, elem_id="vk-analysis-report"
    )

    reports = AnalysisReports(context.models)

    def listed(before: str | None = None, again: bool = False) -> tuple[Any, Any, Any]:
        found, fault = attempt(lambda: context.job_queue.run(lambda check: reports.found(again), None, "analyze"))
        if not found:
            message = gr.update(visible=True, value=fault or data_strings.ANALYZE_EMPTY)
            return gr.update(choices=[], visible=False), message, gr.update(visible=False)
        names = [name for _, name in found]
        name = before if before in names else names[0]
        return gr.update(choices=found, value=name, visible=True), *shown(name)

    def shown(name: str | None) -> tuple[Any, Any]:
        def work(check: Callable[[], None]) -> str:
            return context.reports.keep_once(f"analysis/{name}", reports.written(name), lambda: reports.page(name))

        found, fault = attempt(lambda: context.job_queue.run(work, None, "analyze"))
        if found is None:
            return gr.update(value=fault, visible=True), gr.update(visible=False)
        return gr.update(visible=False), gr.update(value=found, visible=True)

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network"}
    blocks = gr.context.Context.root_block
    assert blocks is not None
    blocks.load(listed, None, [chosen, message, report], **private)
    again.click(lambda before: listed(before, again=True), chosen, [chosen, message, report], **private)
    chosen.input(shown, chosen, [message, report], **private)


class AnalysisReports:
    """The reports below a folder of runs.

    Args:
        folder: Folder of runs; None has no reports.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._found: list[tuple[str, str]] = []
        self._until = 0.0

    def found(self, again: bool = False) -> list[tuple[str, str]]:
        """Title and name of every report, the latest first.

        Args:
            again: Search the folder even where that was done in the last `LISTED` seconds.
        """
        if again or time.monotonic() > self._until:
            self._found = [] if self.folder is None else _find(self.folder)
            self._until = time.monotonic() + LISTED
        return self._found

    def written(self, name: str | None) -> int:
        """When a report was written, in nanoseconds.

        Raises:
            DataError: It cannot be read.
            UsageError: There is none of that name.
        """
        path = self._path(name)
        try:
            return path.stat().st_mtime_ns
        except OSError:
            raise _unreadable(name) from None

    def page(self, name: str | None) -> str:
        """The page of a report, without the folders of the server.

        Raises:
            DataError: It cannot be read, or is too large.
            UsageError: There is none of that name.
        """
        path = self._path(name)
        try:
            if path.stat().st_size > LARGEST:
                raise DataError(f"{name}: a report of more than {LARGEST // 2**20} MB; open {REPORT} itself")
            page = path.read_text("utf-8")
        except (OSError, ValueError):
            raise _unreadable(name) from None
        return HiddenFolders([self.folder] if self.folder else []).page(page)

    def _path(self, name: str | None) -> Path:
        if self.folder is None or name not in [each for _, each in self.found()]:
            raise UsageError("choose one of the reports in the list")
        return self.folder / str(name) / REPORT


def _unreadable(name: str | None) -> DataError:
    return DataError(f"{name}: the report cannot be read")


def _find(folder: Path) -> list[tuple[str, str]]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if RECORD in files and REPORT in files:
            path = Path(place)
            try:
                facts = json.loads((path / RECORD).read_text("utf-8"))
                written = (path / REPORT).stat().st_mtime
                found.append((written, _title(path, folder, facts), path.relative_to(folder).as_posix()))
            except (OSError, ValueError, AttributeError):  # what an analysis is writing, or somebody else's file
                continue
    return [(title, name) for _, title, name in sorted(found, reverse=True)]


def _title(path: Path, folder: Path, facts: dict[str, Any]) -> str:
    name = path.relative_to(folder).as_posix().removesuffix("/analysis")
    about = ", ".join(str(facts[key]) for key in ("task", "split") if facts.get(key))
    images = facts.get("images")
    return f"{name} ({about}{f', {images:,} images' if isinstance(images, int) else ''})"


PAGE = ToolPage(data_strings.ANALYZE, "analyze", 60, build)
