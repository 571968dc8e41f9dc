"""Names that come from people and file systems: one form for each, so that equal names compare equal.

macOS writes accents as separate characters (NFD), Linux and Windows mostly as one (NFC). A name is compared and stored
in NFC; the path of a file is opened as the file system wrote it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from visionkit.errors import DataError

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")  # control, format, surrogate, private, unassigned
_JOINERS = "\u200c\u200d"  # parts of words in Persian, Hindi and emoji


def normalized(name: str) -> str:
    """A name in NFC without surrounding blanks; two names are the same where these are equal.

    Args:
        name: Name, as typed, or as a file or folder is called.
    """
    return unicodedata.normalize("NFC", name).strip()


def checked_name(value: object, place: str, what: str = "name") -> str:
    """A name read from a file, normalized.

    Numbers become their text, since tools write `7` where `"7"` is meant.

    Args:
        value: What the file holds.
        place: Names the file and the entry in the message.
        what: What it is a name of, such as "class name".

    Raises:
        DataError: Neither text nor a whole number, empty, or with characters that nobody sees.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}: a {what} is text, not {type(value).__name__} ({str(value)[:40]})")
    name = normalized(value)
    if not name:
        raise DataError(f"{place}: the {what} is empty")
    unseen = next((c for c in name if unicodedata.category(c) in _UNSEEN and c not in _JOINERS), None)
    if unseen is not None:
        raise DataError(f"{place}: the {what} {name[:40]!r} has the invisible character U+{ord(unseen):04X}; remove it")
    return name


def classes_differ(stored: Sequence[str], given: Sequence[str]) -> str:
    """The message for a checkpoint that knows other classes than the data."""
    remedy = "train again or give the same data.classes"
    for index, (a, b) in enumerate(zip(stored, given, strict=False)):
        if a != b:
            return f"the checkpoint's class {index} is {a!r} and the data's is {b!r}; {remedy}"
    return f"the checkpoint knows {len(stored)} classes and the data has {len(given)}; {remedy}"
