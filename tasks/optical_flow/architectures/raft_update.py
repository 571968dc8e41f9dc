"""The recurrent half of RAFT: what is looked up and the flow so far to a change of the flow, and to full resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FACTOR = 8
"""Pixels of the image along each side of one pixel of the flow."""

MASK_SCALE = 0.25
"""Of the weights of convex upsampling, which keeps their gradients small."""


def activated(channels: int, out: int, kernel: int) -> nn.Sequential:
    """A convolution that keeps the size, and a ReLU."""
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2), nn.ReLU())


class MotionEncoder(nn.Module):
    """Features of what is looked up and of the flow itself.

    Args:
        window: Channels of the correlations.
        out: Channels that it gives, the two of the flow included.
    """

    def __init__(self, window: int, out: int) -> None:
        super().__init__()
        self.convcorr1, self.convcorr2 = activated(window, 2 * out, 1), activated(2 * out, 3 * out // 2, 3)
        self.convflow1, self.convflow2 = activated(2, out, 7), activated(out, out // 2, 3)
        self.conv = activated(2 * out, out - 2, 3)

    def forward(self, flow: Tensor, correlations: Tensor) -> Tensor:
        both = [self.convcorr2(self.convcorr1(correlations)), self.convflow2(self.convflow1(flow))]
        return torch.cat([self.conv(torch.cat(both, dim=1)), flow], dim=1)


class ConvGRU(nn.Module):
    """A gated recurrent unit of convolutions.

    Args:
        hidden: Channels of the state.
        given: Channels of what it is given.
        kernel: Height and width of the convolutions, both odd.
    """

    def __init__(self, hidden: int, given: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convz, self.convr, self.convq = (
            nn.Conv2d(hidden + given, hidden, kernel, padding=padding) for _ in range(3)
        )

    def forward(self, state: Tensor, given: Tensor) -> Tensor:
        both = torch.cat([state, given], dim=1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        proposed = torch.tanh(self.convq(torch.cat([reset * state, given], dim=1)))
        return (1 - update) * state + update * proposed


class SeparableGRU(nn.Module):
    """Two units, one along the rows and one along the columns, see further than one of the same cost.

    Args:
        hidden: Channels of the state.
        given: Channels of what it is given.
    """

    def __init__(self, hidden: int, given: int) -> None:
        super().__init__()
        self.convgru1, self.convgru2 = ConvGRU(hidden, given, (1, 5)), ConvGRU(hidden, given, (5, 1))

    def forward(self, state: Tensor, given: Tensor) -> Tensor:
        out: Tensor = self.convgru2(self.convgru1(state, given), given)
        return out


class FlowHead(nn.Module):
    """The change of the flow from the state.

    Args:
        hidden: Channels of the state.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, 2 * hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * hidden, 2, 3, padding=1)

    def forward(self, state: Tensor) -> Tensor:
        out: Tensor = self.conv2(torch.relu(self.conv1(state)))
        return out


class UpdateBlock(nn.Module):
    """One refinement.

    Args:
        window: Channels of the correlations.
        hidden: Channels of the state and of the context.
        motion: Channels of the motion's features.
    """

    def __init__(self, window: int, hidden: int, motion: int) -> None:
        super().__init__()
        self.motion_encoder = MotionEncoder(window, motion)
        self.recurrent_block = SeparableGRU(hidden, hidden + motion)
        self.flow_head = FlowHead(hidden)

    def forward(self, state: Tensor, context: Tensor, correlations: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The next state (B, hidden, h, w) and the change of the flow (B, 2, h, w)."""
        given = torch.cat([context, self.motion_encoder(flow, correlations)], dim=1)
        state = self.recurrent_block(state, given)
        return state, self.flow_head(state)


class ConvexMask(nn.Module):
    """For every pixel of the image the weights of the nine vectors around it.

    Args:
        hidden: Channels of the state.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.convrelu = activated(hidden, 2 * hidden, 3)
        self.conv = nn.Conv2d(2 * hidden, 9 * FACTOR**2, 1)

    def forward(self, state: Tensor) -> Tensor:
        out: Tensor = MASK_SCALE * self.conv(self.convrelu(state))
        return out


def upsample_convex(flow: Tensor, weights: Tensor) -> Tensor:
    """The flow at the resolution of the image, every vector a convex combination of the nine around it.

    Args:
        flow: (B, 2, h, w) in pixels of its own.
        weights: (B, 9 * 64, h, w) before the softmax over the nine.

    Returns:
        (B, 2, 8 h, 8 w) in pixels of the image.
    """
    batch, _, height, width = flow.shape
    parts = weights.view(batch, 1, 9, FACTOR, FACTOR, height, width).softmax(dim=2)
    padded = F.pad(FACTOR * flow, (1, 1, 1, 1))
    around = [padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    vectors = torch.stack(around, dim=2)[:, :, :, None, None]  # (B, 2, 9, 1, 1, h, w)
    fine = (parts * vectors).sum(dim=2)  # (B, 2, 8, 8, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, FACTOR * height, FACTOR * width)
