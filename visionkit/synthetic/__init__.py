"""Drawn scenes with the labels of all eight tasks: (seed, index) gives a scene, always the same one.

The embedded default data: what tests, demonstrations and first steps stand on where no other data is at hand.
"""

from visionkit.synthetic.clip_world import ClipSettings
from visionkit.synthetic.clips import ClipFrame, ClipObject, DrawnClip, make_clip
from visionkit.synthetic.faces import FaceImage, draw_face, make_identity
from visionkit.synthetic.generate import DEFAULT_SIZE, IDENTITIES, make_scene
from visionkit.synthetic.people import KEYPOINTS, SKELETON
from visionkit.synthetic.scene import OBJECT_CLASSES, SEMANTIC_CLASSES, Scene, SceneObject, TargetKey

__all__ = [
    "DEFAULT_SIZE",
    "IDENTITIES",
    "KEYPOINTS",
    "OBJECT_CLASSES",
    "SEMANTIC_CLASSES",
    "SKELETON",
    "ClipFrame",
    "ClipObject",
    "ClipSettings",
    "DrawnClip",
    "FaceImage",
    "Scene",
    "SceneObject",
    "TargetKey",
    "draw_face",
    "make_clip",
    "make_identity",
    "make_scene",
]
