"""When the objects of a video are visible."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from visionkit.predictions import Tracks


@dataclass
class Visible:
    """One object of a video.

    Attributes:
        id: Its number.
        name: Its class.
        frames: Number of frames that show it.
        spans: First second and end of each time that it is visible without a break.
    """

    id: int
    name: str
    frames: int = 0
    spans: list[list[float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it is visible in all."""
        return sum(end - first for first, end in self.spans)


class Timeline:
    """When each object of a video is visible, by frames of it in their order.

    A frame lasts until the next one, the last one as long as `step`.

    Args:
        step: Seconds from one frame to the next.
        max_objects: Objects that are listed; of more only the number is kept.

    Attributes:
        objects: Objects by id, in the order in which they appear.
        unlisted: Number of objects that are not listed.
        seconds: End of the last frame.
    """

    def __init__(self, step: float, max_objects: int = 1000) -> None:
        self.step, self.max_objects = step, max_objects
        self.objects: dict[int, Visible] = {}
        self.seconds = 0.0
        self._shown: set[int] = set()
        self._further: set[int] = set()

    @property
    def unlisted(self) -> int:
        return len(self._further)

    def update(self, tracks: Tracks, seconds: float) -> None:
        """Takes the objects of the next frame.

        Args:
            tracks: The objects.
            seconds: Time of the frame.
        """
        before, self._shown = self._shown, set()
        for name, number in zip(tracks.names, tracks.ids.tolist(), strict=True):
            if number not in self.objects:
                if len(self.objects) >= self.max_objects:
                    self._further.add(number)
                    continue
                self.objects[number] = Visible(number, name)
            each = self.objects[number]
            each.frames += 1
            self._shown.add(number)
            if number in before:
                each.spans[-1][1] = seconds + self.step
            else:
                each.spans.append([seconds, seconds + self.step])
        for number in before - self._shown:
            self.objects[number].spans[-1][1] = min(self.objects[number].spans[-1][1], seconds)
        self.seconds = seconds + self.step

    def to_json(self) -> list[dict[str, Any]]:
        """One record per object, in the order in which they appear."""
        return [
            {
                "id": each.id,
                "class": each.name,
                "frames": each.frames,
                "visible": [[round(value, 4) for value in span] for span in each.spans],
            }
            for each in self.objects.values()
        ]
