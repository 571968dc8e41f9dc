"""What the contract suite needs to know of stereo."""

import numpy as np

from tests.contracts.cases import SHIFT, SIZE, Case
from visionkit.geometry import InputSpec

_SMALL = {"max_disparity": 16, "width": 4, "blocks": (1, 1, 1, 1), "channels": 8}

CASE = Case(
    classes=(),
    arguments={"psmnet_small": _SMALL},
    data=(
        *("--data.target", "disparity", "--data.clip.size", "[48,64]"),
        *(
            "--model.psmnet_small.max_disparity",
            "16",
            "--model.psmnet_small.width",
            "4",
            "--model.psmnet_small.channels",
            "8",
        ),
    ),
    overfit=0.5,
    overfit_steps=60,
    networks=("psmnet_small",),
    choice="architecture",
    input=InputSpec(size=SIZE, resize_mode="native", divisor=16, fill=None),
    steered="network.features.",
    one_size=True,
    loader=("pair_scenes", "--data.count", "8", "--data.eval_count", "5"),
    architectures={
        "psmnet": {**_SMALL, "hourglasses": 3},
        "mc_cnn_fast": {"max_disparity": 8, "width": 4, "layers": 2, "pairs": 64},
        "mc_cnn_accurate": {"max_disparity": 8, "width": 4, "layers": 2, "pairs": 64, "hidden": 2, "units": 8},
        "timm_cost_volume": {"max_disparity": 16, "backbone": "test_resnet", "channels": 8},
    },
    labels={"disparity": lambda k, image: np.full(image.shape[:2], SHIFT, np.float32)},
)
