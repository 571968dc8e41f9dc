"""What the contract suite needs to know of optical flow."""

import numpy as np

from tests.contracts.cases import SHIFT, SIZE, Case
from visionkit.geometry import InputSpec

_RAFT = {
    "backbone": "test_resnet",
    "features": 16,
    "hidden": 16,
    "motion": 16,
    "levels": 2,
    "iterations": 2,
    "eval_iterations": 2,
}


def _flow(number: int, image: np.ndarray) -> np.ndarray:
    """The further input shows everything `SHIFT` pixels further to the left."""
    return np.stack([np.full(image.shape[:2], -SHIFT, np.float32), np.zeros(image.shape[:2], np.float32)])


CASE = Case(
    classes=(),
    arguments={"flownet_s": {"width": 0.0625, "batch_norm": True}},
    data=(
        *("--data.target", "flow", "--data.clip.size", "[48,64]", "--model.input.size", "[64,64]"),
        *("--model.flownet_s.width", "0.0625"),
    ),
    loader=("pair_scenes", "--data.count", "8", "--data.eval_count", "5"),
    architectures={"flownet_c": {"width": 0.0625, "max_displacement": 4}, "raft": _RAFT},
    overfit=0.4,
    overfit_steps=120,
    networks=("flownet_s",),
    choice="architecture",
    input=InputSpec(size=SIZE, resize_mode="native", divisor=64, fill=None),
    steered="network.",
    one_size=True,
    labels={"flow": _flow, "valid": lambda number, image: np.ones(image.shape[:2], bool)},
)
