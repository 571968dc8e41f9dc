"""One way for images of any size: the tiles, what a network sees, and how predictions on tiles or crops become one.

`VisionTask.plan` states which views of an image the network is shown and how their predictions are reduced to one;
`visionkit.predictor.Predictor` executes that plan with bounded memory.
"""

from visionkit.tiling.grid import Grid, Tile, object_tiles
from visionkit.tiling.maps import BlendMap, MapReducer, Merger, Overlap, PasteImage
from visionkit.tiling.objects import merge_tiles
from visionkit.tiling.plan import Located, MergeObjects, Plan, Single, Views, ViewsOf
from visionkit.tiling.receptive_field import architecture_reach, choose_overlap, receptive_field

__all__ = [
    "BlendMap",
    "Grid",
    "Located",
    "MapReducer",
    "MergeObjects",
    "Merger",
    "Overlap",
    "PasteImage",
    "Plan",
    "Single",
    "Tile",
    "Views",
    "ViewsOf",
    "architecture_reach",
    "choose_overlap",
    "merge_tiles",
    "object_tiles",
    "receptive_field",
]
