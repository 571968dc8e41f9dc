"""COCO's and VOC's measures of boxes and masks, on flat arrays.

`evaluate` gives what pycocotools gives, to the last digits, in a small part of its time; `DetectionMetrics` is the
metric that tasks hold. Boxes of all images lie in one array with the number of their image beside it, so a step of
the matching is one operation for thousands of images.
"""

from visionkit.families.detection.coco_eval.accumulate import (
    AREAS,
    COUNTED,
    IOU_THRESHOLDS,
    RECALL_POINTS,
    Scores,
    evaluate,
)
from visionkit.families.detection.coco_eval.confusion import confusion_matrix
from visionkit.families.detection.coco_eval.flat import Flat, box_areas, box_pairs, mask_pairs
from visionkit.families.detection.coco_eval.metric import DetectionMetrics, detection_tables, flatten, image_objects
from visionkit.families.detection.coco_eval.voc import voc_ap, voc_ap50

__all__ = [
    "AREAS",
    "COUNTED",
    "IOU_THRESHOLDS",
    "RECALL_POINTS",
    "DetectionMetrics",
    "Flat",
    "Scores",
    "box_areas",
    "box_pairs",
    "confusion_matrix",
    "detection_tables",
    "evaluate",
    "flatten",
    "image_objects",
    "mask_pairs",
    "voc_ap",
    "voc_ap50",
]
