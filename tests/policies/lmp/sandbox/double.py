"""A robot that only writes down what it is asked to do."""

from typing import Literal

import numpy as np

from policies.lmp.sandbox import Sandbox, SandboxLimits


class RecordingRobot:
    def __init__(self) -> None:
        self.moves: list[np.ndarray] = []
        self.said: list[str] = []
        self.stops = 0

    def move(
        self, target: np.ndarray, speed: float = 0.1, hand: Literal["open", "closed"] = "open", name: str | None = None
    ) -> None:
        self.moves.append(target)

    def visit(self, points: list[tuple[float, float]], times: int = 1, careful: bool = True) -> None:
        self.moves.extend(np.array(point) for point in points)

    def say(self, text: str) -> None:
        self.said.append(text)

    def position(self, name: str) -> np.ndarray:
        return np.array([0.4, 0.1, 0.02])

    def stop(self) -> None:
        self.stops += 1

    def sandbox(self, **limits: float) -> Sandbox:
        api = {"move": self.move, "visit": self.visit, "say": self.say, "position": self.position}
        return Sandbox(api, SandboxLimits(**limits), on_stop=self.stop)  # pyright: ignore[reportArgumentType]
