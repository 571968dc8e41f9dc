"""Serving: from a picture to a prediction, by the same road whoever asks.

The terminal, the demo, Python and an exported graph differ in who calls `Predictor` and in the engine that runs the
network. Decoding, preprocessing, `task.decode` and `task.restore` are one code, so what was trained is what is served.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar, overload

import torch

from visionkit.construction import WithoutInit
from visionkit.data import collate
from visionkit.engines import GRAPHS, Engine, EngineName, TorchEngine, check_engine, find_device, serve_graph
from visionkit.errors import CheckpointError, DataError, EnvironmentFault, UsageError, VisionKitError, suggest
from visionkit.geometry import Geometry
from visionkit.images import ImageLike, ImageSource
from visionkit.inputs import batch_of_one
from visionkit.novelty import Novelty
from visionkit.out_of_distribution import tap_of
from visionkit.predictions import Prediction
from visionkit.preprocess import Preprocessor
from visionkit.streams import ahead, batches
from visionkit.types import Example, Sample, View
from visionkit.windows import Tiling, answer_in_windows

if TYPE_CHECKING:
    from visionkit.task import VisionTask

P = ParamSpec("P")
R = TypeVar("R")
Views = Sequence[View | None]


def _names_the_model(method: Callable[Concatenate[Predictor, P], R]) -> Callable[Concatenate[Predictor, P], R]:
    """Reports in one line, with the name of the model, what a model from a file cannot do.

    A file can describe a network that is built and yet fails on every image. Of a task that was never in a file, the
    same failure is a defect of the program and stays what it is.
    """

    @functools.wraps(method)
    def wrapped(self: Predictor, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except VisionKitError:
            raise
        except Exception as error:
            if not self.task.source:
                raise
            lines = str(error).strip().splitlines()
            cause = lines[0][:200] if lines else type(error).__name__
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in cause:
                raise EnvironmentFault(f"{self.task.source}: not enough memory for this image ({cause})") from error
            raise CheckpointError(
                f"{self.task.source}: the model fails on an image ({cause}); its file was changed, or was written by "
                "another version of visionkit"
            ) from error

    return wrapped


class Result(NamedTuple):
    """One picture of a stream.

    Attributes:
        source: As it was given.
        prediction: The answer, or None where the picture could not be read.
        error: Why it could not be read, or None.
        novelty: How far the image is from those of the model's own data, or None where the model does not know.
    """

    source: ImageLike
    prediction: Prediction | None
    error: DataError | None
    novelty: Novelty | None = None


class _Known(NamedTuple):
    """What is known of an image after its pass."""

    prediction: Prediction
    novelty: Novelty | None


class _Large(NamedTuple):
    """A picture that is looked at in windows."""

    source: ImageSource
    tiling: Tiling


class Predictor:
    """Answers pictures. Safe to call from several threads.

    Args:
        task: Says how pictures are prepared and what outputs mean; with weights where no engine is given.
        engine: Runs the network; torch on the device that the task is on where left out.
        batch_size: Pictures that go through the network together when a list is given.

    Example:
        >>> predictor = load("runs/flowers/checkpoints/last.ckpt")
        >>> predictor("photo.jpg").best
        Label(name='tulip', probability=0.98)
    """

    def __init__(self, task: VisionTask, engine: Engine | None = None, batch_size: int = 16) -> None:
        self.task = task
        self.engine: Engine = engine if engine is not None else TorchEngine(task)
        self.batch_size = batch_size
        self.preprocessor = Preprocessor(task.input)
        self._features = threading.local()  # of the pass that this thread made last

    @property
    def answers_whole(self) -> bool:
        """The task takes the file itself, see `VisionTask.answer`."""
        from visionkit.task import VisionTask

        return type(self.task).answer is not VisionTask.answer

    def decoded(self, picture: ImageLike) -> ImageSource:
        """The picture with its pixels in memory, decoded once as this predictor wants them."""
        source = self.preprocessor.source(picture)
        pixels = source.read_as_is() if self.answers_whole else source.read(self.task.input.channels)
        return ImageSource(pixels, source.name)

    @_names_the_model
    def _whole(self, picture: ImageLike, options: dict[str, Any]) -> Prediction:
        answer = self.task.answer(self.preprocessor.source(picture), self._outputs, **options)
        assert answer is not None
        return answer

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.task.classes

    @overload
    def __call__(
        self, picture: list[ImageLike] | tuple[ImageLike, ...], *, views: Views | None = None, **options: Any
    ) -> list[Prediction]: ...

    @overload
    def __call__(self, picture: ImageLike, *, views: Views | None = None, **options: Any) -> Prediction: ...

    def __call__(self, picture: Any, *, views: Views | None = None, **options: Any) -> Prediction | list[Prediction]:
        """Answers one picture or a list of them.

        Args:
            picture: Path, bytes, PIL picture or array (h, w, 3) RGB uint8; or a list of these.
            views: Regions of the one picture to look at, whose answers the task merges; by default what the task wants.
            **options: Of the task's `decode`, such as a score threshold.

        Returns:
            A prediction in file pixels, or a list of them in the order given.

        Raises:
            DataError: A picture cannot be read.
            UsageError: An option that the task's `decode` does not have.
        """
        self._check(options)
        if isinstance(picture, (list, tuple)):
            if views is not None:
                raise UsageError("views: belong to one picture; give a single one")
            if self.answers_whole:
                return [self._whole(item, options) for item in picture]
            answers: list[Prediction] = []
            for batch in batches(picture, self.batch_size):
                found = self._answer([self._examples(item) for item in batch], options)
                answers += [each.prediction for each in found]
            return answers
        if self.answers_whole and views is None:
            return self._whole(picture, options)
        return self._answer([self._examples(picture, views)], options)[0].prediction

    def examine(self, picture: ImageLike, **options: Any) -> Result:
        """Predicts on one image, and tells how far it is from those of the model's own data.

        Args:
            picture: As in a call.
            **options: Of the task's `decode`.

        Raises:
            DataError: The image cannot be read.
            UsageError: An option that the task's `decode` does not have.
        """
        self._check(options)
        if self.answers_whole:
            return Result(picture, self._whole(picture, options), None)
        prediction, novelty = self._answer([self._examples(picture)], options)[0]
        return Result(picture, prediction, None, novelty)

    def stream(
        self, sources: Iterable[ImageLike], batch_size: int | None = None, workers: int = 0, **options: Any
    ) -> Iterator[Result]:
        """Answers any number of pictures in order, holding only a few at a time.

        A picture that cannot be read gives a result with its error, and the rest goes on.

        Args:
            sources: Pictures as in a call.
            batch_size: Pictures that go through the network together.
            workers: Threads that decode ahead of the network; 0 decodes in between.
            **options: Of the task's `decode`.
        """
        self._check(options)
        size = batch_size or self.batch_size
        if size < 1 or workers < 0:
            raise UsageError(f"batch_size {size} must be at least 1 and workers {workers} at least 0")
        return self._stream(sources, size, workers, options)

    def _stream(
        self, sources: Iterable[ImageLike], size: int, workers: int, options: dict[str, Any]
    ) -> Iterator[Result]:
        if self.answers_whole:  # one at a time: such answers are large
            for source in sources:
                try:
                    yield Result(source, self._whole(source, options), None)
                except DataError as error:
                    yield Result(source, None, error)
            return

        def prepare(source: ImageLike) -> tuple[ImageLike, list[Example] | _Large | DataError]:
            try:
                return source, self._examples(source)
            except DataError as error:
                return source, error

        for batch in batches(ahead(prepare, sources, workers, 2 * size), size):
            good = [examples for _, examples in batch if isinstance(examples, list)]
            answers = iter(self._answer(good, options))
            for source, examples in batch:
                if isinstance(examples, DataError):
                    yield Result(source, None, examples)
                elif isinstance(examples, _Large):  # decoded only now: two of them may not fit into memory
                    try:
                        prediction, novelty = self._in_windows(examples)
                        yield Result(source, prediction, None, novelty)
                    except DataError as error:
                        yield Result(source, None, error)
                else:
                    prediction, novelty = next(answers)
                    yield Result(source, prediction, None, novelty)

    def each(self, picture: ImageLike, views: Views, **options: Any) -> list[Prediction]:
        """The answers on several regions of one picture one by one, not merged.

        Args:
            picture: As in a call.
            views: The regions; none give no answer.
            **options: Of the task's `decode`.
        """
        self._check(options)
        if not views:
            return []
        examples = self._examples(picture, views)
        assert isinstance(examples, list)  # regions that are asked for are never cut into windows
        return self._run(examples, options)

    def prepare(self, picture: ImageLike, view: View | None = None) -> Example:
        """What the network is shown of a picture: the very tensor that validation sees."""
        return self.preprocessor(Sample.of(self.preprocessor.source(picture), view=view))

    @_names_the_model
    def _examples(self, picture: ImageLike, views: Views | None = None) -> list[Example] | _Large:
        source = self.preprocessor.source(picture)
        if views is None and (tiling := self.task.tiling(source.size)) is not None:
            return _Large(source, tiling)
        views = self.task.views(source) if views is None else views
        if len(views) > 1:  # decode once
            source = ImageSource(source.read(self.task.input.channels), source.name)
        return [self.preprocessor(Sample.of(source, view=view)) for view in views]

    def _answer(self, pictures: Sequence[list[Example] | _Large], options: dict[str, Any]) -> list[_Known]:
        """One prediction for each picture, which is a list of its views or looked at in windows."""
        flat = [example for examples in pictures if isinstance(examples, list) for example in examples]
        seen: dict[int, torch.Tensor] = {}
        parts, at = self._run(flat, options, seen), 0
        out = []
        for examples in pictures:
            if isinstance(examples, _Large):
                out.append(self._in_windows(examples))
                continue
            whole = self.task.merge(parts[at : at + len(examples)], **options)
            out.append(_Known(whole, self._novelty([seen.get(at)])))  # the first view is that of the whole
            at += len(examples)
        return out

    @_names_the_model
    @torch.inference_mode()
    def _in_windows(self, large: _Large) -> _Known:
        """Answers one window after the other; only the picture, a band of windows and the answer are in memory."""
        pixels = large.source.read(self.task.input.channels)
        source = ImageSource(pixels, large.source.name)

        seen: list[torch.Tensor | None] = []

        def look(box: tuple[int, int, int, int]) -> torch.Tensor:
            example = self.preprocessor(Sample.of(source, view=View(box)))
            outputs = self._outputs(*batch_of_one(example))
            seen.append(None if self._features.last is None else self._features.last[0])
            return large.tiling.values(outputs)

        answer = answer_in_windows((pixels.shape[0], pixels.shape[1]), large.tiling, look)
        return _Known(answer, self._novelty(seen))

    def _novelty(self, features: Sequence[torch.Tensor | None]) -> Novelty | None:
        """How far an image is out whose parts have these features."""
        known = [each for each in features if each is not None]
        if self.task.statistics is None or not known:
            return None
        found = self.task.statistics.novelty(torch.stack(known).mean(dim=0)[None].cpu().numpy())
        return found[0] if found else None

    @_names_the_model
    @torch.inference_mode()
    def _run(
        self, examples: Sequence[Example], options: dict[str, Any], seen: dict[int, torch.Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction per example; `seen` takes the features of each, where the model knows what they tell."""
        # Only equal sizes share a batch: filled up to its neighbours' size, a picture's answer would depend on them.
        groups: dict[tuple[torch.Size, ...], list[int]] = {}
        for index, example in enumerate(examples):
            groups.setdefault(tuple(each.shape for each in example["inputs"].values()), []).append(index)
        answers: dict[int, Prediction] = {}
        for indices in groups.values():
            for some in batches(indices, self.batch_size):
                inputs = (
                    batch_of_one(examples[some[0]])
                    if len(some) == 1
                    else tuple(collate([examples[i] for i in some])["inputs"].values())
                )
                geometry: list[Geometry] = [examples[i]["geometry"] for i in some]
                decoded = self.task.decode(self._outputs(*inputs), **options)
                answers.update(zip(some, self.task.restore(decoded, geometry), strict=True))
                if seen is not None and self._features.last is not None:
                    seen.update(zip(some, self._features.last, strict=True))
        return [answers[index] for index in range(len(examples))]

    def _outputs(self, *inputs: torch.Tensor) -> Any:
        """Runs the network, and refuses outputs that are no numbers: decoded, they would look like a prediction."""
        tap = tap_of(self.task.network) if self.task.statistics is not None else None
        with tap or nullcontext():
            outputs = self.engine(*inputs)
        self._features.last = tap.take(len(inputs[0])) if tap is not None else None
        for name, values in zip(type(outputs)._fields, outputs, strict=True):
            if not isinstance(values, torch.Tensor) or not values.is_floating_point():
                continue
            # A sum is the cheapest look at all values; it can overflow where they are finite.
            if not (values.sum().isfinite() or values.isfinite().all()):
                raise CheckpointError(
                    f"{self.task.source or self.task.name}: the network gives NaN or infinity as {name}: its weights "
                    "are not finite or far too large; take an earlier checkpoint"
                )
        return outputs

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what a call can be given beside the picture: options of the task's `answer` or `decode`."""
        if self.answers_whole:
            return tuple(inspect.signature(self.task.answer).parameters)[2:]
        return tuple(inspect.signature(self.task.decode).parameters)[1:]

    def _check(self, options: dict[str, Any]) -> None:
        known = self.options if options else ()
        for name in options:
            if name not in known:
                allowed = f"allowed are {', '.join(known)}" if known else f"{self.task.name} has none"
                raise UsageError(f"{name}: no option of {self.task.name}; {allowed}{suggest(name, known)}")


def load(
    path: str | Path, device: str | torch.device = "cpu", engine: EngineName = "torch", threads: int | None = None
) -> Predictor:
    """Opens a model to predict with.

    Args:
        path: A `.ckpt`, a bundle folder, or a public name such as `timm:resnet50`. The engines that run an exported
            graph want a bundle that has one.
        device: "cpu", "cuda", "cuda:1"; exported graphs run on the CPU.
        engine: "torch"; "onnx" or "onnx-int8" by ONNX Runtime; "openvino" in bfloat16 (an optional extra).
        threads: For the exported graphs; as many as torch uses where left out.

    Raises:
        CheckpointError: The model cannot be used; the line says why.
        UsageError: Unknown engine, device or public name.
        EnvironmentFault: The device, the package or the network is not there.

    Example:
        >>> load("model.ckpt")("photo.jpg").to_json()
    """
    check_engine(engine)
    if engine == "torch":
        from visionkit.checkpoint import load_task

        task = load_task(path)
        return Predictor(task, TorchEngine(task, device))
    if find_device(device).type != "cpu":
        raise UsageError(
            f"device {device}: engine {engine} computes on the CPU; leave the device out or use engine torch"
        )
    folder = Path(path)
    if folder.name == GRAPHS[engine]:
        folder = folder.parent
    if not folder.is_dir():
        raise CheckpointError(
            f"{path}: engine {engine} wants a bundle with {GRAPHS[engine]}; visionkit export writes one"
        )
    from visionkit.checkpoint import read_model

    task = _without_weights(read_model(folder).blank)
    return Predictor(task, serve_graph(task, engine, folder, threads))


def _without_weights(build: Callable[[], VisionTask]) -> VisionTask:
    """A task whose parameters take neither time nor memory: the graph holds the weights, the task the meaning."""
    with WithoutInit():
        task = build().eval()
    for module in task.network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
    return task
