"""Layers by name."""

from __future__ import annotations

from torch import nn

from visionkit.errors import UsageError, suggest


def find_layer(network: nn.Module, name: str) -> tuple[str, nn.Module]:
    """A layer by its name, or by the end of its name where that is unique.

    Args:
        network: The network.
        name: `layer1.0.conv1`; the beginning `backbone.model.` may be left out.

    Returns:
        The whole name, and the module.

    Raises:
        UsageError: No layer, or several, have that name.
    """
    modules = dict(network.named_modules())
    if name in modules and name:
        return name, modules[name]
    found = [each for each in modules if each.endswith(f".{name}")]
    if len(found) != 1:
        what = f"is the end of {', '.join(found[:3])}" if found else "no such layer"
        raise UsageError(
            f"layer {name!r}: {what}; `visionkit inspect` lists the layers{'' if found else suggest(name, modules)}"
        )
    return found[0], modules[found[0]]
