"""What the contract suite needs to know of restoration."""

from tests.contracts.cases import SIZE, Case
from visionkit.geometry import InputSpec

_SMALL = {"width": 4, "encoder": (1,), "middle": 1, "decoder": (1,)}

CASE = Case(
    classes=(),
    arguments={"nafnet": _SMALL},
    data=(
        *("--data.target", "clean", "--data.size", "[32,40]"),
        *("--model.nafnet.width", "4", "--model.nafnet.encoder", "[1]", "--model.nafnet.decoder", "[1]"),
    ),
    overfit=20.0,
    overfit_steps=120,
    networks=("nafnet",),
    choice="architecture",
    input=InputSpec(size=SIZE, resize_mode="native", divisor=32, fill=None, bits=32),
    steered="network.body.",
    one_size=True,
    architectures={
        "dncnn": {"width": 8, "depth": 4},
        "timm_unet": {"backbone": "test_resnet", "decoder": (8, 8, 4, 4, 4)},
    },
    # Something that the image itself is far from and a small network can overfit: half as bright.
    labels={"clean": lambda k, image: (image // 2).transpose(2, 0, 1)},
)
