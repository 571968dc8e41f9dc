"""Every kind of fault that the examination of data finds: how severe it is, what it is and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from visionkit.errors import UsageError, suggest

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error spoils training or evaluation, a warning is most likely a mistake, a note is worth knowing."""


class Kind(NamedTuple):
    """One kind of fault.

    Attributes:
        name: What `--select` and `--ignore` take.
        severity: See `SEVERITIES`.
        unit: What is counted, in the singular.
        advice: What to do about it.
    """

    name: str
    severity: Severity
    unit: str
    advice: str


_ALL = (
    # Files of images.
    Kind("missing-image", "error", "image", "restore the file, or take its entry out of the label file"),
    Kind("empty-file", "error", "image", "copy or download the file again"),
    Kind("unreadable-image", "error", "image", "copy or download the file again, or leave the image out"),
    Kind("wrong-orientation", "error", "image", "turn the image or its labels by a quarter, so that both agree"),
    Kind(
        "size-mismatch",
        "error",
        "image",
        "take the labels or the other image of this very file, or correct the size that labels state",
    ),
    Kind("exif-orientation", "warning", "image", "EXIF turns these images: check that labels were made on them turned"),
    Kind("wrong-file-type", "note", "image", "the content decides; rename the file if other programs go by its ending"),
    Kind("blank-image", "warning", "image", "inspect it, and leave it out if it shows nothing"),
    Kind("tiny-image", "warning", "image", "inspect it: a thumbnail may have come in place of the image"),
    Kind("odd-channels", "note", "image", "gray among color or color among gray: check that they are of one source"),
    Kind("unusual-brightness", "note", "split", "set model.input.white where 16-bit or float images use a part of it"),
    Kind("enlarged-images", "note", "split", "choose a smaller model.input.size: enlarging adds cost and no detail"),
    # Classes.
    Kind("unknown-class", "error", "class", "correct the name, or add it to data.classes"),
    Kind("similar-classes", "warning", "class pair", "make them one class if one is a typing error"),
    Kind("absent-class", "warning", "class", "label some of it, or take it out of data.classes"),
    Kind("unseen-class", "warning", "class", "move some of its images into training: it cannot be learned otherwise"),
    Kind("imbalance", "warning", "split", "consider class weights, or data.repeat_threshold for rare classes"),
    Kind("class-shift", "warning", "split", "split again, class by class, so that all splits have one mixture"),
    Kind("conflicting-labels", "error", "image group", "inspect the copies and keep the label that is right"),
    # Label files.
    Kind("refused", "error", "split", "training stops with this message"),
    Kind("broken-label", "error", "entry", "correct or remove the entry"),
    Kind("duplicate-entry", "error", "entry", "keep one of the two"),
    Kind("missing-label", "error", "image", "add the label file, or leave the image out"),
    # Boxes.
    Kind("degenerate-box", "error", "box", "draw the box again or remove it"),
    Kind("box-outside-image", "error", "box", "check whether it belongs to another image; draw it again or remove it"),
    Kind("box-beyond-image", "warning", "box", "clip the box at the border; training clips it too"),
    Kind("fractional-boxes", "error", "split", "multiply x by the image's width and y by its height"),
    Kind("corners-as-size", "error", "split", "write x, y, width, height, not two corners"),
    Kind("tiny-object", "warning", "object", "inspect it: a click may have made a box"),
    Kind("duplicate-annotation", "warning", "object", "remove one of the two"),
    Kind("conflicting-annotation", "warning", "object", "keep the class that is right, unless objects have several"),
    # Outlines.
    Kind("self-crossing-polygon", "warning", "outline", "draw the outline again"),
    Kind("degenerate-polygon", "error", "outline", "draw the outline again or remove it"),
    Kind("outline-beyond-image", "warning", "outline", "clip the outline at the border"),
    Kind("outline-box-mismatch", "error", "object", "make the box again of the outline"),
    Kind("missing-outline", "warning", "object", "draw the outline, or train on boxes (data.target boxes)"),
    Kind("area-mismatch", "warning", "object", "write the area of the outline: it decides small, medium and large"),
    # Keypoints.
    Kind("keypoint-visibility", "error", "person", "write 0 for not labeled, 1 for hidden, 2 for visible"),
    Kind("keypoint-at-origin", "warning", "person", "write visibility 0 for what is not labeled"),
    Kind("unlabeled-keypoint-placed", "note", "person", "write 0, 0 where the visibility is 0, or the visibility"),
    Kind("keypoint-outside-image", "warning", "person", "move the keypoint, or write visibility 0"),
    Kind("keypoint-outside-box", "warning", "person", "check that box and keypoints are of one person"),
    Kind("coincident-keypoints", "warning", "person", "move one of them, or write visibility 0"),
    Kind("fractional-keypoints", "error", "split", "multiply x by the image's width and y by its height"),
    # Maps.
    Kind("stray-value", "error", "label map", "name the value in data.classes or data.values, or in data.ignore"),
    Kind("empty-label-map", "warning", "label map", "leave it out: every pixel is ignored"),
    Kind("interpolated-label-map", "warning", "label map", "resize label maps by nearest value, and save them as png"),
    Kind("depth-unit", "warning", "split", "set data.units_per_meter"),
    Kind("no-depth", "warning", "depth map", "leave it out: no pixel is measured"),
    Kind("invalid-depth", "error", "depth map", "write 0 where nothing is measured"),
    Kind("constant-depth", "warning", "depth map", "inspect it: a failed measurement gives one value"),
    Kind("invalid-flow", "error", "flow", "mark such pixels as not valid"),
    Kind("flow-too-long", "warning", "flow", "check the scale of the file: it leads out of the image"),
    Kind("invalid-disparity", "error", "disparity map", "write 0 where nothing is known"),
    # Pairs.
    Kind("resolution-mismatch", "error", "pair", "give each image the low resolution that was made of it"),
    Kind("pair-mismatch", "error", "pair", "give each clean image the degraded one that was made of it"),
    Kind("identical-pair", "warning", "pair", "check the files: the second image is a copy of the first"),
    Kind("match-contradiction", "error", "pair", "correct the label: equal patches show the same point"),
    Kind("invalid-intrinsics", "error", "image", "give fx, fy, cx, cy in pixels of this image"),
    # Identities.
    Kind("identity-leak", "error", "person", "keep each person in one split"),
    Kind("single-image-identity", "note", "person", "add images of them: one image can be compared with nothing"),
    # Splits.
    Kind("shared-image", "error", "pair", "remove the image from one of the splits"),
    Kind("near-duplicate-across", "warning", "pair", "keep copies in one split: evaluation on them means little"),
    Kind("flipped-duplicate-across", "warning", "pair", "keep flipped copies in one split"),
    Kind("sequence-leak", "warning", "sequence", "keep each video in one split: its frames are alike"),
    Kind("duplicate-image", "warning", "image group", "keep one of them: a random split separates copies"),
    Kind("near-duplicate", "note", "image group", "keep them in one split, or one of them"),
    Kind("similar-images", "note", "image group", "inspect them: their features are nearly the same"),
    # The network that is to be trained.
    Kind("small-objects", "warning", "split", "choose a larger model.input.size or a network with finer strides"),
    Kind("anchors-misfit", "warning", "split", "choose other anchors, or a network without them"),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""By name, in the order of reports."""


def chosen_kinds(select: Iterable[str] = (), ignore: Iterable[str] = ()) -> frozenset[str]:
    """The kinds that are looked for.

    Args:
        select: Names, or severities; all kinds where empty.
        ignore: Names, or severities, that are left out.

    Raises:
        UsageError: A name that is none.
    """

    def named(option: str, names: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for name in names:
            of_severity = {kind.name for kind in _ALL if name in (kind.severity, f"{kind.severity}s")}
            if not of_severity and name not in KINDS:
                allowed = (*KINDS, *SEVERITIES)
                raise UsageError(f"{option} {name}: no kind of finding (--list states them){suggest(name, allowed)}")
            found |= of_severity or {name}
        return found

    return frozenset((named("--select", select) or set(KINDS)) - named("--ignore", ignore))
