"""What the contract suite needs to know of patch matching."""

import numpy as np

from tests.contracts.cases import SIZE, Case
from visionkit.geometry import InputSpec

_THREE = {"filters": (8, 8, 8), "hidden": 8}
_FOUR = {"filters": (4, 4, 8, 8), "hidden": 8}

CASE = Case(
    classes=(),
    arguments={"siamese": _THREE},
    data=(
        *("--model.input.size", "[64,64]", "--model.siamese.filters", "[8,8,8]", "--model.siamese.hidden", "8"),
        *("--data.patches_per_image", "4"),
    ),
    overfit=0.0,
    overfit_steps=60,
    networks=("siamese",),
    choice="architecture",
    # The contract compares what the network sees with a transform of color images.
    input=InputSpec(size=SIZE, resize_mode="stretch", channels=3),
    steered="network.",
    loader=("generated_patches", "--data.scenes", "8"),
    charts=frozenset({"roc"}),
    architectures={
        "pseudo_siamese": _THREE,
        "two_channel": _THREE,
        "two_channel_deep": {"filters": (4, 8)},
        "two_channel_central_surround": _FOUR,
        "siamese_central_surround": _FOUR,
        "timm_siamese": {"backbone": "test_resnet", "width": 16},
    },
    labels={"match": lambda k, image: np.int64(k % 2)},
)
