"""What is known of a backbone from its name alone, without building it."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
from timm.models import get_pretrained_cfg, is_model, list_models, list_pretrained

from visionkit.backbones import classic  # noqa: F401  (registers its networks with timm)
from visionkit.backbones.cache import cached_weights
from visionkit.backbones.hub_names import hub_backbone
from visionkit.backbones.sources import WeightSource, find_source
from visionkit.errors import UsageError, suggest


@dataclass(frozen=True)
class BackboneFacts:
    """What the public weights of a backbone were trained with, as timm's `pretrained_cfg` declares it.

    Attributes:
        name: Name, as given, with the tag of the weights where there is one (`resnet50.a1_in1k`).
        channels: Channels of the input.
        input_size: Height and width in pixels that the weights are tested at.
        train_size: Height and width in pixels that they were trained at, often smaller.
        fixed_input_size: The network is built for one size; another one needs `image_size`.
        mean: Per channel, for pixels in [0, 1].
        std: Per channel, for pixels in [0, 1].
        interpolation: `bilinear` or `bicubic`.
        crop_fraction: Side of the center crop over the side of the resized image, at `input_size`.
        num_classes: Outputs of the public classifier; 0 where it has none.
        has_weights: Public weights are known.
        license: Terms of the weights, or an empty string where timm does not state.
        classes: Names of the outputs, where the source of the weights states them.
    """

    name: str
    channels: int
    input_size: tuple[int, int]
    train_size: tuple[int, int]
    fixed_input_size: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"]
    crop_fraction: float
    num_classes: int
    has_weights: bool
    license: str
    classes: tuple[str, ...] = ()

    def class_names(self) -> tuple[str, ...] | None:
        """Names of the public classifier's outputs, or None where nobody has recorded them.

        The first of ImageNet's synonyms; where two classes would share it (two cranes), the synonyms are kept.
        """
        return self.classes or _class_names(self.name, self.num_classes)


def backbone_facts(name: str, pretrained: bool = False) -> BackboneFacts:
    """Reads the declaration of a backbone; nothing is built or downloaded.

    Args:
        name: Name, as in `Backbone`.
        pretrained: Of the very weights that `Backbone` would load here, which an installed package may hold.

    Raises:
        UsageError: The name is unknown.
    """
    cfg = pretrained_cfg(name)
    size = cfg.test_input_size or cfg.input_size
    if cfg.fixed_input_size:
        size = cfg.input_size
    declared = BackboneFacts(
        name=f"{name.partition('.')[0]}.{cfg.tag}" if cfg.tag else name,
        channels=int(cfg.input_size[0]),
        input_size=(int(size[1]), int(size[2])),
        train_size=(int(cfg.input_size[1]), int(cfg.input_size[2])),
        fixed_input_size=bool(cfg.fixed_input_size),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        crop_fraction=float((not cfg.fixed_input_size and cfg.test_crop_pct) or cfg.crop_pct),
        num_classes=max(0, cfg.num_classes or 0),
        has_weights=bool(cfg.has_weights),
        license=cfg.license or "",
    )
    source = source_in_place(name, cfg) if pretrained else None
    return declared if source is None else source.facts(declared)


def backbone_names(pattern: str = "*", *, tags: bool = False) -> list[str]:
    """Every name that `Backbone` takes.

    Args:
        pattern: Shell wildcards; text without any is looked for anywhere in the name.
        tags: Names of weights (`resnet50.a1_in1k`) in place of names of architectures.
    """
    if not any(character in pattern for character in "*?["):
        pattern = f"*{pattern}*"
    return list(list_pretrained(pattern) if tags else list_models(pattern))


def parameter_counts() -> dict[str, int]:
    """Parameters of the networks that `benchmarks/count_parameters.py` has counted, with their public classes."""
    return dict(json.loads((Path(__file__).parent / "parameters.json").read_text("utf-8")))


def pretrained_cfg(name: str) -> Any:
    """Timm's `PretrainedCfg` of a name.

    Raises:
        UsageError: The name or its tag is unknown; the message offers the nearest.
    """
    if (published := hub_backbone(name)) is not None:
        return published.cfg
    architecture, _, tag = name.partition(".")
    if ":" in name or "/" in name or not is_model(architecture):
        raise UsageError(
            f"backbone {name!r}: neither timm nor the classic networks have it{suggest(architecture, list_models())}"
        )
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [known.partition(".")[2] for known in timm.models.get_arch_pretrained_cfgs(architecture)]
        raise UsageError(
            f"backbone {name!r}: {architecture} has no weights {tag!r}, only {', '.join(tags) or 'none'}"
            f"{suggest(tag, tags)}"
        ) from error
    return cfg if cfg is not None else timm.models.PretrainedCfg()


def source_in_place(name: str, cfg: Any) -> WeightSource | None:
    """The installed source whose weights are used; None where there is none, or timm's own lie in the cache.

    Args:
        name: Name, as in `Backbone`.
        cfg: Timm's `PretrainedCfg` of it.
    """
    return None if cached_weights(cfg) is not None else find_source(name)


def channel_statistics(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Mean or std for another number of channels than the weights were trained with.

    One channel takes the average of the three, more than three give each further one the average, as timm spreads the
    weights of the first convolution over them.
    """
    if len(values) == channels:
        return tuple(values)
    average = sum(values) / len(values)
    kept = tuple(values) if len(values) < channels and len(values) > 1 else ()
    return kept + (average,) * (channels - len(kept))


@functools.lru_cache(maxsize=16)
def _class_names(name: str, num_classes: int) -> tuple[str, ...] | None:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    try:
        cfg = pretrained_cfg(name)
    except UsageError:  # weights that timm does not know
        return None
    if cfg.label_names:
        return tuple(cfg.label_names)
    subset = infer_imagenet_subset(cfg.to_dict())
    if not subset:
        return None
    info = ImageNetInfo(subset)
    if info.num_classes() != num_classes:
        return None
    full = [info.index_to_description(index) for index in range(num_classes)]
    short = [text.partition(",")[0] for text in full]
    times_short, times_full = Counter(short), Counter(full)
    names: list[str] = []
    for index, text in enumerate(short):
        if times_short[text] == 1:
            names.append(text)
        elif times_full[full[index]] == 1 and full[index] != text:
            names.append(full[index])
        else:  # nothing but WordNet's number distinguishes them
            names.append(f"{full[index]} ({info.index_to_label_name(index)})")
    return tuple(names)
