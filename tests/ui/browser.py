"""The demo in Debian's Chromium: what the tests and the screenshots share."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-default-apps --mute-audio"
)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""Chromium's own test image in place of a camera, with leave to use it."""

PATIENCE = 120_000
"""Milliseconds; a quiet machine needs hundredths of it."""

PHONE = {"width": 390, "height": 844}
"""Pixels of the page on a phone."""

ABORTED = ("AbortError", "errored out", "Failed to fetch", "network error", "net::ERR_ABORTED")
"""What gradio's client, a fetch and Chromium write on the console when a page is left while a request is under way."""


def skipped(environment: Mapping[str, str], chromium: Path = CHROMIUM) -> bool:
    """Whether tests in a browser are skipped: no browser is installed, and this is no continuous integration.

    Where `CI` is set they run and fail, so that a job without a browser is not green by mistake.
    """
    return not environment.get("CI") and not chromium.exists()


needs_chromium = pytest.mark.skipif(skipped(os.environ), reason=f"no {CHROMIUM}: install Debian's chromium to run this")


@contextlib.contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """The browser, for as long as the block runs.

    Args:
        more: Flags beside those that are always given.

    Raises:
        FileNotFoundError: It is not installed.
    """
    if not CHROMIUM.exists():
        raise FileNotFoundError(f"no {CHROMIUM}: install Debian's chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*FLAGS.split(), *more])
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of the demo, with everything that should not have happened on it.

    A page that is left drops what it still asked for, and its scripts report that on the console: no fault. A request
    that fails on a page that stays is one.

    Args:
        page: Page of the browser.
        address: Address of the demo; a request to any other place is a fault.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.faults: list[str] = []
        self.leaving = False
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type == "error" and self._reported(f"console: {said.text}"))
        page.on("pageerror", lambda error: self._reported(f"script: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "response",
            lambda prediction: (
                prediction.status >= 400 and self.faults.append(f"{prediction.status}: {prediction.url}")
            ),
        )
        self._waiting: set[Any] = set()
        self._last_asked = time.monotonic()
        page.on("request", self._asked)
        page.on("requestfinished", lambda request: self._waiting.discard(request))
        page.on("requestfailed", self._failed)
        page.on("framenavigated", self._arrived)

    def _reported(self, fault: str) -> None:
        if not (self.leaving and any(words in fault for words in ABORTED)):
            self.faults.append(fault)

    def _failed(self, request: Any) -> None:
        self._waiting.discard(request)
        # A page may abort what it no longer needs, as a stream whose last event has come.
        if not self.leaving and request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.failure}: {request.url}")

    def _arrived(self, frame: Any) -> None:
        if frame == self.page.main_frame:
            self.leaving = False
            self._waiting.clear()  # of what the page before still asked for, the browser may tell nothing more

    def _asked(self, request: Any) -> None:
        url = request.url
        self._last_asked = time.monotonic()
        if "/heartbeat/" not in url:  # which lasts as long as its page
            self._waiting.add(request)
        if not url.startswith((f"{self.address}/", "data:", "blob:")):
            self.faults.append(f"asked for {url}")

    def go(self, url: str) -> None:
        """Leaves the page for another, whatever is under way."""
        self.leaving = True  # until the other page has taken its place
        self.page.goto(url)

    def open(self, path: str = "") -> None:
        """Goes to a page of the demo and waits until it can be used."""
        self.go(f"{self.address}/{path}")
        self.page.locator(".vk-head").first.wait_for()

    def settled(self, quiet: float = 0.4) -> None:
        """Waits until the page has asked for all that it opens with, so that whatever fails of it is seen.

        Args:
            quiet: Seconds without a request after which nothing more is expected.
        """
        self.until(
            lambda: not self._waiting and time.monotonic() > self._last_asked + quiet,
            lambda: f"still asked for: {[each.url for each in self._waiting]}",
        )

    def upload(self, path: Path, place: str = "#vk-input") -> None:
        """Gives an image to the first input in a place."""
        self.page.locator(f"{place} input[type=file]").first.set_input_files(path)

    def choose(self, title: str, place: str = "#vk-model") -> None:
        """Chooses an entry of a dropdown by words of it."""
        self.page.locator(f"{place} input").first.click()
        self.page.get_by_role("option", name=title).first.click()

    def done(self) -> None:
        """Waits for a prediction.

        Raises:
            AssertionError: There is none in time, with what the page states instead.
        """
        message = self.page.locator("#vk-message")
        self.until(
            lambda: self.page.locator("#vk-facts").is_visible(),
            lambda: f"no prediction; the page states {message.inner_text() if message.is_visible() else 'nothing'!r}",
        )

    def result(self, width: int, height: int) -> None:
        """Waits for the prediction on an image of that size."""
        self.page.locator("#vk-facts").get_by_text(f"{width} × {height} pixels").wait_for()

    def drawn(self, kind: str) -> list[str]:
        """What a prediction's column shows: the source of each image in it and the size of each canvas."""
        shown: list[str] = self.page.locator(f"#vk-{kind}").evaluate(
            """column => [...column.querySelectorAll("img, canvas, .outer")].filter(each => each.offsetWidth > 0).map(
                each => each.tagName == "CANVAS" ? each.closest("[data-fov]").dataset.fov + " " + each.width
                      : each.tagName == "IMG" ? each.src : each.style.transform)"""
        )
        return shown

    def whole(self, kind: str) -> bool:
        """Whether there are images in a prediction's column and all of them have arrived."""
        there: bool = self.page.locator(f"#vk-{kind}").evaluate(
            """column => { const all = [...column.querySelectorAll("img")].filter(each => each.offsetWidth > 0);
                return all.length > 0 && all.every(each => each.complete && each.naturalWidth > 0); }"""
        )
        return there

    def width(self) -> int:
        """Pixels of the page from left to right, with what has to be scrolled to."""
        found: int = self.page.evaluate("document.documentElement.scrollWidth")
        return found

    def until(self, what: Any, message: Any) -> None:
        """Waits for a condition of this side.

        Raises:
            AssertionError: It does not come true in time.
        """
        for _ in range(PATIENCE // 25):
            if what():
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(message() if callable(message) else message)
