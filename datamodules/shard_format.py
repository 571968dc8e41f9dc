"""What one sample is in a shard: members of a tar archive that lie next to each other, so one read gives all of them.

    000000012.image.jpg   the image as its file was; 000000012.left.png and so on where there are several inputs
    000000012.json        identifier, sequence, frame, and what is known of the image
    000000012.depth.npz   arrays that are as large as the image

Any program that reads tar archives reads them. An image that was no file is kept without loss, as png or npy.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.masks import MaskSet
from visionkit.types import Sample, View

SHARDS = "shards.json"
"""The file that describes a folder of shards; written last, so a folder without it is not whole."""

ENTRY = np.dtype([("shard", "<i4"), ("crc", "<u4"), ("offset", "<i8"), ("size", "<i8")])
"""Where a sample lies: number of its shard, checksum and place of its bytes."""

_LARGE = 4096
"""Numbers from which an array has a member of its own."""

_BLOCK = 512


class Names(NamedTuple):
    """Names of the files of a split beside its shards.

    Attributes:
        entries: (N,) `ENTRY`, npy.
        ids: Identifiers of the samples, one below the other.
        sequences: The sequence of each, where there are any.
        classes: Number of classes of each sample, and all of them, npz.
    """

    entries: str
    ids: str
    sequences: str
    classes: str

    @classmethod
    def of(cls, split: str) -> Names:
        """Those of one split."""
        return cls(f"{split}.index.npy", f"{split}.ids.txt", f"{split}.sequences.txt", f"{split}.classes.npz")


def shard_name(split: str, number: int) -> str:
    """File name of a shard."""
    return f"{split}-{number:05d}.tar"


def pack(sample: Sample, number: int) -> bytes:
    """A sample as members of a tar archive.

    Args:
        sample: Sample as its data module made it, before any augmentation.
        number: Its position in the split, which names the members.

    Raises:
        DataError: An image cannot be read.
        UsageError: It has something that cannot be kept, such as a change of its pixels.
    """
    if sample.photometric is not None or sample.own_photometric:
        raise UsageError(f"{sample.id}: its pixels are changed when they are read, which no shard can hold")
    members: dict[str, bytes] = {}
    inputs: dict[str, Any] = {}
    for name, given in sample.inputs.items():
        frames = given.frames if isinstance(given, Clip) else [given]
        kept = [_pack_image(frame, f"{name}{k or ''}", members) for k, frame in enumerate(frames)]
        inputs[name] = {"frames": kept, "times": list(given.times)} if isinstance(given, Clip) else kept[0]
    record = {
        "id": sample.id,
        "sequence": sample.sequence,
        "frame": sample.frame,
        "view": None if sample.view is None else list(sample.view),
        "inputs": inputs,
        "target": {name: _pack_value(value, name, members) for name, value in sample.target.items()},
    }
    members["json"] = json.dumps(record, separators=(",", ":")).encode()
    return b"".join(_member(f"{number:09d}.{name}", content) for name, content in members.items())


def unpack(blob: bytes) -> Sample:
    """The sample that `pack` wrote.

    Raises:
        DataError: The bytes are something else.
    """
    try:
        members = dict(_members(blob))
        record = json.loads(members["json"])
        inputs = {
            name: Clip([_unpack_image(each, members) for each in given["frames"]], tuple(given["times"]))
            if "frames" in given
            else _unpack_image(given, members)
            for name, given in record["inputs"].items()
        }
        target: Any = {name: _unpack_value(value, members) for name, value in record["target"].items()}
        view = None if record["view"] is None else View(tuple(record["view"][0]), *record["view"][1:])
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(f"the shard is damaged here ({type(error).__name__}: {error})") from None
    return Sample(inputs, target, record["id"], record["sequence"], record["frame"], view)


def _pack_image(image: ImageSource, name: str, members: dict[str, bytes]) -> dict[str, Any]:
    content, suffix = image.encoded()
    members[f"{name}.{suffix}"] = content
    return {"member": f"{name}.{suffix}", "name": image.name, "white": image.white}


def _unpack_image(given: Mapping[str, Any], members: Mapping[str, bytes]) -> ImageSource:
    content: Any = members[given["member"]]
    if given["member"].endswith(".npy"):
        content = np.load(io.BytesIO(content), allow_pickle=False)
    return ImageSource(content, given["name"], given["white"])


def _pack_value(value: Any, name: str, members: dict[str, bytes]) -> Any:
    if isinstance(value, MaskSet):
        return {"masks": [rle["counts"] for rle in value], "size": list(value.size)}
    if isinstance(value, Mapping):
        return {"fields": {key: _pack_value(each, f"{name}.{key}", members) for key, each in value.items()}}
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"target {name}: {type(value).__name__} is not something that a shard can hold")
    if array.size < _LARGE:
        return {"values": array.tolist(), "dtype": array.dtype.str, "shape": list(array.shape)}
    file = io.BytesIO()
    np.savez_compressed(file, values=array)
    members[f"{name}.npz"] = file.getvalue()
    return {"member": f"{name}.npz"}


def _unpack_value(given: Mapping[str, Any], members: Mapping[str, bytes]) -> Any:
    if "masks" in given:
        height, width = given["size"]
        return MaskSet((height, width), [{"size": [height, width], "counts": each} for each in given["masks"]])
    if "fields" in given:
        return {key: _unpack_value(each, members) for key, each in given["fields"].items()}
    if "member" in given:
        with np.load(io.BytesIO(members[given["member"]]), allow_pickle=False) as file:
            return file["values"]
    return np.array(given["values"], dtype=given["dtype"]).reshape(given["shape"])


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    # Bytes of a shard depend on its samples alone: no time, no owner.
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK)


def _members(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Names without the number, and contents; a hundred times quicker than `tarfile`, for what `_member` wrote."""
    place = 0
    while place + _BLOCK <= len(blob):
        name = blob[place : place + 100].rstrip(b"\0").decode()
        size = int(blob[place + 124 : place + 136].rstrip(b"\0 ") or b"0", 8)
        place += _BLOCK
        yield name.partition(".")[2], blob[place : place + size]
        place += size + -size % _BLOCK
