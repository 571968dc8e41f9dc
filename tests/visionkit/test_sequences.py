"""Clips of frames, and sequences that are dealt out to processes whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from visionkit.errors import DataError, UsageError
from visionkit.images import ImageSource
from visionkit.inputs import Clip
from visionkit.sampling import SequenceSampler
from visionkit.sequences import ClipSamples, fractions_of
from visionkit.types import Sample


class Frames(Sequence[Sample]):
    """Frames of several videos, each a gray value of its own number."""

    def __init__(self, *lengths: int) -> None:
        self.rows = [(f"video{k}", frame) for k, length in enumerate(lengths) for frame in range(length)]

    def sequences(self) -> list[str]:
        return [name for name, _ in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        name, frame = self.rows[index]
        source = ImageSource(np.full((2, 2, 3), index, np.uint8), f"{name}/{frame}")
        return Sample.of(source, {"labels": np.int64(index)}, f"{name}/{frame}", sequence=name, frame=frame)


def shown(sample: Sample) -> list[str]:
    (clip,) = sample.inputs.values()
    assert isinstance(clip, Clip)
    return [frame.name for frame in clip.frames]


def test_a_clip_ends_with_its_frame_and_stays_in_its_sequence():
    clips = ClipSamples(Frames(4, 2), frames=3)
    assert len(clips) == 6
    assert shown(clips[3]) == ["video0/1", "video0/2", "video0/3"]
    assert shown(clips[0]) == ["video0/0"] * 3
    assert shown(clips[5]) == ["video1/0", "video1/0", "video1/1"]
    assert clips[5].id == "video1/1" and clips[5].target["labels"] == 5 and clips[-1].id == "video1/1"
    assert [sample.id for sample in clips[1:3]] == ["video0/1", "video0/2"]


def test_a_clip_may_leave_frames_out():
    assert shown(ClipSamples(Frames(6), frames=3, stride=2)[5]) == ["video0/1", "video0/3", "video0/5"]
    assert shown(ClipSamples(Frames(6), frames=3, stride=2)[2]) == ["video0/0", "video0/0", "video0/2"]


def test_sequences_are_dealt_out_whole_and_evenly():
    frames = Frames(5, 1, 3, 4, 2)
    fractions = fractions_of(frames.sequences(), 2)
    assert sorted(np.concatenate(fractions).tolist()) == list(range(15))
    assert sorted(map(len, fractions)) == [7, 8]
    for fraction in fractions:
        names = [frames.rows[index] for index in fraction]
        assert names == sorted(names), "in order of time within each"
    assert not {frames.rows[i][0] for i in fractions[0]} & {frames.rows[i][0] for i in fractions[1]}
    samplers = [SequenceSampler(frames.sequences(), rank=rank, world=2) for rank in range(2)]
    assert [[index for _, index in sampler] for sampler in samplers] == [fraction.tolist() for fraction in fractions]
    assert [len(sampler) for sampler in samplers] == list(map(len, fractions))


def test_samples_without_a_sequence_stand_alone():
    assert sorted(map(len, fractions_of(["", "", "a", "a", ""], 3))) == [1, 2, 2]


def test_what_cannot_be_a_sequence_is_refused():
    with pytest.raises(UsageError, match="its frames do not lie next to each other"):
        fractions_of(["a", "b", "a"], 1)
    with pytest.raises(UsageError, match="no sequences"):
        ClipSamples([Frames(1)[0]], 2)
    with pytest.raises(UsageError, match="must be at least 1"):
        ClipSamples(Frames(3), 0)
    with pytest.raises(DataError, match="1 sequences cannot be shared by 2 processes"):
        SequenceSampler(["a", "a"], world=2)


def test_one_process_evaluates_every_sequence():
    sampler = SequenceSampler(Frames(3, 2).sequences())
    assert len(sampler) == 5 and [index for _, index in sampler] == [0, 1, 2, 3, 4]
    assert (sampler.rank, sampler.world, sampler.shuffle) == (0, 1, False)
