"""Sequences in MOTChallenge's layout: `<sequence>/seqinfo.ini`, `img1/`, `gt/gt.txt`, `det/det.txt`."""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

from visionkit.errors import DataError
from visionkit.text_files import real_number, whole_number

INFO = "seqinfo.ini"


@dataclass(frozen=True)
class SequenceInfo:
    """What a `seqinfo.ini` states.

    Attributes:
        name: Name of the sequence.
        folder: Folder of the images, below that of the sequence.
        rate: Frames per second.
        frames: Number of frames; 0 where the file does not state.
        size: Height and width; 0 where the file does not state.
        suffix: What the names of images end in.
    """

    name: str
    folder: str = "img1"
    rate: float = 30.0
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    suffix: str = ".jpg"


def read_info(folder: Path) -> SequenceInfo:
    """The `seqinfo.ini` of a sequence; defaults where there is none.

    Raises:
        DataError: It cannot be read, or a value is wrong.
    """
    path = folder / INFO
    if not path.is_file():
        return SequenceInfo(folder.name)
    from visionkit.text_files import read_text

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path, what="sequence description"))
        given = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        raise DataError(
            f"{path}: not an ini file with a section [Sequence] ({' '.join(str(error).split())[:100]})"
        ) from None
    numbers = {key: whole_number(given.get(key, "0"), str(path), key) for key in ("seqLength", "imHeight", "imWidth")}
    rate = real_number(given.get("frameRate", "30"), str(path), "frameRate")
    if rate <= 0:
        raise DataError(f"{path}: frameRate is {rate:g}; allowed is a number above 0")
    return SequenceInfo(
        given.get("name", folder.name),
        given.get("imDir", "img1"),
        rate,
        numbers["seqLength"],
        (numbers["imHeight"], numbers["imWidth"]),
        given.get("imExt", ".jpg"),
    )
