"""One view for each kind of prediction: which components show it, and what goes into them.

This is the only place of the demo that knows kinds of predictions. A new kind is one module with a `VIEW`, and one
line in `VIEWS`.
"""

from collections.abc import Mapping

from ui.views import answers, classification, depth_map, detections, faces, label_map, picture, poses
from ui.views.base import SIDE, CallOption, View, drawing, drawing_component
from visionkit.predictions import (
    Answers,
    Classification,
    DepthMap,
    Detections,
    Faces,
    Instances,
    LabelMap,
    Picture,
    Poses,
)

VIEWS: dict[str, View] = {
    Classification.kind: classification.VIEW,
    DepthMap.kind: depth_map.VIEW,
    Detections.kind: detections.BOXES,
    Instances.kind: detections.INSTANCES,
    LabelMap.kind: label_map.VIEW,
    Faces.kind: faces.VIEW,
    Picture.kind: picture.VIEW,
    Poses.kind: poses.VIEW,
}
VIEWS[Answers.kind] = answers.view_of(dict(VIEWS))

KINDS: dict[str, tuple[str, ...]] = {
    "classification": (Classification.kind,),
    "depth": (DepthMap.kind,),
    "detection": (Detections.kind,),
    "face_recognition": (Faces.kind,),
    "instance_segmentation": (Instances.kind,),
    "multitask": (Answers.kind,),
    "pose": (Poses.kind,),
    "semantic_segmentation": (LabelMap.kind,),
    "super_resolution": (Picture.kind,),
}
"""With what each task answers; one that is not named here may answer with anything."""


def views_of(task: str | None) -> dict[str, View]:
    """The views that a task's answers need; all of them where it is not known."""
    return {kind: VIEWS[kind] for kind in KINDS.get(task or "", VIEWS)}


def option_of(views: Mapping[str, View]) -> CallOption | None:
    """What a page with these views offers of the call; a page has room for one."""
    options = {view.option for view in views.values() if view.option}
    assert len(options) <= 1, f"a page offers one option of the call, not {options}"
    return next(iter(options), None)


__all__ = ["KINDS", "SIDE", "VIEWS", "CallOption", "View", "drawing", "drawing_component", "option_of", "views_of"]
