"""Published weights of D-FINE and RT-DETRv2: where they are, and how what they hold is called here.

Two forms are read: the authors' `.pth` files and the safetensors of transformers' ports on Hugging Face.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionkit.backbones.cache import torch_folder
from visionkit.backbones.weights import download
from visionkit.errors import CheckpointError, UsageError, suggest
from visionkit.families.detection.public import class_names, read_weights
from visionkit.geometry import InputSpec
from visionkit.nn.normalize import Normalize
from visionkit.task import VisionTask


@dataclass(frozen=True)
class Published:
    """One published detector.

    Attributes:
        address: Where the authors' file is.
        repository: Where transformers' port of it is, on Hugging Face; empty where there is none.
        arguments: Arguments of the task.
    """

    address: str
    repository: str
    arguments: Mapping[str, Any]

    @property
    def filename(self) -> str:
        """Filename of the authors' file."""
        return Path(self.address).name


SHARED: Mapping[str, Any] = {
    "input": {"size": [640, 640], "resize_mode": "stretch"},
    "max_detections": 300,
    "score_threshold": 0.01,
}
"""Of every published detector: the size that it was trained at, and all of its queries."""


def load_published(task: type[VisionTask], scheme: str, name: str, known: Mapping[str, Published]) -> VisionTask:
    """Builds a task with the published weights of that name.

    Args:
        task: Class of the task.
        scheme: Name of the architecture, before the colon of the public name.
        name: Name after the colon.
        known: Published detectors of the architecture.

    Raises:
        UsageError: None has this name.
        EnvironmentFault: The weights are not in a cache and cannot be brought.
    """
    if name not in known:
        raise UsageError(f"{scheme}:{name}: known are {', '.join(known)}{suggest(name, known)}")
    return with_published(task, scheme, name, known[name], fetch_published(scheme, name, known[name]))


def with_published(
    task: type[VisionTask], scheme: str, name: str, published: Published, state: Mapping[str, Tensor]
) -> VisionTask:
    """Builds the task of a public name with weights as they were published.

    Raises:
        CheckpointError: They are the weights of something else.
    """
    arguments = {**SHARED, **published.arguments, "architecture": scheme, "classes": class_names()}
    built = task(**{**arguments, "input": InputSpec.of(arguments["input"])})
    wanted = built.network.state_dict()
    weights = {key: value for key, value in rename(state).items() if not key.endswith("num_batches_tracked")}
    # Batch norms count their batches, which no one publishes.
    counted = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    try:
        built.network.load_state_dict({**counted, **weights})
    except RuntimeError as error:
        raise CheckpointError(f"not the weights of {scheme}:{name}: {str(error).splitlines()[1].strip()}") from error
    built.normalize = Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # they were trained on pixels in [0, 1]
    return built.eval()


def fetch_published(scheme: str, name: str, published: Published) -> dict[str, Tensor]:
    """The weights from torch's cache, from Hugging Face's, or else downloaded.

    Raises:
        EnvironmentFault: They are in neither cache and cannot be brought.
        CheckpointError: The file is damaged, or holds no weights.
    """
    if not (torch_folder() / published.filename).is_file() and published.repository:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(published.repository, "model.safetensors")
        if isinstance(found, str):
            return read_published(Path(found))
    port = f", or {published.repository} into the cache of Hugging Face" if published.repository else ""
    path = download(
        published.address,
        published.filename,
        lambda folder: (
            f"{scheme}:{name}: its public weights ({published.filename}) are not in the cache {folder} and cannot be "
            f"downloaded: bring {published.address} there{port}"
        ),
    )
    return read_published(path)


def read_published(path: Path) -> dict[str, Tensor]:
    """The weights of a file, those of the moving average where it has them.

    Raises:
        CheckpointError: It is damaged, or holds no weights.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # errors of a library in Rust
            raise CheckpointError(f"{path}: not a file of weights ({str(error).splitlines()[0][:200]})") from error
    state: Any = read_weights(path)
    for keys in (("ema", "module"), ("model",)):
        inner: Any = state
        for key in keys:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping):
            state = inner
            break
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: it holds no weights of a detector")
    return dict(state)


# ---------------------------------------------------------------------- names

Rules = list[tuple[str, str | Callable[[re.Match[str]], str]]]


def _twice(prefix: str) -> Callable[[re.Match[str]], str]:
    """A number of a linear layer, which here counts the activations between them too."""
    return lambda match: match.expand(prefix) + f".{2 * int(match['layer'])}."


def _letter(match: re.Match[str]) -> str:
    """Convolutions of a residual block: `branch2a`, `branch2b` ... are `conv1`, `conv2` ... of timm."""
    number = ord(match[4]) - ord("a") + 1
    return f"backbone.model.layer{int(match[1]) + 1}.{match[2]}.{('conv', 'bn')[match[5] == 'norm']}{number}."


def _stem(match: re.Match[str]) -> str:
    number, norm = int(match[1]), match[2] == "norm"
    if number == 3 and norm:
        return "backbone.model.bn1."
    return f"backbone.model.conv1.{3 * (number - 1) + norm}."


def _shortcut(match: re.Match[str]) -> str:
    return f"backbone.model.layer{int(match[1]) + 1}.{match[2]}.downsample.{2 if match[3] == 'norm' else 1}."


_LAYERS = r"layers\.(?P<layer>\d+)\."
_AUTHORS: Rules = [
    (r"^backbone\.(stem|stages)\.", r"backbone.model.\1."),
    (r"^backbone\.conv1\.conv1_(\d)\.(conv|norm)\.", _stem),
    (r"^backbone\.res_layers\.(\d)\.blocks\.(\d+)\.(branch2([abc]))\.(conv|norm)\.", _letter),
    (r"^backbone\.res_layers\.(\d)\.blocks\.(\d+)\.short\.(?:conv\.)?(conv|norm)\.", _shortcut),
    (r"^encoder\.input_proj\.(\d)\.", r"encoder.inputs.\1."),
    (r"^encoder\.encoder\.0\.layers\.0\.self_attn\.", "encoder.attention.attention."),
    (r"^encoder\.encoder\.0\.layers\.0\.", "encoder.attention."),
    (r"^encoder\.lateral_convs\.", "encoder.laterals."),
    (r"^encoder\.downsample_convs\.(\d)\.0\.cv([12])\.", lambda m: f"encoder.downsamples.{m[1]}.{int(m[2]) - 1}."),
    (r"^encoder\.downsample_convs\.", "encoder.downsamples."),
    (r"^encoder\.fpn_blocks\.", "encoder.top_down."),
    (r"^encoder\.pan_blocks\.", "encoder.bottom_up."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d)\.cv1\.", r"\1.first."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d)\.cv([23])\.", lambda m: f"{m[1]}.stages.{int(m[2]) - 2}."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d)\.cv4\.", r"\1.last."),
    (r"^(encoder\.(?:top_down|bottom_up)\..*?)\.bottlenecks\.(\d)\.conv1\.", r"\1.blocks.\2.wide."),
    (r"^(encoder\.(?:top_down|bottom_up)\..*?)\.bottlenecks\.(\d)\.conv2\.", r"\1.blocks.\2.narrow."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d(?:\.stages\.\d\.0)?)\.conv1\.", r"\1.main."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d(?:\.stages\.\d\.0)?)\.conv2\.", r"\1.shortcut."),
    (r"^(encoder\.(?:top_down|bottom_up)\.\d(?:\.stages\.\d\.0)?)\.conv3\.", r"\1.last."),
    (r"^decoder\.input_proj\.", "projections."),
    (r"^decoder\.denoising_class_embed\.", "denoising_labels."),
    (r"^decoder\.enc_output\.proj\.", "selection.0."),
    (r"^decoder\.enc_output\.norm\.", "selection.1."),
    (r"^decoder\.enc_score_head\.", "selection_classes."),
    (rf"^decoder\.enc_bbox_head\.{_LAYERS}", _twice("selection_box")),
    (rf"^decoder\.query_pos_head\.{_LAYERS}", _twice("decoder.position")),
    (rf"^decoder\.pre_bbox_head\.{_LAYERS}", _twice("decoder.first_box")),
    (rf"^decoder\.decoder\.lqe_layers\.(\d)\.reg_conf\.{_LAYERS}", _twice(r"decoder.quality_heads.\1.mlp")),
    (r"^decoder\.dec_score_head\.", "decoder.class_heads."),
    (rf"^decoder\.dec_bbox_head\.(\d)\.{_LAYERS}", _twice(r"decoder.box_heads.\1")),
    (r"^decoder\.decoder\.layers\.", "decoder.layers."),
    (r"^(decoder\.layers\.\d)\.self_attn\.", r"\1.attention."),
    (r"^(decoder\.layers\.\d)\.cross_attn\.sampling_offsets\.", r"\1.sampling.offsets."),
    (r"^(decoder\.layers\.\d)\.cross_attn\.attention_weights\.", r"\1.sampling.weights."),
    (r"^(decoder\.layers\.\d)\.cross_attn\.(value|output)_proj\.", r"\1.sampling.\2."),
    (r"^(decoder\.layers\.\d)\.gateway\.", r"\1.join."),
    (r"^(decoder\.layers\.\d)\.norm2\.", r"\1.join."),
    (r"^(decoder\.layers\.\d)\.norm3\.", r"\1.norm2."),
]
"""The authors' names to ours; every rule is tried, in this order."""

_CONSTANT = r"(num_points_scale|n_points_scale|\.up|\.reg_scale|(^|\.)anchors|(^|\.)valid_mask|pos_embed\d*)$"
"""What is computed here, and not learned by anybody."""

_TRANSFORMERS: Rules = [
    (r"^model\.", ""),
    (r"^backbone\.model\.embedder\.embedder\.(\d)\.", lambda m: f"backbone.conv1.conv1_{int(m[1]) + 1}."),
    (
        r"^backbone\.model\.encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.",
        lambda m: f"backbone.res_layers.{m[1]}.blocks.{m[2]}.branch2{'abc'[int(m[3])]}.",
    ),
    (
        r"^backbone\.model\.encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.(?:1\.)?",
        r"backbone.res_layers.\1.blocks.\2.short.",
    ),
    (r"^(backbone\.(?:conv1|res_layers)\..*)\.normalization\.", r"\1.norm."),
    (r"^backbone\.model\.embedder\.", "backbone.stem."),
    (r"^backbone\.model\.encoder\.stages\.", "backbone.stages."),
    (r"^(backbone\..*)\.convolution\.", r"\1.conv."),
    (r"^(backbone\..*)\.normalization\.", r"\1.bn."),
    (r"^(encoder|decoder)_input_proj\.(\d)\.0\.", r"\1.input_proj.\2.conv."),
    (r"^(encoder|decoder)_input_proj\.(\d)\.1\.", r"\1.input_proj.\2.norm."),
    (r"^encoder\.aifi\.", "encoder.encoder."),
    (r"^decoder\.(layers|lqe_layers)\.", r"decoder.decoder.\1."),
    (r"\.(?:mlp\.)?(?:fc1|(?<=mlp\.)layers\.0)\.", ".linear1."),
    (r"\.(?:mlp\.)?(?:fc2|(?<=mlp\.)layers\.1)\.", ".linear2."),
    (r"^(encoder\..*)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"^(encoder\..*)\.final_layer_norm\.", r"\1.norm2."),
    (r"^(decoder\..*)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"^(decoder\..*)\.encoder_attn_layer_norm\.", r"\1.norm2."),
    (r"^(decoder\..*)\.final_layer_norm\.", r"\1.norm3."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.self_attn\.o_proj\.", ".self_attn.out_proj."),
    (r"^(encoder\.(?:fpn|pan)_blocks\.\d)\.csp_rep([12])\.", lambda m: f"{m[1]}.cv{int(m[2]) + 1}.0."),
    (r"^(encoder\.downsample_convs\.\d)\.conv([12])\.", r"\1.0.cv\2."),
    (r"^(denoising_class_embed|enc_output|enc_score_head|enc_bbox_head)\.", r"decoder.\1."),
    (r"^decoder\.enc_output\.0\.", "decoder.enc_output.proj."),
    (r"^decoder\.enc_output\.1\.", "decoder.enc_output.norm."),
    (r"^decoder\.class_embed\.", "decoder.dec_score_head."),
    (r"^decoder\.bbox_embed\.", "decoder.dec_bbox_head."),
]
"""Transformers' names to the authors'; every rule is tried, in this order."""

_ELAN = r"^(encoder\.(?:fpn|pan)_blocks\.\d)\.conv([1234])\."
_ELAN_NAMES = {"1": "cv1", "2": "cv2.1", "3": "cv3.1", "4": "cv4"}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under our names; those of transformers' ports are recognized by theirs.

    Args:
        state: State, as it was published.

    Returns:
        What `network.load_state_dict` takes, `num_batches_tracked` included where it is there.
    """
    named = authors_names(state)
    out = {_apply(name, _AUTHORS): value for name, value in named.items() if not re.search(_CONSTANT, name)}
    if any(name.startswith("decoder.quality_heads.") for name in out):
        out = {name.replace("decoder.box_heads.", "decoder.corner_heads."): value for name, value in out.items()}
    return out


def authors_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of transformers' ports under the authors' names; others as they are."""
    if not any(name.startswith("model.") for name in state):
        return dict(state)
    # The heads are tied, so they stand within `model`, outside of it, or there twice.
    heads = {name: value for name, value in state.items() if name.startswith(("class_embed.", "bbox_embed."))}
    named = {f"model.decoder.{name}": value for name, value in heads.items()}
    named |= {name: value for name, value in state.items() if name.startswith("model.")}
    rules: Rules = [*_TRANSFORMERS]
    if any(".csp_rep1." in name for name in named):
        rules.append((_ELAN, lambda match: f"{match[1]}.{_ELAN_NAMES[match[2]]}."))
    return _joined({_apply(name, rules): value for name, value in named.items()})


def _apply(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Projections to queries, keys and values as the one that torch's attention has."""
    out = {name: value for name, value in state.items() if not re.search(r"\.[qkv]_proj\.", name)}
    for name in state:
        if ".q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{each}_proj.")] for each in "qkv"]
            out[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    return out
