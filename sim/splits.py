"""The splits: which of the factors objects, surroundings and goals are as in training and which are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robot.errors import TongsError, unknown

Pool = Literal["seen", "novel"]
Goals = Literal["seen", "held_out", "any"]


@dataclass(frozen=True)
class Split:
    """What is drawn for a scene of this split.

    Attributes:
        name: as users type it.
        objects: colours and shapes of the things (for furniture its look) that training has, or others.
        surroundings: rooms as in training, or others.
        goals: values as in training, the one kept from it, or any.
        base: the split whose scenes these are, changed; its own name where it has its own scenes.
        strength: of the perturbation, 0 (none) to 1.
    """

    name: str
    objects: Pool = "seen"
    surroundings: Pool = "seen"
    goals: Goals = "seen"
    base: str = ""
    strength: float = 0.0

    @property
    def seed(self) -> str:
        """What the scenes' numbers are counted in: two splits with the same seed have the same scenes."""
        return self.base or self.name


SPLITS: dict[str, Split] = {
    "train": Split("train"),
    "val": Split("val"),
    "test": Split("test"),
    "novel_object": Split("novel_object", objects="novel"),
    "novel_scene": Split("novel_scene", surroundings="novel"),
    "novel_state": Split("novel_state", goals="held_out"),
    "any_state": Split("any_state", goals="any"),
    "perturbed": Split("perturbed", base="test", strength=0.5),
}
"""Each novel split differs from `test` in exactly one factor. `perturbed` shows the scenes of `test`, shaken;
`perturbed:0.8` says how much."""


def find_split(name: str) -> Split:
    """The split of that name, with the strength after a colon for `perturbed`.

    Raises:
        TongsError: unknown name, or a strength outside 0..1.
    """
    head, colon, strength = name.partition(":")
    if head not in SPLITS or (colon and head != "perturbed"):
        raise unknown("split", name, list(SPLITS))
    if not colon:
        return SPLITS[head]
    try:
        value = float(strength)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise TongsError(f"the strength of split perturbed must be a number from 0 to 1, got {strength!r}")
    return Split(name, base="test", strength=value)
