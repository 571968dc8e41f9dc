"""What the losses of one-stage detection networks are made of, by hand."""

from __future__ import annotations

import torch

from tasks.detection.loss import gather, masked, one_hot


def test_values_of_objects_are_taken_for_each_anchor():
    index = torch.tensor([[1, 0, 1], [0, 0, 1]])
    assert gather(torch.tensor([[5, 6], [7, 8]]), index).tolist() == [[6, 5, 6], [7, 7, 8]]
    boxes = torch.arange(16.0).view(2, 2, 4)
    assert torch.equal(gather(boxes, index), torch.stack([boxes[0, [1, 0, 1]], boxes[1, [0, 0, 1]]]))
    square = torch.arange(8.0).view(2, 2, 2)
    assert torch.equal(gather(square, torch.tensor([[1], [0]])), torch.stack([square[0, [1]], square[1, [0]]]))


def test_positive_anchors_have_a_one_at_their_label():
    labels, positive = torch.tensor([[2, 0, 1]]), torch.tensor([[True, False, True]])
    target = one_hot(labels, positive, torch.rand(1, 3, 3))
    assert target.tolist() == [[[0, 0, 1], [0, 0, 0], [0, 1, 0]]] and target.dtype == torch.float32


def test_the_sum_under_a_mask_is_one_number_per_image_and_takes_no_nan_along():
    values = torch.tensor([[1.0, 2.0, torch.nan], [4.0, 8.0, 16.0]])
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert masked(values, mask).tolist() == [3, 24]
    assert masked(values, torch.zeros_like(mask)).tolist() == [0, 0]
