"""What an architecture of patch matching is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from tasks.patch_matching.network import PatchNetwork, PatchOutputs
from visionkit.geometry import InputSpec


class PatchArchitecture:
    """One network that compares patches: a frozen dataclass whose fields are its arguments."""

    @property
    def outputs(self) -> type[tuple[Any, ...]]:
        """The NamedTuple that the network returns."""
        return PatchOutputs

    @abstractmethod
    def build(self, spec: InputSpec) -> PatchNetwork:
        """The network with its first weights, for patches of a size and a number of channels.

        Raises:
            UsageError: The patches are too small for it.
        """
