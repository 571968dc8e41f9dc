"""The branch of a siamese network as a descriptor of keypoints."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from tasks.patch_matching.network import SiameseNetwork
from tasks.patch_matching.task import PatchMatchingTask
from visionkit.errors import UsageError
from visionkit.image_matching.keypoints import Keypoints, cut_patches
from visionkit.task import VisionTask

_BATCH = 256


class PatchDescriptor:
    """Describes the patches around keypoints by a trained network, and compares them as it was trained to.

    Args:
        task: A model of patch matching that describes each patch by itself; two-channel networks do not.

    Raises:
        UsageError: Another task, a network without descriptors, or patches that are not square.

    Example:
        >>> descriptor = PatchDescriptor(load("runs/patches").task)
        >>> match_images("a.jpg", "b.jpg", descriptor).inliers.sum()
    """

    def __init__(self, task: VisionTask) -> None:
        if not isinstance(task, PatchMatchingTask):
            raise UsageError(f"{task.source or task.name}: a model of {task.name}; give one of patch_matching")
        if not task.network.describes:
            raise UsageError(
                f"{task.source or 'this model'}: {task.chosen} compares pairs and describes no patch by itself; train "
                "siamese, pseudo_siamese, siamese_central_surround or timm_siamese to match photographs"
            )
        if task.input.size[0] != task.input.size[1]:
            raise UsageError(f"{task.source}: takes patches of {list(task.input.size)}; those of keypoints are square")
        self.task, self.name = task.eval(), task.source or task.chosen

    @property
    def network(self) -> SiameseNetwork:
        """The network."""
        return cast(SiameseNetwork, self.task.network)

    @torch.inference_mode()
    def describe(self, image: np.ndarray, keypoints: Keypoints, of_second: bool) -> Tensor:
        """(N, D) float32 on the device of the model."""
        import cv2

        spec = self.task.input
        if spec.channels == 1:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
        patches = torch.from_numpy(cut_patches(image, keypoints, spec.size[0])).permute(0, 3, 1, 2)
        normalized = (self.task.normalize(part.to(self.task.device)) for part in patches.split(_BATCH))
        return torch.cat([self.network.describe(part, of_second).float() for part in normalized])

    @torch.inference_mode()
    def costs(self, first: Tensor, second: Tensor) -> np.ndarray:
        """(N, M), see `SiameseNetwork.costs`."""
        return np.asarray(self.network.costs(first, second).cpu().numpy())
