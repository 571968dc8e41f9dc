"""Drawn scenes with the labels of all eight tasks: (seed, index) gives a scene, always the same one.

The embedded default data: what tests, demonstrations and first steps stand on where no other data is at hand.
"""

from datamodules.scenes.faces import FacePicture, draw_face, make_identity
from datamodules.scenes.generate import DEFAULT_SIZE, IDENTITIES, make_scene
from datamodules.scenes.persons import KEYPOINTS, SKELETON
from datamodules.scenes.scene import OBJECT_CLASSES, SEMANTIC_CLASSES, Scene, SceneObject, TargetKey

__all__ = [
    "DEFAULT_SIZE",
    "IDENTITIES",
    "KEYPOINTS",
    "OBJECT_CLASSES",
    "SEMANTIC_CLASSES",
    "SKELETON",
    "FacePicture",
    "Scene",
    "SceneObject",
    "TargetKey",
    "draw_face",
    "make_identity",
    "make_scene",
]
