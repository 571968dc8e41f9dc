"""What architectures from image to image share: a body that is built of their fields, and its thin form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from visionkit.errors import UsageError
from visionkit.families.restoration.tiles import TileMargins


@dataclass(frozen=True)
class ImageArchitecture:
    """A network from image to image: its fields are its arguments, and those of its body.

    Attributes:
        kind: The body; it takes a first argument of the task's, and the fields.
        narrowest: Fields that make it as narrow as it can be without seeing less far.
    """

    kind: ClassVar[Any]
    narrowest: ClassVar[dict[str, Any]] = {}

    def body(self, first: int) -> Any:
        """The body with its first weights.

        Args:
            first: Its first argument, such as the scale or the number of channels.

        Raises:
            UsageError: It cannot be built of these fields.
        """
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        try:
            return self.kind(first, **given)
        except (TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
            raise UsageError(f"model: {type(self).__name__} cannot be built of {given} ({error})") from error

    def margins(self, network: Any) -> TileMargins | None:
        """How far a network of it sees, where that is not found by its thin form; None by default.

        Args:
            network: What was built of it.
        """
        return None

    def thin(self) -> Self:
        """The same with as few channels as it can have: it sees as far, and is quick to measure."""
        return dataclasses.replace(self, **self.narrowest)
