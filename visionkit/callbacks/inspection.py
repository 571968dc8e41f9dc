"""What a network sees, epoch by epoch: evidence and feature maps of the same few validation images."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from lightning import Trainer

from visionkit.callbacks.images import DrawnSamples
from visionkit.drawing.activation import heat
from visionkit.drawing.base import side_by_side
from visionkit.errors import UsageError
from visionkit.explain import METHODS, Explanation, can_explain, explain, explain_object
from visionkit.images import ImageSource
from visionkit.inspection import Target, inspect_network
from visionkit.inspection.feature_maps import grid, maps_of
from visionkit.loggers import LoggedImage
from visionkit.predictor import Predictor
from visionkit.run_report.sheets import small
from visionkit.sharding import is_sharded
from visionkit.task import VisionTask


class InspectionLogger(DrawnSamples):
    """Logs evidence (Grad-CAM) and feature maps of fixed validation images, as `visionkit inspect` draws them.

    Each panel has the image, the evidence for its highest-scoring class (of a detector, for its highest-scoring object)
    and the maps of a layer. W&B gets them as `inspection`; other loggers as `ImageLogger`. Of a training on several
    processes the first one draws; a network whose weights are sharded is not drawn.

    Args:
        count: Number of images.
        seed: Chooses the images; the same ones for the same data.
        every_n_epochs: Draw in each n-th epoch only.
        max_side: Longer side in pixels that each part of a panel is reduced to.
        cam: `grad-cam`, `grad-cam++`, `score-cam` or `attention-rollout`; `none` leaves the evidence out.
        layer: Layer whose maps are drawn, as `visionkit inspect` lists them; by default the last one of the backbone
            with maps. `none` leaves them out.
        maps: Maps of the layer, at most.
    """

    key: ClassVar[str] = "inspection"

    def __init__(
        self,
        count: int = 4,
        seed: int = 0,
        every_n_epochs: int = 1,
        max_side: int = 320,
        cam: str = "grad-cam",
        layer: str = "",
        maps: int = 16,
    ) -> None:
        super().__init__(count, seed, every_n_epochs, max_side)
        if cam not in (*METHODS, "none"):
            raise UsageError(f"inspection: cam {cam!r}: allowed are {', '.join(METHODS)} and none")
        if maps < 1:
            raise UsageError(f"inspection: maps {maps}: at least 1")
        if cam == layer == "none":
            raise UsageError("inspection: neither evidence nor maps are asked for; leave the callback out")
        self.cam, self.layer, self.maps = cam, layer, maps

    def draw(self, trainer: Trainer, task: VisionTask) -> list[LoggedImage]:
        # Before the question of the rank: one process alone would wait for the others in the first gather of a weight.
        if is_sharded(trainer):
            if trainer.is_global_zero:
                self._tell("sharded", "nothing is drawn: the weights are sharded, so one process cannot run alone")
            return []
        if not trainer.is_global_zero:
            return []
        predictor = Predictor(task)
        drawn = (self._panel(predictor, sample.image, sample.id or sample.image.name) for sample in self._chosen)
        return [image for image in drawn if image is not None]

    def _panel(self, predictor: Predictor, image: ImageSource, name: str) -> LoggedImage | None:
        pixels = image.read()
        plain = np.asarray(small(pixels, self.max_side))
        panels, row = [plain], dict[str, str | float | bool]()
        if (found := self._evidence(predictor, image)) is not None:
            panels.append(np.asarray(small(heat(found, pixels), self.max_side)))
            row["evidence for"] = found.name
        if (maps := self._maps(predictor, image)) is not None:
            panels.append(np.asarray(small(maps, self.max_side)))
        return LoggedImage(name, plain, side_by_side(panels), row) if len(panels) > 1 else None

    def _evidence(self, predictor: Predictor, image: ImageSource) -> Explanation | None:
        if self.cam == "none":
            return None
        try:
            if can_explain(predictor.task):
                return explain(predictor, image, method=self.cam)
            return explain_object(predictor, image, 0, method=self.cam)
        except UsageError as error:  # such as a detector that finds nothing yet
            self._tell(f"cam {error}", f"no evidence is drawn: {error}")
            return None

    def _maps(self, predictor: Predictor, image: ImageSource) -> np.ndarray | None:
        if self.layer == "none":
            return None
        task = predictor.task
        self.layer = self.layer or last_maps(task)
        if self.layer == "none":
            self._tell("maps", f"no maps are drawn: no layer of {task.name} has maps")
            return None
        return grid(maps_of(predictor, image, self.layer), self.maps)


def last_maps(task: VisionTask) -> str:
    """Name of the last layer of a backbone whose output has two sides; of the network without one, `none`.

    Args:
        task: The task, with its network.
    """
    shapes = tuple(tuple(each.shape) for each in task.example_inputs(1))
    report = inspect_network(task.network, Target(task.name, task.network, shapes, task).inputs())
    names = [each.name for each in report.layers if each.field is not None and len(each.field.axes) == 2]
    of_backbone = [name for name in names if name.startswith("backbone.")]
    others = [name for name in names if name != "(network)"]
    return (of_backbone or others or ["none"])[-1]
