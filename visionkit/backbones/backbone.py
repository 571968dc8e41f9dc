"""One way into every network: image to final features and to a pyramid keyed by stride."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import torch
from timm.layers.classifier import ClassifierHead
from torch import Tensor, nn

from visionkit.backbones.adapters import AdapterConfig, adapt
from visionkit.backbones.build import build_model, declared_maps, lost_with_classifier, possible_strides
from visionkit.backbones.dependencies import freeze, needed_for
from visionkit.backbones.facts import backbone_facts, channel_statistics
from visionkit.backbones.hub_names import hub_backbone
from visionkit.backbones.own_weights import load_weights
from visionkit.backbones.simple_pyramid import SimplePyramid
from visionkit.backbones.sizes import check_image_size
from visionkit.backbones.sources import WeightSource
from visionkit.backbones.weights import find_weights
from visionkit.construction import WithoutInit
from visionkit.errors import UsageError

Pyramid = dict[int, Tensor]
"""Maps (B, C, h, w) by their stride in input pixels. Where sizes do not divide, h may be a pixel off H / stride."""


class Features(NamedTuple):
    """What one pass gives.

    Attributes:
        final: The network's last features in its own layout (map or tokens), to be read by `Backbone.pool`; None where
            the backbone was built with `use_final=False`. Of a tapped one the tuple of its `Tap`s.
        pyramid: Exactly the strides that were asked for, finest first.
    """

    final: Any
    pyramid: Pyramid


class Tap(NamedTuple):
    """What a plain transformer knows at one depth.

    Attributes:
        map: (B, C, h, w).
        tokens: (B, n, C) those that stand for the whole image, or None where it has none.
    """

    map: Tensor
    tokens: Tensor | None


class Backbone(nn.Module):
    """A timm model, or a classic network, as features.

    The whole model is kept as `model` under timm's own names, so public weights load without renaming and weights move
    between tasks by their prefix.

        >>> backbone = Backbone("resnet18", strides=(8, 16, 32))
        >>> final, pyramid = backbone(torch.zeros(1, 3, 64, 64))
        >>> {stride: tuple(map_.shape) for stride, map_ in pyramid.items()}
        {8: (1, 128, 8, 8), 16: (1, 256, 4, 4), 32: (1, 512, 2, 2)}
        >>> backbone.pool(final).shape
        torch.Size([1, 512])

    Args:
        name: A model of timm, with or without the tag of its weights (`resnet50.a1_in1k`), a classic network, or a
            repository of the hub that holds a model of timm (`hf-hub:user/name`), whose weights are then taken.
        pretrained: Load the public weights: from the cache, else from an installed package, else downloaded.
        in_chans: Channels of the input; the first layer of public weights is adapted.
        strides: The maps to give, as strides in pixels. With none, there is only `final`.
        output_stride: Dilate the last stages so that no map is coarser; only some networks can.
        image_size: Height and width of the images that it will see; networks that are built for one size are built for
            it. Checked by a pass without weights.
        drop_path_rate: Stochastic depth of networks that have it.
        weights: Weights of the same network from a local file, safetensors or torch, or from a bundle, in place of
            public ones. Those of a larger model's backbone are found by their prefix.
        num_classes: Outputs of the classifier, for `take_classifier`: 0 has none, None that of the public weights.
        use_final: Give `final`. Without it, what the pyramid does not need is cut off the network.
        taps: In place of a pyramid and of final features, so many maps evenly over the depth of a network whose maps
            all have one stride.

    Attributes:
        channels: Channels of each map of the pyramid.
        taps: Numbers of the blocks that are tapped, shallow to deep.
        tap_channels: Channels of the map of each.
        num_features: Width of what `pool` gives.
        mean: Per channel, for pixels in [0, 1]: the input is `(pixel - mean) / std`.
        std: Per channel.
        default_input_size: Height and width that the network is built for, or that its weights were tested at.
        interpolation: Interpolation of the resize that the weights were tested with.
        crop_fraction: Crop fraction of the center crop that the weights were tested with.
        has_adapters: Low-rank adapters are trained in place of the network's own weights.
        started_from: Where its first weights are from, for people; empty where they are random.

    Raises:
        UsageError: Unknown name (the nearest is offered), a stride that the network does not have (its own are
            listed), an argument that it refuses.
        EnvironmentFault: Public weights are asked for, are not in the cache and cannot be downloaded.
        CheckpointError: `weights` does not hold weights of this network.
    """

    channels: dict[int, int]

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        in_chans: int = 3,
        strides: Sequence[int] = (),
        output_stride: int | None = None,
        image_size: tuple[int, int] | None = None,
        drop_path_rate: float = 0.0,
        weights: str | os.PathLike[str] | None = None,
        num_classes: int | None = 0,
        use_final: bool = True,
        taps: int = 0,
    ) -> None:
        super().__init__()
        facts = backbone_facts(name, pretrained and weights is None)
        # Cards are published, so a path of this machine is left out.
        source = "" if weights is None else Path(weights).name if Path(weights).exists() else str(weights)
        if (published := hub_backbone(name)) is not None:
            source, weights = source or name, weights or published.weights
            name = published.architecture
        pretrained = pretrained and weights is None
        if in_chans < 1:
            raise UsageError(f"in_chans {in_chans}: at least 1 is needed")
        if not use_final and not strides and not taps:
            raise UsageError("strides: at least one is needed where use_final is false")
        if taps and (strides or use_final):
            raise UsageError("taps: take the place of a pyramid and of final features; leave strides and use_final out")
        trained = WithoutInit.is_active()  # at its size; the check would take longer than all the rest of loading
        if image_size is not None and not trained and torch.get_default_device().type != "meta":
            own = {"in_chans": in_chans, "strides": tuple(strides), "output_stride": output_stride, "taps": taps}
            check_image_size(name, image_size, use_final=use_final, num_classes=num_classes, **own)
        arguments: dict[str, Any] = {"in_chans": in_chans}
        if num_classes is not None:
            arguments["num_classes"] = num_classes
        if drop_path_rate > 0:
            arguments["drop_path_rate"] = drop_path_rate
        if output_stride is not None:
            arguments["output_stride"] = output_stride
        if image_size is not None and facts.fixed_input_size:
            arguments["img_size"] = tuple(image_size)
        self.name = name
        self.use_final, self.output_stride, self.num_classes = use_final, output_stride, num_classes
        self.mean = channel_statistics(facts.mean, in_chans)
        self.std = channel_statistics(facts.std, in_chans)
        self.interpolation = facts.interpolation
        self.crop_fraction = facts.crop_fraction
        public = find_weights(name) if pretrained else None
        self.model = build_model(name, arguments, public)
        self.started_from = source
        if public is not None:
            kind = str(public) if isinstance(public, WeightSource) else f"public weights of {facts.name}"
            self.started_from = f"{kind} ({facts.license})" if facts.license else kind
        self.default_input_size = image_size if image_size is not None else facts.input_size
        if weights is not None:
            statistics = load_weights(self.model, weights, name, lost_with_classifier(self.model))
            if statistics is not None:
                self.mean, self.std = (channel_statistics(values, in_chans) for values in statistics)
        declared = declared_maps(self.model)
        if output_stride is not None and max(stride for _, stride in declared) > output_stride:
            raise UsageError(f"backbone {name!r}: does not obey output_stride {output_stride}{possible_strides(name)}")
        self.taps = _tapped(name, taps, declared) if taps else ()
        self.tap_channels = tuple(declared[number][0] for number in self.taps)
        self._choose(tuple(sorted(set(strides))), declared)
        self._whole_head = self.classifier_taken = self.has_adapters = False
        if not use_final:
            self._prune(len(declared))
        self._never_trained = frozenset(name for name, each in self.named_parameters() if not each.requires_grad)

    def _prune(self, maps: int) -> None:
        """Cuts off what the pyramid does not need, so that no parameter waits for a gradient that never comes."""
        keep = sorted(self._indices.values()) if self.strides else list(self.taps)
        self.model.prune_intermediate_layers(keep, prune_norm=self.simple_pyramid is None, prune_head=True)
        if keep[-1] == maps - 1:
            return
        # Networks with parallel branches (HRNet, CoaT) keep the deep ones; what the maps do not depend on is frozen.
        reached = self._needed_for(keep)
        for parameter in self.model.parameters():
            parameter.requires_grad_(parameter.requires_grad and parameter in reached)

    def _choose(self, strides: tuple[int, ...], declared: list[tuple[int, int]]) -> None:
        """Decides, from the declared strides, which maps are taken and whether a pyramid is put on."""
        self.simple_pyramid: SimplePyramid | None = None
        self._indices: dict[int, int] = {}
        self.channels = {}
        self.strides = strides
        if not strides:
            return
        exist = {stride: index for index, (_, stride) in enumerate(declared)}  # the deepest wins
        if len(exist) == 1:
            (own,) = exist
            impossible = [stride for stride in strides if stride < 1]
            if impossible:
                raise UsageError(f"strides {impossible}: at least 1 is needed")
            width = declared[-1][0]
            self._indices = {own: len(declared) - 1}
            self.simple_pyramid = SimplePyramid(width, own, strides)
            self.channels = dict(self.simple_pyramid.channels)
            return
        missing = [stride for stride in strides if stride not in exist]
        if missing:
            raise UsageError(
                f"backbone {self.name!r}: has no map of stride {', '.join(map(str, missing))}; it has strides "
                f"{', '.join(map(str, sorted(exist)))}"
            )
        self._indices = {stride: exist[stride] for stride in strides}
        self.channels = {stride: declared[exist[stride]][0] for stride in strides}

    def give(self, strides: Sequence[int]) -> None:
        """Makes a whole network give maps beside its final features; what it gave before is given as before.

        Args:
            strides: Some of those that the network has.

        Raises:
            UsageError: It has other strides.
        """
        self._choose(tuple(sorted(set(strides))), declared_maps(self.model))

    def freeze_to(self, stride: int) -> list[nn.Module]:
        """Stops the training of the layers that the map of a stride is computed from.

        Args:
            stride: The deepest map whose stride is at most this one is kept; nothing where there is none.

        Returns:
            The layers, whose statistics have to be kept too.
        """
        declared = declared_maps(self.model)
        last = max(self._indices.values(), default=self.taps[-1] if self.taps else len(declared) - 1)
        early = [index for index, (_, each) in enumerate(declared[: last + 1]) if each <= stride]
        return freeze(self.model, self._needed_for([early[-1]])) if early else []

    def _needed_for(self, indices: list[int]) -> set[Tensor]:
        return needed_for(self.model, indices, (len(self.mean), *self.default_input_size))

    @property
    def keeps_head(self) -> bool:
        """The classifier could not be taken out, so what `pool` gives belongs to one set of classes."""
        return self._whole_head

    @property
    def num_features(self) -> int:
        """Width of what `pool` gives."""
        if self._whole_head:
            return int(self.model.num_classes)
        return int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)

    def forward(self, image: Tensor) -> Features:
        """Runs the network once.

        Args:
            image: (B, in_chans, H, W) float, normalized with `mean` and `std`.
        """
        if self.taps:
            return self._tap(image)
        if not self.strides:
            return Features(self.model.forward_features(image), {})
        taken = list(self._indices.items())
        result = self.model.forward_intermediates(
            image,
            indices=[index for _, index in taken],
            norm=self.simple_pyramid is not None,
            output_fmt="NCHW",
            intermediates_only=not self.use_final,
        )
        final, maps = result if self.use_final else (None, result)
        if self.simple_pyramid is not None:
            height, width = image.shape[-2:]
            return Features(final, self.simple_pyramid(maps[-1], (height, width)))
        return Features(final, {stride: map_ for (stride, _), map_ in zip(taken, maps, strict=True)})

    def _tap(self, image: Tensor) -> Features:
        wanted: dict[str, Any] = {"indices": list(self.taps), "output_fmt": "NCHW", "intermediates_only": True}
        if self.has_class_token:
            pairs = self.model.forward_intermediates(image, return_prefix_tokens=True, **wanted)
            return Features(tuple(Tap(*pair) for pair in pairs), {})
        return Features(tuple(Tap(map_, None) for map_ in self.model.forward_intermediates(image, **wanted)), {})

    @property
    def has_class_token(self) -> bool:
        """Its taps come with tokens that stand for the whole image."""
        return int(getattr(self.model, "num_prefix_tokens", 0) or 0) > 0

    def pool(self, final: Any) -> Tensor:
        """The vector before the classifier.

        Args:
            final: Final of `Features`.

        Returns:
            (B, num_features), pooled as the network itself does, hidden layers of its head included.
        """
        if final is None:
            raise UsageError(f"backbone {self.name!r}: built with use_final=False, so it has nothing to pool")
        return cast(Tensor, self.model.forward_head(final, pre_logits=not self._whole_head))

    def take_classifier(self) -> nn.Module | None:
        """Takes the classifier out of the network and hands it over; to be called once, before the first pass.

        Where the network's own head is more than one layer over one vector (DeiT's and LeViT's two heads, CrossViT's
        branches, VOLO's token labels), it stays where it is: `pool` gives its logits, and an `nn.Identity` is handed
        over.

        Returns:
            What maps `pool(final)` to the logits (B, num_classes) of the network itself, with its weights. None where
            the network was built without.
        """
        model = self.model
        lost = lost_with_classifier(model)
        if not lost:
            return None
        self.classifier_taken = True
        classifier = model.get_classifier()
        if isinstance(classifier, ClassifierHead):  # SAM's names its pooling too
            classifier = classifier.fc
        own = {id(p) for p in classifier.parameters()} if isinstance(classifier, nn.Module) else set()
        taken = {id(p) for name, p in model.named_parameters() if name in lost}
        if taken != own or isinstance(classifier, nn.ModuleList):
            self._whole_head = True
            return nn.Identity()
        # A classifier that pools by itself (SqueezeNet's) needs the map.
        model.reset_classifier(0, *([""] if getattr(classifier, "pools", False) else []))
        return _Pointwise(classifier) if isinstance(classifier, nn.Conv2d) else cast(nn.Module, classifier)

    def adapt(self, config: AdapterConfig) -> None:
        """Gives the layers low-rank adapters, which are trained from now on in place of the network's own weights.

        What is not pretrained (a simple pyramid, a classifier that stays inside) is trained as it is.

        Args:
            config: See `visionkit.backbones.adapters`.

        Raises:
            UsageError: The network has no such layers, or the rank is too large for them.
        """
        own = lost_with_classifier(self.model) if self._whole_head else set()
        trained = {f"model.{name}" for name in adapt(self.model, config, self.name, own) | own}
        pretrained = {name for name, _ in self.named_parameters() if name.startswith("model.")}
        self._never_trained |= pretrained - trained
        self.has_adapters = True
        self.requires_grad_(True)
        self.train(self.training)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Sets which weights are trained; those that no map depends on, or that have adapters, never are."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(requires_grad and name not in self._never_trained)
        return self

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; with adapters, the statistics of batch norms stay as they are."""
        super().train(mode)
        for module in self.model.modules() if self.has_adapters and mode else ():
            if "running_mean" in module._buffers:
                module.eval()
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades a second forward pass for memory, where the network can.

        Raises:
            UsageError: It cannot.
        """
        try:
            self.model.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError) as error:
            raise UsageError(
                f"backbone {self.name!r}: cannot recompute activations (gradient checkpointing)"
            ) from error


class _Pointwise(nn.Module):
    """A classifier kept as a 1x1 convolution, for a vector."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.convolution(x[:, :, None, None])).flatten(1)


def _tapped(name: str, count: int, declared: list[tuple[int, int]]) -> tuple[int, ...]:
    """Numbers of so many blocks, evenly over the depth, the last one among them."""
    if len({stride for _, stride in declared}) > 1 or not 1 <= count <= len(declared):
        raise UsageError(
            f"backbone {name!r}: cannot be tapped {count} times: its {len(declared)} maps have strides "
            f"{', '.join(map(str, sorted({stride for _, stride in declared})))}"
        )
    return tuple(int(len(declared) / count * number) - 1 for number in range(1, count + 1))
