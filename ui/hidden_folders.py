"""Text for visitors without the folders of the server: names of files begin with the folder of the data."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visionkit.data import VisionDataModule

_BEFORE = r"(?<![\w./\\~-])"  # where a path begins: a longer path that ends alike is another one
_REST = r"[/\\](?=[^\s/\\])"
_END = r"[/\\]?(?![\w-]|\.\w)"
_PART = r"[^\s/\\:,;'\"<>()\[\]]+"
_ABSOLUTE = re.compile(rf"{_BEFORE}(/{_PART})/(?:{_PART}/)*(?={_PART})")
_TAG = re.compile(r"(<[^>]*>)")
_UNREAD = re.compile(r"<(/?)(?:style|script)\b", re.IGNORECASE)


class HiddenFolders:
    """Leaves folders of the server out of text.

    Known folders are left out where they are the beginning of a path or a whole one, never inside words. Of any other
    absolute path of this machine only the last name stays.

    Args:
        folders: Folders, absolute or as they were given; those inside another one are hidden with it.
        title: Stands for a folder itself; by default its last name.
    """

    def __init__(self, folders: Iterable[str | Path], title: str = "") -> None:
        forms = {form for folder in map(Path, folders) for form in (folder, folder.absolute(), folder.resolve())}
        forms -= {Path(), *(form for form in forms if form == Path(form.anchor))}
        known = sorted(str(each) for each in forms if not forms.intersection(each.parents))
        self._title = title
        # A relative folder of one name may be a word of the text, so only a path that continues begins with it.
        every, whole = ("|".join(map(re.escape, some)) for some in (known, [each for each in known if _is_path(each)]))
        ends = f"|(?:{whole}){_END}" if whole else ""
        self._known = re.compile(f"{_BEFORE}(?:(?:{every})({_REST}){ends})") if every else None

    def text(self, text: str) -> str:
        """Plain text without the folders."""
        if self._known is not None:
            text = self._known.sub(self._instead, text)
        return _ABSOLUTE.sub(lambda found: "" if Path(found[1]).is_dir() else found[0], text)

    def _instead(self, found: re.Match[str]) -> str:
        return "" if found[1] else self._title or Path(found[0]).name

    def page(self, page: str) -> str:
        """A page of html whose text has no folders; markup stays as it is, images in it among that."""
        parts = _TAG.split(page)
        read = True
        for number, part in enumerate(parts):
            if number % 2:
                if unread := _UNREAD.match(part):
                    read = unread[1] == "/"
            elif read and part:
                parts[number] = _escaped(part, self.text)
        return "".join(parts)


def _is_path(folder: str) -> bool:
    return "/" in folder or "\\" in folder


def _escaped(part: str, change: Callable[[str], str]) -> str:
    before = html.unescape(part)
    after = change(before)
    return part if after == before else html.escape(after, quote=False)


def folders_of(data: VisionDataModule) -> list[Path]:
    """Folders that a data module reads: its paths, and those of modules that it reads by.

    Args:
        data: The module.
    """
    found: list[Path] = []
    _collect(vars(data).values(), found)
    return found


def _collect(values: Iterable[Any], found: list[Path]) -> None:
    from visionkit.data import VisionDataModule

    for value in values:
        if isinstance(value, Path) or (isinstance(value, str) and _is_path(value) and len(value) < 1024):
            path = Path(value)
            if path.is_dir():
                found.append(path)
            elif path.is_file():
                found.append(path.parent)
        elif isinstance(value, VisionDataModule):
            _collect(vars(value).values(), found)
        elif isinstance(value, (list, tuple)) and any(isinstance(each, VisionDataModule) for each in value):
            _collect(value, found)
