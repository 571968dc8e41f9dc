"""What people receive: frozen values of numpy arrays in file pixels, with json both ways.

Outside of training nothing is a tensor. Each type of prediction is one module here, with all that is done with it; its
drawing is the module of that name in `visionkit.drawing`, imported when something is drawn, and its view in the demo is
found by entry point.
"""

from visionkit.predictions.base import Difference, Overlay, Prediction
from visionkit.predictions.camera_motion import CameraMotion
from visionkit.predictions.classification import Classification, Label
from visionkit.predictions.depth_map import DepthMap
from visionkit.predictions.detections import Detections, Instances
from visionkit.predictions.disparity_map import DisparityMap
from visionkit.predictions.faces import Faces
from visionkit.predictions.flow import FlowField
from visionkit.predictions.image import ImagePrediction
from visionkit.predictions.label_map import Area, LabelMap
from visionkit.predictions.multitask import MultiTaskPrediction
from visionkit.predictions.patch_match import PatchMatch
from visionkit.predictions.poses import Poses
from visionkit.predictions.tracks import Tracks

__all__ = [
    "Area",
    "CameraMotion",
    "Classification",
    "DepthMap",
    "Detections",
    "Difference",
    "DisparityMap",
    "Faces",
    "FlowField",
    "ImagePrediction",
    "Instances",
    "Label",
    "LabelMap",
    "MultiTaskPrediction",
    "Overlay",
    "PatchMatch",
    "Poses",
    "Prediction",
    "Tracks",
]
