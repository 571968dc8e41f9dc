"""Where the sets of optical flow have their images and their truth."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from datamodules.class_names import shorten
from datamodules.flow_files import FLOW_SUFFIXES
from datamodules.pairing import pair_by_name
from datamodules.splits import split_of
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import Listing, list_files, list_folders, list_images
from visionkit.text_files import read_lines

CHAIRS_SPLIT = ("FlyingChairs_train_val.txt", "train_val.txt")
"""Names of the list that states for every pair of FlyingChairs 1 for training or 2 for validation."""

KITTI_IMAGES = ("image_2", "colored_0", "image_0")
"""Folders of the left camera: KITTI 2015, and KITTI 2012 in color and in gray."""


class FlowPair(NamedTuple):
    """The files of one pair.

    Attributes:
        first: Path of the first image.
        second: Path of the second image.
        flow: Path of the true flow from the first to the second.
        sequence: Name of the scene that they belong to; empty where they are independent.
        split: Split that the data names for it.
        occluded: Path of an image that is not black where the second image does not show the point.
        invalid: Path of an image that is not black where the flow does not count.
        visible_flow: Path of the true flow of what is not occluded, in place of `occluded`.
    """

    first: Path
    second: Path
    flow: Path
    sequence: str = ""
    split: Split | None = None
    occluded: Path | None = None
    invalid: Path | None = None
    visible_flow: Path | None = None


Layout = Callable[[Path, str], "list[FlowPair] | None"]
"""Takes the root and, of Sintel, the rendering; None where the folder is not of this layout."""


def sintel(root: Path, rendering: str) -> list[FlowPair] | None:
    """MPI Sintel (Butler et al., 2012): `training/{clean,final}/SCENE/frame_NNNN.png`, `flow`, masks beside them."""
    top = next((each for each in (root / "training", root) if (each / "flow").is_dir()), None)
    if top is None or not any((top / each).is_dir() for each in ("clean", "final")):
        return None
    images = top / rendering
    if not images.is_dir():
        raise DataError(f"{images}: no such folder; Sintel has the renderings clean and final: set --data.rendering")
    found = []
    for flow in _flows(top / "flow"):
        scene = flow.parent.name
        first = images / scene / f"{flow.stem}.png"
        second = first.with_name(_counted_on(flow.stem) + ".png")
        masks = (top / each / scene / f"{flow.stem}.png" for each in ("occlusions", "invalid"))
        occluded, invalid = (path if path.is_file() else None for path in masks)
        found.append(FlowPair(first, second, flow, scene, None, occluded, invalid))
    return found


def chairs(root: Path, rendering: str) -> list[FlowPair] | None:
    """FlyingChairs (Dosovitskiy et al., 2015): `NNNNN_img1.ppm`, `NNNNN_img2.ppm`, `NNNNN_flow.flo` and its list."""
    top = next((each for each in (root / "data", root) if any(each.glob("*_flow.flo"))), None)
    if top is None:
        return None
    flows = [path for path in _flows(top) if path.stem.endswith("_flow")]
    splits: list[Split | None] = [None] * len(flows)
    listed = next((each / name for each in (root, top) for name in CHAIRS_SPLIT if (each / name).is_file()), None)
    if listed is not None:
        lines = read_lines(listed)
        wrong = next((number for number, line in lines if line not in ("1", "2")), None)
        if wrong is not None:
            raise DataError(f"{listed} line {wrong}: 1 is training and 2 validation, and nothing else")
        if len(lines) != len(flows):
            raise DataError(f"{listed}: {len(lines)} lines, and {top} has {len(flows)} pairs; each has one line")
        splits = ["train" if line == "1" else "val" for _, line in lines]
    names = [path.stem.removesuffix("_flow") for path in flows]
    return [
        FlowPair(_image(top, f"{name}_img1"), _image(top, f"{name}_img2"), flow, split=split)
        for name, flow, split in zip(names, flows, splits, strict=True)
    ]


def kitti(root: Path, rendering: str) -> list[FlowPair] | None:
    """KITTI 2012 and 2015 (Geiger et al., 2012; Menze & Geiger, 2015): `NNNNNN_10.png`, `_11.png` and `flow_occ`."""
    top = next((each for each in (root / "training", root) if (each / "flow_occ").is_dir()), None)
    if top is None:
        return None
    images = next((top / each for each in KITTI_IMAGES if (top / each).is_dir()), None)
    if images is None:
        raise DataError(f"{top}: none of the folders {', '.join(KITTI_IMAGES)}, which have the images")
    found = []
    for flow in _flows(top / "flow_occ"):
        visible = top / "flow_noc" / flow.name
        second = images / f"{_counted_on(flow.stem)}.png"
        found.append(FlowPair(images / flow.name, second, flow, visible_flow=visible if visible.is_file() else None))
    return found


def middlebury(root: Path, rendering: str) -> list[FlowPair] | None:
    """Middlebury (Baker et al., 2011): `frame10.png`, `frame11.png` and `flow10.flo`, in one folder or one per scene.

    The sets as they are published have images and truth apart: `other-data*/SCENE/` and `other-gt-flow/SCENE/`.
    """
    top = root / "other-gt-flow" if (root / "other-gt-flow").is_dir() else root
    flows = [each / "flow10.flo" for each in (top, *(list_folders(top) if top.is_dir() else ()))]
    flows = [path for path in flows if path.is_file()]
    if not flows:
        return None
    apart = [each for each in list_folders(root) if each.name.startswith("other-") and each != top]
    found = []
    for flow in flows:
        homes = [flow.parent, *(each / flow.parent.name for each in apart)]
        home = next((each for each in homes if (each / "frame10.png").is_file()), flow.parent)
        found.append(FlowPair(home / "frame10.png", home / "frame11.png", flow, flow.parent.name))
    return found


def folders(root: Path, rendering: str) -> list[FlowPair] | None:
    """Folders `first`, `second` and `flow`, whose files are paired by name, with `train`, `val` and `test` in them."""
    if not all((root / each).is_dir() for each in ("first", "second", "flow")):
        return None
    images = list_images(root / "first")
    second = dict(pair_by_name(images, list_images(root / "second"), "second image").pairs)
    flow = dict(pair_by_name(images, _listed(root / "flow"), "flow file").pairs)
    return [FlowPair(path, second[path], flow[path], split=_split(path, images.root)) for path in images.files]


def frames(root: Path, rendering: str) -> list[FlowPair] | None:
    """Folders `frames` and `flow`: the flow of each frame to the next of its folder, under the name of the frame."""
    if not all((root / each).is_dir() for each in ("frames", "flow")):
        return None
    images, flows = list_images(root / "frames"), _listed(root / "flow")
    follower = {a: b for a, b in zip(images.files, images.files[1:], strict=False) if a.parent == b.parent}
    by_name = {path.relative_to(images.root).with_suffix("").as_posix(): path for path in images.files}
    found = []
    for flow in flows.files:
        first = by_name.get(flow.relative_to(flows.root).with_suffix("").as_posix())
        if first is None or first not in follower:
            raise DataError(f"{flow}: no frame of that name in {images.root}, or none after it")
        found.append(FlowPair(first, follower[first], flow, first.parent.name, _split(first, images.root)))
    return found


LAYOUTS: dict[str, Layout] = {
    "sintel": sintel,
    "chairs": chairs,
    "kitti": kitti,
    "middlebury": middlebury,
    "folders": folders,
    "frames": frames,
}
"""Layouts by name, in the order in which they are tried."""


def find_pairs(root: Path, layout: str | None, rendering: str) -> tuple[str, list[FlowPair]]:
    """The pairs below a folder, every file of them checked to be there.

    Args:
        root: The folder.
        layout: Name of the layout; the first that fits by default.
        rendering: Of Sintel, `clean` or `final`.

    Returns:
        Name of the layout and its pairs in a fixed order.

    Raises:
        DataError: No pairs, or some without a partner.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give --data.root")
    for name in LAYOUTS if layout is None else (layout,):
        pairs = LAYOUTS[name](root, rendering)
        if pairs:
            missing = [path for pair in pairs for path in pair[:3] if not path.is_file()]
            if missing:
                names = shorten((path.relative_to(root).as_posix() for path in missing), 3)
                raise DataError(f"{root}: missing of {len(pairs)} pairs ({name}): {names}")
            return name, pairs
    known = f"layout {layout}" if layout else f"any of the layouts {', '.join(LAYOUTS)}"
    raise DataError(f"{root}: no pairs of images with flow in {known}; see the page of optical flow")


def _flows(folder: Path) -> Iterator[Path]:
    yield from _listed(folder).files


def _listed(folder: Path) -> Listing:
    return list_files(folder, FLOW_SUFFIXES, kind="a flow file")


def _image(folder: Path, stem: str) -> Path:
    """The image of that name, of whatever type; where there is none, as the set has it."""
    types = (".ppm", ".png", ".jpg", ".webp")
    return next((path for each in types if (path := folder / (stem + each)).is_file()), folder / f"{stem}.ppm")


def _counted_on(stem: str) -> str:
    """The name of the next frame: its last number is one higher, with as many digits."""
    match = re.fullmatch(r"(.*?)(\d+)", stem)
    if match is None:
        raise DataError(f"{stem}: the name of a frame ends in its number")
    return f"{match[1]}{int(match[2]) + 1:0{len(match[2])}d}"


def _split(path: Path, root: Path) -> Split | None:
    """The split that the first folder below the root names."""
    parts = path.relative_to(root).parts
    return split_of(parts[0]) if len(parts) > 1 else None
