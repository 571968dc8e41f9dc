"""What `visionkit label` checks of its options before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from visionkit.errors import UsageError

OBJECTS, CLASSES = ("coco", "yolo", "voc"), ("folders", "csv")
FORMATS = (*OBJECTS, *CLASSES)
"""What annotations are written as: those of objects, and those of whole images."""
BY = ("uncertainty", "diversity", "both")

JOURNAL = "label.jsonl"
"""The file in a labeled folder that states what was done to each image."""


def check_folder(out: Path, new: bool) -> None:
    """Checks that a folder can get labels.

    Args:
        out: The folder.
        new: It may be new or empty.

    Raises:
        UsageError: It is a file, holds something else, or nothing where it has to hold labels.
    """
    if (out / JOURNAL).is_file():
        return
    if not new:
        raise UsageError(f"--out {out}: no labels of `visionkit label` there; give MODEL and SOURCE images too")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: not an empty folder, and no labels of `visionkit label`; name a new one")


def classes_of(given: str | None) -> list[str] | None:
    """The names of `--classes`, which commas separate."""
    if given is None:
        return None
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names:
        raise UsageError("--classes: give names of classes, separated by commas")
    return names
