"""The contract between every policy and every robot, simulated or real.

SI units; frames are right-handed with x forward, y left, z up (REP 103); images are uint8 RGB, upright.
Everything here is NumPy and the standard library, so that it runs beside ROS 2 on a machine without a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robot.errors import ContractError

ActionKind = Literal["ee_delta", "ee_pose", "joint_position"]
GoalKind = Literal["language", "image", "motion"]
Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class ActionSpace:
    """What one action means. Two spaces fit only if every field is equal; nothing is converted silently.

    Attributes:
        kind: `ee_delta` (change of the commanded end-effector pose), `ee_pose`, or `joint_position`.
        names: one name per dimension, in order.
        units: one unit per dimension ("m", "rad", "1").
        low, high: bounds per dimension in those units.
        frame: the frame that positions and rotation vectors are expressed in.
        rate: actions per second in Hz.
        gripper_open: the gripper value that means fully open (1.0 or 0.0); the other end means closed.
    """

    kind: ActionKind
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    frame: str = "base"
    rate: float = 10.0
    gripper_open: float = 1.0

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(lengths) != 1:
            raise ContractError(
                f"action space {self.kind}: names, units, low and high must have one length, "
                f"got {len(self.names)}, {len(self.units)}, {len(self.low)} and {len(self.high)}"
            )
        if self.rate <= 0:
            raise ContractError(f"action space {self.kind}: rate must be positive, got {self.rate} Hz")

    @property
    def dimension(self) -> int:
        return len(self.names)

    def differences(self, other: ActionSpace) -> list[str]:
        """One phrase per field in which the two spaces differ, own value first; empty if they fit."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{key} is {mine[key]} here and {theirs[key]} there" for key in mine if mine[key] != theirs[key]]

    def clip(self, action: NDArray[np.floating]) -> NDArray[np.float32]:
        """The action limited to the bounds, shape (..., A). Raises ContractError on NaN or infinity."""
        if not np.isfinite(action).all():
            raise ContractError(f"action holds NaN or infinity: {np.asarray(action).tolist()}")
        return np.clip(action, self.low, self.high).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> ActionSpace:
        return cls(
            kind=fields["kind"],
            names=tuple(fields["names"]),
            units=tuple(fields["units"]),
            low=tuple(fields["low"]),
            high=tuple(fields["high"]),
            frame=fields["frame"],
            rate=float(fields["rate"]),
            gripper_open=float(fields["gripper_open"]),
        )


EE_DELTA = ActionSpace(
    kind="ee_delta",
    names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    units=("m", "m", "m", "rad", "rad", "rad", "1"),
    low=(-0.05, -0.05, -0.05, -0.3, -0.3, -0.3, 0.0),
    high=(0.05, 0.05, 0.05, 0.3, 0.3, 0.3, 1.0),
)
"""The default: per control step, the change of the commanded end-effector position (m) and orientation (rotation
vector in the base frame, applied on the left), and the absolute gripper opening (1 = open)."""

KEYPOSE = ActionSpace(
    kind="ee_pose",
    names=("x", "y", "z", "qw", "qx", "qy", "qz"),
    units=("m", "m", "m", "1", "1", "1", "1"),
    low=(0.20, -0.50, 0.008, -1.0, -1.0, -1.0, -1.0),
    high=(0.80, 0.50, 0.80, 1.0, 1.0, 1.0, 1.0),
)
"""A pose for a motion planner to bring the end effector to: its position (m) within the workspace and its quaternion
in the base frame. The rate is that of the planner's own steps."""


@dataclass(frozen=True)
class Observation:
    """What a robot sees and is told at one instant.

    Attributes:
        images: {camera name: uint8 (H, W, 3) RGB}.
        state: float32 (D,), named by the robot's spec.
        instruction: what the person wants, now; it may change from one observation to the next.
        time: seconds on the robot's clock.
        goal_image: optional uint8 (H, W, 3) RGB picture of the wanted outcome.
    """

    images: Images
    state: NDArray[np.float32]
    instruction: str
    time: float
    goal_image: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        for camera, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ContractError(
                    f"camera {camera!r}: expected uint8 (H, W, 3), got {image.dtype} {tuple(image.shape)}"
                )
        if self.state.dtype != np.float32 or self.state.ndim != 1:
            raise ContractError(f"state: expected float32 (D,), got {self.state.dtype} {tuple(self.state.shape)}")
        if not np.isfinite(self.state).all():
            raise ContractError(f"state holds NaN or infinity: {self.state.tolist()}")


@dataclass(frozen=True)
class ActionChunk:
    """Actions with the times at which each is to be executed.

    Attributes:
        actions: float32 (H, A) in the physical units of the policy's action space.
        times: float64 (H,) seconds on the robot's clock, strictly increasing.
    """

    actions: NDArray[np.float32]
    times: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) == 0 or self.times.shape != (len(self.actions),):
            raise ContractError(
                f"action chunk: expected actions (H, A) and times (H,) with H >= 1, "
                f"got {self.actions.shape} and {self.times.shape}"
            )
        if not np.isfinite(self.actions).all():
            raise ContractError("action chunk holds NaN or infinity")
        if (np.diff(self.times) <= 0).any():
            raise ContractError("action chunk: times must increase strictly")

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and gives.

    Attributes:
        cameras: {camera name: (H, W) in pixels that the policy works at; larger images are scaled down}.
        state_names: names of the state entries it reads, in order.
        action_space: what its actions mean.
        horizon: actions in one chunk.
        goals: which goals it takes.
    """

    cameras: Mapping[str, tuple[int, int]]
    state_names: tuple[str, ...]
    action_space: ActionSpace
    horizon: int
    goals: tuple[GoalKind, ...] = ("language",)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PolicySpec:
        return cls(
            cameras={name: (int(size[0]), int(size[1])) for name, size in fields["cameras"].items()},
            state_names=tuple(fields["state_names"]),
            action_space=ActionSpace.from_json(fields["action_space"]),
            horizon=int(fields["horizon"]),
            goals=tuple(fields["goals"]),
        )


@dataclass(frozen=True)
class RobotSpec:
    """What a robot offers: its cameras and their size in pixels, the names of its state, its action space."""

    cameras: Mapping[str, tuple[int, int]]
    state_names: tuple[str, ...]
    action_space: ActionSpace


@dataclass(frozen=True)
class Correction:
    """A language correction: an event with a time (s, robot's clock), a source and a text.

    The same event travels from GUI, keyboard, ROS topic or script to the policy and into the dataset.
    """

    time: float
    text: str
    source: Literal["human", "model"] = "human"


@runtime_checkable
class Policy(Protocol):
    """Anything that turns observations into actions."""

    @property
    def spec(self) -> PolicySpec: ...

    def reset(self, seed: int) -> None:
        """Forget the episode; all randomness until the next reset follows from `seed`."""

    def act(self, observation: Observation) -> ActionChunk:
        """The chunk that starts at `observation.time`."""
        ...

    def act_batch(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, of independent episodes."""
        ...


@runtime_checkable
class Robot(Protocol):
    """Anything that observes and executes: what a simulated and a real arm share."""

    @property
    def spec(self) -> RobotSpec: ...

    def observe(self) -> Observation: ...

    def execute(self, action: NDArray[np.float32]) -> None:
        """Carry out one action (A,) and return when its control period is over."""

    def stop(self) -> None:
        """Hold the present pose."""


@dataclass(frozen=True)
class SceneObject:
    """A named thing in the world, in the base frame.

    Attributes:
        name: unique in the scene, such as "red block".
        position: (3,) m, centre.
        quaternion: (4,) w, x, y, z.
        extent: (3,) m, full size along the object's own axes.
        colour: colour word, or "" if it has none that matters.
        joint_fraction: 0 closed to 1 open for things with a joint, otherwise None.
    """

    name: str
    position: NDArray[np.float64]
    quaternion: NDArray[np.float64]
    extent: NDArray[np.float64]
    colour: str = ""
    joint_fraction: float | None = None


@runtime_checkable
class Scene(Protocol):
    """What a program may ask of the world: ground truth in simulation, a detector on a real table."""

    def objects(self) -> Mapping[str, SceneObject]: ...


def require_compatible(policy: PolicySpec, robot: RobotSpec, policy_name: str = "policy") -> None:
    """Raise one ContractError that names both sides unless the policy can run on the robot."""
    problems = policy.action_space.differences(robot.action_space)
    missing = sorted(set(policy.cameras) - set(robot.cameras))
    if missing:
        problems.append(f"it needs camera {', '.join(missing)} and the robot has {', '.join(sorted(robot.cameras))}")
    for camera, (height, width) in policy.cameras.items():
        if camera in robot.cameras and (robot.cameras[camera][0] < height or robot.cameras[camera][1] < width):
            problems.append(
                f"camera {camera} is wanted at {height}x{width} and the robot gives "
                f"{robot.cameras[camera][0]}x{robot.cameras[camera][1]}"
            )
    absent = [name for name in policy.state_names if name not in robot.state_names]
    if absent:
        problems.append(f"it reads state {', '.join(absent)} which the robot does not have")
    if problems:
        raise ContractError(f"{policy_name} does not fit the robot (policy here, robot there): {'; '.join(problems)}")
