"""What describes a YOLO data set: its yaml file, or Darknet's `obj.data` with its list of names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.class_names import first_duplicate, shorten
from datamodules.splits import split_of
from visionkit.data import Split
from visionkit.errors import DataError, suggest
from visionkit.listing import resolve_listed
from visionkit.names import checked_name
from visionkit.text_files import flag, read_lines, read_yaml, whole_number

_NOTHING = ("", "null", "~", "none")
YAML = (".yaml", ".yml")


class Described(NamedTuple):
    """A description, checked.

    Attributes:
        path: Path of the file.
        base: The folder that its paths are relative to.
        keys: All that it has.
        places: Folders and lists of images of each split that it names.
        names: Names of the classes, in label order.
        keypoints: Their number, and 2 or 3 columns for each; None where there are none.
        flips: Number of the flipped counterpart of each keypoint, or empty.
        keypoint_names: Keypoint names in label order, or empty.
        scores: The lines of its label files may end in one more column, the score of a prediction.
    """

    path: Path
    base: Path
    keys: tuple[str, ...]
    places: dict[Split, list[str]]
    names: list[str]
    keypoints: tuple[int, int] | None = None
    flips: tuple[int, ...] = ()
    keypoint_names: tuple[str, ...] = ()
    scores: bool = False

    @property
    def columns(self) -> int:
        """How many columns of a label file are keypoints."""
        return self.keypoints[0] * self.keypoints[1] if self.keypoints else 0


def describe(path: Path) -> Described:
    """Reads a description.

    Args:
        path: A yaml file, Darknet's `obj.data`, or a folder with one of them.

    Raises:
        DataError: None there, or one that does not describe images or names.
    """
    path = description_in(path) if path.is_dir() else path
    top = _darknet(path) if path.suffix == ".data" else read_yaml(path, "yaml file; give --data.yaml", as_text=True)
    if not isinstance(top, dict):
        raise DataError(f"{path}: a YOLO data set is described by keys train, val and names")
    base = path.parent
    given = top.get("path")
    if isinstance(given, str) and given.strip() and (inner := resolve_listed(base, given.strip())).is_dir():
        base = inner  # elsewhere it is a path of the machine that wrote it
    keypoints = _kpt_shape(top, path)
    return Described(
        path,
        base,
        tuple(map(str, top)),
        _places(top, path),
        _names(top, path),
        keypoints,
        _flips(top, path, keypoints),
        _keypoint_names(top, path, keypoints),
        flag(top.get("scores"), str(path), "scores"),
    )


def description_in(folder: Path) -> Path:
    """The one description in a folder.

    Raises:
        DataError: None, or several.
    """
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (*YAML, ".data") and path.is_file()]
    found = [path for path in found if not path.name.startswith(".")]
    named = [path for path in found if path.stem.lower() in ("data", "dataset", "obj")]
    if len(found) != 1 and len(named) != 1:
        listed = shorten((path.name for path in found), 4) or "none"
        raise DataError(
            f"{folder}: a YOLO set has a yaml file that names its parts and classes; there are {listed}; give the file"
        )
    return (found if len(found) == 1 else named)[0]


def find_listed(described: Described, name: str, folder: Path | None = None) -> Path:
    """The file or folder that a description or a list of images names.

    Args:
        described: The description.
        name: Name, as it is written; leading folders of the machine that wrote it need not exist here.
        folder: Where it is looked for first; by default the folder of the description's paths.
    """
    bases = [each for each in (folder, described.base, described.path.parent) if each is not None]
    parts = Path(name.replace("\\", "/")).parts
    for start in range(max(1, min(len(parts), 12))):
        for base in dict.fromkeys(bases):
            found = resolve_listed(base, name if start == 0 else "/".join(parts[start:]))
            if found.exists() and found not in bases:
                return found
    return resolve_listed(bases[0], name)


def _darknet(path: Path) -> dict[str, Any]:
    """`key = value` lines; `names` is a file with one name per line."""
    top: dict[str, Any] = {}
    for number, line in read_lines(path, "file"):
        key, equals, value = line.partition("=")
        if not equals:
            raise DataError(f"{path} line {number}: {line[:60]!r} is not 'key = value'")
        top[key.strip()] = value.strip()
    if isinstance(top.get("names"), str):
        bare = Described(path, path.parent, (), {}, [])
        top["names"] = [name for _, name in read_lines(find_listed(bare, top["names"]), "list of names")]
    return top


def _places(top: Mapping[str, Any], path: Path) -> dict[Split, list[str]]:
    places: dict[Split, list[str]] = {}
    for key, given in top.items():
        split = split_of(str(key))
        if split is None:
            continue
        listed = given if isinstance(given, list) else [given]
        if not all(isinstance(each, str) or each is None for each in listed):
            raise DataError(f"{path}: {key}: a folder or a list of folders is expected")
        named = [each.strip() for each in listed if each is not None and each.strip().lower() not in _NOTHING]
        if named and split in places and places[split] != named:
            raise DataError(f"{path}: {key} and another key both mean the {split} split; keep one of them")
        if named:
            places[split] = named
    return places


def _names(top: Mapping[str, Any], path: Path) -> list[str]:
    names = top.get("names")
    if isinstance(names, dict):
        numbered = {whole_number(key, f"{path}: names", "a number of a class"): name for key, name in names.items()}
        if len(numbered) < len(names) or max(numbered, default=0) != len(numbered) - 1:
            raise DataError(f"{path}: names are numbered 0, 1, 2, ... without gaps, not {shorten(map(str, names))}")
        names = [numbered[number] for number in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: it has no list 'names'{suggest('names', map(str, top))}")
    out = [checked_name(name, f"{path}: names[{number}]", "class name") for number, name in enumerate(names)]
    if twice := first_duplicate(out):
        raise DataError(f"{path}: duplicate class name {twice!r} in names")
    count = top.get("nc", top.get("classes"))
    if isinstance(count, str) and count.strip() and whole_number(count, str(path), "nc") != len(out):
        raise DataError(f"{path}: nc is {count} and names has {len(out)} names; which is right?")
    return out


def _kpt_shape(top: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    given = top.get("kpt_shape")
    if given is None or (isinstance(given, str) and given.strip().lower() in _NOTHING):
        return None
    if not isinstance(given, list) or len(given) != 2:
        raise DataError(f"{path}: kpt_shape is [number of keypoints, 2 or 3], not {shorten(map(str, [given]))[:60]}")
    count, columns = (whole_number(value, str(path), "kpt_shape", 1, 10_000) for value in given)
    if columns not in (2, 3):
        raise DataError(f"{path}: kpt_shape is [{count}, {columns}]; the second is 2 (x, y) or 3 (x, y, visibility)")
    return count, columns


def _flips(top: Mapping[str, Any], path: Path, keypoints: tuple[int, int] | None) -> tuple[int, ...]:
    given = top.get("flip_idx")
    if not given or keypoints is None:
        return ()
    if not isinstance(given, list) or len(given) != keypoints[0]:
        raise DataError(f"{path}: flip_idx lists the flipped counterpart of each of {keypoints[0]} keypoints")
    flips = tuple(whole_number(value, str(path), "flip_idx", 0, keypoints[0] - 1) for value in given)
    if any(flips[flips[number]] != number for number in range(len(flips))):
        raise DataError(f"{path}: flip_idx: the flipped counterpart of a flipped counterpart is the keypoint itself")
    return flips


def _keypoint_names(top: Mapping[str, Any], path: Path, keypoints: tuple[int, int] | None) -> tuple[str, ...]:
    given = top.get("kpt_names")
    if isinstance(given, dict) and given:
        given = next(iter(given.values()))  # by class; all of one skeleton
    if not given or keypoints is None:
        return ()
    if not isinstance(given, list) or len(given) != keypoints[0]:
        raise DataError(f"{path}: kpt_names lists the names of {keypoints[0]} keypoints")
    return tuple(checked_name(name, f"{path}: kpt_names", "keypoint") for name in given)
