"""Weights in the memory format that convolutions of images are fastest in."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(network: nn.Module) -> None:
    """Brings weights of four dimensions to channels-last memory, in place.

    `Module.to` refuses a network that has weights of five dimensions, those of 3-D convolutions, too.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
