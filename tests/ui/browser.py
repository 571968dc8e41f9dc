"""The demo in Debian's Chromium: what the tests and the screenshots share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-default-apps --mute-audio"
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Chromium's own test picture in place of a camera, with leave to use it."""

PATIENCE = 120_000
"""Milliseconds; a quiet machine needs hundredths of it."""


@contextlib.contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """The browser, for as long as the block runs.

    Args:
        more: Flags beside those that are always given.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS.split(), *more])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of the demo, with everything that should not have happened on it.

    Args:
        page: Of the browser.
        address: Of the demo; a request to any other place is a fault.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.faults: list[str] = []
        self.asked = 0
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type == "error" and self.faults.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "response", lambda answer: answer.status >= 400 and self.faults.append(f"{answer.status}: {answer.url}")
        )
        self._waiting: set[Any] = set()
        self._last_asked = time.monotonic()
        page.on("request", self._asked)
        for ended in ("requestfinished", "requestfailed"):
            page.on(ended, lambda request: self._waiting.discard(request))

    def _asked(self, request: Any) -> None:
        url = request.url
        self.asked += 1
        self._last_asked = time.monotonic()
        if "/heartbeat/" not in url:  # which lasts as long as its page
            self._waiting.add(request)
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.faults.append(f"asked for {url}")

    def open(self, path: str = "") -> None:
        """Goes to a page and waits until it can be used.

        What is under way comes to its end first: gradio's client tells on the console when somebody leaves before.
        What a page asks for when it opens begins a moment after it stands.
        """
        self.until(
            lambda: not self._waiting and time.monotonic() > self._last_asked + 0.4,
            lambda: f"still asked for: {[each.url for each in self._waiting]}",
        )
        self.page.goto(f"{self.address}/{path}")
        self.page.locator(".vk-head").first.wait_for()

    def upload(self, path: Path, place: str = "#vk-input") -> None:
        """Gives a picture to the first input in a place."""
        self.page.locator(f"{place} input[type=file]").first.set_input_files(path)

    def choose(self, title: str, place: str = "#vk-model") -> None:
        """Chooses an entry of a dropdown by words of it."""
        self.page.locator(f"{place} input").first.click()
        self.page.get_by_role("option", name=title).first.click()

    def done(self) -> None:
        """Waits for an answer.

        Raises:
            AssertionError: There is none in time, with what the page says instead.
        """
        message = self.page.locator("#vk-message")
        self.until(
            lambda: self.page.locator("#vk-facts").is_visible(),
            lambda: f"no answer; the page says {message.inner_text() if message.is_visible() else 'nothing'!r}",
        )

    def answered(self, width: int, height: int) -> None:
        """Waits for the answer on a picture of that size."""
        self.page.locator("#vk-facts").get_by_text(f"{width} × {height} pixels").wait_for()

    def drawn(self, kind: str) -> list[str]:
        """What an answer's column shows: the source of each picture in it and the size of each canvas."""
        shown: list[str] = self.page.locator(f"#vk-{kind}").evaluate(
            """column => [...column.querySelectorAll("img, canvas, .outer")].filter(each => each.offsetWidth > 0).map(
                each => each.tagName == "CANVAS" ? each.closest("[data-fov]").dataset.fov + " " + each.width
                      : each.tagName == "IMG" ? each.src : each.style.transform)"""
        )
        return shown

    def whole(self, kind: str) -> bool:
        """Whether there are pictures in an answer's column and all of them have arrived."""
        there: bool = self.page.locator(f"#vk-{kind}").evaluate(
            """column => { const all = [...column.querySelectorAll("img")].filter(each => each.offsetWidth > 0);
                return all.length > 0 && all.every(each => each.complete && each.naturalWidth > 0); }"""
        )
        return there

    def until(self, what: Any, told: Any) -> None:
        """Waits for a condition of this side.

        Raises:
            AssertionError: It does not come true in time.
        """
        for _ in range(PATIENCE // 100):
            if what():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(told() if callable(told) else told)
