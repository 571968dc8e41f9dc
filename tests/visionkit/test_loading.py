"""Batches and their order: what is padded, what each epoch and process draws, and where a loader goes on."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.sets import Parts
from visionkit.geometry import Geometry, InputSpec
from visionkit.images import ImageSource
from visionkit.loading import ResumableLoader, SampleDataset, collate, collate_targets, rng_for
from visionkit.preprocess import Preprocessor
from visionkit.sampling import EpochSampler, SequenceSampler, Stretch
from visionkit.types import Example, Sample
from visionkit.workers import STOPPING


def example(image: torch.Tensor, **more: Any) -> Example:
    size = (image.shape[1], image.shape[2])
    geometry = Geometry(size, (0, 0, size[1], size[0]), size, (0, 0), size, fill=9)
    return {"inputs": {"image": image}, "target": {}, "geometry": geometry, "id": "a", **more}  # type: ignore[typeddict-item]


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("size", "images"),
    [
        ((28, 28), 32),
        ((256, 256), 32),
        ((256, 192), 32),
        ((240, 320), 16),
        ((512, 512), 8),
        ((640, 640), 4),
        ((1024, 2048), 2),
    ],
)
def test_where_no_batch_size_is_stated_larger_inputs_take_fewer_images(size: tuple[int, int], images: int) -> None:
    data = Parts({}, input=InputSpec(size=size))
    assert data.batch_size == data.eval_batch_size == images
    data.batch_size = 3  # what --auto_batch_size does
    assert (data.batch_size, data.eval_batch_size) == (3, images)
    assert Parts({}, input=InputSpec(size=size), batch_size=5).eval_batch_size == 5


def test_smaller_images_are_filled_up_on_the_right_and_at_the_bottom():
    tall, wide = torch.full((3, 4, 2), 1, dtype=torch.uint8), torch.full((3, 2, 5), 2, dtype=torch.uint8)
    batch = collate([example(tall), example(wide)])["inputs"]["image"]
    expected = torch.full((2, 3, 4, 5), 9, dtype=torch.uint8)
    expected[0, :, :, :2], expected[1, :, :2] = 1, 2
    assert torch.equal(batch, expected)


def test_one_image_as_high_as_another_is_filled_up_too():
    batch = collate([example(torch.ones(1, 4, 2)), example(torch.ones(1, 4, 3))])["inputs"]["image"]
    assert batch.shape == (2, 1, 4, 3) and (batch[0, :, :, 2] == 9).all()


def test_images_are_stacked_in_the_memory_that_they_lie_in():
    pixels = torch.randint(0, 256, (2, 5, 6, 3), dtype=torch.uint8)
    images = [each.permute(2, 0, 1) for each in pixels]
    batch = collate([example(each) for each in images])["inputs"]["image"]
    assert torch.equal(batch, torch.stack(images)) and batch.is_contiguous(memory_format=torch.channels_last)
    plain = collate([example(each.contiguous()) for each in images])["inputs"]["image"]
    assert torch.equal(plain, batch) and plain.is_contiguous()
    clips = torch.rand(2, 4, 3, 5, 6)
    assert torch.equal(collate([example(each) for each in clips])["inputs"]["image"], clips)


def test_an_example_without_a_sequence_is_the_first_frame_of_none():
    batch = collate([example(torch.zeros(3, 2, 2)), example(torch.zeros(3, 2, 2), sequence="v", frame=7)])
    assert batch["sequence"] == ["", "v"] and batch["frame"] == [0, 7] and batch["id"] == ["a", "a"]


def test_maps_are_padded_by_what_does_not_count_and_objects_stay_apart():
    small, large = torch.zeros(2, 3, dtype=torch.long), torch.ones(4, 3, dtype=torch.long)
    masks = collate_targets([{"label_map": small}, {"label_map": large}])["label_map"]
    assert masks.shape == (2, 4, 3) and (masks[0, 2:] == 255).all() and (masks[0, :2] == 0).all()
    objects = [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(0, 4)}]
    assert collate_targets(objects) == objects
    assert collate_targets([{}, {}]) == {} and collate_targets([]) == {}


def test_each_head_has_the_rows_that_are_labeled_for_it():
    label = torch.tensor(1)
    heads = collate_targets(
        [{"heads": {"b": {"labels": label}}}, {"heads": {}}, {"heads": {"a": {}, "b": {"labels": label}}}]
    )
    assert list(heads["heads"]) == ["a", "b"]
    assert heads["heads"]["b"]["rows"].tolist() == [0, 2] and heads["heads"]["b"]["target"]["labels"].tolist() == [1, 1]
    assert heads["heads"]["a"]["rows"].tolist() == [2]


# ---------------------------------------------------------------------- what is drawn


def test_what_an_item_draws_is_stated_by_seed_epoch_and_index_alone():
    """The numbers are those of every version, so that a training goes on as it would have after an update."""
    assert rng_for(0, 0, 0).integers(0, 1000, 4).tolist() == [34, 11, 611, 241]
    assert rng_for(1, 2, 3).integers(0, 1000, 4).tolist() == [696, 87, 580, 8]


def test_items_epochs_and_seeds_share_no_numbers():
    drawn = [rng_for(*key).integers(0, 1 << 62, 64) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 1))]
    assert len(np.unique(np.concatenate(drawn))) == 5 * 64


def ordered(epoch: int = 0, **options: Any) -> list[tuple[int, int]]:
    sampler = EpochSampler(7, **{"shuffle": True, "seed": 3, **options})
    sampler.set_epoch(epoch)
    assert len(list(sampler)) == len(sampler)
    return list(sampler)


def test_the_order_of_an_epoch_is_stated_by_the_seed_and_the_epoch():
    assert [index for _, index in ordered()] == [2, 3, 4, 1, 0, 6, 5]
    assert ordered(2) == [(2, index) for index in (3, 1, 6, 4, 2, 5, 0)]
    assert ordered(seed=0) == ordered(seed=0, rank=0, world=1) != ordered()
    assert list(EpochSampler(7, shuffle=True)) == ordered(seed=0), "seed 0, one process by default"


def test_processes_share_an_epoch_with_as_many_steps_each():
    ranks = [[index for _, index in ordered(rank=rank, world=2)] for rank in range(2)]
    assert ranks == [[2, 4, 0, 5], [3, 1, 6, 2]], "the first is repeated where the number is odd"
    plain = [ordered(rank=rank, world=3, shuffle=False) for rank in range(3)]
    assert plain == [[(0, 0), (0, 3), (0, 6)], [(0, 1), (0, 4)], [(0, 2), (0, 5)]], "evaluation repeats nothing"


def test_a_frozen_epoch_is_the_first_one_again():
    sampler = EpochSampler(7, shuffle=True, seed=3)
    sampler.frozen = True
    sampler.set_epoch(5)
    assert sampler.epoch == 5 and sampler.drawn_epoch == 0 and list(sampler) == ordered()


def test_what_was_seen_is_skipped_once_and_in_its_own_epoch():
    sampler = EpochSampler(7, shuffle=True, seed=3)
    assert sampler.frozen is False and sampler.seen == ()
    sampler.seen = [Stretch(1, 3, 1)]
    sampler.set_epoch(0)
    assert list(sampler) == ordered()[3:] and len(sampler) == 7
    assert list(sampler) == ordered()
    sampler.seen = [Stretch(1, 3, 1)]
    sampler.set_epoch(1)
    assert list(sampler) == ordered(1)


def test_each_process_evaluates_its_sequences_whole():
    names = ["a", "a", "b", "b", "b", "c"]
    samplers = [SequenceSampler(names, rank=rank, world=2, seed=4) for rank in range(2)]
    assert sorted(index for sampler in samplers for _, index in sampler) == list(range(6))
    assert [len(sampler) for sampler in samplers] == [3, 3]
    assert [(each.rank, each.world, each.seed, each.length, each.shuffle) for each in samplers] == [
        (0, 2, 4, 6, False),
        (1, 2, 4, 6, False),
    ]
    assert SequenceSampler(names).seed == 0


# ---------------------------------------------------------------------- data sets and loaders


def samples(count: int) -> list[Sample]:
    return [Sample.of(ImageSource(np.full((2, 2, 3), k, np.uint8)), {}, f"{k}") for k in range(count)]


def test_an_item_is_augmented_by_numbers_of_its_seed_epoch_and_index():
    drawn = []

    def augment(sample: Sample, rng: np.random.Generator) -> Sample:
        drawn.append(int(rng.integers(0, 1 << 62)))
        return sample

    preprocessor = Preprocessor(InputSpec(size=(2, 2), resize_mode="stretch"))
    dataset = SampleDataset(samples(3), preprocessor, seed=5, augment=augment)
    assert [dataset[2, 1]["id"], dataset[1]["id"]] == ["1", "1"] and len(dataset) == 3
    assert drawn == [int(rng_for(5, 2, 1).integers(0, 1 << 62)), int(rng_for(5, 0, 1).integers(0, 1 << 62))]
    plain = SampleDataset(samples(3), preprocessor)
    assert plain.seed == 0 and plain.augment is None and int(plain[0, 2]["inputs"]["image"].max()) == 2


def loader(batch_size: int | None = 3, **options: Any) -> ResumableLoader:
    sampler = EpochSampler(7, shuffle=True, seed=3)
    return ResumableLoader(
        SampleDataset(samples(7), Preprocessor(InputSpec(size=(2, 2), resize_mode="stretch"))),
        sampler=sampler, batch_size=batch_size, collate_fn=collate if batch_size else None, **options,
    )  # fmt: skip


def test_a_loader_goes_on_at_a_batch_and_states_where():
    one, order = loader(), [str(index) for _, index in ordered(4)]
    assert one.state_dict() == {"epoch": 0, "seen": [], "over": False}
    state = {"epoch": 4, "seen": [[1, 3, 2]], "over": False}
    one.load_state_dict(state)
    assert one.state_dict() == state
    assert [batch["id"] for batch in one] == [order[6:]] and len(one) == 3
    assert [batch["id"] for batch in one] == [order[:3], order[3:6], order[6:]]
    single = loader(batch_size=None)
    single.load_state_dict({"epoch": 4, "seen": [[1, 1, 5]]})
    assert [each["id"] for each in single] == order[5:]
    single.load_state_dict({**state, "over": True})
    assert list(single) == [] and len(list(single)) == 7


def test_signals_that_end_a_training_are_held_while_workers_are_born(monkeypatch: pytest.MonkeyPatch):
    held = []

    def born(self: Any) -> Any:
        held.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        return iter(())

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", born)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    list(loader())
    assert held[0] >= STOPPING and signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
