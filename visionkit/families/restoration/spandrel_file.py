"""Public networks of super-resolution and restoration, read by spandrel from the files that their authors publish.

Needs the optional package: `pip install 'visionkit[spandrel]'`. It finds the architecture by the weights.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from visionkit.errors import CheckpointError, EnvironmentFault, UsageError, suggest
from visionkit.families.restoration.tiles import TileMargins

log = logging.getLogger(__name__)

SCHEME = "spandrel"

OVERLAP = 32
"""Pixels around a tile's own part. The result is that of the whole image where a network sees no further, and nearly
that where it does, as most of what it uses is near; finding how far takes longer than most images."""


class SpandrelFacts(NamedTuple):
    """What a file holds.

    Attributes:
        architecture: Name of the architecture, with its size as spandrel states it.
        scale: Factor; 1 where the image is restored at its size.
        channels: Channels of images, 1 or 3.
        condition: `mask` of a network that fills in.
    """

    architecture: str
    scale: int
    channels: int
    condition: Literal["mask"] | None


def spandrel_facts(path: str) -> SpandrelFacts:
    """What a file holds. The terms of the network are logged when it is first asked for.

    Raises:
        UsageError: No file was given.
        CheckpointError: No such file, or nothing that spandrel knows.
        EnvironmentFault: spandrel is not installed.
    """
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError:
        changed = 0
    return _facts(path, changed)


@functools.lru_cache(maxsize=16)
def _facts(path: str, changed: int) -> SpandrelFacts:
    network = read_spandrel(path)
    name = " ".join([network.architecture.name, *network.tags])
    masked = network.purpose == "Inpainting"
    if network.input_channels != network.output_channels or network.input_channels not in (1, 3):
        raise CheckpointError(
            f"{path}: {name} takes {network.input_channels} channels and gives {network.output_channels}; networks of "
            "1 or 3 are served"
        )
    log.warning(
        "%s: %s; spandrel's architectures have permissive licenses (MIT, Apache-2.0 or public domain), and the weights "
        "that of whoever published them",
        *(path, name),
    )
    return SpandrelFacts(name, int(network.scale), int(network.input_channels), "mask" if masked else None)


def read_spandrel(path: str) -> Any:
    """The network of a file, as spandrel describes it (`spandrel.ModelDescriptor`).

    Nothing in the file can run code: it is read as tensors alone.

    Raises:
        UsageError, CheckpointError, EnvironmentFault: As `spandrel_facts`.
    """
    if not path:
        raise UsageError("model.spandrel.path: give the file of a public network, .pth or .safetensors")
    file = Path(path)
    if not file.is_file():
        near = suggest(file.name, [each.name for each in file.parent.glob("*.*")]) if file.parent.is_dir() else ""
        raise CheckpointError(f"{SCHEME}:{path}: no such file{near}")
    if importlib.util.find_spec(SCHEME) is None:
        raise EnvironmentFault(f"{SCHEME}:{path}: the package is not installed; pip install 'visionkit[spandrel]'")
    import spandrel

    state = spandrel.canonicalize_state_dict(_weights(file))
    try:
        return spandrel.ModelLoader().load_from_state_dict(state).eval()
    except spandrel.UnsupportedModelError:
        raise CheckpointError(f"{path}: its weights are of no architecture that spandrel knows") from None
    except Exception as error:  # networks of many hands
        raise CheckpointError(f"{path}: spandrel cannot build its network ({_first_line(error)})") from error


def _weights(file: Path) -> Mapping[str, Any]:
    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise CheckpointError(f"{file}: not a file of weights ({_first_line(error)})") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{file}: not a file of weights, but of {type(state).__name__}")
    return state


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


class SpandrelBody(nn.Module):
    """A network that spandrel has read, as a body of super-resolution and of restoration.

    It is run as spandrel runs it: sides are padded to what it takes, and values are clipped to [0, 1].

    Args:
        path: The file.
    """

    space, skip, divisor = "low", False, 1

    def __init__(self, path: str) -> None:
        super().__init__()
        self.facts = spandrel_facts(path)
        self.described = read_spandrel(path)
        self.network: nn.Module = self.described.model
        self.condition = self.facts.condition
        self.color = "y" if self.facts.channels == 1 else "rgb"
        self.align: int = self.described.size_requirements.multiple_of

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, C, h, w) float in [0, 1] to (B, C, scale * h, scale * w); one that fills in takes a (B, 1, h, w) mask."""
        if self.condition is None:
            out: Tensor = self.described(image)
            return out
        mask = torch.zeros_like(image[:, :1]) if condition is None else condition
        pairs = zip(image.split(1), mask.split(1), strict=True)
        return torch.cat([self.described(one, beside) for one, beside in pairs])

    def scales(self, image: Tensor, condition: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The restored image; there are no coarser ones."""
        return self(image, condition), ()

    def margins(self) -> TileMargins:
        """`OVERLAP` around tiles, or all of the image where spandrel advises not to tile, and of one that fills in."""
        if self.condition is not None or self.described.tiling.name != "SUPPORTED":
            return TileMargins(None, self.align)
        return TileMargins(-(-OVERLAP // self.align) * self.align, self.align)


def check_untrained(network: nn.Module) -> None:
    """Refuses the losses of a training step.

    Raises:
        UsageError: The network is being trained.
    """
    if network.training:
        raise UsageError("model.architecture spandrel: such networks are served and evaluated, not trained")
