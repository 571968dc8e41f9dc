"""What timm expects of a network, once for all the classic ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.models import build_model_with_cfg
from timm.models._features import feature_take_indices
from timm.models._manipulate import checkpoint
from torch import Tensor, nn


class ClassicNet(nn.Module):
    """A chain of layers with taps, a pooling, hidden layers and a classifier, as timm expects it.

    A subclass builds its layers as children under whatever names its public weights have, and then calls `finish`. The
    children named in `body` run one after the other; an `nn.Sequential` among them is walked through, so that a tap may
    lie inside it.

    Attributes:
        num_features: Channels of the last map.
        head_hidden_size: Width before the classifier.
        feature_info: For each tap its channels, stride and module.
    """

    num_features: int
    head_hidden_size: int
    feature_info: list[dict[str, Any]]

    def finish(
        self,
        *,
        num_classes: int,
        in_chans: int,
        body: Sequence[str],
        taps: Sequence[tuple[str, int, int]],
        classifier: str,
        hidden: Sequence[str] = (),
        hidden_size: int | None = None,
        num_features: int | None = None,
        pool: str | None = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Declares the parts.

        Args:
            num_classes: Outputs.
            in_chans: Channels of the input.
            body: Children from the image to the last map.
            taps: Module, channels and stride of each map to offer, shallow to deep; no layer after a tap may write into
                it in place.
            classifier: Path of the classifier, which is an `nn.Identity` where `num_classes` is 0.
            hidden: Children between pooling and classifier; the first sees what the pooling gives.
            hidden_size: Width before the classifier, where it is not that of the last map.
            num_features: Channels of the last map, where layers follow the last tap.
            pool: `avg`, `max`, or None where `hidden` begins with the whole map.
            drop_rate: Dropout probability of the dropout before the classifier.
        """
        self.num_classes, self.in_chans = num_classes, in_chans
        self.body, self.hidden = list(body), list(hidden)
        self.feature_info = [{"num_chs": width, "reduction": stride, "module": path} for path, width, stride in taps]
        self.num_features = num_features or self.feature_info[-1]["num_chs"]
        self.head_hidden_size = hidden_size or self.num_features
        self.classifier_path = classifier
        self.global_pool = SelectAdaptivePool2d(pool_type=pool, flatten=True) if pool else nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.grad_checkpointing = False
        if not num_classes:
            self.set_submodule(classifier, nn.Identity())

    def adopt(self, network: nn.Module, in_chans: int, first_conv: str) -> None:
        """Takes over the children of another network under their own names, with a first layer for `in_chans`."""
        for name, child in network.named_children():
            self.add_module(name, child)
        first = self.get_submodule(first_conv)
        if in_chans != 3 and isinstance(first, nn.Conv2d):
            fresh = nn.Conv2d(
                in_chans,
                first.out_channels,
                cast(tuple[int, int], first.kernel_size),
                cast(tuple[int, int], first.stride),
                cast(tuple[int, int], first.padding),
                bias=first.bias is not None,
            )
            self.set_submodule(first_conv, fresh)

    def _steps(self) -> list[tuple[str, nn.Module]]:
        steps: list[tuple[str, nn.Module]] = []
        for name in self.body:
            child = self.get_submodule(name)
            if isinstance(child, nn.Sequential):
                steps += [(f"{name}.{key}", layer) for key, layer in child.named_children()]
            else:
                steps.append((name, child))
        return steps

    def _run(self, x: Tensor, taps: dict[str, int], last: str | None = None) -> tuple[Tensor, dict[int, Tensor]]:
        maps: dict[int, Tensor] = {}
        for path, layer in self._steps():
            if self.grad_checkpointing and any(True for _ in layer.parameters()):
                x = checkpoint(layer, x)
            else:
                x = layer(x)
            if path in taps:
                maps[taps[path]] = x
            if path == last:
                break
        return x, maps

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to the last map (B, num_features, h, w)."""
        return self._run(x, {})[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last map to (B, head_hidden_size), or on to the logits (B, num_classes)."""
        x = self.global_pool(x)
        for name in self.hidden:
            x = self.get_submodule(name)(x)
        x = self.head_drop(x)
        return x if pre_logits else cast(Tensor, self.get_classifier()(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to the logits (B, num_classes); without classes, to (B, head_hidden_size)."""
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """As in timm: the last map and the maps of the taps, or the latter alone; `norm` has nothing to norm."""
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt {output_fmt!r}: only NCHW is given")
        chosen, deepest = feature_take_indices(len(self.feature_info), indices)
        taps = {self.feature_info[index]["module"]: index for index in chosen}
        last = self.feature_info[deepest]["module"] if stop_early else None
        x, maps = self._run(x, taps, last)
        intermediates = [maps[index] for index in sorted(maps)]
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Cuts off what lies behind the deepest of the taps, and the head."""
        chosen, deepest = feature_take_indices(len(self.feature_info), indices)
        last = self.feature_info[deepest]["module"]
        paths = [path for path, _ in self._steps()]
        behind = paths[paths.index(last) + 1 :]
        for path in behind:
            parent, _, key = path.rpartition(".")
            delattr(self.get_submodule(parent), key)
        emptied = {path.partition(".")[0] for path in behind} - {
            path.partition(".")[0] for path in paths if path not in behind
        }
        self.body = [name for name in self.body if name not in emptied]
        for name in emptied:
            if hasattr(self, name):
                delattr(self, name)
        if prune_head or behind:
            for name in self.hidden:
                self.set_submodule(name, nn.Identity())
            self.num_features = self.head_hidden_size = self.feature_info[deepest]["num_chs"]
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """The last layer, an `nn.Identity` where there are no classes."""
        return self.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh classifier in, or with 0 none; `global_pool` `""` leaves the map unpooled."""
        self.num_classes = num_classes
        if global_pool is not None and not self.hidden:
            self.global_pool = SelectAdaptivePool2d(pool_type=global_pool, flatten=bool(global_pool))
        reference = next(self.parameters())
        classifier = self.make_classifier(num_classes).to(device=reference.device, dtype=reference.dtype)
        self.set_submodule(self.classifier_path, classifier)

    def make_classifier(self, num_classes: int) -> nn.Module:
        """A fresh classifier for the head's width."""
        return nn.Linear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes each layer's activations in the backward pass."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers by depth, for rates that fall with it: those up to each tap are one group, the head is the last."""
        groups: list[tuple[str, tuple[int]]] = []
        depth = 0
        ends = {entry["module"] for entry in self.feature_info}
        for path, _ in self._steps():
            groups.append((rf"^{path.replace('.', chr(92) + '.')}\.", (depth,)))
            depth += path in ends if coarse else 1
        return {"blocks": groups}


def build(cls: type[ClassicNet], name: str, pretrained: bool, **kwargs: Any) -> ClassicNet:
    """Builds a registered network through timm's factory, public weights included."""
    model: ClassicNet = build_model_with_cfg(
        cls, name, pretrained, pretrained_filter_fn=getattr(cls, "filter_weights", None), **kwargs
    )
    return model


def declaration(input_size: tuple[int, int, int], classifier: str, first_conv: str, **more: Any) -> dict[str, Any]:
    """A `pretrained_cfg` with the ImageNet statistics unless `more` overrides it."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": input_size,
        "pool_size": None,
        "crop_pct": 0.875,
        "interpolation": "bilinear",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": first_conv,
        "classifier": classifier,
        **more,
    }
