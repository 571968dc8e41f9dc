"""`FaceMetrics` of two processes."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.face_recognition.metrics import FaceMetrics
from tests.ranks import on_two_ranks
from tests.tasks.test_face_metrics import embeddings, measured


def _of_rank(rank):
    values, identity, names = embeddings()
    metric = FaceMetrics()
    measured(metric, np.arange(rank, len(names), 2)[: 24 - 4 * rank], values, identity, names)
    return {key: value.numpy() for key, value in metric.compute().items()}


@pytest.mark.timeout(600)
def test_two_processes_state_what_one_states():
    """Of unequal numbers of images, which is what a sampler that repeats nothing leaves them."""
    values, identity, names = embeddings()
    rows = np.concatenate([np.arange(0, 48, 2), np.arange(1, 48, 2)[:20]])
    one = FaceMetrics()
    measured(one, rows, values, identity, names)
    expected = one.compute()
    for prediction in on_two_ranks(_of_rank):
        assert prediction.keys() == expected.keys()
        assert all(np.array_equal(prediction[key], value.numpy()) for key, value in expected.items())
