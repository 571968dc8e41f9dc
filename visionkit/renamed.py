"""Arguments that were called otherwise: what an older checkpoint or bundle holds, in today's words.

Each task has a table from an old key to the new one, both with dots where they are nested. In a new key, `*` stands for
the chosen architecture; of several new keys the one that the chosen architecture owns is taken, and a value that no
chosen architecture owns was not used and is dropped. An empty list drops the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST = {
    "depth": "unet",
    "detection": "fcos",
    "instance_segmentation": "mask_rcnn",
    "pose": "simple_baseline",
    "semantic_segmentation": "unet",
    "super_resolution": "compact",
    "restoration": "nafnet",
}
"""The architecture of a model whose configuration does not name one, of tasks that once had none or other names."""

_TWO_STAGE = {
    "hidden": "hidden",
    "convs": "convs",
    "norm": "norm",
    "pooling": "pooling",
    "canonical": "canonical_box_size",
    "anchor_scale": "anchor_scale",
    "candidates": "pre_nms_top_n",
    "proposals": "post_nms_top_n",
    "train_candidates": "train_pre_nms_top_n",
    "train_proposals": "train_post_nms_top_n",
    "anchors_drawn": "rpn_batch_size_per_image",
    "boxes_drawn": "box_batch_size_per_image",
}

_DENSE = {"decoder": ["architecture"], "decoder_options.width": [], "decoder_options": ["*"]}
"""The width of a decoder was its number of outputs, which the task knows."""

_BEGAN: dict[str, list[str]] = {"init_from": []}
"""Where the weights began was an argument of these tasks; now it is one of the run, of every task."""

RENAMED: dict[str, dict[str, list[str]]] = {
    "depth": _DENSE,
    "semantic_segmentation": _DENSE,
    "detection": {
        **{f"rcnn.{old}": [f"faster_rcnn.{new}"] for old, new in _TWO_STAGE.items()},
        "rcnn": [],
        "strides": ["*.strides"],
        "width": ["*.neck_channels"],
        "extra": ["fcos.extra_levels", "retinanet.extra_levels"],
        "convs": ["fcos.convs", "retinanet.convs"],
        "head_norm": ["fcos.head_norm", "retinanet.head_norm"],
        "candidates": ["fcos.topk_candidates", "retinanet.topk_candidates", "ssd.topk_candidates"],
        "anchor_scale": ["retinanet.anchor_scale"],
        "levels": ["ssd.levels"],
        "published": ["ssd.published"],
    },
    "instance_segmentation": {
        **{f"rcnn.{old}": [f"mask_rcnn.{new}"] for old, new in _TWO_STAGE.items()},
        "rcnn": [],
        "strides": ["mask_rcnn.strides"],
        "width": ["mask_rcnn.neck_channels"],
        "mask_hidden": ["mask_rcnn.mask_hidden"],
        "masks_drawn": ["mask_rcnn.mask_batch_size"],
    },
    "super_resolution": {"network": ["architecture"], "network_args": ["*"], "start_from": [], **_BEGAN},
    "restoration": _BEGAN,
    "patch_matching": _BEGAN,
    "pose": {
        **{f"rcnn.{old}": [f"keypoint_rcnn.{new}"] for old, new in _TWO_STAGE.items()},
        "rcnn": [],
        "keypoint_hidden": ["keypoint_rcnn.keypoint_hidden"],
        "stride": ["simple_baseline.stride", "cpm.stride", "openpose.stride", "deeppose.stride"],
        "deconvs": ["simple_baseline.deconvs", "cpm.deconvs", "openpose.deconvs"],
        "width": [
            *("simple_baseline.width", "cpm.width", "openpose.width", "deeppose.width"),
            "keypoint_rcnn.neck_channels",
        ],
        "stages": ["cpm.stages", "openpose.stages", "deeppose.stages"],
        "stage_width": ["cpm.stage_width", "openpose.stage_width"],
        "stage_convs": ["cpm.stage_convs", "openpose.stage_convs"],
        "stage_kernel": ["cpm.stage_kernel", "openpose.stage_kernel"],
        "sigma": ["simple_baseline.sigma", "cpm.sigma", "openpose.sigma"],
        "encoding": ["simple_baseline.encoding", "cpm.encoding"],
        "limb_width": ["openpose.limb_width"],
        "decoding": ["simple_baseline.decoding", "cpm.decoding", "openpose.decoding"],
    },
}

EVERY_TASK = {"input.fit": "input.resize_mode", "skeleton.mirrored": "skeleton.flip_pairs"}
"""Old name to the new one, in all tasks."""
ARGUMENTS: dict[str, dict[str, str]] = {
    "pose": {"joint_threshold": "keypoint_threshold", "flip_test": "flip_tta"},
    "semantic_segmentation": {"mirror": "reflect_padding"},
    "face_recognition": {"radius": "scale", "centers": "sub_centers", "mirror": "flip_tta"},
    "super_resolution": {"compact.colour": "compact.color"},
    "multitask": {"surgery": "pcgrad", "monitored": "monitor"},
}
"""Old name to the new one, by task."""


DATA = {
    "workers": "num_workers",
    "persons": "people",
    "units_per_metre": "units_per_meter",
    "known_pictures": "known_images",
    "min_pictures": "min_images",
    "colours": "colors",
    "patches": "patches_per_image",
    "patch": "patch_size",
}
"""Old name to the new one, of arguments of data."""


def renamed(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a stored model under the names that the task has for them now.

    Args:
        task: Name of the task.
        config: Its arguments as they were stored; those of the heads of a joint model are renamed too.
    """
    out = _unshared(config)
    table = RENAMED.get(task, {})
    chosen = out.get("architecture", FIRST.get(task))
    for old, new in table.items():
        found, value = _take(out, old)
        if new == ["architecture"] and found:
            chosen = value
        owned = [key.replace("*", str(chosen)) for key in new]
        owned = [key for key in owned if "." not in key or key.partition(".")[0] == chosen]
        if found and owned and value is not None:
            _put(out, owned[0], value)
    for old, name in {**EVERY_TASK, **ARGUMENTS.get(task, {})}.items():
        found, value = _take(out, old)
        if found:
            _put(out, name, value)
    for known in (out.get("vocabulary") or {}).values() if isinstance(out.get("vocabulary"), Mapping) else ():
        found, value = _take(known, "skeleton.mirrored") if isinstance(known, dict) else (False, None)
        if found:
            _put(known, "skeleton.flip_pairs", value)
    for head in (out.get("heads") or {}).values() if isinstance(out.get("heads"), Mapping) else ():
        if isinstance(head, dict) and isinstance(head.get("arguments"), Mapping):
            head["arguments"] = renamed(str(head.get("task")), head["arguments"])
    return out


def renamed_run(config: dict[str, Any], task: str) -> None:
    """Gives the configuration that a run wrote today's names, so that an older run can be continued.

    Args:
        config: The configuration; changed.
        task: Name of its task.
    """
    for side, today in (("model", lambda given: renamed(task, given)), ("data", _renamed_data)):
        chosen = config.get(side)
        if isinstance(chosen, dict) and isinstance(chosen.get("init_args"), Mapping):
            chosen["init_args"] = today(chosen["init_args"])


def _renamed_data(given: Mapping[str, Any]) -> dict[str, Any]:
    out = {DATA.get(key, key): value for key, value in given.items()}
    found, value = _take(out, "input.fit")
    if found:
        _put(out, "input.resize_mode", value)
    return out


def new_names(task: str, argument: str) -> list[str]:
    """The names that a renamed argument of a task has today, for messages; empty where it has not been renamed."""
    one = {old: [name] for old, name in {**EVERY_TASK, **ARGUMENTS.get(task, {})}.items()}
    found = {**one, **RENAMED.get(task, {})}.get(argument, [])
    return [f"model.{each.replace('*', '<architecture>')}" for each in found]


def new_key(key: str) -> str | None:
    """What a whole key of a configuration or an option is called today; None where it has not been renamed.

    Args:
        key: Such as `model.input.fit`, `data.workers`, `start_from`.
    """
    table = {f"model.{old}": f"model.{name}" for old, name in EVERY_TASK.items()}
    table |= {f"data.{old}": f"data.{name}" for old, name in {**DATA, "input.fit": "input.resize_mode"}.items()}
    return {**table, "start_from": "init_from", "model.init_from": "init_from"}.get(key)


def stored_names(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under their oldest names: what identifies a model must not change when an argument is renamed.

    Args:
        task: Name of the task.
        config: Its arguments under the names of today.
    """
    out = _unshared(config)
    for old, name in {**EVERY_TASK, **ARGUMENTS.get(task, {})}.items():
        found, value = _take(out, name)
        if found:
            _put(out, old, value)
    return out


def _unshared(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose mappings can be changed; values are shared."""
    return {key: _unshared(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _take(config: dict[str, Any], key: str) -> tuple[bool, Any]:
    """Takes a value out of nested mappings; returns whether it was there."""
    *above, last = key.split(".")
    for part in above:
        inner = config.get(part)
        if not isinstance(inner, dict):
            return False, None
        config = inner
    return (True, config.pop(last)) if last in config else (False, None)


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Sets a value in nested mappings, unless it was set under its new name."""
    *above, last = key.split(".")
    for part in above:
        inner = config.get(part)
        if not isinstance(inner, dict):
            inner = config[part] = {}
        config = inner
    config.setdefault(last, value)
