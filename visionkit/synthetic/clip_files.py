"""Writes drawn clips as MOTChallenge, DAVIS and ImageNet VID have theirs, so that readers can be tried on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from PIL import Image

from visionkit.drawing.object_masks import davis_palette
from visionkit.errors import EnvironmentFault, UsageError
from visionkit.synthetic.clip_world import ClipSettings
from visionkit.synthetic.clips import ClipFrame, make_clip
from visionkit.synthetic.files import FIRST, SPLITS, check_empty, fraction_out
from visionkit.synthetic.scene import OBJECT_CLASSES
from visionkit.trajectories.pose_files import kitti_text

RATE = 10
"""Frames per second that the clips state."""

MIN_VISIBILITY = 0.1
"""Objects that are seen less are left out of MOTChallenge's count; nobody could find them."""

_README = """Drawn clips: {count} of {length} frames, {height} x {width} pixels (height x width), seed {seed}.

They were made by `visionkit scenes --clips {count}` and are free of anybody's rights. Splits: {splits}.

mot/<split>/<clip>/img1/NNNNNN.jpg         MOTChallenge; gt/gt.txt has whole boxes, hidden parts included, ids, class 1
                                           whatever the object, and visibility; seqinfo.ini; intrinsics.txt has fx,
                                           fy, cx and cy of the camera in pixels, poses.txt its pose in each frame as
                                           KITTI's text (camera to world, meters)
davis/JPEGImages/480p/<clip>/NNNNN.jpg     DAVIS; Annotations/480p/<clip>/NNNNN.png has the id of each pixel, by a
                                           palette; ImageSets/2017/<split>.txt names the clips
vid/Data/VID/<split>/<clip>/NNNNNN.JPEG    ImageNet VID; Annotations/VID/<split>/<clip>/NNNNNN.xml has boxes of what is
                                           seen with class, trackid, occluded and generated; ImageSets/VID/<split>.txt
"""


def write_clips(
    out: str | Path,
    count: int = 20,
    seed: int = 0,
    settings: ClipSettings | None = None,
    splits: Mapping[str, float] = SPLITS,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Writes the same clips in three layouts: the folders `mot`, `davis` and `vid`.

    Args:
        out: A folder that does not exist yet or is empty.
        count: Clips over all splits.
        seed: Another seed gives other clips.
        settings: How they are drawn.
        splits: Fraction of each split among `train`, `val`, `test`; each gets at least one clip.
        progress: Called with clips written and their total.

    Returns:
        Number of clips by split.

    Raises:
        UsageError: The folder holds something, or there are fewer clips than splits.
        EnvironmentFault: It cannot be written.
    """
    folder, settings = Path(out), settings or ClipSettings()
    if count < len(splits):
        raise UsageError(f"--clips {count}: at least {len(splits)} clips are needed, one per split")
    check_empty(folder)
    numbers, done = fraction_out(count, splits), 0
    try:
        for split, number in numbers.items():
            names = [f"{split}_{k:04d}" for k in range(number)]
            for k, name in enumerate(names):
                clip = make_clip(seed, FIRST[split] + k, settings)
                frames = [clip.frame(position) for position in range(len(clip))]
                write_mot_sequence(folder / "mot" / split / name, frames)
                write_camera_files(folder / "mot" / split / name, frames)
                write_davis_sequence(folder / "davis", name, frames)
                write_vid_sequence(folder / "vid", split, name, frames)
                done += 1
                if progress is not None:
                    progress(done, count)
            _write(folder / "davis/ImageSets/2017" / f"{split}.txt", names)
            every = [f"{name}/{position:06d}" for name in names for position in range(settings.length)]
            _write(folder / "vid/ImageSets/VID" / f"{split}.txt", (f"{name} {k}" for k, name in enumerate(every, 1)))
        fractions = ", ".join(f"{name} {number}" for name, number in numbers.items())
        height, width = settings.size
        values = {"count": count, "length": settings.length, "height": height, "width": width, "seed": seed}
        (folder / "README.txt").write_text(_README.format(splits=fractions, **values))
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot write the clips ({error.strerror or error})") from error
    return numbers


def write_mot_sequence(folder: Path, frames: Sequence[ClipFrame]) -> None:
    """Writes one sequence of MOTChallenge.

    Args:
        folder: Folder of the sequence.
        frames: Its frames.
    """
    lines = []
    for number, frame in enumerate(frames, 1):
        _save(folder / "img1" / f"{number:06d}.jpg", frame.image)
        for each in frame.objects:
            x1, y1, x2, y2 = each.whole.tolist()
            counted = int(each.visibility >= MIN_VISIBILITY)
            place = f"{x1 + 1:g},{y1 + 1:g},{x2 - x1:g},{y2 - y1:g}"
            lines.append(f"{number},{each.id},{place},{counted},1,{each.visibility:.4f}")
    _write(folder / "gt/gt.txt", lines)
    height, width = frames[0].ids.shape
    info = {"name": folder.name, "imDir": "img1", "frameRate": RATE, "seqLength": len(frames)}
    info |= {"imWidth": width, "imHeight": height, "imExt": ".jpg"}
    _write(folder / "seqinfo.ini", ["[Sequence]", *(f"{key}={value}" for key, value in info.items())])


def write_camera_files(folder: Path, frames: Sequence[ClipFrame]) -> None:
    """Writes what is known of the camera: `intrinsics.txt`, fx, fy, cx and cy in pixels, and KITTI's `poses.txt`.

    Args:
        folder: Folder of the sequence.
        frames: Its frames.
    """
    _write(folder / "intrinsics.txt", [" ".join(f"{value:.9g}" for value in frames[0].camera)])
    _write(folder / "poses.txt", kitti_text([frame.pose for frame in frames]).splitlines())


def write_davis_sequence(root: Path, name: str, frames: Sequence[ClipFrame]) -> None:
    """Writes one sequence of DAVIS.

    Args:
        root: Folder of `JPEGImages` and `Annotations`.
        name: Name of the sequence.
        frames: Its frames.
    """
    palette = davis_palette().ravel().tolist()
    for number, frame in enumerate(frames):
        _save(root / "JPEGImages/480p" / name / f"{number:05d}.jpg", frame.image)
        path = root / "Annotations/480p" / name / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        indexed = Image.fromarray(frame.ids).convert("P")
        indexed.putdata(frame.ids.ravel().tolist())
        indexed.putpalette(palette)
        indexed.save(path)


def write_vid_sequence(root: Path, split: str, name: str, frames: Sequence[ClipFrame]) -> None:
    """Writes one snippet of ImageNet VID. Its coordinates count pixels from 0 and include the last one.

    Args:
        root: Folder of `Data` and `Annotations`.
        split: Its split.
        name: Name of the snippet.
        frames: Its frames.
    """
    for number, frame in enumerate(frames):
        _save(root / "Data/VID" / split / name / f"{number:06d}.JPEG", frame.image)
        path = root / "Annotations/VID" / split / name / f"{number:06d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        top = Element("annotation")
        for key, value in (("folder", f"{split}/{name}"), ("filename", f"{number:06d}")):
            SubElement(top, key).text = value
        size = SubElement(top, "size")
        SubElement(size, "width").text, SubElement(size, "height").text = map(str, frame.ids.shape[::-1])
        for each in frame.objects:
            entry = SubElement(top, "object")
            x1, y1, x2, y2 = map(int, each.box.tolist())
            SubElement(entry, "trackid").text = str(each.id - 1)
            SubElement(entry, "name").text = OBJECT_CLASSES[each.label]
            box = SubElement(entry, "bndbox")
            for key, side in (("xmax", x2 - 1), ("xmin", x1), ("ymax", y2 - 1), ("ymin", y1)):
                SubElement(box, key).text = str(side)
            SubElement(entry, "occluded").text = str(int(each.visibility < 0.9))
            SubElement(entry, "generated").text = "0"
        indent(top)
        ElementTree(top).write(path, encoding="unicode")


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="jpeg", quality=95, subsampling=0)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
