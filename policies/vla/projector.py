"""What is not text on its way into the language model's embedding space (OpenVLA, figure 2; OFT, section 4)."""

from __future__ import annotations

from torch import Tensor, nn


class Projector(nn.Module):
    """Patches to embeddings: two layers for one tower, three with a wide first one for two ("fused-gelu-mlp")."""

    def __init__(self, vision_width: int, width: int, fused: bool) -> None:
        super().__init__()
        first = 4 * vision_width if fused else width
        self.fc1 = nn.Linear(vision_width, first)
        self.fc2 = nn.Linear(first, width)
        self.fc3 = nn.Linear(width, width) if fused else None
        self.activation = nn.GELU()

    def forward(self, patches: Tensor) -> Tensor:
        """(B, P, vision_width) to (B, P, width)."""
        projected = self.fc2(self.activation(self.fc1(patches)))
        return projected if self.fc3 is None else self.fc3(self.activation(projected))


class ScalarProjector(nn.Module):
    """Numbers to embeddings: all of the proprioception to one, or each noisy action number to its own."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, width)
        self.fc2 = nn.Linear(width, width)
        self.activation = nn.GELU()

    def forward(self, values: Tensor) -> Tensor:
        """(..., size) to (..., width)."""
        return self.fc2(self.activation(self.fc1(values)))
