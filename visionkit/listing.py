"""The one listing of folders: which files count, which are passed over and why, in one order on every system.

Everything that searches a folder for images or label files lists it here, so that all readers agree on hidden files,
linked folders and file name endings, and whatever is passed over can be reported.
"""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from visionkit.errors import DataError
from visionkit.heic import is_heic

SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".heic", ".heif"),
    }
)
"""Lower-case file name endings that are images."""

_LONGEST = 3000  # bytes of a path that systems take
_SYSTEM = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "system volume information"})
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\x00", b"MM\x00*"),
    *(b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n", b"\x00\x00\x00\x0cjP  "),
)


@dataclass
class Listing:
    """The files of a folder that count, and those that do not.

    Attributes:
        root: The folder.
        files: Paths below it, sorted by their relative path in NFC.
        passed_over: Paths that were left out, by reason: "hidden", "dangling link", "not an image (.txt)", ...
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    passed_over: dict[str, list[Path]] = field(default_factory=dict)

    def pass_over(self, reason: str, path: Path) -> None:
        """Notes a file that is left out."""
        self.passed_over.setdefault(reason, []).append(path)

    @property
    def counts(self) -> dict[str, int]:
        """Number of files passed over by reason."""
        return {reason: len(paths) for reason, paths in self.passed_over.items()}


def is_hidden(name: str) -> bool:
    """Whether no person put a file or folder of that name there: `.ipynb_checkpoints`, `._a.jpg`, `@eaDir`."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image_name(name: str) -> bool:
    """Whether a file of that name counts as an image by its ending; hidden ones do not."""
    return not is_hidden(name) and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 (a hot path)


def list_images(root: str | os.PathLike[str], *, deep: bool = True) -> Listing:
    """Lists the images of a folder.

    Linked folders are followed, each real folder once. A file without an ending counts where its first bytes are those
    of an image.

    Args:
        root: The folder.
        deep: Folders in it are searched too.

    Raises:
        DataError: No such folder, or one that cannot be read.
    """
    return list_files(root, SUFFIXES, deep=deep, kind="an image", sniff=is_image_content)


def list_files(
    root: str | os.PathLike[str],
    suffixes: Collection[str],
    *,
    deep: bool = True,
    kind: str = "a label file",
    sniff: Callable[[Path], bool] | None = None,
) -> Listing:
    """Lists the files of a folder that have one of some endings; see `list_images`.

    Args:
        root: The folder.
        suffixes: Lower-case endings with their dot.
        deep: Folders in it are searched too.
        kind: What the files are, for the reasons: "an image".
        sniff: Decides for a file without any ending; such files are passed over by default.

    Raises:
        DataError: No such folder, or one that cannot be read.
    """
    names, passed_over = list_names(root, suffixes, deep=deep, kind=kind, sniff=sniff)
    top = Path(root)
    others = {reason: [top / name for name in some] for reason, some in passed_over.items()}
    return Listing(top, [top / name for name in names], others)


def list_names(
    root: str | os.PathLike[str],
    suffixes: Collection[str] = SUFFIXES,
    *,
    deep: bool = True,
    kind: str = "an image",
    sniff: Callable[[Path], bool] | None = None,
) -> tuple[list[str], dict[str, list[str]]]:
    """As `list_files`, in strings: a million paths take a minute to make and half a gigabyte.

    Args:
        root: See `list_files`.
        suffixes: See `list_files`.
        deep: See `list_files`.
        kind: See `list_files`.
        sniff: See `list_files`.

    Returns:
        Names of the files relative to the folder, with slashes, in the order of `Listing.files`; and those that are
        passed over, by reason.
    """
    top, names = Path(root), list[str]()
    passed_over: dict[str, list[str]] = {}
    for name in _walk(top, passed_over, deep):
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a hot path)
        if suffix in suffixes or (len(suffix) < 2 and sniff is not None and sniff(top / name)):
            names.append(name)
        else:
            shown = suffix if len(suffix) > 1 else "no ending"
            passed_over.setdefault(f"not {kind} ({shown})", []).append(name)
    names.sort(key=_order)
    return names, passed_over


def find_images(source: str | os.PathLike[str]) -> list[Path]:
    """Lists the images that a file, a folder (with all sub-folders) or a glob names, sorted.

    Raises:
        DataError: Nothing there, or a folder without an image.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = list_images(path).files
        if not found:
            raise DataError(f"{path}: no images in this folder (looked for {' '.join(sorted(SUFFIXES))})")
        return found
    matches = glob.glob(str(source), recursive=True)  # noqa: PTH207  (a pattern may be absolute)
    found = sorted(Path(match) for match in matches if Path(match).is_file())
    if not found:
        raise DataError(f"{source}: no such file, folder or pattern")
    return found


def list_folders(root: str | os.PathLike[str]) -> list[Path]:
    """The folders in a folder, links to folders among them, sorted; hidden ones are left out.

    Raises:
        DataError: No such folder, or one that cannot be read.
    """
    top = Path(root)
    found = [Path(entry.path) for entry in _entries(top) if not is_hidden(entry.name) and entry.is_dir()]
    return sorted(found, key=lambda path: _order(path.name))


def resolve_listed(root: Path, name: str) -> Path:
    """The file that an annotation names.

    The name is tried as it is; then with slashes for backslashes, `%20` decoded, accents in the other Unicode form,
    and without leading `..` (some tools write `../train/images` for a folder that lies beside the file).

    Args:
        root: The folder that names are relative to.
        name: Name, as the annotation has it.

    Returns:
        The path of an existing file or folder, else `root / name`, so that the caller's message shows what was asked; a
        beginning of a name that no file can have.
    """
    if not _can_be_a_path(name):
        shown = name[:60].encode("ascii", "backslashreplace").decode().replace("\0", "?")
        return root / f"{shown}..."  # no file is called so
    plain = root / name
    tried = dict.fromkeys([name, name.replace("\\", "/"), unquote(name), unquote(name.replace("\\", "/"))])
    for candidate in tried:
        if _exists(root / candidate):
            return root / candidate
    for candidate in tried:
        inner = candidate
        while inner.startswith("../"):
            inner = inner.removeprefix("../")
        for part in dict.fromkeys([candidate, inner]):
            found = _other_form(root, part)
            if found is not None:
                return found
    return plain


def _other_form(root: Path, name: str) -> Path | None:
    """The file below the root whose name differs in the Unicode form alone."""
    if _exists(root / name):
        return root / name
    if name.isascii():
        return None
    for form in ("NFC", "NFD"):
        if _exists(path := root / unicodedata.normalize(form, name)):
            return path
    here = root  # folders and file may each have been written by another system
    for part in Path(name).parts:
        want = unicodedata.normalize("NFC", part)
        try:
            match = next((e for e in os.listdir(here) if unicodedata.normalize("NFC", e) == want), None)  # noqa: PTH208
        except OSError:
            return None
        if match is None:
            return None
        here = here / match
    return here


def _can_be_a_path(name: str) -> bool:
    try:
        data = os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return b"\0" not in data and len(data) <= _LONGEST and all(len(part) <= 255 for part in data.split(b"/"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # a name that is too long, or that no file can have


def _walk(top: Path, passed_over: dict[str, list[str]], deep: bool) -> Iterator[str]:
    """Names of files that are not hidden; real folders before linked ones, so that a link never replaces its folder."""
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        entries = _entries(top / folder)
        here = (top / folder).stat()
        if (here.st_dev, here.st_ino) in seen:
            passed_over.setdefault("a link to a folder that is listed already", []).append(folder)
            continue
        seen.add((here.st_dev, here.st_ino))
        above = f"{folder}/" if folder else ""
        for entry in entries:
            name = above + entry.name
            if is_hidden(entry.name):
                passed_over.setdefault("hidden", []).append(name)
            elif entry.is_dir():
                if deep:
                    (links if entry.is_symlink() else folders).append(name)
            elif entry.is_file():
                yield name
            else:
                reason = "dangling link" if entry.is_symlink() else "not a regular file"
                passed_over.setdefault(reason, []).append(name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        raise DataError(f"{folder}: no such folder") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: not a folder") from None
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be read ({error.strerror})") from None


def _order(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_image_content(path: Path) -> bool:
    """Whether the first bytes of a file are those of an image."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError:
        return False
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return head.startswith(_SIGNATURES) or webp or avif or is_heic(head)
