"""What a network consists of and what it costs: layers, multiply-adds, memory, receptive fields.

>>> from visionkit.inspection import inspect_network
>>> report = inspect_network(torch.nn.Conv2d(3, 8, 3), [torch.zeros(1, 3, 32, 32)])
>>> report.layers[0].multiply_adds
194400
"""

from visionkit.inspection.layers import Layer
from visionkit.inspection.measurement import inspect_network
from visionkit.inspection.receptive_field import ReceptiveField, Window
from visionkit.inspection.report import Report
from visionkit.inspection.targets import Target, open_target

__all__ = ["Layer", "ReceptiveField", "Report", "Target", "Window", "inspect_network", "open_target"]
