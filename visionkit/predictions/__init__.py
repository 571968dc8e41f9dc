"""What people receive: frozen values of numpy arrays in file pixels, with json both ways.

Outside of learning nothing is a tensor. Each kind of answer is one module here, one in `visionkit.drawing`, which draws
it, and one in `ui.views`, which shows it.
"""

from visionkit.predictions.answers import Answers
from visionkit.predictions.base import Overlay, Prediction
from visionkit.predictions.classification import Classification, Label
from visionkit.predictions.depth_map import DepthMap
from visionkit.predictions.detections import Detections, Instances
from visionkit.predictions.faces import Faces
from visionkit.predictions.label_map import Area, LabelMap
from visionkit.predictions.picture import Picture
from visionkit.predictions.poses import Poses

__all__ = [
    "Answers",
    "Area",
    "Classification",
    "DepthMap",
    "Detections",
    "Faces",
    "Instances",
    "Label",
    "LabelMap",
    "Overlay",
    "Picture",
    "Poses",
    "Prediction",
]
