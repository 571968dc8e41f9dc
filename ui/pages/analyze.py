"""The page that shows the reports of finished analyses, which `visionkit analyze` has written into folders of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gradio as gr

from ui import data_strings
from ui.pages.base import Context, ToolPage, attempt
from visionkit.errors import DataError, UsageError

RECORD, REPORT = "analysis.json", "report.html"
"""Files of an analysis, see `visionkit.analysis.report`, which would import what draws."""

LARGEST = 64 * 2**20
"""Bytes of a report that is shown."""


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

    def listed(before: str | None = None) -> tuple[Any, Any, Any]:
        found = find_reports(context.models)
        if not found:
            return gr.update(choices=[], visible=False), gr.update(visible=True), gr.update(visible=False)
        names = [name for _, name in found]
        name = before if before in names else names[0]
        return gr.update(choices=found, value=name, visible=True), *shown(name)

    def shown(name: str | None) -> tuple[Any, Any]:
        found, fault = attempt(lambda: context.reports.keep(read_report(context.models, name)))
        if found is None:
            return gr.update(value=fault, visible=True), gr.update(visible=False)
        return gr.update(visible=False), gr.update(value=found, visible=True)

    private: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "network"}
    blocks = gr.context.Context.root_block
    assert blocks is not None
    blocks.load(listed, None, [chosen, message, report], **private)
    again.click(listed, chosen, [chosen, message, report], **private)
    chosen.input(shown, chosen, [message, report], **private)


def find_reports(folder: Path | None) -> list[tuple[str, str]]:
    """Title and name of every report below a folder, the latest first.

    Args:
        folder: Folder of runs; None has no reports.
    """
    if folder is None:
        return []
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


def read_report(folder: Path | None, name: str | None) -> str:
    """The page of a report.

    Args:
        folder: Folder of runs.
        name: Name of the report, as `find_reports` gives it.

    Raises:
        DataError: It cannot be read, or is too large.
        UsageError: There is none of that name.
    """
    if folder is None or name not in [each for _, each in find_reports(folder)]:
        raise UsageError("choose one of the reports in the list")
    path = folder / str(name) / REPORT
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{name}: a report of more than {LARGEST // 2**20} MB; open {REPORT} itself")
        return path.read_text("utf-8").replace(f"{folder}{os.sep}", "")  # where it lies is nobody's business
    except (OSError, ValueError):
        raise DataError(f"{name}: the report cannot be read") from None


PAGE = ToolPage(data_strings.ANALYZE, "analyze", 60, build)
