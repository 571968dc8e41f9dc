"""Serving: from an image to a prediction, by one path whoever asks.

The terminal, the demo, Python and an exported graph differ in who calls `Predictor` and in the engine that runs the
network. Decoding, preprocessing, `task.decode` and `task.restore` are one code, so what was trained is what is served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from visionkit.construction import WithoutInit
from visionkit.engines import GRAPHS, Engine, EngineName, TorchEngine, check_engine, find_device, graph_engine
from visionkit.errors import CheckpointError, DataError, UsageError, suggest
from visionkit.forward_pass import decoded_outputs, novelty_of
from visionkit.hub import local
from visionkit.images import ImageLike, ImageSource
from visionkit.inputs import Given, batch_of_one, complete_inputs, last_frame
from visionkit.loading import collate, of_equal_size
from visionkit.model_errors import names_the_model
from visionkit.predictions import Prediction
from visionkit.preprocess import Preprocessor, require_one_size
from visionkit.results import Call, Job, Known, Progress
from visionkit.results import Result as Result
from visionkit.serving import named_options
from visionkit.session import Session
from visionkit.streams import ahead, batches
from visionkit.tiling import MapReducer, Plan, Views
from visionkit.types import Example, Sample, View

if TYPE_CHECKING:
    from visionkit.task import VisionTask

log = logging.getLogger(__name__)


class Predictor:
    """Predicts on images. Safe to call from several threads.

    Args:
        task: Plans how images are run on and what outputs mean; with weights where no engine is given.
        engine: Runs the network; torch on the device that the task is on by default.
        batch_size: Images, tiles or crops that go through the network together.

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

    def decoded(self, image: ImageLike) -> ImageSource:
        """The image with its pixels in memory, decoded once as this predictor needs them."""
        return self.preprocessor.decoded(image)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return self.task.classes

    def plan(self, image: ImageSource, views: Views | None = None, **options: Any) -> Plan:
        """How an image is predicted on, see `VisionTask.plan`."""
        return self.task.plan(image, views=views, **options)

    def sample(self, given: Given, **options: Any) -> Sample:
        """What a call is given, as a sample: the task's inputs by name.

        Args:
            given: See `Given`.
            **options: Options, as in a call; some stand for an input, see `VisionTask.completed`.

        Raises:
            UsageError: Inputs that the task does not have, or too few of them.
        """
        return Sample(complete_inputs(self.task, given, self.preprocessor.source, options))

    @overload
    def __call__(
        self,
        image: list[Given] | tuple[Given, ...],
        *,
        views: Views | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> list[Prediction]: ...

    @overload
    def __call__(
        self, image: Given, *, views: Views | None = None, progress: Progress | None = None, **options: Any
    ) -> Prediction: ...

    def __call__(
        self, image: Any, *, views: Views | None = None, progress: Progress | None = None, **options: Any
    ) -> Prediction | list[Prediction]:
        """Predicts on one image or on a list of them.

        Args:
            image: Path, bytes, PIL image or array (h, w, 3) RGB uint8; or a list of these. A task with several inputs
                takes a mapping of them, `{"left": a, "right": b}`; a clip is a list within such a mapping.
            views: Regions of the one image to run on, whose predictions the task merges; by default the task's own.
            progress: Called with the tiles or crops of an image that are done and all of them.
            **options: Options of the task's `plan`, `augmented` and `decode`, such as a score threshold.

        Returns:
            A prediction in file pixels, or a list of them in the order given.

        Raises:
            DataError: An image cannot be read.
            UsageError: An option that the task does not have.
        """
        call = self._call(options, progress)
        if not isinstance(image, (list, tuple)):
            return self._predict([self._job(image, call, views)], call)[0].prediction
        if views is not None:
            raise UsageError("views: belong to one image; give a single one")
        predictions: list[Prediction] = []
        for batch in batches(image, self.batch_size):
            known = self._predict([self._job(each, call) for each in batch], call)
            predictions += [each.prediction for each in known]
        return predictions

    def examine(self, image: Given, progress: Progress | None = None, **options: Any) -> Result:
        """Predicts on one image, and measures how far it is from those of the model's own data and what it took.

        Args:
            image: Image, as in a call.
            progress: Progress, as in a call.
            **options: Options, as in a call.

        Raises:
            DataError: The image cannot be read.
            UsageError: An option that the task does not have.
        """
        return self._examined([image], self._call(options, progress))[0]

    def examine_together(self, images: Sequence[Given], **options: Any) -> list[Result]:
        """As `examine` of each, in one pass; `times` are those of all of them, and so is the error of one."""
        return self._examined(images, self._call(options))

    def _examined(self, images: Sequence[Given], call: Call) -> list[Result]:
        found = self._predict([self._job(image, call) for image in images], call)
        return [
            Result(image, known.prediction, None, known.novelty, call.times)
            for image, known in zip(images, found, strict=True)
        ]

    def session(self, **options: Any) -> Session:
        """Predicts on the frames of one video in their order, see `visionkit.session`; stateless but for some tasks.

        Args:
            **options: Options, as in a call, for every frame.

        Raises:
            UsageError: An option that the task does not have.
        """
        self._call(options)
        return self.task.session(self, **options)

    def stream(
        self,
        sources: Iterable[Given],
        batch_size: int | None = None,
        num_workers: int = 0,
        progress: Progress | None = None,
        features: bool = False,
        **options: Any,
    ) -> Iterator[Result]:
        """Predicts on any number of images in order, holding only a few at a time.

        An image that cannot be read gives a result with its error, and the rest goes on.

        Args:
            sources: Images as in a call.
            batch_size: Images that go through the network together.
            num_workers: Threads that decode ahead of the network; 0 decodes in between.
            progress: Progress, as in a call.
            features: Results have the pooled features of the backbone too.
            **options: Options, as in a call.
        """
        call = self._call(options, progress)
        call.keeps_features = features
        size = batch_size or self.batch_size
        if size < 1 or num_workers < 0:
            raise UsageError(f"batch_size {size} must be at least 1 and num_workers {num_workers} at least 0")
        return self._stream(sources, size, num_workers, call)

    def _stream(self, sources: Iterable[Given], size: int, num_workers: int, call: Call) -> Iterator[Result]:
        def prepare(source: Given) -> tuple[Given, Job | DataError]:
            try:
                return source, self._job(source, call)
            except DataError as error:
                return source, error

        for batch in batches(ahead(prepare, sources, num_workers, 2 * size), size):
            jobs = [job for _, job in batch if isinstance(job, Job) and not isinstance(job.plan.reduce, MapReducer)]
            known = iter(self._predict(jobs, call))
            for source, job in batch:
                if isinstance(job, DataError):
                    yield Result(source, None, job)
                    continue
                try:  # maps are large, so each is made when it is taken; its image is decoded only now
                    one = self._by_tile(job, call) if isinstance(job.plan.reduce, MapReducer) else next(known)
                    yield Result(source, one.prediction, None, one.novelty, features=one.features)
                except DataError as error:
                    yield Result(source, None, error)

    def each(self, image: Given, views: Views, **options: Any) -> list[Prediction]:
        """The predictions on several regions of one image one by one, not merged.

        Args:
            image: Image, as in a call.
            views: The regions; none give no prediction.
            **options: Options, as in a call.
        """
        call = self._call(options)
        return self._run(self._prepared(self.sample(image, **options), views, call), call)

    def prepare(self, image: Given, view: View | None = None) -> Example:
        """What the network is shown of an image: the very tensor that validation sees."""
        return self.preprocessor(replace(self.sample(image), view=view))

    @names_the_model
    def _job(self, image: Given, call: Call, views: Views | None = None) -> Job:
        sample = self.sample(image, **call.options)
        return self._planned(sample, self.plan(sample.image, views, **call.options), call)

    def _planned(self, sample: Sample, plan: Plan, call: Call) -> Job:
        if plan.image is not None:
            sample = sample.with_image(plan.image)
        views = () if isinstance(plan.reduce, MapReducer) else plan.views
        return Job(sample, plan, self._prepared(sample, views, call))

    @names_the_model
    def _prepared(self, sample: Sample, views: Views, call: Call) -> list[Example]:
        if not views:
            return []
        with call.times.of("read"):
            sample = sample.map_images(self.decoded)
        with call.times.of("prepare"):
            return [self.preprocessor(replace(sample, view=view)) for view in views]

    def _predict(self, jobs: Sequence[Job], call: Call) -> list[Known]:
        """One prediction for each image."""
        seen: dict[int, torch.Tensor] = {}
        parts, at = self._run([example for job in jobs for example in job.examples], call, seen), 0
        out = []
        for job in jobs:
            if isinstance(job.plan.reduce, MapReducer):
                out.append(self._by_tile(job, call))
                continue
            with call.times.of("decode"):
                prediction = job.plan.reduce.prediction(parts[at : at + len(job.examples)])
            whole = None if job.plan.crops else seen.get(at)  # the first view is that of the whole
            kept = whole.float().cpu().numpy() if call.keeps_features and whole is not None else None
            out.append(Known(prediction, novelty_of(self.task, [whole]), kept))
            at += len(job.examples)
        return out

    @names_the_model
    @torch.inference_mode()
    def _by_tile(self, job: Job, call: Call) -> Known:
        """Runs on one tile after the other; only the image, a band of tiles and the result are in memory."""
        reduce, views, seen = job.plan.reduce, job.plan.views, list[torch.Tensor | None]()
        assert isinstance(reduce, MapReducer)
        with call.times.of("read"):
            channels, bits = self.task.input.channels, self.task.input.bits
            name, pixels = job.sample.image.name, reduce.open(job.sample.image, channels, bits)
            first, *others = job.sample.inputs
            further = {each: last_frame(job.sample.inputs[each]) for each in others}
            whole = {first: pixels, **{each: image.read(channels, bits=bits) for each, image in further.items()}}
            for each in others:
                require_one_size(further[each].name, whole[each].shape[:2], pixels.shape[:2])
            white = {each: 255.0 if values.dtype == np.float32 else None for each, values in whole.items()}
        for number, view in enumerate(views, 1):
            assert view is not None
            with call.times.of("prepare"):
                x1, y1, x2, y2 = (int(side) for side in view.box)
                tile = {each: ImageSource(values[y1:y2, x1:x2], name, white[each]) for each, values in whole.items()}
                example = self.preprocessor(Sample(tile))
            decoded = decoded_outputs(self.task, self.engine, batch_of_one(example), call)
            seen.append(None if call.features is None else call.features[0])
            with call.times.of("decode"):
                reduce.add(decoded)
            if call.progress is not None:
                call.progress(number, len(views))
        with call.times.of("decode"):
            return Known(reduce.prediction(), novelty_of(self.task, seen))

    @names_the_model
    @torch.inference_mode()
    def _run(
        self, examples: Sequence[Example], call: Call, seen: dict[int, torch.Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction per example; `seen` takes the features of each, where the model knows what they state."""
        predictions: dict[int, Prediction] = {}
        for some in of_equal_size(examples, self.batch_size):
            inputs = (
                batch_of_one(examples[some[0]])
                if len(some) == 1
                else tuple(collate([examples[i] for i in some])["inputs"].values())
            )
            decoded = decoded_outputs(self.task, self.engine, inputs, call)
            with call.times.of("decode"):
                restored = self.task.restore(decoded, [examples[i]["geometry"] for i in some])
            predictions.update(zip(some, restored, strict=True))
            if seen is not None and call.features is not None:
                seen.update(zip(some, call.features, strict=True))
        return [predictions[index] for index in range(len(examples))]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what a call can be given beside the image: options of how the task is served, and of `decode`."""
        task = self.task
        names = [*named_options(task.plan), *task.input_options, *named_options(task.augmented), *self.decode_options]
        return tuple(dict.fromkeys(name for name in names if name not in ("views", "found")))

    @property
    def decode_options(self) -> tuple[str, ...]:
        """Those among them that choose from what was found; the others state how the network is run."""
        return tuple(name for name in named_options(self.task.decode) if name != "second")

    def _call(self, options: dict[str, Any], progress: Progress | None = None) -> Call:
        known = self.options if options else ()
        for name in options:
            if name not in known:
                allowed = f"allowed are {', '.join(known)}" if known else f"{self.task.name} has none"
                raise UsageError(f"{name}: no option of {self.task.name}; {allowed}{suggest(name, known)}")
        for caution in self.task.cautions(**options):
            log.warning("%s", caution)
        decoding = self.decode_options if options else ()
        return Call(options, {name: value for name, value in options.items() if name in decoding}, progress)


def load(
    path: str | Path, device: str | torch.device = "cpu", engine: EngineName = "torch", threads: int | None = None
) -> Predictor:
    """Opens a model to predict with.

    Args:
        path: A `.ckpt`, a bundle folder, or a public name such as `timm:resnet50` or `hf-hub:user/name`. The engines
            that run an exported graph need a bundle that has one.
        device: "cpu", "cuda", "cuda:1"; exported graphs run on the CPU.
        engine: "torch"; "onnx" or "onnx-int8" by ONNX Runtime; "openvino" in bfloat16 (an optional extra).
        threads: For the exported graphs; as many as torch uses by default.

    Raises:
        CheckpointError: The model cannot be used; the line states why.
        UsageError: Unknown engine, device or public name.
        EnvironmentFault: The device, the package or the network is not there.

    Example:
        >>> load("model.ckpt")("photo.jpg").to_json()
    """
    check_engine(engine)
    path = local(path)
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
            f"{path}: engine {engine} needs a bundle with {GRAPHS[engine]}; visionkit export writes one"
        )
    from visionkit.checkpoint import read_model

    task = without_weights(read_model(folder).blank)
    return Predictor(task, graph_engine(engine, folder, task.outputs, threads, task.inputs))


def without_weights(build: Callable[[], VisionTask]) -> VisionTask:
    """A task whose parameters take neither time nor memory: the graph holds the weights, the task the meaning."""
    with WithoutInit():
        task = build().eval()
    for module in task.network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)
    return task
