"""The data sets that the demo browses: those that the server was given, and drawn scenes; opened when asked for."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ui.hidden_folders import HiddenFolders, folders_of
from visionkit.errors import UsageError, VisionKitError

if TYPE_CHECKING:
    from visionkit.browsing.browser import DataBrowser
    from visionkit.checkup.examination import Checkup
    from visionkit.data import VisionDataModule

DRAWN = {
    "boxes": "boxes",
    "masks": "masks",
    "keypoints": "keypoints",
    "label_map": "label maps",
    "labels": "classes",
    "depth": "depth",
    "identity": "faces",
    "clean": "noise to remove",
    "flow": "optical flow",
    "disparity": "stereo",
}
"""Targets of drawn scenes, and what they are called; those of pairs come last."""

PAIRS = ("flow", "disparity")
COUNT, EVAL_COUNT, SIZE = 60, 20, (192, 256)
"""Drawn scenes for training and of each other split; height and width in pixels."""


class DataSet:
    """A data set that is opened when it is first asked for; safe to use from several threads.

    Args:
        name: What it is chosen by.
        title: What people read.
        open: Opens it.
        folder: Where it lies, which is nobody's business; words for visitors do without it and without the folders that
            the opened data reads.
    """

    def __init__(self, name: str, title: str, open: Callable[[], DataBrowser], folder: str = "") -> None:
        self.name, self.title, self._open = name, title, open
        self._folders = [folder] if folder else []
        self._hidden = HiddenFolders(self._folders, title)
        self._lock, self._browser = threading.Lock(), None

    _browser: DataBrowser | None

    @property
    def browser(self) -> DataBrowser:
        """Its samples.

        Raises:
            VisionKitError: It cannot be opened.
        """
        with self._lock:
            if self._browser is None:
                with self.hiding():
                    browser = self._open()
                self._hidden = HiddenFolders([*self._folders, *folders_of(browser.data)], self.title)
                self._browser = browser
            return self._browser

    def hidden(self, text: str) -> str:
        """Plain text without the folders that the data lies in; of markup, give each text before it is escaped."""
        return self._hidden.text(text)

    @contextmanager
    def hiding(self) -> Iterator[None]:
        """Expected failures of the block have messages without the folders that the data lies in."""
        try:
            yield
        except VisionKitError as error:
            error.args = (self.hidden(str(error)),)
            raise

    def keep(self, checkup: Checkup) -> None:
        """Keeps what an examination has found, by which samples can then be chosen."""
        self.browser.findings = checkup.findings


class DataSets:
    """Data sets by name.

    Args:
        given: Those that the server was given; drawn scenes follow.
    """

    def __init__(self, given: Sequence[DataSet] = ()) -> None:
        self._sets = {each.name: each for each in (*given, *map(_drawn, DRAWN))}

    def choices(self) -> list[tuple[str, str]]:
        """Title and name of each."""
        return [(each.title, each.name) for each in self._sets.values()]

    @property
    def first(self) -> str:
        """Name of the one that pages begin with."""
        return next(iter(self._sets))

    def get(self, name: str | None) -> DataSet:
        """The data set of that name.

        Raises:
            UsageError: There is none.
        """
        found = self._sets.get(name or "")
        if found is None:
            raise UsageError("choose one of the data sets in the list")
        return found


def named_data(path: str, number: int = 0) -> DataSet:
    """A data set by what `visionkit doctor` takes as DATA.

    Args:
        path: Folder, archive, label file, run or configuration.
        number: Its number among those that are given, by which pages name it: they do not know its path.
    """

    def opened() -> DataBrowser:
        from ui.browsing import browser_of
        from ui.data_opening import open_named

        named = argparse.Namespace(data=path, config=None, reader=None, forwarded=())
        data, network = open_named(named, augmented=True)
        return browser_of(data, None if network is None else network.input)

    place = Path(path)
    folder = place if place.is_dir() else place.parent
    return DataSet(f"given/{number}", place.name or place.resolve().name, opened, str(folder))


def _drawn(target: str) -> DataSet:
    def opened() -> DataBrowser:
        from ui.browsing import browser_of

        return browser_of(_scenes(target))

    return DataSet(f"drawn/{target}", f"Drawn scenes: {DRAWN[target]}", opened)


def _scenes(target: str) -> VisionDataModule:
    from datamodules.pair_scenes import PairSceneData
    from datamodules.scene_data import SceneData
    from visionkit.synthetic import ClipSettings

    if target in PAIRS:
        clip = ClipSettings(size=SIZE, length=3)
        return PairSceneData(target, count=COUNT, eval_count=EVAL_COUNT, clip=clip)  # type: ignore[arg-type]
    return SceneData(target, count=COUNT, eval_count=EVAL_COUNT, size=SIZE)  # type: ignore[arg-type]
