"""How the public sets of stereo pairs lie in folders; each layout is found by what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.disparity_files import DISPARITY_SUFFIXES
from datamodules.pairing import pair_by_name
from datamodules.splits import SPLITS, find_split, split_of
from visionkit.data import Split
from visionkit.errors import DataError
from visionkit.listing import Listing, list_files, list_folders, list_images

Occlusion = Literal["none", "noc", "mask"]


class StereoFiles(NamedTuple):
    """The files of one pair.

    Attributes:
        left: The left image.
        right: The right image.
        disparity: Disparity of the left image.
        split: The split that the layout states, else `train`.
        right_disparity: Disparity of the right image, where there is one.
        scale: Numbers of the disparity files that stand for a pixel; None: see `read_disparity`.
        visible: Where the layout states occlusion, the file of it: disparity of visible pixels alone (KITTI), or a mask
            of 255 for visible and 128 for occluded ones (Middlebury, ETH3D).
        occlusion: Which of the two it is.
    """

    left: Path
    right: Path
    disparity: Path
    split: Split = "train"
    right_disparity: Path | None = None
    scale: float | None = None
    visible: Path | None = None
    occlusion: Occlusion = "none"


_SCENES = (
    # left, right, disparity of the left and of the right image, numbers for a pixel
    ("im0", "im1", ("disp0GT", "disp0"), ("disp1GT", "disp1"), None),  # Middlebury 2014 and its evaluation, ETH3D
    ("im2", "im6", ("disp2",), ("disp6",), 4.0),  # Middlebury 2001 and 2003 in quarter size
    ("view1", "view5", ("disp1",), ("disp5",), None),  # Middlebury 2005 and 2006; the scale follows from the size
)

_KITTI = (
    ("image_2", "image_3", "disp_occ_0", "disp_noc_0"),  # 2015
    ("colored_0", "colored_1", "disp_occ", "disp_noc"),  # 2012
    ("image_0", "image_1", "disp_occ", "disp_noc"),  # 2012 in gray
)

LAYOUTS = (
    "left/, right/ and disparity/ with files of one name, below train/, val/ and test/ where there are splits; "
    "Middlebury's and ETH3D's scenes (im0, im1, disp0; im2, im6, disp2; view1, view5, disp1); KITTI's image_2, image_3 "
    "and disp_occ_0, or colored_0, colored_1 and disp_occ; SceneFlow's frames_cleanpass and disparity"
)


def find_pairs(root: Path, rendering: str = "frames_cleanpass") -> list[StereoFiles]:
    """All pairs of the first layout that is there.

    Args:
        root: The folder.
        rendering: Folder of SceneFlow's images.

    Raises:
        DataError: No such folder, no pairs, or an image without its partner.
    """
    if not str(root) or not root.is_dir():
        raise DataError(f"{root}: no such folder; give --data.root")
    layouts: tuple[Callable[[], Iterator[StereoFiles]], ...] = (
        lambda: _scene_flow(root, rendering),
        lambda: _kitti(root),
        lambda: _folders(root),
        lambda: _scenes(root),
    )
    for layout in layouts:
        if found := list(layout()):
            return found
    raise DataError(f"{root}: no stereo pairs; the layouts are {LAYOUTS}")


def _scenes(root: Path) -> Iterator[StereoFiles]:
    """One folder per scene, at most two levels deep."""
    folders = [root, *list_folders(root)]
    folders += [inner for folder in folders[1:] for inner in list_folders(folder)]
    for folder in folders:
        for left, right, of_left, of_right, scale in _SCENES:
            ours = _file(folder, (left,))
            disparity = _file(folder, of_left, DISPARITY_SUFFIXES)
            if ours is None or disparity is None:
                continue
            theirs = _file(folder, (right,))
            if theirs is None:
                raise DataError(f"{folder}: {ours.name} is there, and its partner {right} is not")
            mask = _file(folder, ("mask0nocc",)) if left == "im0" else None
            split = _split_below(folder, root)
            other = _file(folder, of_right, DISPARITY_SUFFIXES)
            is_8_bit = disparity.suffix.lower() not in (".pfm", ".npy")
            yield StereoFiles(
                *(ours, theirs, disparity, split, other, scale if is_8_bit else None, mask, "mask" if mask else "none")
            )
            break


def _file(
    folder: Path, names: tuple[str, ...], endings: tuple[str, ...] = (".png", ".ppm", ".pgm", ".jpg")
) -> Path | None:
    candidates = (folder / f"{name}{ending}" for name in names for ending in endings)
    return next((path for path in candidates if path.is_file()), None)


def _split_below(folder: Path, root: Path) -> Split:
    names = [root.name, *folder.relative_to(root).parts]
    return next((split for name in reversed(names) if (split := split_of(name))), "train")


def _kitti(root: Path) -> Iterator[StereoFiles]:
    top = root / "training" if (root / "training").is_dir() else root
    for left, right, occluded, visible in _KITTI:
        if not all((top / name).is_dir() for name in (left, right, occluded)):
            continue
        disparity = list_files(top / occluded, DISPARITY_SUFFIXES, kind="a disparity file", deep=False)
        names = {path.stem for path in disparity.files}
        # The second frame of each scene, and others that were not measured, lie in the same folders.
        images = [
            Listing(top / name, [path for path in list_images(top / name).files if path.stem in names])
            for name in (left, right)
        ]
        ours = pair_by_name(disparity, images[0], "left image").pairs
        theirs = dict(pair_by_name(disparity, images[1], "right image").pairs)
        for path, image in ours:
            nearer = top / visible / path.name
            there = nearer if nearer.is_file() else None
            yield StereoFiles(image, theirs[path], path, visible=there, occlusion="noc" if there else "none")
        return


def _scene_flow(root: Path, rendering: str) -> Iterator[StereoFiles]:
    images, disparities = root / rendering, root / "disparity"
    if not (images.is_dir() and disparities.is_dir()):
        return
    listing = list_images(images)
    left = [path for path in listing.files if path.parent.name == "left"]
    for path in left:
        place = path.relative_to(images)
        other = place.parent.parent / "right" / place.name
        disparity, back = ((disparities / each).with_suffix(".pfm") for each in (place, other))
        for what, partner in (("right image", images / other), ("disparity", disparity)):
            if not partner.is_file():
                raise DataError(f"{path}: no {what} {partner}")
        split = split_of(place.parts[0]) or "train"
        yield StereoFiles(path, images / other, disparity, split, back if back.is_file() else None)


def _folders(root: Path) -> Iterator[StereoFiles]:
    for split in (None, *SPLITS):
        folder = root if split is None else find_split(root, "{split}", split)
        if folder is None or not all((folder / name).is_dir() for name in ("left", "right", "disparity")):
            continue
        images = list_images(folder / "left")
        theirs = dict(pair_by_name(images, list_images(folder / "right"), "right image").pairs)
        listed = list_files(folder / "disparity", DISPARITY_SUFFIXES, kind="a disparity file")
        truth = pair_by_name(images, listed, "disparity file").pairs
        for image, disparity in truth:
            place = image.relative_to(folder / "left")
            below = split_of(place.parts[0]) if len(place.parts) > 1 else None
            yield StereoFiles(image, theirs[image], disparity, split or below or "train")
        if split is None:
            return
