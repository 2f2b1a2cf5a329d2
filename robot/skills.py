"""Motions as generators of `ee_delta` actions: move, track, grasp, release, lift, place, articulate, pour, hold.

Each skill reads the measured pose from the robot before every action, so it closes the loop: pushed aside, it comes
back. `run` executes one on any `Robot`; a policy can also take the actions one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from robot.errors import ContractError
from robot.interface import Observation, Robot, RobotSpec

Action = NDArray[np.float32]
Skill = Iterator[Action]

POSE_STATE = ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32")
"""State names that a robot needs for these skills: position (m) and the first two columns of the rotation matrix."""

DOWN = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""The hand pointing straight down with the fingers closing along y."""


def downward(yaw: float) -> Rotation:
    """The hand pointing straight down, turned by `yaw` rad about the vertical."""
    return Rotation.from_rotvec([0.0, 0.0, yaw]) * DOWN


@dataclass(frozen=True)
class Pose:
    """Where the tool centre point is or should be, in the base frame; position (3,) in m."""

    position: NDArray[np.float64]
    rotation: Rotation

    def moved(self, offset: NDArray[np.float64] | tuple[float, float, float]) -> Pose:
        return replace(self, position=self.position + np.asarray(offset))

    def vector(self) -> NDArray[np.float32]:
        """(7,): position, quaternion w, x, y, z."""
        return np.concatenate([self.position, self.rotation.as_quat(scalar_first=True)]).astype(np.float32)

    @classmethod
    def from_vector(cls, vector: NDArray[np.floating]) -> Pose:
        """From (7,) as `vector` gives it; a quaternion of another length than 1 is scaled.

        Raises ContractError for a quaternion of zeros.
        """
        values = np.asarray(vector, np.float64)
        if np.linalg.norm(values[3:]) < 1e-6:
            raise ContractError(f"a pose needs a quaternion that is not zero, got {values.tolist()}")
        return cls(values[:3], Rotation.from_quat(values[3:], scalar_first=True))


_CORRECTION = 0.3
"""The part of its error that a timed path takes back in a control period."""


@dataclass(frozen=True)
class Manner:
    """How to move: m/s, m/s^2, rad/s, and the tolerances within which a pose counts as reached (m, rad)."""

    speed: float = 0.25
    acceleration: float = 0.9
    turning: float = 1.6
    tolerance: float = 0.004
    turn_tolerance: float = 0.03


def pose_reader(spec: RobotSpec) -> Callable[[Observation], Pose]:
    """A function that reads the tool's pose out of this robot's observations."""
    missing = [name for name in POSE_STATE if name not in spec.state_names]
    if missing:
        raise ContractError(f"skills need the state {', '.join(missing)}, the robot has {', '.join(spec.state_names)}")
    indices = [spec.state_names.index(name) for name in POSE_STATE]

    def read(observation: Observation) -> Pose:
        values = observation.state[indices].astype(np.float64)
        first, second = values[3:6], values[6:9]
        return Pose(values[:3], Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=1)))

    return read


class Skills:
    """The skills of one robot. `observe` gives its newest observation; images are not needed."""

    def __init__(self, spec: RobotSpec, observe: Callable[[], Observation], manner: Manner | None = None) -> None:
        if spec.action_space.kind != "ee_delta":
            raise ContractError(f"skills speak ee_delta, the robot takes {spec.action_space.kind}")
        self._space = spec.action_space
        self._observe = observe
        self._read = pose_reader(spec)
        self._period = 1.0 / spec.action_space.rate
        self.manner = manner or Manner()

    def pose(self) -> Pose:
        """The tool's pose now."""
        return self._read(self._observe())

    def move(self, target: Pose, gripper: float, manner: Manner | None = None, patience: float = 4.0) -> Skill:
        """Straight to the target with a smooth speed; gives up `patience` seconds after it should have arrived."""
        manner = manner or self.manner
        start = self.pose()
        distance = float(np.linalg.norm(target.position - start.position))
        angle = (target.rotation * start.rotation.inv()).magnitude()
        expected = distance / manner.speed + 2 * manner.speed / manner.acceleration + angle / manner.turning
        speed = 0.0
        for _ in range(int((expected + patience) / self._period)):
            offset, turn = self._way(target)
            distance, angle = float(np.linalg.norm(offset)), float(np.linalg.norm(turn))
            if distance < manner.tolerance and angle < manner.turn_tolerance:
                return
            speed = min(
                manner.speed,
                speed + manner.acceleration * self._period,
                float(np.sqrt(2 * manner.acceleration * distance * 0.5)) + 0.005,
            )
            step = min(1.0, speed * self._period / max(distance, 1e-9))
            spin = min(1.0, manner.turning * self._period / max(angle, 1e-9))
            if distance > 0.02 and step < 1.0:  # turn along the way rather than ahead of it
                spin = min(spin, max(step * 1.6, 0.1))
            yield self._action(offset * step, turn * spin, gripper)

    def follow(
        self, waypoints: list[Pose], gripper: float, manner: Manner | None = None, patience: float = 4.0
    ) -> Skill:
        """Through the waypoints in order, without stopping at any but the last."""
        manner = manner or self.manner
        loose = replace(manner, tolerance=0.02, turn_tolerance=0.3)
        for waypoint in waypoints[:-1]:
            yield from self.move(waypoint, gripper, loose, patience)
        yield from self.move(waypoints[-1], gripper, manner, patience)

    def track(self, path: Sequence[Pose], rate: float, gripper: float, patience: float = 4.0) -> Skill:
        """Along closely spaced poses, `rate` of them a second. The tool waits wherever it is further behind than the
        tolerances of `manner`, `patience` seconds at most."""
        stride = max(1, round(rate * self._period))
        last = self.pose()
        for target in [*path[stride - 1 : -1 : stride], *path[-1:]]:
            for _ in range(1 + int(patience / self._period)):
                yield self.step(last, target, gripper)
                last = target
                offset, turn = self._way(target)
                if np.linalg.norm(offset) < self.manner.tolerance and np.linalg.norm(turn) < self.manner.turn_tolerance:
                    break

    def _way(self, target: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From the measured pose to another: offset (3,) in m, rotation vector (3,) in rad."""
        here = self.pose()
        return target.position - here.position, (target.rotation * here.rotation.inv()).as_rotvec()

    def fingers(self, gripper: float, seconds: float = 0.5) -> Skill:
        """Open or close the gripper on the spot and wait."""
        yield from self.hold(seconds, gripper)

    def hold(self, seconds: float, gripper: float, at: Pose | None = None) -> Skill:
        """Stay at a pose (the present one by default)."""
        at = at or self.pose()
        for _ in range(round(seconds / self._period)):
            yield self.step(at, at, gripper)

    def step(self, last: Pose, then: Pose, gripper: float) -> Action:
        """One control period of a path that the caller times: from `last`, where the tool should be by now, to `then`.

        A part of what the tool is off by is corrected with it; all of it at once would ring, because the arm answers
        a period late.
        """
        here = self.pose()
        offset = then.position - last.position + _CORRECTION * (last.position - here.position)
        astray = (last.rotation * here.rotation.inv()).as_rotvec()
        turn = (then.rotation * last.rotation.inv()).as_rotvec() + _CORRECTION * astray
        return self._action(offset, turn, gripper)

    def grasp(self, at: Pose, opening: float = 1.0, clearance: float = 0.08, via: Pose | None = None) -> Skill:
        """Approach along the tool's own axis from `clearance` m away, and close."""
        before = at.moved(-clearance * at.rotation.apply([0.0, 0.0, 1.0]))
        yield from self.follow([via, before] if via else [before], opening)
        yield from self.move(at, opening, replace(self.manner, speed=min(self.manner.speed, 0.18)))
        yield from self.fingers(0.0)

    def release(self, clearance: float = 0.08) -> Skill:
        """Open and back off along the tool's own axis."""
        yield from self.fingers(1.0)
        here = self.pose()
        yield from self.move(here.moved(-clearance * here.rotation.apply([0.0, 0.0, 1.0])), 1.0)

    def lift(self, height: float, gripper: float = 0.0) -> Skill:
        """Straight up (down if negative) by `height` m."""
        yield from self.move(self.pose().moved((0.0, 0.0, height)), gripper)

    def place(self, at: Pose) -> Skill:
        """Carry what is held to a pose from above and let go of it there."""
        yield from self.follow([at.moved((0.0, 0.0, 0.08)), at], 0.0)
        yield from self.release()

    def articulate(self, axis: NDArray[np.float64], distance: float) -> Skill:
        """Pull or push what is held along a straight joint axis (3,) by `distance` m."""
        yield from self.move(self.pose().moved(np.asarray(axis) * distance), 0.0)

    def pour(self, angle: float, seconds: float = 1.0) -> Skill:
        """Tilt what is held by `angle` rad about the axis between the fingers, wait, and tilt back."""
        here = self.pose()
        axis = here.rotation.apply([0.0, 1.0, 0.0])
        tilted = replace(here, rotation=Rotation.from_rotvec(angle * axis) * here.rotation)
        yield from self.move(tilted, 0.0)
        yield from self.hold(seconds, 0.0, tilted)
        yield from self.move(here, 0.0)

    def _action(self, offset: NDArray[np.float64], turn: NDArray[np.float64], gripper: float) -> Action:
        return self._space.clip(np.concatenate([offset, turn, [gripper]]))


def run(robot: Robot, skill: Skill) -> None:
    """Execute a skill on a robot to its end."""
    for action in skill:
        robot.execute(action)
