"""A detector that aggregates, over the frames of a video: proposals of the frames before stay in a queue."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from torch import Tensor

from visionkit.engines import TorchEngine
from visionkit.families.detection.aggregation import References
from visionkit.session import Session

if TYPE_CHECKING:
    from visionkit.predictor import Predictor
    from visionkit.task import VisionTask


class ReferenceEngine(TorchEngine):
    """Runs the network on one frame after the other, each with the proposals of those before it.

    The frames before are those that evaluation takes, `frame_stride` apart, the first one again where the video has not
    begun so long ago; each passes through the backbone once.

    Args:
        task: Task with its weights.
        precision: See `TorchEngine`.
    """

    def __init__(self, task: VisionTask, precision: Any = "float32") -> None:
        super().__init__(task, precision=precision)
        spec = task.input
        self.count, self.stride = spec.references_in_use, spec.frame_stride
        self._before: deque[References] = deque(maxlen=max(1, self.count * self.stride))

    def forward(self, *inputs: Tensor) -> Any:
        (image,) = inputs
        network: Any = self.task.network
        outputs = network(self.task.normalize(self.task.in_memory_format(image)), self._references())
        self._before.append(network.described(outputs))
        return outputs

    def _references(self) -> References | None:
        known = len(self._before)
        if not known or not self.count:
            return None
        places = (max(0, known - k * self.stride) for k in reversed(range(1, self.count + 1)))
        return References.joined([self._before[place] for place in places])


class ReferenceSession(Session):
    """Predicts on frames with a queue of reference proposals.

    Args:
        predictor: Runs the network by torch.
        **options: Options of every call.
    """

    def __init__(self, predictor: Predictor, **options: Any) -> None:
        from visionkit.predictor import Predictor as Own

        engine: Any = predictor.engine
        super().__init__(Own(predictor.task, ReferenceEngine(predictor.task, engine.precision)), **options)
