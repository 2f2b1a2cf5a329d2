"""What a physics engine has to do for a world with one arm."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.model import WorldModel

OTHER_SCENE = "a snapshot can only be restored in the scene it was taken in; reset loads a new one"


class Engine(Protocol):
    """One arm and some bodies under gravity. Angles in rad, lengths in m, all poses in the base frame."""

    timestep: float

    def load(self, model: WorldModel) -> None:
        """Replace the world; the arm is at its home pose, everything else where the model puts it."""

    def step(self, arm: NDArray[np.float64], velocity: NDArray[np.float64], finger: float) -> None:
        """One physics step with joint position targets (7,), their velocity (7,) and the wanted finger travel (m)."""

    def settle(self, steps: int) -> None:
        """Let things come to rest with the arm held where it is."""

    def arm(self) -> NDArray[np.float64]:
        """Measured joint angles (7,)."""
        ...

    def set_arm(self, q: NDArray[np.float64], finger: float) -> None:
        """Put the arm at joint angles (7,) with the given finger travel, at rest."""

    def finger(self) -> float:
        """Mean measured travel of the two fingers in m."""
        ...

    def tool(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and rotation matrix (3, 3) of the tool centre point."""
        ...

    def joint(self, name: str) -> float: ...

    def joint_velocity(self, name: str) -> float: ...

    def set_joint(self, name: str, value: float) -> None: ...

    def pose(self, body: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Position (3,) and quaternion (4,) w, x, y, z of a body."""
        ...

    def positions(self, bodies: tuple[str, ...]) -> NDArray[np.float64]:
        """Positions (N, 3) of several bodies; cheap enough for every physics step."""
        ...

    def set_pose(self, body: str, position: NDArray[np.float64], quaternion: NDArray[np.float64]) -> None:
        """Put a free body somewhere, at rest; position (3,) and quaternion (4,) w, x, y, z."""

    def height(self, body: str) -> float:
        """z of a body's origin; what is asked at every physics step has to be cheap."""
        ...

    def uprightness(self, body: str) -> float:
        """Cosine between a body's own z axis and the world's."""
        ...

    def vertical_speed(self, body: str) -> float:
        """Speed along z of a free body in m/s."""
        ...

    def state(self) -> NDArray[np.float64]:
        """Everything that is seen of the world and wanted of its servos, as one vector.

        In MuJoCo it also determines the future to the last bit; in PyBullet it does not (see its `set_state`).
        """
        ...

    def set_state(self, state: NDArray[np.float64]) -> None:
        """Go back to a state of the same loaded world."""

    def snapshot(self) -> object:
        """A copy of everything, from which `restore` goes on: in MuJoCo to the last bit as if nothing had happened, in
        PyBullet as after `set_state`."""
        ...

    def restore(self, snapshot: object) -> None:
        """Go back to a snapshot of the same loaded world. Raises TongsError for one of another."""

    def jacobian(self) -> NDArray[np.float64]:
        """(6, 7) translation over rotation, of the tool centre point."""
        ...

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width, 3) RGB."""
        ...

    def close(self) -> None:
        """Give back what the engine holds outside of Python; it is not used afterwards."""
