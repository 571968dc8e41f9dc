"""The one place that decides which folder, label file or word means which split.

`train`, `training`, `training_set`, `train2017` and `images_train` are the training split, `valid`, `validation`,
`dev` and `eval` are validation, `testing` and `test_set` are the test split; `trainval` is none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import list_folders

SPLITS: tuple[Split, ...] = ("train", "val", "test")

SPLIT_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "trn", "trainset", "trainingset"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "dev", "eval", "valset", "validset", "validationset", "devset"), "val"
    ),
    **dict.fromkeys(("test", "testing", "tst", "testset", "testingset"), "test"),
}
_ASIDE = frozenset({"set", "split", "data", "dataset", "images", "image", "imgs", "img", "labels", "label", "annot"})
_TOGETHER = frozenset({"trainval", "trainvaltest", "traintest", "valtest", "all", "full", "minitrain", "minival"})


def split_in(name: str) -> Split | None:
    """The split that a file's name speaks of: `instances_val2017.json` is `val`; None where it names none or several.

    Args:
        name: Name of a file or folder, with or without its ending.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    if _TOGETHER & set(words):
        return None
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if found == {"test", "val"} and {"test", "dev"} <= set(words):
        return "test"  # COCO's test-dev
    return found.pop() if len(found) == 1 else None


def split_of(name: str) -> Split | None:
    """The split that a folder or word as a whole stands for: `Training_Set` is `train`, `test_tubes` is none.

    Args:
        name: Name of a folder, or the value of a column.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _ASIDE]
    return SPLIT_WORDS.get(words[0]) if len(words) == 1 else split_in(name) if _is_test_dev(words) else None


def _is_test_dev(words: list[str]) -> bool:
    return words == ["test", "dev"]


def by_split(paths: Iterable[Path], source: Path | str, *, whole: bool = True) -> dict[Split, Path]:
    """Sorts folders or label files by the split that their names mean; those that mean none are left out.

    Args:
        paths: Candidates.
        source: Names the data in the message.
        whole: The whole name has to mean the split (`split_of`), else one of its words (`split_in`).

    Raises:
        DataError: Two of them mean one split.
    """
    found: dict[Split, Path] = {}
    for path in paths:
        split = split_of(path.name) if whole else split_in(path.stem)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{source}: {found[split].name} and {path.name} both mean the {split} split; keep one of them, or "
                "state which with an option of the data"
            )
        found[split] = path
    return {split: found[split] for split in SPLITS if split in found}


def split_folders(root: Path) -> dict[Split, Path]:
    """The folders directly in a folder that are splits, in the order train, val, test.

    Raises:
        DataError: No such folder, or two of them mean one split.
    """
    return by_split(list_folders(root), root)


def find_split(root: Path, pattern: str, split: Split) -> Path | None:
    """The file or folder of a split that a pattern with `{split}` names, whichever word the data has for the split.

    Args:
        root: The folder that the pattern is relative to.
        pattern: A path such as `images/{split}`, `{split}annot` or `annotations/instances_{split}*.json`; each part may
            hold `{split}`, and the last one a `*`. Without `{split}` it is one place for every split.
        split: `train`, `val` or `test`.

    Returns:
        Where it is, or None.

    Raises:
        DataError: Several places fit.
    """
    places = find_places(root, pattern, split)
    if len(places) > 1:
        exact = [place for place in places if place == root / pattern.format(split=split)]
        if len(exact) == 1:
            return exact[0]
        names = ", ".join(place.relative_to(root).as_posix() for place in places[:4])
        raise DataError(
            f"{root}: {len(places)} places fit {pattern!r} for the {split} split: {names}; name one of them"
        )
    return places[0] if places else None


def find_places(root: Path, pattern: str, split: Split) -> list[Path]:
    """All the files or folders that a pattern names for a split, see `find_split`."""
    places = [root]
    for part in Path(pattern).parts:
        places = [found for place in places for found in _fitting(place, part, split)]
    return places


def _fitting(folder: Path, part: str, split: Split) -> list[Path]:
    if "{split}" not in part and "*" not in part:
        return [folder / part] if (folder / part).exists() else []
    if not folder.is_dir():
        return []
    pattern = re.escape(part).replace(r"\*", "(?:.*)").replace(r"\{split\}", r"(?P<split>[^/]*?)", 1)
    shape = re.compile(pattern.replace(r"\{split\}", "(?P=split)"), re.IGNORECASE)
    found = []
    for entry in sorted(folder.iterdir()):
        match: Any = shape.fullmatch(entry.name)
        if (
            match
            and not entry.name.startswith(".")
            and ("split" not in match.groupdict() or _means(match, entry, split, "*" in part))
        ):
            found.append(entry)
    return found


def _means(match: re.Match[str], entry: Path, split: Split, open_end: bool) -> bool:
    """Whether the word in the place of `{split}` means it; with a `*` beside, the whole name must not state another."""
    word = match["split"]
    return split_of(word) == split or (open_end and not word.isalpha() and split_in(entry.stem) == split)
