"""What the safety filter had to do to a command, one entry per limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """A limit that a command ran into.

    Attributes:
        limit: its name, such as "workspace" or "joint_2 speed".
        asked, allowed: the value asked for and the limit, in its unit; 0 and 0 where there are no numbers.
        rejected: the whole command was refused, rather than clamped to the limit.
    """

    limit: str
    asked: float = 0.0
    allowed: float = 0.0
    rejected: bool = False

    @property
    def sentence(self) -> str:
        what = "rejected" if self.rejected else "clamped"
        numbers = f" ({self.asked:.4g} asked, {self.allowed:.4g} allowed)" if self.asked or self.allowed else ""
        return f"{self.limit}: {what}{numbers}"
