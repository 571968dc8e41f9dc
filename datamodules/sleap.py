"""SLEAP's labels: a `.slp` file, or the analysis file (h5) that it exports; both are HDF5."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.class_names import shorten
from datamodules.object_entries import AnnotatedImage
from datamodules.pose_data import PoseData, boxless_entry
from visionkit.data import Split
from visionkit.errors import DataError, UsageError, suggest
from visionkit.families.keypoints.skeleton_names import find_skeleton, is_own, named_skeleton, order_of
from visionkit.listing import list_images, resolve_listed
from visionkit.plain_values import plain
from visionkit.skeleton import Skeleton

_USER = 0  # instances that somebody labeled; 1 are predictions
_OFFSET_ENDS = 1.1  # before that format coordinates count from the corner of the first pixel
_MOST = 10_000_000  # entries of one table
_BLOCK = 256  # frames that are read at a time


class SleapData(PoseData):
    """Animals of SLEAP's files: what people labeled in a `.slp`, or the tracks of an analysis file.

    Boxes are made about the labeled keypoints. The frames are image files: where the labels belong to a video, give
    the folder of its frames, whose names end in the frame's number from 0 (`frame_00012.png`).

    Args:
        root: The `.slp` or `.h5` file, or a folder that holds one.
        images: Folder of the frames; by default the images that a `.slp` names.
        skeleton: Name, yaml file or content of the skeleton, or the name of one of several of the file; by default the
            file's own.
        **base: See `datamodules.pose_data.PoseData`.

    Example:
        >>> SleapData("flies.slp", images="frames").skeleton.keypoints[:2]
        ('head', 'thorax')
    """

    def __init__(
        self,
        root: str,
        *,
        images: str | None = None,
        skeleton: str | dict[str, Any] | None = None,
        **base: Any,
    ) -> None:
        if skeleton is None:
            skeleton = self.linked("skeleton", root=root)
        super().__init__(skeleton=self.settled("skeleton", skeleton, root=root), **base)
        self.root, self.images = Path(root), Path(images) if images is not None else None

    @property
    def source(self) -> str:
        return str(self.root)

    @classmethod
    def linked(cls, name: str, root: str = "", **init_args: Any) -> Any:
        """The file's own skeleton; a shipped one's name where it has exactly its keypoints."""
        return _chosen(Path(root), "") if name == "skeleton" else None

    @classmethod
    def settled(cls, name: str, value: Any, root: str = "", **init_args: Any) -> Any:
        """The skeleton of the file that is named in place of a shipped one, whole."""
        return _chosen(Path(root), value) if name == "skeleton" and is_own(value) else value

    def read(self, split: Split) -> list[AnnotatedImage] | None:
        if split != "train":
            return None
        path = _file(self.root)
        counts: dict[str, int] = {}
        with _opened(path) as file:
            if "tracks" in file:
                entries = self._tracks(path, file, counts)
            else:
                entries = self._labels(path, file, counts)
        if not entries:
            message = "".join(f"; {number} {what}" for what, number in counts.items())
            raise DataError(f"{path}: no labeled frame with an image{message}")
        self.note(split, path, counts)
        return entries

    # ------------------------------------------------------------------ analysis files

    def _tracks(self, path: Path, file: Any, counts: dict[str, int]) -> list[AnnotatedImage]:
        names = _texts(_table(path, file, "node_names"))
        order = self._order(path, names)
        tracks = file["tracks"]  # (tracks, 2, nodes, frames)
        if tracks.ndim != 4 or tracks.shape[1:3] != (2, len(names)):
            raise DataError(f"{path}: tracks has the shape {tracks.shape}, not tracks, 2, {len(names)}, frames")
        frames = self._frames(path)
        known = [number for number in sorted(frames) if number < tracks.shape[3]]
        counts |= {"images beyond the last frame of the tracks": len(frames) - len(known)}
        out: list[AnnotatedImage] = []
        for block in sorted({number // _BLOCK for number in known}):
            part = np.asarray(tracks[:, :, :, block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
            for number in (each for each in known if each // _BLOCK == block):
                rows = part[:, :, :, number % _BLOCK].transpose(0, 2, 1)  # (tracks, nodes, 2)
                keypoints = _keypoints(rows, np.full(rows.shape[:2], True))[:, order]
                keypoints = keypoints[(keypoints[..., 2] > 0).any(axis=1)]
                if len(keypoints):
                    self._add(out, frames[number], f"{path} frame {number}", keypoints, counts)
        return out

    # ------------------------------------------------------------------ .slp

    def _labels(self, path: Path, file: Any, counts: dict[str, int]) -> list[AnnotatedImage]:
        metadata = _metadata(path, file)
        skeletons = _skeletons(path, metadata)
        orders = {number: order_of(names, self.skeleton) for number, (_, names, _) in enumerate(skeletons)}
        named = [number for number, (name, _, _) in enumerate(skeletons) if name == self.skeleton.name]
        fitting = {k: order for k, order in orders.items() if order is not None and (not named or k in named)}
        if not fitting:
            self._order(path, skeletons[0][1])
        offset = 0.5 if float(file["metadata"].attrs.get("format_id", 1.0)) < _OFFSET_ENDS else 0.0
        instances, points = _table(path, file, "instances"), _table(path, file, "points")
        videos = [_video(path, text) for text in _texts(_table(path, file, "videos_json"))]
        listed = self._frames(path) if self.images is not None else {}
        counts |= {"predicted instances": int((instances["instance_type"] != _USER).sum())}
        out: list[AnnotatedImage] = []
        for frame in _table(path, file, "frames"):
            video, number = int(frame["video"]), int(frame["frame_idx"])
            place = f"{path} video {video} frame {number}"
            rows = []
            for row in instances[int(frame["instance_id_start"]) : int(frame["instance_id_end"])]:
                if row["instance_type"] != _USER:
                    continue
                if int(row["skeleton"]) not in fitting:
                    what = "objects of other skeletons"
                    counts[what] = counts.get(what, 0) + 1
                    continue
                own = points[int(row["point_id_start"]) : int(row["point_id_end"])]
                order = fitting[int(row["skeleton"])]
                if len(own) != len(order):
                    raise DataError(f"{place}: an instance of {len(own)} points, and its skeleton has {len(order)}")
                places = np.stack([own["x"], own["y"]], axis=-1).astype(np.float64) - offset
                rows.append(_keypoints(places[None], own["visible"][None].astype(bool))[0, order])
            keypoints = np.array(rows, dtype=np.float32).reshape(-1, len(self.skeleton), 3)
            keypoints = keypoints[(keypoints[..., 2] > 0).any(axis=1)]
            if not len(keypoints):
                continue  # frames that hold nothing but predictions are not labeled
            if self.images is None and not 0 <= video < len(videos):
                raise DataError(f"{place}: there are {len(videos)} videos")
            image = listed.get(number) if self.images is not None else _frame(path, videos[video], number, place)
            self._add(out, image, place, keypoints, counts)
        if self.images is not None and len({int(video) for video in _table(path, file, "frames")["video"]}) > 1:
            raise DataError(f"{path}: labels of several videos, so one folder of frames cannot serve; split the file")
        return out

    # ------------------------------------------------------------------ what both share

    def _add(
        self, out: list[AnnotatedImage], image: Path | None, place: str, keypoints: np.ndarray, counts: dict[str, int]
    ) -> None:
        if image is None:
            what = "labeled frames without an image in the folder"
            counts[what] = counts.get(what, 0) + 1
        else:
            out.append(boxless_entry(image, place, keypoints))

    def _order(self, path: Path, names: list[str]) -> list[int]:
        order = order_of(names, self.skeleton)
        if order is None:
            raise DataError(
                f"{path}: its nodes {shorten(names, 4)} are not the keypoints of skeleton {self.skeleton.name}; give "
                "the right one with --data.skeleton"
            )
        return order

    def _frames(self, path: Path) -> dict[int, Path]:
        """The images of a folder by the number at the end of their name."""
        if self.images is None:
            raise DataError(f"{path}: its labels belong to a video; give the folder of its frames with --data.images")
        out: dict[int, Path] = {}
        for image in list_images(self.images).files:
            found = re.search(r"(\d{1,12})$", image.stem)
            if found is None:
                continue
            number = int(found[1])
            if number in out:
                raise DataError(f"{self.images}: {out[number].name} and {image.name} are both frame {number}")
            out[number] = image
        if not out:
            raise DataError(
                f"{self.images}: no image whose name ends in the number of a frame, such as frame_00012.png"
            )
        return out


def _file(root: Path) -> Path:
    if root.is_dir():
        found = sorted(
            path
            for path in root.iterdir()
            if path.suffix.lower() in (".slp", ".h5") and path.name[0] != "." and path.is_file()
        )
        if len(found) != 1:
            raise DataError(f"{root}: {len(found)} files of SLEAP (.slp, .h5) in it; give the one with --data.root")
        return found[0]
    if not root.is_file():
        raise DataError(f"{root}: no such file; give --data.root a .slp file, or an analysis .h5")
    if root.suffix.lower() == ".json":
        raise DataError(f"{root}: SLEAP's json is not read; save the project as .slp")
    return root


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "tracks" not in file and not {"metadata", "frames", "instances", "points", "videos_json"} <= set(file):
                raise DataError(f"{path}: neither labels nor tracks of SLEAP; it holds {shorten(file) or 'nothing'}")
            yield file
    except (DataError, UsageError):
        raise
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError) as error:
        cause = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: cannot be read as SLEAP's HDF5 ({cause})") from None


def _chosen(root: Path, name: str) -> Any:
    """One skeleton of a file: a shipped one's name, or its content."""
    path = _file(root)
    with _opened(path) as file:
        if "tracks" in file:
            names = _texts(_table(path, file, "node_names"))
            pairs = np.asarray(_table(path, file, "edge_inds")).tolist() if "edge_inds" in file else []
            skeletons = [(path.stem, names, pairs)]
        else:
            skeletons = _skeletons(path, _metadata(path, file))
    known = [each for each, _, _ in skeletons]
    if name and name not in known:
        raise UsageError(
            f"--data.skeleton {name}: no shipped skeleton, and none in {path} (there: {shorten(known)})"
            f"{suggest(name, known)}"
        )
    if not name and len({tuple(names) for _, names, _ in skeletons}) > 1:
        raise DataError(f"{path}: several skeletons: {shorten(known)}; choose one with --data.skeleton {known[0]}")
    own, names, pairs = skeletons[known.index(name)] if name else skeletons[0]
    found = find_skeleton(names)
    if found is not None and order_of(names, found) == list(range(len(found))) and not name:
        return found.name
    whole: Skeleton = named_skeleton(names, [[a + 1, b + 1] for a, b in pairs], own, "animal")
    return plain(whole)


def _metadata(path: Path, file: Any) -> dict[str, Any]:
    top = json.loads(_texts([file["metadata"].attrs["json"]])[0])
    if (
        not isinstance(top, dict)
        or not isinstance(top.get("nodes"), list)
        or not isinstance(top.get("skeletons"), list)
    ):
        raise DataError(f"{path}: its metadata has no lists of nodes and skeletons")
    return top


def _skeletons(path: Path, metadata: dict[str, Any]) -> list[tuple[str, list[str], list[list[int]]]]:
    """Name, nodes and edges of each skeleton of a `.slp`."""
    names = [str(node.get("name") if isinstance(node, dict) else node) for node in metadata["nodes"]]
    out = []
    for number, each in enumerate(metadata["skeletons"]):
        each = each.get("nx_graph", each)
        nodes = [int(node["id"] if isinstance(node, dict) else node) for node in each["nodes"]]
        if not nodes or not all(0 <= node < len(names) for node in nodes):
            raise DataError(f"{path}: skeleton {number + 1} names nodes that are not there")
        pairs = [
            [nodes.index(int(edge["source"])), nodes.index(int(edge["target"]))]
            for edge in each.get("links") or ()
            if _kind(edge.get("type")) == _BODY
        ]
        name = (each.get("graph") or {}).get("name") or f"skeleton-{number}"
        out.append((str(name), [names[node] for node in nodes], pairs))
    if not out:
        raise DataError(f"{path}: it has no skeleton")
    return out


_BODY = 1  # an edge that is drawn; 2 states that two nodes are flipped counterparts


def _kind(given: Any) -> int:
    """The type of an edge: whole where it stands first in the file, later by its number."""
    if not isinstance(given, dict):
        return _BODY
    found = re.search(r'"py/tuple": \[(\d)', json.dumps(given))
    return int(found[1] if found else given.get("py/id", _BODY))


def _table(path: Path, file: Any, name: str) -> Any:
    if file[name].size > _MOST:
        raise DataError(f"{path}: {name} has {file[name].size} entries, over the limit of {_MOST}")
    return file[name][()]


def _texts(values: Any) -> list[str]:
    return [each.decode() if isinstance(each, bytes) else str(each) for each in values]


def _video(path: Path, text: str) -> dict[str, Any]:
    top = json.loads(text)
    backend = top.get("backend", top) if isinstance(top, dict) else None
    if not isinstance(backend, dict):
        raise DataError(f"{path}: a video is described by its backend")
    return backend


def _frame(path: Path, video: dict[str, Any], number: int, place: str) -> Path:
    """The image file of a frame of a video that is a list of images."""
    names = video.get("filenames") or video.get("filename")
    if not isinstance(names, list):
        what = "are embedded in the file" if video.get("dataset") else f"are those of {shorten([str(names)])}"
        raise DataError(
            f"{place}: its frames {what}; write them as images whose names end in their number, and give the folder "
            "with --data.images"
        )
    if not 0 <= number < len(names):
        raise DataError(f"{place}: the video has {len(names)} images")
    name = str(names[number])
    found = resolve_listed(path.parent, name)
    beside = resolve_listed(path.parent, re.split(r"[\\/]", name)[-1])  # written on another machine
    return beside if beside.is_file() and not found.is_file() else found


def _keypoints(places: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """(N, K, 3): 2 where a node is seen, 1 where it is hidden at a known place, zeros where it is not labeled."""
    labeled = np.isfinite(places).all(axis=-1) & (np.abs(np.nan_to_num(places)) < 1e7).all(axis=-1)
    seen = np.where(visible, 2, 1) * labeled
    return np.concatenate([np.where(labeled[..., None], places, 0), seen[..., None]], axis=-1).astype(np.float32)
