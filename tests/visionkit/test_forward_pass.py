"""One batch through an engine: what is refused, what reaches `decode`, and whose features are kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny_training import tiny_task
from visionkit.errors import CheckpointError
from visionkit.feature_statistics import statistics_from
from visionkit.forward_pass import decoded_outputs, novelty_of
from visionkit.results import Call


class Outputs(NamedTuple):
    scores: Tensor
    places: Tensor


class Stub:
    """A task that notes what it decodes, and runs the network twice where `twice` is asked for."""

    name, source, statistics, network = "stub", "", None, nn.Identity()

    def augmented(self, engine: Any, twice: bool = False, **options: Any) -> Any:
        return (lambda *inputs: [engine(*inputs), engine(*inputs)][0]) if twice else engine

    def decode(self, outputs: Outputs, **options: Any) -> tuple[Outputs, dict[str, Any]]:
        return outputs, options


def run(scores: Any, places: Any = (0,), task: Any = None, call: Call | None = None, **engine: Any) -> Any:
    outputs = Outputs(torch.as_tensor(scores), places if isinstance(places, list) else torch.as_tensor(places))
    ask: Any = type("Engine", (), {"__call__": lambda self, *inputs: outputs, **engine})()
    return decoded_outputs(task or Stub(), ask, (torch.zeros(1, 3, 2, 2),), call or Call({}, {}))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_outputs_that_are_no_numbers_are_refused_with_the_model_and_the_field(value: float):
    with pytest.raises(CheckpointError, match="stub: the network gives NaN or infinity as scores"):
        run([0.5, value])
    named: Any = Stub()
    named.source = "runs/a.ckpt"
    with pytest.raises(CheckpointError, match=r"runs/a\.ckpt: the network gives NaN or infinity as places"):
        run([0.5], torch.tensor([0.5, value]), named)


def test_numbers_whose_sum_is_too_large_are_numbers():
    (outputs, _) = run([3e38, 3e38])
    assert outputs.scores.sum().isinf() and outputs.scores.isfinite().all()


def test_whole_numbers_and_lists_are_not_looked_at():
    (outputs, _) = run([0.5], places=[3, "text"])
    assert outputs.places == [3, "text"]
    (outputs, _) = run(torch.tensor([True]), torch.tensor([1 << 40]))
    assert outputs.places.tolist() == [1 << 40]


def test_decode_is_given_its_own_options_and_the_second_stage_of_an_engine():
    call = Call({"twice": True, "threshold": 0.5}, {"threshold": 0.5})
    assert run([0.5], call=call)[1] == {"threshold": 0.5}
    assert run([0.5], call=call, second="graph")[1] == {"threshold": 0.5, "second": "graph"}
    assert run([0.5], second=None)[1] == {}
    assert call.times.network > 0 and call.times.decode > 0 and call.times.read == 0


@pytest.fixture(scope="module")
def task() -> Any:
    torch.manual_seed(0)
    task = tiny_task().eval()
    rng = np.random.default_rng(0)
    task.statistics = statistics_from(task, [rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(24)])
    return task


def test_the_features_of_a_batch_are_those_of_its_first_pass(task: Any):
    images = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    passes = iter([images, images.flip(-1), torch.zeros_like(images)])
    call = Call({}, {})
    call.features = torch.ones(1)  # of the batch before

    def engine(image: Tensor) -> Any:
        return task(next(passes))

    class Twice:
        name, source, statistics, network = "twice", "", task.statistics, task.network
        decode = staticmethod(lambda outputs: outputs)
        augmented = staticmethod(lambda ask: lambda *inputs: [ask(*inputs), ask(*inputs)][0])

    with torch.inference_mode():
        decoded_outputs(Twice(), engine, (images,), call)  # type: ignore[arg-type]
        plain = Call({}, {})
        decoded_outputs(task, task, (images,), plain)
    assert call.features is not None and plain.features is not None and len(plain.features) == 3
    assert torch.equal(call.features, plain.features)


def test_without_statistics_no_features_are_kept(task: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(task, "statistics", None)
    call = Call({}, {})
    with torch.inference_mode():
        decoded_outputs(task, task, (torch.zeros(1, 3, 24, 24, dtype=torch.uint8),), call)
    assert call.features is None and novelty_of(task, [torch.ones(4)]) is None


def test_an_image_of_several_parts_is_as_far_out_as_their_mean(task: Any):
    width = len(task.statistics.mean)
    one, other = torch.rand(2, width, generator=torch.Generator().manual_seed(0))
    expected = task.statistics.novelty(((one + other) / 2).numpy()[None])[0]
    assert novelty_of(task, [one, None, other]).score == pytest.approx(expected.score, rel=1e-5)
    assert novelty_of(task, [one]).score != pytest.approx(expected.score, rel=1e-3)
    assert novelty_of(task, [None]) is None and novelty_of(task, []) is None
    assert novelty_of(task, [torch.ones(width + 1)]) is None, "features of another network state nothing"
