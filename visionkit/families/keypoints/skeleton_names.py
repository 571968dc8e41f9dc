"""Skeletons by the names of their keypoints: found among the shipped ones, made from a COCO label file, written out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionkit.errors import DataError, UsageError, suggest
from visionkit.skeleton import Skeleton, shipped
from visionkit.text_files import read_json

BY_COUNT = {5: "face5", 17: "coco17", 21: "hand21", 29: "cofw29", 68: "300w68", 98: "wflw98", 133: "wholebody133"}
"""What so many keypoints that nobody names are taken for."""


WHOLE_BODY = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""COCO-WholeBody's lists, in the order of its keypoints."""

WHOLE_COUNT = 133


def plain_name(name: str) -> str:
    """A keypoint's name as tools write it differently: `Right Shoulder`, `Right-shoulder`, `root (pelvis)`."""
    return re.sub(r"[^0-9a-z]+", "_", str(name).lower()).strip("_")


def find_skeleton(names: Sequence[str]) -> Skeleton | None:
    """The shipped skeleton with these keypoints: in this order where there is one, else in any; or None."""
    plain = [plain_name(name) for name in names]
    same = []
    for each in map(Skeleton.of, shipped()):
        known = [plain_name(name) for name in each.keypoints]
        if known == plain:
            return each
        if sorted(known) == sorted(plain):
            same.append(each)
    return same[0] if same else None


def order_of(names: Sequence[str], skeleton: Skeleton) -> list[int] | None:
    """Where each keypoint of a skeleton stands among these names; None where one of them is missing or too many."""
    place = {plain_name(name): number for number, name in enumerate(names)}
    wanted = [plain_name(name) for name in skeleton.keypoints]
    return [place[name] for name in wanted] if sorted(place) == sorted(wanted) else None


def named_skeleton(
    names: Sequence[str], edges: Sequence[Sequence[int]] = (), name: str = "own", subject: str = "person"
) -> Skeleton:
    """A skeleton of these keypoints; left and right that differ in nothing else are flipped counterparts of each other.

    Args:
        names: Names of the keypoints.
        edges: Pairs of numbers as COCO's `skeleton` has them, which begin at 1; where one is 0, at 0. Pairs that name
            no keypoint are left out: CrowdPose's own are those of COCO.
        name: Name of the skeleton.
        subject: What has the keypoints.
    """
    first = 0 if any(0 in pair for pair in edges) else 1
    known = [(a - first, b - first) for a, b in edges if a != b]
    if not all(0 <= number < len(names) for pair in known for number in pair):
        known = []
    return Skeleton(
        name=name,
        keypoints=tuple(names),
        flip_pairs=tuple(_flip_pairs(names)),
        edges=tuple((names[a], names[b]) for a, b in known),  # type: ignore[misc]  # made an Edge by the skeleton
        subject=subject,
    )


def _flip_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    by_plain = {plain_name(name): name for name in names}
    out = []
    for plain, name in by_plain.items():
        for left, right in (("left", "right"), ("l", "r")):
            words = plain.split("_")
            if left in words:
                other = by_plain.get("_".join(right if word == left else word for word in words))
                if other is not None:
                    out.append((name, other))
                    break
    return out


def is_own(given: Any) -> bool:
    """Whether what was given as a skeleton is neither a shipped name nor a yaml file, but a name in the label file."""
    return isinstance(given, str) and not given.endswith((".yaml", ".yml")) and given not in shipped()


def category_skeleton(
    path: Path, fallback: str = "", whole: bool = False, category: str = "", option: str = "--data.skeleton"
) -> tuple[Skeleton, list[str]]:
    """The skeleton that a COCO label file's keypoints are of, and what is to be stated about it.

    Args:
        path: The label file.
        fallback: Shipped skeleton of a file that names no keypoints and whose annotations do not state how many.
        whole: Take COCO-WholeBody's files for whole bodies; otherwise for the 17 keypoints that their categories name.
        category: The category whose keypoints are meant, where they have different ones; the skeleton has its name.
        option: Which chooses it, for the message.

    Raises:
        DataError: The file cannot be read, names no keypoints, or different ones for its categories.
        UsageError: No such category.
    """
    if category:
        from dataclasses import replace

        names, edges, subject = category_keypoints(path, category, option)
        found, notes = _by_names(path, names, edges, subject)
        return replace(found, name=category, subject=category), notes
    names, edges, subject = category_keypoints(path, option=option)
    if whole and _count(path) == WHOLE_COUNT:
        return Skeleton.of(BY_COUNT[WHOLE_COUNT]), []  # its categories name the body alone
    if names:
        return _by_names(path, names, edges, subject)
    count = _count(path)
    if count in BY_COUNT:
        name = BY_COUNT[count]
        message = f"{path}: its {count} keypoints have no names; they are taken for those of skeleton {name}"
        return Skeleton.of(name), [] if name == fallback else [message]
    if fallback:
        return Skeleton.of(fallback), []
    raise DataError(f"{path}: its categories name no keypoints; give their skeleton, by name or as a yaml file")


def _by_names(path: Path, names: list[str], edges: list[list[int]], subject: str) -> tuple[Skeleton, list[str]]:
    found = find_skeleton(names)
    if found is not None and order_of(names, found) == list(range(len(found))):
        return found, []
    own = named_skeleton(names, edges, path.stem, subject)
    if found is None:
        message = f"{path}: no shipped skeleton has its {len(names)} keypoints; its own names and edges are taken"
        return own, [message]
    order = order_of(names, found)
    if order is None or found.sigmas is None:
        return own, []
    sigmas = [0.0] * len(names)
    for number, place in enumerate(order):
        sigmas[place] = found.sigmas[number]
    return _with_sigmas(own, sigmas, found.name), []


def _count(path: Path) -> int:
    """How many keypoints the first annotation with some has."""
    top = read_json(path)
    for each in (top.get("annotations") if isinstance(top, dict) else None) or ():
        if isinstance(each, dict) and (points := keypoint_list(each, WHOLE_COUNT) or each.get("keypoints")):
            return len(points) // 3 if isinstance(points, list) else 0
    return 0


def keypoint_list(annotation: dict[str, Any], count: int) -> Any:
    """The keypoints of an annotation or a result, as they are written; whole bodies have their 133 in five lists.

    Args:
        annotation: Annotation of COCO's json.
        count: Keypoints of the skeleton.
    """
    if count == WHOLE_COUNT and isinstance(annotation.get(WHOLE_BODY[1]), list):
        lists = [annotation.get(name) for name in WHOLE_BODY]
        return [value for part in lists if isinstance(part, list) for value in part]
    return annotation.get("keypoints")


def _with_sigmas(own: Skeleton, sigmas: Sequence[float], name: str) -> Skeleton:
    from dataclasses import replace

    return replace(own, sigmas=tuple(sigmas), name=name)


def category_keypoints(
    path: Path, category: str = "", option: str = "--data.skeleton"
) -> tuple[list[str], list[list[int]], str]:
    """Names, edges and subject of a COCO label file's keypoints: of one category, or those that all of them have.

    Args:
        path: The label file.
        category: Name of the category that is meant.
        option: Which chooses it, for messages.

    Raises:
        DataError: The file cannot be read, or its categories have different keypoints.
        UsageError: It has no such category with keypoints.
    """
    top = read_json(path)
    categories = top.get("categories") if isinstance(top, dict) else None
    named = [each for each in categories or [] if isinstance(each, dict) and has_names(each)]
    known = [str(each.get("name", "")) for each in named]
    if category:
        named = [each for each, name in zip(named, known, strict=True) if name == category]
        if not named:
            there = ", ".join(known[:8]) or "none"
            raise UsageError(
                f"{option} {category}: no shipped skeleton, and no category with keypoints in {path} (there: {there})"
                f"{suggest(category, [*known, *shipped()])}"
            )
    if not named:
        return [], [], ""
    if any(each["keypoints"] != named[0]["keypoints"] for each in named):
        sets = ", ".join(f"{name} ({len(each['keypoints'])})" for name, each in zip(known[:8], named, strict=False))
        raise DataError(f"{path}: its categories have different keypoints: {sets}; choose one with {option} {known[0]}")
    subject = str(named[0].get("name", "person")) if len(named) == 1 else "animal"
    return [str(name) for name in named[0]["keypoints"]], _pairs(named[0].get("skeleton")), subject


def has_names(category: dict[str, Any]) -> bool:
    """Whether a category of a COCO file names its keypoints."""
    given = category.get("keypoints")
    return isinstance(given, list) and bool(given) and all(isinstance(name, str) for name in given)


def _pairs(given: Any) -> list[list[int]]:
    if not isinstance(given, list):
        return []
    pairs = [pair for pair in given if isinstance(pair, list) and len(pair) == 2]
    return [pair for pair in pairs if all(isinstance(value, int) for value in pair)]


def skeleton_yaml(skeleton: Skeleton) -> str:
    """The skeleton as the text of a yaml file that `Skeleton.of` reads."""
    import yaml

    def row(value: Any) -> str:
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        return text.removesuffix("\n").removesuffix("\n...")

    lines = [f"name: {row(skeleton.name)}", f"subject: {row(skeleton.subject)}"]
    lines.append("keypoints:")
    lines += [f"  - {row(name)}" for name in skeleton.keypoints]
    lines.append("# Left and right change places when the image is flipped.")
    pairs = [f"  - {row(list(pair))}" for pair in skeleton.flip_pairs]
    lines += ["flip_pairs:", *pairs] if pairs else ["flip_pairs: []"]
    lines.append("# What is drawn: two keypoints, and red, green and blue of 0 to 255.")
    edges = [f"  - {row([edge.first, edge.second, list(edge.color)])}" for edge in skeleton.edges]
    lines += ["edges:", *edges] if edges else ["edges: []"]
    lines.append("# The spread of annotations over the root of the area, one per keypoint; null where nobody knows it.")
    lines.append(f"sigmas: {row(list(skeleton.sigmas) if skeleton.sigmas else None)}")
    for key in ("head", "torso", "interocular"):
        if names := getattr(skeleton, key):
            lines.append(f"{key}: {row(list(names))}")
    return "\n".join(lines) + "\n"
