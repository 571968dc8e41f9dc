"""What the contract suite needs to know of camera motion."""

import numpy as np

from tests.contracts.cases import SIZE, Case
from visionkit.geometry import InputSpec

CASE = Case(
    classes=(),
    arguments={"unet": {"channels": [32, 24, 16, 8, 8]}},
    data=("--data.target", "motion"),
    loader=(
        "clips",
        "--data.count",
        "2",
        "--data.eval_count",
        "1",
        "--data.clip.length",
        "6",
        "--data.clip.size",
        "[64,64]",
    ),
    input=InputSpec(size=SIZE, resize_mode="stretch", frames=3),
    overfit=0.15,
    # Noise that is moved by half a pixel is no longer the same, and what is left as it is counts too.
    loss_left=0.6,
    overfit_steps=60,
    labels={
        "intrinsics": lambda k, image: np.array([60, 60, 32, 32], np.float32),
        "depth": lambda k, image: np.linspace(1 + k, 5, image[..., 0].size, dtype=np.float32).reshape(image.shape[:2]),
    },
)
