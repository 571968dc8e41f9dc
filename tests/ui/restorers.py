"""Tiny models of restoration with random weights: one takes a noise level, one a mask."""

from __future__ import annotations

import torch

from tasks.restoration.task import RestorationTask

SMALL = {"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,)}


def denoiser() -> RestorationTask:
    """Takes a noise level between 5 and 50, and gives other images for other levels."""
    torch.manual_seed(0)
    task = RestorationTask("ffdnet", ffdnet={"width": 8, "depth": 3}, noise_levels=(5.0, 50.0))
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.mul_(3)
    return task.eval()


def painter() -> RestorationTask:
    """Takes a mask, and fills holes with what random weights give."""
    torch.manual_seed(0)
    return RestorationTask("nafnet", nafnet={**SMALL, "condition": "mask"}).eval()
