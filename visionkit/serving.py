"""What a task states about its serving: the plan for an image, test-time augmentation, and the state between frames."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from visionkit.errors import UsageError
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.predictions import Prediction
from visionkit.session import Session
from visionkit.tiling import Located, Plan, Single, Views, ViewsOf

if TYPE_CHECKING:
    from visionkit.predictor import Predictor


def named_options(method: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the options that a method of a task has in its signature, behind its first argument."""
    function = getattr(method, "__func__", method)
    return _named(function, 1 if function is method else 2)


@functools.lru_cache(maxsize=1024)  # asked several times by each call
def _named(function: Callable[..., Any], behind: int) -> tuple[str, ...]:
    parameters = list(inspect.signature(function).parameters.values())[behind:]
    return tuple(each.name for each in parameters if each.kind is not each.VAR_KEYWORD)


class Served:
    """The half of `VisionTask` that `visionkit.predictor.Predictor` asks; every method has a default."""

    name: ClassVar[str]

    def second_stage(self) -> nn.Module | None:
        """A part of the network that `decode` runs on what it found, such as a mask head; by default none.

        It takes tensors under the names of its attribute `inputs`, and gives a row for each row of the last one. It is
        exported as a graph of its own, so thresholds stay free; `decode` of such a task takes the engine of that graph
        as `second`, and runs the part itself where it is None.
        """
        return None

    def has_tta(self) -> str:
        """The option by which the network processes another image than is given, or the same twice; by default none.

        Such a network cannot read a pass of the backbone that others share.
        """
        return ""

    def plan(
        self, image: ImageSource, *, views: Views | None = None, found: Located | None = None, **options: Any
    ) -> Plan:
        """How one image is predicted on: the views that the network is shown, and what makes one prediction of them.

        By default the whole image once. Options that a task names in its signature belong to a call of `Predictor`.

        Args:
            image: Not decoded yet; its size is known.
            views: Regions that are asked for, in place of the task's own.
            found: Objects to be cropped, for a task that runs on crops, see `visionkit.chain`.
            **options: All options of the call, those of `decode` among them.
        """
        if found is not None:
            raise UsageError(f"{self.name}: this model takes whole images and no boxes; leave the detector out")
        return Plan((None,) if views is None else tuple(views), Single())

    def completed(self, inputs: dict[str, ImageSource | Clip], **options: Any) -> dict[str, ImageSource | Clip]:
        """The inputs of one call with those that it may leave out, such as a noise level that an option gives.

        Args:
            inputs: What the call was given, by name.
            **options: Options, as in `plan`.
        """
        return inputs

    @property
    def input_options(self) -> tuple[str, ...]:
        """Names of the options that stand for an input, as `completed` takes them."""
        return named_options(self.completed)

    def cautions(self, **options: Any) -> tuple[str, ...]:
        """Sentences about options that are allowed and yet none that the model was made for; by default none.

        Args:
            **options: Options, as in `plan`.
        """
        return ()

    def evaluation_views(self) -> ViewsOf | None:
        """The views that an evaluation runs on beside the whole image, so that it measures what is served.

        None for none, which is the default. It travels to the processes that load images; a task that states views
        writes `merge_views` too.
        """
        return None

    def merge_views(self, parts: Sequence[Prediction], size: tuple[int, int]) -> Prediction:
        """One prediction of those on the whole image and on its `evaluation_views`, in file pixels.

        Args:
            parts: Predictions, that on the whole image first.
            size: Height and width of the image.
        """
        raise NotImplementedError(f"{self.name}: evaluation_views() states views, and merge_views is not written")

    def augmented(self, run: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """Test-time augmentation: how the network is run for these options; by default once on the input as it is.

        Args:
            run: The network, see `visionkit.engines.Engine`.
            **options: Options, as in `plan`.
        """
        return run

    @property
    def has_state(self) -> bool:
        """Whether predictions on the frames of a video depend on those before them: the task writes its own session."""
        return type(self).session is not Served.session

    def session(self, predictor: Predictor, **options: Any) -> Session:
        """What keeps the state between the frames of one video, see `Predictor.session`; by default no state."""
        return Session(predictor, **options)
