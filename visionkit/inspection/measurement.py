"""One forward pass of a network, with everything noted that a report states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionkit.inspection.counting import MultiplyAdds
from visionkit.inspection.field_trace import FieldTrace, begin
from visionkit.inspection.layers import LayerTrace
from visionkit.inspection.report import Report


def inspect_network(network: nn.Module, inputs: Sequence[Tensor], name: str = "") -> Report:
    """States the layers of a network from one forward pass in evaluation mode.

    On the meta device nothing is computed and no memory is needed, so that is where a large network is best inspected.

    Args:
        network: The network; it is left as it was.
        inputs: What it takes, each (1, ..., h, w): the last two axes are the sides of the image.
        name: Name of the network, for the report.
    """
    training = {module: module.training for module in network.modules()}
    network.eval()
    given = tuple(each.clone() for each in inputs)
    for each in given:
        begin(each)
    counter = MultiplyAdds()
    try:
        with torch.no_grad(), counter, LayerTrace(network, counter) as trace, FieldTrace():
            input_bytes = trace.take(given)
            network(*given)
        layers = (*trace.layers.values(), *trace.not_run())
    finally:
        for module, mode in training.items():
            module.training = mode
    return Report(name, tuple(tuple(each.shape[1:]) for each in given), input_bytes, layers)
